//! The cluster's authority: what a node certificate says, and how long it says it.
//!
//! Used by the leader alone, which holds the root's key. A certificate's words are Swarm's: CN the node ID, OU
//! `swarm-manager` or `swarm-worker`, O the cluster ID. They come from the cluster's records: of a request only the
//! public key is used, after its signature has proved that the asker holds the private half.

mod own_root;
mod params;
mod request;

use std::fmt;
use std::time::Duration;

use rcgen::{DnType, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::key::{KeyError, node_id_of_spki, pkcs8_of_pem};
use super::pem::{PemProblem, certificate_pem, certificates};
use crate::model::cluster::Secret;
use crate::model::{ClusterId, NodeId, RootCa, Standing, Timestamp};

pub use own_root::check_own_root;
pub(super) use params::{ca_params, leaf_params, standing_word};
use request::key_of_csr;
pub use request::node_of_csr;

/// How far before its issue a certificate begins, so that a clock that is a little slow accepts it.
pub const BACKDATING: Duration = Duration::from_secs(3600);

/// Life of a root that Skein makes: 20 years, as Swarm's.
pub const ROOT_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// Earlier rotations whose cross certificates are still sent. A node that missed more of them joins anew; each costs
/// half a kilobyte in every handshake.
pub const MAX_CROSSINGS: usize = 4;

/// Why the authority did not do as asked. Nothing was issued or changed.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The root certificate's text.
    #[error("the root certificate cannot be read")]
    Pem(#[source] PemProblem),
    /// The root certificate's bytes.
    #[error("the root certificate is damaged")]
    Damaged(#[source] x509_parser::nom::Err<x509_parser::error::X509Error>),
    /// The root's key.
    #[error("the root's private key cannot be used")]
    Key(#[source] KeyError),
    /// Certificate and key of different pairs.
    #[error(
        "the private key does not belong to the root certificate: give the key that it was signed with"
    )]
    KeyMismatch,
    /// A bundle where one root is wanted.
    #[error("the file holds {0} certificates: give the root certificate alone")]
    NotAlone(usize),
    /// Basic constraints without `CA:TRUE`, or key usage without certificate signing.
    #[error(
        "the certificate is no CA ({0}): make one with basicConstraints=CA:TRUE and keyUsage=keyCertSign"
    )]
    NotCa(&'static str),
    /// An intermediate.
    #[error("the certificate is not self-signed: give a root, not an intermediate")]
    NotSelfSigned,
    /// It has ended.
    #[error("the root certificate expired at {0}: make a new one")]
    Ended(Timestamp),
    /// It has not begun.
    #[error("the root certificate is valid only from {0} on: check this machine's clock, or wait")]
    NotBegun(Timestamp),
    /// It ends before long.
    #[error("the root certificate ends at {0}, within {1} days: make one that lives longer")]
    EndsSoon(Timestamp, u64),
    /// A name that cannot be repeated in issued certificates.
    #[error(
        "the root's subject is one that Skein cannot reproduce ({0}): use a plain one such as /O=Example/CN=Example root"
    )]
    Subject(&'static str),
    /// A key that cannot be repeated in other certificates.
    #[error(
        "the root's public key is written in an unusual form: make the certificate anew, with openssl for example"
    )]
    KeyForm,
    /// A trial certificate did not verify.
    #[error(
        "certificates issued under this root do not verify ({0}): check its name constraints and key type"
    )]
    Unusable(String),
    /// The request's bytes.
    #[error("the certificate request is damaged")]
    Request,
    /// The request's signature.
    #[error("the certificate request is not signed by the key it is for")]
    RequestSignature,
    /// Another kind of key.
    #[error("the certificate request is for a key that is not ECDSA P-256")]
    RequestKey,
    /// No time left between now and the asked end.
    #[error("a certificate cannot be valid for no time")]
    NoTime,
    /// The system gave no randomness.
    #[error("a root cannot be made")]
    Generate(#[source] KeyError),
    /// The signature itself.
    #[error("a certificate cannot be signed")]
    Sign(#[source] rcgen::Error),
}

/// What the cluster grants to a node with a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// The cluster it is a member of.
    pub cluster: ClusterId,
    /// Whether it may vote.
    pub standing: Standing,
    /// The leader's clock.
    pub now: Timestamp,
    /// How long from now; cut to the root's own end.
    pub validity: Duration,
}

/// A certificate just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Whose it is.
    pub node: NodeId,
    /// The certificate, cross certificates that lead from older roots, and the root, PEM.
    pub chain_pem: String,
    /// Hex SHA-256 of the root's public key.
    pub issuer: String,
    /// When it ends, whole seconds.
    pub not_after: Timestamp,
}

/// What Docker's API shows of a root (`TLSInfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootFacts {
    /// Subject, DER.
    pub subject_der: Vec<u8>,
    /// SubjectPublicKeyInfo, DER.
    pub public_key_der: Vec<u8>,
    /// When it ends.
    pub not_after: Timestamp,
}

impl RootFacts {
    /// Reads the first certificate of a PEM text.
    pub fn of_pem(root_cert_pem: &str) -> Result<Self, CaError> {
        let der = one_certificate(root_cert_pem)?;
        let cert = parse(&der)?;
        Ok(Self {
            subject_der: cert.subject().as_raw().to_vec(),
            public_key_der: cert.public_key().raw.to_vec(),
            not_after: timestamp(cert.validity().not_after.timestamp()),
        })
    }
}

/// A root with its key. Debug shows only which.
pub struct Authority {
    root: RootCa,
    issuer: Issuer<'static, KeyPair>,
    issuer_hex: String,
    ends: i64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.issuer_hex)
    }
}

