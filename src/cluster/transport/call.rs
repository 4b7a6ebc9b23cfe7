//! Streams and calls to a peer: which connection to use, and what to do when it turns out to be dead.
//!
//! A connection that was heard a moment ago is used as it is. One that has been silent, or on which a call has failed,
//! is asked first, while a new dial stands by: so a peer that was restarted or has moved is reached without waiting
//! for QUIC to give the old connection up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::dial::try_all;
use super::error::{CallError, OpenError, StreamError};
use super::hints::{Hints, Source, dialable};
use super::hub::Hub;
use super::limits::from_now;
use super::link::Link;
use super::register::Loss;
use super::stream::{Held, Stream, read_body, write_body};
use crate::model::NodeId;
use crate::wire::StreamKind;
use crate::wire::frame::{FrameDecoder, FrameError};

impl Hub {
    /// A connection to `node` that works, dialled when there is none.
    async fn connect(self: &Arc<Self>, node: NodeId) -> Result<Arc<Link>, OpenError> {
        if node == self.own {
            return Err(OpenError::Oneself(node));
        }
        loop {
            if self.stop.is_cancelled() {
                return Err(OpenError::Stopped);
            }
            if self.is_removed(node) {
                return Err(OpenError::Removed(node));
            }
            let Some(link) = self.used(node) else {
                self.dial(node).await?;
                continue;
            };
            if let Some(why) = link.conn.close_reason() {
                self.departed(&link, Loss::of(&why));
            } else if link.is_fresh(self.tuning.fresh) {
                return Ok(link);
            } else if let Some(link) = self.asked(&link).await {
                return Ok(link);
            }
        }
    }

    /// A connection to the peer of `link`, which has been silent: the one that answers, unless a new dial leads
    /// somewhere before. `None` when all is to be looked at again.
    async fn asked(self: &Arc<Self>, link: &Link) -> Option<Arc<Link>> {
        let node = link.peer.node;
        let links = self.links(node);
        let question = async {
            let living = self.living(&links, self.tuning.answer).await;
            if living.is_none() {
                links.iter().for_each(|link| self.discard(link));
            }
            living
        };
        tokio::pin!(question);
        let patience = if link.is_doubted() {
            Duration::ZERO
        } else {
            self.tuning.doubt + 2 * link.conn.rtt()
        };
        let mut unanswered = Unanswered(Some(link));
        if let Ok(living) = timeout(patience, &mut question).await {
            unanswered.0 = None;
            return living;
        }
        drop(unanswered);
        tokio::select! {
            biased;
            living = &mut question => living,
            dialled = self.dial(node) => match dialled {
                Ok(()) => None,
                Err(_) => question.await,
            },
        }
    }

    /// Asks on every one of a peer's connections, and uses the one that answers first from then on.
    async fn living(&self, links: &[Arc<Link>], deadline: Duration) -> Option<Arc<Link>> {
        let mut questions: FuturesUnordered<_> = links
            .iter()
            .map(|link| async move { self.lives(link, deadline).await.then_some(link) })
            .collect();
        while let Some(answer) = questions.next().await {
            if let Some(link) = answer {
                self.prefer(link);
                return Some(Arc::clone(link));
            }
        }
        None
    }

    /// Whether somebody answers on a connection. Of those who ask at the same time one does.
    async fn lives(&self, link: &Link, deadline: Duration) -> bool {
        let begun = Instant::now();
        let _asking = link.asking.lock().await;
        let answered_meanwhile = link.silent_for() < begun.elapsed();
        answered_meanwhile || self.answers(link, deadline).await
    }

    /// A stream to `node` whose first byte was sent.
    pub(super) async fn open(
        self: &Arc<Self>,
        node: NodeId,
        kind: StreamKind,
    ) -> Result<Stream, OpenError> {
        let after = self.tuning.dial;
        let mut connected = false;
        let opening = async {
            loop {
                let link = self.connect(node).await?;
                connected = true;
                let Ok((mut send, recv, in_use)) = link.open_bi(kind).await else {
                    continue;
                };
                connected = false;
                if send.write_all(&[kind as u8]).await.is_ok() {
                    let held = Held::new(in_use, None);
                    return Ok(Stream::new(send, recv, kind, held));
                }
            }
        };
        match timeout(after, opening).await {
            Ok(opened) => opened,
            Err(_) if connected => Err(OpenError::Crowded(node)),
            Err(_) => Err(OpenError::TimedOut { node, after }),
        }
    }

