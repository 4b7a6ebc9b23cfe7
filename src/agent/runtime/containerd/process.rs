//! A container's first process, as the kernel knows it: whether it is still the one, and signals straight to it.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::model::ContainerId;

/// Whether the process runs in this container's control group. A number that went to another process does not, nor
/// does one that has ended.
pub(super) fn belongs(pid: u32, id: ContainerId) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.contains(&id.to_string())
}

/// How a signal went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    /// There is no such process any more.
    Ended,
    /// A signal without a name here: containerd has to send it.
    Unknown,
}

/// Sends a signal to the container's first process, which saves five milliseconds and two programs on the way through
/// containerd.
pub(super) fn send(pid: u32, id: ContainerId, signal: i32) -> Sent {
    let Ok(signal) = Signal::try_from(signal) else {
        return Sent::Unknown;
    };
    let Ok(target) = i32::try_from(pid) else {
        return Sent::Ended;
    };
    if target == 0 || !belongs(pid, id) {
        return Sent::Ended;
    }
    match kill(Pid::from_raw(target), signal) {
        Ok(()) => Sent::Yes,
        Err(Errno::ESRCH) => Sent::Ended,
        Err(_) => Sent::Unknown,
    }
}