impl Authority {
    /// A new self-signed root, valid for [`ROOT_LIFE`].
    pub fn generate(now: Timestamp) -> Result<Self, CaError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|source| CaError::Generate(KeyError::Generate(source)))?;
        let mut params = ca_params(
            now.secs().saturating_sub(secs(BACKDATING)),
            now.secs().saturating_add(secs(ROOT_LIFE)),
        );
        params
            .distinguished_name
            .push(DnType::CommonName, "swarm-ca");
        let cert = params.self_signed(&pair).map_err(CaError::Sign)?;
        Self::load(&RootCa {
            cert_pem: certificate_pem(cert.der()),
            key_pem: Secret(pair.serialize_pem()),
            cross_pem: String::new(),
        })
    }

    /// The authority that a stored root makes.
    pub fn load(root: &RootCa) -> Result<Self, CaError> {
        let der = one_certificate(&root.cert_pem)?;
        let cert = parse(&der)?;
        let key_der = pkcs8_of_pem(&root.key_pem.0).map_err(CaError::Key)?;
        let pair = KeyPair::try_from(&key_der).map_err(|source| {
            CaError::Key(KeyError::Unsupported(
                "a root's key is ECDSA P-256 or P-384, Ed25519 or RSA of 2048 bits and more",
                source,
            ))
        })?;
        if pair.der_bytes() != cert.public_key().subject_public_key.as_ref() {
            return Err(CaError::KeyMismatch);
        }
        let issuer_hex = hex_sha256(cert.public_key().raw);
        let ends = cert.validity().not_after.timestamp();
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(CaError::Sign)?;
        Ok(Self {
            root: root.clone(),
            issuer,
            issuer_hex,
            ends,
        })
    }

    /// The root as it is stored.
    pub const fn root(&self) -> &RootCa {
        &self.root
    }

    /// Hex SHA-256 of the root's public key.
    pub fn issuer(&self) -> &str {
        &self.issuer_hex
    }

    /// Issues a certificate for the key in a request (PKCS#10, DER).
    pub fn issue(&self, csr_der: &[u8], grant: &Grant) -> Result<Issued, CaError> {
        let key = key_of_csr(csr_der)?;
        let node = node_id_of_spki(&key.subject_public_key_info());
        let now = grant.now.secs();
        let ends = now.saturating_add(secs(grant.validity)).min(self.ends);
        if ends <= now {
            return Err(if self.ends <= now {
                CaError::Ended(timestamp(self.ends))
            } else {
                CaError::NoTime
            });
        }
        let params = leaf_params(node, grant, now.saturating_sub(secs(BACKDATING)), ends)?;
        let cert = params
            .signed_by(&key, &self.issuer)
            .map_err(CaError::Sign)?;
        Ok(Issued {
            node,
            chain_pem: format!(
                "{}{}{}",
                certificate_pem(cert.der()),
                self.root.cross_pem,
                self.root.cert_pem
            ),
            issuer: self.issuer_hex.clone(),
            not_after: timestamp(ends),
        })
    }

    /// Certifies the key of `next` under this root: what belongs in `next.cross_pem` when it takes over.
    ///
    /// Cross certificates from earlier rotations are kept behind it, newest first, so that a node that was off during
    /// several of them still finds its way; beyond [`MAX_CROSSINGS`] the oldest is dropped.
    pub fn cross_sign(&self, next: &RootCa, now: Timestamp) -> Result<String, CaError> {
        let der = one_certificate(&next.cert_pem)?;
        let cert = parse(&der)?;
        let now = now.secs();
        let ends = self.ends.min(cert.validity().not_after.timestamp());
        if ends <= now {
            return Err(CaError::Ended(timestamp(ends)));
        }
        let mut params = ca_params(now.saturating_sub(secs(BACKDATING)), ends);
        params.distinguished_name = own_root::subject_of(&cert)?;
        let key = own_root::key_of(&cert)?;
        let cross = params
            .signed_by(&key, &self.issuer)
            .map_err(CaError::Sign)?;
        let cross = CertificateDer::from(cross);
        if parse(&cross)?.subject().as_raw() != cert.subject().as_raw() {
            return Err(CaError::Subject("its encoding is unusual"));
        }
        let mut chain = vec![cross];
        if !self.root.cross_pem.is_empty() {
            chain.extend(certificates(&self.root.cross_pem).map_err(CaError::Pem)?);
        }
        chain.truncate(MAX_CROSSINGS);
        Ok(chain.iter().map(|der| certificate_pem(der)).collect())
    }
}

/// Hex SHA-256 of the public key of a root, given as PEM.
pub fn issuer_of(root_cert_pem: &str) -> Result<String, CaError> {
    Ok(hex_sha256(
        &RootFacts::of_pem(root_cert_pem)?.public_key_der,
    ))
}

pub(super) fn timestamp(secs: i64) -> Timestamp {
    Timestamp::from_nanos(i128::from(secs) * 1_000_000_000)
}

fn secs(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

pub(super) fn hex_sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let hash = digest(&SHA256, bytes);
    hash.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn one_certificate(pem: &str) -> Result<CertificateDer<'static>, CaError> {
    let mut found = certificates(pem).map_err(CaError::Pem)?;
    match (found.pop(), found.len()) {
        (Some(der), 0) => Ok(der),
        (_, more) => Err(CaError::NotAlone(more + 1)),
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CaError> {
    X509Certificate::from_der(der)
        .map(|(_, cert)| cert)
        .map_err(CaError::Damaged)
}

#[cfg(test)]
mod tests;