    /// One frame there and one frame back, on a fresh stream.
    pub(super) async fn call(
        self: &Arc<Self>,
        node: NodeId,
        kind: StreamKind,
        request: Bytes,
        after: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let (len, max) = (request.len(), kind.max_frame());
        if len > max {
            return Err(CallError::Request(FrameError::TooLong { len, max }));
        }
        let until = from_now(after);
        let mut on = None;
        loop {
            let attempt = self.call_once(node, kind, request.clone(), &mut on);
            match timeout_at(until, attempt).await {
                Ok(Err(CallError::Stream { source, .. })) if source.nothing_was_begun() => {}
                Ok(result) => return result,
                Err(_) => {
                    if let Some(link) = on {
                        link.doubt();
                    }
                    return Err(CallError::TimedOut { node, after });
                }
            }
        }
    }

    async fn call_once(
        self: &Arc<Self>,
        node: NodeId,
        kind: StreamKind,
        request: Bytes,
        on: &mut Option<Arc<Link>>,
    ) -> Result<Vec<u8>, CallError> {
        *on = None;
        let link = self.connect(node).await?;
        let link = &*on.insert(link);
        match exchange(link, kind, request).await {
            Ok(reply) => {
                link.heard();
                Ok(reply)
            }
            Err(StreamError::Frame(source)) => Err(CallError::Reply { node, source }),
            Err(source) => Err(CallError::Stream { node, source }),
        }
    }

    /// Whether `node` answers within `deadline`, on the connection that there is or on a new one.
    pub(super) async fn probe(self: &Arc<Self>, node: NodeId, deadline: Duration) -> bool {
        let until = from_now(deadline);
        let Some(link) = self.used(node) else {
            return matches!(timeout_at(until, self.dial(node)).await, Ok(Ok(())));
        };
        let links = self.links(node);
        // A little less than the caller waits, so that the last sign of life still counts.
        let question = async {
            self.living(&links, deadline - deadline / 10)
                .await
                .is_some()
        };
        let standby = async {
            sleep(deadline / 3).await;
            link.doubt();
            self.dial(node).await.is_ok()
        };
        tokio::pin!(question, standby);
        let either = async {
            tokio::select! {
                alive = &mut question => alive || standby.await,
                dialled = &mut standby => dialled || question.await,
            }
        };
        timeout_at(until, either).await.unwrap_or(false)
    }

    /// Who of this cluster answers at `addr`.
    pub(super) async fn knock(self: &Arc<Self>, addr: SocketAddr) -> Result<NodeId, OpenError> {
        if self.stop.is_cancelled() {
            return Err(OpenError::Stopped);
        }
        if !dialable(addr) {
            let why = "this is no address that can be dialled".to_owned();
            return Err(OpenError::NobodyThere { addr, why });
        }
        let mut hints = Hints::default();
        hints.learn(Source::Owner, &[addr]);
        let addr = hints.ordered().first().copied().unwrap_or(addr);
        let until = from_now(self.tuning.dial);
        match try_all(self, || hints.clone(), None, until).await {
            Ok(link) => Ok(link.peer.node),
            Err(failures) => {
                let why = failures.words_of(addr);
                Err(OpenError::NobodyThere { addr, why })
            }
        }
    }
}

/// Whoever waits for an answer may give up before it comes; the next one is then less patient.
struct Unanswered<'a>(Option<&'a Link>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.0 {
            link.doubt();
        }
    }
}

async fn exchange(link: &Link, kind: StreamKind, request: Bytes) -> Result<Vec<u8>, StreamError> {
    let (mut send, mut recv, _in_use) = link.open_bi(kind).await.map_err(StreamError::Lost)?;
    write_body(&mut send, kind, request, Some(kind as u8)).await?;
    send.finish().map_err(|_| StreamError::Closed)?;
    let mut decoder = FrameDecoder::new(kind.max_frame());
    match read_body(&mut recv, &mut decoder).await {
        // A peer that ends the stream without a reply refuses it as much as one that resets it.
        Err(StreamError::Finished) => Err(StreamError::Truncated),
        result => result,
    }
}
