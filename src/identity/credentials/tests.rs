//! Files that do not belong together, certificates that name no node, and words for each.

use std::error::Error;

use proptest::prelude::*;

use super::*;
use crate::identity::pem::certificate_pem;
use crate::identity::testing::*;
use crate::identity::{Authority, fixtures};

fn load(key: &str, chain: &str, roots: &str) -> Result<Credentials, CredentialsError> {
    Credentials::from_pem(
        &fixtures::read(key),
        &fixtures::read(chain),
        &fixtures::read(roots),
    )
}

#[test]
fn good_files_load_and_say_what_they_are() {
    let c = load("nodes/manager.key", "nodes/manager.crt", "root.crt").unwrap();
    assert_eq!(c.node(), c.key().node_id());
    assert_eq!(c.cluster(), CLUSTER);
    assert_eq!(c.standing(), Standing::Eligible);
    assert_eq!(c.not_before().to_string(), "2020-01-01T00:00:00Z");
    assert_eq!(c.not_after().to_string(), "2120-01-01T00:00:00Z");
    assert_eq!(c.chain_pem(), fixtures::read("nodes/manager.crt"));
    assert_eq!(c.roots_pem(), fixtures::read("root.crt"));
    let issuer = crate::identity::issuer_of(&fixtures::read("root.crt")).unwrap();
    assert_eq!(c.issuer(), issuer);
    assert!(!c.is_expired(NOW) && c.is_expired(c.not_after()));
    let half = c.renew_at(0.0);
    assert!(half > c.not_before() && half < c.not_after());
}

#[test]
fn debug_shows_no_key() {
    let c = load("nodes/manager.key", "nodes/manager.crt", "root.crt").unwrap();
    let shown = format!("{c:?} {:?}", c.key());
    assert!(shown.contains(&c.node().to_string()));
    assert!(!shown.contains("PRIVATE") && shown.len() < 600, "{shown}");
}

#[test]
fn an_expired_certificate_loads_because_renewal_begins_with_it() {
    let c = load("nodes/expired.key", "nodes/expired.crt", "root.crt").unwrap();
    assert!(c.is_expired(NOW));
    assert!(c.renew_at(1.0) < NOW);
}

#[test]
fn the_issuer_is_who_signed_not_who_is_named() {
    let old = Authority::generate(NOW).unwrap();
    let new = successor(&old, NOW);
    let both = [new.root(), old.root()];
    assert_eq!(member(&old, &both, NOW).issuer(), old.issuer());
    assert_eq!(member(&new, &both, NOW).issuer(), new.issuer());
    assert_eq!(member(&new, &[old.root()], NOW).issuer(), new.issuer());
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let cases = [
        (
            "root.crt",
            "nodes/manager.crt",
            "root.crt",
            "swarm-node.key",
        ),
        (
            "nodes/manager.key",
            "nodes/manager.key",
            "root.crt",
            "swarm-node.crt) cannot be read",
        ),
        (
            "nodes/manager.key",
            "nodes/manager.crt",
            "root.key",
            "swarm-root-ca.crt) cannot be read",
        ),
        (
            "nodes/worker.key",
            "nodes/manager.crt",
            "root.crt",
            "put back the files of one node",
        ),
        (
            "nodes/manager.key",
            "root.crt",
            "root.crt",
            "not one of a cluster's",
        ),
        (
            "nodes/manager.key",
            "nodes/manager.crt",
            "foreign-root.crt",
            "not issued by a root",
        ),
        (
            "own/rsa.key",
            "nodes/manager.crt",
            "root.crt",
            "swarm-node.key",
        ),
        (
            "nodes/wrong-role.key",
            "nodes/wrong-role.crt",
            "root.crt",
            "not one of a cluster's",
        ),
    ];
    for (key, chain, roots, words) in cases {
        let error = load(key, chain, roots).expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn what_a_certificate_lacks_is_named() {
    let problem = |name: &str| {
        let chain = certificates(&fixtures::read(&format!("nodes/{name}.crt"))).unwrap();
        PeerIdentity::from_chain(&chain).unwrap_err()
    };
    assert_eq!(problem("no-node"), CertificateProblem::NoNodeId);
    assert_eq!(problem("no-cluster"), CertificateProblem::NoCluster);
    let role = CertificateProblem::UnknownRole("swarm-guest".into());
    assert_eq!(problem("wrong-role"), role);
    let CertificateProblem::KeyMismatch { claimed, actual } = problem("key-mismatch") else {
        panic!("another problem");
    };
    assert_eq!(claimed, NodeId::from_bits(1));
    let key = NodeKey::from_pem(&fixtures::read("nodes/key-mismatch.key")).unwrap();
    assert_eq!(actual, key.node_id());
    assert_eq!(
        PeerIdentity::from_chain(&[]),
        Err(CertificateProblem::Missing)
    );
    let garbage = CertificateDer::from(b"no certificate".to_vec());
    assert_eq!(
        PeerIdentity::from_chain(&[garbage]),
        Err(CertificateProblem::Unreadable)
    );
}

#[test]
fn sources_are_chained_and_not_printed_twice() {
    let error = load("own/ec-sec1.key", "nodes/manager.crt", "root.crt").unwrap_err();
    let source = error.source().unwrap().to_string();
    assert!(!error.to_string().contains(&source));
    assert!(source.contains("openssl pkcs8"), "{source}");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = PeerIdentity::from_chain(&[CertificateDer::from(bytes)]);
    }

    #[test]
    fn a_changed_certificate_does_not_load(at: prop::sample::Index, bit in 0u8..8) {
        let mut chain = certificates(&fixtures::read("nodes/manager.crt")).unwrap();
        let mut leaf = chain[0].to_vec();
        let at = at.index(leaf.len());
        leaf[at] ^= 1 << bit;
        chain[0] = CertificateDer::from(leaf);
        let chain: String = chain.iter().map(|der| certificate_pem(der)).collect();
        let key = fixtures::read("nodes/manager.key");
        let loaded = Credentials::from_pem(&key, &chain, &fixtures::read("root.crt"));
        prop_assert!(loaded.is_err());
    }
}
