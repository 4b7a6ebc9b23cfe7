//! Which connection to each peer is used: values only, generic over the connection.
//!
//! Both sides of a pair may dial at once, a peer may restart, lose its address, or be a copy of another
//! machine's disk. The rules by which both sides come to the same choice without a word are here; the shell
//! ([`super::register`]) acts on the [`Arrival`]. Losing connections are *spare*: they serve what is open on
//! them and are closed when that has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::hints::Hints;
use crate::model::NodeId;

/// Two connections of one pair that came up within this time were dialled in ignorance of each other. A later
/// one was dialled because its dialler had lost the older.
pub(super) const RACE: Duration = Duration::from_secs(5);

/// What the choice depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Distinguishes connections of this process.
    pub(super) id: u64,
    /// Which side dialled.
    pub(super) dialler: NodeId,
    /// The other side's process.
    pub(super) instance: u64,
    /// When it came up.
    pub(super) since: Instant,
}

#[derive(Debug)]
struct Entry<L> {
    facts: Facts,
    link: L,
}

/// One peer: its connections, the one in use first, and its addresses.
#[derive(Debug)]
struct Peer<L> {
    used: Option<Entry<L>>,
    spare: Vec<Entry<L>>,
    hints: Hints,
}

impl<L> Default for Peer<L> {
    fn default() -> Self {
        Self {
            used: None,
            spare: Vec::new(),
            hints: Hints::default(),
        }
    }
}

/// What became of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival<L> {
    /// It is the only one.
    First,
    /// It is used; the other one is spare.
    Replaces(L),
    /// It is spare; the older one stays in use.
    Spare,
    /// It is used, and the others are of another process with the same identity: dead, or the peer's twin.
    OtherProcess(Vec<L>),
}

/// What the end of a connection means for its peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// No connection to the peer is left.
    Last,
    /// Another one is used from now on, or already was.
    OthersLeft,
    /// It was not in the pool any more.
    Unknown,
}

/// All peers.
#[derive(Debug)]
pub(super) struct Pool<L> {
    peers: BTreeMap<NodeId, Peer<L>>,
}

/// Whether the newer of two connections to the same process of a peer is to be used.
fn newer_wins(older: &Facts, newer: &Facts) -> bool {
    let raced = newer.since.saturating_duration_since(older.since) < RACE;
    if older.dialler == newer.dialler || !raced {
        return true;
    }
    newer.dialler < older.dialler
}

impl<L: Clone> Pool<L> {
    pub(super) const fn new() -> Self {
        Self {
            peers: BTreeMap::new(),
        }
    }

    /// Takes in a connection that both sides have greeted; `doubted` when the one in use has fallen silent.
    pub(super) fn arrive(
        &mut self,
        node: NodeId,
        facts: Facts,
        link: L,
        doubted: bool,
    ) -> Arrival<L> {
        let peer = self.peers.entry(node).or_default();
        let newer = Entry { facts, link };
        let Some(older) = peer.used.take() else {
            peer.used = Some(newer);
            return match peer.spare.len() {
                0 => Arrival::First,
                _ => Self::others(peer, facts.instance),
            };
        };
        if older.facts.instance != facts.instance {
            peer.spare.push(older);
            peer.used = Some(newer);
            return Self::others(peer, facts.instance);
        }
        if doubted || newer_wins(&older.facts, &facts) {
            let replaced = older.link.clone();
            peer.spare.push(older);
            peer.used = Some(newer);
            Arrival::Replaces(replaced)
        } else {
            peer.spare.push(newer);
            peer.used = Some(older);
            Arrival::Spare
        }
    }

    fn others(peer: &Peer<L>, instance: u64) -> Arrival<L> {
        let others: Vec<L> = peer
            .spare
            .iter()
            .filter(|entry| entry.facts.instance != instance)
            .map(|entry| entry.link.clone())
            .collect();
        if others.is_empty() {
            Arrival::First
        } else {
            Arrival::OtherProcess(others)
        }
    }

