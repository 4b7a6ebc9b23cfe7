//! What a user asks a task to be: Docker's `TaskSpec`, in Docker's JSON.
//!
//! Stored and sent as JSON, because Docker adds to it. What is not set is not written, as Docker's own types do it, so
//! that a client that puts back what it got changes nothing; keys that we do not know are left out. Nothing here is
//! checked: the API checks what it takes, and the agent (`agent::task::plan`) fills in what is missing.

mod container;
mod mount;
pub mod template;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use container::{
    AppArmorOpts, ConfigReference, ContainerSpec, CredentialSpec, DependencyReference, DnsSpec,
    FileTarget, Privileges, RuntimeTarget, SeccompOpts, SecretReference, SelinuxContext,
    UlimitSpec,
};
pub use mount::{
    BindOptions, DriverConfig, ImageOptions, MountKind, MountSpec, TmpfsOptions, VolumeOptions,
};

use super::Platform;

/// Whether a field is what it is when nobody set it.
pub(super) fn unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A whole task, as a service's template has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskSpec {
    /// The container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_spec: Option<ContainerSpec>,
    /// The container that a network is attached for, where the runtime is `attachment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_attachment_spec: Option<NetworkAttachmentSpec>,
    /// How much of its node it needs, and may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// What follows its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Where it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Networks beside the ingress, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkAttachmentConfig>,
    /// Where its output goes; the cluster's default, then the node's, when it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<Driver>,
    /// Raised to have tasks replaced that need not be.
    pub force_update: u64,
    /// `container` where it says nothing else.
    pub runtime: String,
}

impl Default for TaskSpec {
    fn default() -> Self {
        Self {
            container_spec: None,
            network_attachment_spec: None,
            resources: None,
            restart_policy: None,
            placement: None,
            networks: Vec::new(),
            log_driver: None,
            force_update: 0,
            runtime: "container".into(),
        }
    }
}

/// Which container a network is attached for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkAttachmentSpec {
    /// Its ID.
    #[serde(rename = "ContainerID", skip_serializing_if = "unset")]
    pub container_id: String,
}

/// What a task needs and may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ResourceRequirements {
    /// What it may use at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limit>,
    /// What its node must have left. Never a limit of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservations: Option<Reservation>,
}

/// Upper bounds; zero is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Limit {
    /// CPU time a second, in billionths of a core.
    #[serde(rename = "NanoCPUs", skip_serializing_if = "unset")]
    pub nano_cpus: i64,
    /// Bytes.
    #[serde(skip_serializing_if = "unset")]
    pub memory_bytes: i64,
    /// Processes and threads.
    #[serde(skip_serializing_if = "unset")]
    pub pids: i64,
}

/// What is set aside for a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Reservation {
    /// In billionths of a core.
    #[serde(rename = "NanoCPUs", skip_serializing_if = "unset")]
    pub nano_cpus: i64,
    /// Bytes.
    #[serde(skip_serializing_if = "unset")]
    pub memory_bytes: i64,
    /// What the user counts beside them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub generic_resources: Vec<GenericResource>,
}

/// Something that nodes have and tasks need; one of the two is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GenericResource {
    /// A certain one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_resource_spec: Option<NamedResource>,
    /// So many of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discrete_resource_spec: Option<DiscreteResource>,
}

/// A certain one of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NamedResource {
    /// Of what.
    #[serde(skip_serializing_if = "unset")]
    pub kind: String,
    /// Which.
    #[serde(skip_serializing_if = "unset")]
    pub value: String,
}

/// So many of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiscreteResource {
    /// Of what.
    #[serde(skip_serializing_if = "unset")]
    pub kind: String,
    /// How many.
    #[serde(skip_serializing_if = "unset")]
    pub value: i64,
}

/// What follows a task's end. Durations are nanoseconds; what is not set is as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `none`, `on-failure` or `any`.
    #[serde(skip_serializing_if = "unset")]
    pub condition: String,
    /// From the end to the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<i64>,
    /// Restarts at most; zero is no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u64>,
    /// The time in which they are counted; zero is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<i64>,
}

/// Where a task may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Placement {
    /// `key==value` or `key!=value`; all must hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
    /// What to spread over, the most important first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferences: Vec<PlacementPreference>,
    /// Tasks of the service on one node at most; zero is no bound.
    #[serde(skip_serializing_if = "unset")]
    pub max_replicas: u64,
    /// What the image can run on; anything when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<PlatformSpec>,
}

/// One preference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlacementPreference {
    /// The only kind that there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<SpreadOver>,
}

/// To spread over the values of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SpreadOver {
    /// As in `node.labels.zone`.
    pub spread_descriptor: String,
}

/// A platform in Docker's JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlatformSpec {
    /// As in `amd64` or `x86_64`; any when empty.
    #[serde(skip_serializing_if = "unset")]
    pub architecture: String,
    /// As in `linux`; any when empty.
    #[serde(rename = "OS", skip_serializing_if = "unset")]
    pub os: String,
}

impl From<PlatformSpec> for Platform {
    fn from(spec: PlatformSpec) -> Self {
        let PlatformSpec { architecture, os } = spec;
        Self { architecture, os }
    }
}

/// A network that a task is attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkAttachmentConfig {
    /// Its ID, or a name where a client wrote one.
    #[serde(skip_serializing_if = "unset")]
    pub target: String,
    /// Names of the service on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Options of the attachment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
}

/// A driver by name, with its options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Driver {
    /// Its name; the usual one when empty.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// What it is told.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests;
