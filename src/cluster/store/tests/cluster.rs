//! Leaders that die, networks that part, machines that lose power: what was acknowledged stays.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::super::fixtures::{PATIENCE, Stores, eventually, first, id, put, vote_request};
use super::super::{Changed, HandleError, ProposeError, ReadError};
use crate::model::Rejection;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leads_when_the_leader_dies() {
    let mut stores = Stores::voters(3).await;
    stores.write(10).await;
    let before = stores.store(2).leadership().borrow().term;
    stores.crash(id(1)).await;
    let died = Instant::now();
    stores.write(11).await;
    let took = died.elapsed();
    let leader = stores.leader().await;
    assert_ne!(leader, id(1));
    assert!(stores.stores[&leader].leadership().borrow().term > before);
    // Not a measurement: machines that run tests are busy.
    assert!(took < Duration::from_secs(10), "{took:?}");
    stores.start(id(1)).await;
    eventually("the old leader has all writes", async || {
        stores.numbers_on(1) == BTreeSet::from([10, 11])
    })
    .await;
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_refuses_and_the_majority_goes_on() {
    let stores = Stores::voters(3).await;
    stores.write(10).await;
    stores.network.isolate(id(1), [id(2), id(3)]);
    let started = Instant::now();
    let refused = stores.store(1).propose(put(66)).await;
    assert!(
        matches!(
            refused,
            Err(ProposeError::NoQuorum | ProposeError::NotLeader(_))
        ),
        "{refused:?}"
    );
    let refused = stores.store(1).read().await;
    assert!(
        matches!(refused, Err(ReadError::NoQuorum | ReadError::NotLeader(_))),
        "{refused:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(15));
    let mut seen = stores.store(1).leadership();
    let ceased = timeout(PATIENCE, seen.wait_for(|seen| !seen.me)).await;
    ceased.unwrap().unwrap();
    stores.write(11).await;
    stores.network.heal();
    eventually("the minority has what the majority wrote", async || {
        stores.numbers_on(1).is_superset(&BTreeSet::from([10, 11]))
    })
    .await;
    // What timed out in the minority was given up when it came back.
    assert!(!stores.numbers_on(1).contains(&66));
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_messages_only_cost_time() {
    let stores = Stores::voters(3).await;
    stores.network.lose_one_in(7);
    stores.network.set_delay(Duration::from_millis(2));
    let mut written = BTreeSet::new();
    for number in 10..40 {
        stores.write_once(number).await;
        written.insert(number);
    }
    stores.network.lose_one_in(0);
    for number in 1..=3 {
        eventually("all have all writes", async || {
            stores.numbers_on(number).is_superset(&written)
        })
        .await;
    }
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_loss_of_all_machines_loses_no_acknowledged_write() {
    let mut stores = Stores::voters(3).await;
    for round in 0..3 {
        let mut acknowledged = BTreeSet::new();
        for number in 0..20 {
            let number = 100 * (round + 1) + number;
            stores.write_once(number).await;
            acknowledged.insert(number);
        }
        for number in 1..=3 {
            stores.crash(id(number)).await;
        }
        for number in 1..=3 {
            stores.start(id(number)).await;
        }
        let leader = stores.leader().await;
        let state = stores.stores[&leader].read().await.unwrap();
        for number in acknowledged {
            assert!(state.nodes.contains_key(&id(number)), "{number} was lost");
        }
    }
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guards_hold_between_concurrent_writers() {
    let stores = Stores::voters(3).await;
    let leader = stores.store(1).clone();
    let attempts = (0..32).map(|_| {
        let leader = leader.clone();
        async move { leader.propose(put(7)).await }
    });
    let results = futures_util::future::join_all(attempts).await;
    let won = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1);
    for result in results.into_iter().filter(Result::is_err) {
        assert!(matches!(
            result,
            Err(ProposeError::Rejected(Rejection::Exists))
        ));
    }
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_replica_tells_every_change_in_order() {
    let stores = Stores::voters(3).await;
    let mut events: Vec<_> = (1..=3)
        .map(|number| stores.store(number).events())
        .collect();
    let mut versions = Vec::new();
    for number in 10..30 {
        versions.push(stores.write(number).await);
    }
    for events in &mut events {
        let mut told = Vec::new();
        while told.len() < versions.len() {
            let event = timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
            if matches!(event.changed, Changed::Node { old: None, .. }) {
                told.push(event.version);
            }
        }
        assert_eq!(told, versions);
    }
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_write_is_seen_by_who_wrote_it() {
    let stores = Stores::voters(3).await;
    let watch = stores.store(1).watch();
    for number in 10..60 {
        let version = stores.store(1).propose(put(number)).await.unwrap();
        assert!(watch.borrow().version >= version);
    }
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ended_says_so_and_its_files_open_again() {
    let mut stores = Stores::voters(1).await;
    stores.write(10).await;
    let store = stores.store(1).clone();
    store.shutdown().await;
    assert!(matches!(
        store.propose(put(11)).await,
        Err(ProposeError::Stopped(_))
    ));
    assert!(matches!(store.read().await, Err(ReadError::Stopped(_))));
    assert!(store.bootstrap(first()).await.is_err());
    assert!(store.handle(id(2), b"").await.is_err());
    assert!(store.stopped().borrow().is_some());
    assert!(!store.leadership().borrow().me);
    stores.start(id(1)).await;
    eventually("the write is there", async || {
        stores.numbers_on(1) == BTreeSet::from([10])
    })
    .await;
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_that_no_message_can_hold_is_refused() {
    let stores = Stores::voters(1).await;
    let mut huge = put(7);
    for change in &mut huge.changes {
        if let crate::model::Change::PutNode(_, node) = change {
            node.spec.name = "x".repeat(9 << 20);
        }
    }
    let refused = stores.store(1).propose(huge).await;
    assert!(
        matches!(refused, Err(ProposeError::TooLong(_))),
        "{refused:?}"
    );
    stores.write(8).await;
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_speaks_for_another_node() {
    let stores = Stores::voters(2).await;
    for garbage in [&b""[..], b"\x01", b"\x09garbage", &[1; 64]] {
        assert!(stores.store(2).handle(id(1), garbage).await.is_err());
    }
    // A real request of node 1, sent by node 3.
    let refused = stores.store(2).handle(id(3), &vote_request(1)).await;
    assert!(
        matches!(refused, Err(HandleError::Impostor { .. })),
        "{refused:?}"
    );
    stores.end().await;
}
