//! What the ledger keeps of a task: enough to go on after a crash at any moment.
//!
//! Three records with one writer each: [`Order`] by the intake of assignments, [`Progress`] and [`Made`] by the task's
//! own runner. Written as JSON, so that fields can be added.

use serde::{Deserialize, Serialize};

use super::health::HealthPlan;
use super::isolation;
use crate::model::{ContainerConfig, ContainerId, TaskState, TaskStatus, Timestamp};
use crate::wire::assignment::Assigned;

/// What is wanted of a task, in the order in which wishes may follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// To be ready to start.
    Prepare,
    /// To run until it ends.
    Run,
    /// To end; its container stays for its logs.
    Stop,
    /// To end and to leave nothing.
    Remove,
    /// To be forgotten after that.
    Forget,
}

/// What the leader said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The task.
    pub assigned: Assigned,
    /// The cluster has forgotten it.
    #[serde(default)]
    pub gone: bool,
    /// The node was cut off for longer than the task may run on: it is to end, whatever the leader last said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fenced: bool,
}

impl Order {
    /// What that means here.
    pub fn want(&self) -> Want {
        match self.assigned.desired {
            _ if self.gone => Want::Forget,
            TaskState::Remove => Want::Remove,
            TaskState::Shutdown | TaskState::Failed | TaskState::Rejected | TaskState::Orphaned => {
                Want::Stop
            }
            _ if self.fenced => Want::Stop,
            // A job is to come to its own end.
            TaskState::Running | TaskState::Complete => Want::Run,
            TaskState::New
            | TaskState::Pending
            | TaskState::Assigned
            | TaskState::Accepted
            | TaskState::Preparing
            | TaskState::Ready
            | TaskState::Starting => Want::Prepare,
        }
    }

    /// Why it is to end, where its leader does not know; empty otherwise.
    pub fn why(&self) -> &'static str {
        let asked = self.gone || self.assigned.desired >= TaskState::Shutdown;
        match self.fenced && !asked {
            true => isolation::WORDS,
            false => "",
        }
    }

    /// Takes a later word of the leader. The wish only rises; everything else of a task never changes.
    pub fn raise(&mut self, desired: TaskState) -> bool {
        let later = Self {
            gone: self.gone,
            fenced: self.fenced,
            assigned: Assigned {
                desired,
                ..self.assigned.clone()
            },
        };
        let rises = later.want() > self.want();
        if rises {
            self.assigned.desired = desired;
        }
        rises
    }
}

/// How far a task has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// What was last seen of it.
    pub status: TaskStatus,
    /// Its container, bound before anything is made of that name.
    pub container: Option<ContainerId>,
    /// When its process began.
    pub started: Option<Timestamp>,
    /// When it was first asked to end.
    pub stopping: Option<Timestamp>,
    /// Why it has to end, when that is not the leader's wish.
    pub doom: Option<Doom>,
    /// Its container is removed, and what it used is released.
    pub cleared: bool,
}

/// Why a task has to end, when that is not the leader's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Doom {
    /// It failed its health checks.
    Unhealthy,
}

/// The container as it was decided, kept before its process begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The container.
    pub container: ContainerConfig,
    /// How its health is asked.
    #[serde(default)]
    pub health: Option<HealthPlan>,
}

/// A task, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// What the leader said.
    pub order: Order,
    /// How far it has come.
    pub progress: Progress,
    /// The container, once it was decided.
    pub made: Option<Made>,
}
