//! The store under a clock that stands still: without threads, on disks and a network in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::super::fixtures::{Stores, eventually, id, pass};
use super::super::{Pace, Timings};

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_in_the_time_that_the_timings_say() {
    let mut stores = Stores::new();
    stores.pace = Pace::Inline;
    stores.grow(3).await;
    for number in 10..14 {
        stores.write_once(number).await;
        let dead = stores.leader().await;
        // Followers have heard the leader just now.
        pass(Duration::from_millis(1000)).await;
        let died = Instant::now();
        stores.crash(dead).await;
        stores.write_once(number + 100).await;
        let took = died.elapsed();
        let Timings {
            election_min,
            election_max,
            heartbeat,
        } = Timings::default();
        assert!(took < 2 * election_max + heartbeat, "{took:?}");
        assert!(took > election_min, "{took:?}");
        stores.start(dead).await;
        eventually("it is back", async || {
            let number_of = |node: crate::model::NodeId| node.bits() as u64;
            stores.numbers_on(number_of(dead)).contains(&(number + 100))
        })
        .await;
    }
    stores.end().await;
}

#[tokio::test(start_paused = true)]
async fn minutes_of_partitions_crashes_and_loss_lose_nothing() {
    let mut stores = Stores::new();
    stores.pace = Pace::Inline;
    stores.snapshot_every = 25;
    stores.grow(3).await;
    stores.network.set_delay(Duration::from_millis(1));
    let mut acknowledged = BTreeSet::new();
    for round in 0..24u64 {
        let victim = id(round % 3 + 1);
        match round % 4 {
            0 => stores
                .network
                .isolate(victim, (1..=3).map(id).filter(|node| *node != victim)),
            1 => stores.crash(victim).await,
            2 => stores.network.lose_one_in(3),
            _ => {}
        }
        for number in 0..5 {
            let number = 1000 + 10 * round + number;
            stores.write_once(number).await;
            acknowledged.insert(number);
        }
        stores.network.lose_one_in(0);
        stores.network.heal();
        if !stores.stores.contains_key(&victim) {
            stores.start(victim).await;
        }
        pass(Duration::from_secs(2)).await;
    }
    for number in 1..=3 {
        eventually("all hold all", async || {
            stores.numbers_on(number).is_superset(&acknowledged)
        })
        .await;
    }
    stores.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_says_little() {
    let mut stores = Stores::new();
    stores.pace = Pace::Inline;
    stores.grow(3).await;
    pass(Duration::from_secs(5)).await;
    let before = stores.network.calls();
    pass(Duration::from_secs(20)).await;
    let per_follower = (stores.network.calls() - before) as f64 / 40.0;
    assert!(
        (2.0..5.0).contains(&per_follower),
        "{per_follower} calls a second"
    );
    stores.end().await;
}
