//! Turns chitchat's messages into bytes and back, by way of the loopback interface.
//!
//! chitchat 0.13 keeps its byte encoding to itself: only its own UDP socket can write and read a message. So it is
//! given that socket, bound to the loopback, and *taps* in front of it: UDP sockets of ours, connected to it. What
//! chitchat sends to a peer goes to the outward tap, where the bytes are taken and given to the link; what the link
//! brings from a peer goes into the inward tap and comes out of chitchat's socket as a message.
//!
//! A tap holds one message at a time, so it is never in doubt whose message it is, and a few taps are enough for any
//! number of peers. A message that does not come through (the kernel dropped it, chitchat could not read it) is lost,
//! as gossip may be, and its tap is replaced, so that it cannot come late and be taken for another's. Connected taps
//! take nothing from a stranger, and what a stranger sends to chitchat's socket is dropped.
//!
//! When chitchat makes its encoding public, this file goes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::GossipLink;
use super::desk::Desk;
use super::guard::Guard;
use crate::model::NodeId;
use crate::wire::limits;

/// How chitchat 0.13 writes an acknowledgement without any news: magic number, version, kind, and no block.
const EMPTY_ACK: [u8; 5] = [0x53, 0xb0, 1, 2, 0];

/// The loopback delivers at once; a message that takes longer is lost.
const LOOPBACK_DEADLINE: Duration = Duration::from_millis(100);

/// Between two looks for a message that is not there at once: the kernel can be busy with others' packets.
const LOOPBACK_RETRY: Duration = Duration::from_millis(1);

/// Inward taps: messages that wait for chitchat at once. More would not make it faster.
const INWARD_TAPS: usize = 8;

/// Bytes that wait there at once: the least that the kernel's default buffer takes, two of the longest messages.
const INWARD_BYTES: usize = 2 * limits::GOSSIP_MESSAGE;

/// Refused messages of all peers that are logged: one in this time.
const REFUSALS_LOGGED_EVERY: Duration = Duration::from_secs(10);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Makes the one socket of a node's chitchat.
pub(super) struct TapTransport<L> {
    parts: Mutex<Option<Parts<L>>>,
}

struct Parts<L> {
    link: L,
    incoming: mpsc::Receiver<(NodeId, Bytes)>,
    guard: Guard,
    desk: Desk,
}

impl<L: GossipLink> TapTransport<L> {
    pub(super) const fn new(
        link: L,
        incoming: mpsc::Receiver<(NodeId, Bytes)>,
        guard: Guard,
        desk: Desk,
    ) -> Self {
        Self {
            parts: Mutex::new(Some(Parts {
                link,
                incoming,
                guard,
                desk,
            })),
        }
    }
}

#[async_trait]
impl<L: GossipLink> Transport for TapTransport<L> {
    async fn open(&self, _listen_addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let parts = self
            .parts
            .lock()
            .expect("nothing panics while it holds the parts")
            .take();
        let parts = parts.context("a gossip transport opens one socket")?;
        Ok(Box::new(TapSocket::open(parts).await?))
    }
}

/// A socket of ours that only talks with chitchat's.
struct Tap {
    socket: StdUdpSocket,
    addr: SocketAddr,
    inner: SocketAddr,
}

impl Tap {
    fn open(inner: SocketAddr) -> io::Result<Self> {
        let socket = StdUdpSocket::bind(LOOPBACK)?;
        socket.connect(inner)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            addr: socket.local_addr()?,
            socket,
            inner,
        })
    }

    /// Whatever is still in the old one cannot come out any more.
    fn replace(&mut self) -> io::Result<()> {
        *self = Self::open(self.inner)?;
        Ok(())
    }
}

/// A tap, and the message between it and chitchat.
struct Inward {
    tap: Tap,
    message: Option<UnderWay>,
}

struct UnderWay {
    from: NodeId,
    len: usize,
    deadline: Instant,
}

impl Inward {
    fn open(inner: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            tap: Tap::open(inner)?,
            message: None,
        })
    }
}

struct TapSocket<L> {
    inner: UdpSocket,
    outward: Tap,
    inward: Vec<Inward>,
    buffer: Vec<u8>,
    refusal_logged: Option<Instant>,
    parts: Parts<L>,
}

impl<L: GossipLink> TapSocket<L> {
    async fn open(parts: Parts<L>) -> anyhow::Result<Self> {
        let inner = UdpSocket::open(LOOPBACK).await?;
        let inner_addr = inner.local_addr()?;
        let inward: io::Result<_> = (0..INWARD_TAPS).map(|_| Inward::open(inner_addr)).collect();
        Ok(Self {
            inner,
            outward: Tap::open(inner_addr)?,
            inward: inward?,
            buffer: vec![0; limits::GOSSIP_MESSAGE + 1],
            refusal_logged: None,
            parts,
        })
    }

