//! Nodes that die one after another, in any order, ten seconds apart, down to two: a write is accepted after each
//! death. Of the last two, the one with the vote goes on alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::client::Client;
use super::converge;
use super::dice::Dice;
use super::history::Entry;
use super::world::World;
use crate::model::JoinKind;

/// A cluster that has nothing to suffer is at rest after this.
const FIRST_REST: Duration = Duration::from_secs(60);

/// Between two deaths.
const APART: Duration = Duration::from_secs(10);

/// So soon after a death a write is accepted: an election, and a request that was sent to the dead.
const WRITES_AGAIN: Duration = Duration::from_secs(3);

/// One such end of a cluster of five, six or seven. What goes wrong is left in the world.
pub(super) async fn run(world: &Arc<World>, seed: u64) {
    if let Err(why) = die_out(world, seed).await {
        world.trouble(format!("the quorum heals: {why}"));
    }
}

async fn die_out(world: &Arc<World>, seed: u64) -> Result<(), String> {
    let dice = Dice::new(seed, "one by one");
    let founder = world.machines[dice.below(world.machines.len())].clone();
    world.found(&founder).await;
    let others = 4 + dice.below(3);
    let strangers = world.machines.iter().filter(|machine| !machine.is_member());
    for machine in strangers.take(others) {
        world.join(machine, JoinKind::Peer, founder.id).await;
    }
    converge::until_settled(world, FIRST_REST).await?;
    world.run(Client::new(world, 0, seed).work());
    let mut order = world.members();
    dice.shuffle(&mut order);
    while order.len() > 1 {
        let last_two = order.len() == 2;
        if last_two {
            // Which of the two holds the vote is the cluster's choice; the other one dies.
            let Some((leader, _)) = world.leader() else {
                return Err("of the last two none leads".into());
            };
            order.sort_by_key(|machine| machine.id == leader.life.node);
            order.reverse();
        }
        let Some(machine) = order.pop() else { break };
        world
            .history
            .add(Entry::Fault(format!("{} dies for good", machine.id)));
        let survives = dice.clone();
        world.crash(&machine, move || survives.chance(0.5)).await;
        let took = converge::until_written(world, WRITES_AGAIN).await;
        took.map_err(|why| format!("{} of them live: {why}", order.len()))?;
        sleep(APART).await;
        let alive = world.network.up().len();
        if alive != order.len() {
            return Err(format!("{alive} nodes live, and {} should", order.len()));
        }
    }
    Ok(())
}
