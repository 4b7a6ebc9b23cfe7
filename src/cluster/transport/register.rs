//! What happens when a connection to a peer comes or goes.
//!
//! The pool says which connection is used; this file acts on it: spare connections are told that they are spare,
//! the older of two processes with one identity is asked whether it still lives, and listeners hear of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::PeerEvent;
use super::codes::CloseCode;
use super::connection;
use super::dial::REMOVED_WORDS;
use super::error::{is_removal, words};
use super::hello::{GreetError, HelloProblem, greet};
use super::hub::{Hub, lock};
use super::limits::OUTBOUND_GOSSIP;
use super::link::Link;
use super::pool::{Arrival, Departure, Facts};
use crate::identity::PeerIdentity;
use crate::model::{NodeId, Standing};
use crate::wire::hello::Hello;

/// How long the older of two processes with one identity has to show that it lives.
const TWIN_ANSWER: Duration = Duration::from_secs(1);

impl Hub {
    /// Takes in a connection on which both sides have greeted, and starts to serve it.
    pub(super) fn register(
        self: &Arc<Self>,
        conn: Connection,
        peer: PeerIdentity,
        dialler: NodeId,
        hello: &Hello,
    ) -> Arc<Link> {
        let facts = Facts {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            dialler,
            instance: hello.instance,
            since: Instant::now(),
        };
        let (gossip, to_send) = mpsc::channel(OUTBOUND_GOSSIP);
        let link = Arc::new(Link::new(facts, peer, conn, gossip));
        self.note(hello);
        let addr = link.addr();
        let arrival = {
            let mut pool = lock(&self.pool);
            let hints = pool.hints_mut(peer.node);
            hints.forgive();
            hints.seen(addr);
            if dialler == self.own {
                hints.worked(addr);
            }
            let doubted = pool.used(peer.node).is_some_and(|used| used.is_doubted());
            pool.arrive(peer.node, facts, Arc::clone(&link), doubted)
        };
        debug!(peer = %peer.node, %addr, dialled = dialler == self.own, ?arrival, "connected");
        self.tasks.spawn(connection::serve(
            Arc::clone(self),
            Arc::clone(&link),
            to_send,
        ));
        self.settle(&link, arrival);
        self.end_dial(peer.node);
        if self.is_removed(peer.node) {
            // Removed since the handshake: whoever dropped the peer may not have seen this connection.
            link.close(CloseCode::Removed, REMOVED_WORDS);
            self.departed(&link, Loss::Wanted);
        }
        link
    }

    fn settle(self: &Arc<Self>, link: &Arc<Link>, arrival: Arrival<Arc<Link>>) {
        let (node, addr) = (link.peer.node, link.addr());
        match arrival {
            Arrival::First => self.say(PeerEvent::Connected { node, addr }),
            Arrival::Replaces(older) => {
                older.set_spare(true);
                self.say(PeerEvent::Connected { node, addr });
            }
            Arrival::Spare => link.set_spare(true),
            Arrival::OtherProcess(older) => {
                self.say(PeerEvent::Connected { node, addr });
                let hub = Arc::clone(self);
                let newer = Arc::clone(link);
                self.tasks
                    .spawn(async move { hub.tell_twins_apart(newer, older).await });
            }
        }
    }

    /// A peer came up as another process: the older one has died, unless it still answers.
    async fn tell_twins_apart(self: Arc<Self>, newer: Arc<Link>, older: Vec<Arc<Link>>) {
        let node = newer.peer.node;
        let mut alive = None;
        for link in older {
            if self.answers(&link, TWIN_ANSWER).await {
                alive = Some(link);
                break;
            }
            link.close(CloseCode::Dropped, "another process took this node's place");
        }
        let Some(older) = alive else {
            return;
        };
        warn!(peer = %node, older = %older.addr(), newer = %newer.addr(),
            "two machines run with the same data directory; the newer one is refused");
        self.prefer(&older);
        self.with_hints(node, |hints| {
            hints.seen(older.addr());
            hints.failed(newer.addr(), Instant::now());
        });
        let instance = newer.facts.instance;
        newer.close(CloseCode::Twin, &HelloProblem::OurTwin(node).to_string());
        self.say(PeerEvent::Twin { node, instance });
    }

