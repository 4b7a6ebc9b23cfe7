//! Clients of the cluster: each speaks to the socket of some node, which asks the leader, as
//! [`crate::node::backend`] does for the API.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::clock;
use super::dice::Dice;
use super::history::{Answer, Ask, Entry, Life};
use super::network::Job;
use super::node::Node;
use super::world::World;
use crate::cluster::store::{ProposeError, ReadError, State};
use crate::manager::AdminError;
use crate::manager::term::Term;
use crate::model::{Change, Expect, Node as NodeObject, NodeId, Proposal};

/// A request waits this long for a leader before it is refused.
const LEADER_DEADLINE: Duration = Duration::from_secs(5);

/// The pause between two looks for a leader.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// A leader that is asked something answers a probe within this, or is taken for dead.
const LEADER_PROBE: Duration = Duration::from_millis(300);

/// A forwarded request is given up after this.
const FORWARD_DEADLINE: Duration = Duration::from_secs(12);

/// Between two operations of a client, at most.
const PAUSE_MS: u64 = 600;

/// What the leader is to do.
pub(super) type Order<T> =
    Arc<dyn Fn(Arc<Term>) -> BoxFuture<'static, Result<T, AdminError>> + Send + Sync>;

/// Why an order came to nothing, as far as is known.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// Certainly nothing was done.
    Refused(String),
    /// Something may have been done, or may yet be.
    Unknown(String),
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(why) => Self::Refused(why),
            Failure::Unknown(why) => Self::Unknown(why),
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Invalid(_)
            | AdminError::Conflict(_)
            | AdminError::Unsupported(_)
            | AdminError::NoSuchNode(_)
            | AdminError::NoSuchService(_)
            | AdminError::NotFound(_)
            | AdminError::Forbidden(_)
            | AdminError::OutOfSequence
            | AdminError::NoLeader => Self::Refused(error.to_string()),
            AdminError::Unconfirmed | AdminError::Internal(_) => Self::Unknown(error.to_string()),
        }
    }
}

/// Has the leader do `order`, by way of `entry`.
pub(super) async fn through<T: Send + 'static>(
    world: &World,
    entry: &Arc<Node>,
    order: Order<T>,
) -> Result<T, Failure> {
    let routed = entry.stop.run_until_cancelled(route(world, entry, order));
    match routed.await {
        Some(outcome) => outcome,
        None => Err(Failure::Unknown("the node ended".into())),
    }
}

async fn route<T: Send + 'static>(
    world: &World,
    entry: &Arc<Node>,
    order: Order<T>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + LEADER_DEADLINE;
    while Instant::now() < deadline {
        let (term, hint) = (entry.term.borrow().clone(), *entry.leader.borrow());
        if let Some(term) = term {
            return order(term).await.map_err(Failure::from);
        }
        let from = (entry.life.node, Some(entry.life));
        let other = hint.filter(|hint| hint.leader != entry.life.node);
        if let Some(hint) = other
            && answers(world, from, hint.leader).await
        {
            let order = order.clone();
            let job: Job<Option<Result<T, AdminError>>> = Arc::new(move |node: Arc<Node>| {
                let order = order.clone();
                async move {
                    let term = node.term.borrow().clone();
                    match term {
                        Some(term) => Some(order(term).await),
                        None => None,
                    }
                }
                .boxed()
            });
            let called = world
                .network
                .call(from, hint.leader, FORWARD_DEADLINE, false, job);
            match called.await {
                Ok(Some(outcome)) => return outcome.map_err(Failure::from),
                Ok(None) => {}
                Err(error) => return Err(Failure::Unknown(error.to_string())),
            }
        }
        sleep(LOOK_AGAIN).await;
    }
    Err(Failure::Refused("there is no leader".into()))
}

/// Whether the leader answers at all, before a request is risked.
async fn answers(world: &World, from: (NodeId, Option<Life>), leader: NodeId) -> bool {
    let job: Job<()> = Arc::new(|_| std::future::ready(()).boxed());
    let probed = world.network.call(from, leader, LEADER_PROBE, false, job);
    probed.await.is_ok()
}

/// One client: does one thing after another until the world ends or `until`.
pub(super) struct Client {
    pub(super) world: Arc<World>,
    pub(super) number: usize,
    pub(super) dice: Dice,
    /// A term that this client once worked with.
    kept: Mutex<Option<Arc<Term>>>,
}

impl Client {
    pub(super) fn new(world: &Arc<World>, number: usize, seed: u64) -> Self {
        Self {
            world: world.clone(),
            number,
            dice: Dice::new(seed, &format!("client {number}")),
            kept: Mutex::default(),
        }
    }

    pub(super) async fn work(self) {
        loop {
            sleep(self.dice.millis(1, PAUSE_MS)).await;
            let Some(entry) = self.entry() else { continue };
            match self.dice.below(20) {
                0..=8 => self.label(&entry).await,
                9..=11 => self.propose(&entry).await,
                12..=15 => self.read(&entry).await,
                16..=17 => self.read_at(&entry).await,
                _ => self.use_old_term(&entry).await,
            }
        }
    }

    /// A node that runs and answers for the cluster.
    fn entry(&self) -> Option<Arc<Node>> {
        let up = self.world.network.up();
        let eligible: Vec<_> = up.into_iter().filter(|node| node.store.is_some()).collect();
        self.dice.pick(&eligible)
    }

