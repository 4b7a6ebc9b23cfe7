//! What the kernel says of this machine, read once: for `docker info` and `docker version`.
//!
//! A file that is not there leaves its field empty. Nothing here fails.

use std::fs;
use std::path::Path;

/// Facts that do not change while the daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) kernel: String,
    pub(super) operating_system: String,
    pub(super) os_version: String,
    /// As the kernel names it, `x86_64`.
    pub(super) architecture: String,
    pub(super) cgroup_version: &'static str,
    /// The cgroup controllers that tasks can be limited by.
    pub(super) controllers: Vec<String>,
    pub(super) ipv4_forwarding: bool,
}

impl Machine {
    /// Asks this machine.
    pub(super) fn read() -> Self {
        Self::read_below(Path::new("/"))
    }

    fn read_below(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let release = match text("etc/os-release") {
            empty if empty.is_empty() => text("usr/lib/os-release"),
            release => release,
        };
        let unified = text("sys/fs/cgroup/cgroup.controllers");
        let (cgroup_version, controllers) = if unified.is_empty() {
            ("1", legacy_controllers(&text("proc/cgroups")))
        } else {
            ("2", words(&unified))
        };
        let name = nix::sys::utsname::uname().ok();
        Self {
            kernel: text("proc/sys/kernel/osrelease").trim().into(),
            operating_system: release_field(&release, "PRETTY_NAME"),
            os_version: release_field(&release, "VERSION_ID"),
            architecture: name
                .map(|name| name.machine().to_string_lossy().into_owned())
                .unwrap_or_default(),
            cgroup_version,
            controllers,
            ipv4_forwarding: text("proc/sys/net/ipv4/ip_forward").trim() == "1",
        }
    }

    /// Whether tasks can be limited by this controller.
    pub(super) fn controls(&self, controller: &str) -> bool {
        self.controllers.iter().any(|one| one == controller)
    }

    /// The architecture as Go names it, `amd64`.
    pub(super) fn go_arch(&self) -> &str {
        match self.architecture.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(Into::into).collect()
}

/// The enabled ones of `/proc/cgroups`: name, hierarchy, count, enabled.
fn legacy_controllers(table: &str) -> Vec<String> {
    table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let columns = words(line);
            (columns.get(3)? == "1").then(|| columns[0].clone())
        })
        .collect()
}

fn release_field(release: &str, field: &str) -> String {
    release
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == field)
        .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_unified_machine_is_read() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            "etc/os-release",
            "NAME=x\nPRETTY_NAME=\"Debian 12\"\nVERSION_ID='12'\n",
        );
        write(
            root.path(),
            "sys/fs/cgroup/cgroup.controllers",
            "cpu memory pids\n",
        );
        write(root.path(), "proc/sys/kernel/osrelease", "6.8.0\n");
        write(root.path(), "proc/sys/net/ipv4/ip_forward", "1\n");
        let machine = Machine::read_below(root.path());
        assert_eq!(machine.operating_system, "Debian 12");
        assert_eq!(machine.os_version, "12");
        assert_eq!(
            (machine.kernel.as_str(), machine.cgroup_version),
            ("6.8.0", "2")
        );
        assert!(machine.controls("memory") && !machine.controls("io"));
        assert!(machine.ipv4_forwarding);
    }

    #[test]
    fn a_legacy_machine_is_read_and_an_empty_one_does_no_harm() {
        let root = tempfile::tempdir().unwrap();
        let empty = Machine::read_below(root.path());
        assert_eq!((empty.cgroup_version, empty.kernel.as_str()), ("1", ""));
        write(
            root.path(),
            "proc/cgroups",
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t9\t1\nrdma\t2\t1\t0\n",
        );
        assert_eq!(Machine::read_below(root.path()).controllers, ["cpu"]);
    }
}
