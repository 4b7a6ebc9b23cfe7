//! Real TLS 1.3 handshakes: who gets in, who is refused, and with which words.

mod join;
mod members;
mod quic;
mod refused;
mod rotation;

use super::*;
use crate::identity::testing::*;
use crate::model::Timestamp;

fn server(c: &Credentials) -> ServerConfig {
    server_at(c, NOW)
}

fn server_at(c: &Credentials, now: Timestamp) -> ServerConfig {
    server_tls_at(c, none_removed(), clock_at(now)).unwrap()
}

fn client(c: &Credentials) -> ClientConfig {
    client_at(c, NOW)
}

fn client_at(c: &Credentials, now: Timestamp) -> ClientConfig {
    client_tls_at(c, none_removed(), clock_at(now)).unwrap()
}

fn joiner(digest: RootDigest) -> (ClientConfig, LearnedRoot) {
    join_tls_at(digest, clock_at(NOW)).unwrap()
}

fn renewer(roots_pem: &str) -> ClientConfig {
    renew_tls_at(roots_pem, clock_at(NOW)).unwrap()
}

/// Both sides agree, and each knows the other.
fn assert_met(client_side: &Credentials, server_side: &Credentials) {
    let met = handshake(&client(client_side), &server(server_side));
    let seen_by_client = met.client.expect("the client is content");
    let seen_by_server = met.server.expect("the server is content");
    assert_eq!(seen_by_client.peer(), server_side.identity());
    assert_eq!(seen_by_server.peer(), client_side.identity());
    assert_eq!(seen_by_client.alpn.as_deref(), Some(ALPN_PEER));
}
