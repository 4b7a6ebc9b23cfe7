//! Decides which handshakes go on, before any cryptography: values only, the clock is passed in.
//!
//! [`super::accept`] asks it about each first packet. A source that cannot have sent its packet keeps no state
//! here, one that comes too often is refused, and one that stalls gives way to others in a crowd.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Bucket;
use crate::wire::limits;

/// Bounds of handshakes.
#[derive(Clone, Copy, Debug)]
pub(super) struct GateLimits {
    /// Under way at once.
    pub(super) at_once: usize,
    /// Under way at once from one source that has not proved that it receives what is sent to it.
    pub(super) unproved: usize,
    /// Under way at once from one source.
    pub(super) per_source: usize,
    /// Begun a second from one source.
    pub(super) per_second: u32,
    /// Begun at once from one source, after a pause.
    pub(super) burst: u32,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            at_once: limits::HANDSHAKES_IN_FLIGHT,
            unproved: limits::HANDSHAKES_IN_FLIGHT / 4,
            per_source: limits::HANDSHAKES_IN_FLIGHT / 2,
            per_second: 200,
            burst: 400,
        }
    }
}

/// What to do with a handshake that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on, in this place; [`Gate::done`] is to be called at its end.
    Accept {
        /// The place.
        place: u64,
        /// Another place, whose handshake has taken too long in a crowd and is to be given up.
        evicted: Option<u64>,
    },
    /// Let the sender first show that it receives what is sent to its address; keeps no state here.
    ProveAddress,
    /// Say no: this source has had enough for the moment.
    Refuse,
    /// Say nothing: all is busy, and an honest dialler repeats its first packet by itself.
    Ignore,
}

#[derive(Clone, Copy, Debug)]
struct SourceState {
    running: usize,
    bucket: Bucket,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    from: SocketAddr,
    source: IpAddr,
    proved: bool,
    since: Instant,
}

/// Sources that are remembered; beyond it the quiet ones are forgotten.
const SOURCES: usize = 4096;

/// How often at most quiet sources are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// A handshake that has taken so long gives way in a crowd. Honest ones take two round trips.
const SLOW: Duration = Duration::from_millis(500);

/// A handshake that has taken so long gives way to another one from the same port. On machines that are very busy
/// honest ones take longer than [`SLOW`]: were they given up for the dialler's next attempt, and that for the one after
/// it, none would ever end, and all of that work would keep the machines busy.
const HOPELESS: Duration = Duration::from_secs(2);

/// Decides which handshakes go on. Memory is bounded whatever arrives, and a source that stalls keeps nobody else out.
#[derive(Debug)]
pub(super) struct Gate {
    limits: GateLimits,
    next: u64,
    running: BTreeMap<u64, Running>,
    sources: HashMap<IpAddr, SourceState>,
    forgot: Option<Instant>,
}

/// Who is counted as one: an address, or all of an IPv6 network, of which one machine may use any address.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

impl Gate {
    pub(super) fn new(limits: GateLimits) -> Self {
        Self {
            limits,
            next: 0,
            running: BTreeMap::new(),
            sources: HashMap::new(),
            forgot: None,
        }
    }

    /// A first packet came from `from`; `proved` when it carries the proof that this is its sender.
    ///
    /// Nodes dial from the port on which they listen, and repeat their dials while nothing is heard. So of handshakes
    /// from the same port only the first is worth the work, unless it leads nowhere. Where that one may be forged, the
    /// first that is not goes on beside it.
    pub(super) fn begin(&mut self, from: SocketAddr, proved: bool, now: Instant) -> Verdict {
        let source = source_of(from.ip());
        // Spoofed sources must not use up the quota of the host that they name, nor the table.
        if !proved && (self.running.len() >= self.limits.unproved || self.is_full(source, now)) {
            return Verdict::ProveAddress;
        }
        let evicted = match self.who_gives_way(from, proved, now) {
            Ok(evicted) => evicted,
            Err(no) => return no,
        };
        if !self.takes(source, now) {
            return if proved {
                Verdict::Refuse
            } else {
                Verdict::ProveAddress
            };
        }
        if let Some(place) = evicted {
            self.done(place);
        }
        let place = self.next;
        self.next += 1;
        let running = Running {
            from,
            source,
            proved,
            since: now,
        };
        self.running.insert(place, running);
        if let Some(state) = self.sources.get_mut(&source) {
            state.running += 1;
        }
        Verdict::Accept { place, evicted }
    }

