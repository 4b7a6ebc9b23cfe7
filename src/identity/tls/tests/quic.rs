//! The same configurations under QUIC on loopback, where the transport uses them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{Connection, ConnectionError, Endpoint};
use rustls::pki_types::CertificateDer;

use super::*;
use crate::identity::{Authority, PeerIdentity};
use crate::wire::SERVER_NAME;

const DEADLINE: Duration = Duration::from_secs(20);

fn quic_server(config: ServerConfig) -> quinn::ServerConfig {
    quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).unwrap()))
}

fn quic_client(config: ClientConfig) -> quinn::ClientConfig {
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
}

fn listen(config: ServerConfig) -> (Endpoint, SocketAddr) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let endpoint = Endpoint::server(quic_server(config), any).unwrap();
    let addr = endpoint.local_addr().unwrap();
    (endpoint, addr)
}

/// Dials and accepts at once: what each side has in hand afterwards. The client's side waits for a word of the
/// server's, because a TLS 1.3 client learns only then that it was refused.
async fn meet(
    server: &Endpoint,
    client: &Endpoint,
    config: ClientConfig,
) -> (
    Result<Connection, ConnectionError>,
    Result<Connection, ConnectionError>,
) {
    let addr = server.local_addr().unwrap();
    let dial = async {
        let dialled = client.connect_with(quic_client(config), addr, SERVER_NAME);
        let connection = dialled.unwrap().await?;
        connection.accept_uni().await?;
        Ok(connection)
    };
    let accept = async {
        let connection = server.accept().await.unwrap().await?;
        let mut word = connection.open_uni().await?;
        word.write_all(b"hello").await.unwrap();
        Ok(connection)
    };
    tokio::time::timeout(DEADLINE, async { tokio::join!(dial, accept) })
        .await
        .expect("the handshake ends in time")
}

fn peer_of(connection: &Connection) -> PeerIdentity {
    let chain = connection.peer_identity().unwrap();
    let chain = chain.downcast::<Vec<CertificateDer<'static>>>().unwrap();
    PeerIdentity::from_chain(&chain).unwrap()
}

fn alpn_of(connection: &Connection) -> Vec<u8> {
    let data = connection.handshake_data().unwrap();
    let data = data.downcast::<HandshakeData>().unwrap();
    data.protocol.unwrap()
}

#[tokio::test]
async fn members_and_joiners_share_a_port() {
    let authority = Authority::generate(NOW).unwrap();
    let a = member(&authority, &[authority.root()], NOW);
    let b = member(&authority, &[authority.root()], NOW);
    let (endpoint, _) = listen(server(&a));
    let dialler = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();

    let (outward, inward) = meet(&endpoint, &dialler, client(&b)).await;
    assert_eq!(peer_of(&outward.unwrap()), a.identity());
    let inward = inward.unwrap();
    assert_eq!(peer_of(&inward), b.identity());
    assert_eq!(alpn_of(&inward), ALPN_PEER);

    let (config, learned) = joiner(RootDigest::of_pem(&authority.root().cert_pem));
    let (outward, inward) = meet(&endpoint, &dialler, config).await;
    assert!(outward.is_ok());
    let inward = inward.unwrap();
    assert!(inward.peer_identity().is_none());
    assert_eq!(alpn_of(&inward), ALPN_JOIN);
    assert_eq!(learned.pem().as_ref(), Some(&authority.root().cert_pem));
}

#[tokio::test]
async fn a_refused_dialler_is_told_why_by_the_alert() {
    let authority = Authority::generate(NOW).unwrap();
    let a = member(&authority, &[authority.root()], NOW);
    let removed = member(&authority, &[authority.root()], NOW);
    let shut_out = removed.node();
    let is_removed: RemovedNodes = Arc::new(move |node| node == shut_out);
    let (endpoint, _) = listen(server_tls_at(&a, is_removed, clock_at(NOW)).unwrap());
    let dialler = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let (outward, inward) = meet(&endpoint, &dialler, client(&removed)).await;
    assert!(inward.is_err());
    let Err(ConnectionError::ConnectionClosed(close)) = outward else {
        panic!("{outward:?}");
    };
    let code = u64::from(close.error_code);
    assert_eq!(code & !0xff, 0x100, "a TLS alert");
    let why = why_refused((code & 0xff) as u8).unwrap();
    assert!(
        why.contains("this node was removed from the cluster"),
        "{why}"
    );
}

#[tokio::test]
async fn a_refusing_dialler_has_the_words_in_its_error() {
    let (ours, theirs) = (
        Authority::generate(NOW).unwrap(),
        Authority::generate(NOW).unwrap(),
    );
    let a = member(&theirs, &[theirs.root()], NOW);
    let b = member(&ours, &[ours.root()], NOW);
    let (endpoint, _) = listen(server(&a));
    let dialler = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let (outward, inward) = meet(&endpoint, &dialler, client(&b)).await;
    assert!(inward.is_err());
    let error = outward.unwrap_err().to_string();
    assert!(
        error.contains("refused the server's certificate: foreign root"),
        "{error}"
    );
}

#[tokio::test]
async fn certificates_change_under_a_running_endpoint() {
    let old = Authority::generate(NOW).unwrap();
    let new = successor(&old, NOW);
    let both = [old.root(), new.root()];
    let (a, b) = (member(&old, &both, NOW), member(&old, &both, NOW));
    let (endpoint, _) = listen(server(&a));
    let dialler = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let (before, before_in) = meet(&endpoint, &dialler, client(&b)).await;
    let (before, before_in) = (before.unwrap(), before_in.unwrap());

    let renewed_a = renewed(&new, a.key(), &[new.root()], NOW);
    endpoint.set_server_config(Some(quic_server(server(&renewed_a))));
    let renewed_b = renewed(&new, b.key(), &[new.root()], NOW);
    let (after, after_in) = meet(&endpoint, &dialler, client(&renewed_b)).await;
    assert_eq!(peer_of(&after.unwrap()), renewed_a.identity());
    assert_eq!(peer_of(&after_in.unwrap()), renewed_b.identity());

    // What was open stays open.
    let mut word = before.open_uni().await.unwrap();
    word.write_all(b"still here").await.unwrap();
    word.finish().unwrap();
    let heard = async {
        let mut stream = before_in.accept_uni().await.unwrap();
        stream.read_to_end(64).await.unwrap()
    };
    let heard = tokio::time::timeout(DEADLINE, heard).await.unwrap();
    assert_eq!(heard, b"still here");
}
