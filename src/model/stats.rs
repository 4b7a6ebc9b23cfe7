//! What a container uses of its machine.

use super::Timestamp;

/// What a container has used so far, and uses now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// When it was read.
    pub at: Timestamp,
    /// Time on processors.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: u64,
    /// Most that there may be; zero for no limit.
    pub pids_limit: u64,
    /// Disks.
    pub blkio: BlkioStats,
    /// Network interfaces but the loopback, by name.
    pub networks: Vec<NetworkStats>,
}

/// Time on processors, nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All.
    pub total: u64,
    /// Of which in programs.
    pub user: u64,
    /// Of which in the kernel.
    pub system: u64,
    /// Periods of a quota that have passed.
    pub periods: u64,
    /// Of which it was held back in.
    pub throttled_periods: u64,
    /// For how long in all.
    pub throttled: u64,
}

/// Memory, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Used, with files that the kernel keeps for it.
    pub usage: u64,
    /// Of which files that could be dropped: what `docker stats` subtracts.
    pub inactive_file: u64,
    /// Most; the machine's memory when there is no limit.
    pub limit: u64,
    /// Times that the kernel killed for want of memory.
    pub oom_kills: u64,
}

/// Disks, bytes and operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioStats {
    /// Read.
    pub read_bytes: u64,
    /// Written.
    pub write_bytes: u64,
    /// Times that was read.
    pub reads: u64,
    /// Times that was written.
    pub writes: u64,
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkStats {
    /// Its name in the container.
    pub name: String,
    /// Received: bytes, packets, errors, dropped.
    pub received: [u64; 4],
    /// Sent: bytes, packets, errors, dropped.
    pub sent: [u64; 4],
}
