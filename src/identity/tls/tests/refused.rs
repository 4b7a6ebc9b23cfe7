//! Every fixture that must not get in: by which side it is refused, what is logged there, what the other side is told.

use rustls::AlertDescription;

use super::*;
use crate::identity::fixtures;
use crate::identity::key::NodeKey;
use crate::identity::pem::certificates;
use crate::model::NodeId;

/// Fixture, words of the log line, alert that a refused client gets.
const REFUSED: &[(&str, &str, AlertDescription)] = &[
    (
        "expired",
        "expired: it ended at 2020-03-31T00:00:00Z, 3728 days 12 h ago by this machine's clock",
        AlertDescription::CertificateExpired,
    ),
    (
        "not-yet-valid",
        "not yet valid: it begins at 2119-10-03T00:00:00Z, so the clocks of the issuer and of this machine differ by 32615 days 13 h or more",
        AlertDescription::CertificateExpired,
    ),
    ("foreign-root", "foreign root", AlertDescription::UnknownCA),
    ("self-signed", "foreign root", AlertDescription::UnknownCA),
    (
        "issued-by-a-node",
        "it does not verify: EndEntityUsedAsCa",
        AlertDescription::BadCertificate,
    ),
    (
        "wrong-role",
        "its role \"swarm-guest\" is neither swarm-manager nor swarm-worker",
        AlertDescription::AccessDenied,
    ),
    (
        "wrong-cluster",
        "wrong cluster: it is of cluster 0000000000000000000000007",
        AlertDescription::AccessDenied,
    ),
    (
        "no-cluster",
        "its organization is no cluster ID",
        AlertDescription::AccessDenied,
    ),
    (
        "no-node",
        "its common name is no node ID",
        AlertDescription::AccessDenied,
    ),
    (
        "key-mismatch",
        "its key does not match its ID: it names node 0000000000000000000000001",
        AlertDescription::AccessDenied,
    ),
    (
        "wrong-purpose",
        "wrong purpose",
        AlertDescription::UnsupportedCertificate,
    ),
    (
        "removed",
        "removed node",
        AlertDescription::CertificateRevoked,
    ),
];

/// Only who dials asks for a name.
const WRONG_NAME: (&str, &str, AlertDescription) = (
    "wrong-name",
    "wrong name",
    AlertDescription::HandshakeFailure,
);

fn gatekeeper() -> Credentials {
    fixtures::credentials("nodes/manager", &["root.crt"])
}

fn without_the_removed_one() -> RemovedNodes {
    let removed = NodeKey::from_pem(&fixtures::read("nodes/removed.key")).unwrap();
    let removed = removed.node_id();
    Arc::new(move |node: NodeId| node == removed)
}

/// What a fixture's node would show, whatever it is: checks of its own files are left out.
fn shown_by(name: &str) -> (Vec<rustls::pki_types::CertificateDer<'static>>, NodeKey) {
    let chain = certificates(&fixtures::read(&format!("nodes/{name}.crt"))).unwrap();
    let key = NodeKey::from_pem(&fixtures::read(&format!("nodes/{name}.key"))).unwrap();
    (chain, key)
}

/// A client that shows a fixture and accepts whatever server.
fn bold_client(name: &str) -> ClientConfig {
    let (chain, key) = shown_by(name);
    let seen = Arc::new(Seen::default());
    let root = RootDigest::of_pem(&fixtures::read("root.crt"));
    let config = client_builder(clock_at(NOW), Arc::new(JoinDoor::new(root, seen)))
        .unwrap()
        .with_client_auth_cert(chain, key.private_der())
        .unwrap();
    without_resumption(config, ALPN_PEER)
}

/// A server that shows a fixture and accepts whatever client.
fn bold_server(name: &str) -> ServerConfig {
    let (chain, key) = shown_by(name);
    let mut config = ServerConfig::builder_with_details(provider(), clock_at(NOW))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key.private_der())
        .unwrap();
    config.alpn_protocols = vec![ALPN_PEER.to_vec(), ALPN_JOIN.to_vec()];
    config
}

#[test]
fn the_bold_sides_get_in_with_a_good_certificate() {
    let met = handshake(&bold_client("manager"), &server(&gatekeeper()));
    assert!(met.server.is_ok() && met.client.is_ok());
    let met = handshake(&client(&gatekeeper()), &bold_server("worker"));
    assert!(met.server.is_ok() && met.client.is_ok());
}

