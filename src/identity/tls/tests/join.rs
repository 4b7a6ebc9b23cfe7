//! Joining with nothing but a token, and renewing what has expired.

use super::*;
use crate::identity::{Authority, Grant, fixtures};
use crate::model::Standing;

#[test]
fn a_joiner_learns_the_root_that_its_token_names() {
    let authority = Authority::generate(NOW).unwrap();
    let target = member(&authority, &[authority.root()], NOW);
    let (config, learned) = joiner(RootDigest::of_pem(&authority.root().cert_pem));
    assert_eq!(learned.pem(), None);
    let met = handshake(&config, &server(&target));
    assert_eq!(met.client.unwrap().alpn.as_deref(), Some(ALPN_JOIN));
    assert_eq!(met.server.unwrap().chain, None);
    assert_eq!(learned.pem().as_ref(), Some(&authority.root().cert_pem));
    assert_eq!(learned.refusal(), None);
}

#[test]
fn a_token_of_another_root_stops_at_the_handshake() {
    let (authority, another) = (
        Authority::generate(NOW).unwrap(),
        Authority::generate(NOW).unwrap(),
    );
    let target = member(&authority, &[authority.root()], NOW);
    let (config, learned) = joiner(RootDigest::of_pem(&another.root().cert_pem));
    let (met, log) = logged(|| handshake(&config, &server(&target)));
    let error = met.client.unwrap_err().to_string();
    assert!(
        error.contains("remote CA does not match fingerprint"),
        "{error}"
    );
    assert!(error.contains("`skein token`"), "{error}");
    assert!(
        log.contains("remote CA does not match fingerprint"),
        "{log}"
    );
    assert_eq!(learned.refusal(), Some(Refusal::NotTheTokensRoot));
    assert_eq!(learned.pem(), None);
}

#[test]
fn showing_the_right_root_is_not_enough() {
    let (authority, another) = (
        Authority::generate(NOW).unwrap(),
        Authority::generate(NOW).unwrap(),
    );
    // In the middle sits a member of another cluster, that appends the root it was asked for.
    let middle = member(&another, &[another.root(), authority.root()], NOW);
    let (config, learned) = joiner(RootDigest::of_pem(&authority.root().cert_pem));
    let met = handshake(&config, &server(&middle));
    assert!(met.client.is_err());
    assert_eq!(learned.refusal(), Some(Refusal::ForeignRoot));
    assert_eq!(learned.pem(), None);
}

#[test]
fn a_token_with_the_digest_of_a_brought_root_works() {
    let root = crate::identity::check_own_root(
        &fixtures::read("own/rsa.crt").replace('\n', "\r\n"),
        &fixtures::read("own/rsa.key"),
        NOW,
    )
    .unwrap();
    let authority = Authority::load(&root).unwrap();
    let target = member(&authority, &[&root], NOW);
    let (config, learned) = joiner(RootDigest::of_pem(&root.cert_pem));
    assert!(handshake(&config, &server(&target)).client.is_ok());
    assert_eq!(learned.pem(), Some(root.cert_pem));
}

#[test]
fn a_node_that_slept_past_its_certificate_gets_another() {
    let authority = Authority::generate(NOW).unwrap();
    let asleep = member(&authority, &[authority.root()], NOW);
    let later = NOW.after(200 * DAY);
    let awake = member(&authority, &[authority.root()], later);
    assert!(asleep.is_expired(later) && !awake.is_expired(later));

    // Files on disk load whatever their age; as a member it is refused …
    let asleep = Credentials::from_pem(
        &asleep.key().to_pem(),
        asleep.chain_pem(),
        asleep.roots_pem(),
    )
    .unwrap();
    let met = handshake(&client_at(&asleep, later), &server_at(&awake, later));
    assert!(met.server.is_err());

    // … at the other door it asks with its key, and the issuer finds the same node in the request.
    let config = renew_tls_at(asleep.roots_pem(), clock_at(later)).unwrap();
    assert_eq!(config.alpn_protocols, [ALPN_JOIN]);
    let met = handshake(&config, &server_at(&awake, later));
    assert_eq!(met.client.unwrap().peer(), awake.identity());
    let grant = Grant {
        cluster: CLUSTER,
        standing: Standing::Eligible,
        now: later,
        validity: 90 * DAY,
    };
    let issued = authority
        .issue(&asleep.key().csr_der().unwrap(), &grant)
        .unwrap();
    assert_eq!(issued.node, asleep.node());
    let back = Credentials::from_pem(
        &asleep.key().to_pem(),
        &issued.chain_pem,
        asleep.roots_pem(),
    )
    .unwrap();
    let met = handshake(&client_at(&back, later), &server_at(&awake, later));
    assert_eq!(met.server.unwrap().peer().node, asleep.node());
}

#[test]
fn renewal_is_asked_only_of_the_own_cluster() {
    let (ours, theirs) = (
        Authority::generate(NOW).unwrap(),
        Authority::generate(NOW).unwrap(),
    );
    let stranger = member(&theirs, &[theirs.root()], NOW);
    let (met, log) = logged(|| handshake(&renewer(&ours.root().cert_pem), &server(&stranger)));
    assert!(met.client.is_err());
    assert!(log.contains("foreign root"), "{log}");
}

#[test]
fn roots_that_cannot_be_read_are_named() {
    assert!(matches!(renew_tls("nothing"), Err(TlsError::Roots(_))));
    let no_certificate = crate::identity::pem::certificate_pem(b"no certificate");
    assert!(matches!(renew_tls(&no_certificate), Err(TlsError::Root(_))));
}
