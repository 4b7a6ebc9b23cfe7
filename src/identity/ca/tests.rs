//! What certificates say, which requests get one, which roots are taken.

use proptest::prelude::*;
use rcgen::{CertificateParams, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use x509_parser::extensions::GeneralName;

use super::*;
use crate::identity::credentials::PeerIdentity;
use crate::identity::fixtures;
use crate::identity::key::NodeKey;
use crate::identity::testing::*;
use crate::wire::SERVER_NAME;

fn grant(validity: Duration) -> Grant {
    Grant {
        cluster: CLUSTER,
        standing: Standing::Worker,
        now: NOW,
        validity,
    }
}

fn leaf_of(issued: &Issued) -> CertificateDer<'static> {
    certificates(&issued.chain_pem).unwrap().remove(0)
}

#[test]
fn a_certificate_says_what_swarms_say() {
    let authority = Authority::generate(NOW).unwrap();
    let key = NodeKey::generate().unwrap();
    let issued = authority
        .issue(&key.csr_der().unwrap(), &grant(90 * DAY))
        .unwrap();
    assert_eq!(issued.node, key.node_id());
    assert_eq!(
        issued.issuer,
        issuer_of(&authority.root().cert_pem).unwrap()
    );
    assert_eq!(issued.not_after, NOW.after(90 * DAY));

    let der = leaf_of(&issued);
    let cert = parse(&der).unwrap();
    let subject = format!("O={CLUSTER}, OU=swarm-worker, CN={}", key.node_id());
    assert_eq!(cert.subject().to_string(), subject);
    assert_eq!(cert.issuer().to_string(), "CN=swarm-ca");
    assert_eq!(cert.validity().not_before.timestamp(), ago(HOUR).secs());
    assert_eq!(
        cert.validity().not_after.timestamp(),
        issued.not_after.secs()
    );
    let names = cert.subject_alternative_name().unwrap().unwrap();
    let node_name = key.node_id().to_string();
    assert_eq!(
        names.value.general_names,
        [
            GeneralName::DNSName(SERVER_NAME),
            GeneralName::DNSName(&node_name)
        ]
    );
    let usage = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    assert!(!cert.is_ca());

    let peer = PeerIdentity::from_chain(&certificates(&issued.chain_pem).unwrap()).unwrap();
    assert_eq!(peer.standing, Standing::Worker);
    assert_eq!(peer.not_after, issued.not_after);
}

#[test]
fn the_words_for_both_standings_are_swarms() {
    assert_eq!(standing_word(Standing::Worker), "swarm-worker");
    assert_eq!(standing_word(Standing::Eligible), "swarm-manager");
}

#[test]
fn the_chain_is_leaf_crossings_root_in_canonical_form() {
    let old = Authority::generate(NOW).unwrap();
    let new = successor(&old, NOW);
    let key = NodeKey::generate().unwrap();
    let issued = new.issue(&key.csr_der().unwrap(), &grant(DAY)).unwrap();
    let chain = certificates(&issued.chain_pem).unwrap();
    let rewritten: String = chain.iter().map(|der| certificate_pem(der)).collect();
    assert_eq!(issued.chain_pem, rewritten);
    assert_eq!(chain.len(), 3);
    assert_eq!(certificate_pem(&chain[1]), new.root().cross_pem);
    assert_eq!(certificate_pem(&chain[2]), new.root().cert_pem);
    let (cross, root) = (parse(&chain[1]).unwrap(), parse(&chain[2]).unwrap());
    assert_eq!(cross.subject().as_raw(), root.subject().as_raw());
    assert_eq!(cross.public_key().raw, root.public_key().raw);
}

#[test]
fn a_root_is_made_for_twenty_years_and_loads_again() {
    let authority = Authority::generate(NOW).unwrap();
    let facts = RootFacts::of_pem(&authority.root().cert_pem).unwrap();
    assert_eq!(facts.not_after, NOW.after(ROOT_LIFE));
    assert_eq!(hex_sha256(&facts.public_key_der), authority.issuer());
    assert!(facts.subject_der.ends_with(b"swarm-ca"));
    let again = Authority::load(authority.root()).unwrap();
    assert_eq!(again.issuer(), authority.issuer());
    let shown = format!("{again:?}");
    assert_eq!(shown, format!("Authority({})", authority.issuer()));
}

