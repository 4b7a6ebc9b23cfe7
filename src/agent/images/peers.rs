//! The other nodes of the cluster, as far as images are concerned.
//!
//! A trait, because this room knows no transport: the composition root puts it on QUIC, tests on whatever they like.

use std::io;

use futures_util::future::BoxFuture;
use tokio::io::AsyncRead;

use crate::model::{Digest, NodeId};
use crate::wire::content::{Answer, Question};

/// Asks and fetches from peers. Every call ends by itself: a peer that does not answer within some seconds is one that
/// has nothing.
pub trait Peers: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> NodeId;

    /// The peers that live, without this node.
    fn live(&self) -> Vec<NodeId>;

    /// Asks one of them anything but [`Question::Fetch`]. `None` when it does not answer.
    fn ask(&self, node: NodeId, question: Question) -> BoxFuture<'_, Option<Answer>>;

    /// Content from `offset` on. What comes is not trusted.
    fn fetch(
        &self,
        node: NodeId,
        digest: Digest,
        offset: u64,
    ) -> BoxFuture<'_, io::Result<PeerContent>>;
}

/// Content that comes from a peer.
pub struct PeerContent {
    /// Bytes of the whole, as the peer says.
    pub size: u64,
    /// The bytes from the offset on.
    pub bytes: Box<dyn AsyncRead + Send + Unpin>,
}

impl std::fmt::Debug for PeerContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerContent({} bytes)", self.size)
    }
}

/// A node that is alone.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers(pub NodeId);

impl Peers for NoPeers {
    fn me(&self) -> NodeId {
        self.0
    }

    fn live(&self) -> Vec<NodeId> {
        Vec::new()
    }

    fn ask(&self, _node: NodeId, _question: Question) -> BoxFuture<'_, Option<Answer>> {
        Box::pin(async { None })
    }

    fn fetch(
        &self,
        _node: NodeId,
        _digest: Digest,
        _offset: u64,
    ) -> BoxFuture<'_, io::Result<PeerContent>> {
        Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
    }
}
