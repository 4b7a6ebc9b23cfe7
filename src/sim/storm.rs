//! A cluster in trouble: faults, operators and clients all at once, then calm, in which it must come to rest.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::client::Client;
use super::converge;
use super::customer::Customer;
use super::dice::Dice;
use super::faults::Faults;
use super::operator::Operator;
use super::world::World;
use crate::model::JoinKind;

/// Clients at work.
const CLIENTS: usize = 3;

/// A cluster that has nothing to suffer is at rest after this.
const FIRST_REST: Duration = Duration::from_secs(60);

/// So soon after all faults have ended a write is accepted.
const WRITES_AGAIN: Duration = Duration::from_secs(10);

/// So soon everything else is as it should be: the longest of it is a voter's move to another zone, or a learner that
/// is given up, after 30 s each, and a session over a connection that a machine has forgotten, after 40 s.
const RESTS_AGAIN: Duration = Duration::from_secs(90);

/// An operator's last act takes so long at the most: each of its steps has a deadline of its own.
const LAST_ACT: Duration = Duration::from_secs(60);

/// How many machines there are at first, and for how long they suffer, in seconds.
const MACHINES: (usize, usize) = (2, 5);
const STORM_SECS: (u64, u64) = (10, 25);

/// One storm. What goes wrong is left in the world.
pub(super) async fn run(world: &Arc<World>, seed: u64) {
    if let Err(why) = suffer(world, seed).await {
        world.trouble(format!("a healed cluster converges: {why}"));
    }
}

async fn suffer(world: &Arc<World>, seed: u64) -> Result<(), String> {
    let dice = Dice::new(seed, "storm");
    let faults = Faults {
        world: world.clone(),
        dice: Dice::new(seed, "faults"),
    };
    let operator = Operator {
        world: world.clone(),
        dice: Dice::new(seed, "operator"),
    };
    let founder = world.machines[dice.below(world.machines.len())].clone();
    world.found(&founder).await;
    let others = MACHINES.0 + dice.below(MACHINES.1);
    let strangers = world.machines.iter().filter(|machine| !machine.is_member());
    for machine in strangers.take(others) {
        let kind = match dice.below(8) {
            0 => JoinKind::Worker,
            1 => JoinKind::Manager,
            _ => JoinKind::Peer,
        };
        world.join(machine, kind, founder.id).await;
    }
    converge::until_settled(world, FIRST_REST).await?;
    for number in 0..CLIENTS {
        world.run(Client::new(world, number, seed).work());
    }
    world.make_mistakes(dice.chance(0.7));
    let busy = dice.chance(0.6);
    // Dropped when the operator has done its last.
    let (works, idle) = oneshot::channel::<()>();
    let end = Instant::now()
        + dice.span(
            Duration::from_secs(STORM_SECS.0),
            Duration::from_secs(STORM_SECS.1),
        );
    let customer = Customer {
        world: world.clone(),
        dice: Dice::new(seed, "customer"),
    };
    let (shops, closed) = oneshot::channel::<()>();
    world.run(async move {
        customer.work(end).await;
        drop(shops);
    });
    if busy {
        let (pauses, operator) = (Dice::new(seed, "operator's pauses"), operator.clone());
        world.run(async move {
            while Instant::now() < end {
                sleep(pauses.millis(200, 2500)).await;
                operator.act().await;
            }
            drop(works);
        });
    } else {
        drop(works);
    }
    faults.rage(end).await;
    faults.heal().await;
    let both = async { (idle.await, closed.await) };
    if timeout(LAST_ACT, both).await.is_err() {
        return Err(format!(
            "what an operator began takes longer than {LAST_ACT:?}"
        ));
    }
    converge::until_written(world, WRITES_AGAIN).await?;
    converge::until_settled(world, RESTS_AGAIN).await?;
    converge::write_everywhere(world).await?;
    operator.see_one_off().await
}
