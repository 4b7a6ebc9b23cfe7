//! Docker's node object, in and out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ObjectVersion;
use super::tls::{Issuers, TlsInfo};
use crate::api::backend::{ClusterView, Reachability};
use crate::model::task_spec::GenericResource;
use crate::model::{Availability, Node, NodeSpec, NodeState, Role, Timestamp};

/// `Node`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct NodeDto {
    #[serde(rename = "ID")]
    pub(in crate::api) id: String,
    pub(in crate::api) version: ObjectVersion,
    created_at: Timestamp,
    updated_at: Timestamp,
    pub(in crate::api) spec: NodeSpecDto,
    pub(in crate::api) description: Description,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) manager_status: Option<ManagerStatus>,
}

/// `NodeSpec`; role and availability are checked when it is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct NodeSpecDto {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    labels: BTreeMap<String, String>,
    role: String,
    availability: String,
}

/// Why a node spec is not accepted; Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::api) enum NodeSpecError {
    #[error("invalid Role: {0:?}")]
    Role(String),
    #[error("invalid Availability: {0:?}")]
    Availability(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Description {
    hostname: String,
    platform: Platform,
    resources: Resources,
    engine: Engine,
    #[serde(rename = "TLSInfo")]
    tls_info: TlsInfo,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Platform {
    #[serde(rename = "Architecture")]
    architecture: String,
    #[serde(rename = "OS")]
    os: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Resources {
    #[serde(rename = "NanoCPUs", skip_serializing_if = "super::is_zero", default)]
    nano_cpus: i64,
    #[serde(
        rename = "MemoryBytes",
        skip_serializing_if = "super::is_zero",
        default
    )]
    memory_bytes: i64,
    #[serde(
        rename = "GenericResources",
        skip_serializing_if = "Vec::is_empty",
        default
    )]
    generic_resources: Vec<GenericResource>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Engine {
    engine_version: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    state: NodeState,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    addr: String,
}

/// `ManagerStatus`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct ManagerStatus {
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    leader: bool,
    reachability: Reachability,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    addr: String,
}

impl NodeDto {
    /// `node` as Docker shows it.
    pub(in crate::api) fn of(view: &ClusterView, issuers: &Issuers, node: &Node) -> Self {
        let status = view.statuses.get(&node.id).cloned().unwrap_or_default();
        let seen_at = status.addr.or_else(|| node.addresses.first().copied());
        let manager_status = view.managers.get(&node.id).map(|reachability| {
            let addr = node.addresses.first().copied().or(status.addr);
            ManagerStatus {
                leader: view.leader == node.id,
                reachability: *reachability,
                addr: addr.map(|addr| addr.to_string()).unwrap_or_default(),
            }
        });
        let machine = &node.description;
        Self {
            id: node.id.to_string(),
            version: ObjectVersion {
                index: node.meta.version,
            },
            created_at: node.meta.created_at,
            updated_at: node.meta.updated_at,
            spec: NodeSpecDto {
                name: node.spec.name.clone(),
                labels: node.spec.labels.clone(),
                role: role_word(node.shown_role()).into(),
                availability: availability_word(node.spec.availability).into(),
            },
            description: Description {
                hostname: machine.hostname.clone(),
                platform: Platform {
                    architecture: machine.platform.architecture.clone(),
                    os: machine.platform.os.clone(),
                },
                resources: Resources {
                    nano_cpus: machine.resources.nano_cpus,
                    memory_bytes: machine.resources.memory_bytes,
                    generic_resources: machine.generic_resources.clone(),
                },
                engine: Engine {
                    engine_version: machine.engine_version.clone(),
                    labels: machine.engine_labels.clone(),
                },
                tls_info: issuers.of_node(&node.certificate.issuer),
            },
            status: Status {
                state: status.state,
                message: status.message,
                addr: seen_at
                    .map(|addr| addr.ip().to_string())
                    .unwrap_or_default(),
            },
            manager_status,
        }
    }
}

impl NodeSpecDto {
    /// What it asks for. Docker compares role and availability without case.
    pub(in crate::api) fn checked(&self) -> Result<(NodeSpec, Role), NodeSpecError> {
        let role = match self.role.to_ascii_lowercase().as_str() {
            "worker" => Role::Worker,
            "manager" => Role::Manager,
            _ => return Err(NodeSpecError::Role(self.role.clone())),
        };
        let spec = NodeSpec {
            name: self.name.clone(),
            labels: self.labels.clone(),
            availability: parse_availability(&self.availability)
                .ok_or_else(|| NodeSpecError::Availability(self.availability.clone()))?,
        };
        Ok((spec, role))
    }
}

const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Worker => "worker",
        Role::Manager => "manager",
    }
}

const fn availability_word(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

/// Docker's word for an availability, without case.
pub(in crate::api) fn parse_availability(text: &str) -> Option<Availability> {
    match text.to_ascii_lowercase().as_str() {
        "active" => Some(Availability::Active),
        "pause" => Some(Availability::Pause),
        "drain" => Some(Availability::Drain),
        _ => None,
    }
}
