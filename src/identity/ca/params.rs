//! The words and dates of certificates, before they are signed.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};

use super::{CaError, Grant};
use crate::model::{NodeId, Standing};
use crate::wire::SERVER_NAME;

/// The last second that a certificate can express: the end of the year 9999.
pub(super) const LAST_SECOND: i64 = 253_402_300_799;

/// What a certificate's OU says of a node.
pub(in crate::identity) const fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Worker => "swarm-worker",
        Standing::Eligible => "swarm-manager",
    }
}

/// A node's certificate, from and to these seconds of Unix time.
pub(in crate::identity) fn leaf_params(
    node: NodeId,
    grant: &Grant,
    begins: i64,
    ends: i64,
) -> Result<CertificateParams, CaError> {
    let names = vec![SERVER_NAME.to_owned(), node.to_string()];
    let mut params = CertificateParams::new(names).map_err(CaError::Sign)?;
    set_times(&mut params, begins, ends);
    let unit = standing_word(grant.standing);
    params.distinguished_name = DistinguishedName::new();
    let name = &mut params.distinguished_name;
    name.push(DnType::OrganizationName, grant.cluster.to_string());
    name.push(DnType::OrganizationalUnitName, unit);
    name.push(DnType::CommonName, node.to_string());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A CA's certificate without a name.
pub(in crate::identity) fn ca_params(begins: i64, ends: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    set_times(&mut params, begins, ends);
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Sets validity, and a random serial number: rcgen's own follows from the key, and renewals keep the key.
fn set_times(params: &mut CertificateParams, begins: i64, ends: i64) {
    let date = |secs: i64| {
        let secs = secs.clamp(0, LAST_SECOND).unsigned_abs();
        date_time_ymd(1970, 1, 1) + Duration::from_secs(secs)
    };
    params.not_before = date(begins);
    params.not_after = date(ends);
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}
