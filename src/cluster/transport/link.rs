//! One connection to a peer, as others hold it: when it was last heard and used, and how to open a stream on it.
//!
//! Held by the pool, by calls under way and by the connection's own task ([`super::connection`]). It decides
//! nothing: [`super::pool`] chooses among links, [`super::hub`] replaces those that have fallen silent.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::codes::CloseCode;
use super::hints::plain;
use super::limits::kind_limit;
use super::pool::Facts;
use crate::identity::PeerIdentity;
use crate::wire::StreamKind;

/// A connection to a peer.
pub(super) struct Link {
    pub(super) facts: Facts,
    pub(super) peer: PeerIdentity,
    pub(super) conn: Connection,
    /// Long gossip messages for the connection's task to send.
    pub(super) gossip: mpsc::Sender<Bytes>,
    /// Asks the connection's task to say hello again.
    pub(super) greet_again: Notify,
    /// Held while somebody asks the peer for a sign of life, so that one question serves all who wait.
    pub(super) asking: Mutex<()>,
    /// Streams of each kind that may still be opened from this side.
    lanes: BTreeMap<StreamKind, Arc<Semaphore>>,
    life: Arc<Life>,
}

/// When a connection was last of use.
#[derive(Debug)]
struct Life {
    begin: Instant,
    heard: AtomicU64,
    used: AtomicU64,
    open: AtomicUsize,
    doubted: AtomicBool,
    spare: AtomicBool,
}

impl Life {
    fn stamp(&self, clock: &AtomicU64) {
        let millis = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        clock.fetch_max(millis, Ordering::Relaxed);
    }

    fn since(&self, clock: &AtomicU64) -> Duration {
        let at = Duration::from_millis(clock.load(Ordering::Relaxed));
        self.begin.elapsed().saturating_sub(at)
    }
}

/// One open stream. Its connection is not idle while it lives.
#[derive(Debug)]
pub(super) struct InUse {
    life: Arc<Life>,
    lane: Option<OwnedSemaphorePermit>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.life.stamp(&self.life.used);
        self.life.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Link {
    pub(super) fn new(
        facts: Facts,
        peer: PeerIdentity,
        conn: Connection,
        gossip: mpsc::Sender<Bytes>,
    ) -> Self {
        let lanes = StreamKind::ALL.map(|kind| {
            let lane = kind_limit(kind).lane;
            (kind, Arc::new(Semaphore::new(lane)))
        });
        Self {
            lanes: BTreeMap::from(lanes),
            facts,
            peer,
            conn,
            gossip,
            greet_again: Notify::new(),
            asking: Mutex::new(()),
            life: Arc::new(Life {
                begin: Instant::now(),
                heard: AtomicU64::new(0),
                used: AtomicU64::new(0),
                open: AtomicUsize::new(0),
                doubted: AtomicBool::new(false),
                spare: AtomicBool::new(false),
            }),
        }
    }

    /// Where the peer is at the moment.
    pub(super) fn addr(&self) -> SocketAddr {
        plain(self.conn.remote_address())
    }

    /// Something came from the peer's rooms.
    pub(super) fn heard(&self) {
        self.life.stamp(&self.life.heard);
        self.life.doubted.store(false, Ordering::Relaxed);
    }

    /// Somebody had a use for the connection.
    pub(super) fn used(&self) {
        self.life.stamp(&self.life.used);
    }

    /// A stream opens, on either side.
    pub(super) fn begin_use(&self) -> InUse {
        self.life.open.fetch_add(1, Ordering::AcqRel);
        self.used();
        InUse {
            life: Arc::clone(&self.life),
            lane: None,
        }
    }

    /// For how long nothing was heard.
    pub(super) fn silent_for(&self) -> Duration {
        self.life.since(&self.life.heard)
    }

    /// For how long nobody has used it; zero while streams are open.
    pub(super) fn unused_for(&self) -> Duration {
        match self.life.open.load(Ordering::Acquire) {
            0 => self.life.since(&self.life.used),
            _ => Duration::ZERO,
        }
    }

    /// A call on it had no reply in time: ask before using it again.
    pub(super) fn doubt(&self) {
        self.life.doubted.store(true, Ordering::Relaxed);
    }

    /// Whether a call on it had no reply and nothing was heard since.
    pub(super) fn is_doubted(&self) -> bool {
        self.life.doubted.load(Ordering::Relaxed)
    }

    /// Whether the connection is known to work: it was heard within `fresh`, and no call has failed on it since.
    pub(super) fn is_fresh(&self, fresh: Duration) -> bool {
        self.conn.close_reason().is_none() && !self.is_doubted() && self.silent_for() < fresh
    }

    /// Another connection serves instead.
    pub(super) fn set_spare(&self, spare: bool) {
        self.life.spare.store(spare, Ordering::Relaxed);
        self.used();
    }

    /// Whether another connection serves instead.
    pub(super) fn is_spare(&self) -> bool {
        self.life.spare.load(Ordering::Relaxed)
    }

    /// A fresh stream for traffic of `kind`, counted as use. Waits while as many of the kind are open as may be.
    pub(super) async fn open_bi(
        &self,
        kind: StreamKind,
    ) -> Result<(SendStream, RecvStream, InUse), ConnectionError> {
        let mut in_use = self.begin_use();
        if let Some(lane) = self.lanes.get(&kind) {
            // It fails only on a closed semaphore, which nobody closes.
            in_use.lane = Arc::clone(lane).acquire_owned().await.ok();
        }
        let (send, recv) = self.conn.open_bi().await?;
        Ok((send, recv, in_use))
    }

    /// Acknowledgements that have come from the peer so far.
    pub(super) fn acknowledgements(&self) -> u64 {
        self.conn.stats().frame_rx.acks
    }

    /// Ends the connection. What is open on it fails on both sides.
    pub(super) fn close(&self, code: CloseCode, why: &str) {
        self.conn.close(code.on_wire(), why.as_bytes());
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} at {})", self.peer.node, self.addr())
    }
}
