//! The seam between HTTP and the node: what the API asks of whoever built it.
//!
//! The handlers see only these traits, so they know nothing of consensus, transport or runtime, and are tested
//! against a fake. The node implements them. Nothing here decides anything.

pub mod containers;
pub mod images;
pub mod volumes;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, watch};

use containers::Containers;

use crate::cluster::store::State;
use crate::model::cluster::Secret;
use crate::model::facts::Phase;
use crate::model::{
    AddressSpec, Availability, ClusterSpec, DependencyId, DependencyKind, DependencySpec,
    NetworkId, NetworkSpec, NodeDescription, NodeId, NodeSpec, NodeStatus, Observed, Role,
    ServiceId, ServiceSpec, ServiceUpdate, Standing, Task, TaskId, TaskStatus, Timestamp,
};
pub use images::ImageStore;
pub use volumes::VolumeStore;

/// Which kind of "no" a [`Refusal`] is; each has one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalClass {
    /// 404: there is no such object.
    NotFound,
    /// 400: the request can never succeed as it is.
    Invalid,
    /// 409: it contradicts what is.
    Conflict,
    /// 401: a key or token is wrong.
    Unauthorized,
    /// 403: not allowed to anyone here.
    Forbidden,
    /// 503: not on this node or not at the moment.
    Unavailable,
    /// 503: no leader had it in hand, and nothing was done. Another leader may be asked.
    NoLeader,
    /// 503: the leader was lost while it made the change, which may or may not have been made.
    Unconfirmed,
    /// 501: not something that this version does.
    NotImplemented,
    /// 500: something failed; also Docker's answer to an update of an old version.
    Internal,
}

/// A "no" with the words that the user is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Decides the HTTP status.
    pub class: RefusalClass,
    /// Docker's words where a tool may match on them; otherwise one sentence that says what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal of `class` with these words.
    pub fn new(class: RefusalClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(RefusalClass::NotFound, message)
    }

    /// 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(RefusalClass::Invalid, message)
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(RefusalClass::Conflict, message)
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(RefusalClass::Unavailable, message)
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(RefusalClass::Internal, message)
    }

    /// 503 in Docker's words: a majority of managers cannot be reached, or an election is going on.
    pub fn no_leader() -> Self {
        Self::new(
            RefusalClass::NoLeader,
            "The swarm does not have a leader. It's possible that too few managers are online. \
             Make sure more than half of the managers are online.",
        )
    }

    /// 500 in Docker's words, which its clients match to try again: the object has changed since it was read.
    pub fn out_of_sequence() -> Self {
        Self::internal("rpc error: code = Unknown desc = update out of sequence")
    }
}

/// Docker's `LocalNodeState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalState {
    /// In no cluster.
    #[default]
    Inactive,
    /// Joining, or starting again.
    Pending,
    /// A member.
    Active,
    /// A member that cannot work; [`Local::error`] says why.
    Error,
    /// A replica that waits for its unlock key.
    Locked,
}

/// What this node says of itself without asking anyone.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Its ID; known as soon as it has a key, even outside of a cluster.
    pub node: Option<NodeId>,
    /// Where it stands.
    pub state: LocalState,
    /// Whether it answers for the cluster: true on eligible nodes, leader or not; false on workers.
    pub control: bool,
    /// Where others reach it.
    pub addr: Option<SocketAddr>,
    /// Why it cannot work, in words; empty otherwise.
    pub error: String,
    /// Managers that it knows, with addresses; itself included when it is one.
    pub remote_managers: Vec<(NodeId, SocketAddr)>,
    /// The machine.
    pub description: NodeDescription,
    /// Where its files are.
    pub data_root: PathBuf,
    /// Shown by `docker info` below everything else.
    pub warnings: Vec<String>,
    /// Whether the daemon logs at debug level.
    pub debug: bool,
}

