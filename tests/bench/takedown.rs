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
         has a logger as well, for the daemon and all loggers share the pages of one program"
    ));
    Ok(())
}

/// What was seen of a logger.
#[derive(Default)]
struct Seen {
    memory: f64,
    cpu: Duration,
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
    let memory = Figure::value("private memory of the logger, most", "MB", seen.memory);
    report.add(memory.goal(Goal::Most(MEMORY)));
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
        let memory = logger.iter().map(|pid| private_mb(*pid)).sum::<f64>();
        seen.memory = seen.memory.max(memory);
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

/// Memory of a process that it shares with no other, in MB (10^6 bytes); not a number when it is gone.
fn private_mb(pid: i32) -> f64 {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
        return f64::NAN;
    };
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    let kib = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.sum::<f64>() * 1024.0 / 1e6
}
