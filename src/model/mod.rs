//! The nouns: ids, objects, specs and states that every other room speaks of.
//!
//! Values only: no clock, no socket, no disk, no tokio. What is here is stored and sent, so a field
//! is added with `#[serde(default)]` and never changes its meaning.

/// Stores and sends a type by its text, [`Display`](std::fmt::Display) and [`FromStr`](std::str::FromStr).
macro_rules! as_text {
    ($name:ident) => {
        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = ::std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(::serde::de::Error::custom)
            }
        }
    };
}
use as_text;

pub mod address;
pub mod change;
pub mod cluster;
pub mod constraints;
pub mod container;
pub mod dependency;
pub mod dirty;
pub mod facts;
pub mod id;
pub mod image;
pub mod limits;
pub mod log;
pub mod network;
pub mod node;
pub mod plane;
pub mod reference;
pub mod service;
pub mod service_spec;
pub mod signal;
pub mod standalone;
pub mod stats;
pub mod task;
pub mod task_spec;
pub mod time;

pub use address::{AddressSpec, HostSpec};
pub use change::{Change, Expect, Proposal, Rejection};
pub use cluster::{Cluster, ClusterSpec, JoinKind, JoinSecrets, RootCa, RootRotation};
pub use container::{ContainerConfig, ContainerId};
pub use dependency::{Dependency, DependencyKind, DependencySpec};
pub use facts::NodeFacts;
pub use id::{ClusterId, DependencyId, NetworkId, NodeId, ServiceId, TaskId};
pub use image::{Digest, ImageConfig};
pub use network::{Network, NetworkSpec};
pub use node::{
    Availability, Node, NodeDescription, NodeSpec, NodeState, NodeStatus, Platform, Resources,
    Role, Standing,
};
pub use service::{AuthFrom, Observed, Service, ServiceUpdate, Template};
pub use service_spec::ServiceSpec;
pub use task::record::Task;
pub use task::{Slot, TaskState, TaskStatus};
pub use task_spec::{ContainerSpec, TaskSpec};
pub use time::Timestamp;

use serde::{Deserialize, Serialize};

/// What the store knows of every object besides its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Rises with each write to any object of the cluster; what Docker's API calls `Version.Index`.
    pub version: u64,
    /// When the leader first accepted the object.
    pub created_at: Timestamp,
    /// When the leader last accepted a change of it.
    pub updated_at: Timestamp,
}