/// `POST /swarm/init`, checked.
#[derive(Clone, Debug)]
pub struct InitRequest {
    /// Where to listen; `None` keeps where the daemon listens already.
    pub listen: Option<AddressSpec>,
    /// What to tell others; never unspecified. `None` chooses.
    pub advertise: Option<AddressSpec>,
    /// The address of the data plane; never unspecified, without a port. `None` is the advertised one.
    pub data_path: Option<AddressSpec>,
    /// The UDP port of the data plane, 1024 to 49151.
    pub data_path_port: u16,
    /// Keep this node's state and make it the only manager.
    pub force_new_cluster: bool,
    /// The settings, complete: what the request left out has its default. `auto_lock` is merged in.
    pub spec: ClusterSpec,
    /// Whether this node takes tasks.
    pub availability: Availability,
    /// Pools in CIDR form, none overlapping; empty means the default.
    pub default_addr_pool: Vec<String>,
    /// Prefix length of subnets, at most 29.
    pub subnet_size: u32,
    /// A root to use instead of a new one: certificate and key, PEM.
    pub own_root: Option<(String, String)>,
}

/// `POST /swarm/join`, checked as far as it can be without the network.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// Where to listen; `None` keeps where the daemon listens already.
    pub listen: Option<AddressSpec>,
    /// What to tell others; never unspecified. `None` chooses.
    pub advertise: Option<AddressSpec>,
    /// The address of the data plane; never unspecified, without a port. `None` is the advertised one.
    pub data_path: Option<AddressSpec>,
    /// Members to ask, `host[:port]`; may be empty when the token carries some.
    pub remote_addrs: Vec<String>,
    /// The token, perhaps with addresses after an `@`.
    pub token: String,
    /// Whether this node takes tasks.
    pub availability: Availability,
}

/// Whether a manager answers, as its leader sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reachability {
    /// Not heard of yet.
    #[default]
    Unknown,
    /// Dead.
    Unreachable,
    /// Alive.
    Reachable,
}

/// Everything that the API shows of the cluster, at one moment.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// The objects.
    pub state: Arc<State>,
    /// Who leads.
    pub leader: NodeId,
    /// Who votes, the leader included.
    pub managers: BTreeMap<NodeId, Reachability>,
    /// What is observed of each node; one that is missing is unknown.
    pub statuses: BTreeMap<NodeId, NodeStatus>,
    /// What nodes have said of tasks; the later of it and what is written down holds.
    pub observed: Observed,
}

impl ClusterView {
    /// How far a task is.
    pub fn status_of(&self, task: &Task) -> TaskStatus {
        match self.observed.get(&task.id) {
            Some(seen) => task.status.clone().merge(seen.clone()),
            None => task.status.clone(),
        }
    }
}

/// `POST /swarm/update`, checked.
#[derive(Clone, Debug)]
pub struct ClusterUpdate {
    /// The settings, complete. A higher `force_rotate` than the stored one asks for another root.
    pub spec: ClusterSpec,
    /// Replace the worker token's secret.
    pub rotate_worker: bool,
    /// Replace the manager token's secret.
    pub rotate_manager: bool,
    /// Replace the peer token's secret.
    pub rotate_peer: bool,
    /// Replace the unlock key.
    pub rotate_unlock_key: bool,
    /// The root to rotate to: certificate and key, PEM. `None` keeps, or makes one.
    pub own_root: Option<(String, String)>,
}

/// Something that happened to an object of the cluster, or of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `node`, `service`, `network`, `secret`, `config`; of a machine `container`, `image`, `volume`.
    pub kind: String,
    /// `create`, `update`, `remove`.
    pub action: String,
    /// The object's ID.
    pub actor: String,
    /// `name`, and the old and new values of what changed (`availability.old`, `availability.new`, …).
    pub attributes: BTreeMap<String, String>,
    /// When the leader saw it. Rises strictly from one event of a leader to its next.
    pub time: Timestamp,
}

/// What one node knows of the cluster's health without asking anyone: `skein status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Whom this node believes to lead.
    pub leader: Option<NodeId>,
    /// Since which term.
    pub term: u64,
    /// Who votes, as far as this node knows; empty when it holds no replica.
    pub voters: Vec<NodeId>,
    /// Standbys.
    pub learners: Vec<NodeId>,
    /// Every peer that gossip knows, this node included.
    pub peers: Vec<PeerStatus>,
}

