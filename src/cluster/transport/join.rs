//! `skein-join/1`: one request of a stranger and one answer, on this side of the door and on the other.
//!
//! Nothing here judges a request: the room behind [`JoinStream`] does. Here it is bounded: one stream, one frame,
//! a deadline from the first packet, a number of places, and a clear word when there is none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, EndpointConfig, SendStream, TokioRuntime};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use super::codes::CloseCode;
use super::endpoint::client;
use super::error::{StreamError, was_busy, words};
use super::hints::plain;
use super::hub::Hub;
use super::limits::Tuning;
use crate::identity::LearnedRoot;
use crate::wire::SERVER_NAME;
use crate::wire::frame::{FrameError, HEADER_BYTES, from_body, parse_header, to_frame};
use crate::wire::join::{JoinReply, JoinRequest};
use crate::wire::limits::JOIN_FRAME;

/// How long an answer may take to reach the asker.
const DELIVERY: Duration = Duration::from_secs(3);

/// How long the end of a join connection is waited for, so that the last packets leave.
const GOODBYE: Duration = Duration::from_millis(200);

/// A stranger's request, to be answered by [`JoinStream::respond`].
#[derive(Debug)]
pub struct JoinStream {
    /// Where the stranger is.
    pub from: SocketAddr,
    /// What it asks.
    pub request: JoinRequest,
    answering: Answering,
}

/// The way back. Dropped without an answer, it tells the stranger that there will be none.
#[derive(Debug)]
struct Answering {
    conn: Connection,
    send: Option<SendStream>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.send.is_some() {
            let why = b"the request was not answered: the node is stopping or busy";
            self.conn.close(CloseCode::Stopping.on_wire(), why);
        }
    }
}

impl JoinStream {
    /// Sends the one answer and ends the connection, within some seconds.
    pub async fn respond(self, reply: JoinReply) {
        let Self {
            from,
            mut answering,
            ..
        } = self;
        let Some(send) = answering.send.take() else {
            return;
        };
        match timeout(DELIVERY, deliver(send, &reply)).await {
            Ok(Ok(())) => answering.conn.close(CloseCode::Done.on_wire(), b""),
            Ok(Err(error)) => {
                debug!(%from, %error, "join reply not delivered");
                let why = b"the answer could not be sent";
                answering.conn.close(CloseCode::Done.on_wire(), why);
            }
            Err(_) => {
                debug!(%from, "join reply not delivered in time");
                let why = b"the answer was not taken in time";
                answering.conn.close(CloseCode::TooSlow.on_wire(), why);
            }
        }
    }
}

