//! One membership, from the first packet to the last: builds the rooms on top of one another and takes them down.
//!
//! Made by the [`daemon`](super::daemon) when the node is, or becomes, part of a cluster. All tasks of the membership
//! hang on one token and one tracker. It ends by itself only by saying why in [`End`]; what follows is the daemon's to
//! decide.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::content::Cluster;
use super::engine::Engine;
use super::events::Events;
use super::local::MemoryError;
use super::rooms::{Ground, Rooms, ShutOut};
use super::{clock, duties, inbound, join, leaders, machine, plane};
use crate::agent::session::{self, Farewell, Orders, SelfPortrait, SessionChannels};
use crate::cluster::frames::Io;
use crate::cluster::membership::{Membership, Peers};
use crate::cluster::store::Store;
use crate::cluster::transport::Transport;
use crate::identity::credentials::Credentials;
use crate::manager::lead::{self, CurrentTerm};
use crate::manager::term::LeaderContext;
use crate::model::facts::{LeaderHint, Phase, key};
use crate::model::{ClusterId, NodeDescription, NodeId, Proposal, Standing, Timestamp};

/// Words to the leader that may wait while a session is being found.
const FAREWELLS: usize = 4;

/// A leader that gossip takes for dead has this long to answer, or the session with it is void.
const SILENCE: Duration = Duration::from_secs(1);

/// A stop waits this long for the tasks of the membership.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// What a membership is built from.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// Where everything is kept.
    pub data_root: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// What to tell others; `None` tells the machine's own addresses.
    pub advertise: Option<SocketAddr>,
    /// The engine's labels.
    pub labels: BTreeMap<String, String>,
}

/// What a membership has from the daemon, which outlives it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Takes the API requests that other nodes forward.
    pub api: mpsc::Sender<Box<dyn Io>>,
    /// Runs this machine's containers.
    pub engine: Arc<Engine>,
}

/// Why a membership ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The node was removed from the cluster.
    Expelled,
    /// Its standing has changed: it is to be built again.
    StandingChanged,
    /// Another process has the same identity.
    Twin,
    /// A room failed for good, with words.
    Broken(String),
}

/// Why a membership could not begin. The text is for the user.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

impl StartError {
    /// The error and its causes, as the user is told.
    pub(super) fn of(error: impl std::error::Error + 'static) -> Self {
        Self(join::reason(&error))
    }
}

impl From<MemoryError> for StartError {
    fn from(error: MemoryError) -> Self {
        Self::of(error)
    }
}

/// A running membership.
#[derive(Debug)]
pub struct Member {
    /// This node.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// Rises with each start of this node.
    pub generation: u64,
    /// Whether it may vote.
    pub standing: Standing,
    /// What it was built from.
    pub config: MemberConfig,
    /// Connections.
    pub transport: Transport,
    /// Gossip.
    pub membership: Membership,
    /// The replica; `None` on plain workers.
    pub store: Option<Store>,
    /// The leader's work, when this node leads.
    pub term: CurrentTerm,
    /// Who leads.
    pub leader: watch::Receiver<Option<LeaderHint>>,
    /// What the leader says.
    pub orders: watch::Receiver<Orders>,
    /// What this node registers.
    pub portrait: watch::Sender<SelfPortrait>,
    /// Its certificate and key.
    pub credentials: watch::Sender<Arc<Credentials>>,
    /// Its events.
    pub events: Events,
    /// Who is shut out.
    pub shut_out: ShutOut,
    /// What runs this machine's containers.
    pub engine: Arc<Engine>,
    /// Set once, when the membership ends by itself.
    pub end: watch::Sender<Option<End>>,
    farewells: mpsc::Sender<Farewell>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Member {
    /// Begins a membership with what is on disk. `first` creates the cluster; `peers` are members that are known.
    pub async fn start(
        config: MemberConfig,
        first: Option<Proposal>,
        peers: Vec<(NodeId, Vec<SocketAddr>)>,
        host: Host,
    ) -> Result<Arc<Self>, StartError> {
        let ground = Ground::lay(config, peers).await?;
        let portrait = SelfPortrait {
            description: host.engine.describe(&ground.config.labels),
            addresses: told_addresses(&ground.config),
            issuer: ground.credentials.issuer().to_owned(),
        };
        let rooms = Rooms::build(&ground, portrait.addresses.clone(), first).await?;
        let Ground {
            config,
            cache,
            generation,
            known,
            ..
        } = ground;
        let (node, cluster, standing) = {
            let credentials = rooms.credentials.borrow();
            (
                credentials.node(),
                credentials.cluster(),
                credentials.standing(),
            )
        };
        let (farewells, farewells_out) = mpsc::channel(FAREWELLS);
        let (orders_in, orders) = watch::channel(Orders::default());
        let (leader_in, leader) = watch::channel(None);
        let (term_in, term) = watch::channel(None);
        let member = Arc::new(Self {
            node,
            cluster,
            generation,
            standing,
            config,
            transport: rooms.transport,
            membership: rooms.membership,
            store: rooms.store,
            term,
            leader,
            orders,
            portrait: watch::channel(portrait).0,
            credentials: rooms.credentials,
            events: Events::default(),
            shut_out: rooms.shut_out,
            engine: host.engine,
            end: watch::channel(None).0,
            farewells,
            stop: rooms.stop,
            tracker: rooms.tracker,
        });
        member
            .clone()
            .spawn(leader_in, term_in, orders_in, farewells_out);
        member.engine.peers.attach(Some(Cluster {
            me: node,
            transport: member.transport.clone(),
            membership: member.membership.clone(),
        }));
        inbound::spawn(&member, rooms.streams, rooms.joins, host.api);
        duties::spawn(&member, cache, known);
        info!(%node, %cluster, ?standing, "membership began");
        Ok(member)
    }

    fn spawn(
        self: Arc<Self>,
        leader: watch::Sender<Option<LeaderHint>>,
        term: watch::Sender<Option<Arc<crate::manager::term::Term>>>,
        orders: watch::Sender<Orders>,
        farewells: mpsc::Receiver<Farewell>,
    ) {
        let leadership = self.store.as_ref().map(Store::leadership);
        let peers = self.membership.peers();
        self.run(leaders::follow(
            leadership,
            peers.clone(),
            leader,
            self.stop.child_token(),
        ));
        if let Some(store) = self.store.clone() {
            let context = LeaderContext {
                node: self.node,
                store,
                peers,
                clock: clock::now,
            };
            self.run(lead::run(context, term, self.stop.child_token()));
        }
        let (intents, updates) = mpsc::channel(plane::UPDATES);
        let channels = SessionChannels {
            leader: self.leader.clone(),
            portrait: self.portrait.subscribe(),
            farewells,
            orders,
            runner: self
                .engine
                .work_for(self.node, self.addresses().first().map(SocketAddr::ip)),
            plane: Some(intents),
        };
        if let Some(planes) = self.engine.plane() {
            self.run(plane::follow(self.clone(), planes, updates));
        }
        let member = self.clone();
        let open = move |leader| inbound::open_session(member.clone(), leader);
        let silent = self.clone().silent();
        let stop = self.stop.child_token();
        self.run(async move { session::run(channels, open, silent, stop).await });
    }

    /// What comes true when a leader is not reached any more.
    fn silent(self: Arc<Self>) -> impl Fn(NodeId) -> BoxFuture<'static, ()> {
        move |leader| {
            let (peers, transport) = (self.membership.peers(), self.transport.clone());
            let probe = move || {
                let transport = transport.clone();
                async move { transport.probe(leader, SILENCE).await }
            };
            Box::pin(leaders::silent(leader, peers, probe))
        }
    }

