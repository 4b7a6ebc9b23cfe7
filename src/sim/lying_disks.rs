//! Disks that acknowledge what they do not keep, and then a power cut: acknowledged writes are lost, which nothing can
//! prevent. That the invariants tell shows that they look at a real cluster.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::client::Client;
use super::converge;
use super::history::Entry;
use super::world::World;
use crate::model::JoinKind;

/// A cluster that has nothing to suffer is at rest after this.
const REST: Duration = Duration::from_secs(60);

/// A client works for so long with disks that lie.
const WORK: Duration = Duration::from_secs(10);

/// One such loss. What goes wrong is left in the world and in its history.
pub(super) async fn run(world: &Arc<World>, seed: u64) {
    if let Err(why) = lose(world, seed).await {
        world.trouble(format!("a cluster with lying disks runs: {why}"));
    }
}

async fn lose(world: &Arc<World>, seed: u64) -> Result<(), String> {
    let founder = world.machines[0].clone();
    world.found(&founder).await;
    for machine in &world.machines[1..3] {
        world.join(machine, JoinKind::Peer, founder.id).await;
    }
    converge::until_settled(world, REST).await?;
    for machine in world.members() {
        machine.disk.lie();
    }
    // It never ends by itself.
    let _ = timeout(WORK, Client::new(world, 0, seed).work()).await;
    for machine in world.members() {
        world.crash(&machine, || false).await;
    }
    for machine in world.members() {
        world.boot(&machine).await;
    }
    world.history.add(Entry::Healed);
    converge::until_settled(world, REST).await.map(drop)
}
