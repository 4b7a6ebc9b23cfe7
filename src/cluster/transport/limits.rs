//! How much strangers and members may make this node do: values only, the clock is passed in.
//!
//! [`KindLimit`] bounds how fast a member may open streams of a kind and how many may be open; [`super::gate`]
//! decides about handshakes. What exceeds a bound is refused at once with a reason; nothing waits in a queue
//! without an end.

use std::time::Duration;

use tokio::time::Instant;

use super::gate::GateLimits;
use crate::wire::{PROTOCOL_MAX, PROTOCOL_MIN, StreamKind, limits};

/// Streams that wait for their room, over all kinds.
pub(super) const INBOUND_STREAMS: usize = 1024;

/// Gossip messages that wait to be read. Gossip repeats itself: what does not fit is dropped.
pub(super) const INBOUND_GOSSIP: usize = 1024;

/// Join requests that wait to be answered. Beyond it the asker is told to ask again.
pub(super) const INBOUND_JOINS: usize = 32;

/// Long gossip messages of one peer that wait to be sent.
pub(super) const OUTBOUND_GOSSIP: usize = 32;

/// Gossip messages kept for a peer while it is dialled.
pub(super) const GOSSIP_BEFORE_CONNECTION: usize = 8;

/// Events that a slow listener may lag behind.
pub(super) const EVENTS: usize = 1024;

/// Join connections at once, from the end of the handshake to the answer.
pub(super) const JOIN_SLOTS: usize = 64;

/// Streams of one peer whose kind has not arrived, and gossip streams being read or written.
pub(super) const JOBS_PER_LINK: usize = 64;

/// Bytes that a connection may have under way before its peer has shown who it is: a join request, or a hello.
pub(super) const STRANGER_WINDOW: u32 = 128 << 10;

/// Bytes that a member may have sent on one connection without them being read.
pub(super) const MEMBER_WINDOW: u32 = 8 << 20;

/// Bytes that a member may have sent on one stream without them being read.
pub(super) const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes of datagrams kept on their way in, and on their way out, of one connection.
pub(super) const DATAGRAM_BUFFER: usize = 256 << 10;

/// The longest deadline that is kept apart from none at all.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The end of a wait that begins now. Any span is safe to pass.
pub(super) fn from_now(span: Duration) -> Instant {
    Instant::now() + span.min(LONGEST_WAIT)
}

/// The times and bounds that rule connections; production uses [`Tuning::default`], tests others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// A connection that nobody uses is closed after this.
    pub(super) unused: Duration,
    /// A connection with open streams is asked for an answer when nothing was heard on it for so long.
    pub(super) keep_alive: Duration,
    /// An answer that takes longer than this is none: the connection is dead.
    pub(super) answer: Duration,
    /// A connection on which nothing was heard for so long is asked before it is used.
    pub(super) fresh: Duration,
    /// How long a dial for such a connection is held back, to give it time to answer.
    pub(super) doubt: Duration,
    /// How long a spare connection is kept, because the other side may not know yet that it is spare.
    pub(super) spare: Duration,
    /// TLS and hello together, on the side that was dialled.
    pub(super) handshake: Duration,
    /// From the first packet of a joiner to its whole request.
    pub(super) join: Duration,
    /// A whole dial, over all addresses.
    pub(super) dial: Duration,
    /// From the first byte of a stream, or of a gossip message, to the last one that is needed.
    pub(super) header: Duration,
    /// Which handshakes are let in.
    pub(super) gate: GateLimits,
    /// The lowest and the highest protocol version that is spoken.
    pub(super) protocol: (u16, u16),
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            unused: limits::IDLE_TIMEOUT,
            keep_alive: limits::KEEP_ALIVE,
            answer: Duration::from_secs(5),
            fresh: Duration::from_secs(1),
            doubt: Duration::from_millis(120),
            spare: Duration::from_secs(2),
            handshake: limits::DIAL_DEADLINE,
            join: limits::JOIN_DEADLINE,
            dial: limits::DIAL_DEADLINE,
            header: Duration::from_secs(5),
            gate: GateLimits::default(),
            protocol: (PROTOCOL_MIN, PROTOCOL_MAX),
        }
    }
}

