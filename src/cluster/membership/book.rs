//! What each member last said of itself, and what is shown of it.
//!
//! The gossip loop writes into it and says when a turn is over; then all that has changed is shown at once, as one new
//! [`Peers`]. It decides only which life of a member counts: the newest that has said anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::peers::{Liveness, PeerView, Peers};
use crate::model::facts::Phase;
use crate::model::{NodeFacts, NodeId};

#[derive(Debug, Default)]
struct Known {
    generation: u64,
    version: u64,
    facts: Arc<NodeFacts>,
}

/// All members that were heard of.
#[derive(Debug)]
pub(super) struct Book {
    me: NodeId,
    known: BTreeMap<NodeId, Known>,
    /// Of whom something has changed since it was last shown.
    changed: BTreeSet<NodeId>,
    shown: watch::Sender<Arc<Peers>>,
}

impl Book {
    /// A book that knows this node alone, and where it is shown.
    pub(super) fn new(
        me: NodeId,
        generation: u64,
        now: Instant,
    ) -> (Self, watch::Receiver<Arc<Peers>>) {
        let view = PeerView {
            facts: Arc::default(),
            generation,
            liveness: Liveness::Alive,
            since: now,
        };
        let peers = Peers {
            nodes: [(me, view)].into(),
        };
        let (shown, watched) = watch::channel(Arc::new(peers));
        let book = Self {
            me,
            known: BTreeMap::new(),
            changed: BTreeSet::new(),
            shown,
        };
        (book, watched)
    }

    /// Members in it.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Members in it, in order.
    pub(super) fn members(&self) -> impl Iterator<Item = NodeId> {
        self.known.keys().copied()
    }

    /// Whether this is more than is known: a newer life that has said something, or something newer in this one.
    pub(super) fn is_news(&self, node: NodeId, generation: u64, version: u64) -> bool {
        let known = self.known.get(&node);
        let known = known.map_or((0, 0), |known| (known.generation, known.version));
        version > 0 && (generation, version) > known
    }

    /// What a member says of itself as of this version.
    pub(super) fn write(&mut self, node: NodeId, generation: u64, version: u64, facts: NodeFacts) {
        let known = Known {
            generation,
            version,
            facts: Arc::new(facts),
        };
        self.known.insert(node, known);
        self.changed.insert(node);
    }

    /// The verdict on this member is another.
    pub(super) fn judged(&mut self, node: NodeId) {
        self.changed.insert(node);
    }

    /// Nothing is shown of this member any more.
    pub(super) fn strike(&mut self, node: NodeId) {
        self.known.remove(&node);
        self.changed.insert(node);
    }

    /// Whether this member has said that it is gone by its own will.
    pub(super) fn has_left(&self, node: NodeId) -> bool {
        let known = self.known.get(&node);
        known.is_some_and(|known| known.facts.phase == Phase::Left)
    }

    /// Shows what has changed, if that makes a difference.
    pub(super) fn show(&mut self, verdict: impl Fn(NodeId) -> Option<Liveness>, now: Instant) {
        let changed = std::mem::take(&mut self.changed);
        if changed.is_empty() {
            return;
        }
        let views: Vec<(NodeId, Option<PeerView>)> = {
            let before = self.shown.borrow();
            let view = |node: NodeId| {
                let liveness = match node == self.me {
                    true => Liveness::Alive,
                    false => verdict(node)?,
                };
                let known = self.known.get(&node)?;
                let same = before
                    .nodes
                    .get(&node)
                    .filter(|old| (old.liveness, old.generation) == (liveness, known.generation));
                Some(PeerView {
                    facts: known.facts.clone(),
                    generation: known.generation,
                    liveness,
                    since: same.map_or(now, |old| old.since),
                })
            };
            let views = changed.into_iter().map(|node| (node, view(node)));
            views
                .filter(|(node, view)| before.nodes.get(node) != view.as_ref())
                .collect()
        };
        if views.is_empty() {
            return;
        }
        self.shown.send_modify(|peers| {
            // Copied only while somebody still holds the old one.
            let nodes = &mut Arc::make_mut(peers).nodes;
            for (node, view) in views {
                match view {
                    Some(view) => nodes.insert(node, view),
                    None => nodes.remove(&node),
                };
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ME: NodeId = NodeId::from_bits(1);
    const OTHER: NodeId = NodeId::from_bits(2);

    fn phase(phase: Phase) -> NodeFacts {
        NodeFacts {
            phase,
            ..NodeFacts::default()
        }
    }

    #[test]
    fn this_node_is_shown_from_the_beginning() {
        let (_book, shown) = Book::new(ME, 3, Instant::now());
        assert!(shown.borrow().is_alive(ME));
        assert_eq!(shown.borrow().nodes[&ME].generation, 3);
    }

    #[test]
    fn who_is_not_judged_or_has_said_nothing_is_not_shown() {
        let (mut book, shown) = Book::new(ME, 1, Instant::now());
        book.write(OTHER, 1, 1, NodeFacts::default());
        book.show(|_| None, Instant::now());
        assert!(!shown.borrow().nodes.contains_key(&OTHER));
        book.judged(OTHER);
        book.show(|_| Some(Liveness::Alive), Instant::now());
        assert!(shown.borrow().is_alive(OTHER));
        book.strike(OTHER);
        book.judged(OTHER);
        book.show(|_| Some(Liveness::Alive), Instant::now());
        assert!(!shown.borrow().nodes.contains_key(&OTHER));
    }

    #[test]
    fn the_newest_life_that_has_said_anything_counts() {
        let (mut book, _shown) = Book::new(ME, 1, Instant::now());
        assert!(book.is_news(OTHER, 4, 1));
        book.write(OTHER, 4, 7, NodeFacts::default());
        assert!(!book.is_news(OTHER, 4, 7));
        assert!(!book.is_news(OTHER, 3, 99), "an older life");
        assert!(!book.is_news(OTHER, 5, 0), "it has said nothing yet");
        assert!(book.is_news(OTHER, 5, 1));
    }

    #[test]
    fn since_is_when_verdict_or_life_changed_and_not_what_was_said() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut book, shown) = Book::new(ME, 1, start);
        let since = || shown.borrow().nodes[&OTHER].since;
        book.write(OTHER, 1, 1, phase(Phase::Up));
        book.show(|_| Some(Liveness::Alive), at(1));
        book.write(OTHER, 1, 2, phase(Phase::Restarting));
        book.show(|_| Some(Liveness::Alive), at(2));
        assert_eq!(since(), at(1));
        book.write(OTHER, 2, 1, phase(Phase::Up));
        book.show(|_| Some(Liveness::Alive), at(3));
        assert_eq!(since(), at(3));
        book.judged(OTHER);
        book.show(|_| Some(Liveness::Dead), at(4));
        assert_eq!(since(), at(4));
    }

    #[test]
    fn watchers_are_woken_only_by_a_difference() {
        let (mut book, mut shown) = Book::new(ME, 1, Instant::now());
        book.write(OTHER, 1, 1, phase(Phase::Left));
        book.show(|_| Some(Liveness::Alive), Instant::now());
        assert!(shown.has_changed().unwrap());
        shown.mark_unchanged();
        book.write(OTHER, 1, 2, phase(Phase::Left));
        book.show(|_| Some(Liveness::Alive), Instant::now());
        assert!(!shown.has_changed().unwrap());
        assert!(book.has_left(OTHER));
    }
}
