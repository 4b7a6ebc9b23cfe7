//! Certificates, requests for them, and PEM files.
//!
//! An input is tried as DER and, when it is text, as PEM. Behind a signature or a hash no fuzzer finds its way, so each
//! DER input is also tried with its node ID set to that of its key and its signature made anew by the fixtures' root.

use std::sync::LazyLock;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use skein::identity::pem::{MAX_CERTIFICATES, certificate_pem, certificates};
use skein::identity::tls::server_tls;
use skein::identity::{
    Authority, CaError, CertificateProblem, Credentials, NodeKey, PeerIdentity, RootDigest,
    RootFacts, check_own_root, issuer_of, node_of_csr, renew_tls,
};
use skein::model::cluster::Secret;
use skein::model::{RootCa, Timestamp};

use super::assert_one_line;

pub(super) const ROOT: &str = include_str!("../../../certs/root.crt");
const ROOT_KEY: &str = include_str!("../../../certs/root.key");
pub(super) const NODE: &str = include_str!("../../../certs/nodes/manager.crt");
pub(super) const NODE_KEY: &str = include_str!("../../../certs/nodes/manager.key");

static ROOT_SIGNER: LazyLock<EcdsaKeyPair> = LazyLock::new(|| signer_of(ROOT_KEY));
static NODE_SIGNER: LazyLock<EcdsaKeyPair> = LazyLock::new(|| signer_of(NODE_KEY));

/// A day on which the fixtures are in time.
const NOW: Timestamp = Timestamp::from_nanos(1_907_755_200 * 1_000_000_000);

/// Panics when a parser of certificates breaks a promise on this input.
pub fn check(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        of_pem(text);
    }
    if data.is_empty() {
        return;
    }
    if !of_der(data) {
        return;
    }
    let honest = with_own_id(data);
    for (der, key) in [(&honest[..], &*ROOT_SIGNER), (data, &*NODE_SIGNER)] {
        if let Some(signed) = signed_anew(der, key) {
            of_der(&signed);
            of_member(&signed);
        }
    }
}

fn of_pem(text: &str) {
    let Ok(found) = certificates(text) else {
        return;
    };
    assert!((1..=MAX_CERTIFICATES).contains(&found.len()));
    let written: String = found.iter().map(|der| certificate_pem(der)).collect();
    let again = certificates(&written).expect("what was written can be read");
    assert_eq!(again, found);
    if let Ok(key) = NodeKey::from_pem(text) {
        let again = NodeKey::from_pem(&key.to_pem()).expect("what was written can be read");
        assert_eq!(again.node_id(), key.node_id());
    }
    let _ = renew_tls(text);
    let _ = check_own_root(text, text, NOW);
    let _ = Credentials::from_pem(text, text, text);
}

/// Whether it is a certificate or a request for one, at least by its form.
fn of_der(der: &[u8]) -> bool {
    let request = node_of_csr(der);
    let pem = certificate_pem(der);
    let chain = certificates(&pem).expect("what was written can be read");
    assert_eq!(chain[0].as_ref(), der);
    let identity = PeerIdentity::from_chain(&chain);
    if let Err(problem) = &identity {
        assert_one_line(&problem.to_string());
    }
    match RootFacts::of_pem(&pem) {
        Ok(facts) => of_root(&pem, &facts),
        Err(_) => {
            assert!(issuer_of(&pem).is_err());
            assert_eq!(identity, Err(CertificateProblem::Unreadable));
        }
    }
    identity != Err(CertificateProblem::Unreadable) || !matches!(request, Err(CaError::Request))
}

