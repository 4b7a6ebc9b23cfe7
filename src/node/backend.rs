//! What the API asks of this node, answered by the [`Daemon`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock;
use super::containers::LocalContainers;
use super::daemon::{ChangeError, Daemon, JoinOrder, Situation};
use super::distribution;
use super::execs::Execs;
use super::found;
use super::member::Member;
use super::placement::{self, PlaceError};
use crate::agent::happenings::Happening;
use crate::api::backend::containers::Containers;
use crate::api::backend::{
    Backend, ClusterStatus, ClusterUpdate, ClusterView, Distribution, Event, ImageStore,
    InitRequest, Io, JoinRequest, Leader, Local, LocalState, PeerStatus, PlannedMove, Reachability,
    Rebalance, Refusal, RefusalClass, Route, VolumeStore, Wish,
};
use crate::config;
use crate::manager::AdminError;
use crate::manager::draft::View;
use crate::manager::settings::SettingsChange;
use crate::manager::term::Term;
use crate::model::cluster::Secret;
use crate::model::{
    AddressSpec, DependencyId, DependencyKind, DependencySpec, NetworkId, NetworkSpec, NodeId,
    NodeSpec, Role, ServiceId, ServiceSpec, ServiceUpdate, Standing, Timestamp,
};
use crate::wire::{DEFAULT_PORT, StreamKind};

/// A request waits this long for a leader before it is refused.
const LEADER_DEADLINE: Duration = Duration::from_secs(5);

/// A leader that is asked something answers a probe within this, or is taken for dead.
const LEADER_PROBE: Duration = Duration::from_millis(300);

/// Another node takes a request within this, or is away.
const NODE_DEADLINE: Duration = Duration::from_secs(5);

/// The pause between two looks for a leader.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// The daemon, as the API sees it.
#[derive(Clone, Debug)]
pub struct DaemonBackend {
    daemon: Arc<Daemon>,
    execs: Arc<Execs>,
}

impl DaemonBackend {
    /// Of this daemon. What runs for it runs on `tracker` until `stop`.
    pub fn new(daemon: Arc<Daemon>, tracker: TaskTracker, stop: CancellationToken) -> Self {
        let execs = Arc::new(Execs::new(tracker, stop));
        Self { daemon, execs }
    }
}

fn event(happening: Happening) -> Event {
    Event {
        kind: happening.kind.to_owned(),
        action: happening.action,
        actor: happening.actor,
        attributes: happening.attributes,
        time: happening.at,
    }
}

#[async_trait]
impl Backend for DaemonBackend {
    fn local(&self) -> Local {
        let situation = self.daemon.situation().borrow().clone();
        let base = Local {
            description: self.daemon.engine.describe(&self.daemon.config.labels),
            warnings: self.daemon.engine.warnings(),
            data_root: self.daemon.data_root(),
            ..Local::default()
        };
        match situation {
            Situation::Inactive => base,
            Situation::Pending => Local {
                state: LocalState::Pending,
                ..base
            },
            Situation::Failed(error) => Local {
                state: LocalState::Error,
                error,
                ..base
            },
            Situation::Active(member) => Local {
                node: Some(member.node),
                state: LocalState::Active,
                control: member.standing == Standing::Eligible,
                addr: member.addresses().first().copied(),
                remote_managers: managers(&member),
                ..base
            },
        }
    }

