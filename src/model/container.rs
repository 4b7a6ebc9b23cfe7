//! A container, as the runtime is asked for it: complete, so that nothing is looked up later.
//!
//! A task's spec and `docker run` both end here: defaults are filled in, the image is a digest, volumes are paths on
//! this machine. What the kernel is told is made of it by the agent (`agent::runtime::spec`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::image::Digest;
use super::limits::{ResourceLimits, Ulimit};

/// A container: 256 random bits, written as Docker writes them, 64 hexadecimal digits. Never used twice: containerd
/// may still hold something of the last one of that name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId([u8; 32]);

/// Why a text is no container ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a container ID is 64 hexadecimal digits in lower case")]
pub struct ParseContainerIdError;

impl ContainerId {
    /// The ID with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// The first 12 digits, which people are shown.
    pub fn short(self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for ContainerId {
    type Err = ParseContainerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(ParseContainerIdError),
        };
        let pairs: &[[u8; 2]; 32] = text
            .as_bytes()
            .as_chunks()
            .0
            .try_into()
            .ok()
            .filter(|_| text.len() == 64)
            .ok_or(ParseContainerIdError)?;
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = hex(*high)? << 4 | hex(*low)?;
        }
        Ok(Self(bytes))
    }
}

super::as_text!(ContainerId);

/// A container to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Its own.
    pub id: ContainerId,
    /// What people call it, without a slash.
    pub name: String,
    /// What it is made of.
    pub image: ImageRef,
    /// Shown and searched for; the image's and those of the spec.
    pub labels: BTreeMap<String, String>,
    /// The program.
    pub process: ProcessConfig,
    /// What `hostname` says inside; the short ID when empty.
    pub hostname: String,
    /// What `domainname` says inside.
    pub domainname: String,
    /// Lines for `/etc/hosts` beside its own: address and names.
    pub hosts: Vec<(IpAddr, Vec<String>)>,
    /// For `/etc/resolv.conf`.
    pub dns: DnsConfig,
    /// What is mounted into it, in order.
    pub mounts: Vec<Mount>,
    /// The root file system cannot be written.
    pub read_only: bool,
    /// Size of `/dev/shm`, bytes.
    pub shm_size: u64,
    /// What it may do.
    pub security: Security,
    /// How much of the machine it may use.
    pub limits: ResourceLimits,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Whether its process sees only itself, or the machine's processes.
    pub pid: Sharing,
    /// Whether shared memory is its own.
    pub ipc: Sharing,
    /// How it reaches others.
    pub network: NetworkMode,
    /// Its first process is our tiny init, which reaps orphans and passes signals on.
    pub init: bool,
    /// What asks it to end.
    pub stop_signal: String,
    /// How long it has from then on until it is killed.
    pub stop_grace: Duration,
    /// Where its output goes.
    pub log: LogConfig,
}

impl ContainerConfig {
    /// The paths of the machine that are mounted in it.
    pub fn binds(&self) -> impl Iterator<Item = PathBuf> {
        self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Bind { path, .. } => Some(path.clone()),
            MountSource::Volume { .. }
            | MountSource::Tmpfs { .. }
            | MountSource::Dependency { .. } => None,
        })
    }
}

/// An image by name and by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// As the user wrote it.
    pub name: String,
    /// The manifest of this machine's platform.
    pub manifest: Digest,
}

/// The program of a container, or of an exec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessConfig {
    /// The program and its arguments; never empty.
    pub args: Vec<String>,
    /// `NAME=value`, complete.
    pub env: Vec<String>,
    /// Where it starts; `/` when empty. Made when it is missing.
    pub cwd: String,
    /// `user[:group]`, each a name of the container's own `/etc/passwd` and `/etc/group` or a number; root when empty.
    pub user: String,
    /// Groups beside the user's own.
    pub groups: Vec<String>,
    /// It has a terminal.
    pub tty: bool,
    /// Its standard input is kept open.
    pub stdin: bool,
}

