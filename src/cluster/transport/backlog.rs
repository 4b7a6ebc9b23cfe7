//! Which first packets of handshakes to drop while this process does not keep up with its packets: values only, the
//! clock is passed in.
//!
//! What a busy process has not read waits in the kernel, seconds' worth of it. A handshake has a deadline: when its
//! packets wait for longer than that, each is worked on after its dialler has given it up, the dialler begins another
//! one, and no handshake ever ends however many are begun, long after the cause is over. So while the queue does not
//! run empty, few new handshakes are let in. The rest costs next to nothing, the queue becomes short, and what is let
//! in ends in time. Diallers repeat what was dropped by themselves.
//!
//! Asked by [`super::socket`] about each packet; it must never drop a packet of a connection or of a handshake that was
//! let in: only those do the queue's work.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, HashedConnectionIdGenerator};
use tokio::time::Instant;

/// A queue that does not run empty for so long is no burst. A dialler waits for as long until it tries again.
const STANDING: Duration = Duration::from_millis(150);

/// While the queue stands, one new handshake is let in after so long: some, since a connection that sends all that this
/// process can take makes a queue, too, and others are to be let in beside it.
const LET_IN_EVERY: Duration = Duration::from_millis(100);

/// Bytes of the longest connection ID of QUIC 1.
const LONGEST_CID: usize = 20;

/// What is known of the queue of unread packets.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Since when there has always been something to read.
    since: Option<Instant>,
    let_in: Option<Instant>,
}

impl Backlog {
    /// Nothing is left to read.
    pub(super) const fn emptied(&mut self) {
        self.since = None;
    }

    /// There was something to read.
    pub(super) fn read(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Whether a packet that was read and begins a handshake is to be worked on.
    pub(super) fn lets_in(&mut self, now: Instant) -> bool {
        let longer = |at: Instant, span| now.saturating_duration_since(at) >= span;
        let stands = self.since.is_some_and(|since| longer(since, STANDING));
        let lately = self.let_in.is_some_and(|at| !longer(at, LET_IN_EVERY));
        if stands && lately {
            return false;
        }
        self.let_in = Some(now);
        true
    }
}

/// Whether a datagram begins a handshake, or repeats its beginning: a QUIC 1 Initial packet to a connection ID that the
/// dialler has made up, not one of ours.
pub(super) fn begins_handshake(datagram: &[u8], cids: &HashedConnectionIdGenerator) -> bool {
    let [first, 0, 0, 0, 1, len, rest @ ..] = datagram else {
        return false;
    };
    if first & 0xf0 != 0xc0 {
        return false;
    }
    let Some(cid) = rest.get(..usize::from(*len)) else {
        return false;
    };
    let ours = || cids.validate(&ConnectionId::new(cid)).is_ok();
    cid.len() <= LONGEST_CID && (cid.len() != cids.cid_len() || !ours())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(10);

    #[test]
    fn a_burst_is_let_in_whole() {
        let start = Instant::now();
        let mut backlog = Backlog::default();
        for step in 0..14 {
            backlog.read(start + STEP * step);
            assert!(backlog.lets_in(start + STEP * step));
        }
        backlog.emptied();
        let long_after = start + Duration::from_secs(9);
        backlog.read(long_after);
        assert!(backlog.lets_in(long_after), "an idle time is no backlog");
        assert!(backlog.lets_in(long_after));
    }

    #[test]
    fn while_the_queue_stands_a_few_are_let_in_and_all_when_it_has_run_empty() {
        let start = Instant::now();
        let mut backlog = Backlog::default();
        let mut let_in = 0;
        for step in 0..300 {
            let now = start + STEP * step;
            backlog.read(now);
            let_in += usize::from(backlog.lets_in(now));
        }
        assert_eq!(let_in, 15 + 28, "those of the burst, and ten a second");
        backlog.emptied();
        backlog.read(start + STEP * 300);
        assert!(backlog.lets_in(start + STEP * 300));
        assert!(backlog.lets_in(start + STEP * 300));
    }

    #[test]
    fn only_a_beginning_is_taken_for_one() {
        let mut cids = HashedConnectionIdGenerator::from_key(7);
        let packet = |first: u8, cid: &[u8]| {
            let mut packet = vec![first, 0, 0, 0, 1, cid.len() as u8];
            packet.extend_from_slice(cid);
            packet.resize(1_200, 0);
            packet
        };
        let ours = cids.generate_cid();
        assert!(begins_handshake(&packet(0xc3, &[9; 8]), &cids));
        assert!(begins_handshake(&packet(0xc0, &[9; 20]), &cids));
        assert!(!begins_handshake(&packet(0xc0, &ours), &cids));
        assert!(
            !begins_handshake(&packet(0xe0, &[9; 8]), &cids),
            "a later one"
        );
        assert!(
            !begins_handshake(&packet(0x40, &[9; 8]), &cids),
            "no handshake"
        );
        assert!(!begins_handshake(&[0xc0, 0, 0, 0, 1, 8, 1], &cids));
        assert!(!begins_handshake(&[], &cids));
    }
}
