//! One life of one machine's daemon: the rooms of a member, built as [`crate::node::member`] builds them, over the
//! simulated network instead of QUIC.
//!
//! The store, the leader's work, the agent's session and the search for the leader are the real ones. Made by
//! [`World::boot`](super::world::World::boot), ended by a crash or a stop.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::duplex;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock;
use super::gossip::View;
use super::history::Life;
use super::host::RUNTIME;
use super::machine::Machine;
use super::network::{Job, SimLink};
use super::pipe;
use super::record;
use super::world::World;
use crate::agent::runner::Runner;
use crate::agent::session::{self, Farewell, Orders, SelfPortrait, SessionChannels};
use crate::cluster::frames::Io;
use crate::cluster::membership::Peers;
use crate::cluster::store::{LinkError, OpenError, Pace, Store, StoreConfig};
use crate::manager::lead::{self, CurrentTerm};
use crate::manager::term::{LeaderContext, Term};
use crate::model::facts::{LeaderHint, Phase};
use crate::model::{NodeDescription, NodeFacts, NodeId, Standing};
use crate::node::leaders;
use crate::node::member::End;
use crate::wire::control::{ControlReply, ControlRequest};
use crate::wire::join::JoinReply;
use crate::wire::limits::{CONTROL_DEADLINE, DIAL_DEADLINE};

/// Entries between two snapshots: few, so that many are made, sent and installed.
const SNAPSHOT_EVERY: u64 = 60;

/// Bytes in flight between a leader's own agent and its manager.
const PIPE: usize = 64 << 10;

/// A stop waits this long for each of its steps, in virtual time.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// A certificate that could not be renewed is asked for again after this.
const RENEW_AGAIN: Duration = Duration::from_secs(5);

/// One life.
pub(super) struct Node {
    pub(super) life: Life,
    pub(super) slot: usize,
    pub(super) standing: Standing,
    pub(super) began: Instant,
    /// The replica; `None` on plain workers.
    pub(super) store: Option<Store>,
    pub(super) term: CurrentTerm,
    pub(super) leader: watch::Receiver<Option<LeaderHint>>,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) portrait: watch::Sender<SelfPortrait>,
    pub(super) peers: watch::Sender<Arc<Peers>>,
    /// Set once, when the membership ends by itself.
    pub(super) end: watch::Sender<Option<End>>,
    pub(super) stop: CancellationToken,
    farewells: mpsc::Sender<Farewell>,
    /// Runs the tasks of this node.
    pub(super) runner: Runner,
    tracker: TaskTracker,
    view: Mutex<View>,
    shut_out: Mutex<BTreeSet<NodeId>>,
    leads: Mutex<Option<LeaderHint>>,
    phase: Mutex<Phase>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({:?})", self.life)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the tasks of a node hold besides it.
struct Ends {
    leader: watch::Sender<Option<LeaderHint>>,
    term: watch::Sender<Option<Arc<Term>>>,
    orders: watch::Sender<Orders>,
    farewells: mpsc::Receiver<Farewell>,
}

impl Node {
    /// Builds the rooms on what the machine has on its disk, and puts them to work.
    pub(super) async fn start(
        world: &Arc<World>,
        machine: &Arc<Machine>,
        life: Life,
        standing: Standing,
    ) -> Result<Arc<Self>, OpenError> {
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let store = match standing {
            Standing::Worker => None,
            Standing::Eligible => Some(open(world, machine, life, &tracker, &stop).await?),
        };
        let host_stop = stop.child_token();
        let runner = machine.host.start(machine, &tracker, host_stop).await;
        let (leader, leader_out) = watch::channel(None);
        let (term, term_out) = watch::channel(None);
        let (orders, orders_out) = watch::channel(Orders::default());
        let (farewells_in, farewells) = mpsc::channel(4);
        let node = Arc::new(Self {
            life,
            slot: machine.slot,
            standing,
            began: Instant::now(),
            store,
            term: term_out,
            leader: leader_out,
            orders: orders_out,
            portrait: watch::Sender::new(portrait(machine)),
            peers: watch::Sender::new(Arc::default()),
            end: watch::Sender::new(None),
            stop,
            farewells: farewells_in,
            runner,
            tracker,
            view: Mutex::default(),
            shut_out: Mutex::default(),
            leads: Mutex::default(),
            phase: Mutex::default(),
        });
        let ends = Ends {
            leader,
            term,
            orders,
            farewells,
        };
        record::spawn(world, &node);
        node.put_to_work(world, machine, ends);
        Ok(node)
    }

