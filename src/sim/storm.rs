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
use crate::model::{JoinKind, NodeId};

/// A cluster that has nothing to suffer is at rest after this.
const FIRST_REST: Duration = Duration::from_secs(60);

/// So soon after all faults have ended a write is accepted.
const WRITES_AGAIN: Duration = Duration::from_secs(10);

/// So soon everything else is as it should be: the longest of it is a voter's move to another zone, or a learner that
/// is given up, after 30 s each, and a session over a connection that a machine has forgotten, after 40 s.
const RESTS_AGAIN: Duration = Duration::from_secs(90);

/// An operator's last act takes so long at the most: each of its steps has a deadline of its own.
const LAST_ACT: Duration = Duration::from_secs(60);

/// How large a storm is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Machines besides the first, at least, and so many kinds of that number.
    machines: (usize, usize),
    /// For how long they suffer.
    lasts: (Duration, Duration),
    /// Between two faults, in milliseconds.
    faults: (u64, u64),
    /// Between two acts of the customer, in milliseconds.
    acts: (u64, u64),
    /// Clients at work besides the customer.
    clients: usize,
    /// So often of one an operator changes members meanwhile, and takes one out at the end.
    operators: f64,
}

/// Everything at once, for a while.
pub(super) const LONG: Shape = Shape {
    machines: (2, 5),
    lasts: (Duration::from_secs(10), Duration::from_secs(25)),
    faults: (20, 1600),
    acts: (50, 1500),
    clients: 3,
    operators: 0.6,
};

/// Services alone, on three machines, for so short a time that a thousand of them are a minute's work.
pub(super) const SHORT: Shape = Shape {
    machines: (2, 1),
    lasts: (Duration::from_millis(800), Duration::from_millis(2500)),
    faults: (10, 500),
    acts: (10, 200),
    clients: 0,
    operators: 0.0,
};

/// One storm. What goes wrong is left in the world.
pub(super) async fn run(world: &Arc<World>, seed: u64, shape: Shape) {
    if let Err(why) = suffer(world, seed, shape).await {
        world.trouble(format!("a healed cluster converges: {why}"));
    }
}

/// Lets this many machines more join, each as what the dice say.
async fn gather(world: &Arc<World>, dice: &Dice, founder: NodeId, others: usize) {
    let strangers = world.machines.iter().filter(|machine| !machine.is_member());
    for machine in strangers.take(others) {
        let kind = match dice.below(8) {
            0 => JoinKind::Worker,
            1 => JoinKind::Manager,
            _ => JoinKind::Peer,
        };
        world.join(machine, kind, founder).await;
    }
}

async fn suffer(world: &Arc<World>, seed: u64, shape: Shape) -> Result<(), String> {
    let dice = Dice::new(seed, "storm");
    let faults = Faults {
        world: world.clone(),
        dice: Dice::new(seed, "faults"),
        pause: shape.faults,
    };
    let operator = Operator {
        world: world.clone(),
        dice: Dice::new(seed, "operator"),
    };
    let founder = world.machines[dice.below(world.machines.len())].clone();
    world.found(&founder).await;
    let others = shape.machines.0 + dice.below(shape.machines.1);
    gather(world, &dice, founder.id, others).await;
    converge::until_settled(world, FIRST_REST).await?;
    for number in 0..shape.clients {
        world.run(Client::new(world, number, seed).work());
    }
    world.make_mistakes(dice.chance(0.7));
    let busy = dice.chance(shape.operators);
    // Dropped when the operator has done its last.
    let (works, idle) = oneshot::channel::<()>();
    let end = Instant::now() + dice.span(shape.lasts.0, shape.lasts.1);
    let customer = Customer {
        pause: shape.acts,
        ..Customer::new(world, seed)
    };
    let (shops, closed) = oneshot::channel::<()>();
    let shopper = customer.clone();
    world.run(async move {
        shopper.work(end).await;
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
    if timeout(LAST_ACT, customer.put_right()).await.is_err() {
        return Err("what is bad cannot be put right".into());
    }
    converge::until_settled(world, RESTS_AGAIN).await?;
    if shape.operators == 0.0 {
        return Ok(());
    }
    converge::write_everywhere(world).await?;
    operator.see_one_off().await
}