    /// Which handshake has to end for one from `from`, if any has to; an error when it is not let in.
    fn who_gives_way(
        &self,
        from: SocketAddr,
        proved: bool,
        now: Instant,
    ) -> Result<Option<u64>, Verdict> {
        let takes = |r: &Running, span| now.saturating_duration_since(r.since) >= span;
        let mut same = self.running.iter().filter(|(_, r)| r.from == from);
        if !proved && same.clone().next().is_some() {
            return Err(Verdict::ProveAddress);
        }
        if let Some((place, same)) = same.find(|(_, r)| r.proved) {
            return match takes(same, HOPELESS) {
                true => Ok(Some(*place)),
                false => Err(Verdict::Ignore),
            };
        }
        let source = source_of(from.ip());
        let (crowd, no) = if self.running_of(source) >= self.limits.per_source {
            (Some(source), Verdict::Refuse)
        } else if self.running.len() >= self.limits.at_once {
            (self.most_running(), Verdict::Ignore)
        } else {
            return Ok(None);
        };
        let mut oldest = self.running.iter().filter(|(_, r)| Some(r.source) == crowd);
        match oldest.next() {
            Some((place, running)) if takes(running, SLOW) => Ok(Some(*place)),
            Some(_) | None => Err(no),
        }
    }

    fn running_of(&self, source: IpAddr) -> usize {
        self.sources.get(&source).map_or(0, |state| state.running)
    }

    /// The source that has the most handshakes under way.
    fn most_running(&self) -> Option<IpAddr> {
        let each = self.running.values().map(|running| running.source);
        each.max_by_key(|source| self.running_of(*source))
    }

    fn takes(&mut self, source: IpAddr, now: Instant) -> bool {
        let GateLimits {
            per_second, burst, ..
        } = self.limits;
        let state = self.sources.entry(source).or_insert_with(|| SourceState {
            running: 0,
            bucket: Bucket::full(burst, now),
        });
        state.bucket.take(per_second, burst, now)
    }

    /// Whether there is no room to remember another source.
    fn is_full(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.sources.len() < SOURCES || self.sources.contains_key(&source) {
            return false;
        }
        let lately = |at: Instant| now.saturating_duration_since(at) < FORGET_EVERY;
        if !self.forgot.is_some_and(lately) {
            self.forgot = Some(now);
            let full_again = u64::from(self.limits.burst / self.limits.per_second.max(1) + 1);
            let full_again = Duration::from_secs(full_again);
            self.sources
                .retain(|_, state| state.running > 0 || state.bucket.idle(now) < full_again);
        }
        self.sources.len() >= SOURCES
    }