/// A bucket that fills at a steady rate and is emptied by one a use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    level: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn full(burst: u32, now: Instant) -> Self {
        Self {
            level: f64::from(burst),
            filled: now,
        }
    }

    /// For how long nobody has taken anything.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.filled)
    }

    /// Takes one out; `false` when it is empty.
    pub(super) fn take(&mut self, per_second: u32, burst: u32, now: Instant) -> bool {
        let elapsed = self.idle(now).as_secs_f64();
        self.level = (self.level + elapsed * f64::from(per_second)).min(f64::from(burst));
        self.filled = now;
        if self.level < 1.0 {
            return false;
        }
        self.level -= 1.0;
        true
    }
}

/// Bounds of one kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KindLimit {
    /// Openings a second and peer that are taken.
    pub(super) per_second: u32,
    /// Openings at once and peer, after a pause, that are taken.
    pub(super) burst: u32,
    /// Taken at once over all peers, from the first byte to the end of its handling.
    pub(super) open: usize,
    /// Opened at once towards one peer. Together they are fewer than the streams of a connection, so that proxied
    /// logs and shells, however many, leave room for raft's heartbeats.
    pub(super) lane: usize,
}

/// The bounds of `kind`. They are far above what a well-behaved member needs and far below what hurts.
pub(super) const fn kind_limit(kind: StreamKind) -> KindLimit {
    let (per_second, burst, open, lane) = match kind {
        StreamKind::Hello => (20, 40, 256, 4),
        StreamKind::Gossip => (500, 1_000, 512, 0),
        StreamKind::Raft => (50_000, 50_000, 512, 16),
        StreamKind::Session => (5, 20, 4_096, 4),
        StreamKind::Control => (200, 400, 512, 12),
        StreamKind::Api => (500, 1_000, 1_024, 56),
        StreamKind::Content => (500, 1_000, 256, 8),
    };
    KindLimit {
        per_second,
        burst,
        open,
        lane,
    }
}

/// One peer's buckets, one a kind.
#[derive(Clone, Debug)]
pub(super) struct KindBuckets([Bucket; StreamKind::ALL.len()]);

impl KindBuckets {
    pub(super) fn new(now: Instant) -> Self {
        Self(StreamKind::ALL.map(|kind| Bucket::full(kind_limit(kind).burst, now)))
    }

    /// Whether the peer may open one more stream of this kind.
    pub(super) fn take(&mut self, kind: StreamKind, now: Instant) -> bool {
        let limit = kind_limit(kind);
        let at = StreamKind::ALL.iter().position(|known| *known == kind);
        at.and_then(|at| self.0.get_mut(at))
            .is_some_and(|bucket| bucket.take(limit.per_second, limit.burst, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(3, start);
        let taken = (0..5).filter(|_| bucket.take(10, 3, start)).count();
        assert_eq!(taken, 3);
        assert!(!bucket.take(10, 3, start + Duration::from_millis(50)));
        assert!(bucket.take(10, 3, start + Duration::from_millis(160)));
        let later = start + Duration::from_secs(60);
        let taken = (0..100).filter(|_| bucket.take(10, 3, later)).count();
        assert_eq!(taken, 3, "a pause gives no more than the burst");
    }

    #[test]
    fn the_lanes_of_all_kinds_fit_into_a_connection() {
        let lanes = StreamKind::ALL.map(|kind| kind_limit(kind).lane);
        assert!(lanes.iter().sum::<usize>() <= limits::PEER_STREAMS as usize);
    }

    #[test]
    fn kinds_do_not_use_up_each_others_rate() {
        let now = Instant::now();
        let mut buckets = KindBuckets::new(now);
        let sessions = (0..1000).filter(|_| buckets.take(StreamKind::Session, now));
        assert_eq!(
            sessions.count(),
            kind_limit(StreamKind::Session).burst as usize
        );
        assert!(buckets.take(StreamKind::Raft, now));
    }
}
