//! A large cluster under a virtual clock: what gossip costs, and how fast it is, however busy the machine.
//!
//! chitchat's own channels carry the messages, encoded and counted, without taps: sockets know no virtual time.

use std::time::Duration;

use chitchat::transport::ChannelTransport;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tokio::time::Instant;

use super::*;
use crate::cluster::membership::bench::{Spans, spread_id, typical_facts};
use crate::testing::let_pass;

#[derive(Clone)]
struct Answers(Arc<std::sync::Mutex<std::collections::BTreeSet<NodeId>>>);

impl Probe for Answers {
    async fn probe(&self, node: NodeId) -> bool {
        let fallen = self.0.lock().unwrap().contains(&node);
        if fallen {
            std::future::pending::<()>().await;
        }
        true
    }
}

struct Large {
    transport: ChannelTransport,
    fallen: Answers,
    nodes: Vec<(NodeId, Membership, CancellationToken)>,
    tasks: TaskTracker,
}

impl Large {
    async fn start(size: usize) -> Self {
        let mut large = Self {
            transport: ChannelTransport::default(),
            fallen: Answers(Arc::default()),
            nodes: Vec::new(),
            tasks: TaskTracker::new(),
        };
        for index in 0..size {
            let stop = CancellationToken::new();
            let config = MembershipConfig {
                node: spread_id(index),
                cluster: CLUSTER,
                generation: 1,
                seeds: [0, index / 2, index.saturating_sub(1)]
                    .map(spread_id)
                    .to_vec(),
            };
            let node = config.node;
            let (desk, transport) = (desk::Desk::default(), large.transport.clone());
            let fallen = large.fallen.clone();
            let membership =
                Membership::start_on(config, desk, transport, fallen, &large.tasks, stop.clone());
            let membership = membership.await.unwrap();
            membership.publish_facts(&typical_facts(index)).await;
            large.nodes.push((node, membership, stop));
        }
        large
    }

    /// How long until all nodes believe what is wanted, looked at every 10 ms; `None` after ten minutes.
    async fn until(&self, wanted: impl Fn(&Peers) -> bool) -> Option<Duration> {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(600) {
            let mut peers = self
                .nodes
                .iter()
                .filter(|(_, _, stop)| !stop.is_cancelled());
            if peers.all(|(_, membership, _)| wanted(&membership.peers.borrow())) {
                return Some(begin.elapsed());
            }
            let_pass(Duration::from_millis(10)).await;
        }
        None
    }

    fn kill(&self, index: usize) -> NodeId {
        let (node, _, stop) = &self.nodes[index];
        self.fallen.0.lock().unwrap().insert(*node);
        stop.cancel();
        *node
    }
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

#[tokio::test(start_paused = true)]
#[ignore = "a measurement: takes minutes"]
async fn measure_large() {
    let size = std::env::var("SKEIN_BENCH_NODES").map_or(1000, |size| size.parse().unwrap());
    let large = Large::start(size).await;
    let told = |peers: &Peers| {
        peers.alive().count() == size
            && peers
                .nodes
                .values()
                .all(|peer| peer.facts.last_log.is_some())
    };
    println!(
        "{size} nodes: all know all after {:?}",
        large.until(told).await
    );
    let_pass(Duration::from_secs(30)).await;

    let (before, used, begin) = (large.transport.statistics(), cpu(), Instant::now());
    let_pass(Duration::from_secs(15)).await;
    let (after, span) = (
        large.transport.statistics(),
        begin.elapsed().as_secs_f64() * size as f64,
    );
    println!(
        "a node: {:.3} % of a core, {:.0} bytes/s and {:.1} messages/s sent",
        (cpu() - used).as_secs_f64() / span * 100.0,
        (after.num_bytes_total - before.num_bytes_total) as f64 / span,
        (after.num_messages_total - before.num_messages_total) as f64 / span,
    );

    let mut spans = Vec::new();
    for term in 1..=10u64 {
        let (leader, teller, _) = &large.nodes[term as usize % size];
        let hint = LeaderHint {
            term,
            leader: *leader,
        };
        teller.publish(key::LEADER, facts::json(&hint)).await;
        teller.push().await;
        spans.extend(large.until(|peers| peers.leader() == Some(hint)).await);
        let_pass(Duration::from_millis(3700)).await;
    }
    println!("a change seen by all: {:?}", Spans::of(spans));

    let mut spans = Vec::new();
    for index in 1..=3 {
        let node = large.kill(index);
        spans.extend(large.until(|peers| !peers.is_alive(node)).await);
        let_pass(Duration::from_millis(2300)).await;
    }
    println!("a death known to all: {:?}", Spans::of(spans));
}
