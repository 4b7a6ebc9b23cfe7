//! How often a stranger may offer a wrong join secret. Pure: the clock is passed in, memory is bounded.
//!
//! A secret has 128 bits, so nobody guesses one; what is limited is the work and the log lines that trying causes.
//! Called by the node that answers join requests.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use crate::wire::limits::{JOIN_FAILURES, JOIN_WINDOW};

/// Sources remembered at once: with 40 bytes each, under a quarter of a megabyte. Beyond, the one whose window began
/// first is forgotten.
const MAX_SOURCES: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    failures: u32,
}

/// Counts wrong secrets by source address.
#[derive(Debug, Default)]
pub struct Attempts {
    sources: HashMap<IpAddr, Window>,
}

impl Attempts {
    /// Nobody has tried yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `source` may offer a secret at `now`: it has offered fewer than
    /// [`JOIN_FAILURES`] wrong ones within [`JOIN_WINDOW`].
    pub fn may_try(&mut self, source: IpAddr, now: impl Into<Instant>) -> bool {
        let (source, now) = (network_of(source), now.into());
        match self.sources.get(&source) {
            Some(window) if has_passed(window, now) => {
                self.sources.remove(&source);
                true
            }
            Some(window) => window.failures < JOIN_FAILURES,
            None => true,
        }
    }

    /// Notes that `source` has offered a wrong secret.
    pub fn failed(&mut self, source: IpAddr, now: impl Into<Instant>) {
        let (source, now) = (network_of(source), now.into());
        if !self.sources.contains_key(&source) && self.sources.len() >= MAX_SOURCES {
            self.make_room(now);
        }
        let window = self.sources.entry(source).or_insert(Window {
            began: now,
            failures: 0,
        });
        if has_passed(window, now) {
            *window = Window {
                began: now,
                failures: 0,
            };
        }
        window.failures = window.failures.saturating_add(1);
    }

    fn make_room(&mut self, now: Instant) {
        self.sources.retain(|_, window| !has_passed(window, now));
        if self.sources.len() < MAX_SOURCES {
            return;
        }
        let oldest = self
            .sources
            .iter()
            .min_by_key(|(source, window)| (window.began, **source))
            .map(|(source, _)| *source);
        if let Some(source) = oldest {
            self.sources.remove(&source);
        }
    }
}

fn has_passed(window: &Window, now: Instant) -> bool {
    now.saturating_duration_since(window.began) >= JOIN_WINDOW
}

/// What counts as one source: an IPv4 address, or a /64, which is what one IPv6 host usually has.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn v4(last: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + last))
    }

    #[test]
    fn a_source_is_stopped_after_its_failures_and_may_try_again_later() {
        let start = Instant::now();
        let mut attempts = Attempts::new();
        for n in 0..JOIN_FAILURES {
            assert!(attempts.may_try(v4(1), start), "{n}");
            attempts.failed(v4(1), start + Duration::from_secs(u64::from(n)));
        }
        let last_moment = start + JOIN_WINDOW - Duration::from_millis(1);
        assert!(!attempts.may_try(v4(1), last_moment));
        assert!(attempts.may_try(v4(2), last_moment));
        assert!(attempts.may_try(v4(1), start + JOIN_WINDOW));
        assert!(attempts.sources.is_empty());
    }

    #[test]
    fn a_new_window_begins_with_the_first_failure_after_the_old_one() {
        let start = Instant::now();
        let mut attempts = Attempts::new();
        for _ in 0..JOIN_FAILURES {
            attempts.failed(v4(1), start);
        }
        attempts.failed(v4(1), start + JOIN_WINDOW);
        assert!(attempts.may_try(v4(1), start + JOIN_WINDOW));
        assert_eq!(attempts.sources[&v4(1)].failures, 1);
    }

    #[test]
    fn hosts_of_one_ipv6_network_and_mapped_addresses_are_one_source() {
        let now = Instant::now();
        let mut attempts = Attempts::new();
        for n in 0..JOIN_FAILURES {
            attempts.failed(format!("2001:db8:0:1::{n:x}").parse().unwrap(), now);
            attempts.failed("::ffff:10.0.0.1".parse().unwrap(), now);
        }
        assert!(!attempts.may_try("2001:db8:0:1:ffff::1".parse().unwrap(), now));
        assert!(attempts.may_try("2001:db8:0:2::1".parse().unwrap(), now));
        assert!(!attempts.may_try(v4(1), now));
    }

    #[test]
    fn many_sources_take_bounded_memory_and_the_newest_stay_counted() {
        let start = Instant::now();
        let mut attempts = Attempts::new();
        let many = 2 * MAX_SOURCES as u32;
        for n in 0..many {
            attempts.failed(v4(n), start + Duration::from_nanos(n.into()));
        }
        assert_eq!(attempts.sources.len(), MAX_SOURCES);
        assert!(!attempts.sources.contains_key(&v4(0)));
        assert!(attempts.sources.contains_key(&v4(many - 1)));
        attempts.failed(v4(many), start + JOIN_WINDOW * 2);
        assert_eq!(attempts.sources.len(), 1, "windows that passed make room");
    }
}