    /// The bytes that chitchat has just sent to the outward tap.
    async fn outward_bytes(&mut self) -> io::Result<Bytes> {
        let deadline = Instant::now() + LOOPBACK_DEADLINE;
        loop {
            match self.outward.socket.recv(&mut self.buffer) {
                Ok(len) => return Ok(Bytes::copy_from_slice(&self.buffer[..len])),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_not_yet) => tokio::time::sleep(LOOPBACK_RETRY).await,
            }
        }
    }

    async fn carry_out(&mut self, to: NodeId, envelope: ChitchatEnvelope) -> anyhow::Result<usize> {
        self.inner.send(self.outward.addr, envelope).await?;
        let bytes = self.outward_bytes().await?;
        let len = bytes.len();
        // The third message of an exchange that had nothing to tell: no receiver does anything with it.
        if bytes != EMPTY_ACK.as_slice() {
            self.parts.link.send(to, bytes);
        }
        Ok(len)
    }

    /// Puts a message into a free tap, if it is one that may be let in.
    fn carry_in(&mut self, from: NodeId, message: &[u8]) {
        let now = Instant::now();
        let mut own = Vec::new();
        let checked = self.parts.guard.check(message, &mut own, now);
        self.parts.desk.mentioned(&own);
        if let Err(refused) = checked {
            self.log_refusal(from, &refused, now);
            return;
        }
        let free = self
            .inward
            .iter_mut()
            .find(|inward| inward.message.is_none());
        let Some(inward) = free else {
            return;
        };
        match inward.tap.socket.send(message) {
            Ok(len) => {
                let deadline = now + LOOPBACK_DEADLINE;
                inward.message = Some(UnderWay {
                    from,
                    len,
                    deadline,
                });
            }
            Err(error) => tracing::debug!(%error, "gossip message lost on the loopback"),
        }
    }

    /// Whether another message may be put into a tap.
    fn has_room(&self) -> bool {
        let waiting = self
            .inward
            .iter()
            .filter_map(|inward| inward.message.as_ref());
        let bytes: usize = waiting.map(|message| message.len).sum();
        bytes + limits::GOSSIP_MESSAGE <= INWARD_BYTES
            && self.inward.iter().any(|inward| inward.message.is_none())
    }

    /// Until when all that is under way should have come through.
    fn next_deadline(&self) -> Option<Instant> {
        let waiting = self
            .inward
            .iter()
            .filter_map(|inward| inward.message.as_ref());
        waiting.map(|message| message.deadline).min()
    }

    /// Whose message came out of chitchat's socket with the address of this tap.
    fn take_under_way(&mut self, tap: SocketAddr) -> Option<NodeId> {
        let inward = self
            .inward
            .iter_mut()
            .find(|inward| inward.tap.addr == tap)?;
        inward.message.take().map(|message| message.from)
    }

    fn log_refusal(&mut self, from: NodeId, refused: &super::guard::Refused, now: Instant) {
        let quiet = self
            .refusal_logged
            .is_some_and(|last| now.duration_since(last) < REFUSALS_LOGGED_EVERY);
        if !quiet {
            self.refusal_logged = Some(now);
            tracing::warn!(peer = %from, reason = %refused, "gossip message refused");
        }
    }

    fn give_up_late(&mut self, now: Instant) {
        for inward in &mut self.inward {
            let late = |message: &mut UnderWay| message.deadline <= now;
            if inward.message.take_if(late).is_some()
                && let Err(error) = inward.tap.replace()
            {
                tracing::warn!(%error, "gossip tap cannot be replaced");
            }
        }
    }
}

#[async_trait]
impl<L: GossipLink> Socket for TapSocket<L> {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Never an error: it would end nothing but this one message, and gossip may lose any.
    async fn send(
        &mut self,
        to: SocketAddr,
        message: ChitchatEnvelope,
    ) -> anyhow::Result<SendOutcome> {
        let Some(to) = NodeId::from_gossip_addr(to) else {
            return Ok(SendOutcome { num_bytes_sent: 0 });
        };
        let num_bytes_sent = match self.carry_out(to, message).await {
            Ok(len) => len,
            Err(error) => {
                tracing::warn!(peer = %to, error = %format!("{error:#}"), "gossip message lost on the loopback");
                if let Err(error) = self.outward.replace() {
                    tracing::warn!(%error, "gossip tap cannot be replaced");
                }
                0
            }
        };
        Ok(SendOutcome { num_bytes_sent })
    }

    /// May be dropped at any await: all that matters is in `self`.
    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            let (room, deadline) = (self.has_room(), self.next_deadline());
            tokio::select! {
                biased;
                outcome = self.inner.recv() => {
                    let outcome = outcome?;
                    // From an address that is no tap's, or a tap's that was not used, it is a stranger's.
                    if let Some(from) = self.take_under_way(outcome.from_addr) {
                        let from_addr = from.gossip_addr();
                        return Ok(RecvOutcome { from_addr, ..outcome });
                    }
                }
                message = self.parts.incoming.recv(), if room => match message {
                    Some((from, message)) => self.carry_in(from, &message),
                    // The link is gone; the loop that owns this socket will be told to stop.
                    None => std::future::pending().await,
                },
                () = sleep_until(deadline) => self.give_up_late(Instant::now()),
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Whether the loopback carries packets: without it there is no gossip, and no error to tell why.
pub(super) async fn check_loopback() -> io::Result<()> {
    let receiver = tokio::net::UdpSocket::bind(LOOPBACK).await?;
    let sender = StdUdpSocket::bind(LOOPBACK)?;
    sender.send_to(b"?", receiver.local_addr()?)?;
    let mut byte = [0];
    tokio::time::timeout(Duration::from_secs(1), receiver.recv(&mut byte))
        .await
        .map_err(|_late| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                "a packet to 127.0.0.1 did not arrive",
            )
        })??;
    Ok(())
}

#[cfg(test)]
mod tests;
