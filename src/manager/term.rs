//! One term of leadership: everything that is the leader's while it leads, and nothing longer.
//!
//! Made by [`lead`](super::lead) when this node is elected; dropping its token ends every task of it. Requests that
//! arrive for the leader (join, certificate, leave, sessions, settings) are methods here: each reads a linearizable
//! state, lets a pure part decide, and commits before it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use rand::Rng;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::admission::{self, Admitted};
use super::dispatch::{Routed, Sessions};
use super::draft::View;
use super::picture::Picture;
use super::rebalance::{self, Even};
use super::settings::SettingsChange;
use super::status::News;
use super::{AdminError, dependencies, dirt, networks, nodes, services, settings, voters};
use crate::cluster::membership::Peers;
use crate::cluster::quorum::{self, QuorumView};
use crate::cluster::store::{ProposeError, ReadError, State, Store};
use crate::identity::attempts::Attempts;
use crate::identity::token::{admits, new_secret};
use crate::model::cluster::Secret;
use crate::model::{
    Change, DependencyId, DependencyKind, DependencySpec, NetworkId, NetworkSpec, NodeId, NodeSpec,
    NodeState, NodeStatus, Observed, Proposal, Role, ServiceId, ServiceSpec, ServiceUpdate,
    Timestamp,
};
use crate::wire::control::{ControlReply, ControlRequest};
use crate::wire::join::{Admission, JoinBody, JoinReply};

/// News of nodes waiting for the status board; a burst of every node of a large cluster fits.
pub(super) const NEWS_CAPACITY: usize = 4096;

/// A change that loses a race for an object's version is planned again this often.
const PLAN_ATTEMPTS: usize = 5;

/// Members whose addresses a new node is told.
const PEERS_TOLD: usize = 32;

/// What the leader's work needs of its node.
#[derive(Clone)]
pub struct LeaderContext {
    /// This node.
    pub node: NodeId,
    /// The replicated store.
    pub store: Store,
    /// Gossip's view.
    pub peers: watch::Receiver<Arc<Peers>>,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
}

impl std::fmt::Debug for LeaderContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaderContext")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// All nodes' statuses.
pub type Statuses = Arc<BTreeMap<NodeId, NodeStatus>>;

/// The leader's work in one term.
#[derive(Debug)]
pub struct Term {
    /// Raft's term.
    pub number: u64,
    /// When this node took it up.
    pub(super) began: Instant,
    pub(super) context: LeaderContext,
    pub(super) statuses: watch::Sender<Statuses>,
    pub(super) news: mpsc::Sender<(NodeId, News)>,
    /// What nodes have said of their tasks.
    pub(super) picture: watch::Sender<Picture>,
    pub(super) sessions: Sessions,
    /// What sessions tell of; `None` until the term has looked at the state.
    pub(super) routed: watch::Sender<Option<Routed>>,
    pub(super) token: CancellationToken,
    pub(super) tracker: TaskTracker,
    attempts: Mutex<Attempts>,
}

impl Term {
    pub(super) fn new(
        number: u64,
        context: LeaderContext,
        token: CancellationToken,
    ) -> (Arc<Self>, mpsc::Receiver<(NodeId, News)>) {
        let (news, incoming) = mpsc::channel(NEWS_CAPACITY);
        let term = Self {
            number,
            began: Instant::now(),
            context,
            statuses: watch::channel(Statuses::default()).0,
            news,
            picture: watch::channel(Picture::default()).0,
            sessions: Sessions::default(),
            routed: watch::channel(None).0,
            token,
            tracker: TaskTracker::new(),
            attempts: Mutex::new(Attempts::new()),
        };
        (Arc::new(term), incoming)
    }

    /// Whether the term has ended, and all of its work with it.
    #[cfg(test)]
    pub(crate) fn is_over(&self) -> bool {
        self.token.is_cancelled() && self.tracker.is_empty()
    }

    /// How every node is seen, as it changes.
    pub fn statuses(&self) -> watch::Receiver<Statuses> {
        self.statuses.subscribe()
    }

    /// The state as of now: no write that was acknowledged before the call is missing.
    pub async fn read(&self) -> Result<Arc<State>, AdminError> {
        self.within(self.context.store.read())
            .await
            .ok_or(AdminError::NoLeader)?
            .map_err(|error| match error {
                ReadError::NotLeader(_) | ReadError::NoQuorum | ReadError::Stopped(_) => {
                    AdminError::NoLeader
                }
            })
    }

