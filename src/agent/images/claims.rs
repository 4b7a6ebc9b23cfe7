//! Who of the nodes that want the same content fetches it from the registry, so that it is fetched once.
//!
//! Pure. There is no leader in it. A node that is about to fetch *claims*: it marks its own claim first and asks the
//! others after that. Whoever is asked either has claimed too, and says so, or remembers the claim and does not claim
//! any more. So of any two that claim, at least one knows of the other, and when both do, the lower [`rank`] wins on
//! both sides. A claim whose round of questions is over is *settled*: who asks then gives way whatever its rank.
//! A mistake costs a second download and nothing else: what comes is verified by its digest.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

use super::chain::digest_of;
use crate::model::{Digest, NodeId};
use crate::wire::content::Held;

/// How long another node's claim is remembered that was not renewed: its fetch is asked for by then.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Content for which claims of others are remembered.
const REMEMBERED_AT_ONCE: usize = 4096;

/// Claims of others that are remembered for the same content: the best by rank. One would do while it lasts.
const RIVALS: usize = 8;

/// How often old claims are looked for when there are too many.
const SWEPT: Duration = Duration::from_secs(1);

/// Peers that are asked who fetches: the first of these by rank, the same on every node.
pub const ASKED: usize = 64;

/// The order of nodes for some content: random, and the same everywhere.
pub fn rank(node: NodeId, digest: Digest) -> (Digest, NodeId) {
    (digest_of(format!("{node} {digest}").as_bytes()), node)
}

/// The peers to ask about some content, best first.
pub fn to_ask(mut live: Vec<NodeId>, digest: Digest) -> Vec<NodeId> {
    live.sort_by_cached_key(|node| rank(*node, digest));
    live.truncate(ASKED);
    live
}

/// Own claims, and those that others told of.
#[derive(Debug, Default)]
pub struct Claims {
    own: BTreeMap<Digest, Own>,
    others: BTreeMap<Digest, Rivals>,
    swept: Option<Instant>,
}

/// Who else claims some content, by rank, and when that was heard.
type Rivals = BTreeMap<(Digest, NodeId), Instant>;

#[derive(Debug, Default)]
struct Own {
    bytes: u64,
    settled: bool,
}

impl Claims {
    /// Claims `digest`, unless another node is known to have done so, which is returned.
    pub fn claim(&mut self, digest: Digest, now: Instant) -> Result<(), NodeId> {
        match self.claimant(digest, now) {
            Some(other) => Err(other),
            None => {
                self.own.insert(digest, Own::default());
                Ok(())
            }
        }
    }

    /// The round of questions is over, and this node fetches.
    pub fn settle(&mut self, digest: Digest) {
        if let Some(own) = self.own.get_mut(&digest) {
            own.settled = true;
        }
    }

    /// So many bytes have come.
    pub fn advance(&mut self, digest: Digest, bytes: u64) {
        if let Some(own) = self.own.get_mut(&digest) {
            own.bytes = bytes;
        }
    }

    /// This node does not fetch it any more, or has it.
    pub fn release(&mut self, digest: Digest) {
        self.own.remove(&digest);
    }

    /// The other node does not fetch it.
    pub fn forget(&mut self, digest: Digest, node: NodeId) {
        if let Some(rivals) = self.others.get_mut(&digest) {
            rivals.remove(&rank(node, digest));
        }
    }

    /// The best known of the other nodes that claim `digest`.
    pub fn claimant(&self, digest: Digest, now: Instant) -> Option<NodeId> {
        let mut rivals = self.others.get(&digest)?.iter();
        let fresh = rivals.find(|(_, heard)| is_fresh(**heard, now));
        fresh.map(|((_, node), _)| *node)
    }

    /// What a peer is told that asks for content that is not here.
    pub fn answer(
        &mut self,
        from: NodeId,
        digest: Digest,
        claims: bool,
        now: Instant,
    ) -> (Held, Option<NodeId>) {
        let known = self.claimant(digest, now).filter(|known| *known != from);
        if claims {
            self.remember(digest, from, now);
        }
        let held = self.own.get(&digest).map_or(Held::No, |own| Held::Coming {
            bytes: own.bytes,
            settled: own.settled,
        });
        (held, known)
    }

    fn remember(&mut self, digest: Digest, node: NodeId, now: Instant) {
        let lately = |swept: Instant| now.duration_since(swept) < SWEPT;
        if self.others.len() >= REMEMBERED_AT_ONCE && !self.swept.is_some_and(lately) {
            self.swept = Some(now);
            self.others
                .retain(|_, rivals| rivals.values().any(|heard| is_fresh(*heard, now)));
        }
        if self.others.len() < REMEMBERED_AT_ONCE || self.others.contains_key(&digest) {
            let rivals = self.others.entry(digest).or_default();
            rivals.retain(|_, heard| is_fresh(*heard, now));
            rivals.insert(rank(node, digest), now);
            if rivals.len() > RIVALS {
                rivals.pop_last();
            }
        }
    }
}

fn is_fresh(heard: Instant, now: Instant) -> bool {
    now.duration_since(heard) < REMEMBERED
}

