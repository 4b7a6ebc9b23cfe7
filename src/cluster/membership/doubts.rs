//! Which doubts to share, and which of others' doubts are news.
//!
//! Pure. In a small cluster the first member whose exchange goes unanswered tells the others, and all of them probe
//! at once, instead of each waiting until it has heard nothing for long. A doubt makes others look; it decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::facts::MAX_DOUBTS;
use crate::model::NodeId;

/// A member that is doubted again and again (this node alone cannot reach it) is named once in this time.
const SHARED_EVERY: Duration = Duration::from_secs(5);

/// Doubts of this node and of others.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    mine: BTreeSet<NodeId>,
    shared_at: BTreeMap<NodeId, Instant>,
    others: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

impl Doubts {
    /// Another member doubts these. Returns whom it did not doubt before.
    pub(super) fn told(&mut self, teller: NodeId, doubts: BTreeSet<NodeId>) -> Vec<NodeId> {
        if doubts.is_empty() {
            self.others.remove(&teller);
            return Vec::new();
        }
        let before = self.others.entry(teller).or_default();
        let fresh = doubts.difference(before).copied().collect();
        *before = doubts;
        fresh
    }

    /// What this member said counts no more: it is dead or removed.
    pub(super) fn drop_teller(&mut self, teller: NodeId) {
        self.others.remove(&teller);
    }

    /// The members that this node should say it doubts, when that has changed: of those that leave its probes
    /// `unanswered`, the ones that nobody else has named.
    pub(super) fn share(
        &mut self,
        unanswered: BTreeSet<NodeId>,
        now: Instant,
    ) -> Option<BTreeSet<NodeId>> {
        self.shared_at
            .retain(|_, at| now.duration_since(*at) < SHARED_EVERY);
        let named = |node: &NodeId| self.others.values().any(|doubts| doubts.contains(node));
        let next: BTreeSet<NodeId> = unanswered
            .into_iter()
            .filter(|node| {
                self.mine.contains(node) || !(self.shared_at.contains_key(node) || named(node))
            })
            .take(MAX_DOUBTS)
            .collect();
        if next == self.mine {
            return None;
        }
        for node in next.difference(&self.mine) {
            self.shared_at.insert(*node, now);
        }
        self.mine.clone_from(&next);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bits: impl IntoIterator<Item = u128>) -> BTreeSet<NodeId> {
        bits.into_iter().map(NodeId::from_bits).collect()
    }

    fn id(bits: u128) -> NodeId {
        NodeId::from_bits(bits)
    }

    #[test]
    fn the_first_to_doubt_tells_and_the_others_need_not() {
        let now = Instant::now();
        let mut doubts = Doubts::default();
        assert_eq!(doubts.share(set([]), now), None);
        assert_eq!(doubts.share(set([1]), now), Some(set([1])));
        assert_eq!(doubts.share(set([1]), now), None, "said already");
        assert_eq!(doubts.told(id(9), set([1, 2])), [id(1), id(2)]);
        assert_eq!(doubts.share(set([1, 2]), now), None, "another said it");
        doubts.drop_teller(id(9));
        assert_eq!(doubts.share(set([1, 2]), now), Some(set([1, 2])));
        assert_eq!(doubts.share(set([]), now), Some(set([])));
    }

    #[test]
    fn only_what_is_new_is_news() {
        let mut doubts = Doubts::default();
        assert_eq!(doubts.told(id(9), set([1])), [id(1)]);
        assert_eq!(doubts.told(id(9), set([1, 2])), [id(2)]);
        assert!(doubts.told(id(9), set([])).is_empty());
        assert_eq!(doubts.told(id(9), set([1])), [id(1)], "again");
    }

    #[test]
    fn a_member_that_only_this_node_cannot_reach_is_named_now_and_then() {
        let start = Instant::now();
        let mut doubts = Doubts::default();
        let mut named = 0;
        for step in 0..100 {
            let now = start + Duration::from_millis(100 * step);
            let unanswered = if step % 2 == 0 { set([1]) } else { set([]) };
            named += usize::from(doubts.share(unanswered, now) == Some(set([1])));
        }
        assert_eq!(named, 2);
    }

    #[test]
    fn doubts_are_bounded() {
        let mut doubts = Doubts::default();
        let said = doubts.share(set(1..100), Instant::now()).unwrap();
        assert_eq!(said.len(), MAX_DOUBTS);
    }
}
