//! Whole nodes on a network in memory, with chitchat and the taps for real.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::memory::MemoryNetwork;
use super::*;
use crate::model::facts::LeaderHint;
use crate::testing::let_pass;

mod conformance;
mod large;
mod processes;
mod quic;

const CLUSTER: ClusterId = ClusterId::from_bits(1);

/// Long enough for a busy machine: a test that needs it has failed.
const SOON: Duration = Duration::from_secs(20);

fn id(bits: u128) -> NodeId {
    NodeId::from_bits(bits)
}

/// One running node.
struct Node {
    id: NodeId,
    membership: Membership,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Node {
    async fn start(network: &MemoryNetwork, bits: u128, generation: u64, seeds: &[u128]) -> Self {
        let (link, incoming) = network.join(id(bits));
        let seeds: Vec<NodeId> = seeds.iter().copied().map(id).collect();
        Self::start_on(link, incoming, id(bits), CLUSTER, generation, &seeds).await
    }

    async fn start_on<L: GossipLink + Probe>(
        link: L,
        incoming: mpsc::Receiver<(NodeId, Bytes)>,
        node: NodeId,
        cluster: ClusterId,
        generation: u64,
        seeds: &[NodeId],
    ) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let config = MembershipConfig {
            node,
            cluster,
            generation,
            seeds: seeds.to_vec(),
        };
        let probe = link.clone();
        let membership = Membership::start(config, link, incoming, probe, &tasks, stop.clone());
        Self {
            id: node,
            membership: membership.await.unwrap(),
            tasks,
            stop,
        }
    }

    /// Waits until what this node believes is as `wanted`.
    async fn until(&self, what: &str, wanted: impl FnMut(&Arc<Peers>) -> bool) {
        let mut peers = self.membership.peers();
        let done = timeout(SOON, peers.wait_for(wanted)).await.is_ok();
        assert!(
            done,
            "{}: never {what}: {:#?}",
            self.id,
            self.membership.peers().borrow()
        );
    }

    async fn until_all_alive(&self, nodes: &[NodeId]) {
        let alive = |peers: &Arc<Peers>| nodes.iter().all(|node| peers.is_alive(*node));
        self.until("saw all alive", alive).await;
    }

    async fn until_alive(&self, nodes: &[u128]) {
        let nodes: Vec<NodeId> = nodes.iter().copied().map(id).collect();
        self.until_all_alive(&nodes).await;
    }

    /// Stops without a word, and with everything it had.
    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(SOON, self.tasks.wait())
            .await
            .expect("ends when told to");
    }

    async fn kill(self, network: &MemoryNetwork) {
        network.kill(self.id);
        self.end().await;
    }
}

#[tokio::test]
async fn members_find_each_other_through_one_seed() {
    let network = MemoryNetwork::new(1);
    let mut nodes = vec![Node::start(&network, 1, 1, &[]).await];
    for bits in 2..=5 {
        nodes.push(Node::start(&network, bits, 1, &[1]).await);
    }
    for node in &nodes {
        node.until_alive(&[1, 2, 3, 4, 5]).await;
    }
    let hint = LeaderHint {
        term: 3,
        leader: id(2),
    };
    nodes[4]
        .membership
        .publish(key::LEADER, facts::json(&hint))
        .await;
    nodes[4].membership.push().await;
    for node in &nodes {
        node.until("knew the leader", |peers| peers.leader() == Some(hint))
            .await;
    }
}

#[tokio::test]
async fn a_killed_member_is_known_dead_and_known_alive_when_it_is_back() {
    let network = MemoryNetwork::new(2);
    let mut nodes = Vec::new();
    for bits in 1..=4 {
        nodes.push(Node::start(&network, bits, 1, &[1]).await);
    }
    for node in &nodes {
        node.until_alive(&[1, 2, 3, 4]).await;
    }
    nodes.remove(3).kill(&network).await;
    for node in &nodes {
        node.until("saw it dead", |peers| !peers.is_alive(id(4)))
            .await;
        node.until_alive(&[1, 2, 3]).await;
    }
    let _again = Node::start(&network, 4, 2, &[1]).await;
    for node in &nodes {
        node.until("saw its new life", |peers| {
            peers.is_alive(id(4)) && peers.nodes[&id(4)].generation == 2
        })
        .await;
    }
}