    /// Does a step of this term's work. Once the term is over nothing is begun and nothing is waited for any more,
    /// even if this node leads again: what an old term was asked was planned for another time.
    async fn within<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        self.token.run_until_cancelled(Box::pin(step)).await
    }

    /// Who votes, who could, and who of them answers.
    pub fn quorum(&self) -> QuorumView {
        voters::view(
            self,
            &self.context.store.watch().borrow().clone(),
            &self.context.peers.borrow().clone(),
            &self.context.store.replicas().borrow().clone(),
            Instant::now(),
        )
    }

    /// Answers a request of another member.
    pub async fn control(&self, from: NodeId, request: ControlRequest) -> ControlReply {
        match request {
            ControlRequest::Join { from: source, body } => {
                ControlReply::Join(self.join(source, &body).await)
            }
            ControlRequest::Certificate { csr_der } => {
                ControlReply::Join(self.certificate(&csr_der).await)
            }
            ControlRequest::Leave { node } if node == from => match self.leave(node).await {
                Ok(()) => ControlReply::Done,
                Err(error) => ControlReply::Refused(error.to_string()),
            },
            ControlRequest::Leave { .. } => {
                ControlReply::Refused("a node can only announce its own leave".into())
            }
        }
    }

    /// Lets a stranger in, or says why not.
    pub async fn join(&self, source: SocketAddr, body: &JoinBody) -> JoinReply {
        if !self
            .attempts
            .lock()
            .await
            .may_try(source.ip(), Instant::now().into_std())
        {
            warn!(%source, "join refused: too many wrong tokens");
            return JoinReply::Refused(format!(
                "too many wrong join tokens were tried from {}: wait a minute and try again",
                source.ip()
            ));
        }
        let state = match self.read().await {
            Ok(state) => state,
            Err(error) => return JoinReply::Later(error.to_string()),
        };
        let Some(cluster) = state.cluster.clone() else {
            return JoinReply::Later("the cluster is not set up yet".into());
        };
        let Some(kind) = admits(&cluster.join, &body.secret) else {
            self.attempts
                .lock()
                .await
                .failed(source.ip(), Instant::now().into_std());
            warn!(%source, "join refused: wrong token");
            return JoinReply::Refused(
                "A valid join token is necessary to join this cluster".into(),
            );
        };
        let plan = |state: &State, now| admission::admit(state, &cluster, kind, body, now);
        let reply = self.grant(plan).await;
        if let JoinReply::Admitted(admission) = &reply {
            info!(node = %admission.node, %source, ?kind, "node admitted");
        }
        reply
    }

    /// Issues a certificate for a member's key.
    pub async fn certificate(&self, csr_der: &[u8]) -> JoinReply {
        let plan = |state: &State, now| {
            let cluster = state.cluster.clone().unwrap_or_default();
            admission::renew(state, &cluster, csr_der, now)
        };
        self.grant(plan).await
    }

    /// Commits what `plan` admits, then hands the certificate out.
    async fn grant(
        &self,
        plan: impl Fn(&State, Timestamp) -> Result<Admitted, admission::AdmissionError>,
    ) -> JoinReply {
        for _ in 0..PLAN_ATTEMPTS {
            let state = match self.read().await {
                Ok(state) => state,
                Err(error) => return JoinReply::Later(error.to_string()),
            };
            let Some(cluster) = state.cluster.clone() else {
                return JoinReply::Later("the cluster is not set up yet".into());
            };
            let admitted = match plan(&state, (self.context.clock)()) {
                Ok(admitted) => admitted,
                Err(error) => {
                    warn!(error = %error, "certificate refused");
                    return JoinReply::Refused(error.to_string());
                }
            };
            match self.commit(vec![admitted.change]).await {
                Ok(_) => {}
                Err(AdminError::OutOfSequence) => continue,
                // To be let in twice is to be let in.
                Err(error @ (AdminError::NoLeader | AdminError::Unconfirmed)) => {
                    return JoinReply::Later(error.to_string());
                }
                Err(error) => return JoinReply::Refused(error.to_string()),
            }
            return JoinReply::Admitted(Box::new(Admission {
                cluster: cluster.id,
                node: admitted.issued.node,
                standing: admitted.standing,
                chain_pem: admitted.issued.chain_pem,
                roots_pem: admission::trusted_roots(&cluster),
                peers: self.known_peers(),
            }));
        }
        JoinReply::Later("the cluster is busy: try again".into())
    }

    fn known_peers(&self) -> Vec<(NodeId, Vec<SocketAddr>)> {
        let peers = self.context.peers.borrow().clone();
        peers
            .nodes
            .iter()
            .filter(|(node, view)| peers.is_alive(**node) && !view.facts.addresses.is_empty())
            .take(PEERS_TOLD)
            .map(|(node, view)| (*node, view.facts.addresses.clone()))
            .collect()
    }

    /// Takes a node that leaves out of the voters, so that its going costs no quorum.
    ///
    /// That it has left it says in its session. When this is done it may have changed its mind, or started anew.
    pub async fn leave(&self, node: NodeId) -> Result<(), AdminError> {
        let view = self.quorum();
        quorum::may_remove(&view, node)
            .map_err(|refusal| AdminError::Invalid(refusal.to_string()))?;
        let mut voters = view.voters;
        if voters.remove(&node) {
            self.set_voters(voters).await?;
        }
        info!(%node, "node leaves");
        Ok(())
    }

    async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), AdminError> {
        self.within(self.context.store.set_voters(voters, false))
            .await
            .ok_or(AdminError::Unconfirmed)?
            .map_err(|error| AdminError::Internal(error.to_string()))
    }

    /// Changes the cluster's settings.
    pub async fn update_cluster(
        &self,
        version: u64,
        wanted: SettingsChange,
    ) -> Result<(), AdminError> {
        let state = self.read().await?;
        let change = settings::update(&state, version, wanted, (self.context.clock)(), new_secret)?;
        self.commit(vec![change]).await.map(drop)
    }

    /// Changes a node's spec and role.
    pub async fn update_node(
        &self,
        node: NodeId,
        version: u64,
        spec: NodeSpec,
        role: Role,
    ) -> Result<(), AdminError> {
        let state = self.read().await?;
        let change = nodes::update(&state, &self.quorum(), node, version, spec, role)?;
        self.commit(vec![change]).await.map(drop)
    }

    /// Removes a node for good.
    pub async fn remove_node(&self, node: NodeId, force: bool) -> Result<(), AdminError> {
        let state = self.read().await?;
        let seen = self
            .statuses
            .borrow()
            .get(&node)
            .map_or(NodeState::Unknown, |status| status.state);
        let change = nodes::remove(&state, &self.quorum(), node, seen, force)?;
        self.commit(vec![change]).await.map(drop)
    }

    /// Makes a service. What of it can run runs soon; see the leader's loop, [`work`](super::work).
    pub async fn create_service(
        &self,
        spec: ServiceSpec,
        registry_auth: Secret,
    ) -> Result<ServiceId, AdminError> {
        let state = self.read().await?;
        let id = ServiceId::from_bits(rand::rng().random());
        let name = spec.name.clone();
        let change = services::create(&state, id, spec, registry_auth, (self.context.clock)())?;
        self.commit(vec![change]).await?;
        info!(service = %id, name, "service created");
        Ok(id)
    }

    /// Changes a service, or takes it back to what it was.
    pub async fn update_service(
        &self,
        id: ServiceId,
        version: u64,
        update: ServiceUpdate,
    ) -> Result<(), AdminError> {
        let state = self.read().await?;
        let change = services::update(&state, id, version, update, (self.context.clock)())?;
        self.commit(vec![change]).await?;
        info!(service = %id, "service changed");
        Ok(())
    }

    /// Removes a service. It is gone to users at once, and its tasks end.
    pub async fn remove_service(&self, id: ServiceId) -> Result<(), AdminError> {
        for _ in 0..PLAN_ATTEMPTS {
            let change = services::remove(&*self.read().await?, id)?;
            match self.commit(vec![change]).await {
                Ok(_) => {
                    info!(service = %id, "service removed");
                    return Ok(());
                }
                // The loop writes the progress of updates into services.
                Err(AdminError::OutOfSequence) => {}
                Err(error) => return Err(error),
            }
        }
        Err(AdminError::OutOfSequence)
    }

    /// Makes a secret or a config.
    pub async fn create_dependency(
        &self,
        kind: DependencyKind,
        spec: DependencySpec,
    ) -> Result<DependencyId, AdminError> {
        let state = self.read().await?;
        let id = DependencyId::from_bits(rand::rng().random());
        let name = spec.name.clone();
        let change = dependencies::create(&state, id, kind, spec)?;
        self.commit(vec![change]).await?;
        info!(kind = kind.name(), %id, name, "secret or config created");
        Ok(id)
    }

    /// Gives a secret or a config other labels.
    pub async fn update_dependency(
        &self,
        id: DependencyId,
        version: u64,
        spec: DependencySpec,
    ) -> Result<(), AdminError> {
        let state = self.read().await?;
        let change = dependencies::update(&state, id, version, spec)?;
        self.commit(vec![change]).await.map(drop)
    }

    /// Removes a secret or a config that no service names.
    pub async fn remove_dependency(&self, id: DependencyId) -> Result<(), AdminError> {
        let change = dependencies::remove(&*self.read().await?, id)?;
        self.commit(vec![change]).await?;
        info!(%id, "secret or config removed");
        Ok(())
    }

    /// Makes a network.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<NetworkId, AdminError> {
        let state = self.read().await?;
        let id = NetworkId::from_bits(rand::rng().random());
        let name = spec.name.clone();
        let change = networks::create(&state, id, spec)?;
        self.commit(vec![change]).await?;
        info!(network = %id, name, "network created");
        Ok(id)
    }

    /// Removes a network that nobody is attached to.
    pub async fn remove_network(&self, id: NetworkId) -> Result<(), AdminError> {
        let change = networks::remove(&*self.read().await?, id)?;
        self.commit(vec![change]).await?;
        info!(network = %id, "network removed");
        Ok(())
    }

    /// Has every service made even once that is not, or with `dry_run` only says what would be moved. The leader's loop
    /// moves, and what there is to move it sees anew at each step.
    pub async fn rebalance(&self, dry_run: bool) -> Result<Even, AdminError> {
        let even = rebalance::look(&self.look(self.read().await?));
        if dry_run {
            return Ok(even);
        }
        for service in &even.services {
            self.ask_for_even(*service).await?;
        }
        info!(services = even.services.len(), "services are made even");
        Ok(even)
    }

    async fn ask_for_even(&self, service: ServiceId) -> Result<(), AdminError> {
        for _ in 0..PLAN_ATTEMPTS {
            let Some(change) = rebalance::ask(&*self.read().await?, service) else {
                return Ok(());
            };
            match self.commit(vec![change]).await {
                Err(AdminError::OutOfSequence) => {}
                done => return done.map(drop),
            }
        }
        Err(AdminError::OutOfSequence)
    }

    /// Everything that the leader's loop would look at, with this state.
    fn look(&self, state: Arc<State>) -> View {
        let picture = self.picture.borrow().clone();
        let statuses = self.statuses.borrow().clone();
        View {
            state,
            nodes: dirt::as_heard(&statuses, &picture.heard),
            observed: picture.observed,
            now: (self.context.clock)(),
        }
    }

    /// The nodes that have told of all their tasks in this term.
    #[cfg(test)]
    pub(crate) fn heard(&self) -> BTreeSet<NodeId> {
        self.picture.borrow().heard.iter().copied().collect()
    }

    /// What nodes have said of their tasks in this term: merged with what is durable, how each of them is.
    pub fn observed(&self) -> Observed {
        self.picture.borrow().observed.clone()
    }

    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<u64, AdminError> {
        let proposal = Proposal {
            at: (self.context.clock)(),
            changes,
        };
        self.within(self.context.store.propose(proposal))
            .await
            .ok_or(AdminError::Unconfirmed)?
            .map_err(|error| match error {
                ProposeError::Rejected(rejection) => rejection.into(),
                ProposeError::NotLeader(_) => AdminError::NoLeader,
                ProposeError::TooLong(_) => AdminError::Invalid(error.to_string()),
                ProposeError::NoQuorum
                | ProposeError::LeaderChanged(_)
                | ProposeError::Stopped(_) => AdminError::Unconfirmed,
                ProposeError::Encode(_) => AdminError::Internal(error.to_string()),
            })
    }

    pub(super) async fn tell(&self, node: NodeId, news: News) {
        if self.news.send((node, news)).await.is_err() {
            info!(%node, "news came after the term's end");
        }
    }
}
