//! What gossip asks of whatever carries it, on the network in memory and on real QUIC.
//!
//! Messages may be lost, and may come in any order; they come whole, with the true sender's name, and sending waits
//! for nobody. On top of that, members find each other, lose each other and find each other again.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::super::memory::{MemoryLink, MemoryNetwork};
use super::quic::QuicBed;
use super::*;
use crate::testing::let_pass;
use crate::wire::limits::GOSSIP_MESSAGE;

/// A network to test on.
pub(super) trait Bed {
    type Link: GossipLink + Probe;

    /// A node's place in it, which knows how to reach all that were made before, and they it. With the place of an
    /// earlier life, the same node on its next start.
    async fn seat(&mut self, former: Option<NodeId>) -> Seat<Self::Link>;

    /// The node is gone, as if killed.
    async fn kill(&mut self, node: NodeId);
}

/// A node's place.
pub(super) struct Seat<L> {
    pub node: NodeId,
    pub link: L,
    pub incoming: mpsc::Receiver<(NodeId, Bytes)>,
}

struct MemoryBed {
    network: MemoryNetwork,
    seats: u128,
}

impl Bed for MemoryBed {
    type Link = MemoryLink;

    async fn seat(&mut self, former: Option<NodeId>) -> Seat<MemoryLink> {
        self.seats += 1;
        let node = former.unwrap_or_else(|| id(self.seats));
        let (link, incoming) = self.network.join(node);
        Seat {
            node,
            link,
            incoming,
        }
    }

    async fn kill(&mut self, node: NodeId) {
        self.network.kill(node);
    }
}

/// Pairs that do not hear each other, above any link.
#[derive(Clone, Default)]
struct Cuts(Arc<Mutex<BTreeSet<(NodeId, NodeId)>>>);

impl Cuts {
    fn cut(&self, one: NodeId, other: NodeId) {
        self.0.lock().unwrap().extend([(one, other), (other, one)]);
    }

    fn heal(&self) {
        self.0.lock().unwrap().clear();
    }

    fn between(&self, one: NodeId, other: NodeId) -> bool {
        self.0.lock().unwrap().contains(&(one, other))
    }
}

#[derive(Clone)]
struct CutLink<L> {
    link: L,
    node: NodeId,
    cuts: Cuts,
}

impl<L: GossipLink> GossipLink for CutLink<L> {
    fn send(&self, to: NodeId, message: Bytes) {
        if !self.cuts.between(self.node, to) {
            self.link.send(to, message);
        }
    }
}

impl<L: Probe> Probe for CutLink<L> {
    async fn probe(&self, node: NodeId) -> bool {
        !self.cuts.between(self.node, node) && self.link.probe(node).await
    }
}

/// Sends until it has arrived: a link may lose some.
async fn deliver<L: GossipLink>(from: &Seat<L>, to: &mut Seat<L>, message: &Bytes) {
    let deadline = Instant::now() + SOON;
    loop {
        assert!(
            Instant::now() < deadline,
            "{} bytes never arrived",
            message.len()
        );
        from.link.send(to.node, message.clone());
        match timeout(Duration::from_millis(200), to.incoming.recv()).await {
            Ok(Some((sender, bytes))) if bytes == *message => {
                assert_eq!(sender, from.node);
                break;
            }
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => panic!("the link has ended"),
        }
    }
}

/// Messages of all lengths come whole and with their sender's name, both ways.
async fn messages_come_whole<B: Bed>(mut bed: B) {
    let (mut a, mut b) = (bed.seat(None).await, bed.seat(None).await);
    for len in [1, 100, 1_100, 1_500, 10_000, GOSSIP_MESSAGE] {
        let message: Bytes = (0..len).map(|at| (at % 251) as u8).collect();
        deliver(&a, &mut b, &message).await;
        deliver(&b, &mut a, &message).await;
    }
}

/// Sending to nobody costs no time, and nobody else's messages.
async fn sending_waits_for_nobody<B: Bed>(mut bed: B) {
    let (a, mut b, gone) = (
        bed.seat(None).await,
        bed.seat(None).await,
        bed.seat(None).await,
    );
    bed.kill(gone.node).await;
    let message = Bytes::from(vec![7; 20_000]);
    let begin = Instant::now();
    for _ in 0..2_000 {
        a.link.send(gone.node, message.clone());
        a.link.send(id(0xdead), message.clone());
    }
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    deliver(&a, &mut b, &Bytes::from_static(b"still here")).await;
}

/// A probe tells who is there from who is not.
async fn a_probe_tells<B: Bed>(mut bed: B) {
    let (a, b) = (bed.seat(None).await, bed.seat(None).await);
    assert!(timeout(SOON, a.link.probe(b.node)).await.unwrap());
    bed.kill(b.node).await;
    let answered = timeout(PROBE_DEADLINE, a.link.probe(b.node)).await;
    assert!(!answered.unwrap_or(false));
    let answered = timeout(PROBE_DEADLINE, a.link.probe(id(0xdead))).await;
    assert!(!answered.unwrap_or(false));
}

