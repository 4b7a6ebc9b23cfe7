//! Requests for certificates (PKCS#10): all that is taken from one is the public key.

use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::CaError;
use crate::identity::key::node_id_of_spki;
use crate::model::NodeId;

/// The node that a request (PKCS#10, DER) speaks for. Its signature is checked.
pub fn node_of_csr(csr_der: &[u8]) -> Result<NodeId, CaError> {
    let key = key_of_csr(csr_der)?;
    Ok(node_id_of_spki(&key.subject_public_key_info()))
}

/// The key in a request, which has signed it.
pub(super) fn key_of_csr(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, CaError> {
    let Ok((rest, request)) = X509CertificationRequest::from_der(csr_der) else {
        return Err(CaError::Request);
    };
    if !rest.is_empty() {
        return Err(CaError::Request);
    }
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw);
    let Some(key) = key
        .ok()
        .filter(|key| key.algorithm() == &PKCS_ECDSA_P256_SHA256)
    else {
        return Err(CaError::RequestKey);
    };
    if request.verify_signature().is_err() {
        return Err(CaError::RequestSignature);
    }
    Ok(key)
}
