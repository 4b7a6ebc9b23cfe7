//! What the parts of this room leave for each other: the handle, chitchat's socket and the gossip loop.
//!
//! Everything here is a set, bounded by the number of members, and taken as a whole; nobody waits while it is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::guard::{MAX_LIVES, Mention};
use crate::model::NodeId;

/// What lies on the desk.
#[derive(Debug, Default)]
pub(super) struct Slips {
    /// When the last message came from each member itself.
    pub heard: BTreeMap<NodeId, Instant>,
    /// Members that are believed alive: a message from another is news.
    pub live: BTreeSet<NodeId>,
    /// Members that spoke while not believed alive.
    pub spoke: BTreeSet<NodeId>,
    /// Exchanges that the loop ordered and chitchat has not begun.
    pub ordered: BTreeSet<NodeId>,
    /// When the first exchange began that each member has not answered yet.
    pub asked: BTreeMap<NodeId, Instant>,
    /// Members that were sent this node's changes since it last announced something.
    pub informed: BTreeSet<NodeId>,
    /// The highest heartbeat that others show of each life of this very node.
    pub own_lives: BTreeMap<u64, u64>,
    /// To be gossiped with at once.
    pub met: BTreeSet<NodeId>,
    /// Removed since the loop last looked.
    pub removed: BTreeSet<NodeId>,
    /// Shut out for good.
    pub forgotten: BTreeSet<NodeId>,
    /// This node has news that is not to wait for the next round.
    pub push: bool,
    /// Members whose news came and is to be passed on.
    pub pass_on: BTreeSet<NodeId>,
}

/// The desk itself; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Desk {
    slips: Arc<Mutex<Slips>>,
    pub(super) news: Arc<Notify>,
    /// Somebody was sent this node's changes.
    pub(super) informed: Arc<Notify>,
}

impl Desk {
    pub(super) fn slips(&self) -> MutexGuard<'_, Slips> {
        self.slips
            .lock()
            .expect("nothing panics while it holds the desk")
    }

    /// Changes what lies there, and wakes the loop.
    pub(super) fn leave<T>(&self, change: impl FnOnce(&mut Slips) -> T) -> T {
        let result = change(&mut self.slips());
        self.news.notify_one();
        result
    }

    /// A message came from this member. Returns whether it is to be let in.
    pub(super) fn heard(&self, from: NodeId, now: Instant) -> bool {
        let mut slips = self.slips();
        if slips.forgotten.contains(&from) {
            return false;
        }
        if slips.heard.len() < MAX_LIVES || slips.heard.contains_key(&from) {
            slips.heard.insert(from, now);
        }
        slips.asked.remove(&from);
        if !slips.live.contains(&from) && slips.spoke.len() < MAX_LIVES {
            slips.spoke.insert(from);
            drop(slips);
            self.news.notify_one();
        }
        true
    }

    /// Others' digests say this of this very node.
    pub(super) fn mentioned(&self, own: &[Mention]) {
        if own.is_empty() {
            return;
        }
        let mut slips = self.slips();
        for mention in own {
            let highest = slips.own_lives.entry(mention.generation).or_default();
            *highest = mention.heartbeat.max(*highest);
            if slips.own_lives.len() > MAX_OWN_LIVES {
                slips.own_lives.pop_first();
            }
        }
    }

    /// This member was sent what this node knows.
    pub(super) fn was_informed(&self, node: NodeId) {
        self.slips().informed.insert(node);
        self.informed.notify_waiters();
    }
}

/// Lives of this node itself that are watched for a twin; the newest count.
const MAX_OWN_LIVES: usize = 16;