/// A certificate as a root that a user brings, and that takes over from another.
fn of_root(pem: &str, facts: &RootFacts) {
    static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
        Authority::load(&root_of(ROOT)).expect("the fixture is a root with its key")
    });
    if let Ok(cross) = AUTHORITY.cross_sign(&root_of(pem), NOW) {
        let crossed = RootFacts::of_pem(&cross).expect("what was signed can be read");
        assert_eq!(
            crossed.subject_der, facts.subject_der,
            "names are compared byte for byte"
        );
        assert_eq!(crossed.public_key_der, facts.public_key_der);
        assert!(crossed.not_after > NOW && crossed.not_after <= facts.not_after);
    }
    if let Ok(root) = check_own_root(pem, ROOT_KEY, NOW) {
        let authority = Authority::load(&root).expect("a root that was found good can sign");
        assert_eq!(
            issuer_of(&root.cert_pem).ok().as_deref(),
            Some(authority.issuer())
        );
        assert_eq!(RootDigest::of_pem(&root.cert_pem), RootDigest::of_pem(pem));
    }
}

/// A certificate as a node finds it on its disk, or is sent it.
fn of_member(der: &[u8]) {
    let pem = certificate_pem(der);
    for roots in [ROOT, &pem] {
        if let Ok(credentials) = Credentials::from_pem(NODE_KEY, &(pem.clone() + ROOT), roots) {
            assert_eq!(credentials.node(), credentials.key().node_id());
            assert!(credentials.renew_at(0.5) <= credentials.not_after());
            let nobody = std::sync::Arc::new(|_| false);
            server_tls(&credentials, nobody).expect("good credentials serve");
        }
    }
}

fn root_of(pem: &str) -> RootCa {
    RootCa {
        cert_pem: pem.to_owned(),
        key_pem: Secret(ROOT_KEY.to_owned()),
        cross_pem: String::new(),
    }
}

/// The certificate with the node ID of its own key in place of the one that it claims: both are equally long.
fn with_own_id(der: &[u8]) -> Vec<u8> {
    let mut der = der.to_vec();
    let chain = certificates(&certificate_pem(&der)).expect("what was written can be read");
    if let Err(CertificateProblem::KeyMismatch { claimed, actual }) =
        PeerIdentity::from_chain(&chain)
    {
        let (claimed, actual) = (claimed.to_string(), actual.to_string());
        let places: Vec<usize> = (der.windows(claimed.len()).enumerate())
            .filter_map(|(at, bytes)| (bytes == claimed.as_bytes()).then_some(at))
            .collect();
        for at in places {
            der[at..at + actual.len()].copy_from_slice(actual.as_bytes());
        }
    }
    der
}

/// The first element of a sequence, be it a certificate's or a request's content, signed anew.
fn signed_anew(der: &[u8], key: &EcdsaKeyPair) -> Option<Vec<u8>> {
    const ECDSA_WITH_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    let (header, len) = element_at(der)?;
    let inside = &der[header..header + len];
    let (header, len) = element_at(inside)?;
    let content = &inside[..header + len];
    let signature = key
        .sign(&SystemRandom::new(), content)
        .expect("the system gives randomness");
    let bits = element(0x03, &[&[0], signature.as_ref()].concat());
    Some(element(0x30, &[content, ECDSA_WITH_SHA256, &bits].concat()))
}

/// Bytes of the header and of the content of the DER element that `der` begins with, if it is all there.
fn element_at(der: &[u8]) -> Option<(usize, usize)> {
    let (header, len) = match *der {
        [_, len @ 0..=0x7f, ..] => (2, usize::from(len)),
        [_, 0x81, len, ..] => (3, usize::from(len)),
        [_, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        _ => return None,
    };
    (der.len() >= header + len).then_some((header, len))
}

/// A DER element of less than 64 KiB.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).expect("inputs are short");
    let [high, low] = len.to_be_bytes();
    let header = match len {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&header, content].concat()
}

fn signer_of(key_pem: &str) -> EcdsaKeyPair {
    let der = PrivatePkcs8KeyDer::from_pem_slice(key_pem.as_bytes()).expect("the fixture is PEM");
    let der = der.secret_pkcs8_der();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &SystemRandom::new())
        .expect("the fixture is a P-256 key")
}
