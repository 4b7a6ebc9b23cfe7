//! What this node proves itself with, and what a peer's certificate says of the peer.
//!
//! [`Credentials`] are checked whole when they are read, so that a mixed-up directory is named at start and not at the
//! first handshake; only their dates are not, because an expired certificate is what renewal begins with.

use std::fmt;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::ca::{BACKDATING, hex_sha256, standing_word, timestamp};
use super::key::{KeyError, NodeKey, node_id_of_spki};
use super::pem::{PemProblem, certificates};
use super::renewal;
use super::tls::{Refusal, verifies};
use crate::model::{ClusterId, NodeId, Standing, Timestamp};

/// Why a certificate names no node of any cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    /// No certificate was offered.
    #[error("there is no certificate")]
    Missing,
    /// Not X.509.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// CN.
    #[error("its common name is no node ID")]
    NoNodeId,
    /// CN against key.
    #[error("its key does not match its ID: it names node {claimed}, its key is node {actual}'s")]
    KeyMismatch {
        /// By its common name.
        claimed: NodeId,
        /// By its key.
        actual: NodeId,
    },
    /// O.
    #[error("its organization is no cluster ID")]
    NoCluster,
    /// OU.
    #[error("its role {0:?} is neither swarm-manager nor swarm-worker")]
    UnknownRole(String),
}

/// Who a peer is, by its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The node: its ID is the hash of the certificate's key.
    pub node: NodeId,
    /// The cluster that let it in.
    pub cluster: ClusterId,
    /// Whether it may vote.
    pub standing: Standing,
    /// When its certificate ends.
    pub not_after: Timestamp,
}

impl PeerIdentity {
    /// Reads the first certificate of a chain. Whether a trusted root stands behind it is not looked at here: use this
    /// on chains that passed the handshake.
    pub fn from_chain(chain: &[CertificateDer<'_>]) -> Result<Self, CertificateProblem> {
        let leaf = chain.first().ok_or(CertificateProblem::Missing)?;
        let (_, cert) =
            X509Certificate::from_der(leaf).map_err(|_| CertificateProblem::Unreadable)?;
        Self::of_certificate(&cert)
    }

    fn of_certificate(cert: &X509Certificate<'_>) -> Result<Self, CertificateProblem> {
        let subject = cert.subject();
        let claimed: NodeId = only(X509Name::iter_common_name(subject))
            .and_then(|text| text.parse().ok())
            .ok_or(CertificateProblem::NoNodeId)?;
        let actual = node_id_of_spki(cert.public_key().raw);
        if claimed != actual {
            return Err(CertificateProblem::KeyMismatch { claimed, actual });
        }
        let cluster = only(X509Name::iter_organization(subject))
            .and_then(|text| text.parse().ok())
            .ok_or(CertificateProblem::NoCluster)?;
        let unit = only(X509Name::iter_organizational_unit(subject)).unwrap_or_default();
        let standing = [Standing::Worker, Standing::Eligible]
            .into_iter()
            .find(|standing| standing_word(*standing) == unit)
            .ok_or_else(|| CertificateProblem::UnknownRole(unit.chars().take(80).collect()))?;
        Ok(Self {
            node: actual,
            cluster,
            standing,
            not_after: timestamp(cert.validity().not_after.timestamp()),
        })
    }
}

/// The text of a name's only attribute of a kind; a second one makes the name ambiguous.
fn only<'a>(
    mut attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Option<&'a str> {
    let text = attributes.next()?.as_str().ok()?;
    attributes.next().is_none().then_some(text)
}

/// Why stored credentials cannot be used. The words name the file to look at.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The key file.
    #[error("the node's key (swarm-node.key) cannot be used")]
    Key(#[source] KeyError),
    /// The certificate file.
    #[error("the node's certificate (swarm-node.crt) cannot be read")]
    Chain(#[source] PemProblem),
    /// What the certificate says.
    #[error("the node's certificate (swarm-node.crt) is not one of a cluster's")]
    Certificate(#[source] CertificateProblem),
    /// The root file.
    #[error("the trusted roots (swarm-root-ca.crt) cannot be read")]
    Roots(#[source] PemProblem),
    /// Certificate and key of different nodes.
    #[error(
        "swarm-node.key is node {key}'s and swarm-node.crt is node {certificate}'s: put back the files of one node"
    )]
    Mixed {
        /// By the key.
        key: NodeId,
        /// By the certificate.
        certificate: NodeId,
    },
    /// Certificate and roots of different clusters.
    #[error(
        "swarm-node.crt was not issued by a root in swarm-root-ca.crt: put back the files of one node"
    )]
    ForeignRoot(#[source] Refusal),
}

