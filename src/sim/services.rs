//! A service from its creation to its removal, while nodes die and leaders change: what comes within which time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::converge;
use super::customer::{Customer, Kind, create, scale, spec};
use super::history::Entry;
use super::machine::Machine;
use super::work::{live, state_of};
use super::world::World;
use crate::model::{JoinKind, NodeId, Service, ServiceId, Task, TaskState};

/// A cluster that has nothing to suffer is at rest after this.
const FIRST_REST: Duration = Duration::from_secs(60);

/// From the answer to a creation until all tasks run: an image comes, and containers begin two at a time.
const RUNS: Duration = Duration::from_secs(1);

/// From a node's death until others run what it ran.
const MOVES: Duration = Duration::from_secs(5);

/// From a leader's election until it knows how every task on every live node is.
const PICTURE: Duration = Duration::from_secs(1);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// One such life. What goes wrong is left in the world.
pub(super) async fn run(world: &Arc<World>, seed: u64) {
    if let Err(why) = live_through(world, seed).await {
        world.trouble(format!("services run: {why}"));
    }
}

async fn live_through(world: &Arc<World>, seed: u64) -> Result<(), String> {
    let founder = world.machines[0].clone();
    world.found(&founder).await;
    for machine in &world.machines[1..3] {
        world.join(machine, JoinKind::Peer, founder.id).await;
    }
    converge::until_settled(world, FIRST_REST).await?;
    let customer = Customer::new(world, seed);
    let made = {
        let kind = Kind::Replicas(6);
        create(&customer, kind, spec("web", kind, false)).await
    };
    let web = made.ok_or("no service was made")?;
    let first = until_running(world, web, 6, RUNS).await?;
    spread(&first, 3, 2)?;

    let lost = some_follower(world)?;
    die(world, &lost).await;
    let second = until_running(world, web, 6, MOVES).await?;
    spread(&second, 2, 3)?;
    kept(&first, &second, lost.id)?;
    world.boot(&lost).await;
    converge::until_settled(world, FIRST_REST).await?;
    kept(&second, &running(world, web)?, lost.id)?;

    let (leader, _) = world.leader().ok_or("none leads")?;
    let leader = world
        .machine(leader.life.node)
        .cloned()
        .ok_or("a leader is a machine")?;
    die(world, &leader).await;
    whole_picture(world, leader.id).await?;
    let third = until_running(world, web, 6, MOVES).await?;
    kept(&second, &third, leader.id)?;
    world.boot(&leader).await;
    converge::until_settled(world, FIRST_REST).await?;

    let service = service(world, web)?;
    scale(&customer, &service, 3).await;
    until_running(world, web, 3, RUNS).await?;
    forget(&customer, web).await?;
    Ok(())
}

/// A node that stays cut off, of which it is claimed that all is well again. What is wrong is left in the world.
pub(super) async fn stay_broken(world: &Arc<World>, seed: u64) {
    let broken = async {
        let founder = world.machines[0].clone();
        world.found(&founder).await;
        for machine in &world.machines[1..3] {
            world.join(machine, JoinKind::Peer, founder.id).await;
        }
        converge::until_settled(world, FIRST_REST).await?;
        let kind = Kind::Replicas(6);
        let customer = Customer::new(world, seed);
        create(&customer, kind, spec("web", kind, false)).await;
        converge::until_settled(world, FIRST_REST).await?;
        let lost = some_follower(world)?.id;
        let others = [
            world.machines[0].id,
            world.machines[1].id,
            world.machines[2].id,
        ];
        let others: Vec<NodeId> = others.into_iter().filter(|id| *id != lost).collect();
        world.network.cut(&[lost], &others);
        world.network.cut(&others, &[lost]);
        sleep(MOVES).await;
        world.history.add(Entry::Healed);
        converge::until_settled(world, MOVES).await.map(drop)
    };
    if let Err(why) = broken.await {
        world.trouble(format!("a healed cluster converges: {why}"));
    }
}

/// The leader after `lost` has heard all that live within a second.
async fn whole_picture(world: &World, lost: NodeId) -> Result<(), String> {
    let deadline = Instant::now() + MOVES;
    let term = loop {
        match world.leader() {
            Some((node, term)) if node.life.node != lost => break term,
            _ if Instant::now() > deadline => return Err("nobody is elected".into()),
            _ => sleep(LOOK).await,
        }
    };
    let live = world.network.up().into_iter().map(|node| node.life.node);
    let live: BTreeSet<NodeId> = live.collect();
    let deadline = Instant::now() + PICTURE;
    loop {
        let heard = term.heard();
        if live.is_subset(&heard) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let silent: Vec<&NodeId> = live.difference(&heard).collect();
            return Err(format!(
                "a second after its election the leader knows nothing of {silent:?}"
            ));
        }
        sleep(LOOK).await;
    }
}

