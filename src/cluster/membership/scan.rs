//! What the gossip loop reads: the desk, where the other parts of the room leave notes, and chitchat's state.
//!
//! It turns what it finds into events of the detector and entries of the book. It holds chitchat's lock only to look
//! for what has changed since the last time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chitchat::{Chitchat, ChitchatId, NodeState};
use tokio::time::Instant;

use super::desk::Slips;
use super::detector::Event;
use super::guard::MAX_LIVES;
use super::task::Gossip;
use super::{Probe, Trouble, facts};
use crate::model::NodeId;

/// Pushes of this node's own news that come within this time are one.
const PUSH_GAP: Duration = Duration::from_millis(20);

/// A doubted member that answers within this time is nobody else's business.
const DOUBT_SHARED_AFTER: Duration = Duration::from_millis(150);

/// Members that are kept in mind, long dead ones included.
const MAX_KNOWN: usize = 2 * MAX_LIVES;

impl<P: Probe> Gossip<P> {
    /// Takes what lies on the desk. Returns whom to gossip with at once.
    pub(super) fn read_desk(&mut self, now: Instant) -> BTreeSet<NodeId> {
        let desk = self.desk.clone();
        let mut slips = desk.slips();
        let removed = std::mem::take(&mut slips.removed);
        for node in &removed {
            slips.heard.remove(node);
            slips.live.remove(node);
            slips.asked.remove(node);
        }
        self.forgotten.extend(&removed);
        let mut met = std::mem::take(&mut slips.met);
        met.retain(|node| *node != self.me && !self.forgotten.contains(node));
        self.note_pushes(&mut slips, now);
        let due = self.answer_due();
        let unanswered: Vec<(NodeId, Instant)> = slips
            .asked
            .extract_if(.., |_, at| now.duration_since(*at) >= due)
            .collect();
        let spoke = std::mem::take(&mut slips.spoke);
        let heard: BTreeSet<NodeId> = slips
            .heard
            .iter()
            .filter(|(_, at)| **at >= self.last_scan)
            .map(|(node, _)| *node)
            .chain(spoke)
            .filter(|node| !self.forgotten.contains(node))
            .collect();
        drop(slips);

        for (node, at) in unanswered {
            let unanswered = now.duration_since(at);
            self.detector
                .handle(Event::Suspected { node, unanswered }, now);
        }
        for node in heard {
            self.detector.handle(Event::Heard { node }, now);
        }
        for node in removed {
            self.drop_member(node, now);
        }
        let strangers = met
            .iter()
            .filter(|node| self.detector.verdict(**node).is_none());
        self.seeds.extend(strangers);
        met
    }

    fn note_pushes(&mut self, slips: &mut Slips, now: Instant) {
        if std::mem::take(&mut slips.push) {
            let due = now.max(self.last_push + PUSH_GAP);
            self.push_due.get_or_insert(due);
        }
        if !slips.pass_on.is_empty() {
            self.to_relay.append(&mut slips.pass_on);
            let due = now.max(self.last_push + self.pace.relay_gap);
            self.relay_due.get_or_insert(due);
        }
    }

    fn drop_member(&mut self, node: NodeId, now: Instant) {
        self.detector.handle(Event::Forgotten { node }, now);
        self.book.strike(node);
        self.doubts.drop_teller(node);
        self.live_changed |= self.live.remove(&node);
        self.dead.remove(&node);
        self.seeds.remove(&node);
    }

    /// Reads what chitchat has learned since the last time.
    pub(super) async fn scan(&mut self, now: Instant) {
        let chitchat = self.handle.chitchat();
        let chitchat = chitchat.lock().await;
        self.look_for_twin(&chitchat, now);
        for (id, state) in chitchat.node_states() {
            match NodeId::from_gossip_addr(id.gossip_advertise_addr) {
                Some(node) if node == self.me => self.read_own(id, state),
                Some(node) if !self.forgotten.contains(&node) => {
                    let patience = match self.detector.is_silent(node) {
                        true => chitchat.failure_detection_timeout(id),
                        false => None,
                    };
                    self.read_member(node, id, state, patience, now);
                }
                _ => {}
            }
        }
        if self.book.len() > MAX_KNOWN {
            self.drop_long_dead(&chitchat, now);
        }
    }