#[test]
fn each_certificate_has_its_own_serial_number() {
    let authority = Authority::generate(NOW).unwrap();
    let csr = NodeKey::generate().unwrap().csr_der().unwrap();
    let serial = || {
        let der = leaf_of(&authority.issue(&csr, &grant(DAY)).unwrap());
        let cert = parse(&der).unwrap();
        assert!(cert.raw_serial().len() <= 20 && cert.raw_serial()[0] & 0x80 == 0);
        cert.raw_serial().to_vec()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn no_certificate_outlives_its_root() {
    let authority = Authority::generate(NOW).unwrap();
    let csr = NodeKey::generate().unwrap().csr_der().unwrap();
    let issued = authority.issue(&csr, &grant(2 * ROOT_LIFE)).unwrap();
    assert_eq!(issued.not_after, NOW.after(ROOT_LIFE));
    let late = Grant {
        now: NOW.after(ROOT_LIFE),
        ..grant(DAY)
    };
    assert!(matches!(
        authority.issue(&csr, &late),
        Err(CaError::Ended(_))
    ));
    let next = Authority::generate(NOW).unwrap();
    assert!(matches!(
        authority.cross_sign(next.root(), late.now),
        Err(CaError::Ended(_))
    ));
    let none = grant(Duration::from_millis(900));
    assert!(matches!(authority.issue(&csr, &none), Err(CaError::NoTime)));
}

#[test]
fn a_request_must_be_signed_by_the_key_it_is_for() {
    let authority = Authority::generate(NOW).unwrap();
    let mut csr = NodeKey::generate().unwrap().csr_der().unwrap();
    assert!(node_of_csr(&csr).is_ok());
    let last = csr.len() - 1;
    csr[last] ^= 1;
    assert!(matches!(node_of_csr(&csr), Err(CaError::RequestSignature)));
    assert!(matches!(
        authority.issue(&csr, &grant(DAY)),
        Err(CaError::RequestSignature)
    ));
}

#[test]
fn only_requests_of_the_one_kind_of_key_are_taken() {
    for kind in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let pair = KeyPair::generate_for(kind).unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&pair)
            .unwrap();
        assert!(matches!(node_of_csr(csr.der()), Err(CaError::RequestKey)));
    }
    assert!(matches!(node_of_csr(b""), Err(CaError::Request)));
    let mut trailing = NodeKey::generate().unwrap().csr_der().unwrap();
    trailing.push(0);
    assert!(matches!(node_of_csr(&trailing), Err(CaError::Request)));
}

#[test]
fn what_a_request_asks_for_is_not_what_it_gets() {
    let authority = Authority::generate(NOW).unwrap();
    let pair = KeyPair::generate().unwrap();
    let mut wish = ca_params(0, params::LAST_SECOND);
    let name = &mut wish.distinguished_name;
    name.push(DnType::CommonName, "0000000000000000000000001");
    name.push(DnType::OrganizationalUnitName, "swarm-manager");
    wish.serial_number = None;
    let csr = wish.serialize_request(&pair).unwrap();
    let issued = authority.issue(csr.der(), &grant(DAY)).unwrap();
    assert_eq!(
        issued.node,
        node_id_of_spki(&pair.subject_public_key_info())
    );
    let der = leaf_of(&issued);
    let cert = parse(&der).unwrap();
    assert!(!cert.is_ca());
    let peer = PeerIdentity::from_chain(std::slice::from_ref(&der)).unwrap();
    assert_eq!((peer.node, peer.standing), (issued.node, Standing::Worker));
}

#[test]
fn a_stored_root_must_be_whole() {
    let (one, two) = (
        Authority::generate(NOW).unwrap().root().clone(),
        Authority::generate(NOW).unwrap().root().clone(),
    );
    let load = |cert_pem: &str, key_pem: &str| {
        Authority::load(&RootCa {
            cert_pem: cert_pem.to_owned(),
            key_pem: Secret(key_pem.to_owned()),
            cross_pem: String::new(),
        })
        .map(|_| ())
    };
    assert!(load(&one.cert_pem, &one.key_pem.0).is_ok());
    let mixed = load(&one.cert_pem, &two.key_pem.0);
    assert!(matches!(mixed, Err(CaError::KeyMismatch)));
    let bundle = load(&(one.cert_pem.clone() + &two.cert_pem), &one.key_pem.0);
    assert!(matches!(bundle, Err(CaError::NotAlone(2))));
    let no_cert = load(&one.key_pem.0, &one.key_pem.0);
    assert!(matches!(no_cert, Err(CaError::Pem(PemProblem::Empty))));
    let no_key = load(&one.cert_pem, &one.cert_pem);
    assert!(matches!(no_key, Err(CaError::Key(KeyError::NotPem(_)))));
    let damaged = load(&certificate_pem(b"no certificate"), &one.key_pem.0);
    assert!(matches!(damaged, Err(CaError::Damaged(_))));
}

