//! What stands between chitchat and any transport of it: the taps, or a transport in memory.
//!
//! It notes who speaks, lets through only the exchanges that the gossip loop has ordered (chitchat's own choice of
//! partners knows neither the size of the cluster nor who was removed), and lets in nothing from removed members.

use std::net::SocketAddr;

use async_trait::async_trait;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use chitchat::{ChitchatEnvelope, ChitchatMessage};
use tokio::time::Instant;

use super::desk::Desk;
use crate::model::NodeId;

/// A transport of chitchat, watched.
pub(super) struct Seam<T> {
    pub transport: T,
    pub desk: Desk,
}

#[async_trait]
impl<T: Transport> Transport for Seam<T> {
    async fn open(&self, listen_addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        Ok(Box::new(SeamSocket {
            inner: self.transport.open(listen_addr).await?,
            desk: self.desk.clone(),
        }))
    }
}

struct SeamSocket {
    inner: Box<dyn Socket>,
    desk: Desk,
}

impl SeamSocket {
    /// Whether a message of this kind may go to this member.
    fn may_send(&self, to: NodeId, message: &ChitchatMessage) -> bool {
        let mut slips = self.desk.slips();
        if matches!(message, ChitchatMessage::Syn { .. }) {
            if !slips.ordered.remove(&to) {
                return false;
            }
            if slips.live.contains(&to) {
                slips.asked.entry(to).or_insert_with(Instant::now);
            }
        }
        !slips.forgotten.contains(&to)
    }
}

#[async_trait]
impl Socket for SeamSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.inner.local_addr()
    }

    async fn send(
        &mut self,
        to: SocketAddr,
        envelope: ChitchatEnvelope,
    ) -> anyhow::Result<SendOutcome> {
        let node =
            NodeId::from_gossip_addr(to).filter(|node| self.may_send(*node, &envelope.message));
        let Some(node) = node else {
            return Ok(SendOutcome { num_bytes_sent: 0 });
        };
        let informs = matches!(
            envelope.message,
            ChitchatMessage::SynAck { .. } | ChitchatMessage::Ack { .. }
        );
        let outcome = self.inner.send(to, envelope).await?;
        if informs {
            self.desk.was_informed(node);
        }
        Ok(outcome)
    }

    /// May be dropped at its await: nothing is held then.
    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            let outcome = self.inner.recv().await?;
            let from = NodeId::from_gossip_addr(outcome.from_addr);
            if from.is_some_and(|from| self.desk.heard(from, Instant::now())) {
                return Ok(outcome);
            }
        }
    }
}
