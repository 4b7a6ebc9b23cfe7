//! A cluster without faults comes to rest: one leader that all obey, equal replicas, the right voters, every member
//! ready, and writes accepted everywhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Order, through};
use super::node::Node;
use super::work;
use super::world::World;
use crate::cluster::quorum::{self, QuorumStep};
use crate::cluster::store::State;
use crate::manager::AdminError;
use crate::manager::term::Term;
use crate::model::{NodeId, NodeState, Role, Standing};

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A client asks another node after this.
const ATTEMPT: Duration = Duration::from_secs(1);

/// A write loses so many races with those of clients at the most.
const RACES: usize = 10;

/// Waits until nothing is unsettled. The error is what still was after `bound`.
pub(super) async fn until_settled(world: &World, bound: Duration) -> Result<Duration, String> {
    let begun = Instant::now();
    loop {
        let Err(why) = settled(world) else {
            return Ok(begun.elapsed());
        };
        if begun.elapsed() >= bound {
            return Err(format!("{bound:?} after all faults ended, {why}"));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Waits until a write is accepted, by way of any node that answers for the cluster.
pub(super) async fn until_written(world: &World, bound: Duration) -> Result<Duration, String> {
    let begun = Instant::now();
    let mut last = String::from("no node answers for the cluster");
    while begun.elapsed() < bound {
        let up = world.network.up();
        let eligible: Vec<_> = up.into_iter().filter(|node| node.store.is_some()).collect();
        if let Some(entry) = world.dice.pick(&eligible) {
            match timeout(ATTEMPT, write(world, &entry)).await {
                Ok(Ok(())) => return Ok(begun.elapsed()),
                Ok(Err(why)) => last = why,
                Err(_) => last = format!("no answer by way of {}", entry.life.node),
            }
        }
        sleep(LOOK_AGAIN).await;
    }
    Err(format!("no write was accepted in {bound:?}: {last}"))
}

/// Writes by way of every node that answers for the cluster.
pub(super) async fn write_everywhere(world: &World) -> Result<(), String> {
    for entry in world.network.up() {
        let member = world.newest().nodes.contains_key(&entry.life.node);
        if entry.store.is_some() && member {
            let written = write(world, &entry).await;
            written.map_err(|why| format!("a write by way of {} fails: {why}", entry.life.node))?;
        }
    }
    Ok(())
}

/// Writes the time into a node's label, against clients that write there too: of those that race one wins.
async fn write(world: &World, entry: &Arc<Node>) -> Result<(), String> {
    let order: Order<()> = Arc::new(|term: Arc<Term>| {
        async move {
            for _ in 1..RACES {
                match put_time(&term).await {
                    Err(AdminError::OutOfSequence) => {}
                    outcome => return outcome,
                }
            }
            put_time(&term).await
        }
        .boxed()
    });
    let written = through(world, entry, order).await;
    written.map_err(|failure| format!("{failure:?}"))
}

async fn put_time(term: &Term) -> Result<(), AdminError> {
    let state = term.read().await?;
    let (id, node) = state.nodes.iter().next().ok_or(AdminError::NoLeader)?;
    let (mut spec, now) = (node.spec.clone(), super::clock::elapsed());
    spec.labels.insert("written".into(), format!("at {now:?}"));
    term.update_node(*id, node.meta.version, spec, node.shown_role())
        .await
}

/// Whether all is as it should be; the error is the first thing that is not.
fn settled(world: &World) -> Result<(), String> {
    let up = world.network.up();
    let leading = up.iter().filter(|node| {
        let store = node.store.as_ref();
        store.is_some_and(|store| store.leadership().borrow().me)
    });
    let leaders: Vec<_> = leading.cloned().collect();
    let [leader] = &leaders[..] else {
        let names: Vec<_> = leaders.iter().map(|node| node.life.node).collect();
        return Err(format!("{} nodes lead: {names:?}", leaders.len()));
    };
    let term = leader.term.borrow().clone();
    let term = term.ok_or_else(|| format!("{} leads and does no work", leader.life.node))?;
    let store = leader.store.as_ref().expect("who leads has a store");
    let state = store.watch().borrow().clone();
    check_members(world, &state, &term)?;
    check_quorum(world, &state, leader, &term)?;
    work::check(world, &state, &term)?;
    let rotating = state.cluster.as_ref().is_some_and(|c| c.rotation.is_some());
    match rotating {
        true => Err("the rotation of the root does not end".into()),
        false => Ok(()),
    }
}

fn check_members(world: &World, state: &State, term: &Term) -> Result<(), String> {
    let statuses = term.statuses().borrow().clone();
    for machine in world.members() {
        let id = machine.id;
        let Some(object) = state.nodes.get(&id) else {
            match state.removed.contains_key(&id) {
                true => continue,
                false => return Err(format!("{id} was admitted and is no member")),
            }
        };
        let Some(node) = machine.running() else {
            return Err(format!("{id} does not run"));
        };
        if node.standing != object.standing {
            return Err(format!(
                "{id} runs as {:?}, and is {:?}",
                node.standing, object.standing
            ));
        }
        let orders = node.orders.borrow().clone();
        if !orders.in_session || orders.term != term.number {
            return Err(format!(
                "{id} is not in session with the leader of term {}: {} {}",
                term.number, orders.term, orders.in_session
            ));
        }
        let seen = statuses.get(&id).map(|status| status.state);
        if seen != Some(NodeState::Ready) {
            return Err(format!(
                "{id} is in session, and the leader sees it {seen:?}"
            ));
        }
        if orders.role != object.role {
            return Err(format!("{id} was told it is a {:?}", orders.role));
        }
    }
    Ok(())
}

fn check_quorum(world: &World, state: &State, leader: &Node, term: &Term) -> Result<(), String> {
    let store = leader.store.as_ref().expect("who leads has a store");
    let replicas = store.replicas().borrow().clone();
    let holders: BTreeSet<NodeId> = replicas.voters.union(&replicas.learners).copied().collect();
    for id in &holders {
        let node = world.network.life(*id);
        let shown = node
            .as_ref()
            .and_then(|node| node.store.as_ref())
            .map(|store| store.watch().borrow().clone());
        let Some(shown) = shown else {
            return Err(format!("{id} is to hold a replica, and holds none"));
        };
        if *shown != *state {
            return Err(format!(
                "{id} shows version {}, the leader {}",
                shown.version, state.version
            ));
        }
    }
    for (id, object) in &state.nodes {
        let votes = replicas.voters.contains(id);
        if votes != (object.role == Role::Manager) {
            return Err(format!("{id} votes: {votes}, and is a {:?}", object.role));
        }
    }
    let step = quorum::next_step(&term.quorum());
    if step != QuorumStep::Settled {
        return Err(format!("the quorum is not settled: {step:?}"));
    }
    let able = world.members().into_iter().filter(|machine| {
        let object = state.nodes.get(&machine.id);
        object.is_some_and(|node| {
            node.standing == Standing::Eligible && node.pinned != Some(Role::Worker)
        })
    });
    let (able, voters) = (able.count(), replicas.voters.len());
    let least = match able {
        0..=2 => 1,
        3 | 4 => 3,
        _ => 5,
    };
    match voters >= least {
        true => Ok(()),
        false => Err(format!("of {able} nodes that could vote {voters} do")),
    }
}
