//! The machine: what it is, how busy it is, and what processes on it cost.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};

use crate::bed;

/// Where beds and stores are: a disk, so that a sync means something.
const DISK: &str = "/var/tmp";

/// Syncs by which the disk is judged.
const SYNCS: usize = 50;

/// What figures depend on, as name and value.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = field("/proc/meminfo", "MemTotal:").unwrap_or_default();
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    vec![
        ("date", date()),
        (
            "processor",
            format!(
                "{cores} cores, {}",
                processor.trim_start_matches([':', ' ', '\t'])
            ),
        ),
        ("memory", memory),
        ("kernel", kernel.trim().to_owned()),
        ("disk", disk()),
        ("load before", load.trim().to_owned()),
        ("skein", said(Command::new(bed::program()).arg("--version"))),
        ("compiler", said(Command::new("rustc").arg("--version"))),
    ]
}

/// Now, to the second, in UTC.
pub(crate) fn date() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// The first line of what a program says, or that it is missing.
pub(crate) fn said(command: &mut Command) -> String {
    let output = command.output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text
        .ok()
        .and_then(|text| text.lines().next().map(str::to_owned));
    line.unwrap_or_else(|| "missing".into())
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.trim().to_owned())
}

/// How long the disk takes to keep 4 KiB.
fn disk() -> String {
    let measure = || {
        let path = Path::new(DISK).join(format!("skein-sync-{}", std::process::id()));
        let mut file = fs::File::create(&path)?;
        let mut spans = Vec::new();
        for _ in 0..SYNCS {
            file.rewind()?;
            let begin = Instant::now();
            file.write_all(&[7; 4096])?;
            file.sync_data()?;
            spans.push(begin.elapsed());
        }
        fs::remove_file(path)?;
        spans.sort();
        std::io::Result::Ok(format!(
            "fdatasync of 4 KiB in {DISK}: median {:?}, worst {:?} of {SYNCS}",
            spans[SYNCS / 2],
            spans[SYNCS - 1]
        ))
    };
    measure().unwrap_or_else(|error| format!("{DISK} cannot be judged: {error}"))
}

/// Processor time that this process has used, all threads.
pub(crate) fn own_cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

/// Processor time that another process has used so far, to a hundredth of a second; nothing when it is gone.
pub(crate) fn cpu_of(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse().ok())
            .unwrap_or(0)
    };
    in_seconds(ticks(11) + ticks(12))
}

/// Processor time of these processes and of all that came from them so far, ended ones included.
pub(crate) fn cpu_of_trees(roots: &BTreeSet<i32>) -> Duration {
    let mut parents = BTreeMap::new();
    let mut used = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<i64> = after_name
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        if fields.len() > 13 {
            parents.insert(pid, fields[0] as i32);
            // Its own time, and that of children that it has waited for.
            let ticks: i64 = fields[10..14].iter().sum();
            used.insert(pid, ticks.unsigned_abs());
        }
    }
    let is_below = |pid: i32| {
        let up = std::iter::successors(Some(pid), |pid| parents.get(pid).copied());
        up.take(64).any(|pid| roots.contains(&pid))
    };
    let own = used.iter().filter(|(pid, _)| is_below(**pid));
    in_seconds(own.map(|(_, ticks)| ticks).sum())
}

/// Resident memory of a process, in MB (10^6 bytes).
pub(crate) fn resident_mb(pid: i32) -> f64 {
    status_mb(pid, "VmRSS:")
}

/// The most memory that a process ever had resident, in MB (10^6 bytes).
pub(crate) fn highest_mb(pid: i32) -> f64 {
    status_mb(pid, "VmHWM:")
}

fn status_mb(pid: i32, name: &str) -> f64 {
    let kib = field(&format!("/proc/{pid}/status"), name).unwrap_or_default();
    let kib: f64 = kib
        .trim_end_matches("kB")
        .trim()
        .parse()
        .unwrap_or(f64::NAN);
    kib * 1024.0 / 1e6
}

fn in_seconds(ticks: u64) -> Duration {
    let rate = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Duration::from_secs_f64(ticks as f64 / rate as f64)
}

/// What the whole machine did, and this process.
#[derive(Debug)]
pub(crate) struct Meter {
    begin: Instant,
    own: Duration,
    machine: (u64, u64),
}

/// What a stretch of time cost.
#[derive(Debug)]
pub(crate) struct Cost {
    wall: Duration,
    own: Duration,
    busy: Duration,
    all: Duration,
}

impl Meter {
    /// Counts from here on.
    pub(crate) fn start() -> Self {
        Self {
            begin: Instant::now(),
            own: own_cpu(),
            machine: machine_ticks(),
        }
    }

    /// What it cost so far.
    pub(crate) fn stop(&self) -> Cost {
        let (busy, all) = machine_ticks();
        Cost {
            wall: self.begin.elapsed(),
            own: own_cpu() - self.own,
            busy: in_seconds(busy - self.machine.0),
            all: in_seconds(all - self.machine.1),
        }
    }
}

/// Ticks of all cores that were not idle, and all ticks.
fn machine_ticks() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; the guests' time is in the first two already.
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|tick| tick.parse().ok())
        .collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}

impl Cost {
    fn share(&self) -> f64 {
        self.busy.as_secs_f64() / self.all.as_secs_f64().max(1e-9) * 100.0
    }

    /// For machines.
    pub(crate) fn json(&self) -> Value {
        json!({
            "wall_s": self.wall.as_secs_f64(),
            "own_cpu_s": self.own.as_secs_f64(),
            "machine_cpu_s": self.busy.as_secs_f64(),
            "machine_busy_percent": self.share(),
        })
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "took {:.1} s; CPU: {:.1} s of this process, {:.1} s of the whole machine, {:.0} % of what it has, others' \
             work included",
            self.wall.as_secs_f64(),
            self.own.as_secs_f64(),
            self.busy.as_secs_f64(),
            self.share()
        )
    }
}
