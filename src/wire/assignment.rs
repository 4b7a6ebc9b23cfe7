//! What the leader assigns to a node, and what the node says of it.
//!
//! Sent in the session ([`super::session`]) and kept in the agent's ledger. Tasks and their status travel as JSON,
//! because they grow fields. [`Assignments`] are numbered: what is older than what a node has taken is void.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Json;
use crate::model::cluster::Secret;
use crate::model::plane::Attachment;
use crate::model::task::{ServiceRef, container_name};
use crate::model::task_spec::{Driver, GenericResource};
use crate::model::{Dependency, DependencyId, Slot, TaskId, TaskSpec, TaskState, TaskStatus};

/// A task for one node. All but `desired` is the same for its whole life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Which.
    pub task: TaskId,
    /// The service that it is of.
    pub service: ServiceRef,
    /// The service's labels, for templates.
    #[serde(default)]
    pub service_labels: BTreeMap<String, String>,
    /// Its place in the service.
    pub slot: Slot,
    /// How far it is to go; only rises.
    pub desired: TaskState,
    /// How far the leader has seen it. An agent that has lost its own ledger does not begin it anew.
    #[serde(default)]
    pub observed: TaskState,
    /// What it is to be.
    pub spec: TaskSpec,
    /// What of the node's own was given to it: its program is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generic_resources: Vec<GenericResource>,
    /// Its places in networks, the first of which has its way out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Where its output goes when the spec does not say: the cluster's default.
    #[serde(default)]
    pub log_driver: Option<Driver>,
    /// For the registry, as in `X-Registry-Auth`.
    #[serde(default)]
    pub registry_auth: Secret,
}

impl Assigned {
    /// What its container is called.
    pub fn name(&self) -> String {
        container_name(&self.service.name, self.slot, self.task)
    }
}

/// Some or all tasks of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignments {
    /// Of the leader who says so.
    pub term: u64,
    /// Rises within a term with each message to this node that says something new.
    pub generation: u64,
    /// Whether these are all of the node's tasks: any other is to be stopped and forgotten.
    pub complete: bool,
    /// Tasks that are new, or whose desired state has risen.
    pub tasks: Vec<Json<Assigned>>,
    /// Tasks that the cluster has forgotten: what is left of them is to be removed.
    pub removed: Vec<TaskId>,
}

/// Secrets and configs that tasks of a node name. Sent before the tasks; kept in memory alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependencies {
    /// Whether the node is to forget all others.
    pub complete: bool,
    /// Those that are new to it.
    pub kept: Vec<Json<Dependency>>,
    /// Those that no task of it needs any more.
    pub removed: Vec<DependencyId>,
}

/// What a node has seen of its tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether every task of the node was named by now in this session: the last part of its first word.
    pub complete: bool,
    /// The status of each that has changed.
    pub statuses: Vec<(TaskId, Json<TaskStatus>)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ContainerSpec;
    use crate::wire::{decode, encode};

    #[test]
    fn assignments_and_reports_travel_in_frames() {
        let assigned = Assigned {
            task: TaskId::from_bits(7),
            service: ServiceRef::default(),
            service_labels: BTreeMap::new(),
            slot: Slot::Number(2),
            desired: TaskState::Running,
            observed: TaskState::Assigned,
            spec: TaskSpec {
                container_spec: Some(ContainerSpec {
                    image: "busybox".into(),
                    ..ContainerSpec::default()
                }),
                ..TaskSpec::default()
            },
            generic_resources: Vec::new(),
            attachments: Vec::new(),
            log_driver: None,
            registry_auth: Secret("e30=".into()),
        };
        let assignments = Assignments {
            term: 3,
            generation: 9,
            complete: true,
            tasks: vec![Json(assigned)],
            removed: vec![TaskId::from_bits(8)],
        };
        let dependencies = Dependencies {
            complete: true,
            kept: vec![Json(Dependency::default())],
            removed: vec![DependencyId::from_bits(4)],
        };
        let bytes = encode(&dependencies).unwrap();
        assert_eq!(decode::<Dependencies>(&bytes).unwrap(), dependencies);
        let bytes = encode(&assignments).unwrap();
        assert_eq!(decode::<Assignments>(&bytes).unwrap(), assignments);
        let report = Report {
            complete: false,
            statuses: vec![(TaskId::from_bits(7), Json(TaskStatus::default()))],
        };
        let bytes = encode(&report).unwrap();
        assert_eq!(decode::<Report>(&bytes).unwrap(), report);
    }
}
