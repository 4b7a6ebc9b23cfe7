//! Replicas that are added, filled, made voters, taken away.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::super::fixtures::{
    PATIENCE, Stores, eventually, first, id, proposal, put, vote_request,
};
use super::super::{ChangeError, HandleError, ProposeError, Replicas};
use crate::cluster::quorum::{Candidate, QuorumStep, QuorumView, next_step};
use crate::model::{Change, Expect, NodeId};

fn set(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
    numbers.into_iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_filled_by_a_snapshot_in_pieces() {
    let mut stores = Stores::new();
    stores.snapshot_every = 20;
    stores.grow(1).await;
    // Three pieces and more of a snapshot.
    for number in 10..60 {
        let mut proposal = put(number);
        for change in &mut proposal.changes {
            if let Change::PutNode(_, node) = change {
                node.spec.name = format!("{number}").repeat(40_000);
            }
        }
        stores.store(1).propose(proposal).await.unwrap();
    }
    eventually("the log was purged", async || {
        stores.disks[&id(1)].has_snapshot()
    })
    .await;
    stores.start(id(2)).await;
    stores.store(1).add_learner(id(2)).await.unwrap();
    eventually("the learner has everything", async || {
        stores.numbers_on(2) == (10..60).collect()
    })
    .await;
    let leader = stores.store(1).watch().borrow().clone();
    let learner = stores.store(2).watch().borrow().clone();
    assert_eq!(leader, learner);
    eventually("the leader knows it is caught up", async || {
        let replicas = stores.store(1).replicas().borrow().clone();
        let caught_up = replicas.caught_up(Instant::now(), Duration::from_secs(3));
        caught_up.contains(&id(2)) && replicas.learners == set([2])
    })
    .await;
    // It survives a restart with its snapshot, and is then at line rate.
    stores.crash(id(2)).await;
    stores.start(id(2)).await;
    stores.write(70).await;
    eventually("the learner has the new write", async || {
        stores.numbers_on(2).contains(&70)
    })
    .await;
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_change_while_one_is_dead() {
    let mut stores = Stores::voters(3).await;
    stores.start(id(4)).await;
    stores.store(1).add_learner(id(4)).await.unwrap();
    stores.crash(id(3)).await;
    stores
        .store(1)
        .set_voters(set([1, 2, 4]), false)
        .await
        .unwrap();
    stores.write(10).await;
    stores.crash(id(2)).await;
    stores.store(1).set_voters(set([1]), true).await.unwrap();
    eventually("one votes and the others learn", async || {
        let replicas = stores.store(1).replicas().borrow().clone();
        replicas.voters == set([1]) && replicas.learners == set([2, 4]) && !replicas.changing
    })
    .await;
    stores.write(11).await;
    stores.store(1).remove_learner(id(2)).await.unwrap();
    stores.crash(id(4)).await;
    stores.write(12).await;
    assert_eq!(stores.numbers_on(1), BTreeSet::from([10, 11, 12]));
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_changes_are_refused_in_words() {
    let mut stores = Stores::voters(2).await;
    let leader = stores.store(1).clone();
    assert!(matches!(
        leader.set_voters(set([]), false).await,
        Err(ChangeError::NoVoters)
    ));
    assert!(matches!(
        leader.set_voters(set([1, 2, 9]), false).await,
        Err(ChangeError::NotAReplica(node)) if node == id(9)
    ));
    assert!(matches!(
        stores.store(2).add_learner(id(9)).await,
        Err(ChangeError::NotLeader(Some(node))) if node == id(1)
    ));
    assert!(matches!(
        leader.transfer(id(9)).await,
        Err(ChangeError::NotAReplica(_))
    ));
    let version = stores.write(9).await;
    let remove = Change::RemoveNode(Expect::Version(version), id(9));
    leader.propose(proposal([remove])).await.unwrap();
    assert!(matches!(
        leader.add_learner(id(9)).await,
        Err(ChangeError::Removed(_))
    ));
    assert!(matches!(
        leader.set_voters(set([1, 9]), false).await,
        Err(ChangeError::Removed(_))
    ));
    // The other voter is gone: nothing can be decided, and that is said within a bound.
    stores.crash(id(2)).await;
    let started = Instant::now();
    let refused = leader.set_voters(set([1]), false).await;
    assert!(
        matches!(
            refused,
            Err(ChangeError::NoQuorum | ChangeError::NotLeader(_))
        ),
        "{refused:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(15));
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_answered_no_more() {
    let stores = Stores::voters(3).await;
    let version = stores.write(3).await;
    let remove = Change::RemoveNode(Expect::Version(version), id(3));
    stores.store(1).propose(proposal([remove])).await.unwrap();
    eventually("the removal is known", async || {
        stores
            .store(2)
            .watch()
            .borrow()
            .removed
            .contains_key(&id(3))
    })
    .await;
    let refused = stores.store(2).handle(id(3), &vote_request(3)).await;
    assert!(
        matches!(refused, Err(HandleError::Removed(node)) if node == id(3)),
        "{refused:?}"
    );
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_at_once() {
    let stores = Stores::voters(3).await;
    stores.write(10).await;
    stores.store(1).transfer(id(3)).await.unwrap();
    assert!(!stores.store(1).leadership().borrow().me);
    // On a busy machine another may have been faster than the one that was asked.
    let successor = stores.leader().await;
    assert_ne!(successor, id(1));
    stores.write_once(11).await;
    assert!(matches!(
        stores.store(1).transfer(id(2)).await,
        Err(ChangeError::NotLeader(_))
    ));
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_loses_its_vote_is_followed_by_another() {
    let stores = Stores::voters(3).await;
    stores.write(10).await;
    stores.store(1).set_voters(set([2, 3]), true).await.unwrap();
    let mut led = stores.store(1).leadership();
    let other = led.wait_for(|seen| seen.leader.is_some_and(|leader| leader != id(1)));
    timeout(PATIENCE, other).await.unwrap().unwrap();
    stores.write(11).await;
    eventually("the old leader learns", async || {
        stores.numbers_on(1) == BTreeSet::from([10, 11])
    })
    .await;
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_elects_when_the_leader_is_dead_and_does_nothing_while_it_lives() {
    let mut stores = Stores::voters(3).await;
    stores.write(10).await;
    let before = *stores.store(2).leadership().borrow();
    stores.store(2).campaign().await;
    assert_eq!(*stores.store(2).leadership().borrow(), before);
    stores.crash(id(1)).await;
    let (second, third) = (stores.store(2).clone(), stores.store(3).clone());
    tokio::join!(second.campaign(), third.campaign());
    let leader = stores.leader().await;
    assert!(stores.stores[&leader].leadership().borrow().term > before.term);
    stores.write(11).await;
    stores.end().await;
}

/// Does what the quorum asks for until it is settled, as a leader's node does.
async fn settle(stores: &Stores, all: u64) {
    eventually("the quorum settles", async || {
        let me = stores.leader().await;
        let store = &stores.stores[&me];
        let replicas = store.replicas().borrow().clone();
        let done = match next_step(&view(stores, me, &replicas, all)) {
            QuorumStep::AddLearner(node) => store.add_learner(node).await,
            QuorumStep::RemoveLearner(node) => store.remove_learner(node).await,
            QuorumStep::SetVoters(voters) => store.set_voters(voters, true).await,
            QuorumStep::Settled => return !replicas.changing,
            QuorumStep::Wait(_) => Ok(()),
        };
        if let Err(error) = done {
            assert!(matches!(error, ChangeError::NotLeader(_)), "{error}");
        }
        false
    })
    .await;
}

fn view(stores: &Stores, me: NodeId, replicas: &Replicas, all: u64) -> QuorumView {
    let long = Duration::from_secs(60);
    let candidate = |number| {
        let alive = stores.stores.contains_key(&id(number));
        let candidate = Candidate {
            alive,
            unseen_for: if alive { Duration::ZERO } else { long },
            pinned: None,
            zone: String::new(),
            available_for: if alive { long } else { Duration::ZERO },
        };
        (id(number), candidate)
    };
    QuorumView {
        me,
        caught_up: replicas.caught_up(Instant::now(), Duration::from_secs(3)),
        voters: replicas.voters.clone(),
        learners: replicas.learners.clone(),
        candidates: (1..=all).map(candidate).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_die_one_after_another_and_two_still_write() {
    let mut stores = Stores::new();
    for number in 1..=5 {
        stores.start(id(number)).await;
    }
    stores.store(1).bootstrap(first()).await.unwrap();
    settle(&stores, 5).await;
    assert_eq!(stores.store(1).replicas().borrow().voters.len(), 5);
    let mut written = BTreeSet::new();
    for (dead, voters) in [(1, 3), (4, 3), (3, 1)] {
        stores.crash(id(dead)).await;
        stores.write_once(100 + dead).await;
        settle(&stores, 5).await;
        stores.write_once(200 + dead).await;
        written.extend([100 + dead, 200 + dead]);
        let leader = stores.leader().await;
        let replicas = stores.stores[&leader].replicas().borrow().clone();
        assert_eq!(replicas.voters.len(), voters);
    }
    // They come back, one after another.
    for number in [1, 3, 4] {
        stores.start(id(number)).await;
        settle(&stores, 5).await;
    }
    let leader = stores.leader().await;
    let replicas = stores.stores[&leader].replicas().borrow().clone();
    assert_eq!(replicas.voters.len(), 5);
    for number in 1..=5 {
        eventually("all have all writes", async || {
            stores.numbers_on(number) == written
        })
        .await;
    }
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pristine_replica_neither_leads_nor_answers_for_a_cluster() {
    let mut stores = Stores::new();
    stores.start(id(1)).await;
    let refused = stores.store(1).propose(put(1)).await;
    assert!(
        matches!(refused, Err(ProposeError::NotLeader(None))),
        "{refused:?}"
    );
    assert_eq!(stores.store(1).replicas().borrow().voters, set([]));
    assert_eq!(stores.store(1).watch().borrow().version, 0);
    stores.end().await;
}
