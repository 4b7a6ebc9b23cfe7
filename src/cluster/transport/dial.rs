//! Dialling: one dial a peer at a time, over all its addresses, for everybody who waits.
//!
//! [`Attempts`] says which address when; this file runs the attempts and stops them as soon as any connection to the
//! peer is up, also one that the peer dialled meanwhile. A dial outlives whoever asked for it, so that a call
//! with a short deadline does not start from nothing each time.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::{ConnectError, Connection, ConnectionError};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::PeerEvent;
use super::codes::CloseCode;
use super::error::{OpenError, StreamError, was_busy, words};
use super::hello::{GreetError, HelloProblem, check, greet};
use super::hints::{Attempts, Hints, Step};
use super::hub::{Hub, lock};
use super::limits::GOSSIP_BEFORE_CONNECTION;
use super::link::Link;
use crate::identity::{CertificateProblem, PeerIdentity};
use crate::model::NodeId;
use crate::wire::SERVER_NAME;

type Outcome = Result<(), OpenError>;

/// How long an attempt gives way to another one that has said hello already.
const INTRODUCTION: Duration = Duration::from_secs(1);

/// How often a dial looks whether the connection that it was to replace has been heard again.
const HEARD_EVERY: Duration = Duration::from_millis(50);

/// A dial under way and who waits for it.
#[derive(Debug)]
pub(super) struct Dial {
    done: watch::Sender<Option<Outcome>>,
    cancel: CancellationToken,
    gossip: VecDeque<Bytes>,
}

/// Why one attempt led nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    #[error("this node is stopping")]
    Stopped,
    #[error("{}", connect_words(.0))]
    Connect(ConnectError),
    #[error("{}", words(.0))]
    Handshake(ConnectionError),
    #[error("{0}")]
    Certificate(CertificateProblem),
    #[error("node {0} answers there, and it was removed from the cluster")]
    Removed(NodeId),
    #[error("{0}")]
    Greet(GreetError),
    #[error("{0}")]
    Hello(HelloProblem),
    #[error("node {0} answers there instead")]
    OtherNode(NodeId),
}

fn connect_words(error: &ConnectError) -> String {
    match error {
        ConnectError::InvalidRemoteAddress(_) => {
            "such an address cannot be reached from the address that this node listens on"
                .to_owned()
        }
        other => other.to_string(),
    }
}

impl AttemptError {
    /// Whether another attempt at the same address would end the same way.
    fn is_settled(&self) -> bool {
        match self {
            Self::Handshake(error) | Self::Greet(GreetError::Stream(StreamError::Lost(error))) => {
                !was_busy(error)
                    && !matches!(error, ConnectionError::TimedOut | ConnectionError::Reset)
            }
            Self::Greet(_) => false,
            Self::Stopped
            | Self::Connect(_)
            | Self::Certificate(_)
            | Self::Removed(_)
            | Self::Hello(_)
            | Self::OtherNode(_) => true,
        }
    }
}

impl Hub {
    /// Waits until a connection to `node` is up, whoever dialled it.
    pub(super) async fn dial(self: &Arc<Self>, node: NodeId) -> Outcome {
        let mut done = self.begin_dial(node);
        let outcome = done.wait_for(Option::is_some).await;
        outcome.map_or(Err(OpenError::Stopped), |outcome| {
            outcome.clone().unwrap_or(Ok(()))
        })
    }

    /// Joins the dial of `node` that is under way, or begins one. A fresh connection makes it a finished one.
    fn begin_dial(self: &Arc<Self>, node: NodeId) -> watch::Receiver<Option<Outcome>> {
        let mut dials = self.dials();
        if let Some(dial) = dials.get(&node) {
            return dial.done.subscribe();
        }
        let (done, waiting) = watch::channel(None);
        if self.stop.is_cancelled() {
            done.send_replace(Some(Err(OpenError::Stopped)));
            return waiting;
        }
        let fresh = |link: &Arc<Link>| link.is_fresh(self.tuning.fresh);
        if self.used(node).as_ref().is_some_and(fresh) {
            done.send_replace(Some(Ok(())));
            return waiting;
        }
        let cancel = self.stop.child_token();
        let dial = Dial {
            done,
            cancel: cancel.clone(),
            gossip: VecDeque::new(),
        };
        dials.insert(node, dial);
        drop(dials);
        let hub = Arc::clone(self);
        self.tasks.spawn(async move {
            let outcome = tokio::select! {
                biased;
                () = cancel.cancelled() => Err(OpenError::Stopped),
                () = hub.heard_again(node) => return hub.end_dial(node),
                outcome = hub.dial_all(node) => outcome,
            };
            hub.finish_dial(node, &cancel, outcome);
        });
        waiting
    }