/// What a round of questions came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This node fetches.
    Mine,
    /// That one does.
    Wait(NodeId),
}

/// Who fetches, of this node and all that claim besides, with whether their claim is settled.
pub fn decide(me: NodeId, digest: Digest, others: &[(NodeId, bool)]) -> Verdict {
    if let Some((node, _)) = others
        .iter()
        .filter(|(_, settled)| *settled)
        .min_by_key(|(node, _)| rank(*node, digest))
    {
        return Verdict::Wait(*node);
    }
    let nodes = others.iter().map(|(node, _)| *node).chain([me]);
    match nodes.min_by_key(|node| rank(*node, digest)) {
        Some(node) if node != me => Verdict::Wait(node),
        _ => Verdict::Mine,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(n: usize) -> NodeId {
        NodeId::from_bits(n as u128 + 1)
    }

    /// A node that goes through its round one question at a time.
    #[derive(Default)]
    struct Player {
        claims: Claims,
        asked: Option<usize>,
        heard: Vec<(NodeId, bool)>,
        verdict: Option<Verdict>,
    }

    /// One step of player `at`: claim, ask the next one, or decide.
    fn step(players: &mut [Player], at: usize, digest: Digest, now: Instant) {
        let count = players.len();
        if players[at].verdict.is_some() {
            return;
        }
        let Some(next) = players[at].asked else {
            match players[at].claims.claim(digest, now) {
                Ok(()) => players[at].asked = Some(0),
                Err(other) => players[at].verdict = Some(Verdict::Wait(other)),
            }
            return;
        };
        players[at].asked = Some(next + 1);
        if next == at {
            return;
        }
        if next < count {
            let (held, known) = players[next].claims.answer(node(at), digest, true, now);
            if let Held::Coming { settled, .. } = held {
                players[at].heard.push((node(next), settled));
            }
            players[at].heard.extend(known.map(|known| (known, false)));
            return;
        }
        let own = players[at]
            .claims
            .claimant(digest, now)
            .map(|other| (other, false));
        players[at].heard.extend(own);
        let verdict = decide(node(at), digest, &players[at].heard);
        match verdict {
            Verdict::Mine => players[at].claims.settle(digest),
            Verdict::Wait(_) => players[at].claims.release(digest),
        }
        players[at].verdict = Some(verdict);
    }

    proptest! {
        /// However the questions interleave, one node fetches at most, and when all are through, one does, or all who
        /// wait do so for one that has given up meanwhile and is asked again.
        #[test]
        fn at_most_one_fetches(count in 2usize..7, order in prop::collection::vec(0usize..7, 0..200), seed: u8) {
            let digest = Digest::from_bytes([seed; 32]);
            let now = Instant::now();
            let mut players: Vec<Player> = (0..count).map(|_| Player::default()).collect();
            let rest = (0..count).flat_map(|at| std::iter::repeat_n(at, count + 3));
            for at in order.into_iter().map(|at| at % count).chain(rest) {
                step(&mut players, at, digest, now);
            }
            let mine = players.iter().filter(|player| player.verdict == Some(Verdict::Mine)).count();
            prop_assert!(mine <= 1, "{mine} fetch");
            prop_assert!(players.iter().all(|player| player.verdict.is_some()));
            if mine == 0 {
                let all_wait = players.iter().all(|player| matches!(player.verdict, Some(Verdict::Wait(_))));
                prop_assert!(all_wait);
            }
        }

        #[test]
        fn the_order_is_the_same_everywhere(seed: u8, count in 1usize..200) {
            let digest = Digest::from_bytes([seed; 32]);
            let nodes: Vec<NodeId> = (0..count).map(node).collect();
            let mut reversed = nodes.clone();
            reversed.reverse();
            prop_assert_eq!(to_ask(nodes, digest), to_ask(reversed, digest));
        }
    }

    #[test]
    fn claims_of_others_are_forgotten_in_time() {
        let digest = Digest::from_bytes([1; 32]);
        let now = Instant::now();
        let mut claims = Claims::default();
        claims.answer(node(1), digest, true, now);
        assert_eq!(claims.claim(digest, now), Err(node(1)));
        assert_eq!(claims.claim(digest, now + REMEMBERED), Ok(()));
        claims.advance(digest, 5);
        claims.settle(digest);
        let (held, known) = claims.answer(node(2), digest, false, now + REMEMBERED);
        assert_eq!(
            (held, known),
            (
                Held::Coming {
                    bytes: 5,
                    settled: true
                },
                None
            )
        );
        claims.release(digest);
        assert_eq!(claims.answer(node(2), digest, false, now).0, Held::No);
        for n in 0..2 * REMEMBERED_AT_ONCE {
            let other = digest_of(&n.to_be_bytes());
            claims.answer(node(n), other, true, now);
            claims.answer(node(n), digest, true, now);
        }
        assert!(claims.others.len() <= REMEMBERED_AT_ONCE);
        assert_eq!(claims.others[&digest].len(), RIVALS);
        let best = to_ask((0..2 * REMEMBERED_AT_ONCE).map(node).collect(), digest)[0];
        assert_eq!(claims.claimant(digest, now), Some(best));
    }
}
