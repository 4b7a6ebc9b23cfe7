//! A container that a user asks for by itself, with `docker run` or `docker create`.
//!
//! What was asked for is kept whole, so that an inspect shows it as it was given. The agent makes a
//! [`ContainerConfig`](super::ContainerConfig) of it on the node that was asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::container::{DnsConfig, LogConfig, Security};
use super::image::Healthcheck;
use super::limits::{ResourceLimits, Ulimit};
use super::task_spec::MountSpec;

/// A container as its user wants it: checked as far as can be without the machine that is to have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// What it is to be called; empty for a name that is made up.
    pub name: String,
    /// The image, as the user wrote it.
    pub image: String,
    /// The arguments; the image's where none are given.
    pub command: Vec<String>,
    /// What stands before the arguments; the image's where `None`. One that is given takes away the image's arguments.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value`, or a name alone, which takes away what the image says of it.
    pub env: Vec<String>,
    /// Where the program starts; as the image says when empty.
    pub cwd: String,
    /// `user[:group]`; as the image says when empty.
    pub user: String,
    /// Groups beside the user's own.
    pub groups: Vec<String>,
    /// It has a terminal.
    pub tty: bool,
    /// Its standard input is kept open.
    pub stdin: bool,
    /// Its standard input ends with the first who gives it any.
    pub stdin_once: bool,
    /// Its labels, beside the image's.
    pub labels: BTreeMap<String, String>,
    /// What `hostname` says inside.
    pub hostname: String,
    /// What `domainname` says inside.
    pub domainname: String,
    /// Lines for `/etc/hosts`, `address name`.
    pub hosts: Vec<String>,
    /// For `/etc/resolv.conf`.
    pub dns: DnsConfig,
    /// What is mounted into it.
    pub mounts: Vec<MountSpec>,
    /// Containers whose mounts it has as well, by name or ID, perhaps with `:ro`.
    pub volumes_from: Vec<String>,
    /// Memory that is mounted into it: where, and with which options.
    pub tmpfs: BTreeMap<String, String>,
    /// The root file system cannot be written.
    pub read_only: bool,
    /// Size of `/dev/shm`, bytes; Docker's own when zero.
    pub shm_size: u64,
    /// What it may do.
    pub security: Security,
    /// How much of the machine it may use.
    pub limits: ResourceLimits,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Whose processes it sees.
    pub pid: Joined,
    /// Whose shared memory it has.
    pub ipc: Joined,
    /// How it reaches others.
    pub network: Joined,
    /// It has a tiny init; the node's own choice when `None`.
    pub init: Option<bool>,
    /// What asks it to end; as the image says when empty.
    pub stop_signal: String,
    /// Seconds that it has from then on; negative for ever.
    pub stop_timeout: Option<i64>,
    /// Where its output goes.
    pub log: LogConfig,
    /// How its health is asked, before what the image says.
    pub health: Option<Healthcheck>,
    /// Whether it begins again when it has ended.
    pub restart: RestartPolicy,
    /// It is removed when it has ended.
    pub auto_remove: bool,
    /// Docker's `Config` as it was given.
    pub config: Map<String, Value>,
    /// Docker's `HostConfig` as it was given.
    pub host_config: Map<String, Value>,
}

/// With whom a container has something in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Joined {
    /// With nobody.
    #[default]
    Own,
    /// With the machine.
    Host,
    /// With a container, by name or ID.
    Container(String),
}

/// Whether a container begins again when it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When.
    pub kind: RestartKind,
    /// How often at most, after failures; zero for as often as it takes.
    pub most: u32,
}

/// When a container begins again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartKind {
    /// Never.
    #[default]
    No,
    /// When it failed.
    OnFailure,
    /// Whenever it was not ended by its user; then with the next daemon.
    Always,
    /// Whenever it was not ended by its user.
    UnlessStopped,
}

impl RestartKind {
    /// As Docker writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }
}

/// What somebody waits for who waits for a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitFor {
    /// That it does not run.
    #[default]
    NotRunning,
    /// That it ends the next time.
    NextExit,
    /// That it is removed.
    Removed,
}