/// The quick way in: the leader meets the new member, and all the others hear of it from the leader.
#[tokio::test]
async fn a_member_that_is_met_is_seen_by_all_without_a_seed() {
    let network = MemoryNetwork::new(3);
    let mut nodes = Vec::new();
    for bits in 1..=4 {
        nodes.push(Node::start(&network, bits, 1, &[1]).await);
    }
    for node in &nodes {
        node.until_alive(&[1, 2, 3, 4]).await;
    }
    let newcomer = Node::start(&network, 9, 1, &[]).await;
    nodes[0].membership.meet(newcomer.id);
    for node in nodes.iter().chain([&newcomer]) {
        node.until_alive(&[1, 2, 3, 4, 9]).await;
    }
}

#[tokio::test]
async fn another_cluster_is_not_heard() {
    let network = MemoryNetwork::new(4);
    let here = Node::start(&network, 1, 1, &[2, 3]).await;
    let friend = Node::start(&network, 2, 1, &[1]).await;
    let other = ClusterId::from_bits(2);
    let (link, incoming) = network.join(id(3));
    let seeds = [id(1), id(2)];
    let stranger = Node::start_on(link, incoming, id(3), other, 1, &seeds).await;
    here.until_alive(&[2]).await;
    friend.until_alive(&[1]).await;
    // Twice the time in which a member would have been found, and more.
    let_pass(Duration::from_secs(2)).await;
    for (node, strange) in [
        (&here, id(3)),
        (&friend, id(3)),
        (&stranger, id(1)),
        (&stranger, id(2)),
    ] {
        let peers = node.membership.peers().borrow().clone();
        assert!(
            !peers.nodes.contains_key(&strange),
            "{} knows {strange}",
            node.id
        );
    }
}

#[tokio::test]
async fn a_removed_member_is_neither_shown_nor_heard() {
    let network = MemoryNetwork::new(5);
    let mut nodes = Vec::new();
    for bits in 1..=3 {
        nodes.push(Node::start(&network, bits, 1, &[1]).await);
    }
    for node in &nodes {
        node.until_alive(&[1, 2, 3]).await;
    }
    let removed = nodes.remove(2);
    for node in &nodes {
        node.membership.forget(removed.id);
        node.membership.meet(removed.id);
    }
    for node in &nodes {
        node.until("forgot it", |peers| !peers.nodes.contains_key(&id(3)))
            .await;
    }
    let hint = LeaderHint {
        term: 99,
        leader: removed.id,
    };
    let claim = facts::json(&hint);
    removed.membership.publish(key::LEADER, claim).await;
    for index in 1..=10 {
        removed.membership.push().await;
        let log = facts::json(&(1, index));
        nodes[0].membership.publish(key::LAST_LOG, log).await;
        nodes[1]
            .until("heard of the other", |peers| {
                peers.nodes[&id(1)].facts.last_log == Some((1, index))
            })
            .await;
        for node in &nodes {
            let peers = node.membership.peers().borrow().clone();
            assert!(!peers.nodes.contains_key(&removed.id));
            assert_eq!(peers.leader(), None);
        }
    }
}

#[tokio::test]
async fn what_is_announced_is_known_when_announce_returns() {
    let network = MemoryNetwork::new(6);
    let mut nodes = Vec::new();
    for bits in 1..=3 {
        nodes.push(Node::start(&network, bits, 1, &[1]).await);
    }
    for node in &nodes {
        node.until_alive(&[1, 2, 3]).await;
    }
    let leaver = nodes.remove(2);
    leaver.membership.announce(Phase::Restarting).await;
    leaver.kill(&network).await;
    for node in &nodes {
        let restarting = |peers: &Arc<Peers>| peers.nodes[&id(3)].facts.phase == Phase::Restarting;
        node.until("heard of the restart", restarting).await;
    }
}

#[tokio::test]
async fn an_announcement_to_nobody_ends_in_time() {
    let network = MemoryNetwork::new(7);
    let alone = Node::start(&network, 1, 1, &[2]).await;
    timeout(SOON, alone.membership.announce(Phase::Left))
        .await
        .unwrap();
    let pair = Node::start(&network, 2, 1, &[1]).await;
    alone.until_alive(&[2]).await;
    network.kill(pair.id);
    let begin = Instant::now();
    timeout(SOON, alone.membership.announce(Phase::Left))
        .await
        .unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}

