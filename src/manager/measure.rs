//! Measures the leader's work whole: a real store with real syncs, a real term, real sessions; nodes are what answers
//! at the other end of each session.
//!
//! The benchmark calls it, brings the sessions' streams and reads its own clock; nothing else does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use imbl::ordmap::DiffItem;
use tokio::sync::{RwLock, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::AdminError;
use super::lead::{self, CurrentTerm};
use super::sessions::SessionError;
use super::term::{LeaderContext, Term};
use crate::cluster::frames::Io;
use crate::cluster::membership::{Liveness, PeerView, Peers};
use crate::cluster::store::memory::MemoryNetwork;
use crate::cluster::store::{
    BootstrapError, OpenError, ProposeError, State, Store, StoreConfig, measure,
};
use crate::identity::ca::{Authority, CaError};
use crate::model::cluster::Secret;
use crate::model::node::Platform;
use crate::model::service_spec::{Replicated, ServiceMode};
use crate::model::{
    Change, ContainerSpec, Expect, Node, NodeDescription, NodeId, NodeState, Proposal, Resources,
    ServiceSpec, Standing, Task, TaskSpec, TaskState, Timestamp,
};

/// How long anything may take before a measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at how far the cluster is.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Open(#[from] OpenError),
    /// The cluster cannot be begun.
    #[error("the cluster cannot be begun")]
    Bootstrap(#[from] BootstrapError),
    /// There is no root of trust.
    #[error("no root can be made")]
    Root(#[from] CaError),
    /// A write failed.
    #[error("a write failed")]
    Write(#[from] ProposeError),
    /// A service was refused.
    #[error("a service was refused")]
    Service(#[from] AdminError),
    /// Nobody leads.
    #[error("there is no leader")]
    NoLeader,
    /// It took too long.
    #[error("it has not come so far in two minutes: {0:?}")]
    Late(Progress),
}

/// How far the cluster is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tasks that are to run and have a node that is not dead.
    pub assigned: u64,
    /// Those of them whose running is written down.
    pub running: u64,
    /// Nodes that are Ready.
    pub ready: u64,
    /// Nodes that have told of all their tasks in this term.
    pub heard: u64,
}

/// The node of this number.
pub fn node_id(number: u64) -> NodeId {
    NodeId::from_bits(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// What the node of this number says of itself when it registers.
pub fn portrait(number: u64) -> NodeDescription {
    NodeDescription {
        hostname: format!("node{number}"),
        platform: Platform {
            architecture: "x86_64".into(),
            os: "linux".into(),
        },
        resources: Resources {
            nano_cpus: 64_000_000_000,
            memory_bytes: 256 << 30,
        },
        engine_version: env!("CARGO_PKG_VERSION").into(),
        runtime: "containerd 1.7.24".into(),
        ..NodeDescription::default()
    }
}

/// The leader of a cluster of nodes that are elsewhere.
#[derive(Debug)]
pub struct Leader {
    context: LeaderContext,
    peers: watch::Sender<Arc<Peers>>,
    reign: RwLock<Reign>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One time of leading.
#[derive(Debug)]
struct Reign {
    term: CurrentTerm,
    stop: CancellationToken,
    work: TaskTracker,
}

impl Leader {
    /// A cluster whose only voter keeps its files in `dir` and leads, with so many members beside it, none of which
    /// has said a word yet.
    ///
    /// # Errors
    ///
    /// When there is no disk to write to.
    pub async fn up(
        dir: &Path,
        nodes: u64,
        clock: fn() -> Timestamp,
    ) -> Result<Self, MeasureError> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let me = node_id(0);
        let network = MemoryNetwork::default();
        let config = StoreConfig::new(dir.to_owned(), me);
        let store = Store::open(config, network.link(me), &tasks, stop.child_token()).await?;
        store.bootstrap(founded(clock())?).await?;
        let members = (0..=nodes).map(member);
        let changes = members.map(|node| Change::PutNode(Expect::Absent, Box::new(node)));
        let at = clock();
        let changes = changes.collect();
        store.propose(Proposal { at, changes }).await?;
        let alive = (0..=nodes).map(|number| (node_id(number), seen(Liveness::Alive)));
        let (peers, gossip) = watch::channel(Arc::new(Peers {
            nodes: alive.collect(),
        }));
        let context = LeaderContext {
            node: me,
            store,
            peers: gossip,
            clock,
        };
        let reign = RwLock::new(Reign::begin(&context));
        Ok(Self {
            context,
            peers,
            reign,
            tasks,
            stop,
        })
    }

    async fn term(&self) -> Result<Arc<Term>, MeasureError> {
        let mut term = self.reign.read().await.term.clone();
        let found = timeout(PATIENCE, term.wait_for(Option::is_some)).await;
        let found = found.ok().and_then(Result::ok);
        found
            .and_then(|term| term.clone())
            .ok_or(MeasureError::NoLeader)
    }

    /// Serves a node's session until it ends.
    ///
    /// # Errors
    ///
    /// As the session has.
    pub async fn serve(&self, node: NodeId, io: Box<dyn Io>) -> Result<(), SessionError> {
        match self.term().await {
            Ok(term) => term.session(node, None, io).await,
            Err(_) => Ok(()),
        }
    }

    /// Makes a service of so many replicas, as a client does.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub async fn create(&self, name: String, replicas: u64) -> Result<(), MeasureError> {
        let spec = ServiceSpec {
            name,
            mode: ServiceMode {
                replicated: Some(Replicated {
                    replicas: Some(replicas),
                }),
                ..ServiceMode::default()
            },
            task_template: TaskSpec {
                container_spec: Some(ContainerSpec {
                    image: "registry.example/team/web:1.2.3".into(),
                    env: ["PORT=8080", "LEVEL=info"].map(str::to_owned).into(),
                    ..ContainerSpec::default()
                }),
                ..TaskSpec::default()
            },
            ..ServiceSpec::default()
        };
        let made = self
            .term()
            .await?
            .create_service(spec, Secret::default())
            .await;
        made.map(drop).map_err(MeasureError::from)
    }

    /// Gossip says that a node is dead, or lives.
    pub fn hears_of(&self, node: NodeId, liveness: Liveness) {
        self.peers.send_modify(|peers| {
            Arc::make_mut(peers).nodes.insert(node, seen(liveness));
        });
    }

    /// This leader's term ends, and another begins that knows nothing but what is written down.
    pub async fn elect_again(&self) {
        let mut reign = self.reign.write().await;
        reign.end().await;
        *reign = Reign::begin(&self.context);
    }

    /// Waits until the cluster is so far.
    ///
    /// # Errors
    ///
    /// When that takes too long.
    pub async fn until(
        &self,
        mut is_far_enough: impl FnMut(&Progress) -> bool,
    ) -> Result<Progress, MeasureError> {
        let begun = Instant::now();
        let mut census = Census::default();
        loop {
            let term = self.term().await?;
            let progress = census.look(&term);
            if is_far_enough(&progress) {
                return Ok(progress);
            }
            if begun.elapsed() > PATIENCE {
                return Err(MeasureError::Late(progress));
            }
            drop(term);
            sleep(LOOK_EVERY).await;
        }
    }

    /// Ends all of it.
    pub async fn down(self) {
        self.reign.write().await.end().await;
        self.context.store.shutdown().await;
        self.stop.cancel();
        self.tasks.close();
    }
}

impl Reign {
    fn begin(context: &LeaderContext) -> Self {
        let (current, term) = watch::channel(None);
        let (stop, work) = (CancellationToken::new(), TaskTracker::new());
        work.spawn(lead::run(context.clone(), current, stop.clone()));
        Self { term, stop, work }
    }

    async fn end(&self) {
        self.stop.cancel();
        self.work.close();
        self.work.wait().await;
    }
}

/// Counts tasks by what has changed since the last look.
#[derive(Default)]
struct Census {
    state: State,
    by_node: BTreeMap<NodeId, (u64, u64)>,
}

impl Census {
    fn look(&mut self, term: &Term) -> Progress {
        let state = term.context.store.watch().borrow().clone();
        let old = std::mem::replace(&mut self.state, State::clone(&state));
        for item in old.work.tasks.diff(&state.work.tasks) {
            let (before, after) = match item {
                DiffItem::Add(_, task) => (None, Some(task)),
                DiffItem::Update { old, new } => (Some(old.1), Some(new.1)),
                DiffItem::Remove(_, task) => (Some(task), None),
            };
            for (task, sign) in [(before, -1), (after, 1)] {
                let Some((node, runs)) = task.and_then(|task| counted(task)) else {
                    continue;
                };
                let (assigned, running) = self.by_node.entry(node).or_default();
                *assigned = assigned.wrapping_add_signed(sign);
                *running = running.wrapping_add_signed(if runs { sign } else { 0 });
            }
        }
        let peers = term.context.peers.borrow().clone();
        let alive = self
            .by_node
            .iter()
            .filter(|(node, _)| peers.is_alive(**node));
        let counts = alive.map(|(_, counts)| *counts);
        let (assigned, running) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let statuses = term.statuses.borrow().clone();
        let ready = statuses
            .values()
            .filter(|seen| seen.state == NodeState::Ready);
        Progress {
            assigned,
            running,
            ready: ready.count() as u64,
            heard: term.picture.borrow().heard.len() as u64,
        }
    }
}

/// Where a task is that is to run, and whether it does.
fn counted(task: &Task) -> Option<(NodeId, bool)> {
    let state = task.status.state;
    let live = task.desired <= TaskState::Complete && !state.is_terminal();
    let node = task.node.filter(|_| live && state >= TaskState::Assigned)?;
    Some((node, state == TaskState::Running))
}

/// The first entry, with a root of trust: every session is told of it.
fn founded(at: Timestamp) -> Result<Proposal, CaError> {
    let root = Authority::generate(at)?.root().clone();
    let mut first = measure::first_proposal();
    for change in &mut first.changes {
        if let Change::PutCluster(_, cluster) = change {
            cluster.root = root.clone();
        }
    }
    Ok(Proposal { at, ..first })
}

/// A member. Only the first, which leads, may vote: who votes is not what is measured here.
fn member(number: u64) -> Node {
    Node {
        id: node_id(number),
        standing: match number {
            0 => Standing::Eligible,
            _ => Standing::Worker,
        },
        description: match number {
            // It has no session, and takes no tasks.
            0 => NodeDescription::default(),
            _ => portrait(number),
        },
        ..Node::default()
    }
}

fn seen(liveness: Liveness) -> PeerView {
    PeerView {
        facts: Arc::default(),
        generation: 1,
        liveness,
        since: Instant::now(),
    }
}
