//! Encrypted connections between members, all on one UDP port.
//!
//! [`Transport`] is the handle that other rooms hold; [`Inbound`] is what arrives. A peer is a node ID: where it is,
//! whether a connection to it is up, and which of two it is, are decided here and concern nobody else.
//!
//! | file | decides |
//! |---|---|
//! | `pool`, `hints` | which connection to a peer is used; where to look for it, in which order (values only) |
//! | `limits`, `gate` | how much a stranger and a member may make this node do (values only) |
//! | `codes`, `error` | what ends connections and streams, and the words for it |
//! | `hub`, `register` | what the tasks share; what happens when a connection comes or goes |
//! | `dial`, `accept`, `hello` | how a connection comes about, from either side |
//! | `link`, `connection` | one connection: its state, and the task that serves it |
//! | `call`, `stream` | streams, calls and questions to a peer |
//! | `join` | the one request that a stranger may make |
//! | `start`, `endpoint`, `socket`, `timer` | how QUIC and the port are set up and given back |
//! | `backlog` | which handshakes to leave out while packets wait to be read |
//!
//! It never looks into what streams carry, and never decides who is a member: certificates and the list of removed
//! nodes do, both given from outside.

mod accept;
mod backlog;
mod call;
mod codes;
mod connection;
mod dial;
mod endpoint;
mod error;
mod gate;
mod hello;
mod hints;
mod hub;
mod join;
mod limits;
mod link;
mod pool;
mod register;
mod socket;
mod start;
mod stats;
mod stream;
mod timer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use hints::Source;
use hub::Hub;

pub use codes::StreamCode;
pub use error::{CallError, OpenError, StartError, StreamError};
pub use join::{JoinAnswer, JoinCallError, JoinStream, address_towards, join_call, join_exchange};
pub use register::Loss;
pub use stats::TransportStats;
pub use stream::{FrameReader, FrameWriter, Stream, StreamIo};

use crate::identity::{Credentials, PeerIdentity, RemovedNodes};
use crate::model::{NodeId, Standing};
use crate::wire::frame::{FrameError, from_body};
use crate::wire::limits::GOSSIP_MESSAGE;
use crate::wire::{StreamKind, encode};

/// What a transport needs to know besides its credentials.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Where to listen, and from where to dial. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Random, new at each start of the process.
    pub instance: u64,
    /// Where peers are told that this node can be reached, best first.
    pub advertise: Vec<SocketAddr>,
}

/// What arrives. Each queue is bounded, and what does not fit is refused: read them without pause.
#[derive(Debug)]
pub struct Inbound {
    /// Streams of every kind but hello and gossip.
    pub streams: mpsc::Receiver<InboundStream>,
    /// Gossip messages and whose they are.
    pub gossip: mpsc::Receiver<(NodeId, Bytes)>,
    /// Requests of strangers.
    pub joins: mpsc::Receiver<JoinStream>,
}

/// A stream that a peer opened.
#[derive(Debug)]
pub struct InboundStream {
    /// Who opened it.
    pub peer: PeerIdentity,
    /// Where the peer is at the moment.
    pub addr: SocketAddr,
    /// What it carries.
    pub kind: StreamKind,
    /// The stream.
    pub stream: Stream,
}

/// What happens to peers, for whoever listens. A listener that lags loses the oldest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A connection to a peer came up, the first one or a better one.
    Connected {
        /// The peer.
        node: NodeId,
        /// Where it is.
        addr: SocketAddr,
    },
    /// The last connection to a peer ended. A hint: it says nothing of the peer's life.
    Lost {
        /// The peer.
        node: NodeId,
        /// How it ended.
        why: Loss,
    },
    /// A peer sees this node at an address that was not reported lately.
    Observed {
        /// The address, perhaps that of a router in between.
        addr: SocketAddr,
    },
    /// A peer says that this node was removed from the cluster. A worker's word does not count.
    ShutOut {
        /// Who says so.
        by: NodeId,
        /// What its certificate makes of it; `None` when the handshake ended before it was seen.
        standing: Option<Standing>,
    },
    /// Two living processes have one identity: a data directory was copied. The older one goes on.
    Twin {
        /// Whose identity. It may be this node's own.
        node: NodeId,
        /// The process that was refused.
        instance: u64,
    },
}

/// A node's connections to its peers. Clones are handles to the same transport.
#[derive(Clone)]
pub struct Transport {
    hub: Arc<Hub>,
    closed: watch::Receiver<bool>,
    goodbye: watch::Sender<String>,
}

impl Transport {
    /// Opens the port and starts to serve. Every task runs on `tasks` and ends when `stop` is cancelled, which
    /// closes the transport as [`Self::close`] does. Changes of the credentials concern connections made after them.
    pub fn start(
        config: TransportConfig,
        credentials: watch::Receiver<Arc<Credentials>>,
        removed: RemovedNodes,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<(Self, Inbound), StartError> {
        let tuning = limits::Tuning::default();
        start::start(config, tuning, credentials, removed, tasks, &stop)
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.hub.own
    }

    /// Where the transport listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.hub.local
    }

