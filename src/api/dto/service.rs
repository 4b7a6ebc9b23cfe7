//! Docker's service object, out. Specs are Docker's JSON as they are stored.

use std::borrow::Cow;

use serde::Serialize;

use super::ObjectVersion;
use crate::cluster::store::Objects;
use crate::model::plane::Published;
use crate::model::service::{UpdateState, UpdateStatus};
use crate::model::service_spec::{EndpointSpec, PortConfig};
use crate::model::{Service, ServiceSpec, Timestamp};

/// `Service`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct ServiceDto<'a> {
    #[serde(rename = "ID")]
    id: String,
    version: ObjectVersion,
    created_at: Timestamp,
    updated_at: Timestamp,
    spec: Cow<'a, ServiceSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_spec: Option<&'a ServiceSpec>,
    endpoint: Endpoint<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_status: Option<UpdateStatusDto<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_status: Option<ServiceStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_status: Option<JobStatusDto>,
}

/// `ServiceStatus`: its tasks, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct ServiceStatus {
    pub(in crate::api) running_tasks: u64,
    pub(in crate::api) desired_tasks: u64,
    pub(in crate::api) completed_tasks: u64,
}

/// What was asked for, the ports that are published for it, and the addresses that stand for its tasks.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint<'a> {
    spec: Cow<'a, EndpointSpec>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<PortConfig>,
    #[serde(rename = "VirtualIPs", skip_serializing_if = "Vec::is_empty")]
    virtual_ips: Vec<VirtualIp>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct VirtualIp {
    #[serde(rename = "NetworkID")]
    network: String,
    #[serde(rename = "Addr")]
    addr: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateStatusDto<'a> {
    state: UpdateState,
    #[serde(skip_serializing_if = "is_never")]
    started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct JobStatusDto {
    job_iteration: ObjectVersion,
    last_execution: Timestamp,
}

/// Whether a time stands for none.
fn is_never(time: &Timestamp) -> bool {
    *time == Timestamp::default()
}

impl<'a> ServiceDto<'a> {
    /// `service` as Docker shows it, with `spec` in place of its own where one is given.
    pub(in crate::api) fn of(
        service: &'a Service,
        spec: Option<ServiceSpec>,
        objects: &Objects,
    ) -> Self {
        let update = service.update.as_ref();
        let job = service.job.filter(|_| service.spec.mode.read().is_job());
        Self {
            id: service.id.to_string(),
            version: ObjectVersion {
                index: service.meta.version,
            },
            created_at: service.meta.created_at,
            updated_at: service.meta.updated_at,
            spec: spec.map_or(Cow::Borrowed(&service.spec), Cow::Owned),
            previous_spec: service.previous.as_ref().map(|previous| &previous.spec),
            endpoint: endpoint(service, objects),
            update_status: update.map(update_status),
            service_status: None,
            job_status: job.map(|job| JobStatusDto {
                job_iteration: ObjectVersion {
                    index: job.iteration,
                },
                last_execution: job.last_execution,
            }),
        }
    }

    /// With its tasks counted.
    pub(in crate::api) fn with_status(self, status: ServiceStatus) -> Self {
        let service_status = Some(status);
        Self {
            service_status,
            ..self
        }
    }
}

fn endpoint<'a>(service: &'a Service, objects: &Objects) -> Endpoint<'a> {
    let spec = service.spec.endpoint_spec.as_ref();
    let virtual_ips = service.vips.iter().map(|vip| VirtualIp {
        network: vip.network.to_string(),
        addr: match objects.networks.get(&vip.network) {
            Some(network) => network.with_length(vip.addr),
            None => vip.addr.to_string(),
        },
    });
    Endpoint {
        spec: spec.map_or_else(Cow::default, Cow::Borrowed),
        ports: service.ports.iter().map(|it| port(it, spec)).collect(),
        virtual_ips: virtual_ips.collect(),
    }
}

/// A port with its number, and the name that its user gave it.
fn port(settled: &Published, spec: Option<&EndpointSpec>) -> PortConfig {
    let is_meant = |asked: &&PortConfig| {
        asked.target_port == settled.target
            && asked.protocol() == settled.protocol.name()
            && asked.is_host() == settled.host
            && [0, settled.published].contains(&asked.published_port)
    };
    let mut asked = spec.into_iter().flat_map(|spec| &spec.ports);
    let name = asked.find(is_meant).map(|asked| asked.name.clone());
    PortConfig {
        name: name.unwrap_or_default(),
        protocol: settled.protocol.name().into(),
        target_port: settled.target,
        published_port: settled.published,
        publish_mode: if settled.host { "host" } else { "ingress" }.into(),
    }
}

fn update_status(status: &UpdateStatus) -> UpdateStatusDto<'_> {
    UpdateStatusDto {
        state: status.state,
        started_at: status.started_at,
        completed_at: status.completed_at,
        message: &status.message,
    }
}

/// The answer to a creation.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Created {
    #[serde(rename = "ID")]
    pub(in crate::api) id: String,
    /// `null` when there are none, as Docker has it.
    pub(in crate::api) warnings: Option<Vec<String>>,
}

/// The answer to an update.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Updated {
    /// `null` when there are none, as Docker has it.
    pub(in crate::api) warnings: Option<Vec<String>>,
}
