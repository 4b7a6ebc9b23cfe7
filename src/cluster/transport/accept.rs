//! The door: who dials this node, from the first packet to a member's connection or a stranger's request.
//!
//! [`Gate`](super::limits::Gate) decides before any cryptography; TLS (the identity room) decides about
//! certificates; the ALPN decides between member and stranger. Whatever comes in, it costs a bounded amount
//! of work and memory and ends by a deadline.

use std::future::{Future, IntoFuture};
use std::sync::Arc;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::PeerEvent;
use super::codes::CloseCode;
use super::dial::{REMOVED_WORDS, identity_of};
use super::endpoint::welcome;
use super::error::{StreamError, words};
use super::gate::Verdict;
use super::hello::{HelloProblem, answer, check, read_hello};
use super::hints::plain;
use super::hub::Hub;
use super::join;
use crate::identity::PeerIdentity;
use crate::wire::{ALPN_JOIN, ALPN_PEER, StreamKind};

/// A place among the handshakes under way, and the sign to give it up.
struct Place {
    hub: Arc<Hub>,
    place: u64,
    evicted: CancellationToken,
}

impl Place {
    /// Takes the place that the gate gave, and throws out whoever gives way for it.
    fn take(hub: &Arc<Hub>, place: u64, evicted: Option<u64>) -> Self {
        let sign = CancellationToken::new();
        let mut signs = hub.handshakes();
        signs.insert(place, sign.clone());
        if let Some(other) = evicted.and_then(|evicted| signs.remove(&evicted)) {
            other.cancel();
        }
        drop(signs);
        Self {
            hub: Arc::clone(hub),
            place,
            evicted: sign,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.handshakes().remove(&self.place);
        self.hub.gate().done(self.place);
    }
}

/// Accepts until the transport stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let Some(endpoint) = hub.endpoint() else {
        return;
    };
    loop {
        let incoming = tokio::select! {
            biased;
            () = hub.stop.cancelled() => return,
            incoming = endpoint.accept() => incoming,
        };
        match incoming {
            Some(incoming) => on_incoming(&hub, incoming),
            None if hub.stop.is_cancelled() => return,
            None => {
                error!(addr = %hub.local, "the UDP socket has failed: the transport stops, restart the node");
                return hub.stop.cancel();
            }
        }
    }
}

fn on_incoming(hub: &Arc<Hub>, incoming: Incoming) {
    let from = plain(incoming.remote_address());
    let proved = incoming.remote_address_validated();
    let verdict = hub.gate().begin(from, proved, Instant::now());
    if !matches!(verdict, Verdict::Accept { .. }) {
        hub.counters.turned_away.one();
        debug!(%from, ?verdict, "handshake turned away");
    }
    match verdict {
        Verdict::Accept { place, evicted } => {
            hub.counters.accepted.one();
            let place = Place::take(hub, place, evicted);
            hub.tasks.spawn(admit(Arc::clone(hub), incoming, place));
        }
        Verdict::ProveAddress => {
            if let Err(error) = incoming.retry() {
                error.into_incoming().refuse();
            }
        }
        Verdict::Refuse => incoming.refuse(),
        Verdict::Ignore => incoming.ignore(),
    }
}

/// Sees a dialler through handshake and hello, or a joiner through handshake and request.
async fn admit(hub: Arc<Hub>, incoming: Incoming, place: Place) {
    let started = Instant::now();
    let from = plain(incoming.remote_address());
    let until = started + hub.tuning.handshake;
    let conn = match in_time(&place, until, incoming.into_future()).await {
        Some(Ok(conn)) => conn,
        Some(Err(error)) => {
            hub.counters.accepts_failed.one();
            debug!(%from, why = words(&error), "handshake failed");
            return;
        }
        None => {
            hub.counters.accepts_failed.one();
            debug!(%from, "handshake not finished in time");
            return;
        }
    };
    match protocol_of(&conn).as_deref() {
        Some(ALPN_JOIN) => {
            drop(place);
            join::receive(&hub, conn, from, started).await;
        }
        Some(ALPN_PEER) => {
            let refused = match in_time(&place, until, greet_member(&hub, &conn)).await {
                Some(Ok(())) => return,
                Some(Err(refused)) => refused,
                None => Refused::new(CloseCode::TooSlow, "no hello came in time"),
            };
            hub.counters.accepts_failed.one();
            debug!(%from, why = %refused.words, "dialler refused");
            conn.close(refused.code.on_wire(), refused.words.as_bytes());
        }
        Some(_) | None => {
            hub.counters.accepts_failed.one();
            conn.close(CloseCode::Identity.on_wire(), b"unknown protocol");
        }
    }
}

/// What `step` comes to, unless its time is over or its place is given to another.
async fn in_time<T>(place: &Place, until: Instant, step: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = place.evicted.cancelled() => None,
        result = timeout_at(until, step) => result.ok(),
    }
}

fn protocol_of(conn: &Connection) -> Option<Vec<u8>> {
    let data = conn.handshake_data()?.downcast::<HandshakeData>().ok()?;
    data.protocol
}

/// Why a dialler is sent away, and what it is told.
struct Refused {
    code: CloseCode,
    words: String,
}

impl Refused {
    fn new(code: CloseCode, words: impl Into<String>) -> Self {
        Self {
            code,
            words: words.into(),
        }
    }
}

impl From<StreamError> for Refused {
    fn from(error: StreamError) -> Self {
        Self::new(CloseCode::Hello, format!("no proper hello: {error}"))
    }
}

/// Checks who dialled and exchanges hellos; registers the connection.
async fn greet_member(hub: &Arc<Hub>, conn: &Connection) -> Result<(), Refused> {
    let peer = member(hub, conn)?;
    let (mut send, mut recv) = conn.accept_bi().await.map_err(StreamError::Lost)?;
    let mut kind = [0];
    let first = recv.read(&mut kind).await.map_err(StreamError::from)?;
    if first.is_none() || StreamKind::from_byte(kind[0]) != Some(StreamKind::Hello) {
        return Err(Refused::new(
            CloseCode::Hello,
            "the first stream must be the hello",
        ));
    }
    let theirs = read_hello(&mut recv).await?;
    let ours = hub.hello(conn);
    if let Err(problem) = check(&theirs, peer.node, &ours) {
        let from = plain(conn.remote_address());
        match problem {
            HelloProblem::Oneself => debug!(%from, "this node dialled itself"),
            HelloProblem::OurTwin(node) => {
                warn!(%from, %problem, "hello refused");
                hub.say(PeerEvent::Twin {
                    node,
                    instance: theirs.instance,
                });
            }
            HelloProblem::OtherNode { .. } | HelloProblem::Version { .. } => {
                warn!(peer = %peer.node, %from, %problem, "hello refused");
            }
        }
        let (code, farewell) = problem.farewell();
        return Err(Refused::new(code, farewell));
    }
    welcome(conn);
    answer(&mut send, &ours).await?;
    hub.register(conn.clone(), peer, peer.node, &theirs);
    Ok(())
}

fn member(hub: &Hub, conn: &Connection) -> Result<PeerIdentity, Refused> {
    let from = plain(conn.remote_address());
    let peer = identity_of(conn).map_err(|problem| {
        warn!(%from, %problem, "peer refused: it shows no certificate of a member");
        let words = format!("a certificate of this cluster is needed: {problem}");
        Refused::new(CloseCode::Identity, words)
    })?;
    if hub.is_removed(peer.node) {
        warn!(%from, peer = %peer.node, "peer refused: it was removed from the cluster");
        return Err(Refused::new(CloseCode::Removed, REMOVED_WORDS));
    }
    Ok(peer)
}