    /// Returns when a connection that there was, and that was only silent, turns out to be well. On busy machines that
    /// is what mostly happens: then the handshake would make them busier, for nothing.
    async fn heard_again(&self, node: NodeId) {
        let fresh = |link: &Arc<Link>| link.is_fresh(self.tuning.fresh);
        loop {
            sleep(HEARD_EVERY).await;
            if self.used(node).as_ref().is_some_and(fresh) {
                return;
            }
        }
    }

    async fn dial_all(self: &Arc<Self>, node: NodeId) -> Outcome {
        let until = Instant::now() + self.tuning.dial;
        let hints = || self.hints(node);
        let Err(failures) = try_all(self, hints, Some(node), until).await else {
            return Ok(());
        };
        let now = Instant::now();
        self.with_hints(node, |hints| {
            for addr in failures.0.keys() {
                hints.failed(*addr, now);
            }
        });
        if self.is_removed(node) {
            return Err(OpenError::Removed(node));
        }
        if failures.0.is_empty() {
            return Err(OpenError::NoAddress(node));
        }
        let why = failures.words();
        debug!(peer = %node, %why, "dial failed");
        Err(OpenError::Unreachable { node, why })
    }

    /// The dial's own task has ended without a connection; one that ended before it is none of its business.
    fn finish_dial(&self, node: NodeId, cancel: &CancellationToken, outcome: Outcome) {
        if cancel.is_cancelled() && !self.stop.is_cancelled() {
            return;
        }
        if let Some(dial) = self.dials().remove(&node) {
            self.counters.gossip_dropped.add(dial.gossip.len() as u64);
            dial.done.send_replace(Some(outcome));
        }
    }

    /// A connection to `node` is up: everybody who waits for one goes on, and what waited to be sent is sent.
    pub(super) fn end_dial(&self, node: NodeId) {
        let Some(dial) = self.dials().remove(&node) else {
            return;
        };
        dial.done.send_replace(Some(Ok(())));
        dial.cancel.cancel();
        for message in dial.gossip {
            match self.used(node) {
                Some(link) => self.gossip_on(&link, message),
                None => self.counters.gossip_dropped.one(),
            }
        }
    }

    /// Keeps a gossip message until the dial of `node` has ended; the oldest gives way.
    pub(super) fn gossip_later(self: &Arc<Self>, node: NodeId, message: Bytes) {
        let _waiting = self.begin_dial(node);
        if let Some(dial) = self.dials().get_mut(&node) {
            if dial.gossip.len() >= GOSSIP_BEFORE_CONNECTION {
                dial.gossip.pop_front();
                self.counters.gossip_dropped.one();
            }
            dial.gossip.push_back(message);
            return;
        }
        match self.used(node) {
            Some(link) => self.gossip_on(&link, message),
            None => self.counters.gossip_dropped.one(),
        }
    }
}

/// What happened at each address that was tried.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<SocketAddr, Option<AttemptError>>);

impl Failures {
    /// One sentence for all.
    pub(super) fn words(&self) -> String {
        let each = self.0.iter().map(|(addr, error)| match error {
            Some(error) => format!("{addr}: {error}"),
            None => format!("{addr}: no answer"),
        });
        each.collect::<Vec<_>>().join("; ")
    }

    /// The words for a single address.
    pub(super) fn words_of(&self, addr: SocketAddr) -> String {
        match self.0.get(&addr) {
            Some(Some(error)) => error.to_string(),
            Some(None) | None => "no answer".to_owned(),
        }
    }
}

/// What the attempts of one dial share.
#[derive(Default)]
struct Round {
    attempts: std::sync::Mutex<Attempts>,
    introducing: Mutex<()>,
}

impl Round {
    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        lock(&self.attempts)
    }
}