/// One peer as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub node: NodeId,
    /// Its hostname; empty until it has said so.
    pub hostname: String,
    /// Where it can be reached, best first.
    pub addresses: Vec<SocketAddr>,
    /// Whether it may vote.
    pub standing: Standing,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether it is alive.
    pub alive: bool,
    /// For how long that has been so.
    pub since: Duration,
    /// Term and index of the last entry of its log, when it holds a replica.
    pub last_log: Option<(u64, u64)>,
    /// Skein's version on it.
    pub engine_version: String,
}

/// A task that is moved, or would be, from where a service has many to where it has few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedMove {
    /// Of which service.
    pub service: ServiceId,
    /// The service's name.
    pub name: String,
    /// Its place in the service.
    pub slot: String,
    /// Which.
    pub task: TaskId,
    /// Where it is: ID and name of the node.
    pub from: (NodeId, String),
    /// Where it goes.
    pub to: (NodeId, String),
    /// What that makes better, in words.
    pub why: String,
}

/// What is moved when all services are made even.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebalance {
    /// Service by service, in this order.
    pub moves: Vec<PlannedMove>,
    /// There are more than are named.
    pub more: bool,
}

/// What containers that are no tasks take on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// How many there are.
    pub containers: u64,
    /// The processors that they may use, in billionths.
    pub nano_cpus: i64,
    /// The memory that they may use, bytes.
    pub memory_bytes: i64,
}

/// A place for one container that is no task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The processors that it is to have, in billionths.
    pub nano_cpus: i64,
    /// The memory that it is to have, bytes.
    pub memory_bytes: i64,
    /// `key==value` or `key!=value`; all must hold.
    pub constraints: Vec<String>,
    /// What such containers take already; the leader does not know of them.
    pub load: BTreeMap<NodeId, Load>,
}

/// What an image is built for, as Go names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImagePlatform {
    /// `amd64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// A kind of the architecture; empty when it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// What the name of an image stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// A manifest's or an index's.
    pub media_type: String,
    /// Its digest, `sha256:…`.
    pub digest: String,
    /// Its length, bytes.
    pub size: u64,
    /// What there is an image for.
    pub platforms: Vec<ImagePlatform>,
}

/// A stream of bytes to another node.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Where the leader is.
pub enum Route {
    /// On this node.
    Here(Arc<dyn Leader>),
    /// There, at the other end of this stream, which takes one HTTP/1.1 request for the leader's
    /// [`forwarded_router`](super::forwarded_router).
    There(NodeId, Box<dyn Io>),
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(_) => f.write_str("Here"),
            Self::There(node, _) => write!(f, "There({node})"),
        }
    }
}

/// What the API asks of the node that it runs on. No method waits for longer than it says.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// This node; never waits.
    fn local(&self) -> Local;

    /// What this node knows of its cluster; never waits.
    fn status(&self) -> ClusterStatus;

    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Makes a cluster of this node, or (`force_new_cluster`) of what is left. Within 20 s.
    async fn init(&self, request: InitRequest) -> Result<NodeId, Refusal>;

    /// Joins a cluster. Docker's client waits 20 s; after that the refusal says that joining goes on in the background.
    async fn join(&self, request: JoinRequest) -> Result<(), Refusal>;

    /// Leaves the cluster and forgets it. Within 20 s.
    async fn leave(&self, force: bool) -> Result<(), Refusal>;

    /// Unlocks a locked replica. Within 20 s.
    async fn unlock(&self, key: String) -> Result<(), Refusal>;

    /// Brings a cluster back that has lost its quorum, from this node; words for the user. Within 30 s.
    async fn recover(&self) -> Result<String, Refusal>;

    /// What the name of an image stands for, by its registry or else by a node that holds it; `auth` is what the client
    /// sent as `X-Registry-Auth`. Within 25 s.
    async fn distribution(&self, image: &str, auth: &str) -> Result<Distribution, Refusal>;

    /// Finds the leader: waits up to a few seconds for one, then [`Refusal::no_leader`].
    async fn leader(&self) -> Result<Route, Refusal>;

    /// The containers of this machine.
    fn containers(&self) -> Arc<dyn Containers>;

    /// A stream to another node, which takes one HTTP/1.1 request for its
    /// [`forwarded_router`](super::forwarded_router). Within 5 s.
    async fn node(&self, node: NodeId) -> Result<Box<dyn Io>, Refusal>;

    /// Whom this node believes to lead, as it changes. A request that waits for a leader which is no longer the one
    /// is given up and asked of the next at once. Without it (a hint that never changes) the request waits for its
    /// deadline.
    fn leader_hint(&self) -> watch::Receiver<Option<NodeId>> {
        watch::channel(None).1
    }

    /// What has happened on this machine since a time (inclusive), as far as it is kept, and what is to come. `None`:
    /// only what is to come.
    fn happenings(&self, _since: Option<Timestamp>) -> (Vec<Event>, BoxStream<'static, Event>) {
        (Vec::new(), stream::pending().boxed())
    }

    /// This machine's images. Never waits; 503 in the engine's words while nothing keeps images here.
    fn images(&self) -> Result<Arc<dyn ImageStore>, Refusal>;

    /// This machine's volumes; as [`Backend::images`].
    fn volumes(&self) -> Result<Arc<dyn VolumeStore>, Refusal>;
}

