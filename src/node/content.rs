//! The content of images between nodes, over QUIC: asked of peers, and served to them.
//!
//! One question and one answer on each stream, then the bytes. [`QuicPeers`] outlives memberships: while the node is
//! in no cluster it has no peers.

use std::io;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tracing::debug;

use super::join::reason;
use crate::agent::images::{Images, PeerContent, Peers};
use crate::cluster::membership::{Liveness, Membership};
use crate::cluster::transport::{InboundStream, Stream, Transport};
use crate::model::{Digest, NodeId};
use crate::wire::StreamKind;
use crate::wire::content::{Answer, Question};

/// How long a peer may take to answer: it looks into containerd, which may be slow under load.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Content goes when nothing else wants to go: all else has priority 0.
const PRIORITY: i32 = -1;

/// How long a peer that is sent content may take no byte.
const SEND_DEADLINE: Duration = Duration::from_secs(30);

/// A cluster, as seen by one of its nodes.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// This node.
    pub me: NodeId,
    /// How it asks others.
    pub transport: Transport,
    /// Who the others are.
    pub membership: Membership,
}

/// The peers of the cluster that this node is in, if it is in one.
#[derive(Debug, Default)]
pub struct QuicPeers {
    cluster: RwLock<Option<Cluster>>,
}

impl QuicPeers {
    /// The node is in a cluster from now on, or in none.
    pub fn attach(&self, cluster: Option<Cluster>) {
        *self.cluster.write().unwrap_or_else(PoisonError::into_inner) = cluster;
    }

    fn cluster(&self) -> Option<Cluster> {
        self.cluster
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn fetch_from(
        &self,
        node: NodeId,
        digest: Digest,
        offset: u64,
    ) -> io::Result<PeerContent> {
        let Cluster { transport, .. } = self.cluster().ok_or(io::ErrorKind::NotConnected)?;
        let asked = async {
            let mut stream = transport
                .open(node, StreamKind::Content)
                .await
                .map_err(io::Error::other)?;
            let question = Question::Fetch { digest, offset };
            stream
                .write_frame(&question)
                .await
                .map_err(io::Error::other)?;
            stream.finish();
            let answer = stream
                .read_frame::<Answer>()
                .await
                .map_err(io::Error::other)?;
            Ok::<_, io::Error>((stream, answer))
        };
        match timeout(ANSWER_DEADLINE, asked)
            .await
            .map_err(io::Error::other)??
        {
            (stream, Answer::Fetch(Some(size))) => Ok(PeerContent {
                size,
                bytes: Box::new(stream.into_io()),
            }),
            (_, Answer::Fetch(None) | Answer::Content { .. } | Answer::Name(_)) => {
                Err(io::ErrorKind::NotFound.into())
            }
        }
    }
}

impl Peers for QuicPeers {
    /// Nobody in particular while there is nobody else.
    fn me(&self) -> NodeId {
        self.cluster().map_or(NodeId::from_bits(0), |own| own.me)
    }

    fn live(&self) -> Vec<NodeId> {
        let Some(Cluster { me, membership, .. }) = self.cluster() else {
            return Vec::new();
        };
        let peers = membership.peers();
        let peers = peers.borrow();
        let live = peers
            .nodes
            .iter()
            .filter(|(node, peer)| **node != me && peer.liveness == Liveness::Alive);
        live.map(|(node, _)| *node).collect()
    }

    fn ask(&self, node: NodeId, question: Question) -> BoxFuture<'_, Option<Answer>> {
        Box::pin(async move {
            let Cluster { transport, .. } = self.cluster()?;
            let asked = transport
                .call(node, StreamKind::Content, &question, ANSWER_DEADLINE)
                .await;
            asked.inspect_err(|error| debug!(peer = %node, error = %reason(error), "a peer did not say what it holds")).ok()
        })
    }

    fn fetch(
        &self,
        node: NodeId,
        digest: Digest,
        offset: u64,
    ) -> BoxFuture<'_, io::Result<PeerContent>> {
        Box::pin(self.fetch_from(node, digest, offset))
    }
}

/// Answers a peer's question, and sends what it asks for.
pub async fn serve(images: &Images, mut inbound: InboundStream) {
    let peer = inbound.peer.node;
    if let Err(error) = answer(images, peer, &mut inbound.stream).await {
        debug!(%peer, error = %reason(error.as_ref()), "a peer was not served");
    }
}

async fn answer(
    images: &Images,
    peer: NodeId,
    stream: &mut Stream,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let question = timeout(ANSWER_DEADLINE, stream.read_frame::<Question>()).await??;
    let answer = images.answer(peer, &question).await?;
    stream.write_frame(&answer).await?;
    if let (Question::Fetch { digest, offset }, Answer::Fetch(Some(size))) = (question, answer)
        && offset < size
    {
        stream.send.set_priority(PRIORITY)?;
        let mut pieces = images.blob(digest, offset).await?;
        while let Some(piece) = pieces.next().await {
            timeout(SEND_DEADLINE, stream.send.write_all(&piece?)).await??;
        }
    }
    stream.finish();
    Ok(())
}
