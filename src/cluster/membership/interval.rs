//! How often to gossip and how long to wait before a verdict, by the size of the cluster.
//!
//! Pure. A gossip message holds a digest of every member, so its cost grows with the cluster and the
//! work of all nodes together with its square: a large cluster gossips less often, and judges later.

use std::time::Duration;

use chitchat::FailureDetectorConfig;

/// Members that one cluster may have.
///
/// The digest of all members must fit one gossip message (65,507 bytes), with room for members that
/// restart and are in it twice for a while.
pub const MAX_MEMBERS: usize = 2_000;

/// In clusters up to this size all probe a member that one of them doubts.
const CLOSE: usize = 64;

/// In clusters up to this size a member begins two exchanges in a round, so that every other one is asked soon after it
/// has died. In a larger one it is by then, with one.
const LARGE: usize = 300;

/// In clusters up to this size all probe a member at first sight. In a larger one that would be as many handshakes at
/// once for a newcomer, and for all of them when a whole cluster starts; there, members see it gossip before they
/// believe it, for a few rounds.
pub(super) const SMALL: usize = 16;

/// chitchat's own clock: it forgets members long dead and tends its phi windows this often. It is not
/// the gossip interval, because it cannot be changed while it runs; see [`Pace::round`].
pub(super) const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// A dead member leaves chitchat's digests after half of this, and its memory after all of it. Short, because
/// each restart of a node leaves a dead generation behind, and the digest has a limit.
const DEAD_GRACE: Duration = Duration::from_secs(120);

/// The rhythm of a cluster of some size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two rounds of gossip.
    pub round: Duration,
    /// Members to gossip with in each round.
    pub fanout: usize,
    /// Between two looks at who is silent.
    pub tick: Duration,
    /// News that comes within this time is looked at together: a look takes time with each member.
    pub coalesce: Duration,
    /// Between two times that others' news is passed on.
    pub relay_gap: Duration,
    /// Silence after which a member is never yet in doubt.
    pub doubt_min: Duration,
    /// Silence after which a member is in doubt, whatever phi says.
    pub doubt_max: Duration,
    /// How long a member may take to answer in an exchange before it is in doubt.
    pub answer_due: Duration,
    /// Silence before which no member is dead.
    pub dead_after: Duration,
    /// How long a probe, and the exchange that was the reason for it, must have gone without an answer before its
    /// member is dead.
    pub probe_for: Duration,
    /// Whether a member that was only heard of is probed at once, rather than watched.
    pub probe_on_sight: bool,
    /// Whether a member that another doubts is probed.
    pub close: bool,
}

/// Between two rounds of a small cluster, in ms. News is pushed and does not wait for rounds: they are for news that got
/// lost, and to find out who is silent, and they are most of what an idle node does. In a small cluster each reaches a
/// great part of it, so that fewer do.
const SMALL_ROUND_MS: u64 = 400;

/// The rhythm of a cluster of this many members that are not dead, this node included. Who is not proven alive yet
/// counts: a digest that holds it costs no less.
///
/// Up to 50 members a round is 250 ms, or 400 ms in a small cluster. A member that leaves an exchange unanswered for
/// 250 ms is probed, and is dead when it has answered neither for 1.25 s: a process that was stopped for a second, and
/// then has to wait for its turn on a busy machine, answers before. Beyond, all times grow together.
pub fn pace(members: usize) -> Pace {
    let round_ms = match members {
        0..=50 => 250,
        51..=300 => 250 + (members as u64 - 50) * 3,
        301..=500 => 1_000 + (members as u64 - 300) * 5,
        501..=1_000 => 2_000 + (members as u64 - 500) * 2,
        _ => 3_000,
    };
    let small = members <= SMALL;
    let scaled = |ms: u64| Duration::from_millis(ms * round_ms / 250);
    Pace {
        round: Duration::from_millis(if small { SMALL_ROUND_MS } else { round_ms }),
        fanout: if members <= LARGE { 2 } else { 1 },
        tick: scaled(80).min(Duration::from_millis(500)),
        coalesce: Duration::from_micros(3_000 + members.saturating_sub(50).min(1_000) as u64 * 200),
        relay_gap: scaled(125),
        doubt_min: scaled(500),
        doubt_max: scaled(if small { 1_200 } else { 800 }),
        answer_due: scaled(250),
        // What others say of a member is older in a small cluster, by the longer round of each of them.
        dead_after: scaled(if small { 1_500 } else { 1_250 }),
        probe_for: scaled(1_250).min(Duration::from_secs(3)),
        probe_on_sight: small,
        close: members <= CLOSE,
    }
}

/// How late this process gets its turns, of late.
///
/// Where all is late, answers are too, on this machine and often on its neighbours, which share it: then a node begins
/// fewer exchanges and waits longer for answers, rather than add probes and handshakes to what is too much already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag(Duration);

/// No single turn counts as later than this: a process that was stopped for long is not slow for it.
const MAX_LAG: Duration = Duration::from_millis(250);

impl Lag {
    /// A turn came this much too late.
    pub(super) fn observe(&mut self, late: Duration) {
        self.0 = late.min(MAX_LAG).max(self.0 * 7 / 8);
    }

    /// What to add to a time in which others should act: at most a second.
    pub(super) fn allowance(self) -> Duration {
        self.0 * 4
    }
}

/// How chitchat's phi windows are set. A window takes 8 bytes a sample for each member on each node.
pub(super) fn failure_detector() -> FailureDetectorConfig {
    FailureDetectorConfig {
        phi_threshold: 8.0,
        sampling_window_size: 100,
        max_interval: Duration::from_secs(10),
        initial_interval: pace(1).round,
        dead_node_grace_period: DEAD_GRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rhythm_follows_the_size() {
        for (members, round) in [(0, 400), (1, 400), (16, 400), (17, 250), (50, 250)] {
            let pace = pace(members);
            assert_eq!(pace.round, Duration::from_millis(round), "{members}");
            assert_eq!(pace.probe_for, Duration::from_millis(1_250));
        }
        assert_eq!(pace(300).round, Duration::from_secs(1));
        assert_eq!(pace(500).round, Duration::from_secs(2));
        assert_eq!(pace(1_000).round, Duration::from_secs(3));
        assert_eq!(pace(usize::MAX).round, Duration::from_secs(3));
    }

    #[test]
    fn lateness_is_allowed_for_and_forgotten() {
        let mut lag = Lag::default();
        assert_eq!(lag.allowance(), Duration::ZERO);
        lag.observe(Duration::from_millis(50));
        assert_eq!(lag.allowance(), Duration::from_millis(200));
        lag.observe(Duration::from_secs(3_600));
        assert_eq!(lag.allowance(), Duration::from_secs(1));
        for _ in 0..40 {
            lag.observe(Duration::ZERO);
        }
        assert!(lag.allowance() < Duration::from_millis(10));
    }

    #[test]
    fn the_rhythm_of_all_but_small_clusters_never_quickens_as_they_grow() {
        for members in SMALL + 1..MAX_MEMBERS {
            let (here, next) = (pace(members), pace(members + 1));
            assert!(here.round <= next.round, "at {members}");
            assert!(here.dead_after <= next.dead_after, "at {members}");
        }
        for members in 0..MAX_MEMBERS {
            let here = pace(members);
            assert!(here.doubt_min < here.doubt_max && here.doubt_max < here.dead_after);
            assert!(here.tick < here.answer_due && here.answer_due < here.doubt_min);
        }
    }
}
