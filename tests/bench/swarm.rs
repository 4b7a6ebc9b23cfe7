//! Docker Swarm beside us, by a harness of its own that lies elsewhere.
//!
//! `SKEIN_SWARM_PEER` names a directory with `swarmpeer.py` and `rootfs.sh`; without it, and where Docker's programs
//! are missing, there is a reason instead of figures. Nothing is installed from here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::chart::Figure;
use crate::machine;
use crate::report::Report;
use crate::run::bounded;
use crate::wait::secs;

/// What the harness needs of the machine, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 7] = [
    ("python3", "python3"),
    ("dockerd", "docker.io"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("docker-init", "docker.io"),
    ("docker", "docker.io"),
    ("busybox", "busybox-static"),
];

/// The harness, and what it needs.
pub(crate) struct Peer {
    folder: PathBuf,
    /// Which Swarm it is.
    pub(crate) version: String,
}

impl Peer {
    /// The harness that the environment names. The error says why there is none.
    pub(crate) fn find() -> Result<Self, String> {
        let folder = std::env::var_os("SKEIN_SWARM_PEER").map(PathBuf::from);
        let folder = folder.ok_or("SKEIN_SWARM_PEER names no directory with swarmpeer.py")?;
        let harness = folder.join("swarmpeer.py");
        if !harness.exists() {
            return Err(format!("{} is missing", harness.display()));
        }
        for (program, package) in PROGRAMS {
            if !is_there(program) {
                return Err(format!(
                    "the program {program} is missing: it is in Debian's package {package}"
                ));
            }
        }
        let version = machine::said(Command::new("dockerd").arg("--version"));
        Ok(Self { folder, version })
    }

    /// Runs a part of the harness, and gives what it says: an object a line.
    pub(crate) fn run(&self, arguments: &[&str], deadline: Duration) -> Result<Vec<Value>, String> {
        let work = Path::new("/var/tmp").join(format!("sw{}", std::process::id()));
        let outcome = self.run_in(&work, arguments, deadline);
        let _ = std::fs::remove_dir_all(&work);
        outcome
    }

    fn run_in(
        &self,
        work: &Path,
        arguments: &[&str],
        deadline: Duration,
    ) -> Result<Vec<Value>, String> {
        std::fs::create_dir_all(work).map_err(|error| format!("{}: {error}", work.display()))?;
        let image = work.join("rootfs.tar");
        let made = bounded(secs(60), "sh")
            .arg(self.folder.join("rootfs.sh"))
            .arg(&image)
            .output();
        let made = made.map_err(|error| error.to_string())?;
        if !made.status.success() {
            let words = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            return Err(format!("its image is not made: {words}"));
        }
        let said = bounded(deadline, self.folder.join("swarmpeer.py"))
            .args(arguments)
            .arg("--image")
            .arg(&image)
            .arg("--work")
            .arg(work)
            .output()
            .map_err(|error| error.to_string())?;
        let lines = String::from_utf8_lossy(&said.stdout);
        let lines: Vec<Value> = lines
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if lines.is_empty() || !said.status.success() {
            let words = String::from_utf8_lossy(&said.stderr);
            let last = words.lines().last().unwrap_or("it said nothing").to_owned();
            return Err(format!("its harness failed: {last}"));
        }
        Ok(lines)
    }
}

/// What Swarm's joins took, in milliseconds.
pub(crate) struct Swarm {
    version: String,
    joins: Vec<Join>,
}

struct Join {
    role: String,
    ready_ms: f64,
    back_ms: f64,
}

impl Swarm {
    /// Runs the harness, `repeats` times six joins. The error says why that cannot be.
    pub(crate) fn measure(repeats: usize) -> Result<Self, String> {
        let peer = Peer::find()?;
        let lines = peer.run(&["join", "--reps", &repeats.to_string()], secs(180))?;
        let joins: Vec<Join> = lines.iter().filter_map(join_of).collect();
        if joins.is_empty() {
            return Err("its harness measured no joins".into());
        }
        Ok(Self {
            version: peer.version,
            joins,
        })
    }

    /// The joins of workers: the quicker kind.
    pub(crate) fn workers(&self) -> Figure {
        self.figure("worker", "Ready", |join| join.ready_ms)
    }

    fn figure(&self, role: &str, what: &str, part: impl Fn(&Join) -> f64) -> Figure {
        let joins = self.joins.iter().filter(|join| join.role == role);
        let what = format!("Swarm, {role}: {what}");
        Figure::samples(what, "ms", joins.map(part).collect())
    }

    /// Adds Swarm's figures.
    pub(crate) fn add_to(&self, report: &mut Report) {
        for role in ["worker", "manager"] {
            report.add(self.figure(role, "Ready", |join| join.ready_ms));
            report.add(self.figure(role, "command back", |join| join.back_ms));
        }
        report.note(format!(
            "Swarm is {}; its list of nodes is looked at every 20 ms, ours every 3 ms; a manager of its is Ready when \
             it is reachable as well",
            self.version
        ));
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn join_of(line: &Value) -> Option<Join> {
    let milliseconds = |field: &str| line[field].as_f64().map(|seconds| seconds * 1e3);
    (line["m"] == "join").then_some(())?;
    Some(Join {
        role: line["role"].as_str()?.to_owned(),
        ready_ms: milliseconds("ready_s")?,
        back_ms: milliseconds("cli_s")?,
    })
}
