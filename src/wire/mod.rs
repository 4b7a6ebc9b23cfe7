//! What travels between nodes: frames, messages, versions and the limit of each.
//!
//! Bytes in, values out; no tokio and no sockets. [`codec`] alone knows bincode.

pub mod assignment;
pub mod codec;
pub mod content;
pub mod control;
pub mod frame;
pub mod hello;
pub mod join;
pub mod limits;
pub mod session;
pub mod stream;

pub use codec::{Json, decode, encode};
pub use stream::StreamKind;

/// The lowest protocol version this build speaks.
pub const PROTOCOL_MIN: u16 = 1;

/// The highest protocol version this build speaks.
pub const PROTOCOL_MAX: u16 = 1;

/// ALPN of traffic between members; a certificate of the cluster is required.
pub const ALPN_PEER: &[u8] = b"skein-peer/1";

/// ALPN of joining and of renewing an expired certificate; no certificate is asked for.
pub const ALPN_JOIN: &[u8] = b"skein-join/1";

/// The server name in every handshake: peers are told apart by the node ID in their certificate, not by it.
pub const SERVER_NAME: &str = "peer.skein.internal";

/// The port that everything between nodes shares, UDP.
pub const DEFAULT_PORT: u16 = 2377;
