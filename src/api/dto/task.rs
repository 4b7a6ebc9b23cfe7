//! Docker's task object, out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::ObjectVersion;
use crate::model::network::IpamConfig;
use crate::model::plane::Attachment;
use crate::model::service_spec::PortConfig;
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
    networks_attachments: Vec<NetworkAttachment<'a>>,
    /// Volumes of the cluster, of which there are none; Docker writes `null`.
    volumes: Option<()>,
}

/// `NetworkAttachment`: a network that the task is on, and its addresses there: none before it has its node.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkAttachment<'a> {
    network: AttachedNetwork<'a>,
    addresses: Vec<String>,
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
    driver_state: DriverState<'a>,
    #[serde(rename = "IPAMOptions")]
    ipam_options: IpamState<'a>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DriverState<'a> {
    name: &'a str,
    options: &'a BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamState<'a> {
    driver: DriverName,
    configs: &'a [IpamConfig],
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DriverName {
    name: &'static str,
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
#[derive(Clone, Debug, Default, Serialize)]
struct PortStatus {
    #[serde(rename = "Ports", skip_serializing_if = "Vec::is_empty")]
    ports: Vec<PortConfig>,
}

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
            status: status_of(status, template),
            desired_state: task.desired,
            generic_resources: &task.generic_resources,
            job_iteration: task.iteration.map(|index| ObjectVersion { index }),
            networks_attachments: Vec::new(),
            volumes: None,
        }
    }

    /// With the networks of the cluster that it is on.
    pub(in crate::api) fn on(
        self,
        networks: impl Iterator<Item = &'a Network>,
        attachments: &[Attachment],
    ) -> Self {
        let attached = networks.map(|network| NetworkAttachment {
            network: attached_network(network),
            addresses: attachments
                .iter()
                .filter(|place| place.network == network.id)
                .flat_map(|place| &place.addresses)
                .map(|addr| network.with_length(*addr))
                .collect(),
        });
        Self {
            networks_attachments: attached.collect(),
            ..self
        }
    }
}

fn attached_network(network: &Network) -> AttachedNetwork<'_> {
    AttachedNetwork {
        id: network.id.to_string(),
        version: ObjectVersion {
            index: network.meta.version,
        },
        created_at: network.meta.created_at,
        updated_at: network.meta.updated_at,
        spec: &network.spec,
        driver_state: DriverState {
            name: &network.spec.driver,
            options: &network.spec.options,
        },
        ipam_options: IpamState {
            driver: DriverName { name: "default" },
            configs: &network.pools,
        },
    }
}

fn status_of(status: TaskStatus, template: Option<&Template>) -> StatusDto {
    let endpoint = template.and_then(|template| template.endpoint.as_ref());
    let ports = endpoint.into_iter().flat_map(|endpoint| &endpoint.ports);
    let is_open = status.state == TaskState::Running;
    let open = ports.filter(|port| is_open && port.is_host() && port.published_port != 0);
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
        port_status: PortStatus {
            ports: open.cloned().collect(),
        },
    }
}