fn own(cert: &str, key: &str) -> Result<RootCa, CaError> {
    let cert = fixtures::read(&format!("own/{cert}.crt"));
    check_own_root(&cert, &fixtures::read(&format!("own/{key}.key")), NOW)
}

#[test]
fn good_roots_of_each_kind_are_taken_and_issue() {
    for name in ["ec", "rsa", "ed25519"] {
        let root = own(name, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let authority = Authority::load(&root).unwrap();
        let credentials = member(&authority, &[&root], NOW);
        assert_eq!(credentials.issuer(), issuer_of(&root.cert_pem).unwrap());
    }
}

#[test]
fn the_text_of_a_brought_root_is_brought_into_one_form() {
    let text = fixtures::read("own/ec.crt");
    let key = fixtures::read("own/ec.key");
    let plain = check_own_root(&text, &key, NOW).unwrap();
    let decorated = format!("Example root\r\n{}\r\n\r\n", text.replace('\n', "\r\n"));
    assert_eq!(check_own_root(&decorated, &key, NOW).unwrap(), plain);
    assert_eq!(plain.cert_pem, text, "openssl writes the same form");
}

#[test]
fn each_bad_root_is_refused_with_what_to_do() {
    let cases = [
        ("not-a-ca", "not-a-ca", "the certificate is no CA"),
        (
            "no-cert-sign",
            "no-cert-sign",
            "key usage does not include certificate signing",
        ),
        (
            "intermediate",
            "intermediate",
            "not self-signed: give a root",
        ),
        ("expired", "expired", "expired at 2020-12-31T00:00:00Z"),
        (
            "not-begun",
            "not-begun",
            "valid only from 2119-01-01T00:00:00Z on",
        ),
        (
            "ends-soon",
            "ends-soon",
            "ends at 2030-07-05T12:00:00Z, within 30 days",
        ),
        ("nameless", "nameless", "it is empty"),
        ("twice", "ec", "an attribute occurs twice"),
        ("name-constraints", "name-constraints", "do not verify"),
        ("ec", "expired", "does not belong to the root certificate"),
        ("rsa", "ec", "does not belong to the root certificate"),
    ];
    for (cert, key, words) in cases {
        let error = own(cert, key).expect_err(cert).to_string();
        assert!(error.contains(words), "{cert}: {error}");
    }
    let keys = [
        ("ec-sec1", "`openssl pkcs8 -topk8"),
        ("rsa-pkcs1", "`openssl pkcs8 -topk8"),
        ("ec-encrypted", "encrypted: decrypt it first"),
    ];
    for (key, words) in keys {
        let error = own("ec", key).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(words), "{key}: {source}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_times_panic(now: i128, validity: u64) {
        let authority = Authority::generate(NOW).unwrap();
        let csr = NodeKey::generate().unwrap().csr_der().unwrap();
        let grant = Grant {
            now: Timestamp::from_nanos(now),
            validity: Duration::from_secs(validity),
            ..grant(DAY)
        };
        let _ = authority.issue(&csr, &grant);
        let _ = authority.cross_sign(authority.root(), grant.now);
        let _ = Authority::generate(grant.now);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = node_of_csr(&bytes);
        let _ = issuer_of(&certificate_pem(&bytes));
    }

    #[test]
    fn a_changed_request_speaks_for_nobody_else(at: prop::sample::Index, bit in 0u8..8) {
        let key = NodeKey::generate().unwrap();
        let mut csr = key.csr_der().unwrap();
        let at = at.index(csr.len());
        csr[at] ^= 1 << bit;
        // Outside of what is signed, an encoding may be odd and still be read.
        if let Ok(node) = node_of_csr(&csr) {
            prop_assert_eq!(node, key.node_id());
        }
    }
}