    fn put_to_work(self: &Arc<Self>, world: &Arc<World>, machine: &Arc<Machine>, ends: Ends) {
        let leadership = self.store.as_ref().map(Store::leadership);
        self.run(leaders::follow(
            leadership,
            self.peers.subscribe(),
            ends.leader,
            self.stop.child_token(),
        ));
        if let Some(store) = self.store.clone() {
            let context = LeaderContext {
                node: self.life.node,
                store: store.clone(),
                peers: self.peers.subscribe(),
                clock: clock::of(self.slot),
            };
            // It ends its own terms in order, so it is not dropped but told.
            self.tracker
                .spawn(lead::run(context, ends.term, self.stop.child_token()));
            self.run(tell_leadership(self.clone(), store.clone()));
            self.run(follow_state(self.clone(), store.clone()));
            self.run(watch_store(self.clone(), store));
        }
        let channels = SessionChannels {
            leader: self.leader.clone(),
            portrait: self.portrait.subscribe(),
            farewells: ends.farewells,
            orders: ends.orders,
            runner: watch::channel(Some(self.runner.clone())).1,
            plane: None,
        };
        let (node, owner) = (self.clone(), world.clone());
        let open = move |leader| open_session(owner.clone(), node.clone(), leader);
        let (node, network) = (self.clone(), world.network.clone());
        let silent = move |leader| {
            let (me, network) = (node.life.node, network.clone());
            let probe = move || {
                let answers = network.passes(me, leader) && network.passes(leader, me);
                async move { answers }
            };
            leaders::silent(leader, node.peers.subscribe(), probe)
        };
        let stop = self.stop.child_token();
        self.run(async move { session::run(channels, open, silent, stop).await });
        self.run(obey(world.clone(), self.clone(), machine.clone()));
    }

    /// Runs a task of this life; it is dropped when the life ends.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            stop.run_until_cancelled_owned(task).await;
        });
    }

    /// The membership is to end.
    pub(super) fn finish(&self, why: End) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(why);
            }
            first
        });
    }

    /// What the node tells by gossip.
    pub(super) fn facts(&self) -> NodeFacts {
        let SelfPortrait {
            description,
            addresses,
            ..
        } = self.portrait.borrow().clone();
        NodeFacts {
            addresses,
            description: Some(description),
            standing: self.standing,
            leader: *lock(&self.leads),
            last_log: None,
            phase: *lock(&self.phase),
            endpoints: None,
        }
    }

    pub(super) fn with_view<T>(&self, look: impl FnOnce(&mut View) -> T) -> T {
        look(&mut lock(&self.view))
    }

    /// Whether this node refuses connections with `node`.
    pub(super) fn shuts_out(&self, node: NodeId) -> bool {
        lock(&self.shut_out).contains(&node)
    }

    /// A peer refuses this node as removed, as [`crate::node::duties`] hears it from the transport.
    pub(super) fn was_refused(&self, by: &Self) {
        let (leader, peers) = (*self.leader.borrow(), self.peers.borrow().clone());
        let leader = leader.map(|hint| hint.leader);
        if leaders::believes_removal(leader, &peers, by.life.node, Some(by.standing)) {
            self.finish(End::Expelled);
        }
    }

    /// The live voter that leadership would be handed to.
    pub(super) fn successor(&self) -> Option<NodeId> {
        let (store, peers) = (self.store.as_ref()?, self.peers.borrow().clone());
        let replicas = store.replicas().borrow().clone();
        let mut others = replicas.voters.into_iter();
        others.find(|voter| *voter != self.life.node && peers.is_alive(*voter))
    }

    /// Asks the leader, wherever it is, as [`crate::node::inbound::ask_leader`] does.
    pub(super) async fn ask_leader(
        self: &Arc<Self>,
        world: &World,
        request: ControlRequest,
    ) -> ControlReply {
        let term = self.term.borrow().clone();
        if let Some(term) = term {
            return term.control(self.life.node, request).await;
        }
        let hint = *self.leader.borrow();
        let Some(hint) = hint.filter(|hint| hint.leader != self.life.node) else {
            return ControlReply::NotLeader(None);
        };
        let me = self.life.node;
        let job: Job<ControlReply> = Arc::new(move |node: Arc<Self>| {
            let request = request.clone();
            async move {
                let term = node.term.borrow().clone();
                match term {
                    Some(term) => term.control(me, request).await,
                    None => ControlReply::NotLeader(node.leader.borrow().map(|hint| hint.leader)),
                }
            }
            .boxed()
        });
        let from = (me, Some(self.life));
        let asked = world
            .network
            .call(from, hint.leader, CONTROL_DEADLINE, true, job);
        asked.await.unwrap_or(ControlReply::NotLeader(None))
    }

    /// Announces the stop, hands leadership on, and takes everything down.
    pub(super) async fn stop(&self, farewell: Farewell) -> Result<(), String> {
        *lock(&self.phase) = match farewell {
            Farewell::Restarting => Phase::Restarting,
            Farewell::Leaving => Phase::Left,
        };
        // A full queue means that more important words wait already.
        let _ = self.farewells.try_send(farewell);
        if let (Some(store), Some(successor)) = (&self.store, self.successor())
            && store.leadership().borrow().me
        {
            // Who cannot hand over is replaced by an election.
            let _ = store.transfer(successor).await;
        }
        if let Some(store) = &self.store {
            let closed = timeout(STOP_DEADLINE, store.shutdown());
            closed.await.map_err(|_| self.hangs("its store"))?;
        }
        Ok(())
    }

    /// Ends every task. Whoever calls it has taken the node off the network.
    pub(super) async fn end(&self) -> Result<(), String> {
        self.stop.cancel();
        self.tracker.close();
        let ended = timeout(STOP_DEADLINE, self.tracker.wait());
        ended.await.map_err(|_| self.hangs("a task of it"))
    }

    fn hangs(&self, what: &str) -> String {
        format!(
            "{:?} stops, and {what} hangs for {STOP_DEADLINE:?}",
            self.life
        )
    }
}

