//! The simulated world: machines, the network between them, and what an operator does to machines.
//!
//! Does for each machine what [`crate::node::daemon`] does: founds, joins, starts again, leaves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock::{self, SLOTS};
use super::dice::Dice;
use super::gossip;
use super::history::{Answer, Ask, Entry, History, Life, Names};
use super::keys;
use super::machine::{Machine, Out};
use super::network::{Job, Network};
use super::node::Node;
use crate::agent::session::Farewell;
use crate::cluster::store::State;
use crate::identity::ca::{Authority, Grant};
use crate::manager::term::Term;
use crate::model::node::CertificateRecord;
use crate::model::{
    Availability, Change, Cluster, ClusterId, Expect, JoinKind, JoinSecrets, Node as NodeObject,
    NodeDescription, NodeId, Proposal, Role, Standing,
};
use crate::node::member::End;
use crate::wire::Json;
use crate::wire::control::{ControlReply, ControlRequest};
use crate::wire::join::{Admission, JoinBody, JoinReply};

/// A daemon whose store failed starts again after this.
const START_AGAIN: Duration = Duration::from_secs(1);

/// A machine that asks to be let in tries for so long.
const JOIN_DEADLINE: Duration = Duration::from_secs(20);

/// How a door is waited for.
const DOOR_DEADLINE: Duration = Duration::from_secs(5);

/// So many of one verdicts are wrong while mistakes are made.
const MISTAKES: f64 = 0.0003;

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) machines: Vec<Arc<Machine>>,
    pub(super) network: Network,
    pub(super) history: History,
    pub(super) names: Names,
    /// Tasks of nobody in particular.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) dice: Dice,
    /// The failure detector makes mistakes.
    mistakes: Arc<AtomicBool>,
    /// What went wrong outside of the history: what hangs, mostly.
    troubles: Mutex<Vec<String>>,
}

impl World {
    /// Machines that are in no cluster yet.
    pub(super) fn new(seed: u64) -> Arc<Self> {
        clock::begin();
        let machines: Vec<Arc<Machine>> = keys::sorted(SLOTS)
            .into_iter()
            .enumerate()
            .map(|(slot, key)| Arc::new(Machine::new(slot, key)))
            .collect();
        let names = Names(machines.iter().map(|one| (one.id, one.slot)).collect());
        let tasks = TaskTracker::new();
        let network = Network::new(Dice::new(seed, "network"), tasks.clone());
        let world = Arc::new(Self {
            machines,
            network,
            history: History::default(),
            names,
            tasks,
            stop: CancellationToken::new(),
            dice: Dice::new(seed, "world"),
            mistakes: Arc::default(),
            troubles: Mutex::default(),
        });
        for machine in &world.machines {
            world.set_disk_latency(machine, 100, 3000);
        }
        let mistakes = world.mistakes.clone();
        world.run(gossip::run(
            world.network.clone(),
            Dice::new(seed, "gossip"),
            Arc::new(move || match mistakes.load(Ordering::Relaxed) {
                true => MISTAKES,
                false => 0.0,
            }),
        ));
        world
    }