async fn gossip<L: GossipLink + Probe>(
    seat: Seat<L>,
    cuts: &Cuts,
    generation: u64,
    seeds: &[NodeId],
) -> Node {
    let Seat {
        node,
        link,
        incoming,
    } = seat;
    let cuts = cuts.clone();
    Node::start_on(
        CutLink { link, node, cuts },
        incoming,
        node,
        CLUSTER,
        generation,
        seeds,
    )
    .await
}

/// Members find each other, lose one, find it again in its next life, and tell each other more than a packet holds.
async fn members_come_and_go<B: Bed>(mut bed: B) {
    let cuts = Cuts::default();
    let first = bed.seat(None).await;
    let seeds = [first.node];
    let mut nodes = vec![gossip(first, &cuts, 1, &[]).await];
    for _ in 0..3 {
        nodes.push(gossip(bed.seat(None).await, &cuts, 1, &seeds).await);
    }
    let all: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    for node in &nodes {
        node.until_all_alive(&all).await;
    }

    const MANY: [&str; 30] = [
        "k00", "k01", "k02", "k03", "k04", "k05", "k06", "k07", "k08", "k09", "k10", "k11", "k12",
        "k13", "k14", "k15", "k16", "k17", "k18", "k19", "k20", "k21", "k22", "k23", "k24", "k25",
        "k26", "k27", "k28", "k29",
    ];
    for (index, key) in MANY.into_iter().enumerate() {
        let value: String = (0..4000)
            .map(|at| char::from(b'a' + ((at * at + index * 7) % 26) as u8))
            .collect();
        nodes[1].membership.publish(key, value).await;
    }
    let last = (77, 78);
    nodes[1]
        .membership
        .publish(key::LAST_LOG, facts::json(&last))
        .await;
    for node in &nodes {
        let heard = |peers: &Arc<Peers>| peers.nodes[&all[1]].facts.last_log == Some(last);
        node.until("heard what came after much else", heard).await;
    }

    let gone = nodes.remove(3);
    bed.kill(gone.id).await;
    gone.end().await;
    for node in &nodes {
        node.until("saw it dead", |peers| !peers.is_alive(all[3]))
            .await;
    }
    let again = bed.seat(Some(all[3])).await;
    nodes.push(gossip(again, &cuts, 2, &seeds).await);
    for node in &nodes {
        let reborn =
            |peers: &Arc<Peers>| peers.is_alive(all[3]) && peers.nodes[&all[3]].generation == 2;
        node.until("saw its new life", reborn).await;
    }
}

/// A cut makes each side hold the other for dead; once healed they are alive to each other again.
async fn a_cut_heals<B: Bed>(mut bed: B) {
    let cuts = Cuts::default();
    let first = bed.seat(None).await;
    let seeds = [first.node];
    let mut nodes = vec![gossip(first, &cuts, 1, &[]).await];
    for _ in 0..3 {
        nodes.push(gossip(bed.seat(None).await, &cuts, 1, &seeds).await);
    }
    let all: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    for node in &nodes {
        node.until_all_alive(&all).await;
    }
    let (left, right) = all.split_at(2);
    for one in left {
        for other in right {
            cuts.cut(*one, *other);
        }
    }
    for node in &nodes {
        let (here, there) = if left.contains(&node.id) {
            (left, right)
        } else {
            (right, left)
        };
        let split = |peers: &Arc<Peers>| {
            here.iter().all(|node| peers.is_alive(*node))
                && !there.iter().any(|node| peers.is_alive(*node))
        };
        node.until("saw the cut", split).await;
    }
    cuts.heal();
    for node in &nodes {
        node.until_all_alive(&all).await;
    }
}

/// Where two cannot reach each other and others can reach both, nobody is dead.
async fn a_cut_pair_is_alive_to_all<B: Bed>(mut bed: B) {
    let cuts = Cuts::default();
    let first = bed.seat(None).await;
    let seeds = [first.node];
    let mut nodes = vec![gossip(first, &cuts, 1, &[]).await];
    for _ in 0..2 {
        nodes.push(gossip(bed.seat(None).await, &cuts, 1, &seeds).await);
    }
    let all: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    for node in &nodes {
        node.until_all_alive(&all).await;
    }
    cuts.cut(all[1], all[2]);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let_pass(Duration::from_millis(20)).await;
        for node in &nodes {
            let peers = node.membership.peers().borrow().clone();
            assert!(all.iter().all(|node| peers.is_alive(*node)), "{peers:?}");
        }
    }
}

fn memory() -> MemoryBed {
    MemoryBed {
        network: MemoryNetwork::new(5),
        seats: 0,
    }
}

macro_rules! conforms {
    ($($case:ident),*) => {
        mod on_memory {
            use super::memory;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(memory()).await;
                }
            )*
        }

        mod on_quic {
            use super::QuicBed;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(QuicBed::new()).await;
                }
            )*
        }
    };
}

conforms!(
    messages_come_whole,
    sending_waits_for_nobody,
    a_probe_tells,
    members_come_and_go,
    a_cut_heals,
    a_cut_pair_is_alive_to_all
);
