//! What runs containers, as the agent sees it: a few verbs, each idempotent, each safe to repeat after a crash.
//!
//! [`Runtime`] has two implementations under one conformance suite: containerd, and one in memory for tests. The runner
//! calls it, one verb at a time for each container. A runtime never decides anything about tasks, and never touches a
//! container that does not carry this node's mark.

#[cfg(test)]
#[path = "../../../tests/agent/conformance.rs"]
pub(crate) mod conformance;
pub mod containerd;
#[cfg(test)]
pub(crate) mod fake;
pub mod spec;
pub mod supervise;

use std::collections::BTreeMap;
use std::future::Future;

use crate::model::container::{ContainerState, Exit};
use crate::model::{ContainerConfig, ContainerId, Timestamp};

/// Runs containers on this machine.
pub trait Runtime: Clone + Send + Sync + 'static {
    /// Every container of this node, in whatever state it is left.
    fn list(&self) -> impl Future<Output = Result<Vec<Found>, RuntimeError>> + Send;

    /// One container; `None` when there is none of this ID.
    fn inspect(
        &self,
        id: ContainerId,
    ) -> impl Future<Output = Result<Option<Found>, RuntimeError>> + Send;

    /// Makes a container, whose process does not begin yet. Nothing is left of one that cannot be made. One that is
    /// there already, by an earlier attempt, is good when it is whole, and made anew when it is not.
    fn create(
        &self,
        config: &ContainerConfig,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Begins its process. Good as well when it has begun already, even when it has ended since.
    fn start(&self, id: ContainerId) -> impl Future<Output = Result<Started, RuntimeError>> + Send;

    /// Waits until its process has ended, however long ago; survives a restart of what is below. [`Failure::Gone`]
    /// when there is no such container, or it vanishes.
    fn wait(&self, id: ContainerId) -> impl Future<Output = Result<Exit, RuntimeError>> + Send;

    /// Sends a signal to its first process; good when that has ended.
    fn signal(
        &self,
        id: ContainerId,
        signal: i32,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Kills it if it runs, and removes everything of it but its logs: task, mounts, snapshot, bundle, record. Good when there
    /// is nothing.
    fn remove(&self, id: ContainerId) -> impl Future<Output = Result<(), RuntimeError>> + Send;
}

/// A container that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub id: ContainerId,
    /// Its labels, as it was made with.
    pub labels: BTreeMap<String, String>,
    /// How far it is. `None` when it is a ruin of an attempt that did not come to its end: remove it, or make it anew.
    pub state: Option<ContainerState>,
}

/// A process that began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The container's first process, as the machine counts.
    pub pid: u32,
    /// When.
    pub at: Timestamp,
}

/// Why a verb failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// What to do.
    pub failure: Failure,
    /// Docker's words where it has any; shown to the user.
    pub message: String,
    /// What it was below.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The container is impossible as it was asked for, or its program cannot be run: the task has failed.
    Refused,
    /// There is no such container.
    Gone,
    /// The machine is not ready: try again later. The state is as it was before, or is seen by [`Runtime::inspect`].
    Retry,
}

impl RuntimeError {
    /// What Docker says a container ended with that could not be started: 127 when there is no such program, 126 when
    /// it cannot be run, 128 for anything else.
    pub fn exit_code(&self) -> i32 {
        let says = |words: &[&str]| words.iter().any(|word| self.message.contains(word));
        if says(&[
            "executable file not found",
            "no such file or directory",
            "system cannot find the file",
        ]) {
            127
        } else if says(&[
            "permission denied",
            "is a directory",
            "not a directory",
            "exec format error",
        ]) {
            126
        } else {
            128
        }
    }
}
