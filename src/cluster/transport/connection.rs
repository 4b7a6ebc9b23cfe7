//! The task of one connection: hands out what arrives, sends long gossip, keeps alive, and closes when done.
//!
//! One task a connection. What takes time (a slow first byte, a long gossip message, a question to the peer)
//! runs beside the loop as one of a bounded number of jobs, so that nobody's slowness delays the rest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{debug, trace};

use super::InboundStream;
use super::codes::{CloseCode, StreamCode};
use super::hello::{answer, read_hello};
use super::hub::Hub;
use super::limits::{JOBS_PER_LINK, KindBuckets, Tuning};
use super::link::Link;
use super::register::Loss;
use super::stream::{Held, Stream};
use crate::wire::StreamKind;
use crate::wire::limits::GOSSIP_MESSAGE;

/// What a job found out.
enum JobDone {
    /// The first byte of a stream came.
    Kind(u8, SendStream, RecvStream),
    /// A long gossip message came.
    Gossip(Bytes),
    /// The peer was asked for a sign of life.
    Asked { alive: bool },
    /// Nothing to do.
    Nothing,
}

struct Serving {
    hub: Arc<Hub>,
    link: Arc<Link>,
    buckets: KindBuckets,
    jobs: FuturesUnordered<BoxFuture<'static, JobDone>>,
    asking: bool,
}

/// Serves a connection until it ends, and takes it out of the pool.
pub(super) async fn serve(hub: Arc<Hub>, link: Arc<Link>, to_send: mpsc::Receiver<Bytes>) {
    let serving = Serving {
        buckets: KindBuckets::new(Instant::now()),
        jobs: FuturesUnordered::new(),
        asking: false,
        hub: Arc::clone(&hub),
        link: Arc::clone(&link),
    };
    let why = serving.run(to_send).await;
    debug!(peer = %link.peer.node, %why, "connection ended");
    hub.departed(&link, why);
}

/// How often a connection looks at itself.
fn look_every(tuning: &Tuning) -> Duration {
    let shortest = tuning.unused.min(tuning.keep_alive);
    (shortest / 4).max(Duration::from_millis(10))
}

