//! What the tests of this room share: a fixed clock, members made on the spot, handshakes in memory, captured logs.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, HandshakeKind, ServerConfig, ServerConnection,
};

use super::*;
use crate::model::{ClusterId, RootCa, Standing, Timestamp};
use crate::wire::SERVER_NAME;

/// The clock of all tests: 2030-06-15T12:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_nanos(1_907_755_200 * 1_000_000_000);

/// The cluster of the fixtures.
pub(crate) const CLUSTER: ClusterId =
    ClusterId::from_bits(0x5e1f_c105_7e20_0000_0000_0000_0000_0001);

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The time `span` before `NOW`.
pub(crate) fn ago(span: Duration) -> Timestamp {
    Timestamp::from_nanos(NOW.nanos() - i128::try_from(span.as_nanos()).unwrap())
}

#[derive(Debug)]
struct FixedClock(Timestamp);

impl TimeProvider for FixedClock {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = self.0.secs().unsigned_abs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

pub(crate) fn clock_at(now: Timestamp) -> Arc<dyn TimeProvider> {
    Arc::new(FixedClock(now))
}

pub(crate) fn none_removed() -> RemovedNodes {
    Arc::new(|_| false)
}

/// A member of `CLUSTER` with a fresh key and a certificate of 90 days from `now`, trusting `roots`.
pub(crate) fn member(authority: &Authority, roots: &[&RootCa], now: Timestamp) -> Credentials {
    renewed(authority, &NodeKey::generate().unwrap(), roots, now)
}

/// The same for a key that exists.
pub(crate) fn renewed(
    authority: &Authority,
    key: &NodeKey,
    roots: &[&RootCa],
    now: Timestamp,
) -> Credentials {
    let grant = Grant {
        cluster: CLUSTER,
        standing: Standing::Eligible,
        now,
        validity: 90 * DAY,
    };
    let issued = authority.issue(&key.csr_der().unwrap(), &grant).unwrap();
    let roots: String = roots.iter().map(|root| root.cert_pem.as_str()).collect();
    Credentials::from_pem(&key.to_pem(), &issued.chain_pem, &roots).unwrap()
}

/// A root that takes over from `old`, certified by it.
pub(crate) fn successor(old: &Authority, now: Timestamp) -> Authority {
    let next = Authority::generate(now).unwrap();
    let cross_pem = old.cross_sign(next.root(), now).unwrap();
    Authority::load(&RootCa {
        cross_pem,
        ..next.root().clone()
    })
    .unwrap()
}

/// How a handshake went, seen from one side.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) chain: Option<Vec<CertificateDer<'static>>>,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) kind: Option<HandshakeKind>,
}

impl Side {
    fn of<D>(connection: &ConnectionCommon<D>) -> Self {
        Self {
            chain: connection.peer_certificates().map(<[_]>::to_vec),
            alpn: connection.alpn_protocol().map(<[_]>::to_vec),
            kind: connection.handshake_kind(),
        }
    }

    pub(crate) fn peer(&self) -> PeerIdentity {
        PeerIdentity::from_chain(self.chain.as_ref().unwrap()).unwrap()
    }
}

/// A whole handshake in memory, until neither side has anything to say: what each side saw or why it failed.
pub(crate) struct Handshake {
    pub(crate) client: Result<Side, rustls::Error>,
    pub(crate) server: Result<Side, rustls::Error>,
}

pub(crate) fn handshake(client: &ClientConfig, server: &ServerConfig) -> Handshake {
    let name = SERVER_NAME.try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client.clone()), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server.clone())).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    loop {
        let to_server = carry(&mut client, &mut server, &mut server_error);
        let to_client = carry(&mut server, &mut client, &mut client_error);
        if !to_server && !to_client {
            break;
        }
    }
    let client_done = !client.is_handshaking();
    assert!(client_done || client_error.is_some() || server_error.is_some());
    Handshake {
        client: client_error.map_or_else(|| Ok(Side::of(&client)), Err),
        server: server_error.map_or_else(|| Ok(Side::of(&server)), Err),
    }
}

/// Moves what one side has written to the other; false when there was nothing.
fn carry<A, B>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
    error: &mut Option<rustls::Error>,
) -> bool
where
    A: rustls::SideData,
    B: rustls::SideData,
{
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let moved = !bytes.is_empty();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() && error.is_none() {
        to.read_tls(&mut rest).unwrap();
        *error = to.process_new_packets().err();
    }
    moved
}

/// Runs `work` and gives back what it logged on this thread.
pub(crate) fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .finish();
    let result = tracing::subscriber::with_default(subscriber, work);
    let bytes = lines.0.lock().unwrap().clone();
    (result, String::from_utf8(bytes).unwrap())
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