pub(super) async fn forget(customer: &Customer, web: ServiceId) -> Result<(), String> {
    let world = &customer.world;
    let removed = customer.forget(web).await;
    removed.ok_or("it cannot be removed")?;
    let deadline = Instant::now() + MOVES;
    while world.newest().work.services.contains_key(&web) {
        if Instant::now() > deadline {
            return Err("a removed service does not go".into());
        }
        sleep(LOOK).await;
    }
    let members = world.members();
    match members
        .iter()
        .any(|machine| !machine.host.running().is_empty())
    {
        true => Err("something of a removed service runs".into()),
        false => Ok(()),
    }
}

async fn die(world: &Arc<World>, machine: &Machine) {
    world
        .history
        .add(Entry::Fault(format!("{} dies", machine.id)));
    world.crash(machine, || true).await;
    // Its containers are not seen, whether or not they run.
    machine.host.lose_power();
}

fn some_follower(world: &World) -> Result<Arc<Machine>, String> {
    let (leader, _) = world.leader().ok_or("none leads")?;
    let mut members = world.members();
    members.retain(|machine| machine.id != leader.life.node);
    members.pop().ok_or_else(|| "there is no other".into())
}

pub(super) fn service(world: &World, id: ServiceId) -> Result<Arc<Service>, String> {
    let found = world.newest().work.services.get(&id).cloned();
    found.ok_or_else(|| "the service is gone".into())
}

/// The tasks that the leader knows to run.
pub(super) fn running(world: &World, id: ServiceId) -> Result<Vec<Task>, String> {
    let (node, term) = world.leader().ok_or("none leads")?;
    let state = node
        .store
        .as_ref()
        .map(|store| store.watch().borrow().clone());
    let (state, observed) = (state.unwrap_or_default(), term.observed());
    let service = state.work.services.get(&id).cloned().ok_or("it is gone")?;
    let all = live(&state, &service, &observed).into_iter();
    let statuses = term.statuses().borrow().clone();
    let up = |task: &&Task| {
        let node = task.node.and_then(|node| statuses.get(&node));
        node.is_some_and(|node| node.state != crate::model::NodeState::Down)
    };
    let running = all.filter(|task| state_of(task, &observed) == TaskState::Running);
    Ok(running.filter(up).cloned().collect())
}

pub(super) async fn until_running(
    world: &World,
    id: ServiceId,
    count: usize,
    bound: Duration,
) -> Result<Vec<Task>, String> {
    let began = Instant::now();
    loop {
        let tasks = running(world, id);
        let here = |task: &Task| {
            let machine = task.node.and_then(|node| world.machine(node));
            machine.is_some_and(|machine| machine.host.running().contains(&task.id))
        };
        if let Ok(tasks) = &tasks
            && tasks.len() == count
            && tasks.iter().all(here)
        {
            return Ok(tasks.clone());
        }
        if began.elapsed() > bound {
            return Err(format!(
                "{count} tasks do not run after {bound:?}: {tasks:#?}"
            ));
        }
        sleep(LOOK).await;
    }
}

fn spread(tasks: &[Task], nodes: usize, most: usize) -> Result<(), String> {
    let on: BTreeSet<_> = tasks.iter().map(|task| task.node).collect();
    let fullest = on
        .iter()
        .map(|node| tasks.iter().filter(|task| task.node == *node).count());
    match (on.len(), fullest.max()) == (nodes, Some(most)) {
        true => Ok(()),
        false => Err(format!(
            "they are not spread over {nodes} nodes: {tasks:#?}"
        )),
    }
}

/// Tasks that were not on the node that died are still the same.
pub(super) fn kept(before: &[Task], after: &[Task], dead: NodeId) -> Result<(), String> {
    let elsewhere = before.iter().filter(|task| task.node != Some(dead));
    for task in elsewhere {
        if !after.iter().any(|other| other.id == task.id) {
            return Err(format!("{} was replaced without need", task.id));
        }
    }
    Ok(())
}
