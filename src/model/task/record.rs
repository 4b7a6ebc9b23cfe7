//! A task in the store: what the leader has decided about it, and what of its life is durable.
//!
//! What its node says between the first RUNNING and the end lives in the leader's memory; see
//! [`TaskStatus::merge`](super::TaskStatus::merge). The spec is not here: tasks of one version of a service share a
//! [`Template`](crate::model::service::Template).

use serde::{Deserialize, Serialize};

use super::{Slot, TaskState, TaskStatus};
use crate::model::plane::Attachment;
use crate::model::task_spec::GenericResource;
use crate::model::{Meta, NodeId, ServiceId, TaskId, Timestamp};

/// A task, as it is kept in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Which.
    pub id: TaskId,
    /// Version and times.
    pub meta: Meta,
    /// Of which service.
    pub service: ServiceId,
    /// Its place in it.
    pub slot: Slot,
    /// The version of the service that it was made of: with `service`, the key of its template.
    pub spec_version: u64,
    /// The run of its job.
    #[serde(default)]
    pub iteration: Option<u64>,
    /// Where it runs: set once. A global service's tasks have theirs from the beginning.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// How far it is to go. Only rises.
    pub desired: TaskState,
    /// What was last written down of how far it is. Only rises.
    pub status: TaskStatus,
    /// What has to come true before `desired` rises from [`TaskState::Ready`]; `None` when nothing holds it back.
    #[serde(default)]
    pub start: Option<StartRule>,
    /// What was set aside for it of what its node has.
    #[serde(default)]
    pub generic_resources: Vec<GenericResource>,
    /// Its places in networks, the first of which has its way out; chosen with its node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

/// When a prepared task may start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRule {
    /// Not before.
    #[serde(default)]
    pub not_before: Timestamp,
    /// Not before this task has ended, which it replaces,
    #[serde(default)]
    pub after: Option<TaskId>,
    /// but for that it waits no longer than this.
    #[serde(default)]
    pub at_last: Timestamp,
}

/// Whether what a task has of addresses is nobody else's to have: until its node has said that it has ended.
pub fn holds(task: &Task) -> bool {
    task.node.is_some() && !task.attachments.is_empty() && !task.status.state.is_terminal()
}

impl Task {
    /// Whether it is, or is to become, of use: neither it nor what is wanted of it has come to an end.
    pub fn is_live(&self) -> bool {
        !self.status.state.is_terminal() && self.desired <= TaskState::Complete
    }
}
