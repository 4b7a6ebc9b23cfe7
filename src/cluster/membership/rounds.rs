//! Chooses whom to gossip with.
//!
//! Pure: the random source is given. chitchat would choose by itself, at an interval that is fixed when it
//! starts and among seeds that are fixed too; so the gossip loop chooses, and chitchat does the exchange.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng;
use rand::seq::{IteratorRandom, SliceRandom};

use super::interval::Pace;
use crate::model::NodeId;

/// Seeds that are tried in one round while nobody is known to live.
const SEEDS_AT_ONCE: usize = 8;

/// While somebody lives, a seed that was never heard of is tried in one round of this many.
const SEED_EVERY: f64 = 4.0;

/// The members that this node may gossip with; none of the sets holds the node itself.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Believed alive, and how long ago the last message came from each.
    pub live: BTreeMap<NodeId, Duration>,
    /// Believed dead: gossiped with now and then, so that a cut network heals.
    pub dead: BTreeSet<NodeId>,
    /// Named by others than gossip, and not judged yet.
    pub seeds: BTreeSet<NodeId>,
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Live members in random order, until each has had its turn.
    cycle: Vec<NodeId>,
}

impl Rounds {
    /// Whom to gossip with in this round.
    pub(super) fn choose(
        &mut self,
        from: &Candidates,
        pace: &Pace,
        rng: &mut impl Rng,
    ) -> Vec<NodeId> {
        let mut chosen = self.choose_live(from, pace, rng);
        let odds = from.dead.len() as f64 / (from.live.len() + 1) as f64;
        if rng.random::<f64>() < odds {
            chosen.extend(from.dead.iter().choose(rng));
        }
        let seeds = if from.live.is_empty() {
            SEEDS_AT_ONCE
        } else {
            usize::from(rng.random::<f64>() < 1.0 / SEED_EVERY)
        };
        chosen.extend(from.seeds.iter().choose_multiple(rng, seeds));
        chosen
    }

    /// Each live member has its turn before any has another. Who has just spoken is passed over: a pair
    /// needs one exchange in a round, whichever side began it.
    fn choose_live(&mut self, from: &Candidates, pace: &Pace, rng: &mut impl Rng) -> Vec<NodeId> {
        let mut chosen = Vec::new();
        for _ in 0..from.live.len() {
            if chosen.len() == pace.fanout {
                break;
            }
            if self.cycle.is_empty() {
                self.cycle.extend(from.live.keys());
                self.cycle.shuffle(rng);
            }
            let next = self.cycle.pop().filter(|node| !chosen.contains(node));
            if let Some(node) = next
                && from
                    .live
                    .get(&node)
                    .is_some_and(|ago| *ago >= pace.round / 2)
            {
                chosen.push(node);
            }
        }
        chosen
    }
}

/// Whom this node tells news that began at `origin`, as soon as it has heard it; `origin` may be the node itself.
///
/// News runs along two trees that all members derive from the same order of identities, taken as a ring: one goes
/// round it forwards from the origin, one backwards. A member at distance `d` tells those at `d + 2^k` for each power
/// of two above `d`. So all have heard after as many steps as the size has binary digits, each is told twice, by
/// other ways, and has few to tell. Who is missed because views differ hears in the next round.
pub(super) fn relays(me: NodeId, origin: NodeId, live: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let mut ring: Vec<NodeId> = live.iter().copied().chain([me, origin]).collect();
    ring.sort_unstable();
    ring.dedup();
    let size = ring.len();
    let at = |node: NodeId| ring.binary_search(&node).unwrap_or_default();
    let (from, mine) = (at(origin), at(me));
    let forwards = (mine + size - from) % size;
    let backwards = (size - forwards) % size;
    let ahead = steps(forwards, size).map(|distance| ring[(from + distance) % size]);
    let behind = steps(backwards, size).map(|distance| ring[(from + size - distance) % size]);
    ahead
        .chain(behind)
        .filter(|node| *node != me && *node != origin)
        .collect()
}

