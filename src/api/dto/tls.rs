//! `TLSInfo`: which root is trusted, and which one issued a certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::identity::{RootFacts, issuer_of};
use crate::model::Cluster;

/// Docker's `TLSInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct TlsInfo {
    /// The trusted root, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in crate::api) trust_root: String,
    /// The issuer's name, base64 of DER.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in crate::api) cert_issuer_subject: String,
    /// The issuer's public key, base64 of DER.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in crate::api) cert_issuer_public_key: String,
}

/// A root that issues or has issued, read once for a whole list of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Issuer {
    /// Hex SHA-256 of its public key.
    hash: String,
    subject: String,
    public_key: String,
}

/// The roots of a cluster.
#[derive(Clone, Debug, Default)]
pub(in crate::api) struct Issuers {
    trust_root: String,
    known: Vec<Issuer>,
    /// The one that issues now; during a rotation the next one.
    current: Option<Issuer>,
}

impl Issuers {
    /// Reads the roots of `cluster`. One that is not a certificate is left out.
    pub(in crate::api) fn of(cluster: &Cluster) -> Self {
        let root = read(&cluster.root.cert_pem);
        let next = cluster
            .rotation
            .as_ref()
            .and_then(|rotation| read(&rotation.next.cert_pem));
        Self {
            trust_root: cluster.root.cert_pem.clone(),
            current: next.clone().or_else(|| root.clone()),
            known: root.into_iter().chain(next).collect(),
        }
    }

    /// What the cluster strives for: `docker swarm ca --rotate` waits until every node shows it.
    pub(in crate::api) fn wanted(&self) -> TlsInfo {
        self.info(self.current.as_ref())
    }

    /// What a node has whose certificate was issued by the root with this hash.
    pub(in crate::api) fn of_node(&self, issuer: &str) -> TlsInfo {
        self.info(self.known.iter().find(|known| known.hash == issuer))
    }

    fn info(&self, issuer: Option<&Issuer>) -> TlsInfo {
        TlsInfo {
            trust_root: self.trust_root.clone(),
            cert_issuer_subject: issuer.map(|i| i.subject.clone()).unwrap_or_default(),
            cert_issuer_public_key: issuer.map(|i| i.public_key.clone()).unwrap_or_default(),
        }
    }
}

fn read(cert_pem: &str) -> Option<Issuer> {
    let facts = RootFacts::of_pem(cert_pem).ok()?;
    Some(Issuer {
        hash: issuer_of(cert_pem).ok()?,
        subject: STANDARD.encode(facts.subject_der),
        public_key: STANDARD.encode(facts.public_key_der),
    })
}

#[cfg(test)]
pub(in crate::api) mod tests {
    use super::*;
    use crate::identity::Authority;
    use crate::model::{RootCa, RootRotation, Timestamp};

    /// A new root, and the hash of its key.
    pub(in crate::api) fn root() -> (String, String) {
        let authority =
            Authority::generate(Timestamp::from_nanos(1_700_000_000_000_000_000)).unwrap();
        let pem = authority.root().cert_pem.clone();
        (pem, authority.issuer().to_owned())
    }

    pub(in crate::api) fn cluster(root_pem: &str, next_pem: Option<&str>) -> Cluster {
        let ca = |pem: &str| RootCa {
            cert_pem: pem.into(),
            ..RootCa::default()
        };
        Cluster {
            id: crate::model::ClusterId::from_bits(0xc1),
            meta: Default::default(),
            spec: Default::default(),
            root: ca(root_pem),
            rotation: next_pem.map(|pem| RootRotation { next: ca(pem) }),
            join: Default::default(),
            unlock_key: Default::default(),
            address_pools: Vec::new(),
            subnet_size: 24,
            data_path_port: 4789,
        }
    }

    #[test]
    fn the_subject_is_swarms() {
        let (pem, hash) = root();
        let issuers = Issuers::of(&cluster(&pem, None));
        let wanted = issuers.wanted();
        assert_eq!(wanted.cert_issuer_subject, "MBMxETAPBgNVBAMMCHN3YXJtLWNh");
        assert_eq!(wanted.trust_root, pem);
        assert_eq!(issuers.of_node(&hash), wanted);
        assert_eq!(issuers.of_node("other").cert_issuer_public_key, "");
    }

    #[test]
    fn during_a_rotation_the_next_root_is_wanted_and_the_old_one_trusted() {
        let ((old, old_hash), (new, new_hash)) = (root(), root());
        let issuers = Issuers::of(&cluster(&old, Some(&new)));
        assert_eq!(issuers.wanted().trust_root, old);
        assert_eq!(issuers.of_node(&new_hash), issuers.wanted());
        assert_ne!(issuers.of_node(&old_hash), issuers.wanted());
    }

    #[test]
    fn what_is_no_certificate_is_left_out() {
        let issuers = Issuers::of(&cluster("no pem", None));
        assert_eq!(issuers.wanted().cert_issuer_subject, "");
        assert_eq!(issuers.wanted().trust_root, "no pem");
    }
}
