//! What the transport has done so far, for metrics and for `skein status`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start, except where a field says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransportStats {
    /// Connections to peers that are open now.
    pub connections: u64,
    /// Handshakes begun on this side.
    pub dialled: u64,
    /// Dials of this side that led nowhere, one an address and attempt.
    pub dials_failed: u64,
    /// Handshakes begun on the other side and let in by the gate.
    pub accepted: u64,
    /// Handshakes that the gate turned away or asked to prove their address.
    pub turned_away: u64,
    /// Handshakes that were let in and led to nothing: no certificate, a refused one, a bad hello, silence.
    pub accepts_failed: u64,
    /// Join connections that made a whole request.
    pub joins: u64,
    /// Streams that were reset because of a bound or a wrong first byte.
    pub streams_refused: u64,
    /// Gossip messages handed to QUIC.
    pub gossip_sent: u64,
    /// Gossip messages received.
    pub gossip_received: u64,
    /// Gossip messages dropped, either way, because a queue was full or a peer could not be reached.
    pub gossip_dropped: u64,
    /// UDP datagrams sent.
    pub datagrams_sent: u64,
    /// UDP datagrams received.
    pub datagrams_received: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Received datagrams that no peer of ours can have sent.
    pub garbage: u64,
    /// Received messages that would have begun a handshake and were dropped, since older ones waited to be read.
    pub shed: u64,
}

/// One count that any task may raise.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn one(&self) {
        self.add(1);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts behind [`TransportStats`] that are not kept by the socket or the pool.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) dialled: Counter,
    pub(super) dials_failed: Counter,
    pub(super) accepted: Counter,
    pub(super) turned_away: Counter,
    pub(super) accepts_failed: Counter,
    pub(super) joins: Counter,
    pub(super) streams_refused: Counter,
    pub(super) gossip_sent: Counter,
    pub(super) gossip_received: Counter,
    pub(super) gossip_dropped: Counter,
}

/// The counts that the socket keeps.
#[derive(Debug, Default)]
pub(super) struct WireCounters {
    pub(super) datagrams_sent: Counter,
    pub(super) datagrams_received: Counter,
    pub(super) bytes_sent: Counter,
    pub(super) bytes_received: Counter,
    pub(super) garbage: Counter,
    pub(super) shed: Counter,
}

impl Counters {
    pub(super) fn read(&self, wire: &WireCounters, connections: usize) -> TransportStats {
        TransportStats {
            connections: connections as u64,
            dialled: self.dialled.read(),
            dials_failed: self.dials_failed.read(),
            accepted: self.accepted.read(),
            turned_away: self.turned_away.read(),
            accepts_failed: self.accepts_failed.read(),
            joins: self.joins.read(),
            streams_refused: self.streams_refused.read(),
            gossip_sent: self.gossip_sent.read(),
            gossip_received: self.gossip_received.read(),
            gossip_dropped: self.gossip_dropped.read(),
            datagrams_sent: wire.datagrams_sent.read(),
            datagrams_received: wire.datagrams_received.read(),
            bytes_sent: wire.bytes_sent.read(),
            bytes_received: wire.bytes_received.read(),
            garbage: wire.garbage.read(),
            shed: wire.shed.read(),
        }
    }
}