/// What the API asks of the leader, on the node that leads. No method waits for longer than 10 s.
#[async_trait]
pub trait Leader: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Everything, linearizable: includes each write that was acknowledged before the call.
    async fn view(&self) -> Result<ClusterView, Refusal>;

    /// Changes the cluster object if it still stands at `version`, else [`Refusal::out_of_sequence`].
    async fn update_cluster(&self, version: u64, update: ClusterUpdate) -> Result<(), Refusal>;

    /// Changes a node if it still stands at `version`. `role` pins a role when it differs from
    /// [`Node::role`](crate::model::Node::role); when it is the same, nothing is pinned that was not.
    async fn update_node(
        &self,
        node: NodeId,
        version: u64,
        spec: NodeSpec,
        role: Role,
    ) -> Result<(), Refusal>;

    /// Removes a node for good. Without `force` only one that is down.
    async fn remove_node(&self, node: NodeId, force: bool) -> Result<(), Refusal>;

    /// Creates a service. The spec is one that may be stored as it is; the name must be nobody else's.
    async fn create_service(
        &self,
        spec: ServiceSpec,
        registry_auth: Secret,
    ) -> Result<ServiceId, Refusal>;

    /// Changes a service if it still stands at `version`, else [`Refusal::out_of_sequence`].
    async fn update_service(
        &self,
        service: ServiceId,
        version: u64,
        update: ServiceUpdate,
    ) -> Result<(), Refusal>;

    /// Removes a service; its tasks end by and by.
    async fn remove_service(&self, service: ServiceId) -> Result<(), Refusal>;

    /// Makes a secret or a config. The spec is one that may be stored as it is; the name must be no other's of its kind.
    async fn create_dependency(
        &self,
        kind: DependencyKind,
        spec: DependencySpec,
    ) -> Result<DependencyId, Refusal>;

    /// Gives a secret or a config other labels if it still stands at `version`, else [`Refusal::out_of_sequence`].
    /// Another name or other bytes are refused; bytes that are left out stay.
    async fn update_dependency(
        &self,
        id: DependencyId,
        version: u64,
        spec: DependencySpec,
    ) -> Result<(), Refusal>;

    /// Removes a secret or a config that no service names.
    async fn remove_dependency(&self, id: DependencyId) -> Result<(), Refusal>;

    /// Makes a network. The spec is one that may be stored as it is; the name must be no other network's.
    async fn create_network(&self, spec: NetworkSpec) -> Result<NetworkId, Refusal>;

    /// Removes a network that nobody is attached to.
    async fn remove_network(&self, id: NetworkId) -> Result<(), Refusal>;

    /// Has the tasks of every service spread evenly, once: begins with it and returns. With `dry_run` nothing is begun.
    async fn rebalance(&self, dry_run: bool) -> Result<Rebalance, Refusal>;

    /// The node for a container that is no task, by the scheduler.
    async fn place(&self, wish: Wish) -> Result<NodeId, Refusal>;

    /// The unlock key, `SWMKEY-1-…`; empty when autolock is off.
    async fn unlock_key(&self) -> Result<String, Refusal>;

    /// The events since a time (inclusive), as far as they are kept, and those to come. `None`: only those to come.
    /// The receiver closes when the node leads no more.
    fn events(&self, since: Option<Timestamp>) -> (Vec<Event>, broadcast::Receiver<Event>);
}
