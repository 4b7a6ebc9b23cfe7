//! A lost quorum and the new beginning after it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::super::fixtures::{PATIENCE, Stores, eventually, id, put};
use super::super::{FileFault, RecoverError, Store, StoreConfig, recover, recover_on};
use crate::model::NodeId;

fn recover_here(stores: &Stores, number: u64) -> super::super::Recovered {
    let disk = Arc::new(stores.disks[&id(number)].clone());
    recover_on(&stores.config(id(number)), disk).unwrap()
}

/// Gives these nodes a replica each and then a vote each.
async fn grow(stores: &Stores, leader: u64, others: &[u64]) {
    let store = stores.store(leader);
    for other in others {
        store.add_learner(id(*other)).await.unwrap();
    }
    let nodes: BTreeSet<NodeId> = others.iter().copied().chain([leader]).map(id).collect();
    eventually("the replicas are filled", async || {
        let replicas = store.replicas().borrow().clone();
        let caught_up = replicas.caught_up(tokio::time::Instant::now(), Duration::from_secs(3));
        others.iter().all(|other| caught_up.contains(&id(*other)))
    })
    .await;
    store.set_voters(nodes, true).await.unwrap();
}

/// Five voters that parted: 1 and 2 hold a write that was never acknowledged, and 3, 4 and 5 went on.
async fn parted() -> (Stores, BTreeSet<u64>) {
    let stores = Stores::voters(5).await;
    let mut acknowledged = BTreeSet::new();
    for number in 10..20 {
        stores.write(number).await;
        acknowledged.insert(number);
    }
    for minority in [1, 2] {
        stores.network.isolate(id(minority), [3, 4, 5].map(id));
    }
    let leader = stores.store(1).clone();
    let unheard = [666, 667, 668].map(|number| leader.propose(put(number)));
    let unheard = timeout(
        Duration::from_secs(1),
        futures_util::future::join_all(unheard),
    );
    assert!(unheard.await.is_err() || !leader.leadership().borrow().me);
    eventually("the minority has no leader", async || {
        !stores.store(1).leadership().borrow().me
    })
    .await;
    for number in 20..30 {
        stores.write(number).await;
        acknowledged.insert(number);
    }
    (stores, acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_survivor_keeps_every_acknowledged_write_and_the_cluster_grows_again() {
    let (mut stores, acknowledged) = parted().await;
    eventually("5 holds all", async || {
        let last = |number| stores.store(number).replicas().borrow().last_log;
        last(5) == last(3) && last(5) == last(4)
    })
    .await;
    for dead in [1, 3, 4] {
        stores.crash(id(dead)).await;
    }
    let last = |number| stores.store(number).replicas().borrow().last_log;
    assert!(last(5) > last(2), "{:?} {:?}", last(5), last(2));
    stores.crash(id(5)).await;
    let recovered = recover_here(&stores, 5);
    assert_eq!(recovered.node, id(5));
    assert_eq!(recovered.members, acknowledged.len());
    assert_eq!(recovered.voters_before, (1..=5).map(id).collect::<Vec<_>>());
    stores.network.heal();
    stores.start(id(5)).await;
    // The dead come back as a majority of the past, which is what the survivor was told to give up.
    for back in [1, 3, 4] {
        stores.start(id(back)).await;
    }
    let mut leads = stores.store(5).leadership();
    timeout(PATIENCE, leads.wait_for(|seen| seen.me))
        .await
        .unwrap()
        .unwrap();
    let state = stores.store(5).read().await.unwrap();
    let have: BTreeSet<u64> = state.nodes.keys().map(|id| id.bits() as u64).collect();
    assert_eq!(have, acknowledged);
    stores.store(5).propose(put(40)).await.unwrap();
    grow(&stores, 5, &[1, 2, 3, 4]).await;
    stores.store(5).propose(put(41)).await.unwrap();
    let mut expected = acknowledged;
    expected.extend([40, 41]);
    for number in 1..=5 {
        eventually("all replicas are the survivor's", async || {
            stores.numbers_on(number) == expected
        })
        .await;
    }
    // They are one cluster: it lives without the survivor.
    stores.crash(id(5)).await;
    stores.write(42).await;
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_of_the_past_never_leads_beside_the_survivor() {
    let mut stores = Stores::voters(3).await;
    stores.write(10).await;
    eventually("3 holds all", async || stores.numbers_on(3).contains(&10)).await;
    for dead in [1, 2, 3] {
        stores.crash(id(dead)).await;
    }
    recover_here(&stores, 3);
    stores.start(id(3)).await;
    stores.write(11).await;
    let mut outdated = tokio::task::JoinSet::new();
    for back in [1, 2] {
        stores.start(id(back)).await;
        let mut led = stores.store(back).leadership();
        outdated.spawn(async move { led.wait_for(|seen| seen.me).await.map(drop) });
    }
    // In no haste: the past has had time for several elections.
    let elections = 10 * stores.config(id(1)).timings.election_max;
    let led = timeout(elections, outdated.join_next()).await;
    assert!(led.is_err(), "a replica of the past leads: {led:?}");
    grow(&stores, 3, &[1, 2]).await;
    for number in [1, 2, 3] {
        eventually("all replicas are the survivor's", async || {
            stores.numbers_on(number) == [10, 11].into()
        })
        .await;
    }
    outdated.shutdown().await;
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_are_ahead_of_the_survivor_begin_again() {
    let mut stores = Stores::new();
    // They have snapshots and purged logs to leave behind.
    stores.snapshot_every = 5;
    stores.grow(3).await;
    for number in 10..15 {
        stores.write(number).await;
    }
    eventually("3 has them", async || stores.numbers_on(3).len() == 5).await;
    stores.crash(id(3)).await;
    for number in 15..40 {
        stores.write(number).await;
    }
    stores.crash(id(1)).await;
    stores.crash(id(2)).await;
    // Whoever recovers the oldest replica loses what it never had. That is a choice; confusion is not.
    recover_here(&stores, 3);
    stores.start(id(3)).await;
    for back in [1, 2] {
        stores.start(id(back)).await;
    }
    stores.network.isolate(id(1), [id(2)]);
    let mut leads = stores.store(3).leadership();
    timeout(PATIENCE, leads.wait_for(|seen| seen.me))
        .await
        .unwrap()
        .unwrap();
    stores.store(3).propose(put(50)).await.unwrap();
    stores.network.heal();
    grow(&stores, 3, &[1, 2]).await;
    stores.store(3).propose(put(51)).await.unwrap();
    let expected: BTreeSet<u64> = (10..15).chain([50, 51]).collect();
    for number in 1..=3 {
        eventually("all hold the survivor's state", async || {
            stores.numbers_on(number) == expected
        })
        .await;
        let same = stores.store(number).watch().borrow().clone();
        assert_eq!(same, stores.store(3).watch().borrow().clone());
    }
    // They stay what they are when they start again.
    stores.crash(id(1)).await;
    stores.start(id(1)).await;
    eventually("1 is as it was", async || stores.numbers_on(1) == expected).await;
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_which_nobody_knows_whether_they_were_committed_are_kept() {
    let mut stores = Stores::voters(3).await;
    stores.write(10).await;
    stores.network.isolate(id(1), [id(2), id(3)]);
    let leader = stores.store(1).clone();
    let _ = timeout(Duration::from_millis(200), leader.propose(put(11))).await;
    stores.crash(id(2)).await;
    stores.crash(id(3)).await;
    stores.kill(id(1)).await;
    recover_here(&stores, 1);
    stores.start(id(1)).await;
    eventually("both are there", async || {
        stores.numbers_on(1) == BTreeSet::from([10, 11])
    })
    .await;
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_may_be_done_again_and_after_snapshots() {
    let mut stores = Stores::new();
    stores.snapshot_every = 10;
    stores.grow(3).await;
    let mut expected = BTreeSet::new();
    for round in 0..3 {
        for number in 0..25 {
            let number = 1000 * (round + 1) + number;
            stores.write_once(number).await;
            expected.insert(number);
        }
        // A quorum without the first has acknowledged what is on its disk a moment later.
        let leader = stores.leader().await;
        let replicas = stores.stores[&leader].replicas();
        eventually("it is on the first one's disk", async || {
            let replicas = replicas.borrow();
            let last = replicas.last_log.map(|(_, index)| index);
            replicas.matched.get(&id(1)).copied() >= last
        })
        .await;
        for number in 1..=3 {
            if stores.stores.contains_key(&id(number)) {
                stores.crash(id(number)).await;
            }
        }
        recover_here(&stores, 1);
        stores.start(id(1)).await;
        let mut leads = stores.store(1).leadership();
        timeout(PATIENCE, leads.wait_for(|seen| seen.me))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stores.numbers_on(1), expected);
    }
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_that_the_disk_refuses_changes_nothing() {
    let mut stores = Stores::voters(3).await;
    stores.write(10).await;
    for number in 1..=3 {
        stores.kill(id(number)).await;
    }
    let disk = stores.disks[&id(1)].clone();
    disk.fail_log_after(Some(3));
    let refused = recover_on(&stores.config(id(1)), Arc::new(disk.clone()));
    assert!(matches!(refused, Err(RecoverError::File(_))), "{refused:?}");
    disk.crash(|| false);
    disk.fail_log_after(None);
    for number in 1..=3 {
        stores.start(id(number)).await;
    }
    stores.write(11).await;
    for number in 1..=3 {
        eventually("all go on as before", async || {
            stores.numbers_on(number) == BTreeSet::from([10, 11])
        })
        .await;
    }
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_must_be_something_to_recover_and_no_daemon_on_it() {
    let dir = TempDir::new().unwrap();
    let config = StoreConfig::new(dir.path().join("none"), id(1));
    assert!(matches!(
        recover(&config),
        Err(RecoverError::NothingHere(_))
    ));
    let config = StoreConfig::new(dir.path().join("raft"), id(1));
    let tasks = Default::default();
    let network = super::super::memory::MemoryNetwork::default();
    let open = || {
        let stop = tokio_util::sync::CancellationToken::new();
        Store::open(config.clone(), network.link(id(1)), &tasks, stop)
    };
    let store = open().await.unwrap();
    let busy = recover(&config);
    assert!(
        matches!(&busy, Err(RecoverError::File(FileFault::InUse { path })) if path.ends_with("raft/log")),
        "{busy:?}"
    );
    store.shutdown().await;
    // It was opened and never used.
    assert!(matches!(
        recover(&config),
        Err(RecoverError::NothingHere(_))
    ));
    let store = open().await.unwrap();
    store
        .bootstrap(super::super::fixtures::first())
        .await
        .unwrap();
    store.shutdown().await;
    let recovered = recover(&config).unwrap();
    assert_eq!((recovered.version, recovered.members), (1, 0));
    let store = open().await.unwrap();
    assert_eq!(store.read().await.unwrap().version, 1);
    store.shutdown().await;
}
