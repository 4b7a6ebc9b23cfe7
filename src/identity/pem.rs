//! Certificates as PEM text: read leniently, written in one form only.
//!
//! Join tokens carry the hash of a root's PEM text, so there must be exactly one text for each root: 64 columns, line
//! feeds, one block, as Go's and OpenSSL's writers make it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Certificates that one PEM text may hold; a chain or a set of roots has a handful.
pub const MAX_CERTIFICATES: usize = 16;

/// Why a text is no list of certificates.
#[derive(Debug, thiserror::Error)]
pub enum PemProblem {
    /// A block is broken.
    #[error("the PEM text is damaged")]
    Damaged(#[source] rustls::pki_types::pem::Error),
    /// No `BEGIN CERTIFICATE` in it.
    #[error("the text holds no certificate in PEM form")]
    Empty,
    /// More than [`MAX_CERTIFICATES`].
    #[error("the text holds more than {MAX_CERTIFICATES} certificates")]
    TooMany,
}

/// All certificates in a PEM text, at least one; blocks of other kinds and text between blocks are passed over.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PemProblem> {
    let mut found = Vec::new();
    for item in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        if found.len() == MAX_CERTIFICATES {
            return Err(PemProblem::TooMany);
        }
        found.push(item.map_err(PemProblem::Damaged)?);
    }
    if found.is_empty() {
        return Err(PemProblem::Empty);
    }
    Ok(found)
}

/// The PEM text of one certificate.
pub fn certificate_pem(der: &[u8]) -> String {
    const COLUMNS: usize = 64;
    let body = STANDARD.encode(der);
    let mut pem = String::with_capacity(body.len() + body.len() / COLUMNS + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(COLUMNS));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn written_certificates_are_read_back(ders in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 1..200), 1..MAX_CERTIFICATES))
        {
            let text: String = ders.iter().map(|der| certificate_pem(der)).collect();
            let read = certificates(&text).unwrap();
            prop_assert_eq!(read.iter().map(|der| der.to_vec()).collect::<Vec<_>>(), ders);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = certificates(&text);
            let _ = certificates(&format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"));
        }
    }

    #[test]
    fn other_blocks_and_carriage_returns_do_not_matter() {
        let text = certificate_pem(b"abc").replace('\n', "\r\n");
        let text = format!("Subject: somebody\n-----BEGIN X-----\nAAAA\n-----END X-----\n{text}");
        assert_eq!(certificates(&text).unwrap()[0].as_ref(), b"abc");
    }

    #[test]
    fn what_is_no_list_of_certificates_is_named() {
        assert!(matches!(certificates("hello"), Err(PemProblem::Empty)));
        let many = certificate_pem(b"abc").repeat(MAX_CERTIFICATES + 1);
        assert!(matches!(certificates(&many), Err(PemProblem::TooMany)));
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(certificates(cut), Err(PemProblem::Damaged(_))));
    }
}
