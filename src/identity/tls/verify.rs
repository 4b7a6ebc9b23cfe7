//! The verifiers that rustls asks about a certificate: first the chain, by webpki, then whom it names, by us.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use tracing::warn;

use super::{Refusal, RemovedNodes, TlsError, provider};
use crate::identity::credentials::PeerIdentity;
use crate::identity::pem::certificate_pem;
use crate::identity::token::RootDigest;
use crate::model::{ClusterId, Timestamp};

/// Whether the first certificate of a chain is, at `now`, a node's under one of `roots`. Names are not looked at.
pub(in crate::identity) fn verifies(
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), Refusal> {
    let secs = u64::try_from(now.secs()).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
    let store = store_of(roots).map_err(|error| Refusal::of_rustls(&error))?;
    let (leaf, others) = chain.split_first().ok_or(Refusal::ForeignRoot)?;
    verify_chain(leaf, others, &store, now).map_err(|error| Refusal::of_rustls(&error))
}

fn verify_chain(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let leaf = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&leaf, roots, others, now, algorithms().all)
}

fn store_of(roots: &[CertificateDer<'_>]) -> Result<RootCertStore, rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    Ok(store)
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// What is asked of a certificate whose chain is good.
pub(super) struct Rules {
    /// `None` while the own cluster is all that the roots say.
    pub(super) cluster: Option<ClusterId>,
    pub(super) removed: RemovedNodes,
}

impl Rules {
    fn judge(&self, leaf: &CertificateDer<'_>) -> Result<PeerIdentity, Refusal> {
        let peer = PeerIdentity::from_chain(std::slice::from_ref(leaf))?;
        if let Some(ours) = self.cluster.filter(|ours| *ours != peer.cluster) {
            return Err(Refusal::WrongCluster {
                theirs: peer.cluster,
                ours,
            });
        }
        if (self.removed)(peer.node) {
            return Err(Refusal::Removed(peer.node));
        }
        Ok(peer)
    }
}

/// Lets members in, whichever side they are on; strangers without a certificate pass on the server's side.
pub(super) struct MemberDoor {
    rules: Rules,
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl MemberDoor {
    pub(super) fn new(roots: &[CertificateDer<'_>], rules: Rules) -> Result<Self, TlsError> {
        let store = Arc::new(store_of(roots).map_err(TlsError::Root)?);
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&store), provider())
            .build()
            .map_err(TlsError::NoRoots)?;
        let clients = WebPkiClientVerifier::builder_with_provider(store, provider())
            .allow_unauthenticated()
            // What this cluster's roots are called is no stranger's business, and a node has one certificate to offer.
            .clear_root_hint_subjects()
            .build()
            .map_err(TlsError::NoRoots)?;
        Ok(Self {
            rules,
            servers,
            clients,
        })
    }
}

impl fmt::Debug for MemberDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberDoor")
            .field("cluster", &self.rules.cluster)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for MemberDoor {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.servers
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| Refusal::of_rustls(&error))
            .and_then(|verified| self.rules.judge(end_entity).map(|_| verified))
            .map_err(|refusal| {
                log_refusal("server", end_entity, &refusal);
                refusal.to_caller()
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.servers.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.servers.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.servers.supported_verify_schemes()
    }
}

impl ClientCertVerifier for MemberDoor {
    fn client_auth_mandatory(&self) -> bool {
        self.clients.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.clients
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| Refusal::of_rustls(&error))
            .and_then(|verified| self.rules.judge(end_entity).map(|_| verified))
            .map_err(|refusal| {
                log_refusal("client", end_entity, &refusal);
                refusal.to_client()
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

/// What a joiner's verifier has seen; shared with whoever started the join.
#[derive(Debug, Default)]
pub(super) struct Seen {
    root_pem: OnceLock<String>,
    refusal: Mutex<Option<Refusal>>,
}

impl Seen {
    pub(super) fn root_pem(&self) -> Option<String> {
        self.root_pem.get().cloned()
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.last_refusal().clone()
    }

    fn refuse(&self, refusal: Refusal) {
        *self.last_refusal() = Some(refusal);
    }

    fn last_refusal(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a joiner in where the root is the one that its token names.
#[derive(Debug)]
pub(super) struct JoinDoor {
    digest: RootDigest,
    seen: Arc<Seen>,
}

impl JoinDoor {
    pub(super) const fn new(digest: RootDigest, seen: Arc<Seen>) -> Self {
        Self { digest, seen }
    }

    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<String, Refusal> {
        let (root, root_pem) = intermediates
            .iter()
            .map(|der| (der, certificate_pem(der)))
            .find(|(_, pem)| RootDigest::of_pem(pem) == self.digest)
            .ok_or(Refusal::NotTheTokensRoot)?;
        let of_rustls = |error| Refusal::of_rustls(&error);
        let store = store_of(std::slice::from_ref(root)).map_err(of_rustls)?;
        verify_chain(end_entity, intermediates, &store, now).map_err(of_rustls)?;
        let leaf = ParsedCertificate::try_from(end_entity).map_err(of_rustls)?;
        verify_server_name(&leaf, server_name).map_err(of_rustls)?;
        PeerIdentity::from_chain(std::slice::from_ref(end_entity))?;
        Ok(root_pem)
    }
}

impl ServerCertVerifier for JoinDoor {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.judge(end_entity, intermediates, server_name, now) {
            Ok(root_pem) => {
                self.seen.root_pem.get_or_init(|| root_pem);
                Ok(ServerCertVerified::assertion())
            }
            Err(refusal) => {
                log_refusal("server", end_entity, &refusal);
                let error = refusal.to_caller();
                self.seen.refuse(refusal);
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// The one line about a refusal. `claims` is what the certificate says of itself, true or not.
fn log_refusal(side: &'static str, leaf: &CertificateDer<'_>, refusal: &Refusal) {
    let claims = PeerIdentity::from_chain(std::slice::from_ref(leaf)).ok();
    let claims = claims.map(|peer| tracing::field::display(peer.node));
    warn!(side, claims, reason = %refusal, "certificate refused");
}