    /// Takes out a connection that ended. Of the spare ones left, the youngest is used again.
    pub(super) fn depart(&mut self, node: NodeId, id: u64) -> Departure {
        let Some(peer) = self.peers.get_mut(&node) else {
            return Departure::Unknown;
        };
        let before = peer.spare.len() + usize::from(peer.used.is_some());
        peer.spare.retain(|entry| entry.facts.id != id);
        if peer.used.as_ref().is_some_and(|used| used.facts.id == id) {
            peer.used = peer.spare.pop();
        }
        match peer.spare.len() + usize::from(peer.used.is_some()) {
            after if after == before => Departure::Unknown,
            0 => Departure::Last,
            _ => Departure::OthersLeft,
        }
    }

    /// Uses the connection of this ID from now on, because the one in use turned out to be the wrong one.
    pub(super) fn prefer(&mut self, node: NodeId, id: u64) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else {
            return false;
        };
        let Some(at) = peer.spare.iter().position(|entry| entry.facts.id == id) else {
            return false;
        };
        let chosen = peer.spare.remove(at);
        if let Some(used) = peer.used.replace(chosen) {
            peer.spare.push(used);
        }
        true
    }

    /// Makes every connection spare: the next use of each peer dials anew. Returns them.
    pub(super) fn set_all_aside(&mut self) -> Vec<L> {
        let mut aside = Vec::new();
        for peer in self.peers.values_mut() {
            if let Some(used) = peer.used.take() {
                aside.push(used.link.clone());
                peer.spare.push(used);
            }
        }
        aside
    }

    /// The connection to use.
    pub(super) fn used(&self, node: NodeId) -> Option<&L> {
        let peer = self.peers.get(&node)?;
        peer.used.as_ref().map(|entry| &entry.link)
    }

    /// Every connection to a peer.
    pub(super) fn links(&self, node: NodeId) -> Vec<L> {
        self.peers.get(&node).map_or_else(Vec::new, |peer| {
            let all = peer.used.iter().chain(&peer.spare);
            all.map(|entry| entry.link.clone()).collect()
        })
    }

    /// Every connection.
    pub(super) fn all(&self) -> impl Iterator<Item = &L> {
        self.peers
            .values()
            .flat_map(|peer| peer.used.iter().chain(&peer.spare))
            .map(|entry| &entry.link)
    }

    /// What is known of a peer's addresses.
    pub(super) fn hints(&self, node: NodeId) -> Option<&Hints> {
        self.peers.get(&node).map(|peer| &peer.hints)
    }

    /// The same, to change it.
    pub(super) fn hints_mut(&mut self, node: NodeId) -> &mut Hints {
        &mut self.peers.entry(node).or_default().hints
    }

    /// Forgets the addresses of a peer, and the peer when no connection is left.
    pub(super) fn forget(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.hints = Hints::default();
            if peer.used.is_none() && peer.spare.is_empty() {
                self.peers.remove(&node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: NodeId = NodeId::from_bits(1);
    const LARGE: NodeId = NodeId::from_bits(2);

    fn facts(id: u64, dialler: NodeId, instance: u64, since: Instant) -> Facts {
        Facts {
            id,
            dialler,
            instance,
            since,
        }
    }

    /// The pool of one side of a pair after connections arrived in an order.
    fn pool_of(peer: NodeId, arrivals: &[Facts]) -> Pool<u64> {
        let mut pool = Pool::new();
        for facts in arrivals {
            pool.arrive(peer, *facts, facts.id, false);
        }
        pool
    }

    #[test]
    fn when_both_dial_at_once_both_use_the_one_dialled_by_the_smaller() {
        let now = Instant::now();
        let by_small = facts(1, SMALL, 9, now);
        let by_large = facts(2, LARGE, 9, now + Duration::from_millis(3));
        for order in [[by_small, by_large], [by_large, by_small]] {
            assert_eq!(pool_of(LARGE, &order).used(LARGE), Some(&1));
        }
    }

    #[test]
    fn a_later_dial_replaces_whoever_dialled() {
        let now = Instant::now();
        let older = facts(1, SMALL, 9, now);
        let newer = facts(2, LARGE, 9, now + RACE);
        let mut pool = pool_of(LARGE, &[older]);
        assert_eq!(pool.arrive(LARGE, newer, 2, false), Arrival::Replaces(1));
        assert_eq!(pool.used(LARGE), Some(&2));
        let again = facts(3, LARGE, 9, now + RACE);
        assert_eq!(pool.arrive(LARGE, again, 3, false), Arrival::Replaces(2));
    }

    #[test]
    fn a_connection_in_doubt_loses_to_any_newer_one() {
        let now = Instant::now();
        let mut pool = pool_of(LARGE, &[facts(1, SMALL, 9, now)]);
        let newer = facts(2, LARGE, 9, now);
        assert_eq!(pool.arrive(LARGE, newer, 2, true), Arrival::Replaces(1));
    }

    #[test]
    fn another_process_is_used_at_once_and_the_older_ones_are_named() {
        let now = Instant::now();
        let mut pool = pool_of(LARGE, &[facts(1, SMALL, 9, now), facts(2, LARGE, 9, now)]);
        let restarted = facts(3, LARGE, 10, now);
        assert_eq!(
            pool.arrive(LARGE, restarted, 3, false),
            Arrival::OtherProcess(vec![2, 1])
        );
        assert_eq!(pool.used(LARGE), Some(&3));
        assert!(pool.prefer(LARGE, 1), "the older one turned out to live");
        assert_eq!(pool.used(LARGE), Some(&1));
    }

    #[test]
    fn a_spare_connection_is_used_again_when_the_other_ends() {
        let now = Instant::now();
        let mut pool = pool_of(LARGE, &[facts(1, SMALL, 9, now), facts(2, LARGE, 9, now)]);
        assert_eq!(pool.depart(LARGE, 1), Departure::OthersLeft);
        assert_eq!(pool.used(LARGE), Some(&2));
        assert_eq!(pool.depart(LARGE, 2), Departure::Last);
        assert_eq!(pool.used(LARGE), None);
        assert_eq!(pool.depart(LARGE, 2), Departure::Unknown);
    }

    #[test]
    fn connections_set_aside_serve_until_another_arrives() {
        let now = Instant::now();
        let mut pool = pool_of(LARGE, &[facts(1, SMALL, 9, now)]);
        assert_eq!(pool.set_all_aside(), [1]);
        assert_eq!(pool.used(LARGE), None);
        assert_eq!(
            pool.arrive(LARGE, facts(2, LARGE, 9, now), 2, false),
            Arrival::First
        );
        assert_eq!(pool.depart(LARGE, 2), Departure::OthersLeft);
    }

    proptest! {
        /// Whatever the order of arrival on each side, two sides that saw the same simultaneous dials use the same one.
        #[test]
        fn both_sides_agree(dials in prop::collection::vec(any::<bool>(), 1..4), swap: bool) {
            let now = Instant::now();
            // Each side dials at most once at a time.
            let mut dials = dials;
            dials.dedup();
            dials.truncate(2);
            let ours: Vec<Facts> = dials
                .iter()
                .enumerate()
                .map(|(id, small)| facts(id as u64, if *small { SMALL } else { LARGE }, 7, now))
                .collect();
            let mut theirs = ours.clone();
            if swap {
                theirs.reverse();
            }
            let (ours, theirs) = (pool_of(LARGE, &ours), pool_of(LARGE, &theirs));
            prop_assert_eq!(ours.used(LARGE), theirs.used(LARGE));
        }

        /// No order of events loses the last connection or names one that has gone.
        #[test]
        fn the_used_one_is_always_a_living_one(
            events in prop::collection::vec((0u64..6, any::<bool>(), 0u64..2, any::<bool>()), 0..40)
        ) {
            let now = Instant::now();
            let mut pool: Pool<u64> = Pool::new();
            let mut living: std::collections::BTreeSet<u64> = Default::default();
            for (id, small, instance, arrives) in events {
                if arrives && living.insert(id) {
                    let dialler = if small { SMALL } else { LARGE };
                    pool.arrive(LARGE, facts(id, dialler, instance, now), id, false);
                } else if !arrives && living.remove(&id) {
                    let gone = pool.depart(LARGE, id);
                    prop_assert_eq!(gone == Departure::Last, living.is_empty());
                }
                match pool.used(LARGE) {
                    Some(used) => prop_assert!(living.contains(used)),
                    None => prop_assert!(living.is_empty()),
                }
                prop_assert_eq!(pool.links(LARGE).len(), living.len());
            }
        }
    }
}