    fn target(&self, state: &State) -> Option<NodeId> {
        let nodes: Vec<NodeId> = state.nodes.keys().copied().collect();
        self.dice.pick(&nodes)
    }

    async fn label(&self, entry: &Arc<Node>) {
        let Some(target) = self.target(&self.world.newest()) else {
            return;
        };
        let ask = Ask::Label {
            client: self.number,
            target,
        };
        let number = self.world.history.ask(ask);
        let keep = self.dice.chance(0.2);
        let client = self.number;
        let (term, told) = tokio::sync::watch::channel(None);
        let order: Order<()> = Arc::new(move |leads: Arc<Term>| {
            term.send_replace(Some(leads.clone()));
            label(leads, client, number, target).boxed()
        });
        let answer = match through(&self.world, entry, order).await {
            Ok(()) => Answer::Written(None),
            Err(failure) => failure.into(),
        };
        self.world.history.add(Entry::Answered(number, answer));
        if keep {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = told.borrow().clone();
        }
    }

    async fn propose(&self, entry: &Arc<Node>) {
        let Some(store) = &entry.store else { return };
        let state = store.watch().borrow().clone();
        let Some(target) = self.target(&state) else {
            return;
        };
        let number = self.world.history.ask(Ask::Propose {
            client: self.number,
            target,
            at: entry.life.node,
        });
        let node = &state.nodes[&target];
        let proposal = Proposal {
            at: clock::of(entry.slot)(),
            changes: vec![Change::PutNode(
                Expect::Version(node.meta.version),
                Box::new(labelled(node, self.number, number)),
            )],
        };
        let proposed = entry.stop.run_until_cancelled(store.propose(proposal));
        let answer = match proposed.await {
            Some(Ok(version)) => Answer::Written(Some(version)),
            Some(Err(
                error @ (ProposeError::NotLeader(_)
                | ProposeError::Rejected(_)
                | ProposeError::TooLong(_)
                | ProposeError::Encode(_)),
            )) => Answer::Refused(error.to_string()),
            Some(Err(
                error @ (ProposeError::NoQuorum
                | ProposeError::LeaderChanged(_)
                | ProposeError::Stopped(_)),
            )) => Answer::Unknown(error.to_string()),
            None => Answer::Unknown("the node ended".into()),
        };
        self.world.history.add(Entry::Answered(number, answer));
    }

    async fn read(&self, entry: &Arc<Node>) {
        let number = self.world.history.ask(Ask::Read);
        let order: Order<Arc<State>> =
            Arc::new(|term: Arc<Term>| async move { term.read().await }.boxed());
        let answer = match through(&self.world, entry, order).await {
            Ok(state) => Answer::Read(state),
            Err(failure) => failure.into(),
        };
        self.world.history.add(Entry::Answered(number, answer));
    }

    async fn read_at(&self, entry: &Arc<Node>) {
        let Some(store) = &entry.store else { return };
        let number = self.world.history.ask(Ask::ReadAt(entry.life.node));
        let answer = match entry.stop.run_until_cancelled(store.read()).await {
            Some(Ok(state)) => Answer::Read(state),
            Some(Err(error @ (ReadError::NotLeader(_) | ReadError::NoQuorum))) => {
                Answer::Refused(error.to_string())
            }
            Some(Err(ReadError::Stopped(stopped))) => Answer::Refused(stopped.to_string()),
            None => Answer::Refused("the node ended".into()),
        };
        self.world.history.add(Entry::Answered(number, answer));
    }

    /// Uses the handle of a term again that may be over, as a request does that was slow on its way.
    async fn use_old_term(&self, entry: &Arc<Node>) {
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(term) = kept.filter(|term| term.is_over()) else {
            return;
        };
        let worked = match self.dice.chance(0.5) {
            true => {
                let Some(target) = self.target(&self.world.newest()) else {
                    return;
                };
                let ask = Ask::Label {
                    client: self.number,
                    target,
                };
                let number = self.world.history.ask(ask);
                let outcome = label(term.clone(), self.number, number, target).await;
                let worked = outcome.is_ok();
                let answer = match outcome {
                    Ok(()) => Answer::Written(None),
                    Err(error) => Failure::from(error).into(),
                };
                self.world.history.add(Entry::Answered(number, answer));
                worked
            }
            false => term.read().await.is_ok(),
        };
        self.world.history.add(Entry::OldTermUsed {
            life: entry.life,
            term: term.number,
            worked,
        });
    }
}

/// Writes an operation's number into a label, reading first, as `docker node update --label-add` does.
async fn label(
    term: Arc<Term>,
    client: usize,
    number: u64,
    target: NodeId,
) -> Result<(), AdminError> {
    let state = term.read().await?;
    let node = state
        .nodes
        .get(&target)
        .ok_or(AdminError::NoSuchNode(target))?;
    let spec = labelled(node, client, number).spec;
    term.update_node(target, node.meta.version, spec, node.shown_role())
        .await
}

fn labelled(node: &NodeObject, client: usize, number: u64) -> NodeObject {
    let mut next = node.clone();
    let (key, value) = (format!("c{client}"), number.to_string());
    next.spec.labels.insert(key, value);
    next
}
