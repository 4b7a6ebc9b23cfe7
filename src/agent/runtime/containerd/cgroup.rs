//! A container's control groups as files: what was used, and whether memory ran out.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::spec::{CgroupMode, HostFacts};
use crate::model::ContainerId;

/// The group of a container, one directory for each controller, or one for all.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Below the mount of a hierarchy.
    path: PathBuf,
    pub(super) unified: bool,
}

impl Group {
    pub(super) fn of(host: &HostFacts, id: ContainerId) -> Self {
        let parent = host.cgroup_parent.trim_matches('/');
        Self {
            path: Path::new(parent).join(id.to_string()),
            unified: host.cgroup == CgroupMode::V2,
        }
    }

    /// A file of the group: `controller` says which hierarchy where there are many.
    pub(super) fn read(&self, controller: &str, file: &str) -> String {
        let mount = Path::new("/sys/fs/cgroup");
        let directory = if self.unified {
            mount.join(&self.path)
        } else {
            mount.join(controller).join(&self.path)
        };
        fs::read_to_string(directory.join(file)).unwrap_or_default()
    }

    /// The number in a file; zero when there is none, or it says `max`.
    pub(super) fn number(&self, controller: &str, file: &str) -> u64 {
        self.read(controller, file).trim().parse().unwrap_or(0)
    }

    /// Whether the kernel killed one of its processes for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let file = if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        value_of(&self.read("memory", file), "oom_kill") > 0
    }
}

/// The number beside `key` in a file of lines `key number`; zero when it is not there.
pub(super) fn value_of(text: &str, key: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let value = lines.find(|(name, _)| *name == key);
    value
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let text = "oom_kill_disable 1\nunder_oom 0\noom_kill 3\n";
        assert_eq!(value_of(text, "oom_kill"), 3);
        assert_eq!(value_of(text, "oom"), 0);
    }
}