#[test]
fn a_server_refuses_each_and_says_why() {
    let config = server_tls_at(&gatekeeper(), without_the_removed_one(), clock_at(NOW)).unwrap();
    for (name, words, alert) in REFUSED {
        let (met, log) = logged(|| handshake(&bold_client(name), &config));
        assert!(met.server.is_err(), "{name} got in");
        let told = met.client.unwrap_err();
        assert_eq!(told, rustls::Error::AlertReceived(*alert), "{name}");
        assert!(why_refused(u8::from(*alert)).is_some(), "{name}");
        assert_one_line(&log, name, "client", words);
    }
}

#[test]
fn a_client_refuses_each_and_says_why() {
    let config = client_tls_at(&gatekeeper(), without_the_removed_one(), clock_at(NOW)).unwrap();
    for (name, words, _) in REFUSED.iter().chain([&WRONG_NAME]) {
        let (met, log) = logged(|| handshake(&config, &bold_server(name)));
        let error = met.client.expect_err(name).to_string();
        assert!(error.contains(words), "{name}: the caller sees {error}");
        assert!(met.server.is_err(), "{name}");
        assert_one_line(&log, name, "server", words);
    }
}

#[test]
fn a_joiner_and_a_renewer_refuse_servers_that_are_no_nodes_of_the_cluster() {
    // Which cluster it is, and who was removed, they cannot know yet.
    let unknowable = ["wrong-cluster", "removed"];
    for (name, words, _) in REFUSED
        .iter()
        .chain([&WRONG_NAME])
        .filter(|(name, ..)| !unknowable.contains(name))
    {
        let (met, log) =
            logged(|| handshake(&renewer(&fixtures::read("root.crt")), &bold_server(name)));
        assert!(met.client.is_err(), "{name}");
        assert_one_line(&log, name, "server", words);

        let (config, learned) = joiner(RootDigest::of_pem(&fixtures::read("root.crt")));
        let (met, log) = logged(|| handshake(&config, &bold_server(name)));
        assert!(met.client.is_err(), "{name}");
        assert_eq!(learned.pem(), None, "{name}");
        let refusal = learned.refusal().unwrap().to_string();
        let root_is_shown = !["foreign-root"].contains(name);
        let words = if root_is_shown {
            words
        } else {
            "remote CA does not match fingerprint"
        };
        assert!(refusal.contains(words), "{name}: {refusal}");
        assert_one_line(&log, name, "server", words);
    }
}

fn assert_one_line(log: &str, name: &str, side: &str, words: &str) {
    assert_eq!(log.lines().count(), 1, "{name}: {log}");
    assert!(log.contains("WARN"), "{name}: {log}");
    assert!(log.contains("certificate refused"), "{name}: {log}");
    assert!(log.contains(&format!("side=\"{side}\"")), "{name}: {log}");
    assert!(log.contains(words), "{name}: {log}");
}

#[test]
fn the_line_says_which_node_the_certificate_names() {
    let (_, key) = shown_by("wrong-cluster");
    let (_, log) = logged(|| handshake(&bold_client("wrong-cluster"), &server(&gatekeeper())));
    assert!(log.contains(&format!("claims={}", key.node_id())), "{log}");
}

#[test]
fn a_clock_that_is_off_by_less_than_an_hour_does_no_harm() {
    let authority = crate::identity::Authority::generate(NOW).unwrap();
    let fresh = member(&authority, &[authority.root()], NOW);
    let slow = ago(HOUR - std::time::Duration::from_secs(1));
    assert!(
        handshake(&client_at(&fresh, slow), &server_at(&fresh, slow))
            .client
            .is_ok()
    );

    let slower = ago(2 * HOUR);
    let (met, log) = logged(|| handshake(&client_at(&fresh, slower), &server_at(&fresh, NOW)));
    assert!(met.client.is_err());
    assert!(log.contains("differ by 2 h 0 min or more"), "{log}");

    let ahead = fresh.not_after().after(2 * HOUR);
    let (met, log) = logged(|| handshake(&client_at(&fresh, ahead), &server_at(&fresh, NOW)));
    assert!(met.client.is_err());
    assert!(
        log.contains("2 h 0 min ago by this machine's clock"),
        "{log}"
    );
}