    /// Tells peers, also those that are connected, other addresses of this node, best first.
    pub fn set_advertised(&self, addrs: Vec<SocketAddr>) {
        self.hub.advertise(addrs);
    }

    /// Where `node` may be reached, best first, in place of what was last said so here. What the peer says itself,
    /// and where it last answered, is known besides and goes first. At most 16 are kept.
    pub fn learn(&self, node: NodeId, addrs: &[SocketAddr]) {
        if node != self.hub.own {
            self.hub
                .with_hints(node, |hints| hints.learn(Source::Owner, addrs));
        }
    }

    /// Every address at which `node` may be reached, best first.
    pub fn addresses(&self, node: NodeId) -> Vec<SocketAddr> {
        let connected = self.connected(node);
        let hints = self.hub.hints(node).ordered();
        let others = hints.into_iter().filter(|addr| Some(*addr) != connected);
        connected.into_iter().chain(others).collect()
    }

    /// A stream to `node`, within [`DIAL_DEADLINE`](crate::wire::limits::DIAL_DEADLINE).
    ///
    /// It is on a connection on which both sides have greeted and that was heard within the last second; when there
    /// is none, all addresses are dialled.
    pub async fn open(&self, node: NodeId, kind: StreamKind) -> Result<Stream, OpenError> {
        Box::pin(self.hub.open(node, kind)).await
    }

    /// Who of this cluster answers at `addr`; the connection is kept.
    pub async fn knock(&self, addr: SocketAddr) -> Result<NodeId, OpenError> {
        Box::pin(self.hub.knock(addr)).await
    }

    /// Sends a gossip message of at most 65,507 bytes, some time, perhaps never: it waits for nothing, and is dropped
    /// when too much waits already.
    pub fn gossip(&self, node: NodeId, message: Bytes) {
        let hub = &self.hub;
        let dead_end = node == hub.own || hub.is_removed(node) || hub.stop.is_cancelled();
        if dead_end || message.is_empty() || message.len() > GOSSIP_MESSAGE {
            hub.counters.gossip_dropped.one();
            return;
        }
        match hub.used(node) {
            Some(link) => hub.gossip_on(&link, message),
            None => hub.gossip_later(node, message),
        }
    }

    /// Sends a request and waits for the reply, both one frame of `kind`; see [`Self::call_bytes`].
    pub async fn call<Q: Serialize + Sync, R: DeserializeOwned>(
        &self,
        node: NodeId,
        kind: StreamKind,
        request: &Q,
        deadline: Duration,
    ) -> Result<R, CallError> {
        let encoded = encode(request).map_err(FrameError::Encode);
        let request = encoded.map_err(CallError::Request)?;
        let reply = self.call_bytes(node, kind, request, deadline).await?;
        from_body(&reply).map_err(|source| CallError::Reply { node, source })
    }

    /// Sends bytes and waits for bytes, one frame each way on a stream of its own, within `deadline` at the latest.
    ///
    /// The peer handles the request at most once. After an error it may have handled it or not, except after
    /// [`CallError::Open`] and [`CallError::Request`]: then it has not.
    pub async fn call_bytes(
        &self,
        node: NodeId,
        kind: StreamKind,
        request: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, CallError> {
        Box::pin(self.hub.call(node, kind, request.into(), deadline)).await
    }

    /// Whether `node` answers within `deadline`, on the connection that is there or on a new one.
    pub async fn probe(&self, node: NodeId, deadline: Duration) -> bool {
        Box::pin(self.hub.probe(node, deadline)).await
    }

    /// Where `node` is connected. The connection may have died without a word.
    pub fn connected(&self, node: NodeId) -> Option<SocketAddr> {
        self.hub.used(node).map(|link| link.addr())
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<PeerEvent> {
        self.hub.events.subscribe()
    }

    /// Ends every connection to `node` at once, and forgets where it was. It may come back: to keep it out, the list
    /// of removed nodes must name it.
    pub fn drop_peer(&self, node: NodeId, why: &str) {
        for link in self.hub.links(node) {
            link.close(codes::CloseCode::Dropped, why);
            self.hub.departed(&link, Loss::Wanted);
        }
        self.hub.forget(node);
    }

    /// What was done so far.
    pub fn stats(&self) -> TransportStats {
        self.hub.stats()
    }

    /// Tells all peers `why` this node goes, ends everything and frees the port, which takes less than a second.
    /// Streams in other hands fail. Calling it again only waits.
    pub async fn close(&self, why: &str) {
        self.goodbye.send_if_modified(|said| {
            let first = said.is_empty();
            if first {
                why.clone_into(said);
            }
            first
        });
        self.hub.stop.cancel();
        let mut closed = self.closed.clone();
        // An error means that the task that closes is gone, and with it the port.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport({} at {})", self.hub.own, self.hub.local)
    }
}
