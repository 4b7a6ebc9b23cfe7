//! The transport, as gossip and raft want to see it.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::join::reason;
use crate::cluster::membership::{GossipLink, Probe};
use crate::cluster::store::{LinkError, RaftLink};
use crate::cluster::transport::Transport;
use crate::model::NodeId;
use crate::wire::StreamKind;

/// A peer that gossip suspects has this long to answer.
const PROBE_DEADLINE: Duration = Duration::from_millis(400);

/// Carries gossip, raft and probes over QUIC.
#[derive(Clone, Debug)]
pub struct QuicLink(pub Transport);

impl GossipLink for QuicLink {
    fn send(&self, to: NodeId, message: Bytes) {
        self.0.gossip(to, message);
    }
}

impl Probe for QuicLink {
    fn probe(&self, node: NodeId) -> impl Future<Output = bool> + Send {
        let transport = self.0.clone();
        async move { transport.probe(node, PROBE_DEADLINE).await }
    }
}

impl RaftLink for QuicLink {
    fn call(
        &self,
        to: NodeId,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, LinkError>> {
        Box::pin(async move {
            self.0
                .call_bytes(to, StreamKind::Raft, request, deadline)
                .await
                .map_err(|error| LinkError::Unreachable(reason(&error)))
        })
    }
}