    fn status(&self) -> ClusterStatus {
        self.daemon
            .member()
            .map_or_else(ClusterStatus::default, |member| status(&member))
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    async fn init(&self, request: InitRequest) -> Result<NodeId, Refusal> {
        if request.force_new_cluster && self.daemon.member().is_some() {
            self.daemon.recover(false).await.map_err(refuse)?;
            return self
                .daemon
                .member()
                .map(|member| member.node)
                .ok_or_else(Refusal::no_leader);
        }
        let order = found::Order {
            listen: listen(request.listen, self.daemon.config.listen_addr)?,
            advertise: resolve(request.advertise, self.daemon.config.listen_addr)?,
            spec: request.spec,
            availability: request.availability,
            address_pools: request.default_addr_pool,
            subnet_size: request.subnet_size,
            data_path_port: request.data_path_port,
            own_root: request.own_root,
        };
        self.daemon.init(order).await.map_err(refuse)
    }

    async fn join(&self, request: JoinRequest) -> Result<(), Refusal> {
        let order = JoinOrder {
            token: request.token,
            hosts: request.remote_addrs,
            listen: listen(request.listen, self.daemon.config.listen_addr)?,
            advertise: resolve(request.advertise, self.daemon.config.listen_addr)?,
            availability: request.availability,
        };
        self.daemon.join(order).await.map_err(refuse)
    }

    async fn leave(&self, force: bool) -> Result<(), Refusal> {
        self.daemon.leave(force).await.map_err(refuse)
    }

    async fn unlock(&self, _key: String) -> Result<(), Refusal> {
        Err(Refusal::conflict("swarm is not locked"))
    }

    async fn recover(&self) -> Result<String, Refusal> {
        self.daemon.recover(true).await.map_err(refuse)
    }

    fn containers(&self) -> Arc<dyn Containers> {
        Arc::new(LocalContainers {
            engine: self.daemon.engine.clone(),
            execs: self.execs.clone(),
            node: self.daemon.member().map(|member| member.node),
        })
    }

    async fn node(&self, node: NodeId) -> Result<Box<dyn Io>, Refusal> {
        let away = || Refusal::unavailable(format!("node {node} cannot be reached"));
        let member = self.daemon.member().ok_or_else(away)?;
        let opened = timeout(NODE_DEADLINE, member.transport.open(node, StreamKind::Api));
        match opened.await {
            Ok(Ok(stream)) => Ok(Box::new(stream.into_io())),
            Ok(Err(_)) | Err(_) => Err(away()),
        }
    }

    async fn distribution(&self, image: &str, auth: &str) -> Result<Distribution, Refusal> {
        distribution::of(&self.daemon.engine, image, auth).await
    }

    fn leader_hint(&self) -> watch::Receiver<Option<NodeId>> {
        self.daemon.leader()
    }

    fn happenings(&self, since: Option<Timestamp>) -> (Vec<Event>, BoxStream<'static, Event>) {
        let (past, live) = self.daemon.engine.happenings.subscribe(since);
        let live = stream::unfold(live, |mut live| async move {
            loop {
                match live.recv().await {
                    Ok(happening) => return Some((event(happening), live)),
                    // This reader is slow: the oldest are lost to it.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        (past.into_iter().map(event).collect(), live.boxed())
    }

    fn images(&self) -> Result<Arc<dyn ImageStore>, Refusal> {
        self.daemon.engine.image_store()
    }

    fn volumes(&self) -> Result<Arc<dyn VolumeStore>, Refusal> {
        self.daemon.engine.volume_store()
    }

    async fn leader(&self) -> Result<Route, Refusal> {
        let member = self.daemon.member().ok_or_else(Refusal::no_leader)?;
        let deadline = Instant::now() + LEADER_DEADLINE;
        while Instant::now() < deadline {
            let term = member.term.borrow().clone();
            if let Some(term) = term {
                return Ok(Route::Here(Arc::new(LeaderHandle {
                    member: member.clone(),
                    term,
                })));
            }
            if let Some(route) = route_to_other(&member).await {
                return Ok(route);
            }
            sleep(LOOK_AGAIN).await;
        }
        Err(Refusal::no_leader())
    }
}

/// A stream to the leader, when it is another node and answers.
///
/// The probe costs one round trip and saves a request from being sent to a connection whose other end has died.
async fn route_to_other(member: &Member) -> Option<Route> {
    let leader = member.leader.borrow().map(|hint| hint.leader)?;
    if leader == member.node || !member.transport.probe(leader, LEADER_PROBE).await {
        return None;
    }
    let stream = member.transport.open(leader, StreamKind::Api).await.ok()?;
    Some(Route::There(leader, Box::new(stream.into_io())))
}

/// The leader's side of the API.
#[derive(Debug)]
struct LeaderHandle {
    member: Arc<Member>,
    term: Arc<Term>,
}

#[async_trait]
impl Leader for LeaderHandle {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    async fn view(&self) -> Result<ClusterView, Refusal> {
        let state = self.term.read().await.map_err(admin_refusal)?;
        let quorum = self.term.quorum();
        let managers = quorum
            .voters
            .iter()
            .map(|voter| {
                let alive = quorum
                    .candidates
                    .get(voter)
                    .is_some_and(|candidate| candidate.alive);
                let reach = if alive {
                    Reachability::Reachable
                } else {
                    Reachability::Unreachable
                };
                (*voter, reach)
            })
            .collect();
        let mut statuses = BTreeMap::clone(&self.term.statuses().borrow());
        for (node, status) in &mut statuses {
            let told = state
                .nodes
                .get(node)
                .and_then(|node| node.addresses.first());
            status.addr = told.copied().or(status.addr);
        }
        Ok(ClusterView {
            state,
            leader: self.member.node,
            managers,
            statuses,
            observed: self.term.observed(),
        })
    }

    async fn update_cluster(&self, version: u64, update: ClusterUpdate) -> Result<(), Refusal> {
        let wanted = SettingsChange {
            spec: update.spec,
            rotate_worker: update.rotate_worker,
            rotate_manager: update.rotate_manager,
            rotate_peer: update.rotate_peer,
            rotate_unlock_key: update.rotate_unlock_key,
            own_root: update.own_root,
        };
        self.term
            .update_cluster(version, wanted)
            .await
            .map_err(admin_refusal)
    }

    async fn update_node(
        &self,
        node: NodeId,
        version: u64,
        spec: NodeSpec,
        role: Role,
    ) -> Result<(), Refusal> {
        self.term
            .update_node(node, version, spec, role)
            .await
            .map_err(admin_refusal)
    }

    async fn remove_node(&self, node: NodeId, force: bool) -> Result<(), Refusal> {
        self.term
            .remove_node(node, force)
            .await
            .map_err(admin_refusal)
    }

    async fn create_service(
        &self,
        spec: ServiceSpec,
        registry_auth: Secret,
    ) -> Result<ServiceId, Refusal> {
        let created = self.term.create_service(spec, registry_auth);
        created.await.map_err(admin_refusal)
    }

    async fn update_service(
        &self,
        service: ServiceId,
        version: u64,
        update: ServiceUpdate,
    ) -> Result<(), Refusal> {
        let updated = self.term.update_service(service, version, update);
        updated.await.map_err(admin_refusal)
    }

    async fn remove_service(&self, service: ServiceId) -> Result<(), Refusal> {
        let removed = self.term.remove_service(service);
        removed.await.map_err(admin_refusal)
    }

    async fn create_dependency(
        &self,
        kind: DependencyKind,
        spec: DependencySpec,
    ) -> Result<DependencyId, Refusal> {
        let created = self.term.create_dependency(kind, spec);
        created.await.map_err(admin_refusal)
    }

    async fn update_dependency(
        &self,
        id: DependencyId,
        version: u64,
        spec: DependencySpec,
    ) -> Result<(), Refusal> {
        let updated = self.term.update_dependency(id, version, spec);
        updated.await.map_err(admin_refusal)
    }

    async fn remove_dependency(&self, id: DependencyId) -> Result<(), Refusal> {
        let removed = self.term.remove_dependency(id);
        removed.await.map_err(admin_refusal)
    }

    async fn create_network(&self, spec: NetworkSpec) -> Result<NetworkId, Refusal> {
        let created = self.term.create_network(spec);
        created.await.map_err(admin_refusal)
    }

    async fn remove_network(&self, id: NetworkId) -> Result<(), Refusal> {
        let removed = self.term.remove_network(id);
        removed.await.map_err(admin_refusal)
    }

    async fn rebalance(&self, dry_run: bool) -> Result<Rebalance, Refusal> {
        let even = self.term.rebalance(dry_run).await.map_err(admin_refusal)?;
        let moves = even.moves.into_iter().map(|planned| PlannedMove {
            service: planned.step.service,
            name: planned.name,
            slot: planned.step.slot.to_string(),
            task: planned.step.task,
            from: (planned.step.from, planned.from),
            to: (planned.step.to, planned.to),
            why: planned.why,
        });
        Ok(Rebalance {
            moves: moves.collect(),
            more: even.is_cut,
        })
    }

    async fn place(&self, wish: Wish) -> Result<NodeId, Refusal> {
        let state = self.term.read().await.map_err(admin_refusal)?;
        let now = clock::now();
        let view = View {
            state,
            observed: self.term.observed(),
            nodes: self.term.statuses().borrow().clone(),
            now,
        };
        placement::choose(view, &wish, now.nanos() as u64).map_err(|error| match error {
            PlaceError::NoNode(words) => Refusal::unavailable(words),
            PlaceError::Impossible(rejection) => Refusal::invalid(rejection.to_string()),
        })
    }

    async fn unlock_key(&self) -> Result<String, Refusal> {
        let state = self.term.read().await.map_err(admin_refusal)?;
        Ok(state
            .cluster
            .as_ref()
            .map(|cluster| cluster.unlock_key.0.clone())
            .unwrap_or_default())
    }

    fn events(&self, since: Option<Timestamp>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        self.member.events.subscribe(since)
    }
}

fn admin_refusal(error: AdminError) -> Refusal {
    match error {
        AdminError::Invalid(words) => Refusal::invalid(words),
        AdminError::Conflict(words) => Refusal::conflict(words),
        AdminError::Unsupported(words) => Refusal::new(RefusalClass::NotImplemented, words),
        AdminError::NoSuchNode(_) | AdminError::NoSuchService(_) | AdminError::NotFound(_) => {
            Refusal::not_found(error.to_string())
        }
        AdminError::Forbidden(words) => Refusal::new(RefusalClass::Forbidden, words),
        AdminError::OutOfSequence => Refusal::out_of_sequence(),
        AdminError::NoLeader => Refusal::no_leader(),
        AdminError::Unconfirmed => Refusal::new(RefusalClass::Unconfirmed, error.to_string()),
        AdminError::Internal(words) => Refusal::internal(words),
    }
}

fn refuse(error: ChangeError) -> Refusal {
    let class = match &error {
        ChangeError::AlreadyMember
        | ChangeError::NotMember
        | ChangeError::Slow
        | ChangeError::Leave(_)
        | ChangeError::Recover(_)
        | ChangeError::Join(_) => RefusalClass::Unavailable,
        ChangeError::Token(_) | ChangeError::Found(_) => RefusalClass::Invalid,
        ChangeError::Start(_) | ChangeError::Files(_) => RefusalClass::Internal,
    };
    Refusal::new(class, error.to_string())
}

/// The managers that a node knows: voters where it holds a replica, else the eligible peers that gossip shows.
fn managers(member: &Member) -> Vec<(NodeId, SocketAddr)> {
    let peers = member.peers();
    let voters = member
        .store
        .as_ref()
        .map(|store| store.replicas().borrow().voters.clone());
    let voters = voters.filter(|voters| !voters.is_empty());
    peers
        .nodes
        .iter()
        .filter(|(node, view)| match &voters {
            Some(voters) => voters.contains(node),
            None => view.facts.standing == Standing::Eligible,
        })
        .filter_map(|(node, view)| Some((*node, *view.facts.addresses.first()?)))
        .collect()
}

fn status(member: &Member) -> ClusterStatus {
    let hint = *member.leader.borrow();
    let replicas = member
        .store
        .as_ref()
        .map(|store| store.replicas().borrow().clone());
    let now = Instant::now();
    let peers = member.peers();
    let peers = peers
        .nodes
        .iter()
        .map(|(node, view)| PeerStatus {
            node: *node,
            hostname: view
                .facts
                .description
                .as_ref()
                .map(|d| d.hostname.clone())
                .unwrap_or_default(),
            addresses: view.facts.addresses.clone(),
            standing: view.facts.standing,
            phase: view.facts.phase,
            alive: peers.is_alive(*node),
            since: now.saturating_duration_since(view.since),
            last_log: match &replicas {
                Some(replicas) if *node == member.node => replicas.last_log,
                Some(_) | None => view.facts.last_log,
            },
            engine_version: view
                .facts
                .description
                .as_ref()
                .map(|d| d.engine_version.clone())
                .unwrap_or_default(),
        })
        .collect();
    ClusterStatus {
        leader: hint.map(|hint| hint.leader),
        term: hint.map_or(0, |hint| hint.term),
        voters: replicas
            .iter()
            .flat_map(|replicas| replicas.voters.iter().copied())
            .collect(),
        learners: replicas
            .iter()
            .flat_map(|replicas| replicas.learners.iter().copied())
            .collect(),
        peers,
    }
}

/// Where to listen. Docker's client always sends its default, which leaves the daemon's own setting as it is.
fn listen(spec: Option<AddressSpec>, own: SocketAddr) -> Result<Option<SocketAddr>, Refusal> {
    let default = SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT));
    Ok(resolve(spec, own)?.filter(|addr| *addr != default))
}

/// An address as a user gives it: an IP address or an interface's name, perhaps with a port.
fn resolve(spec: Option<AddressSpec>, bound: SocketAddr) -> Result<Option<SocketAddr>, Refusal> {
    let Some(spec) = spec else { return Ok(None) };
    let port = if bound.port() == 0 {
        DEFAULT_PORT
    } else {
        bound.port()
    };
    config::resolve(&spec, port)
        .map(Some)
        .map_err(|error| Refusal::invalid(error.to_string()))
}