async fn deliver(mut send: SendStream, reply: &JoinReply) -> Result<(), StreamError> {
    let frame = to_frame(reply, JOIN_FRAME).map_err(StreamError::Frame)?;
    send.write_chunk(frame.into()).await?;
    send.finish().map_err(|_| StreamError::Closed)?;
    match send.stopped().await {
        // The asker has all, or closed because it has.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Takes the request of a stranger whose handshake began at `started`, and hands it to the room that answers.
pub(super) async fn receive(hub: &Arc<Hub>, conn: Connection, from: SocketAddr, started: Instant) {
    let Ok(place) = Arc::clone(&hub.join_slots).try_acquire_owned() else {
        conn.close(CloseCode::Busy.on_wire(), BUSY.as_bytes());
        return;
    };
    let (send, request) = match timeout_at(started + hub.tuning.join, read_request(&conn)).await {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => {
            hub.counters.accepts_failed.one();
            warn!(%from, %error, "join request refused: it cannot be read");
            let why = format!("the join request cannot be read: {error}");
            conn.close(CloseCode::Hello.on_wire(), why.as_bytes());
            return;
        }
        Err(_) => {
            hub.counters.accepts_failed.one();
            debug!(%from, "join connection closed: no whole request in time");
            conn.close(
                CloseCode::TooSlow.on_wire(),
                b"no whole request came in time",
            );
            return;
        }
    };
    hub.counters.joins.one();
    let stream = JoinStream {
        from,
        request,
        answering: Answering {
            conn,
            send: Some(send),
            _place: place,
        },
    };
    match hub.joins.try_send(stream) {
        Ok(()) => {}
        Err(TrySendError::Full(stream)) => stream.respond(JoinReply::Later(BUSY.to_owned())).await,
        Err(TrySendError::Closed(stream)) => {
            let why = "this node is stopping: ask another one".to_owned();
            stream.respond(JoinReply::Later(why)).await;
        }
    }
}

const BUSY: &str = "this node has as many join requests as it takes: try again in some seconds";

async fn read_request(conn: &Connection) -> Result<(SendStream, JoinRequest), StreamError> {
    let (send, mut recv) = conn.accept_bi().await.map_err(StreamError::Lost)?;
    let request = read_one(&mut recv).await?;
    Ok((send, request))
}

/// The only frame of a direction.
async fn read_one<T: serde::de::DeserializeOwned>(
    recv: &mut quinn::RecvStream,
) -> Result<T, StreamError> {
    use quinn::ReadExactError;
    let truncated = |error| match error {
        ReadExactError::FinishedEarly(_) => StreamError::Truncated,
        ReadExactError::ReadError(error) => error.into(),
    };
    let mut header = [0; HEADER_BYTES];
    recv.read_exact(&mut header).await.map_err(truncated)?;
    let len = parse_header(header, JOIN_FRAME).map_err(StreamError::Frame)?;
    let mut body = vec![0; len];
    recv.read_exact(&mut body).await.map_err(truncated)?;
    from_body(&body).map_err(StreamError::Frame)
}

/// Why a request to join has no reply.
#[derive(Debug, thiserror::Error)]
pub enum JoinCallError {
    /// Nobody there, or a wall between.
    #[error(
        "{addr} did not answer within {} s: is a node running there, and does UDP port {} pass in both directions?",
        .after.as_secs(), .addr.port()
    )]
    NoAnswer {
        /// Where the request went.
        addr: SocketAddr,
        /// The time that was given.
        after: Duration,
    },
    /// This machine cannot send there.
    #[error("{addr} cannot be reached from this machine")]
    NoRoute {
        /// Where the request was to go.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// One of the two does not accept the other.
    #[error("{addr}: {why}")]
    Refused {
        /// Where the request went.
        addr: SocketAddr,
        /// In words for the user.
        why: String,
    },
    /// Too many join there at the moment; asking again helps.
    #[error("{addr} is busy: {why}")]
    Busy {
        /// Where the request went.
        addr: SocketAddr,
        /// In words for the user.
        why: String,
    },
    /// The request is too long, which a sane host name and description never make it.
    #[error("the join request cannot be sent")]
    Request(#[source] FrameError),
    /// What came back is no reply.
    #[error("what {addr} answered cannot be read: does it run the same version of Skein?")]
    Reply {
        /// Where the request went.
        addr: SocketAddr,
        /// What is wrong with it.
        #[source]
        source: StreamError,
    },
    /// The TLS configuration is of no use for QUIC.
    #[error("TLS cannot be used for joining")]
    Tls(#[source] super::StartError),
}

/// A reply and what was learnt on the way.
#[derive(Clone, Debug)]
pub struct JoinAnswer {
    /// The reply.
    pub reply: JoinReply,
    /// The root that the token named, PEM, when one was to be learnt.
    pub root_pem: Option<String>,
    /// Our address on the way there; the port is of no meaning.
    pub local: SocketAddr,
}

/// Asks at `addr` and returns the reply; see [`join_exchange`].
pub async fn join_call(
    addr: SocketAddr,
    tls: rustls::ClientConfig,
    request: &JoinRequest,
    deadline: Duration,
) -> Result<JoinReply, JoinCallError> {
    let answer = join_exchange(addr, tls, None, request, deadline).await?;
    Ok(answer.reply)
}

/// Asks at `addr` over a short-lived endpoint of its own, so that it needs no transport and no port that is open from
/// outside. `learned` is what [`join_tls`](crate::identity::join_tls) gave along with `tls`.
pub async fn join_exchange(
    addr: SocketAddr,
    tls: rustls::ClientConfig,
    learned: Option<&LearnedRoot>,
    request: &JoinRequest,
    deadline: Duration,
) -> Result<JoinAnswer, JoinCallError> {
    let frame = to_frame(request, JOIN_FRAME).map_err(JoinCallError::Request)?;
    let config = client(tls, &Tuning::default()).map_err(JoinCallError::Tls)?;
    let no_route = |source| JoinCallError::NoRoute { addr, source };
    let local = address_towards(addr).map_err(no_route)?;
    let endpoint = outbound(addr).map_err(no_route)?;
    let exchange = async {
        let connecting = endpoint
            .connect_with(config, addr, SERVER_NAME)
            .map_err(|error| no_route(io::Error::other(error)))?;
        let conn = connecting
            .await
            .map_err(|error| refused(addr, learned, &error, deadline))?;
        let reply = ask(&conn, frame).await;
        conn.close(CloseCode::Done.on_wire(), b"");
        reply.map_err(|source| match source {
            StreamError::Lost(error) => refused(addr, learned, &error, deadline),
            source => JoinCallError::Reply { addr, source },
        })
    };
    let reply = timeout(deadline, exchange).await;
    endpoint.close(CloseCode::Done.on_wire(), b"");
    let _ = timeout(GOODBYE, endpoint.wait_idle()).await;
    let after = deadline;
    Ok(JoinAnswer {
        reply: reply.map_err(|_| JoinCallError::NoAnswer { addr, after })??,
        root_pem: learned.and_then(LearnedRoot::pem),
        local,
    })
}

async fn ask(conn: &Connection, frame: Vec<u8>) -> Result<JoinReply, StreamError> {
    let (mut send, mut recv) = conn.open_bi().await.map_err(StreamError::Lost)?;
    send.write_chunk(frame.into()).await?;
    send.finish().map_err(|_| StreamError::Closed)?;
    read_one(&mut recv).await
}

fn refused(
    addr: SocketAddr,
    learned: Option<&LearnedRoot>,
    error: &ConnectionError,
    after: Duration,
) -> JoinCallError {
    if *error == ConnectionError::TimedOut {
        return JoinCallError::NoAnswer { addr, after };
    }
    let refusal = learned.and_then(LearnedRoot::refusal);
    let why = refusal.map_or_else(|| words(error), |refusal| refusal.to_string());
    if was_busy(error) {
        JoinCallError::Busy { addr, why }
    } else {
        JoinCallError::Refused { addr, why }
    }
}

fn outbound(addr: SocketAddr) -> io::Result<Endpoint> {
    let any: IpAddr = if addr.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    Endpoint::new(
        EndpointConfig::default(),
        None,
        socket,
        Arc::new(TokioRuntime),
    )
}

/// The address of this machine from which packets to `addr` leave. Sends nothing.
pub fn address_towards(addr: SocketAddr) -> io::Result<SocketAddr> {
    let any: IpAddr = if addr.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(addr)?;
    socket.local_addr().map(plain)
}
