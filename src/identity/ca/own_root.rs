//! Whether a root that the user brings is good enough, judged before anything rests on it.
//!
//! Called for `skein init --ca-cert --ca-key` and `docker swarm ca --rotate --ca-cert --ca-key`.

use std::time::Duration;

use rcgen::{DistinguishedName, DnType, DnValue, PublicKeyData, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Oid, Tag};
use x509_parser::prelude::X509Certificate;

use super::{Authority, CaError, Grant, certificate_pem, one_certificate, parse, timestamp};
use crate::identity::key::NodeKey;
use crate::identity::pem::certificates;
use crate::identity::tls::verifies;
use crate::model::cluster::Secret;
use crate::model::{ClusterId, RootCa, Standing, Timestamp};

/// What a brought root must still live: time to notice that it ends, and to rotate.
const MIN_DAYS: u64 = 30;

/// The root that a user brings, checked: one self-signed CA certificate that is in time and lives on for at least 30
/// days, the key that belongs to it, and proof by a trial that what it issues verifies.
///
/// The certificate's text is brought into the one form that join tokens are made from.
pub fn check_own_root(cert_pem: &str, key_pem: &str, now: Timestamp) -> Result<RootCa, CaError> {
    let der = one_certificate(cert_pem)?;
    let cert = parse(&der)?;
    check_is_ca(&cert)?;
    if cert.issuer().as_raw() != cert.subject().as_raw() || cert.verify_signature(None).is_err() {
        return Err(CaError::NotSelfSigned);
    }
    check_times(&cert, now)?;
    subject_of(&cert)?;
    key_of(&cert)?;
    let root = RootCa {
        cert_pem: certificate_pem(&der),
        key_pem: Secret(key_pem.to_owned()),
        cross_pem: String::new(),
    };
    try_out(&Authority::load(&root)?, &der, now)?;
    Ok(root)
}

fn check_is_ca(cert: &X509Certificate<'_>) -> Result<(), CaError> {
    let is_ca = cert
        .basic_constraints()
        .ok()
        .flatten()
        .is_some_and(|extension| extension.value.ca);
    if !is_ca {
        return Err(CaError::NotCa("its basic constraints do not say CA:TRUE"));
    }
    match cert.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => Err(CaError::NotCa(
            "its key usage does not include certificate signing",
        )),
        Err(_) => Err(CaError::NotCa("its key usage cannot be read")),
        Ok(_) => Ok(()),
    }
}

fn check_times(cert: &X509Certificate<'_>, now: Timestamp) -> Result<(), CaError> {
    let begins = timestamp(cert.validity().not_before.timestamp());
    let ends = timestamp(cert.validity().not_after.timestamp());
    if ends <= now {
        return Err(CaError::Ended(ends));
    }
    if begins > now {
        return Err(CaError::NotBegun(begins));
    }
    if ends.since(now) < Duration::from_secs(MIN_DAYS * 24 * 3600) {
        return Err(CaError::EndsSoon(ends, MIN_DAYS));
    }
    Ok(())
}

/// The subject in the form that it is written into other certificates with.
///
/// Peers compare names byte for byte, so a name that would be written differently is refused.
pub(super) fn subject_of(cert: &X509Certificate<'_>) -> Result<DistinguishedName, CaError> {
    let mut name = DistinguishedName::new();
    for part in cert.subject().iter() {
        let mut attributes = part.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err(CaError::Subject("a part of it has several attributes"));
        };
        let kind = kind_of(attribute.attr_type()).ok_or(CaError::Subject(
            "it has an attribute of an impossible kind",
        ))?;
        if name.get(&kind).is_some() {
            return Err(CaError::Subject("an attribute occurs twice"));
        }
        let value = text_of(attribute.attr_value())
            .ok_or(CaError::Subject("it has a text of an unusual kind"))?;
        name.push(kind, value);
    }
    if name.iter().next().is_none() {
        return Err(CaError::Subject("it is empty"));
    }
    Ok(name)
}

/// The public key, to be certified by another root.
///
/// A root is known by the hash of its key's bytes, so a key that would be written differently is refused.
pub(super) fn key_of(cert: &X509Certificate<'_>) -> Result<SubjectPublicKeyInfo, CaError> {
    let raw = cert.public_key().raw;
    let key = SubjectPublicKeyInfo::from_der(raw).map_err(CaError::Sign)?;
    if key.subject_public_key_info() != raw {
        return Err(CaError::KeyForm);
    }
    Ok(key)
}

/// `None` for an object identifier that cannot be written: the writer of certificates trusts whoever calls it.
fn kind_of(oid: &Oid<'_>) -> Option<DnType> {
    let arcs: Vec<u64> = oid.iter()?.collect();
    match arcs[..] {
        [0 | 1, 0..40, ..] | [2, _, ..] => Some(DnType::from_oid(&arcs)),
        _ => None,
    }
}

fn text_of(value: &Any<'_>) -> Option<DnValue> {
    let text = std::str::from_utf8(value.data).ok()?;
    match value.tag() {
        Tag::Utf8String => Some(DnValue::Utf8String(text.to_owned())),
        Tag::PrintableString => text.try_into().ok().map(DnValue::PrintableString),
        Tag::Ia5String => text.try_into().ok().map(DnValue::Ia5String),
        _ => None,
    }
}

/// A trial: issues a certificate and verifies it as a peer would, then certifies the root as another would when this one
/// takes over.
fn try_out(
    authority: &Authority,
    root: &CertificateDer<'_>,
    now: Timestamp,
) -> Result<(), CaError> {
    let key = NodeKey::generate().map_err(CaError::Generate)?;
    let grant = Grant {
        cluster: ClusterId::default(),
        standing: Standing::Eligible,
        now,
        validity: Duration::from_secs(3600),
    };
    let issued = authority.issue(&key.csr_der().map_err(CaError::Generate)?, &grant)?;
    let chain = certificates(&issued.chain_pem).map_err(CaError::Pem)?;
    verifies(&chain, std::slice::from_ref(root), now)
        .map_err(|why| CaError::Unusable(why.to_string()))?;
    authority.cross_sign(authority.root(), now).map(drop)
}
