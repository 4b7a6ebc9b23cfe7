//! Where a peer may be reached, in which order to try, and when: values only.
//!
//! An address is a hint: it may be old, belong to another node by now, or be of no use from here. So hints are
//! ranked and never trusted, a failing one is left alone for a while, and a dial tries all of them. The pool
//! keeps one [`Hints`] a peer; a dial under way keeps one [`Attempts`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Addresses kept of one peer and source; a machine with more is reached by its first ones.
pub(super) const ADDRESSES_KEPT: usize = 16;

/// Between the first attempts at two addresses, while the earlier one has not ended.
const STAGGER: Duration = Duration::from_millis(60);

/// The pause after the first failure of an address; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: shorter than a dial may take, so that each dial tries each address at least once.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Attempts of one dial that may be under way at once.
const RUNNING: usize = 8;

/// No single wait counts as longer overdue than this: a process that was stopped for long is not slow for it.
const MAX_LATE: Duration = Duration::from_millis(200);

/// Who says that a peer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The peer itself, in its hello.
    Peer,
    /// The owner of the transport: gossip, the store, a cache, a token.
    Owner,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    failures: u32,
    not_before: Instant,
}

/// What is known of one peer's whereabouts.
#[derive(Clone, Debug, Default)]
pub(super) struct Hints {
    worked: Option<SocketAddr>,
    seen: Option<SocketAddr>,
    peer: Vec<SocketAddr>,
    owner: Vec<SocketAddr>,
    failing: BTreeMap<SocketAddr, Failing>,
}

/// Whether somebody could be reached at such an address at all.
pub(super) fn dialable(addr: SocketAddr) -> bool {
    let ip = addr.ip();
    let broadcast = matches!(ip, std::net::IpAddr::V4(v4) if v4.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// The address without IPv6's way to write an IPv4 one.
pub(super) fn plain(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => addr,
        SocketAddr::V4(_) | SocketAddr::V6(_) => {
            SocketAddr::new(addr.ip().to_canonical(), addr.port())
        }
    }
}

impl Hints {
    /// Takes what `source` says, best first, in place of what it said before.
    pub(super) fn learn(&mut self, source: Source, addrs: &[SocketAddr]) {
        let mut list: Vec<SocketAddr> = Vec::new();
        for addr in addrs.iter().copied().map(plain).filter(|a| dialable(*a)) {
            if list.len() < ADDRESSES_KEPT && !list.contains(&addr) {
                list.push(addr);
            }
        }
        match source {
            Source::Peer => self.peer = list,
            Source::Owner => self.owner = list,
        }
        let known = self.ordered();
        self.failing.retain(|addr, _| known.contains(addr));
    }

    /// The peer was connected from there. Nodes dial from the port on which they listen, so it may be dialled too,
    /// unless a router stands between.
    pub(super) fn seen(&mut self, addr: SocketAddr) {
        self.seen = Some(plain(addr));
    }

    /// The peer answered there.
    pub(super) fn worked(&mut self, addr: SocketAddr) {
        let addr = plain(addr);
        self.failing.remove(&addr);
        self.worked = Some(addr);
    }

    /// The peer is alive, wherever: what failed before may work now.
    pub(super) fn forgive(&mut self) {
        self.failing.clear();
    }

    /// The peer did not answer there, or not as it should.
    pub(super) fn failed(&mut self, addr: SocketAddr, now: Instant) {
        let addr = plain(addr);
        if self.worked == Some(addr) {
            self.worked = None;
        }
        if !self.ordered().contains(&addr) {
            return;
        }
        let failing = self.failing.entry(addr).or_insert(Failing {
            failures: 0,
            not_before: now,
        });
        let pause = FIRST_PAUSE
            .saturating_mul(1 << failing.failures.min(16))
            .min(LONGEST_PAUSE);
        failing.failures += 1;
        failing.not_before = now + pause;
    }

    /// All addresses, best first: the one that worked last, what the peer says, what others say, where it was last.
    pub(super) fn ordered(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = Vec::new();
        let said = self.peer.iter().chain(&self.owner);
        for addr in self.worked.iter().chain(said).chain(&self.seen) {
            if !all.contains(addr) {
                all.push(*addr);
            }
        }
        all
    }

    fn not_before(&self, addr: SocketAddr) -> Option<Instant> {
        self.failing.get(&addr).map(|failing| failing.not_before)
    }
}

/// What a dial does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Start an attempt there.
    Try(SocketAddr),
    /// Look again when an attempt ends, or at this time.
    Wait(Option<Instant>),
    /// Nothing is under way and nothing is left to try.
    Hopeless,
}

#[derive(Clone, Copy, Debug)]
struct Tried {
    times: u32,
    last: Instant,
    settled: bool,
    answered: bool,
}

/// The attempts of one dial so far.
///
/// A first packet to a host that is just starting is lost without a word, and QUIC repeats it ever more slowly.
/// So a silent address gets fresh attempts at a steady pace, and a restarted peer is reached within a fifth of
/// a second; an address that answered with a refusal is settled and left alone.
///
/// Where this process gets its turns late, what has been answered may still wait for its turn here, and the neighbours
/// are often as late, for they share the machine. More attempts would then only be more work for all.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    tried: BTreeMap<SocketAddr, Tried>,
    last_start: Option<Instant>,
    running: usize,
    late: Duration,
}