impl Serving {
    async fn run(mut self, mut to_send: mpsc::Receiver<Bytes>) -> Loss {
        let conn = self.link.conn.clone();
        let closed = conn.closed();
        tokio::pin!(closed);
        let every = look_every(&self.hub.tuning);
        let mut look = interval_at(self.hub.next_beat(every), every);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let room = self.jobs.len() < JOBS_PER_LINK;
            tokio::select! {
                biased;
                error = &mut closed => {
                    let peer = &self.link.peer;
                    self.hub.heed(peer.node, Some(peer.standing), &error);
                    return Loss::of(&error);
                }
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.job_done(done),
                Ok((send, recv)) = conn.accept_bi(), if room => self.on_stream(send, recv),
                Ok(message) = conn.read_datagram() => self.on_datagram(message),
                Ok(recv) = conn.accept_uni(), if room => self.on_uni(recv),
                Some(message) = to_send.recv(), if room => self.send_gossip(message),
                () = self.link.greet_again.notified() => self.ask(),
                _ = look.tick() => self.look(),
            }
        }
    }

    fn job_done(&mut self, done: JobDone) {
        match done {
            JobDone::Kind(byte, send, recv) => self.dispatch(byte, send, recv),
            JobDone::Gossip(message) => self.on_gossip(message),
            JobDone::Asked { alive } => {
                self.asking = false;
                if !alive {
                    self.hub.discard(&self.link);
                }
            }
            JobDone::Nothing => {}
        }
    }

    /// A stream arrived. Its first byte mostly has come with it.
    fn on_stream(&mut self, send: SendStream, mut recv: RecvStream) {
        let mut byte = [0];
        match recv.read(&mut byte).now_or_never() {
            Some(Ok(Some(1))) => self.dispatch(byte[0], send, recv),
            Some(_) => {}
            None => {
                let patience = self.hub.tuning.header;
                self.jobs
                    .push(async move { first_byte(send, recv, patience).await }.boxed());
            }
        }
    }

    /// Hands a stream to the room that its first byte names, or resets it.
    fn dispatch(&mut self, byte: u8, send: SendStream, recv: RecvStream) {
        let kind = match StreamKind::from_byte(byte) {
            Some(StreamKind::Gossip) | None => {
                return self.refuse(send, recv, StreamCode::UnknownKind);
            }
            Some(kind) => kind,
        };
        if !self.buckets.take(kind, Instant::now()) {
            return self.refuse(send, recv, StreamCode::TooOften);
        }
        self.link.heard();
        if kind == StreamKind::Hello {
            let (hub, link) = (Arc::clone(&self.hub), Arc::clone(&self.link));
            self.jobs
                .push(async move { on_hello(&hub, &link, send, recv).await }.boxed());
            return;
        }
        let place = self.hub.places.get(&kind).map(Arc::clone);
        let Some(Ok(place)) = place.map(|places| places.try_acquire_owned()) else {
            return self.refuse(send, recv, StreamCode::Busy);
        };
        trace!(peer = %self.link.peer.node, ?kind, "stream");
        let held = Held::new(self.link.begin_use(), Some(place));
        let inbound = InboundStream {
            peer: self.link.peer,
            addr: self.link.addr(),
            kind,
            stream: Stream::new(send, recv, kind, held),
        };
        match self.hub.streams.try_send(inbound) {
            Ok(()) => {}
            Err(TrySendError::Full(mut back)) => {
                back.stream.reset(StreamCode::Busy);
                self.hub.counters.streams_refused.one();
            }
            Err(TrySendError::Closed(mut back)) => back.stream.reset(StreamCode::Stopping),
        }
    }

    fn refuse(&self, mut send: SendStream, mut recv: RecvStream, why: StreamCode) {
        debug!(peer = %self.link.peer.node, %why, "stream refused");
        self.hub.counters.streams_refused.one();
        // Both fail only on streams that have ended, which is what is wanted.
        let _ = send.reset(why.on_wire());
        let _ = recv.stop(why.on_wire());
    }

    fn on_datagram(&mut self, message: Bytes) {
        if message.is_empty() {
            // Sent for the sake of its acknowledgement.
        } else if self.buckets.take(StreamKind::Gossip, Instant::now()) {
            self.on_gossip(message);
        } else {
            self.hub.counters.gossip_dropped.one();
        }
    }

    fn on_uni(&mut self, mut recv: RecvStream) {
        if !self.buckets.take(StreamKind::Gossip, Instant::now()) {
            self.hub.counters.gossip_dropped.one();
            let _ = recv.stop(StreamCode::TooOften.on_wire());
            return;
        }
        let patience = self.hub.tuning.header;
        let reading = async move { long_gossip(recv, patience).await };
        self.jobs.push(reading.boxed());
    }

    fn on_gossip(&self, message: Bytes) {
        self.link.heard();
        self.link.used();
        self.hub.counters.gossip_received.one();
        let node = self.link.peer.node;
        if self.hub.gossip.try_send((node, message)).is_err() {
            self.hub.counters.gossip_dropped.one();
        }
    }

    fn send_gossip(&self, message: Bytes) {
        let (hub, link) = (Arc::clone(&self.hub), Arc::clone(&self.link));
        let patience = self.hub.tuning.header;
        let sending = async move {
            match timeout(patience, send_long_gossip(&link, message)).await {
                Ok(Ok(())) => hub.counters.gossip_sent.one(),
                Ok(Err(_)) | Err(_) => hub.counters.gossip_dropped.one(),
            }
            JobDone::Nothing
        };
        self.jobs.push(sending.boxed());
    }

    /// Asks the peer for a sign of life, which also tells it our addresses.
    fn ask(&mut self) {
        if self.asking {
            return;
        }
        self.asking = true;
        let (hub, link) = (Arc::clone(&self.hub), Arc::clone(&self.link));
        let asking = async move {
            let alive = hub.answers(&link, hub.tuning.answer).await;
            JobDone::Asked { alive }
        };
        self.jobs.push(asking.boxed());
    }

    /// Closes the connection when it is of no more use, and asks for a sign of life when it is and none came.
    ///
    /// Of a pair only the smaller node closes what is spare. Where one side doubted a connection and the other did not,
    /// each uses the one that is spare to the other: if both closed what is spare, none would be left, and so it would
    /// be with many pairs at once after a busy time, all of which would dial anew and be the busier for it.
    fn look(&mut self) {
        let tuning = self.hub.tuning;
        let unused = self.link.unused_for();
        let is_ours_to_close = self.hub.own < self.link.peer.node;
        if self.link.is_spare() && is_ours_to_close && unused >= tuning.spare {
            self.link.close(CloseCode::Spare, "");
            self.hub.departed(&self.link, Loss::Unused);
        } else if unused >= tuning.unused {
            self.link.close(CloseCode::Unused, "");
            self.hub.departed(&self.link, Loss::Unused);
        } else if unused < self.link.silent_for() && self.link.silent_for() >= tuning.keep_alive {
            self.ask();
        }
    }
}

