//! A task: one container of a service on one node, from its creation to its end.
//!
//! A task is bound to a node once and never moves; its observed state only rises, and each step up has one writer,
//! which [`transitions`] lists as data. *Desired* is what the leader wants, *observed* is what the agent saw: two
//! fields with two writers. Numbers, names and messages are Docker's.

pub mod record;
pub mod transitions;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ContainerId, NodeId, ServiceId, TaskId, Timestamp};

/// How far a task is. Ordered: a task only moves to a greater state.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u16)]
pub enum TaskState {
    /// Made by an orchestrator.
    #[default]
    New = 0,
    /// Has its addresses and ports, and waits for a node.
    Pending = 64,
    /// Has a node.
    Assigned = 192,
    /// The node's agent has written it down.
    Accepted = 256,
    /// Networks, volumes, image and container are being made.
    Preparing = 320,
    /// Could start; waits here while no more is desired.
    Ready = 384,
    /// Its process is being started, or has not been found healthy yet.
    Starting = 448,
    /// Runs, and is healthy if it is asked.
    Running = 512,
    /// Ended by itself, with exit code 0.
    Complete = 576,
    /// Ended because it was to.
    Shutdown = 640,
    /// Ended by itself with another exit code, or failed to start.
    Failed = 704,
    /// Could not be prepared, or may not run here any more.
    Rejected = 768,
    /// To be stopped and forgotten. Only ever desired, never observed.
    Remove = 800,
    /// Its node is gone for good.
    Orphaned = 832,
}

impl TaskState {
    /// Every state, in order.
    pub const ALL: [Self; 14] = [
        Self::New,
        Self::Pending,
        Self::Assigned,
        Self::Accepted,
        Self::Preparing,
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Shutdown,
        Self::Failed,
        Self::Rejected,
        Self::Remove,
        Self::Orphaned,
    ];

    /// Whether nothing comes after it: the container has ended, or never was.
    pub fn is_terminal(self) -> bool {
        self > Self::Running
    }

    /// The name on the wire and in `docker service ps`.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }

    /// The message that a step into this state carries when nothing more is to be said.
    pub fn message(self) -> &'static str {
        match self {
            Self::New => "created",
            Self::Pending => "pending task scheduling",
            Self::Assigned => "scheduler assigned task to node",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "prepared",
            Self::Starting => "starting",
            Self::Running => "started",
            Self::Complete => "finished",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was last seen of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// How far it is.
    pub state: TaskState,
    /// When it came there, by the clock of who saw it.
    pub at: Timestamp,
    /// What happened, in words.
    pub message: String,
    /// Why it failed, or does not get further; empty otherwise.
    #[serde(default)]
    pub err: String,
    /// Its container, once there is one.
    #[serde(default)]
    pub container: Option<ContainerId>,
    /// The container's first process, while it runs.
    #[serde(default)]
    pub pid: u32,
    /// What that process ended with.
    #[serde(default)]
    pub exit_code: Option<i32>,
}

impl TaskStatus {
    /// The later of two: the greater state, and of the same state the later word. Merging is a maximum, so repeated,
    /// doubled and reordered reports do no harm.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if (other.state, other.at) > (self.state, self.at) {
            other
        } else {
            self
        }
    }
}

/// The place in a service that successive tasks fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// Of a replicated service: 1, 2, …
    Number(u64),
    /// Of a global service: one on each node.
    Node(NodeId),
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Node(node) => node.fmt(f),
        }
    }
}

/// The service that a task belongs to, as far as its container may name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRef {
    /// Its ID.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
}

/// What a container of a task is called: `<service>.<slot>.<task>`.
pub fn container_name(service: &str, slot: Slot, task: TaskId) -> String {
    format!("{service}.{slot}.{task}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_in_order_and_named_as_on_the_wire() {
        assert!(TaskState::ALL.is_sorted());
        for state in TaskState::ALL {
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json, format!("\"{}\"", state.name()));
        }
    }

    #[test]
    fn merging_takes_the_later_word_in_any_order() {
        let status = |state, at| TaskStatus {
            state,
            at: Timestamp::from_nanos(at),
            ..TaskStatus::default()
        };
        let [ready, running, again] = [
            status(TaskState::Ready, 9),
            status(TaskState::Running, 2),
            status(TaskState::Running, 3),
        ];
        for (a, b, later) in [(&ready, &running, &running), (&running, &again, &again)] {
            assert_eq!(a.clone().merge(b.clone()), *later);
            assert_eq!(b.clone().merge(a.clone()), *later);
        }
    }
}