/// The pause before the next attempt at an address that was tried so many times and is silent.
fn pause_after(times: u32) -> Duration {
    Duration::from_millis(match times {
        0 => 0,
        1..=5 => 150,
        6..=9 => 250,
        _ => 400,
    })
}

impl Attempts {
    /// What to do at `now`.
    pub(super) fn next(&self, hints: &Hints, now: Instant) -> Step {
        let due = hints
            .ordered()
            .into_iter()
            .filter_map(|addr| Some((self.due(addr, hints, now)?, addr)))
            .min_by_key(|(due, _)| *due);
        let Some((due, addr)) = due else {
            return match self.running {
                0 => Step::Hopeless,
                _ => Step::Wait(None),
            };
        };
        if self.running >= RUNNING {
            return Step::Wait(None);
        }
        let staggered = match self.last_start {
            Some(last) if self.running > 0 => due.max(last + STAGGER),
            Some(_) | None => due,
        };
        if staggered <= now {
            Step::Try(addr)
        } else {
            Step::Wait(Some(staggered))
        }
    }

    fn due(&self, addr: SocketAddr, hints: &Hints, now: Instant) -> Option<Instant> {
        match self.tried.get(&addr) {
            Some(tried) if tried.settled || tried.answered => None,
            Some(tried) => Some(tried.last + pause_after(tried.times) + 4 * self.late),
            None => Some(hints.not_before(addr).unwrap_or(now)),
        }
    }

    /// A wait that [`Self::next`] has asked for was over at `due`, and ended now.
    pub(super) fn waited(&mut self, due: Instant, now: Instant) {
        let late = now.saturating_duration_since(due).min(MAX_LATE);
        self.late = late.max(self.late / 2);
    }

    /// An attempt at `addr` starts.
    pub(super) fn started(&mut self, addr: SocketAddr, now: Instant) {
        self.running += 1;
        self.last_start = Some(now);
        let tried = self.tried.entry(addr).or_insert(Tried {
            times: 0,
            last: now,
            settled: false,
            answered: false,
        });
        tried.times += 1;
        tried.last = now;
    }

    /// An attempt at `addr` failed; `settled` when another would fail the same way.
    pub(super) fn ended(&mut self, addr: SocketAddr, settled: bool) {
        self.running = self.running.saturating_sub(1);
        if let Some(tried) = self.tried.get_mut(&addr) {
            tried.settled |= settled;
            tried.answered = false;
        }
    }

