//! What a machine must not have left of containers that were removed.

use std::fs;
use std::path::Path;

use crate::bed::{Bed, eventually, processes};

impl Bed {
    /// Fails unless nothing is left of any container but logs.
    #[track_caller]
    pub(crate) fn nothing_left(&self) {
        // Processes and groups go a moment after the call that ended them.
        eventually("nothing is left", || {
            let left = self.leftovers();
            if left.is_empty() {
                Ok(())
            } else {
                Err(left.join("\n"))
            }
        });
    }

    fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mut note = |what: &str, lines: Vec<String>| {
            left.extend(lines.into_iter().map(|line| format!("{what}: {line}")));
        };
        for kind in ["containers", "tasks", "leases"] {
            let text = self.ctr(&[kind, "ls", "-q"]);
            note(kind, text.lines().map(str::to_owned).collect());
        }
        let snapshots = self.ctr(&["snapshots", "ls"]);
        let live = snapshots
            .lines()
            .skip(1)
            .filter(|line| !line.trim_end().ends_with("Committed"));
        note(
            "snapshot",
            live.map(|line| line.trim().to_owned())
                .filter(|l| !l.is_empty())
                .collect(),
        );
        let directory = self.directory.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mounts = mounts.lines().filter(|line| line.contains(&directory));
        note("mount", mounts.map(str::to_owned).collect());
        let pids = |words: &str| processes(words).iter().map(ToString::to_string).collect();
        note("shim", pids(&format!("-namespace {}", self.name)));
        note("logger", pids(&self.state().display().to_string()));
        let bundles = self.directory.join("state/io.containerd.runtime.v2.task");
        note("bundle", names(&bundles.join(&self.name)));
        note(
            "runc",
            names(&Path::new("/run/containerd/runc").join(&self.name)),
        );
        for hierarchy in names(Path::new("/sys/fs/cgroup")) {
            let parent = Path::new("/sys/fs/cgroup")
                .join(&hierarchy)
                .join(&self.name);
            let groups = fs::read_dir(parent).into_iter().flatten().flatten();
            let groups = groups.filter(|entry| entry.path().is_dir());
            note(
                &hierarchy,
                groups
                    .map(|entry| entry.path().display().to_string())
                    .collect(),
            );
        }
        for folder in names(&self.state()) {
            let files = names(&self.state().join(&folder));
            let log = format!("{folder}-json.log");
            let kept = ["config.json", &*log];
            note(
                "file",
                files
                    .into_iter()
                    .filter(|name| !kept.contains(&&**name))
                    .collect(),
            );
        }
        left
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
