//! What may be asked of the store: guarded changes of objects, all of a proposal or none.

use serde::{Deserialize, Serialize};

use super::{
    Cluster, Dependency, DependencyId, Network, NetworkId, Node, NodeId, Service, ServiceId, Task,
    TaskId, Template, Timestamp,
};

/// What the proposer believes of the object it changes; the store checks it when the entry is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// There is no such object.
    Absent,
    /// It stands at this version.
    Version(u64),
}

/// One object's change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Creates or replaces the cluster object.
    PutCluster(Expect, Box<Cluster>),
    /// Creates or replaces a node.
    PutNode(Expect, Box<Node>),
    /// Removes a node and shuts it out for good.
    RemoveNode(Expect, NodeId),
    /// Creates or replaces a service. Its name must be nobody else's.
    PutService(Expect, Box<Service>),
    /// Removes a service. Its tasks are removed one by one, before.
    RemoveService(Expect, ServiceId),
    /// Keeps what the tasks of one version of a service share, if it is not kept yet. It goes with the last of them.
    PutTemplate(ServiceId, u64, Box<Template>),
    /// Creates or replaces a task. Its template must be kept, and a node that it has it keeps.
    PutTask(Expect, Box<Task>),
    /// Removes a task.
    RemoveTask(Expect, TaskId),
    /// Creates or replaces a secret or a config. Its name must be no other's of its kind.
    PutDependency(Expect, Box<Dependency>),
    /// Removes a secret or a config.
    RemoveDependency(Expect, DependencyId),
    /// Creates or replaces a network. Its name must be no other's.
    PutNetwork(Expect, Box<Network>),
    /// Removes a network.
    RemoveNetwork(Expect, NetworkId),
}

/// Changes that are applied together or not at all.
///
/// The store sets each object's [`Meta`](super::Meta) itself; what the proposer wrote there is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The leader's clock when it proposed: becomes `created_at` and `updated_at`.
    pub at: Timestamp,
    /// What to change, in order.
    pub changes: Vec<Change>,
}

/// Why a proposal changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The object has changed since the proposer looked. Docker's clients match on these words.
    #[error("update out of sequence")]
    OutOfSequence,
    /// There is such an object already.
    #[error("name conflicts with an existing object")]
    Exists,
    /// Another service has this name. Docker's clients match on these words.
    #[error("name conflicts with an existing object: service {0} already exists")]
    NameTaken(String),
    /// There is no such object.
    #[error("object does not exist")]
    NotFound,
    /// A task cannot move to another node.
    #[error("task {0} is bound to its node")]
    Bound(TaskId),
    /// The node was removed from the cluster and stays out.
    #[error("node {0} was removed from this cluster")]
    Removed(NodeId),
    /// Another secret or config has this name: what kind it is, and the name. Docker's clients match on these words.
    #[error("{0} {1} already exists")]
    Taken(String, String),
    /// Another network has this name. Docker's clients match on these words.
    #[error("network with name {0} already exists")]
    NetworkTaken(String),
}