    /// Runs a task of this membership; it is dropped when the membership ends.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            stop.run_until_cancelled_owned(task).await;
        });
    }

    /// Ends the membership from within.
    pub fn finish(&self, why: End) {
        info!(?why, "membership is to end");
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(why);
            }
            first
        });
    }

    /// The addresses that others are told, best first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.portrait.borrow().addresses.clone()
    }

    /// What the machine is.
    pub fn description(&self) -> NodeDescription {
        self.portrait.borrow().description.clone()
    }

    /// Gossip's view at this moment.
    pub fn peers(&self) -> Arc<Peers> {
        self.membership.peers().borrow().clone()
    }

    /// Announces the stop, hands leadership on, and takes everything down. Within about 10 s.
    pub async fn stop(&self, farewell: Farewell) {
        let phase = match farewell {
            Farewell::Restarting => Phase::Restarting,
            Farewell::Leaving => Phase::Left,
        };
        let _ = self.farewells.try_send(farewell);
        let said = serde_json::to_string(&phase).unwrap_or_default();
        let announce = async {
            self.membership.publish(key::PHASE, said).await;
            self.membership.push().await;
            self.hand_over().await;
        };
        if timeout(STOP_DEADLINE, announce).await.is_err() {
            warn!("the stop could not be announced in time");
        }
        self.engine.peers.attach(None);
        if let Some(store) = &self.store {
            store.shutdown().await;
        }
        self.transport.close("this node stops").await;
        self.stop.cancel();
        self.tracker.close();
        if timeout(STOP_DEADLINE, self.tracker.wait()).await.is_err() {
            warn!(tasks = self.tracker.len(), "tasks did not end in time");
        }
        info!("membership ended");
    }

    /// Gives leadership to another live voter, if this node leads and there is one.
    async fn hand_over(&self) {
        let Some(store) = &self.store else { return };
        if !store.leadership().borrow().me {
            return;
        }
        let peers = self.peers();
        let successor = store
            .replicas()
            .borrow()
            .voters
            .iter()
            .copied()
            .find(|voter| *voter != self.node && peers.is_alive(*voter));
        if let Some(successor) = successor
            && let Err(error) = store.transfer(successor).await
        {
            warn!(%successor, error = %join::reason(&error), "leadership was not handed over");
        }
    }
}

/// The addresses to tell: the one that was given, else the machine's.
pub fn told_addresses(config: &MemberConfig) -> Vec<SocketAddr> {
    match config.advertise {
        Some(addr) => vec![addr],
        None => machine::reachable_addresses(config.listen),
    }
}

/// How long until a certificate is to be renewed, at a point chosen by `random` in 0..1.
pub fn renewal_in(credentials: &Credentials, random: f64, now: Timestamp) -> Duration {
    crate::identity::renewal::renew_at(credentials.not_before(), credentials.not_after(), random)
        .since(now)
}
