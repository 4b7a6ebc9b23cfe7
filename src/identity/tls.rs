//! The TLS of every connection: who shows which certificate, and who is let past the handshake.
//!
//! | configuration | used by | shows | demands of the other side |
//! |---|---|---|---|
//! | [`server_tls`] | every member | its certificate | if it shows a certificate: that of a member; who shows none is to be kept to `skein-join/1` by the transport |
//! | [`client_tls`] | a member | its certificate | the certificate of a member |
//! | [`join_tls`] | a new node with a token | nothing | a certificate under the root that the token names |
//! | [`renew_tls`] | a node whose certificate has ended | nothing | a certificate under a root that it trusts |
//!
//! TLS 1.3 only, ring only, and no resumption: a resumed session skips certificates, and so would let a removed node
//! in. Every refusal is logged on the side that refuses, with its reason in words.

mod refusal;
mod verify;

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig};

use super::credentials::Credentials;
use super::pem::{PemProblem, certificates};
use super::token::RootDigest;
use crate::model::NodeId;
use crate::wire::{ALPN_JOIN, ALPN_PEER};

pub use refusal::{Refusal, why_refused};
pub(super) use verify::verifies;
use verify::{JoinDoor, MemberDoor, Rules, Seen};

/// Whether a node was removed from the cluster, which shuts it out whatever its certificate says.
pub type RemovedNodes = Arc<dyn Fn(NodeId) -> bool + Send + Sync>;

/// The TLS settings of one who asks to be let in.
pub type JoinTls = ClientConfig;

/// Why no TLS configuration was made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The roots' text.
    #[error("the trusted roots cannot be read")]
    Roots(#[source] PemProblem),
    /// A root that cannot be trusted.
    #[error("a trusted root is damaged")]
    Root(#[source] rustls::Error),
    /// No root at all.
    #[error("there is no trusted root")]
    NoRoots(#[source] VerifierBuilderError),
    /// The certificate or its key.
    #[error("the node's certificate cannot be used")]
    Certificate(#[source] rustls::Error),
    /// The provider lacks TLS 1.3, which it does not.
    #[error("TLS 1.3 is not to be had")]
    Protocol(#[source] rustls::Error),
}

/// For accepting connections, of members and of strangers.
///
/// A caller without a certificate passes the handshake, and may then do nothing but join: the transport refuses it
/// when it asked for any ALPN but `skein-join/1`. A certificate that is shown must be that of a member: issued under a
/// root of ours, in time, of our cluster, with the key that its ID says, and not removed.
pub fn server_tls(c: &Credentials, removed: RemovedNodes) -> Result<ServerConfig, TlsError> {
    server_tls_at(c, removed, Arc::new(DefaultTimeProvider))
}

/// For dialling other members, with the same demands on the certificate of whoever answers.
pub fn client_tls(c: &Credentials, removed: RemovedNodes) -> Result<ClientConfig, TlsError> {
    client_tls_at(c, removed, Arc::new(DefaultTimeProvider))
}

/// For joining with nothing but a token: whoever answers must show the root with this digest, and a node's certificate
/// under it. The root is to be read from the [`LearnedRoot`] afterwards.
pub fn join_tls(digest: RootDigest) -> Result<(ClientConfig, LearnedRoot), TlsError> {
    join_tls_at(digest, Arc::new(DefaultTimeProvider))
}

/// For asking for a new certificate when the own one has ended: whoever answers must show a node's certificate that
/// leads to one of these roots, through cross certificates when the cluster has changed its root meanwhile.
pub fn renew_tls(roots_pem: &str) -> Result<ClientConfig, TlsError> {
    renew_tls_at(roots_pem, Arc::new(DefaultTimeProvider))
}

/// Which root a cluster has shown to a joiner, once the handshake is over.
#[derive(Clone, Debug)]
pub struct LearnedRoot(Arc<Seen>);

impl LearnedRoot {
    /// The root that the token named, PEM. `None` until a server has shown it and a certificate under it.
    pub fn pem(&self) -> Option<String> {
        self.0.root_pem()
    }

    /// Why the last server was refused, in words for the user. `None` when none was.
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.refusal()
    }
}

pub(super) fn server_tls_at(
    c: &Credentials,
    removed: RemovedNodes,
    clock: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, TlsError> {
    let door = member_door(c, removed)?;
    let mut config = ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Protocol)?
        .with_client_cert_verifier(Arc::new(door))
        .with_single_cert(c.shown_chain(), c.private_der())
        .map_err(TlsError::Certificate)?;
    config.alpn_protocols = vec![ALPN_PEER.to_vec(), ALPN_JOIN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

pub(super) fn client_tls_at(
    c: &Credentials,
    removed: RemovedNodes,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, TlsError> {
    let door = member_door(c, removed)?;
    let config = client_builder(clock, Arc::new(door))?
        .with_client_auth_cert(c.shown_chain(), c.private_der())
        .map_err(TlsError::Certificate)?;
    Ok(without_resumption(config, ALPN_PEER))
}

pub(super) fn join_tls_at(
    digest: RootDigest,
    clock: Arc<dyn TimeProvider>,
) -> Result<(ClientConfig, LearnedRoot), TlsError> {
    let seen = Arc::new(Seen::default());
    let door = JoinDoor::new(digest, Arc::clone(&seen));
    let config = client_builder(clock, Arc::new(door))?.with_no_client_auth();
    Ok((without_resumption(config, ALPN_JOIN), LearnedRoot(seen)))
}

pub(super) fn renew_tls_at(
    roots_pem: &str,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, TlsError> {
    let roots = certificates(roots_pem).map_err(TlsError::Roots)?;
    // Who was removed is not known to a node that was away; whoever answers cannot grant more than its leader does.
    let rules = Rules {
        cluster: None,
        removed: Arc::new(|_| false),
    };
    let door = MemberDoor::new(&roots, rules)?;
    let config = client_builder(clock, Arc::new(door))?.with_no_client_auth();
    Ok(without_resumption(config, ALPN_JOIN))
}

fn member_door(c: &Credentials, removed: RemovedNodes) -> Result<MemberDoor, TlsError> {
    let rules = Rules {
        cluster: Some(c.cluster()),
        removed,
    };
    MemberDoor::new(c.roots(), rules)
}

fn client_builder(
    clock: Arc<dyn TimeProvider>,
    door: Arc<dyn ServerCertVerifier>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Protocol)?
        .dangerous()
        .with_custom_certificate_verifier(door))
}

fn without_resumption(mut config: ClientConfig, alpn: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
