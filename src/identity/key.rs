//! A node's key, made once at its first start, and the node ID that follows from it.
//!
//! Called by whoever makes or loads an identity. The private half leaves this file only as PEM for
//! [`files`](super::files) and as a signature; nothing prints it.

use std::fmt;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use ring::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::model::NodeId;

/// Why a key is of no use. No key was made or kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness.
    #[error("a key cannot be generated")]
    Generate(#[source] rcgen::Error),
    /// No PEM block of a private key.
    #[error("the text holds no private key in PEM form")]
    NotPem(#[source] rustls::pki_types::pem::Error),
    /// It needs a passphrase.
    #[error(
        "the private key is encrypted: decrypt it first with `openssl pkcs8 -in KEY -out PLAIN`"
    )]
    Encrypted,
    /// PKCS#1 or SEC1.
    #[error(
        "the private key is in {0} form: convert it with `openssl pkcs8 -topk8 -nocrypt -in KEY -out PKCS8`"
    )]
    NotPkcs8(&'static str),
    /// A key of another kind, or a broken one.
    #[error("the private key is not an intact key of a supported kind ({0})")]
    Unsupported(&'static str, #[source] rcgen::Error),
    /// The request for a certificate cannot be signed.
    #[error("a certificate request cannot be signed")]
    Sign(#[source] rcgen::Error),
}

/// A node's key: ECDSA P-256, PKCS#8. Debug shows only the node ID.
pub struct NodeKey {
    pair: KeyPair,
    node: NodeId,
}

impl NodeKey {
    /// A fresh key from the system's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self::of_pair)
            .map_err(KeyError::Generate)
    }

    /// The key in a `BEGIN PRIVATE KEY` block. Only P-256 is taken.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der = pkcs8_of_pem(pem)?;
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map(Self::of_pair)
            .map_err(|source| KeyError::Unsupported("a node's key is ECDSA P-256", source))
    }

    fn of_pair(pair: KeyPair) -> Self {
        let node = node_id_of_spki(&pair.subject_public_key_info());
        Self { pair, node }
    }

    /// The key as a `BEGIN PRIVATE KEY` block, wiped from memory when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.pair.serialize_pem())
    }

    /// The ID of the node that holds this key.
    pub const fn node_id(&self) -> NodeId {
        self.node
    }

    /// A request for a certificate (PKCS#10, DER). It proves possession of the key, and asks for nothing else:
    /// what the certificate says is the cluster's to decide.
    pub fn csr_der(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, self.node.to_string());
        let request = params
            .serialize_request(&self.pair)
            .map_err(KeyError::Sign)?;
        Ok(request.der().to_vec())
    }

    pub(super) fn spki_der(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    pub(super) fn private_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pair.serialize_der()).into()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.node)
    }
}

/// The node ID that belongs to a public key (SubjectPublicKeyInfo, DER): the first 16 bytes of its SHA-256.
pub fn node_id_of_spki(spki_der: &[u8]) -> NodeId {
    let hash = digest(&SHA256, spki_der);
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash.as_ref()[..16]);
    NodeId::from_bits(u128::from_be_bytes(bits))
}

/// The PKCS#8 key in a PEM text; the errors say how to convert what else people have.
pub(super) fn pkcs8_of_pem(pem: &str) -> Result<PrivatePkcs8KeyDer<'static>, KeyError> {
    if pem.contains("ENCRYPTED") {
        return Err(KeyError::Encrypted);
    }
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(KeyError::NotPem)? {
        PrivateKeyDer::Pkcs8(der) => Ok(der),
        PrivateKeyDer::Pkcs1(_) => Err(KeyError::NotPkcs8("PKCS#1 (RSA PRIVATE KEY)")),
        PrivateKeyDer::Sec1(_) => Err(KeyError::NotPkcs8("SEC1 (EC PRIVATE KEY)")),
        _ => Err(KeyError::NotPkcs8("an unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fixtures;

    #[test]
    fn a_node_id_is_the_first_half_of_the_hash_of_its_public_key() {
        // SHA-256 of nothing begins e3b0c44298fc1c149afbf4c8996fb924.
        let bits = 0xe3b0_c442_98fc_1c14_9afb_f4c8_996f_b924;
        assert_eq!(node_id_of_spki(b""), NodeId::from_bits(bits));
        let key = NodeKey::generate().unwrap();
        assert_eq!(key.node_id(), node_id_of_spki(&key.spki_der()));
    }

    #[test]
    fn a_key_survives_its_text_and_is_not_shown() {
        let key = NodeKey::generate().unwrap();
        let again = NodeKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.node_id(), key.node_id());
        assert_eq!(format!("{again:?}"), format!("NodeKey({})", key.node_id()));
        assert_ne!(NodeKey::generate().unwrap().node_id(), key.node_id());
    }

    #[test]
    fn other_keys_are_named_for_what_they_are() {
        let load = |name| NodeKey::from_pem(&fixtures::read(name)).unwrap_err();
        assert!(matches!(load("root.crt"), KeyError::NotPem(_)));
        assert!(matches!(load("own/rsa.key"), KeyError::Unsupported(..)));
        assert!(matches!(load("own/ed25519.key"), KeyError::Unsupported(..)));
        assert!(matches!(load("own/ec-sec1.key"), KeyError::NotPkcs8(_)));
        assert!(matches!(load("own/rsa-pkcs1.key"), KeyError::NotPkcs8(_)));
        assert!(matches!(load("own/ec-encrypted.key"), KeyError::Encrypted));
        let openssl = NodeKey::from_pem(&fixtures::read("own/ec.key"));
        assert!(openssl.is_ok(), "a key that openssl made");
    }
}