/// Two processes with one identity, started from the same state, and from states of different age.
#[tokio::test]
async fn a_copied_data_directory_is_noticed() {
    for (first, second) in [(5, 5), (5, 6)] {
        let network = MemoryNetwork::new(8);
        let witness = Node::start(&network, 1, 1, &[]).await;
        let (link, incoming) = network.join(id(7));
        let original = Node::start_on(link, incoming, id(7), CLUSTER, first, &[id(1)]).await;
        // It has been at work for a while before its directory is copied.
        for index in 1..=20 {
            let log = facts::json(&(1, index));
            original.membership.publish(key::LAST_LOG, log).await;
            original.membership.push().await;
            witness
                .until("heard of it", |peers| {
                    let peer = peers.nodes.get(&id(7));
                    peer.is_some_and(|peer| peer.facts.last_log == Some((1, index)))
                })
                .await;
        }
        let (link, incoming) = network.join_as_twin(id(7));
        let copy = Node::start_on(link, incoming, id(7), CLUSTER, second, &[id(1)]).await;
        let (mut one, mut other) = (original.membership.trouble(), copy.membership.trouble());
        let noticed = async {
            tokio::select! {
                trouble = one.wait_for(Option::is_some) => trouble.unwrap().clone(),
                trouble = other.wait_for(Option::is_some) => trouble.unwrap().clone(),
            }
        };
        let trouble = timeout(SOON, noticed)
            .await
            .expect("one of the two notices");
        assert!(matches!(trouble, Some(Trouble::Twin(_))), "{trouble:?}");
        assert_eq!(*witness.membership.trouble().borrow(), None);
    }
}

#[tokio::test]
async fn a_third_of_all_messages_lost_kills_nobody() {
    let network = MemoryNetwork::new(9);
    network.lose(0.33);
    let mut nodes = Vec::new();
    for bits in 1..=5 {
        nodes.push(Node::start(&network, bits, 1, &[1]).await);
    }
    for node in &nodes {
        node.until_alive(&[1, 2, 3, 4, 5]).await;
    }
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        for node in &nodes {
            let mut peers = node.membership.peers();
            let change = timeout(Duration::from_millis(50), peers.changed()).await;
            let peers = peers.borrow().clone();
            assert_eq!(peers.alive().count(), 5, "after {change:?}: {peers:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_gossiped_is_not_published() {
    let network = MemoryNetwork::new(10);
    let here = Node::start(&network, 1, 1, &[]).await;
    let there = Node::start(&network, 2, 1, &[1]).await;
    let long = format!("[{}]", "1".repeat(facts::MAX_VALUE));
    here.membership.publish(key::LAST_LOG, long).await;
    here.membership
        .publish(key::LAST_LOG, facts::json(&(4, 5)))
        .await;
    there
        .until("heard what followed", |peers| {
            peers
                .nodes
                .get(&id(1))
                .is_some_and(|peer| peer.facts.last_log == Some((4, 5)))
        })
        .await;
    assert_eq!(*here.membership.trouble().borrow(), None);
}

#[tokio::test]
async fn a_generation_counts_from_one() {
    let network = MemoryNetwork::new(11);
    let (link, incoming) = network.join(id(1));
    let config = MembershipConfig {
        node: id(1),
        cluster: CLUSTER,
        generation: 0,
        seeds: Vec::new(),
    };
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let probe = link.clone();
    let started = Membership::start(config, link, incoming, probe, &tasks, stop).await;
    assert!(matches!(started, Err(StartError::Generation)));
}

/// Prints the figures that the numbers in `interval` were chosen by.
async fn measure<C: bench::Carrier>(carrier: C) {
    let number =
        |name: &str, default| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let size = number("SKEIN_BENCH_NODES", 30);
    let (mut cluster, converged) = bench::Cluster::start(carrier, size).await.unwrap();
    println!("{size} nodes: converged in {converged:?}");
    let_pass(Duration::from_secs(5)).await;
    println!("idle: {:?}", cluster.idle(Duration::from_secs(20)).await);
    let changes = number("SKEIN_BENCH_CHANGES", 100);
    println!("spread: {:?}", cluster.spread(changes).await.unwrap());
    let kills = number("SKEIN_BENCH_KILLS", 20);
    println!("deaths: {:?}", cluster.deaths(kills).await.unwrap());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: takes minutes"]
async fn measure_in_memory() {
    measure(bench::InMemory::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: takes minutes"]
async fn measure_over_quic() {
    measure(bench::OverQuic::new(quic::now()).unwrap()).await;
}
