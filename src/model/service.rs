//! A service: what a user asked for, what it was before, and how its last change goes.
//!
//! The desired state that the leader's loop works from. Progress of an update is data here, with times in it, so that
//! a new leader goes on where the last one was.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::cluster::Secret;
use super::plane::{Published, Vip};
use super::service_spec::{EndpointSpec, ServiceSpec};
use super::task_spec::{Driver, TaskSpec};
use super::{Meta, ServiceId, Slot, TaskId, TaskStatus, Timestamp};

/// What nodes have said of their tasks in a leader's term: what is not durable, or not yet.
pub type Observed = OrdMap<TaskId, TaskStatus>;

/// A service, as it is kept in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Which.
    pub id: ServiceId,
    /// Version and times.
    pub meta: Meta,
    /// What its user wants.
    pub spec: ServiceSpec,
    /// Rises with each change of `spec` by a user or a rollback; tasks name the one they were made of.
    pub spec_version: u64,
    /// For the registry, as in `X-Registry-Auth`; never shown.
    #[serde(default)]
    pub registry_auth: Secret,
    /// What it was before, for a rollback.
    #[serde(default)]
    pub previous: Option<Box<Previous>>,
    /// How its last change goes; `None` when nothing had to be replaced.
    #[serde(default)]
    pub update: Option<UpdateStatus>,
    /// Which run of it this is; jobs only.
    #[serde(default)]
    pub job: Option<JobStatus>,
    /// It is removed: its tasks are to go, and it with the last of them.
    #[serde(default)]
    pub removed: bool,
    /// Its user asks for its tasks to be spread anew, once.
    #[serde(default)]
    pub rebalance: bool,
    /// The addresses that stand for all of its tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vips: Vec<Vip>,
    /// What it publishes, every number settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Published>,
}

/// An earlier spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// The spec.
    pub spec: ServiceSpec,
    /// Its version then.
    pub spec_version: u64,
    /// For the registry, then.
    #[serde(default)]
    pub registry_auth: Secret,
}

/// What a service is to become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceUpdate {
    /// What its user wants now.
    pub spec: ServiceSpec,
    /// Go back to what it was before; `spec` is ignored.
    pub rollback: bool,
    /// What the registry is told.
    pub registry_auth: AuthFrom,
}

/// Where a changed service's credentials for the registry come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuthFrom {
    /// They come with the request.
    Given(Secret),
    /// They stay.
    #[default]
    Spec,
    /// They are those from before its last change.
    PreviousSpec,
}

/// How far a change of a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// Tasks are being replaced.
    #[default]
    Updating,
    /// Too many new tasks failed; nothing more is replaced until the user says something.
    Paused,
    /// All tasks are new, and were watched for long enough.
    Completed,
    /// Tasks are being replaced by what they were.
    RollbackStarted,
    /// That failed as well.
    RollbackPaused,
    /// All tasks are what they were.
    RollbackCompleted,
}

impl UpdateState {
    /// Whether tasks are being replaced.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Updating | Self::RollbackStarted)
    }

    /// Whether it goes, or went, back.
    pub fn is_rollback(self) -> bool {
        matches!(
            self,
            Self::RollbackStarted | Self::RollbackPaused | Self::RollbackCompleted
        )
    }
}

/// Docker's `UpdateStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// How far it is.
    pub state: UpdateState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was through.
    #[serde(default)]
    pub completed_at: Option<Timestamp>,
    /// What is shown.
    pub message: String,
    /// How many slots were to be replaced when it began: what failures are measured against. Never shown, as all that
    /// follows.
    #[serde(default)]
    pub dirty: u64,
    /// The slots in which a new task ended too soon. They are left to the restart policy.
    #[serde(default)]
    pub failed: BTreeSet<Slot>,
    /// The slots that are being replaced, and those whose new tasks are watched.
    #[serde(default)]
    pub watched: Vec<Watched>,
}

/// A slot that an update is at work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Which.
    pub slot: Slot,
    /// Its new task.
    pub task: TaskId,
    /// When the leader first saw that it ran, or that it had ended before.
    #[serde(default)]
    pub since: Option<Timestamp>,
}

/// Docker's `JobStatus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Rises with each update of the service; what older tasks did counts no more.
    pub iteration: u64,
    /// When this one began.
    pub last_execution: Timestamp,
}

/// What the tasks of one version of a service share. Kept once, and only while a task names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The service's name then.
    pub name: String,
    /// The service's labels then.
    pub labels: BTreeMap<String, String>,
    /// The tasks.
    pub task: TaskSpec,
    /// How they are reached.
    #[serde(default)]
    pub endpoint: Option<EndpointSpec>,
    /// Where their output goes when `task` does not say: the cluster's default then.
    #[serde(default)]
    pub log_driver: Option<Driver>,
    /// For the registry; never shown.
    #[serde(default)]
    pub registry_auth: Secret,
}
