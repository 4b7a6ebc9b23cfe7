//! How QUIC is set up: the configurations of both sides out of the credentials of the moment, and the endpoint.
//!
//! Called at start and at each change of the credentials. A stranger gets little (one stream, a small window)
//! until it has shown who it is; [`welcome`] then gives a member the rest.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig,
    VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;

use super::error::StartError;
use super::limits::{DATAGRAM_BUFFER, MEMBER_WINDOW, STRANGER_WINDOW, STREAM_WINDOW, Tuning};
use super::socket::Port;
use super::stats::WireCounters;
use super::timer::QuietRuntime;
use crate::identity::{Credentials, RemovedNodes, client_tls, server_tls};
use crate::wire::limits::{HANDSHAKES_IN_FLIGHT, JOIN_STREAMS, PEER_STREAMS};

/// Assumed until measured. QUIC's default of 333 ms makes the first lost packet cost a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// The least time between two answers to packets of connections that this process does not know.
const RESET_PAUSE: Duration = Duration::from_millis(5);

/// Packets that a dialler may send while its handshake waits for the gate's decision, in bytes; all, and each.
const WAITING_BYTES: (u64, u64) = (1 << 20, 16 << 10);

/// Both sides' configurations.
#[derive(Clone, Debug)]
pub(super) struct Configs {
    pub(super) server: ServerConfig,
    pub(super) client: ClientConfig,
}

impl Configs {
    pub(super) fn new(
        credentials: &Credentials,
        removed: &RemovedNodes,
        tuning: &Tuning,
    ) -> Result<Self, StartError> {
        let tls = server_tls(credentials, Arc::clone(removed)).map_err(StartError::Credentials)?;
        let crypto = QuicServerConfig::try_from(tls).map_err(StartError::Quic)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(Arc::new(transport(tuning, Side::Dialled)))
            .max_incoming(4 * HANDSHAKES_IN_FLIGHT)
            .incoming_buffer_size_total(WAITING_BYTES.0)
            .incoming_buffer_size(WAITING_BYTES.1);
        let tls = client_tls(credentials, Arc::clone(removed)).map_err(StartError::Credentials)?;
        Ok(Self {
            server,
            client: client(tls, tuning)?,
        })
    }
}

/// The dialling side with a TLS configuration of any kind.
pub(super) fn client(
    tls: rustls::ClientConfig,
    tuning: &Tuning,
) -> Result<ClientConfig, StartError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(StartError::Quic)?;
    let mut client = ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(transport(tuning, Side::Dialling)));
    Ok(client)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Dialling,
    Dialled,
}

fn transport(tuning: &Tuning, side: Side) -> TransportConfig {
    let (bidi, uni, window) = match side {
        Side::Dialling => (PEER_STREAMS, PEER_STREAMS, MEMBER_WINDOW),
        Side::Dialled => (JOIN_STREAMS, 0, STRANGER_WINDOW),
    };
    // Longer than `unused`, so that the close that both sides hear of comes before the silent one.
    let idle = tuning.unused + tuning.keep_alive;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(bidi.into())
        .max_concurrent_uni_streams(uni.into())
        .receive_window(window.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .send_window(u64::from(MEMBER_WINDOW))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .max_idle_timeout(IdleTimeout::try_from(idle).ok())
        .initial_rtt(INITIAL_RTT);
    config
}

/// Gives a connection that this side was dialled on what a member may have.
pub(super) fn welcome(conn: &Connection) {
    conn.set_max_concurrent_bi_streams(VarInt::from_u32(PEER_STREAMS));
    conn.set_max_concurrent_uni_streams(VarInt::from_u32(PEER_STREAMS));
    conn.set_receive_window(VarInt::from_u32(MEMBER_WINDOW));
}

/// The endpoint on `socket`, and the port that it listens on. Must be called within a tokio runtime.
///
/// The keys of connection IDs and of stateless resets follow from the node's key, so that a restarted process can tell
/// the peers of its predecessor at once that their connections are dead.
pub(super) fn listen(
    socket: UdpSocket,
    credentials: &Credentials,
    server: ServerConfig,
    counters: Arc<WireCounters>,
) -> Result<(Endpoint, Arc<Port>), std::io::Error> {
    let pem = credentials.key().to_pem();
    let key = hmac::Key::new(hmac::HMAC_SHA256, pem.as_bytes());
    let reset_key = hmac::sign(&key, b"skein stateless reset");
    let cid_tag = hmac::sign(&key, b"skein connection ids");
    let cid_key = cid_tag
        .as_ref()
        .iter()
        .take(8)
        .fold(0u64, |key, byte| key << 8 | u64::from(*byte));
    let port = Arc::new(Port::new(socket, cid_key, counters)?);
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(
        hmac::HMAC_SHA256,
        reset_key.as_ref(),
    )));
    config
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)))
        .supported_versions(vec![1])
        // Peers that never flip the bit let noise be told from packets.
        .grease_quic_bit(false)
        .min_reset_interval(RESET_PAUSE);
    let endpoint = Endpoint::new_with_abstract_socket(
        config,
        Some(server),
        Arc::clone(&port) as Arc<_>,
        Arc::new(QuietRuntime),
    )?;
    Ok((endpoint, port))
}
