//! Changes of certificates and of roots, with some nodes off meanwhile.

use super::*;
use crate::identity::ca::MAX_CROSSINGS;
use crate::identity::{Authority, fixtures};

#[test]
fn a_renewed_certificate_serves_beside_the_old_one() {
    let authority = Authority::generate(NOW).unwrap();
    let root = authority.root();
    let (before, peer) = (
        member(&authority, &[root], ago(50 * DAY)),
        member(&authority, &[root], NOW),
    );
    let after = renewed(&authority, before.key(), &[root], NOW);
    assert_eq!(after.node(), before.node());
    assert!(after.not_after() > before.not_after());
    for credentials in [&before, &after] {
        assert_met(credentials, &peer);
        assert_met(&peer, credentials);
    }
}

#[test]
fn while_two_roots_are_trusted_members_of_either_meet() {
    let (one, two) = (
        Authority::generate(NOW).unwrap(),
        Authority::generate(NOW).unwrap(),
    );
    let both = [one.root(), two.root()];
    let (a, b) = (member(&one, &both, NOW), member(&two, &both, NOW));
    assert_met(&a, &b);
    assert_met(&b, &a);
    assert_eq!(a.issuer(), one.issuer());
    assert_eq!(b.issuer(), two.issuer());
}

#[test]
fn while_two_roots_are_trusted_tokens_of_either_open_a_renewed_node() {
    let old = Authority::generate(NOW).unwrap();
    let new = successor(&old, NOW);
    let target = member(&new, &[old.root(), new.root()], NOW);
    for root in [old.root(), new.root()] {
        let (config, learned) = joiner(RootDigest::of_pem(&root.cert_pem));
        assert!(handshake(&config, &server(&target)).client.is_ok());
        assert_eq!(learned.pem().as_ref(), Some(&root.cert_pem));
    }
    let moved_on = member(&new, &[new.root()], NOW);
    let (config, learned) = joiner(RootDigest::of_pem(&old.root().cert_pem));
    assert!(handshake(&config, &server(&moved_on)).client.is_err());
    assert_eq!(learned.refusal(), Some(Refusal::NotTheTokensRoot));
}

#[test]
fn a_node_that_was_off_during_a_rotation_finds_its_way_back() {
    let old = Authority::generate(ago(9 * DAY)).unwrap();
    let was_off = member(&old, &[old.root()], ago(9 * DAY));
    let new = successor(&old, ago(5 * DAY));
    let moved_on = member(&new, &[new.root()], ago(DAY));

    // It accepts the others, through the cross certificate; they do not accept it any more.
    let (met, log) = logged(|| handshake(&client(&was_off), &server(&moved_on)));
    assert!(met.server.is_err());
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains("side=\"client\"") && log.contains("foreign root"),
        "{log}"
    );
    let met = handshake(&renewer(was_off.roots_pem()), &server(&moved_on));
    assert_eq!(met.client.unwrap().peer(), moved_on.identity());

    // Its new certificate is good by its old roots already, and it is back.
    let back = renewed(&new, was_off.key(), &[old.root()], NOW);
    assert_eq!(back.node(), was_off.node());
    assert_eq!(back.issuer(), new.issuer());
    assert_met(&back, &moved_on);
}

#[test]
fn fixtures_of_a_rotation_verify_under_the_old_root_and_under_the_new() {
    let roots = ["root.crt", "next-root.crt"];
    let old = fixtures::credentials("nodes/manager", &roots[..1]);
    let by_cross = fixtures::credentials("nodes/after-rotation", &roots[..1]);
    assert_met(&by_cross, &old);
    assert_met(&old, &by_cross);
    let between = fixtures::credentials("nodes/manager", &roots);
    let renewed = fixtures::credentials("nodes/after-rotation", &roots);
    assert_met(&between, &renewed);
    assert_met(&renewed, &between);
    let new = fixtures::credentials("nodes/after-rotation", &roots[1..]);
    assert_met(&new, &renewed);
    let met = handshake(&client(&old), &server(&new));
    assert!(
        met.server.is_err(),
        "the new root alone does not vouch for the old one's"
    );
}

#[test]
fn several_rotations_may_be_slept_through_but_not_any_number() {
    let first = Authority::generate(NOW).unwrap();
    let was_off = first.root().cert_pem.clone();
    let mut latest = first;
    for rotations in 1..=MAX_CROSSINGS + 1 {
        latest = successor(&latest, NOW);
        let moved_on = member(&latest, &[latest.root()], NOW);
        let met = handshake(&renewer(&was_off), &server(&moved_on));
        assert_eq!(
            met.client.is_ok(),
            rotations <= MAX_CROSSINGS,
            "{rotations}"
        );
    }
}

#[test]
fn a_rotation_to_a_brought_root_and_away_from_it_leads_on() {
    let made = Authority::generate(NOW).unwrap();
    let (cert, key) = (fixtures::read("own/ec.crt"), fixtures::read("own/ec.key"));
    let own = crate::identity::check_own_root(&cert, &key, NOW).unwrap();
    let cross_pem = made.cross_sign(&own, NOW).unwrap();
    let own = Authority::load(&crate::model::RootCa { cross_pem, ..own }).unwrap();
    let next = successor(&own, NOW);
    for authority in [&own, &next] {
        let moved_on = member(authority, &[authority.root()], NOW);
        for roots in [made.root(), own.root()] {
            let met = handshake(&renewer(&roots.cert_pem), &server(&moved_on));
            assert_eq!(met.client.unwrap().peer(), moved_on.identity());
        }
    }
}
