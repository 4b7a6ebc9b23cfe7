//! Certificates as they lie on disk, another root of trust, and a root that the user brings.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use x509_parser::pem::parse_x509_pem;

use crate::bed::Bed;
use crate::wait::{eventually, secs};

fn certificates(bed: &Bed, host: usize) -> PathBuf {
    bed.folder(host).join("data/swarm/certificates")
}

#[test]
fn a_certificate_says_who_may_do_what_where() {
    let Some(bed) = Bed::hosts(2) else { return };
    bed.init(1);
    let token = bed.token(1, "--worker");
    bed.skein(2, &["join", &token]).ok();
    let cluster = bed.get(1, "/swarm").expect("a manager shows the cluster")["ID"].clone();
    for (host, unit) in [(1, "swarm-manager"), (2, "swarm-worker")] {
        let folder = certificates(&bed, host);
        let pem = std::fs::read(folder.join("swarm-node.crt")).expect("the certificate is on disk");
        let (_, pem) = parse_x509_pem(&pem).expect("it is PEM");
        let certificate = pem.parse_x509().expect("it is a certificate");
        let subject = certificate.subject().to_string();
        let id = bed.local(host)["NodeID"]
            .as_str()
            .unwrap_or_default()
            .to_string();
        for part in [
            format!("CN={id}"),
            format!("OU={unit}"),
            format!("O={}", cluster.as_str().unwrap_or("?")),
        ] {
            assert!(subject.contains(&part), "{part} is missing in {subject}");
        }
        let mode = |name: &str| {
            let metadata = std::fs::metadata(folder.join(name)).expect("the file is there");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!((mode("swarm-node.key"), mode(".")), (0o600, 0o700));
    }
}

#[test]
fn another_root_takes_over_without_a_pause() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let old_root = bed.docker(1, &["swarm", "ca"]).ok();
    let old_token = bed.token(1, "--peer");
    bed.docker(2, &["swarm", "ca", "--rotate", "--quiet"]).ok();
    let new_root = bed.docker(3, &["swarm", "ca"]).ok();
    assert_ne!(old_root, new_root);

    let nodes = bed.nodes(1).expect("the list can be read");
    for node in &nodes {
        assert_eq!(
            node.text("/Description/TLSInfo/TrustRoot").trim(),
            new_root,
            "host {}",
            node.host()
        );
    }
    for host in 1..=3 {
        let trusted = std::fs::read_to_string(certificates(&bed, host).join("swarm-root-ca.crt"));
        assert!(
            trusted.expect("the root is on disk").contains(&new_root),
            "host {host} trusts the new root"
        );
    }

    bed.add_hosts(4);
    bed.skein(4, &["join", &old_token])
        .refused_with("remote CA does not match fingerprint");
    let new_token = bed.token(1, "--peer");
    bed.skein(4, &["join", &new_token]).ok();
    bed.until_ready(1, &[1, 2, 3, 4]);
}

#[test]
fn a_node_that_was_off_during_a_rotation_comes_back() {
    let Some(bed) = Bed::up(3) else { return };
    bed.until_managers(1, &[1, 2, 3]);
    let off = if bed.leader(&[1]) == 3 { 2 } else { 3 };
    bed.act("stop", off);
    bed.docker(1, &["swarm", "ca", "--rotate", "--detach"]).ok();
    eventually(
        secs(30),
        "the rotation ends for those that are there",
        || {
            let swarm = bed.get(1, "/swarm")?;
            (swarm["RootRotationInProgress"] != true)
                .then_some(())
                .ok_or_else(|| swarm.to_string())
        },
    );
    bed.act("start", off);
    bed.until_ready(1, &[1, 2, 3]);
    let root = bed.docker(1, &["swarm", "ca"]).ok();
    eventually(secs(20), "it has a certificate of the new root", || {
        let nodes = bed.nodes(1)?;
        let node = nodes
            .iter()
            .find(|node| node.host() == off)
            .ok_or("it is missing")?;
        let trusted = node
            .text("/Description/TLSInfo/TrustRoot")
            .trim()
            .to_string();
        (trusted == root).then_some(()).ok_or(trusted)
    });
}

/// A self-signed certificate and its key, PEM.
fn own_root(is_ca: bool) -> (String, String) {
    let key = KeyPair::generate().expect("a key can be made");
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "our own root");
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    }
    let certificate = params.self_signed(&key).expect("it can be signed");
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn a_root_can_be_brought_along() {
    let Some(bed) = Bed::hosts(2) else { return };
    let (cert, key) = own_root(true);
    let (_, other_key) = own_root(true);
    let (leaf, leaf_key) = own_root(false);
    let write = |name: &str, text: &str| {
        let path = bed.folder(1).join(name);
        std::fs::write(&path, text).expect("the folder can be written");
        path.display().to_string()
    };
    let init = |cert: &str, key: &str| {
        let (cert, key) = (write("root.crt", cert), write("root.key", key));
        bed.skein(1, &["init", "--ca-cert", &cert, "--ca-key", &key])
    };
    init(&cert, &other_key).refused_with("key");
    init(&leaf, &leaf_key).refused_with("CA");
    init("not a certificate", &key).refused_with("certificate");
    assert_eq!(bed.local(1)["LocalNodeState"], "inactive");

    init(&cert, &key).ok();
    assert_eq!(bed.docker(1, &["swarm", "ca"]).ok(), cert.trim());
    let token = bed.token(1, "--peer");
    bed.skein(2, &["join", &token]).ok();
    bed.until_ready(1, &[1, 2]);
}

#[test]
fn autolock_is_refused_rather_than_pretended() {
    let Some(bed) = Bed::hosts(1) else { return };
    bed.init(1);
    bed.docker(1, &["swarm", "update", "--autolock=true"])
        .refused_with("autolock is not available");
    bed.docker(1, &["swarm", "unlock-key"])
        .refused_with("no unlock key is set");
    let key =
        serde_json::json!({ "UnlockKey": "SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" });
    let answer = bed
        .ask(1, "POST", "/swarm/unlock", Some(&key))
        .expect("it answers");
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(
        answer.message().contains("swarm is not locked"),
        "{answer:?}"
    );
}
