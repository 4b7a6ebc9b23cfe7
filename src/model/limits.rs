//! How much of a machine a container may use. Zero, or an empty text, is "no limit" throughout, as in Docker's API.

use serde::{Deserialize, Serialize};

/// Limits of a container's cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Memory, bytes. Docker takes 6 MiB at least.
    pub memory: u64,
    /// Memory that it keeps under pressure, bytes.
    pub memory_reservation: u64,
    /// Memory and swap together, bytes; -1 for all the swap there is, 0 for twice the memory.
    pub memory_swap: i64,
    /// How readily it is swapped, 0 to 100.
    pub swappiness: Option<u64>,
    /// CPU time a second, in billionths of a core.
    pub nano_cpus: u64,
    /// Weight among others, 2 to 262144; 1024 is usual.
    pub cpu_shares: u64,
    /// Length of the period of `cpu_quota`, microseconds.
    pub cpu_period: u64,
    /// CPU time in each period, microseconds; an alternative to `nano_cpus`.
    pub cpu_quota: i64,
    /// Cores that it may run on, as in `0-2,7`.
    pub cpuset_cpus: String,
    /// Memory nodes that it may use.
    pub cpuset_mems: String,
    /// Processes and threads.
    pub pids: i64,
    /// Weight of its disk work, 10 to 1000.
    pub blkio_weight: u16,
    /// Added to the chance that the kernel kills it for want of memory, -1000 to 1000.
    pub oom_score_adj: i32,
    /// The kernel makes it wait instead of killing it (cgroup v1).
    pub oom_kill_disable: bool,
    /// Devices of the machine that it may use.
    pub devices: Vec<Device>,
}

/// A device of the machine inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// On the machine.
    pub host: String,
    /// In the container.
    pub container: String,
    /// Some of `r`, `w` and `m`.
    pub permissions: String,
}

/// A limit of a process (`setrlimit`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As in `nofile`, without `RLIMIT_`.
    pub name: String,
    /// What holds.
    pub soft: i64,
    /// Up to where the process may raise it.
    pub hard: i64,
}