    fn read_own(&mut self, id: &ChitchatId, state: &NodeState) {
        let (life, version) = (id.generation_id, state.max_version());
        if life == self.generation && self.book.is_news(self.me, life, version) {
            let said = facts::decode(state.key_values());
            self.book.write(self.me, life, version, said);
        }
    }

    fn read_member(
        &mut self,
        node: NodeId,
        id: &ChitchatId,
        state: &NodeState,
        patience: Option<Duration>,
        now: Instant,
    ) {
        let (life, version) = (id.generation_id, state.max_version());
        let seen = Event::Seen {
            node,
            generation: life,
            heartbeat: state.heartbeat().into(),
            patience,
        };
        self.detector.handle(seen, now);
        if !self.book.is_news(node, life, version) {
            return;
        }
        let said = facts::decode(state.key_values());
        self.book.write(node, life, version, said);
        if self.pace.close {
            let doubts = facts::doubts(state.get(facts::DOUBTS));
            for node in self.doubts.told(node, doubts) {
                // Its own exchange has been without an answer for longer than this when a member says so.
                let unanswered = self.pace.answer_due;
                self.detector
                    .handle(Event::Suspected { node, unanswered }, now);
            }
        }
    }

    /// Makes room: gossip can bring ever new members, and dead ones are otherwise kept until they are removed.
    fn drop_long_dead(&mut self, chitchat: &Chitchat, now: Instant) {
        let present: BTreeSet<NodeId> = chitchat
            .node_states()
            .keys()
            .filter_map(|id| NodeId::from_gossip_addr(id.gossip_advertise_addr))
            .collect();
        let gone: Vec<NodeId> = self
            .book
            .members()
            .filter(|node| !present.contains(node) && !self.live.contains(node))
            .collect();
        for node in gone {
            self.drop_member(node, now);
        }
    }

    /// Tells others whom this node has just begun to doubt.
    pub(super) async fn share_doubts(&mut self, now: Instant) {
        let unanswered = match self.pace.close {
            true => self.detector.unanswered_for(DOUBT_SHARED_AFTER).collect(),
            false => BTreeSet::new(),
        };
        let Some(doubts) = self.doubts.share(unanswered, now) else {
            return;
        };
        if !doubts.is_empty() {
            self.push_due = Some(now);
        }
        let value = facts::json(&doubts);
        let chitchat = self.handle.chitchat();
        chitchat
            .lock()
            .await
            .self_node_state()
            .set(facts::DOUBTS, value);
    }

    fn look_for_twin(&mut self, chitchat: &Chitchat, now: Instant) {
        let mut lives = std::mem::take(&mut self.desk.slips().own_lives);
        let me = self.me.gossip_addr();
        let own = ChitchatId::new("", self.generation, me);
        let own = chitchat
            .node_state(&own)
            .map_or(0, |state| state.heartbeat().into());
        let of_me =
            |id: &ChitchatId| id.gossip_advertise_addr == me && id.generation_id != self.generation;
        let others = chitchat.node_states().iter().filter(|(id, _)| of_me(id));
        lives.extend(others.map(|(id, state)| (id.generation_id, u64::from(state.heartbeat()))));
        self.judge_lives(&lives, own, now);
    }

    fn judge_lives(&mut self, lives: &BTreeMap<u64, u64>, own: u64, now: Instant) {
        for (generation, heartbeat) in lives {
            if let Some(twin) = self.twin.mentioned(*generation, *heartbeat, own, now)
                && self.trouble.borrow().is_none()
            {
                tracing::error!(
                    generation,
                    "another process gossips as this node: its data directory was copied"
                );
                self.trouble.send_replace(Some(Trouble::Twin(twin)));
            }
        }
    }
}
