//! Members among themselves: valid certificates, removal, resumption, stolen certificates.

use std::sync::atomic::{AtomicBool, Ordering};

use rustls::HandshakeKind;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;

use super::*;
use crate::identity::{Authority, NodeKey, PeerIdentity, fixtures};
use crate::model::Standing;

#[test]
fn fixtures_of_members_meet_in_both_directions() {
    let manager = fixtures::credentials("nodes/manager", &["root.crt"]);
    let worker = fixtures::credentials("nodes/worker", &["root.crt"]);
    assert_met(&manager, &worker);
    assert_met(&worker, &manager);
    assert_eq!(manager.standing(), Standing::Eligible);
    assert_eq!(worker.standing(), Standing::Worker);
    assert_eq!(manager.cluster(), CLUSTER);
}

#[test]
fn without_another_clock_the_systems_counts() {
    let manager = fixtures::credentials("nodes/manager", &["root.crt"]);
    let expired = fixtures::credentials("nodes/expired", &["root.crt"]);
    let server = server_tls(&manager, none_removed()).unwrap();
    let good = client_tls(&manager, none_removed()).unwrap();
    assert!(handshake(&good, &server).server.is_ok());
    let bad = client_tls(&expired, none_removed()).unwrap();
    assert!(handshake(&bad, &server).server.is_err());
    let (join, _) = join_tls(RootDigest::of_pem(&fixtures::read("root.crt"))).unwrap();
    assert!(handshake(&join, &server).client.is_ok());
    let renew = renew_tls(&fixtures::read("root.crt")).unwrap();
    assert!(handshake(&renew, &server).client.is_ok());
    let expired = server_tls(&expired, none_removed()).unwrap();
    assert!(handshake(&good, &expired).client.is_err());
    assert!(handshake(&join, &expired).client.is_err());
    assert!(handshake(&renew, &expired).client.is_err());
}

#[test]
fn a_member_is_known_by_the_hash_of_its_key() {
    let authority = Authority::generate(NOW).unwrap();
    let (a, b) = (
        member(&authority, &[authority.root()], NOW),
        member(&authority, &[authority.root()], NOW),
    );
    let met = handshake(&client(&a), &server(&b));
    assert_eq!(met.client.unwrap().peer().node, b.key().node_id());
    assert_eq!(met.server.unwrap().peer().node, a.key().node_id());
}

#[test]
fn a_removed_node_is_refused_from_the_moment_of_its_removal_in_both_directions() {
    let authority = Authority::generate(NOW).unwrap();
    let ours = member(&authority, &[authority.root()], NOW);
    let theirs = member(&authority, &[authority.root()], NOW);
    let is_removed = Arc::new(AtomicBool::new(false));
    let removed: RemovedNodes = {
        let (is_removed, node) = (Arc::clone(&is_removed), theirs.node());
        Arc::new(move |asked| asked == node && is_removed.load(Ordering::SeqCst))
    };
    let our_server = server_tls_at(&ours, Arc::clone(&removed), clock_at(NOW)).unwrap();
    let our_client = client_tls_at(&ours, removed, clock_at(NOW)).unwrap();
    let (their_server, their_client) = (server(&theirs), client(&theirs));
    let before = handshake(&their_client, &our_server);
    assert_eq!(before.client.unwrap().kind, Some(HandshakeKind::Full));
    assert!(handshake(&our_client, &their_server).server.is_ok());

    is_removed.store(true, Ordering::SeqCst);
    let (inward, log) = logged(|| handshake(&their_client, &our_server));
    assert!(inward.server.is_err());
    let told = inward.client.unwrap_err();
    assert!(
        format!("{told:?}").contains("CertificateRevoked"),
        "{told:?}"
    );
    assert!(log.contains("removed node"), "{log}");
    let (outward, log) = logged(|| handshake(&our_client, &their_server));
    assert!(
        outward
            .client
            .unwrap_err()
            .to_string()
            .contains("removed node")
    );
    assert!(log.contains(&theirs.node().to_string()), "{log}");
}

#[test]
fn every_handshake_is_whole_so_that_none_skips_the_certificates() {
    let authority = Authority::generate(NOW).unwrap();
    let a = member(&authority, &[authority.root()], NOW);
    let b = member(&authority, &[authority.root()], NOW);
    let (a, b) = (client(&a), server(&b));
    for _ in 0..3 {
        let met = handshake(&a, &b);
        assert_eq!(met.client.unwrap().kind, Some(HandshakeKind::Full));
        assert_eq!(met.server.unwrap().kind, Some(HandshakeKind::Full));
    }
    assert_eq!(b.send_tls13_tickets, 0);
    assert!(!b.session_storage.can_cache());
    assert_eq!(b.max_early_data_size, 0);
    assert!(!a.enable_early_data);
}

#[derive(Debug)]
struct Stolen(Arc<CertifiedKey>);

impl ResolvesClientCert for Stolen {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn a_members_certificate_without_its_key_opens_nothing() {
    let authority = Authority::generate(NOW).unwrap();
    let victim = member(&authority, &[authority.root()], NOW);
    let target = member(&authority, &[authority.root()], NOW);
    let thief = NodeKey::generate().unwrap().private_der();
    let stolen = CertifiedKey::new(victim.shown_chain(), any_supported_type(&thief).unwrap());
    let mut config = client(&victim);
    config.client_auth_cert_resolver = Arc::new(Stolen(Arc::new(stolen)));
    let met = handshake(&config, &server(&target));
    assert!(met.server.is_err());
}

#[test]
fn a_stranger_passes_the_handshake_and_is_known_as_one() {
    let authority = Authority::generate(NOW).unwrap();
    let target = member(&authority, &[authority.root()], NOW);
    let mut config = renewer(target.roots_pem());
    for alpn in [ALPN_PEER, ALPN_JOIN] {
        config.alpn_protocols = vec![alpn.to_vec()];
        let met = handshake(&config, &server(&target));
        let seen = met.server.unwrap();
        assert_eq!(
            seen.chain, None,
            "the transport is to see that nobody was shown"
        );
        assert_eq!(seen.alpn.as_deref(), Some(alpn));
        let seen = met.client.unwrap();
        assert_eq!(
            PeerIdentity::from_chain(&seen.chain.unwrap()),
            Ok(target.identity())
        );
    }
}

#[test]
fn an_unknown_protocol_is_refused() {
    let authority = Authority::generate(NOW).unwrap();
    let a = member(&authority, &[authority.root()], NOW);
    let mut config = client(&a);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let met = handshake(&config, &server(&a));
    assert!(matches!(
        met.server,
        Err(rustls::Error::NoApplicationProtocol)
    ));
    let told = format!("{:?}", met.client.unwrap_err());
    assert!(told.contains("NoApplicationProtocol"), "{told}");
}