    /// Whether the other side of a connection answers within `deadline`.
    pub(super) async fn answers(&self, link: &Link, deadline: Duration) -> bool {
        let ours = self.hello(&link.conn);
        let greeting = greet(&link.conn, &ours, deadline);
        tokio::pin!(greeting);
        let mut acknowledged = None;
        let answer = match timeout(deadline / 2, &mut greeting).await {
            Ok(answer) => answer,
            Err(_) => {
                // As many streams may be open as may be, so that no hello gets through. An empty datagram means
                // nothing, but has to be acknowledged. What was sent before has been acknowledged by now.
                acknowledged = Some(link.acknowledgements());
                let _ = link.conn.send_datagram(Bytes::new());
                greeting.await
            }
        };
        let alive = match answer {
            Ok(hello) => {
                if hello.node == link.peer.node && hello.instance == link.facts.instance {
                    self.note(&hello);
                }
                true
            }
            Err(GreetError::Silent(_)) => {
                acknowledged.is_some_and(|before| link.acknowledgements() > before)
            }
            // Whoever refuses to answer lives.
            Err(GreetError::Stream(_)) => link.conn.close_reason().is_none(),
        };
        if alive {
            link.heard();
        }
        alive
    }

    /// Uses this connection from now on.
    pub(super) fn prefer(&self, link: &Link) {
        let mut pool = lock(&self.pool);
        let before = pool.used(link.peer.node).cloned();
        if pool.prefer(link.peer.node, link.facts.id) {
            drop(pool);
            link.set_spare(false);
            if let Some(before) = before {
                before.set_spare(true);
            }
        }
    }

    /// Ends a connection on which nobody answers any more. What is open on it fails.
    pub(super) fn discard(&self, link: &Link) {
        debug!(peer = %link.peer.node, addr = %link.addr(), "no answer: connection given up");
        link.close(CloseCode::TooSlow, "no answer came in time");
        self.departed(link, Loss::Silent);
    }

    /// A peer's last word may concern this whole node: that another process has its identity, or that it was removed.
    /// `standing` is that of the peer's certificate, where the handshake has shown it. The owner may stop the node for
    /// it, so a plain worker's word on the first, which cannot be checked, is only logged.
    pub(super) fn heed(&self, by: NodeId, standing: Option<Standing>, error: &ConnectionError) {
        let code = match error {
            ConnectionError::ApplicationClosed(close) => CloseCode::from_wire(close.error_code),
            _ => None,
        };
        if code == Some(CloseCode::Twin) {
            warn!(peer = %by, why = words(error), "refused by a peer");
        }
        if code == Some(CloseCode::Twin) && standing == Some(Standing::Eligible) {
            self.say(PeerEvent::Twin {
                node: self.own,
                instance: self.instance,
            });
        }
        if code == Some(CloseCode::Removed) || is_removal(error) {
            warn!(%by, why = words(error), "refused by a peer");
            self.say(PeerEvent::ShutOut { by, standing });
        }
    }

    /// Takes a connection out of the pool. Whoever notices its end first calls this; later calls do nothing.
    pub(super) fn departed(&self, link: &Link, why: Loss) {
        let node = link.peer.node;
        let (gone, used) = {
            let mut pool = lock(&self.pool);
            let gone = pool.depart(node, link.facts.id);
            (gone, pool.used(node).cloned())
        };
        match gone {
            Departure::Unknown => {}
            Departure::OthersLeft => {
                if let Some(used) = used {
                    used.set_spare(false);
                }
            }
            Departure::Last => {
                if why == Loss::Unused {
                    debug!(peer = %node, "connection closed: nobody used it");
                } else {
                    info!(peer = %node, %why, "connection lost");
                }
                self.say(PeerEvent::Lost { node, why });
            }
        }
    }
}

/// Why the last connection to a peer ended. A hint, never a verdict: the peer may be back already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nobody used it.
    Unused,
    /// The peer said that it stops, and why.
    Stopped(String),
    /// The peer's process was restarted.
    Restarted,
    /// No answer came any more.
    Silent,
    /// This node wanted it: [`drop_peer`](super::Transport::drop_peer), or the end of the transport.
    Wanted,
    /// The peer closed it for another reason.
    Closed(String),
}

impl Loss {
    /// The reason in what QUIC says.
    pub(super) fn of(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                match CloseCode::from_wire(close.error_code) {
                    Some(CloseCode::Unused | CloseCode::Spare) => Self::Unused,
                    Some(CloseCode::Stopping) => Self::Stopped(words(error)),
                    Some(_) | None => Self::Closed(words(error)),
                }
            }
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::LocallyClosed => Self::Wanted,
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::CidsExhausted => Self::Closed(words(error)),
        }
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unused => f.write_str("nobody used it"),
            Self::Stopped(why) => write!(f, "the peer stops: {why}"),
            Self::Restarted => f.write_str("the peer was restarted"),
            Self::Silent => f.write_str("the peer does not answer"),
            Self::Wanted => f.write_str("closed on this side"),
            Self::Closed(why) => write!(f, "the peer closed it: {why}"),
        }
    }
}