    /// The handshake in a place has ended, either way. One that was evicted may say so too.
    pub(super) fn done(&mut self, place: u64) {
        if let Some(running) = self.running.remove(&place)
            && let Some(state) = self.sources.get_mut(&running.source)
        {
            state.running = state.running.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;

    fn source(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    /// A port of a source that was not named before.
    fn from(n: u32) -> SocketAddr {
        static PORT: AtomicU16 = AtomicU16::new(0);
        SocketAddr::new(source(n), PORT.fetch_add(1, Ordering::Relaxed))
    }

    fn gate() -> Gate {
        Gate::new(GateLimits {
            at_once: 8,
            unproved: 2,
            per_source: 4,
            per_second: 10,
            burst: 5,
        })
    }

    /// The place that the gate gives, if it gives one and takes none away.
    fn let_in(gate: &mut Gate, n: u32, proved: bool, now: Instant) -> Result<u64, Verdict> {
        match gate.begin(from(n), proved, now) {
            Verdict::Accept {
                place,
                evicted: None,
            } => Ok(place),
            other => Err(other),
        }
    }

    #[test]
    fn beyond_a_few_an_unproved_address_is_asked_for_proof() {
        let now = Instant::now();
        let mut gate = gate();
        let first = let_in(&mut gate, 1, false, now).unwrap();
        let_in(&mut gate, 2, false, now).unwrap();
        assert_eq!(gate.begin(from(3), false, now), Verdict::ProveAddress);
        let third = let_in(&mut gate, 3, true, now).unwrap();
        gate.done(first);
        gate.done(third);
        let_in(&mut gate, 4, false, now).unwrap();
    }

    #[test]
    fn of_the_same_port_one_handshake_is_worked_on() {
        let now = Instant::now();
        let mut gate = gate();
        let again = from(1);
        let Verdict::Accept { place, .. } = gate.begin(again, true, now) else {
            panic!("there is room");
        };
        assert_eq!(gate.begin(again, true, now), Verdict::Ignore);
        assert_eq!(gate.begin(again, false, now), Verdict::ProveAddress);
        let Verdict::Accept { evicted, .. } = gate.begin(again, true, now + HOPELESS) else {
            panic!("the other one leads nowhere");
        };
        assert_eq!(evicted, Some(place));
        assert_eq!(gate.running_of(source(1)), 1);
    }

    #[test]
    fn a_forged_handshake_keeps_nobody_out_and_an_honest_one_is_not_given_up_for_its_repetition() {
        let now = Instant::now();
        let mut gate = gate();
        let again = from(1);
        let accept = |verdict| match verdict {
            Verdict::Accept { evicted, .. } => evicted,
            other => panic!("{other:?}"),
        };
        assert_eq!(accept(gate.begin(again, false, now)), None);
        assert_eq!(gate.begin(again, false, now), Verdict::ProveAddress);
        assert_eq!(accept(gate.begin(again, true, now)), None);
        // What a dial does while its first attempts are slow to be answered.
        for attempt in 1..8 {
            let now = now + attempt * Duration::from_millis(250);
            assert_eq!(gate.begin(again, false, now), Verdict::ProveAddress);
            assert_eq!(gate.begin(again, true, now), Verdict::Ignore);
        }
        assert_eq!(gate.running_of(source(1)), 2);
    }

    #[test]
    fn one_source_cannot_take_all_places_and_keeps_none_by_stalling() {
        let now = Instant::now();
        let mut gate = gate();
        let first = let_in(&mut gate, 1, true, now).unwrap();
        for _ in 0..3 {
            let_in(&mut gate, 1, true, now).unwrap();
        }
        assert_eq!(gate.begin(from(1), true, now), Verdict::Refuse);
        let_in(&mut gate, 2, true, now).unwrap();
        let Verdict::Accept { evicted, .. } = gate.begin(from(1), true, now + SLOW) else {
            panic!("a slow handshake is to give way");
        };
        assert_eq!(evicted, Some(first));
        assert_eq!(gate.running_of(source(1)), 4);
        gate.done(first);
        assert_eq!(gate.running_of(source(1)), 4, "it has left already");
    }

    #[test]
    fn in_a_crowd_the_slowest_of_the_busiest_source_gives_way() {
        let now = Instant::now();
        let mut gate = gate();
        for n in [1, 2, 2, 2, 2, 3, 3, 4] {
            let_in(&mut gate, n, true, now).unwrap();
        }
        assert_eq!(gate.begin(from(5), true, now), Verdict::Ignore);
        let Verdict::Accept { evicted, .. } = gate.begin(from(5), true, now + SLOW) else {
            panic!("a slow handshake is to give way");
        };
        assert_eq!(evicted, Some(1), "the second source's first");
        assert_eq!(gate.running.len(), 8);
    }

    #[test]
    fn a_source_that_comes_too_often_is_refused_and_later_let_in() {
        let now = Instant::now();
        let mut gate = gate();
        for _ in 0..5 {
            let place = let_in(&mut gate, 1, true, now).unwrap();
            gate.done(place);
        }
        assert_eq!(gate.begin(from(1), true, now), Verdict::Refuse);
        let later = now + Duration::from_millis(200);
        let_in(&mut gate, 1, true, later).unwrap();
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let ip = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_ne!(ip("10.0.0.1"), ip("10.0.0.2"));
    }

    #[test]
    fn spoofed_sources_do_not_fill_the_memory_or_the_processor() {
        let start = Instant::now();
        let mut gate = gate();
        let begun = std::time::Instant::now();
        for n in 0..200_000 {
            if let Verdict::Accept { place, .. } = gate.begin(from(n), false, start) {
                gate.done(place);
            }
        }
        let each = begun.elapsed() / 200_000;
        assert!(each < Duration::from_micros(20), "{each:?}");
        assert!(gate.sources.len() <= SOURCES);
        let_in(&mut gate, 7, false, start).unwrap();
        let later = start + Duration::from_secs(10);
        let_in(&mut gate, 900_000, false, later).expect("quiet sources are forgotten");
    }

    #[test]
    fn no_order_of_events_lets_more_in_than_the_limits_say() {
        let mut now = Instant::now();
        let mut gate = gate();
        let mut places: Vec<u64> = Vec::new();
        let mut seed = 1u32;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            now += Duration::from_millis(u64::from(seed >> 25));
            if seed >> 8 & 3 == 0 && !places.is_empty() {
                gate.done(places.remove(seed as usize % places.len()));
            } else if let Verdict::Accept { place, evicted } =
                gate.begin(from(seed >> 12 & 7), seed >> 16 & 1 == 1, now)
            {
                places.retain(|other| Some(*other) != evicted);
                places.push(place);
            }
            assert_eq!(gate.running.len(), places.len());
            assert!(places.len() <= 8);
            assert!((0..8).all(|n| gate.running_of(source(n)) <= 4));
        }
    }
}