/// What `/etc/resolv.conf` is to say; the machine's own where empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Servers.
    pub servers: Vec<IpAddr>,
    /// Domains to search.
    pub search: Vec<String>,
    /// Options as they stand in the file.
    pub options: Vec<String>,
}

/// Something mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, absolute.
    pub target: PathBuf,
    /// It cannot be written there.
    pub read_only: bool,
    /// What.
    pub source: MountSource,
}

/// How deep a bind is read-only that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadOnlyDepth {
    /// With what is mounted below it, where this machine can do that.
    #[default]
    Possible,
    /// The mount alone.
    Mount,
    /// With what is mounted below it, or not at all.
    Whole,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the machine, which must exist.
    Bind {
        /// Absolute.
        path: PathBuf,
        /// `rprivate`, `private`, `rshared`, `shared`, `rslave` or `slave`; `rprivate` when empty.
        propagation: String,
        /// What is mounted below it does not come along.
        non_recursive: bool,
        /// When it is read-only.
        #[serde(default)]
        depth: ReadOnlyDepth,
    },
    /// A named volume of this node, made on first use.
    Volume {
        /// Its name.
        name: String,
        /// A directory below its root.
        subpath: PathBuf,
        /// What the image has at the target is not copied into it while it is empty.
        no_copy: bool,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; half of the machine's memory when zero.
        size: u64,
        /// Permissions of its root.
        mode: u32,
        /// Mount options as the user wrote them.
        options: Vec<String>,
    },
    /// A secret or a config: a file in memory, made for this container, never written by it and never shown.
    Dependency {
        /// Absolute.
        path: PathBuf,
    },
}

/// What a container may do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Security {
    /// Everything: all capabilities, all devices, no profile.
    pub privileged: bool,
    /// Capabilities beside Docker's default ones, `CAP_…` or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities that are taken away, `CAP_…` or `ALL`.
    pub cap_drop: Vec<String>,
    /// No program gains more than its parent had.
    pub no_new_privileges: bool,
    /// Which system calls are refused.
    pub seccomp: Seccomp,
    /// An AppArmor profile that is loaded on the machine; the runtime's default when empty.
    pub apparmor: String,
}

/// A filter of system calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// One in Docker's JSON form.
    Profile(String),
}

/// A namespace of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// Its own.
    #[default]
    Own,
    /// The machine's.
    Host,
    /// Another container's.
    Container(ContainerId),
}

/// How a container reaches others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// Only itself.
    #[default]
    None,
    /// The machine's own network.
    Host,
    /// A namespace that was made and wired for it.
    Namespace(PathBuf),
    /// Another container's.
    Container(ContainerId),
}

/// Where a container's output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// `json-file`, `local`, `none` or `journald`; the node's own default when empty.
    pub driver: String,
    /// The driver's options, checked when the container is accepted.
    pub options: BTreeMap<String, String>,
}

/// How far a container is, as the runtime sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made; its process has not begun.
    Created,
    /// Its process runs.
    Running {
        /// The first process.
        pid: u32,
        /// Held by the freezer.
        paused: bool,
    },
    /// Its process has ended.
    Exited(Exit),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0 to 255; 128 and the signal's number after a signal.
    pub code: i32,
    /// When.
    pub at: super::Timestamp,
    /// The kernel killed one of the container's processes for want of memory.
    pub oom: bool,
}

/// What a path in a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// Its last part.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Kind and permissions, as the kernel has them.
    pub mode: u32,
    /// When it was changed.
    pub modified: super::Timestamp,
    /// Where it leads, when it is a symbolic link.
    pub link_target: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_others_are_refused() {
        let id = ContainerId::from_bytes(std::array::from_fn(|n| n as u8 * 7));
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(id.short(), text[..12]);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
        for bad in ["", &text[1..], &format!("{text}0"), &text.replace('7', "G")] {
            assert_eq!(
                bad.parse::<ContainerId>(),
                Err(ParseContainerIdError),
                "{bad}"
            );
        }
    }
}