/// A node's key, certificate and trusted roots, known to belong together. Debug shows no key.
pub struct Credentials {
    identity: PeerIdentity,
    issuer: String,
    not_before: Timestamp,
    key: NodeKey,
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    chain_pem: String,
    roots_pem: String,
}

impl Credentials {
    /// Reads what [`CertificateDir`](super::CertificateDir) keeps or a cluster has sent. An expired certificate passes.
    pub fn from_pem(
        key_pem: &str,
        chain_pem: &str,
        roots_pem: &str,
    ) -> Result<Self, CredentialsError> {
        let key = NodeKey::from_pem(key_pem).map_err(CredentialsError::Key)?;
        let chain = certificates(chain_pem).map_err(CredentialsError::Chain)?;
        let roots = certificates(roots_pem).map_err(CredentialsError::Roots)?;
        let unreadable = |_| CredentialsError::Certificate(CertificateProblem::Unreadable);
        let (_, leaf) = X509Certificate::from_der(&chain[0]).map_err(unreadable)?;
        let identity =
            PeerIdentity::of_certificate(&leaf).map_err(CredentialsError::Certificate)?;
        if key.spki_der() != leaf.public_key().raw {
            return Err(CredentialsError::Mixed {
                key: key.node_id(),
                certificate: identity.node,
            });
        }
        let not_before = timestamp(leaf.validity().not_before.timestamp());
        // Judged at the time of its issue: that its life is over is no reason not to use it for renewal.
        let issued = not_before.after(BACKDATING).min(identity.not_after);
        verifies(&chain, &roots, issued).map_err(CredentialsError::ForeignRoot)?;
        let issuer = issuer_among(&leaf, chain[1..].iter().chain(&roots)).unwrap_or_default();
        Ok(Self {
            identity,
            issuer,
            not_before,
            key,
            chain,
            roots,
            chain_pem: chain_pem.to_owned(),
            roots_pem: roots_pem.to_owned(),
        })
    }

    /// This node.
    pub const fn node(&self) -> NodeId {
        self.identity.node
    }

    /// Its cluster.
    pub const fn cluster(&self) -> ClusterId {
        self.identity.cluster
    }

    /// Whether it may vote, as its certificate says.
    pub const fn standing(&self) -> Standing {
        self.identity.standing
    }

    /// Hex SHA-256 of the public key of the root that issued the certificate.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When the certificate begins, an hour before it was issued.
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// When it ends.
    pub const fn not_after(&self) -> Timestamp {
        self.identity.not_after
    }

    /// Whether it has ended.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.not_after() <= now
    }

    /// When to ask for the next one; `random` in `0..1`.
    pub fn renew_at(&self, random: f64) -> Timestamp {
        renewal::renew_at(self.not_before, self.not_after(), random)
    }

    /// What a peer learns from the certificate.
    pub const fn identity(&self) -> PeerIdentity {
        self.identity
    }

    /// The key, for the next certificate request.
    pub const fn key(&self) -> &NodeKey {
        &self.key
    }

    /// The certificate and what leads from it to its root, PEM.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The trusted roots, PEM.
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    pub(super) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// What is shown in a handshake: the chain, and every root that is not in it. Two roots are trusted while a
    /// rotation is under way, and a joiner's token may name either.
    pub(super) fn shown_chain(&self) -> Vec<CertificateDer<'static>> {
        let mut shown = self.chain.clone();
        let missing = self.roots.iter().filter(|root| !self.chain.contains(root));
        shown.extend(missing.cloned());
        shown
    }

    pub(super) fn private_der(&self) -> PrivateKeyDer<'static> {
        self.key.private_der()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("node", &self.node())
            .field("cluster", &self.cluster())
            .field("standing", &self.standing())
            .field("issuer", &self.issuer)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

/// Hex SHA-256 of the key that signed `leaf`, out of those in `candidates`. Names do not tell: all roots have the same.
fn issuer_among<'a>(
    leaf: &X509Certificate<'_>,
    candidates: impl Iterator<Item = &'a CertificateDer<'static>>,
) -> Option<String> {
    candidates
        .filter_map(|der| X509Certificate::from_der(der).ok())
        .map(|(_, candidate)| candidate)
        .find(|candidate| leaf.verify_signature(Some(candidate.public_key())).is_ok())
        .map(|issuer| hex_sha256(issuer.public_key().raw))
}

#[cfg(test)]
mod tests;