async fn first_byte(send: SendStream, mut recv: RecvStream, patience: Duration) -> JobDone {
    let mut byte = [0];
    match timeout(patience, recv.read(&mut byte)).await {
        Ok(Ok(Some(1))) => JobDone::Kind(byte[0], send, recv),
        Ok(_) => JobDone::Nothing,
        Err(_) => {
            let mut send = send;
            let _ = send.reset(StreamCode::TooSlow.on_wire());
            let _ = recv.stop(StreamCode::TooSlow.on_wire());
            JobDone::Nothing
        }
    }
}

async fn on_hello(hub: &Hub, link: &Link, mut send: SendStream, mut recv: RecvStream) -> JobDone {
    let exchange = async {
        let theirs = read_hello(&mut recv).await?;
        if theirs.node == link.peer.node && theirs.instance == link.facts.instance {
            hub.note(&theirs);
        }
        answer(&mut send, &hub.hello(&link.conn)).await
    };
    if let Ok(Err(error)) = timeout(hub.tuning.header, exchange).await {
        debug!(peer = %link.peer.node, %error, "hello not answered");
    }
    JobDone::Nothing
}

async fn long_gossip(mut recv: RecvStream, patience: Duration) -> JobDone {
    let Ok(Ok(bytes)) = timeout(patience, recv.read_to_end(1 + GOSSIP_MESSAGE)).await else {
        let _ = recv.stop(StreamCode::TooSlow.on_wire());
        return JobDone::Nothing;
    };
    match bytes.first().and_then(|byte| StreamKind::from_byte(*byte)) {
        Some(StreamKind::Gossip) => JobDone::Gossip(Bytes::from(bytes).slice(1..)),
        Some(_) | None => JobDone::Nothing,
    }
}

async fn send_long_gossip(link: &Link, message: Bytes) -> Result<(), quinn::WriteError> {
    let mut send = link.conn.open_uni().await?;
    let first = Bytes::from_static(&[StreamKind::Gossip as u8]);
    send.write_all_chunks(&mut [first, message]).await?;
    send.finish()?;
    Ok(())
}

impl Hub {
    /// Hands a gossip message to QUIC: as a datagram when it fits, else on a stream of its own.
    pub(super) fn gossip_on(&self, link: &Link, message: Bytes) {
        link.used();
        let fits = |max| message.len() <= max;
        if link.conn.max_datagram_size().is_some_and(fits) {
            match link.conn.send_datagram(message) {
                Ok(()) => self.counters.gossip_sent.one(),
                Err(_) => self.counters.gossip_dropped.one(),
            }
        } else if link.gossip.try_send(message).is_err() {
            self.counters.gossip_dropped.one();
        }
    }
}
