//! Docker's task object, out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::ObjectVersion;
use crate::model::task_spec::GenericResource;
use crate::model::{
    Network, NetworkSpec, Slot, Task, TaskSpec, TaskState, TaskStatus, Template, Timestamp,
};

/// `Task`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct TaskDto<'a> {
    #[serde(rename = "ID")]
    id: String,
    version: ObjectVersion,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// The task's own, of which Docker gives it none.
    labels: BTreeMap<String, String>,
    spec: Cow<'a, TaskSpec>,
    #[serde(rename = "ServiceID")]
    service_id: String,
    #[serde(skip_serializing_if = "is_zero")]
    slot: u64,
    #[serde(rename = "NodeID", skip_serializing_if = "String::is_empty")]
    node_id: String,
    status: StatusDto,
    desired_state: TaskState,
    #[serde(skip_serializing_if = "<[GenericResource]>::is_empty")]
    generic_resources: &'a [GenericResource],
    #[serde(skip_serializing_if = "Option::is_none")]
    job_iteration: Option<ObjectVersion>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    networks_attachments: Vec<Attachment<'a>>,
    /// Volumes of the cluster, of which there are none; Docker writes `null`.
    volumes: Option<()>,
}

/// `NetworkAttachment`: a network that the task is on, and its addresses there, of which it has none without a data
/// plane.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attachment<'a> {
    network: AttachedNetwork<'a>,
    addresses: [&'a str; 0],
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AttachedNetwork<'a> {
    #[serde(rename = "ID")]
    id: String,
    version: ObjectVersion,
    created_at: Timestamp,
    updated_at: Timestamp,
    spec: &'a NetworkSpec,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct StatusDto {
    timestamp: Timestamp,
    state: TaskState,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    err: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_status: Option<ContainerStatus>,
    port_status: PortStatus,
}

#[derive(Clone, Debug, Serialize)]
struct ContainerStatus {
    #[serde(rename = "ContainerID")]
    container_id: String,
    #[serde(rename = "PID")]
    pid: u32,
    #[serde(rename = "ExitCode")]
    exit_code: i32,
}

/// Ports that the task's own machine publishes for it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct PortStatus {}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(slot: &u64) -> bool {
    *slot == 0
}

impl<'a> TaskDto<'a> {
    /// `task` as Docker shows it, with the later of what is written down and what its node has said.
    pub(in crate::api) fn of(
        task: &'a Task,
        template: Option<&'a Template>,
        status: TaskStatus,
    ) -> Self {
        let spec = template.map(|template| Cow::Borrowed(&template.task));
        Self {
            id: task.id.to_string(),
            version: ObjectVersion {
                index: task.meta.version,
            },
            created_at: task.meta.created_at,
            updated_at: task.meta.updated_at.max(status.at),
            labels: BTreeMap::new(),
            spec: spec.unwrap_or_default(),
            service_id: task.service.to_string(),
            slot: match task.slot {
                Slot::Number(number) => number,
                Slot::Node(_) => 0,
            },
            node_id: task.node.map(|node| node.to_string()).unwrap_or_default(),
            status: status_of(status),
            desired_state: task.desired,
            generic_resources: &task.generic_resources,
            job_iteration: task.iteration.map(|index| ObjectVersion { index }),
            networks_attachments: Vec::new(),
            volumes: None,
        }
    }

    /// With the networks of the cluster that it is on.
    pub(in crate::api) fn on(self, networks: impl Iterator<Item = &'a Network>) -> Self {
        let attached = networks.map(|network| Attachment {
            network: AttachedNetwork {
                id: network.id.to_string(),
                version: ObjectVersion {
                    index: network.meta.version,
                },
                created_at: network.meta.created_at,
                updated_at: network.meta.updated_at,
                spec: &network.spec,
            },
            addresses: [],
        });
        Self {
            networks_attachments: attached.collect(),
            ..self
        }
    }
}

fn status_of(status: TaskStatus) -> StatusDto {
    let container = status.container.map(|id| ContainerStatus {
        container_id: id.to_string(),
        pid: status.pid,
        exit_code: status.exit_code.unwrap_or(0),
    });
    StatusDto {
        timestamp: status.at,
        state: status.state,
        message: status.message,
        err: status.err,
        container_status: container,
        port_status: PortStatus {},
    }
}
