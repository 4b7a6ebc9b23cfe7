//! What the logger of one container takes down: lines a second, none lost, and its memory.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use skein::agent::runtime::Runtime;
use skein::agent::runtime::containerd::Containerd;
use skein::model::ContainerId;

use crate::args::Options;
use crate::assign::runtime;
use crate::bed::{Bed, processes, within};
use crate::chart::{Figure, Goal};
use crate::machine;
use crate::report::Report;

/// Lines a second that a container may write.
const RATE: f64 = 100_000.0;

/// The logger's own memory, in MB.
const MEMORY: f64 = 2.0;

/// Between two looks at the logger.
const LOOK: Duration = Duration::from_millis(20);

/// One container that writes as fast as it can.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let runtime = runtime()?;
    let bed = Bed::up().ok_or("no containerd can be had here")?;
    let lines = options.size(500_000, 2_000_000);
    runtime.block_on(async {
        let containerd = bed.runtime().await;
        let words = |error: skein::agent::runtime::RuntimeError| error.to_string();
        let neighbour = bed.script("echo a line; exec sleep 1000000");
        containerd.create(&neighbour).await.map_err(words)?;
        containerd.start(neighbour.id).await.map_err(words)?;
        bed.until_said(neighbour.id, "a line");
        for _ in 0..options.size(1, 3) {
            takes_down(&bed, &containerd, lines, report).await?;
        }
        containerd.remove(neighbour.id).await.map_err(words)?;
        Ok::<_, String>(())
    })?;
    bed.nothing_left();
    report.note(format!(
        "{lines} numbered lines of about 80 characters, written by awk in the container as fast as they are taken; \
         json-file without rotation; lines are counted, and their numbers compared, in the log; a second container \
         has a logger as well, for the daemon and all loggers share the pages of one program; a logger is two processes, \
         which share what the first has written before it split"
    ));
    Ok(())
}

/// The most that was seen of a logger.
#[derive(Default)]
struct Seen {
    guard: Memory,
    writer: Memory,
    both: f64,
    cpu: Duration,
}

/// Of a process, in MB (10^6 bytes).
#[derive(Clone, Copy, Default)]
struct Memory {
    /// Written by it, and its own.
    dirty: f64,
    /// Of the program, and mapped by nobody else now.
    clean: f64,
    /// Written; what both halves share is counted half in each.
    written: f64,
}

async fn takes_down(
    bed: &Bed,
    containerd: &Containerd,
    lines: usize,
    report: &mut Report,
) -> Result<(), String> {
    let writes = format!(
        "awk 'BEGIN {{ for (n = 0; n < {lines}; n++) \
         print n, \"level=info a line of about the length that programs write status=ok\" }}'"
    );
    let config = bed.script(&writes);
    let folder = containerd.folder(config.id);
    let begun = Instant::now();
    let words = |error: skein::agent::runtime::RuntimeError| error.to_string();
    containerd.create(&config).await.map_err(words)?;
    containerd.start(config.id).await.map_err(words)?;
    let ends = async {
        // The logger has drained when the task is settled.
        within(containerd.wait(config.id)).await.map_err(words)
    };
    let mut seen = Seen::default();
    let exit = tokio::select! {
        exit = ends => exit?,
        () = look(&folder, &mut seen) => return Err("the logger cannot be looked at".into()),
    };
    let took = begun.elapsed();
    if exit.code != 0 {
        return Err(format!("the container ended with {}", exit.code));
    }
    let kept = in_order(&folder, config.id)?;
    let rate = lines as f64 / took.as_secs_f64();
    report.add(Figure::value("taken down", "lines/s", rate).goal(Goal::Least(RATE)));
    let lost = lines as f64 - kept as f64;
    report.add(Figure::value("lost or out of order", "lines", lost).goal(Goal::Most(0.0)));
    for (who, memory) in [("guard", seen.guard), ("writer", seen.writer)] {
        for (what, size) in [("dirty", memory.dirty), ("clean", memory.clean)] {
            let named = format!("private memory of the logger's {who}, {what}, most");
            report.add(Figure::value(named, "MB", size));
        }
    }
    let both = Figure::value(
        "memory of both that no other process has, most",
        "MB",
        seen.both,
    );
    report.add(both.goal(Goal::Most(MEMORY)));
    let cpu = seen.cpu.as_secs_f64() * 1e3 / (lines as f64 / RATE);
    report.add(Figure::value(
        "CPU of the logger for 100,000 lines",
        "ms",
        cpu,
    ));
    containerd.remove(config.id).await.map_err(words)?;
    containerd.purge(config.id).map_err(words)
}

/// Looks at the logger for as long as it is polled.
async fn look(folder: &Path, seen: &mut Seen) {
    let arguments = format!("logger {}", folder.display());
    let mut logger = Vec::new();
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        // Two processes, the second a moment after the first.
        if logger.len() < 2 {
            logger = processes(&arguments);
        }
        // The guard is the older.
        if let [guard, writer] = logger[..] {
            let (guard, writer) = (memory(guard), memory(writer));
            seen.guard = seen.guard.most(guard);
            seen.writer = seen.writer.most(writer);
            let both = guard.written + guard.clean + writer.written + writer.clean;
            seen.both = seen.both.max(both);
        }
        seen.cpu = seen
            .cpu
            .max(logger.iter().map(|pid| machine::cpu_of(*pid)).sum());
    }
}

/// How many lines the log has that follow one another.
fn in_order(folder: &Path, id: ContainerId) -> Result<u64, String> {
    let path = folder.join(format!("{id}-json.log"));
    let file = std::fs::File::open(&path).map_err(|error| error.to_string())?;
    let mut kept = 0;
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|error| error.to_string())?;
        let number = line.strip_prefix("{\"log\":\"").unwrap_or_default();
        let number = number.split(' ').next().unwrap_or_default();
        kept += u64::from(number.parse() == Ok(kept));
    }
    Ok(kept)
}

impl Memory {
    fn most(self, other: Self) -> Self {
        Self {
            dirty: self.dirty.max(other.dirty),
            clean: self.clean.max(other.clean),
            written: self.written.max(other.written),
        }
    }
}

/// Nothing of a process that is gone.
fn memory(pid: i32) -> Memory {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(0.0) * 1024.0 / 1e6
    };
    Memory {
        dirty: of("Private_Dirty:"),
        clean: of("Private_Clean:"),
        written: of("Pss_Anon:"),
    }
}
