//! What can go wrong, one enum an operation, in words that a user may be shown.
//!
//! [`words`] turns QUIC's own errors into sentences; every file here uses it, so that the same cause reads the
//! same in a log line, an API answer and a test.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::{ConnectionError, ReadError, TransportErrorCode, WriteError};

use super::codes::{CloseCode, StreamCode};
use crate::identity::TlsError;
use crate::identity::tls::why_refused;
use crate::model::NodeId;
use crate::wire::frame::FrameError;

/// Why the transport did not start. Nothing is left open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another socket has the port.
    #[error(
        "port {}/udp is taken by another program (address {}): stop that program, or choose another port with --listen-addr",
        .0.port(), .0.ip()
    )]
    PortTaken(SocketAddr),
    /// A port below 1024 and no privilege.
    #[error(
        "port {}/udp may only be used with privileges: run as root, or choose a port of 1024 or above with --listen-addr",
        .0.port()
    )]
    Privileged(SocketAddr),
    /// No interface has the address.
    #[error(
        "{} is not an address of this machine: give one that is, or 0.0.0.0 for all, with --listen-addr",
        .0.ip()
    )]
    NotOurAddress(SocketAddr),
    /// IPv6 is off.
    #[error("this machine does not speak IPv6: give an IPv4 address with --listen-addr (not {0})")]
    NoSuchFamily(SocketAddr),
    /// Anything else of the system.
    #[error("the UDP socket {addr} cannot be opened")]
    Socket {
        /// Where to listen.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The credentials make no TLS configuration.
    #[error("the node's credentials cannot be used for connections")]
    Credentials(#[source] TlsError),
    /// rustls lacks the one cipher suite that QUIC begins with.
    #[error("TLS cannot be used for QUIC")]
    Quic(#[source] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// Why there is no stream to a peer. The request was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The node is this one: its rooms are to be asked directly.
    #[error("node {0} is this node itself")]
    Oneself(NodeId),
    /// Nobody ever said where the node is.
    #[error("no address of node {0} is known")]
    NoAddress(NodeId),
    /// Every address was tried.
    #[error("node {node} cannot be reached: {why}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// What happened at each address.
        why: String,
    },
    /// Nobody of this cluster answers at an address.
    #[error("{addr} cannot be reached: {why}")]
    NobodyThere {
        /// The address.
        addr: SocketAddr,
        /// What happened.
        why: String,
    },
    /// The deadline passed.
    #[error("node {node} did not answer within {} ms", .after.as_millis())]
    TimedOut {
        /// The node.
        node: NodeId,
        /// The time that was given.
        after: Duration,
    },
    /// As many streams of the kind are open to it as may be.
    #[error(
        "node {0} is connected, but too many streams to it are open: try again when some have ended"
    )]
    Crowded(NodeId),
    /// It is not a member any more.
    #[error("node {0} was removed from the cluster")]
    Removed(NodeId),
    /// The transport was closed.
    #[error("this node is stopping")]
    Stopped,
}

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The request was not sent.
    #[error("the request could not be sent")]
    Open(#[from] OpenError),
    /// The deadline passed; whether the peer saw the request is not known.
    #[error("node {node} did not reply within {} ms", .after.as_millis())]
    TimedOut {
        /// The node.
        node: NodeId,
        /// The time that was given.
        after: Duration,
    },
    /// The stream ended before the reply; whether the peer saw the request is not known.
    #[error("node {node} did not reply")]
    Stream {
        /// The node.
        node: NodeId,
        /// How the stream ended.
        #[source]
        source: StreamError,
    },
    /// The request is no frame of its kind. It was not sent.
    #[error("the request cannot be put into a frame")]
    Request(#[source] FrameError),
    /// The reply is no frame of its kind.
    #[error("the reply of node {node} cannot be read")]
    Reply {
        /// The node.
        node: NodeId,
        /// What is wrong with it.
        #[source]
        source: FrameError,
    },
}

/// Why a stream cannot go on. It is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer said that it is done, between two frames.
    #[error("the stream has ended")]
    Finished,
    /// It ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
    /// The peer gave it up, and why.
    #[error("the peer refused the stream: {0}")]
    Refused(StreamCode),
    /// The connection ended.
    #[error("the connection ended: {}", words(.0))]
    Lost(ConnectionError),
    /// A frame is too long or does not decode. The peer was told.
    #[error("the stream carries no proper frames")]
    Frame(#[source] FrameError),
    /// It was finished or reset on this side already.
    #[error("the stream was closed on this side")]
    Closed,
}

impl StreamError {
    /// Whether the peer cannot have begun to handle what was sent, so that it may be sent again elsewhere.
    pub(super) fn nothing_was_begun(&self) -> bool {
        match self {
            Self::Lost(ConnectionError::ApplicationClosed(close)) => {
                CloseCode::from_wire(close.error_code).is_some_and(CloseCode::nothing_was_begun)
            }
            // Refused before a room saw it; asking again at once would be refused again.
            Self::Refused(_) | Self::Lost(_) => false,
            Self::Finished | Self::Truncated | Self::Frame(_) | Self::Closed => false,
        }
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Refused(StreamCode::from_wire(code)),
            ReadError::ConnectionLost(lost) => Self::Lost(lost),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Closed,
        }
    }
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Refused(StreamCode::from_wire(code)),
            WriteError::ConnectionLost(lost) => Self::Lost(lost),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Closed,
        }
    }
}