/// Tries every address that `hints` yields until a connection is up, at the latest until `until`.
pub(super) async fn try_all(
    hub: &Arc<Hub>,
    hints: impl Fn() -> Hints,
    expected: Option<NodeId>,
    until: Instant,
) -> Result<Arc<Link>, Failures> {
    let round = Round::default();
    let round = &round;
    let mut running = FuturesUnordered::new();
    let mut failures = Failures::default();
    loop {
        let now = Instant::now();
        let step = round.attempts().next(&hints(), now);
        let wake = match step {
            Step::Try(addr) => {
                round.attempts().started(addr, now);
                failures.0.entry(addr).or_default();
                running.push(async move { (addr, attempt(hub, addr, expected, round).await) });
                continue;
            }
            Step::Wait(wake) => wake.unwrap_or(until).min(until),
            Step::Hopeless => return Err(failures),
        };
        tokio::select! {
            biased;
            Some((addr, ended)) = running.next(), if !running.is_empty() => match ended {
                Ok(link) => return Ok(link),
                Err(error) => {
                    hub.counters.dials_failed.one();
                    debug!(%addr, %error, "attempt failed");
                    round.attempts().ended(addr, error.is_settled());
                    failures.0.insert(addr, Some(error));
                }
            },
            () = sleep_until(wake) => {
                if wake >= until {
                    return Err(failures);
                }
                round.attempts().waited(wake, Instant::now());
            }
        }
    }
}

/// One attempt: handshake, certificate, hello. Of the attempts of a dial one at a time says hello, so that they do not
/// all end as connections to the same peer.
async fn attempt(
    hub: &Arc<Hub>,
    addr: SocketAddr,
    expected: Option<NodeId>,
    round: &Round,
) -> Result<Arc<Link>, AttemptError> {
    let config = hub.client_config();
    let mut connecting = {
        let endpoint = hub.endpoint().ok_or(AttemptError::Stopped)?;
        hub.counters.dialled.one();
        endpoint
            .connect_with(config, addr, SERVER_NAME)
            .map_err(AttemptError::Connect)?
    };
    if connecting.handshake_data().await.is_ok() {
        round.attempts().answered(addr);
    }
    let conn = connecting.await.map_err(|error| {
        if let Some(node) = expected {
            hub.heed(node, None, &error);
        }
        AttemptError::Handshake(error)
    })?;
    let _turn = timeout(INTRODUCTION, round.introducing.lock()).await;
    // From the hello on the peer may use the connection, so it is no longer dropped when the dial is over.
    let introduction = hub.tasks.spawn(introduce(Arc::clone(hub), conn));
    let link = introduction.await.map_err(|_| AttemptError::Stopped)??;
    match expected {
        Some(expected) if expected != link.peer.node => {
            Err(AttemptError::OtherNode(link.peer.node))
        }
        Some(_) | None => Ok(link),
    }
}

/// Says hello on a connection that this node dialled and takes it into the pool, as that of whoever answers.
async fn introduce(hub: Arc<Hub>, conn: Connection) -> Result<Arc<Link>, AttemptError> {
    let peer = identity_of(&conn).map_err(|problem| {
        let why = problem.to_string();
        conn.close(CloseCode::Identity.on_wire(), why.as_bytes());
        AttemptError::Certificate(problem)
    })?;
    if hub.is_removed(peer.node) {
        conn.close(CloseCode::Removed.on_wire(), REMOVED_WORDS.as_bytes());
        return Err(AttemptError::Removed(peer.node));
    }
    let ours = hub.hello(&conn);
    let theirs = greet(&conn, &ours, hub.tuning.dial)
        .await
        .map_err(|error| {
            if let GreetError::Stream(StreamError::Lost(lost)) = &error {
                hub.heed(peer.node, Some(peer.standing), lost);
            }
            AttemptError::Greet(error)
        })?;
    if let Err(problem) = check(&theirs, peer.node, &ours) {
        let (code, farewell) = problem.farewell();
        conn.close(code.on_wire(), farewell.as_bytes());
        if let HelloProblem::OurTwin(node) = problem {
            hub.say(PeerEvent::Twin {
                node,
                instance: theirs.instance,
            });
        }
        return Err(AttemptError::Hello(problem));
    }
    Ok(hub.register(conn, peer, hub.own, &theirs))
}

/// What a removed node is told.
pub(super) const REMOVED_WORDS: &str =
    "this node was removed from the cluster: to return it must leave and join anew";

/// Who the other side is, by the certificate that TLS has verified.
pub(super) fn identity_of(conn: &Connection) -> Result<PeerIdentity, CertificateProblem> {
    let chain = conn
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or(CertificateProblem::Missing)?;
    PeerIdentity::from_chain(&chain)
}
