//! Gossip messages, as a member gone bad may send them: chitchat must survive whatever the guard lets through.
//!
//! An input is a few messages, each behind its length. A whole gossiping node is given them, and must answer an honest
//! member afterwards. What passes the guard must also be what chitchat can read: a message that gets lost between the
//! two holds up those behind it. The bytes travel by the loopback interface, as they always do.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use skein::cluster::membership::{GossipLink, Membership, MembershipConfig, Probe};
use skein::model::facts::key;
use skein::model::{ClusterId, NodeFacts, NodeId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const ME: NodeId = NodeId::from_bits(7);
const HONEST: NodeId = NodeId::from_bits(8);
const BAD: NodeId = NodeId::from_bits(9);

/// Messages of one input that are delivered: one that does not come through costs a tenth of a second.
const MOST_MESSAGES: usize = 6;

/// Long enough for a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Messages on their way to one node or from it.
const QUEUE: usize = 64;

/// A first word, its answer and the answer to that, between two honest members.
pub(super) static CONVERSATION: LazyLock<[Bytes; 3]> = LazyLock::new(|| {
    run(async {
        let (me, honest) = (Gossiper::start(ME).await, Gossiper::start(HONEST).await);
        honest.membership.meet(ME);
        let first = honest.says_to(ME).await;
        me.hears(HONEST, first.clone()).await;
        let second = me.says_to(HONEST).await;
        honest.hears(ME, second.clone()).await;
        let third = honest.says_to(ME).await;
        [first, second, third]
    })
});

/// Panics when a node that was sent this does not gossip any more.
pub fn check(data: &[u8]) {
    let first_word = CONVERSATION[0].clone();
    run(async {
        let me = Gossiper::start(ME).await;
        for message in messages(data).take(MOST_MESSAGES) {
            me.hears(BAD, Bytes::copy_from_slice(message)).await;
        }
        me.hears(HONEST, first_word).await;
        let answer = me.says_to(HONEST).await;
        assert!(answer.len() <= skein::wire::limits::GOSSIP_MESSAGE);
        let peers = me.membership.peers();
        assert!(peers.borrow().is_alive(ME), "who gossips is alive");
    });
}

/// A message behind its length, as [`messages`] takes it apart again.
pub(super) fn with_length(message: &[u8]) -> Vec<u8> {
    let len = u16::try_from(message.len()).expect("a message fits into a packet");
    [&len.to_le_bytes(), message].concat()
}

fn messages(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = data.split_first_chunk()?;
        let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
        let (message, rest) = rest.split_at(len);
        data = rest;
        Some(message)
    })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives a runtime");
    let overseer = Overseer::default();
    let outcome = tracing::subscriber::with_default(overseer.clone(), || {
        runtime.block_on(async { tokio::time::timeout(DEADLINE, future).await })
    });
    let unread = overseer.0.load(Ordering::Relaxed);
    assert!(!unread, "the guard lets through what chitchat cannot read");
    outcome.expect("a node that was sent this gossips no more")
}

/// Hears chitchat complain of a message that it cannot read.
#[derive(Clone, Default)]
struct Overseer(Arc<AtomicBool>);

impl Subscriber for Overseer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("chitchat::transport")
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

impl Visit for Overseer {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let words = format!("{value:?}");
        if field.name() == "message" && words.contains("invalid-chitchat-payload") {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// A node that gossips; what it says is kept.
struct Gossiper {
    membership: Membership,
    ears: mpsc::Sender<(NodeId, Bytes)>,
    said: tokio::sync::Mutex<mpsc::Receiver<(NodeId, Bytes)>>,
    _stop: tokio_util::sync::DropGuard,
}

#[derive(Clone)]
struct Mouth(mpsc::Sender<(NodeId, Bytes)>);

impl GossipLink for Mouth {
    fn send(&self, to: NodeId, message: Bytes) {
        // Gossip may be lost, and a queue that is full of it shows that enough was said.
        let _ = self.0.try_send((to, message));
    }
}

impl Probe for Mouth {
    async fn probe(&self, _node: NodeId) -> bool {
        true
    }
}

impl Gossiper {
    async fn start(node: NodeId) -> Self {
        let (ears, incoming) = mpsc::channel(QUEUE);
        let (out, said) = mpsc::channel(QUEUE);
        let config = MembershipConfig {
            node,
            cluster: ClusterId::from_bits(1),
            generation: 1,
            seeds: Vec::new(),
        };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mouth = Mouth(out);
        let started =
            Membership::start(config, mouth.clone(), incoming, mouth, &tasks, stop.clone());
        let membership = started.await.expect("the loopback interface works");
        membership.publish_facts(&NodeFacts::default()).await;
        let leader = "{\"term\":1,\"leader\":\"0000000000000000000000007\"}";
        membership.publish(key::LEADER, leader.to_owned()).await;
        Self {
            membership,
            ears,
            said: said.into(),
            _stop: stop.drop_guard(),
        }
    }

    async fn hears(&self, from: NodeId, message: Bytes) {
        let heard = self.ears.send((from, message)).await;
        heard.expect("a node that gossips has ears");
    }

    /// What it says next to this node.
    async fn says_to(&self, node: NodeId) -> Bytes {
        let mut said = self.said.lock().await;
        loop {
            let (to, message) = said.recv().await.expect("a node that gossips has a mouth");
            if to == node {
                return message;
            }
        }
    }
}