/// The text that a peer gave as its reason, fit for a terminal and a log.
fn shown(reason: &[u8]) -> String {
    String::from_utf8_lossy(reason)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(400)
        .collect()
}

/// Why a connection ended, or did not come about, as a clause.
pub(super) fn words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) if close.reason.is_empty() => {
            match CloseCode::from_wire(close.error_code) {
                Some(CloseCode::Unused) => "nobody used it".to_owned(),
                Some(CloseCode::Spare) => "another connection serves instead".to_owned(),
                Some(_) | None => "the other side closed it".to_owned(),
            }
        }
        ConnectionError::ApplicationClosed(close) => shown(&close.reason),
        ConnectionError::ConnectionClosed(close) => {
            let code = u64::from(close.error_code);
            let alert = (code & !0xff == 0x100).then(|| code.to_le_bytes()[0]);
            if let Some(words) = alert.and_then(why_refused) {
                words.to_owned()
            } else if close.error_code == TransportErrorCode::CONNECTION_REFUSED {
                "the other side takes no more connections at the moment".to_owned()
            } else if close.error_code == TransportErrorCode::APPLICATION_ERROR {
                "the other side gave the handshake up: it is busy".to_owned()
            } else {
                format!("{} {}", close.error_code, shown(&close.reason))
            }
        }
        ConnectionError::TransportError(error) => shown(error.reason.as_bytes()),
        ConnectionError::VersionMismatch => {
            "the other side speaks another version of QUIC: is it Skein?".to_owned()
        }
        ConnectionError::Reset => "the other side was restarted".to_owned(),
        ConnectionError::TimedOut => "no answer".to_owned(),
        ConnectionError::LocallyClosed => "it was closed on this side".to_owned(),
        ConnectionError::CidsExhausted => "no connection IDs are left".to_owned(),
    }
}

/// Whether the other side's TLS refused this node's certificate because the node was removed.
pub(super) fn is_removal(error: &ConnectionError) -> bool {
    let ConnectionError::ConnectionClosed(close) = error else {
        return false;
    };
    let alert = u8::from(rustls::AlertDescription::CertificateRevoked);
    u64::from(close.error_code) == 0x100 | u64::from(alert)
}

/// Whether the other side was too busy to look at a handshake, so that trying again helps.
pub(super) fn was_busy(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ConnectionClosed(close) => {
            // The latter is what a handshake ends with that gave way to another, or took too long.
            close.error_code == TransportErrorCode::CONNECTION_REFUSED
                || close.error_code == TransportErrorCode::APPLICATION_ERROR
        }
        ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_wire(close.error_code) == Some(CloseCode::Busy)
        }
        ConnectionError::TransportError(_)
        | ConnectionError::VersionMismatch
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn::{ApplicationClose, VarInt};

    fn closed(code: CloseCode, reason: &'static [u8]) -> ConnectionError {
        ConnectionError::ApplicationClosed(ApplicationClose {
            error_code: code.on_wire(),
            reason: reason.into(),
        })
    }

    #[test]
    fn a_peers_reason_cannot_write_to_the_terminal() {
        let said = words(&closed(CloseCode::Done, b"\x1b[2Jgone\nforever\xff"));
        assert_eq!(said, " [2Jgone forever\u{fffd}");
        let long = words(&ConnectionError::ApplicationClosed(ApplicationClose {
            error_code: VarInt::from_u32(0),
            reason: vec![b'x'; 9000].into(),
        }));
        assert_eq!(long.len(), 400);
    }

    #[test]
    fn only_what_was_surely_not_begun_is_repeated() {
        let lost = |error| StreamError::Lost(error).nothing_was_begun();
        assert!(lost(closed(CloseCode::Unused, b"")));
        assert!(lost(closed(CloseCode::Spare, b"")));
        assert!(!lost(closed(CloseCode::Stopping, b"")));
        assert!(!lost(ConnectionError::Reset));
        assert!(!lost(ConnectionError::TimedOut));
    }
}