/// The distances that who is at `distance` tells, on a ring of `size`.
fn steps(distance: usize, size: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1usize), |step| step.checked_mul(2))
        .skip_while(move |step| *step <= distance)
        .map(move |step| distance + step)
        .take_while(move |next| *next < size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::interval::pace;
    use super::*;

    fn id(bits: u128) -> NodeId {
        NodeId::from_bits(bits)
    }

    fn live(nodes: impl IntoIterator<Item = u128>) -> BTreeMap<NodeId, Duration> {
        nodes
            .into_iter()
            .map(|bits| (id(bits), Duration::MAX))
            .collect()
    }

    #[test]
    fn each_live_member_has_its_turn_before_any_has_another() {
        let (mut rounds, mut rng) = (Rounds::default(), StdRng::seed_from_u64(1));
        let from = Candidates {
            live: live(1..=12),
            ..Candidates::default()
        };
        let pace = pace(13);
        let per_cycle = 12 / pace.fanout;
        for _ in 0..3 {
            let seen: BTreeSet<NodeId> = (0..per_cycle)
                .flat_map(|_| rounds.choose(&from, &pace, &mut rng))
                .collect();
            assert_eq!(seen.len(), 12);
        }
    }

    #[test]
    fn who_has_just_spoken_is_passed_over() {
        let (mut rounds, mut rng) = (Rounds::default(), StdRng::seed_from_u64(2));
        let mut from = Candidates {
            live: live([1, 2]),
            ..Candidates::default()
        };
        from.live.insert(id(1), Duration::from_millis(10));
        for _ in 0..20 {
            assert_eq!(rounds.choose(&from, &pace(3), &mut rng), [id(2)]);
        }
    }

    #[test]
    fn the_dead_are_tried_when_nobody_lives_and_seeds_many_at_once() {
        let (mut rounds, mut rng) = (Rounds::default(), StdRng::seed_from_u64(3));
        let from = Candidates {
            dead: [id(1)].into(),
            seeds: (2..30).map(id).collect(),
            ..Candidates::default()
        };
        let chosen = rounds.choose(&from, &pace(1), &mut rng);
        assert!(chosen.contains(&id(1)));
        assert_eq!(chosen.len(), 1 + SEEDS_AT_ONCE);
        assert!(
            rounds
                .choose(&Candidates::default(), &pace(1), &mut rng)
                .is_empty()
        );
    }

    #[test]
    fn a_seed_is_not_starved_by_the_living() {
        let (mut rounds, mut rng) = (Rounds::default(), StdRng::seed_from_u64(4));
        let from = Candidates {
            live: live(1..=9),
            seeds: [id(50)].into(),
            ..Candidates::default()
        };
        let tried = (0..400)
            .filter(|_| rounds.choose(&from, &pace(10), &mut rng).contains(&id(50)))
            .count();
        assert!((50..150).contains(&tried), "{tried}");
    }

    /// Who has heard, how many steps it took, and how many were told in all.
    fn spread(
        origin: NodeId,
        all: &BTreeSet<NodeId>,
        fallen: &BTreeSet<NodeId>,
    ) -> (BTreeSet<NodeId>, usize, usize) {
        let (mut told, mut steps, mut tellings) = (BTreeSet::from([origin]), 0, 0);
        let mut fresh = vec![origin];
        while !fresh.is_empty() {
            let next: Vec<NodeId> = fresh
                .iter()
                .flat_map(|node| relays(*node, origin, all))
                .collect();
            tellings += next.len();
            fresh = next
                .into_iter()
                .filter(|node| !fallen.contains(node) && told.insert(*node))
                .collect();
            steps += usize::from(!fresh.is_empty());
        }
        (told, steps, tellings)
    }

    proptest! {
        /// News that begins anywhere reaches everyone, in few steps, and few are told twice.
        #[test]
        fn news_reaches_all(members in proptest::collection::btree_set(any::<u128>(), 1..80), start: prop::sample::Index) {
            let all: BTreeSet<NodeId> = members.into_iter().map(id).collect();
            let origin = *all.iter().nth(start.index(all.len())).unwrap();
            let (told, steps, tellings) = spread(origin, &all, &BTreeSet::new());
            prop_assert_eq!(&told, &all);
            prop_assert!(steps <= all.len().ilog2() as usize + 1);
            prop_assert!(tellings <= 2 * all.len());
        }

        /// A member that is not believed alive yet has a place on the ring all the same.
        #[test]
        fn news_of_a_newcomer_reaches_all(size in 2u128..40, origin in 100u128..200) {
            let all: BTreeSet<NodeId> = (0..size).map(id).collect();
            let (told, _, _) = spread(id(origin), &all, &BTreeSet::new());
            prop_assert_eq!(told.len() as u128, size + 1);
        }

        /// One that has fallen silently takes few with it, for a round.
        #[test]
        fn one_silent_member_is_no_great_loss(fallen in 1u128..30) {
            let all: BTreeSet<NodeId> = (0..30).map(id).collect();
            let (told, _, _) = spread(id(0), &all, &[id(fallen)].into());
            prop_assert!(told.len() >= 27, "{}", told.len());
        }
    }
}