    /// Somebody answers at `addr`: no other attempt is needed while this one goes on.
    pub(super) fn answered(&mut self, addr: SocketAddr) {
        if let Some(tried) = self.tried.get_mut(&addr) {
            tried.answered = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 2377))
    }

    fn hints(owner: &[SocketAddr]) -> Hints {
        let mut hints = Hints::default();
        hints.learn(Source::Owner, owner);
        hints
    }

    #[test]
    fn what_worked_comes_first_then_the_peers_word_then_ours() {
        let mut hints = hints(&[addr(1), addr(2), addr(3)]);
        hints.learn(Source::Peer, &[addr(2), addr(4)]);
        assert_eq!(hints.ordered(), [addr(2), addr(4), addr(1), addr(3)]);
        hints.worked(addr(3));
        assert_eq!(hints.ordered(), [addr(3), addr(2), addr(4), addr(1)]);
        hints.failed(addr(3), Instant::now());
        assert_eq!(hints.ordered(), [addr(2), addr(4), addr(1), addr(3)]);
    }

    #[test]
    fn where_a_peer_was_last_is_not_forgotten_when_nobody_says_more() {
        let mut hints = Hints::default();
        hints.seen(addr(7));
        hints.worked(addr(7));
        hints.failed(addr(7), Instant::now());
        assert_eq!(hints.ordered(), [addr(7)]);
        hints.learn(Source::Owner, &[addr(1)]);
        assert_eq!(hints.ordered(), [addr(1), addr(7)]);
    }

    #[test]
    fn a_source_replaces_only_its_own_word() {
        let mut hints = hints(&[addr(1)]);
        hints.learn(Source::Peer, &[addr(2)]);
        hints.learn(Source::Owner, &[addr(3)]);
        assert_eq!(hints.ordered(), [addr(2), addr(3)]);
        hints.learn(Source::Peer, &[]);
        assert_eq!(hints.ordered(), [addr(3)]);
    }

    #[test]
    fn useless_and_doubled_addresses_are_not_kept() {
        let many: Vec<SocketAddr> = (0..100).map(addr).collect();
        assert_eq!(hints(&many).ordered().len(), ADDRESSES_KEPT);
        let useless = [
            "0.0.0.0:2377",
            "10.0.0.1:0",
            "224.0.0.1:2377",
            "255.255.255.255:1",
            "[::]:2377",
        ];
        let useless: Vec<SocketAddr> = useless.iter().map(|a| a.parse().unwrap()).collect();
        assert_eq!(hints(&useless).ordered(), []);
        let doubled = [addr(1), addr(1), "[::ffff:10.0.0.1]:2377".parse().unwrap()];
        assert_eq!(hints(&doubled).ordered(), [addr(1)]);
    }

    #[test]
    fn a_failing_address_rests_longer_each_time_but_never_longer_than_a_dial() {
        let now = Instant::now();
        let mut hints = hints(&[addr(1)]);
        let mut rests = Vec::new();
        for _ in 0..8 {
            hints.failed(addr(1), now);
            let Step::Wait(Some(until)) = Attempts::default().next(&hints, now) else {
                panic!("a failed address is to rest");
            };
            rests.push((until - now).as_millis());
        }
        assert_eq!(rests, [100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        hints.forgive();
        assert_eq!(
            Attempts::default().next(&hints, now),
            Step::Try(addr(1)),
            "a peer that was heard of is dialled at once"
        );
    }

    #[test]
    fn the_next_address_is_tried_while_the_first_is_silent() {
        let start = Instant::now();
        let hints = hints(&[addr(1), addr(2)]);
        let mut attempts = Attempts::default();
        assert_eq!(attempts.next(&hints, start), Step::Try(addr(1)));
        attempts.started(addr(1), start);
        assert_eq!(
            attempts.next(&hints, start),
            Step::Wait(Some(start + STAGGER))
        );
        assert_eq!(
            attempts.next(&hints, start + STAGGER),
            Step::Try(addr(2)),
            "the stagger has passed"
        );
    }

    #[test]
    fn a_refusal_lets_the_next_address_begin_at_once_and_is_not_repeated() {
        let start = Instant::now();
        let hints = hints(&[addr(1), addr(2)]);
        let mut attempts = Attempts::default();
        attempts.started(addr(1), start);
        attempts.ended(addr(1), true);
        assert_eq!(attempts.next(&hints, start), Step::Try(addr(2)));
        attempts.started(addr(2), start);
        assert_eq!(
            attempts.next(&hints, start),
            Step::Wait(Some(start + pause_after(1))),
            "only the second is to be tried again"
        );
        attempts.ended(addr(2), true);
        assert_eq!(attempts.next(&hints, start), Step::Hopeless);
    }

    #[test]
    fn an_address_that_answers_slowly_is_not_dialled_again_meanwhile() {
        let start = Instant::now();
        let hints = hints(&[addr(1)]);
        let mut attempts = Attempts::default();
        attempts.started(addr(1), start);
        attempts.answered(addr(1));
        let later = start + Duration::from_secs(1);
        assert_eq!(attempts.next(&hints, later), Step::Wait(None));
        attempts.ended(addr(1), false);
        assert_eq!(attempts.next(&hints, later), Step::Try(addr(1)));
    }

    #[test]
    fn a_process_that_gets_its_turns_late_tries_again_later() {
        let start = Instant::now();
        let hints = hints(&[addr(1)]);
        let mut attempts = Attempts::default();
        attempts.started(addr(1), start);
        let mut pause = || match attempts.next(&hints, start) {
            Step::Wait(Some(until)) => {
                attempts.waited(until, until + Duration::from_millis(100));
                until - start
            }
            other => panic!("{other:?}"),
        };
        let (first, second) = (pause(), pause());
        assert_eq!(second, first + Duration::from_millis(400));
        attempts.waited(start, start + Duration::from_secs(60));
        for _ in 0..20 {
            let Step::Wait(Some(until)) = attempts.next(&hints, start) else {
                panic!("the address was tried a moment ago");
            };
            assert!(until - start <= first + 4 * MAX_LATE);
            attempts.waited(until, until);
        }
        let forgotten = attempts.next(&hints, start + first + Duration::from_millis(1));
        assert_eq!(forgotten, Step::Try(addr(1)));
    }

    #[test]
    fn an_address_learnt_during_a_dial_is_tried() {
        let start = Instant::now();
        let mut hints = Hints::default();
        let mut attempts = Attempts::default();
        assert_eq!(attempts.next(&hints, start), Step::Hopeless);
        hints.learn(Source::Owner, &[addr(1)]);
        attempts.started(addr(1), start);
        hints.learn(Source::Peer, &[addr(2)]);
        assert_eq!(attempts.next(&hints, start + STAGGER), Step::Try(addr(2)));
    }

    #[test]
    fn a_silent_address_is_tried_again_at_least_each_200_ms_for_a_second() {
        let start = Instant::now();
        let hints = hints(&[addr(1)]);
        let mut attempts = Attempts::default();
        let mut last = start;
        let mut now = start;
        while now < start + Duration::from_secs(1) {
            if attempts.next(&hints, now) == Step::Try(addr(1)) {
                assert!(now - last < Duration::from_millis(200));
                attempts.started(addr(1), now);
                last = now;
            }
            now += Duration::from_millis(5);
        }
        assert!(attempts.running > 4 && attempts.running <= RUNNING);
    }
}