    /// Runs a task of nobody in particular.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled_owned(task).await;
        });
    }

    pub(super) fn make_mistakes(&self, mistakes: bool) {
        self.mistakes.store(mistakes, Ordering::Relaxed);
    }

    pub(super) fn trouble(&self, what: String) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.push(what);
    }

    pub(super) fn troubles(&self) -> Vec<String> {
        let troubles = self.troubles.lock();
        troubles.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A write of this machine's log takes so many microseconds.
    pub(super) fn set_disk_latency(&self, machine: &Machine, least: u64, most: u64) {
        let dice = self.dice.clone();
        let (least, most) = (Duration::from_micros(least), Duration::from_micros(most));
        let (network, node) = (self.network.clone(), machine.id);
        machine.disk.set_latency(move || {
            network.wire().step(node);
            dice.span(least, most)
        });
    }

    pub(super) fn machine(&self, node: NodeId) -> Option<&Arc<Machine>> {
        self.machines.iter().find(|machine| machine.id == node)
    }

    /// Machines that are members, whether or not they run.
    pub(super) fn members(&self) -> Vec<Arc<Machine>> {
        let members = self.machines.iter().filter(|machine| machine.is_member());
        members.cloned().collect()
    }

    /// The node that leads, as itself believes, with its work.
    pub(super) fn leader(&self) -> Option<(Arc<Node>, Arc<Term>)> {
        self.network.up().into_iter().find_map(|node| {
            let term = node.term.borrow().clone();
            term.map(|term| (node, term))
        })
    }

    /// The newest state that any replica shows.
    pub(super) fn newest(&self) -> Arc<State> {
        let states = self.network.up().into_iter().filter_map(|node| {
            let store = node.store.as_ref()?;
            Some(store.watch().borrow().clone())
        });
        states.max_by_key(|state| state.version).unwrap_or_default()
    }

    /// Makes a cluster of one machine.
    pub(super) async fn found(self: &Arc<Self>, machine: &Arc<Machine>) {
        let now = clock::of(machine.slot)();
        let authority = Authority::generate(now).expect("a root is made");
        let id = ClusterId::from_bits(42);
        let grant = Grant {
            cluster: id,
            standing: Standing::Eligible,
            now,
            validity: Duration::from_secs(90 * 24 * 3600),
        };
        let issued = authority
            .issue(&machine.csr(), &grant)
            .expect("the root issues");
        let root = authority.root().clone();
        machine.file(&issued.chain_pem, &root.cert_pem);
        let secret = |kind: &str| crate::model::cluster::Secret(format!("{kind:x>25}"));
        let cluster = Cluster {
            id,
            root,
            join: JoinSecrets {
                worker: secret("worker"),
                manager: secret("manager"),
                peer: secret("peer"),
            },
            ..Cluster::default()
        };
        let first = NodeObject {
            id: machine.id,
            standing: Standing::Eligible,
            role: Role::Manager,
            addresses: vec![machine.address()],
            certificate: CertificateRecord {
                issuer: issued.issuer,
                not_after: issued.not_after,
            },
            ..NodeObject::default()
        };
        let proposal = Proposal {
            at: now,
            changes: vec![
                Change::PutCluster(Expect::Absent, Box::new(cluster)),
                Change::PutNode(Expect::Absent, Box::new(first)),
            ],
        };
        self.boot(machine).await;
        let node = machine.running().expect("a fresh disk opens");
        let store = node.store.as_ref().expect("the founder is eligible");
        store.bootstrap(proposal).await.expect("a founder alone");
    }

    /// Starts a member's daemon, unless it runs. Tries again for as long as its disk fails.
    pub(super) async fn boot(self: &Arc<Self>, machine: &Arc<Machine>) {
        let _one = machine.change.lock().await;
        while machine.running().is_none() && machine.is_member() && !self.stop.is_cancelled() {
            let life = Life {
                node: machine.id,
                count: machine.next_life(),
            };
            match Node::start(self, machine, life, machine.standing()).await {
                Ok(node) => {
                    self.history.add(Entry::Began(life));
                    machine.set_running(node.clone());
                    self.network.appear(&node);
                    let (world, machine) = (self.clone(), machine.clone());
                    self.run(async move { world.supervise(&machine, &node).await });
                }
                Err(_) if machine.is_failing() => sleep(START_AGAIN).await,
                Err(error) => {
                    let chain = crate::node::join::reason(&error);
                    self.history.add(Entry::Unopened(life, chain));
                    return;
                }
            }
        }
    }

    /// As [`Self::boot`], for what a boot leads to.
    fn boot_again(self: &Arc<Self>, machine: &Arc<Machine>) -> BoxFuture<'static, ()> {
        let (world, machine) = (self.clone(), machine.clone());
        async move { world.boot(&machine).await }.boxed()
    }

    /// Does what follows from a membership's end.
    async fn supervise(self: &Arc<Self>, machine: &Arc<Machine>, node: &Arc<Node>) {
        let mut end = node.end.subscribe();
        let why = match end.wait_for(Option::is_some).await {
            Ok(why) => why.clone(),
            Err(_) => return,
        };
        let farewell = match why {
            Some(End::Expelled) => Farewell::Leaving,
            Some(End::Broken(_) | End::StandingChanged | End::Twin) | None => Farewell::Restarting,
        };
        if !self.halt(machine, node, farewell).await {
            // It has crashed: whoever did that says when it starts again.
            return;
        }
        match why {
            Some(End::Expelled) => machine.set_out(Out::Expelled),
            Some(End::Broken(_)) => {
                sleep(START_AGAIN).await;
                self.boot_again(machine).await;
            }
            Some(End::StandingChanged | End::Twin) | None => self.boot_again(machine).await,
        }
    }

    /// Stops this life of a machine in good order. False when something else has ended it.
    pub(super) async fn halt(
        &self,
        machine: &Machine,
        node: &Arc<Node>,
        farewell: Farewell,
    ) -> bool {
        let _one = machine.change.lock().await;
        let current = machine.running();
        if !current.is_some_and(|current| Arc::ptr_eq(&current, node)) {
            return false;
        }
        let stopped = node.stop(farewell).await;
        // A crash may have come in between.
        if machine.take_running().is_none() {
            return false;
        }
        self.network.vanish(machine.id);
        self.note(stopped);
        self.note(node.end().await);
        self.history.add(Entry::Ended(node.life));
        true
    }

    /// A machine loses power, or its daemon is killed: `survives` says of each write that was not synced whether it
    /// is kept.
    pub(super) async fn crash(&self, machine: &Machine, survives: impl FnMut() -> bool) {
        let Some(node) = machine.take_running() else {
            return;
        };
        self.network.vanish(machine.id);
        machine.disk.crash(survives);
        self.history.add(Entry::Ended(node.life));
        self.note(node.end().await);
        if self.dice.chance(0.5) {
            // It was the machine and not only its daemon.
            machine.host.lose_power();
        }
    }

    fn note(&self, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.trouble(what);
        }
    }

    /// Lets a machine that is a stranger in, by the door of a member, and starts its daemon.
    pub(super) async fn join(
        self: &Arc<Self>,
        machine: &Arc<Machine>,
        kind: JoinKind,
        door: NodeId,
    ) -> Answer {
        let ask = self.history.ask(Ask::Join(machine.id));
        let answer = self.enter(machine, kind, door).await;
        self.history.add(Entry::Answered(ask, answer.clone()));
        if matches!(answer, Answer::Written(_)) {
            self.boot(machine).await;
        }
        answer
    }

    async fn enter(self: &Arc<Self>, machine: &Machine, kind: JoinKind, door: NodeId) -> Answer {
        let deadline = Instant::now() + JOIN_DEADLINE;
        let mut last = Answer::Refused("nobody was asked".into());
        while Instant::now() < deadline {
            let state = self.newest();
            let secrets = state.cluster.as_ref().map(|cluster| cluster.join.clone());
            let secret = secrets.map(|secrets| match kind {
                JoinKind::Worker => secrets.worker,
                JoinKind::Manager => secrets.manager,
                JoinKind::Peer => secrets.peer,
            });
            let body = Box::new(JoinBody {
                secret: secret.unwrap_or_default(),
                csr_der: machine.csr(),
                description: Json(NodeDescription::default()),
                availability: Availability::Active,
                addresses: vec![machine.address()],
                clock: clock::of(machine.slot)(),
            });
            match self.knock(machine, door, body).await {
                Some(JoinReply::Admitted(admission)) => return admitted(machine, &admission),
                Some(JoinReply::Refused(why)) => return Answer::Refused(why),
                Some(JoinReply::Later(why)) => last = Answer::Unknown(why),
                Some(JoinReply::Elsewhere(_)) | None => {
                    last = Answer::Unknown("no answer".into());
                }
            }
            sleep(Duration::from_millis(250)).await;
        }
        last
    }

    async fn knock(
        self: &Arc<Self>,
        machine: &Machine,
        door: NodeId,
        body: Box<JoinBody>,
    ) -> Option<JoinReply> {
        let (world, from) = (self.clone(), machine.address());
        let job: Job<ControlReply> = Arc::new(move |node: Arc<Node>| {
            let (world, body) = (world.clone(), body.clone());
            async move {
                let request = ControlRequest::Join { from, body };
                node.ask_leader(&world, request).await
            }
            .boxed()
        });
        let called = self
            .network
            .call((machine.id, None), door, DOOR_DEADLINE, false, job);
        match called.await {
            Ok(ControlReply::Join(reply)) => Some(reply),
            Ok(ControlReply::Refused(why)) => Some(JoinReply::Refused(why)),
            Ok(ControlReply::NotLeader(_) | ControlReply::Done) | Err(_) => None,
        }
    }

    /// Ends everything.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        for machine in &self.machines {
            let node = machine.id;
            for (task, begun) in machine.host.processes() {
                self.history.add(Entry::Processes { node, task, begun });
            }
            self.crash(machine, || true).await;
        }
        self.tasks.close();
    }
}

fn admitted(machine: &Machine, admission: &Admission) -> Answer {
    machine.file(&admission.chain_pem, &admission.roots_pem);
    Answer::Written(None)
}