async fn open(
    world: &Arc<World>,
    machine: &Machine,
    life: Life,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Store, OpenError> {
    let config = StoreConfig {
        snapshot_every: SNAPSHOT_EVERY,
        ..StoreConfig::new("memory".into(), machine.id)
    };
    let link = SimLink {
        network: world.network.clone(),
        life,
    };
    let disk = Arc::new(machine.disk.mounted());
    let stop = stop.child_token();
    Store::open_on(config, disk, Pace::Virtual, Arc::new(link), tracker, stop).await
}

fn portrait(machine: &Machine) -> SelfPortrait {
    SelfPortrait {
        description: NodeDescription {
            hostname: format!("host-{}", machine.slot),
            runtime: RUNTIME.into(),
            ..NodeDescription::default()
        },
        addresses: vec![machine.address()],
        issuer: machine.issuer(),
    }
}

/// Opens the agent's stream to the leader; a pipe when this node leads itself.
async fn open_session(
    world: Arc<World>,
    node: Arc<Node>,
    leader: NodeId,
) -> Result<Box<dyn Io>, LinkError> {
    if leader == node.life.node {
        let (ours, theirs) = duplex(PIPE);
        serve_session(&node, node.life.node, Box::new(theirs))?;
        return Ok(Box::new(ours));
    }
    let from = (node.life.node, Some(node.life));
    let job: Job<Arc<Node>> = Arc::new(|found: Arc<Node>| async move { found }.boxed());
    let dialled = world.network.call(from, leader, DIAL_DEADLINE, false, job);
    let found = dialled.await?;
    let (ours, theirs) = pipe::connect(&world.network, &world.tasks, &node, &found);
    serve_session(&found, node.life.node, Box::new(theirs))?;
    Ok(Box::new(ours))
}

fn serve_session(leader: &Arc<Node>, node: NodeId, io: Box<dyn Io>) -> Result<(), LinkError> {
    let term = leader.term.borrow().clone();
    let gone = || LinkError::Unreachable("it does not lead".into());
    let term = term.ok_or_else(gone)?;
    leader.run(async move {
        // The agent at the other end sees the stream end, whatever the reason.
        let _ = term.session(node, None, io).await;
    });
    Ok(())
}

/// Tells everyone that this node leads.
async fn tell_leadership(node: Arc<Node>, store: Store) {
    let mut leadership = store.leadership();
    loop {
        let now = *leadership.borrow_and_update();
        if now.me {
            *lock(&node.leads) = Some(LeaderHint {
                term: now.term,
                leader: node.life.node,
            });
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps the list of those who are shut out, on a node with a replica.
async fn follow_state(node: Arc<Node>, store: Store) {
    let mut states = store.watch();
    loop {
        let removed = states.borrow_and_update().removed.keys().copied().collect();
        *lock(&node.shut_out) = removed;
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// Ends the membership when the store can no longer be written.
async fn watch_store(node: Arc<Node>, store: Store) {
    let mut stopped = store.stopped();
    if let Ok(stopped) = stopped.wait_for(Option::is_some).await
        && let Some(stopped) = &*stopped
    {
        node.finish(End::Broken(stopped.to_string()));
    }
}

/// Does what the leader says, as [`crate::node::duties`] does.
async fn obey(world: Arc<World>, node: Arc<Node>, machine: Arc<Machine>) {
    let mut orders = node.orders.clone();
    loop {
        let now = orders.borrow_and_update().clone();
        if now.expelled {
            node.finish(End::Expelled);
            return;
        }
        let wanted = now.term > 0 && machine.wants_renewal(&now);
        if wanted && renew(&world, &node, &machine).await && machine.standing() != node.standing {
            node.finish(End::StandingChanged);
            return;
        }
        if now.term > 0 && node.store.is_none() {
            *lock(&node.shut_out) = now.removed.iter().copied().collect();
        }
        let again = async {
            match machine.wants_renewal(&now) && now.term > 0 {
                true => tokio::time::sleep(RENEW_AGAIN).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

async fn renew(world: &World, node: &Arc<Node>, machine: &Machine) -> bool {
    let csr_der = machine.csr();
    let asked = node.ask_leader(world, ControlRequest::Certificate { csr_der });
    let ControlReply::Join(JoinReply::Admitted(admission)) = asked.await else {
        return false;
    };
    machine.file(&admission.chain_pem, &admission.roots_pem);
    let issuer = machine.issuer();
    node.portrait.send_if_modified(|portrait| {
        let changed = portrait.issuer != issuer;
        portrait.issuer = issuer;
        changed
    });
    true
}
