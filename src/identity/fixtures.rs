//! The certificate fixtures in `certs/`: how the tests read them, and how `certs/make` makes them.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use super::ca::{ca_params, leaf_params, timestamp};
use super::pem::certificate_pem;
use super::testing::*;
use super::*;
use crate::model::{ClusterId, NodeId, RootCa, Standing};

/// 2020-01-01 and 2120-01-01: what most fixtures live from and to, so that they also do by today's clock.
const BEGINS: i64 = 1_577_836_800;
const ENDS: i64 = 4_733_510_400;

/// A file under `certs/`.
pub(crate) fn read(name: &str) -> String {
    let path = certs().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The credentials of a fixture as its node would load them, trusting `roots`; the checks that a node makes of its own
/// files are the reason that some fixtures cannot be loaded so.
pub(crate) fn credentials(name: &str, roots: &[&str]) -> Credentials {
    let roots: String = roots.iter().map(|root| read(root)).collect();
    let (key, chain) = (read(&format!("{name}.key")), read(&format!("{name}.crt")));
    Credentials::from_pem(&key, &chain, &roots).unwrap()
}

fn certs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("certs")
}

/// What one fixture says and who says so; the default is a valid manager.
struct Leaf<'a> {
    issuer: &'a Authority,
    grant: Grant,
    begins: i64,
    ends: i64,
}

impl<'a> Leaf<'a> {
    fn of(issuer: &'a Authority) -> Self {
        Self {
            issuer,
            grant: Grant {
                cluster: CLUSTER,
                standing: Standing::Eligible,
                now: timestamp(BEGINS),
                validity: DAY,
            },
            begins: BEGINS,
            ends: ENDS,
        }
    }

    /// Writes `name.crt` and `name.key`; `change` makes the certificate what its name says.
    fn write(self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = NodeKey::generate().unwrap();
        let mut params = leaf_params(key.node_id(), &self.grant, self.begins, self.ends).unwrap();
        change(&mut params);
        let root = self.issuer.root();
        let issuer = issuer_of_pems(&root.cert_pem, &root.key_pem.0);
        let pair = KeyPair::from_pem(&key.to_pem()).unwrap();
        let leaf = params.signed_by(&pair, &issuer).unwrap();
        let chain = certificate_pem(leaf.der()) + &root.cross_pem + &root.cert_pem;
        put(&format!("{name}.crt"), &chain);
        put(&format!("{name}.key"), &test_key(&key.to_pem()));
    }
}

fn issuer_of_pems(cert_pem: &str, key_pem: &str) -> Issuer<'static, KeyPair> {
    Issuer::from_ca_cert_pem(cert_pem, KeyPair::from_pem(key_pem).unwrap()).unwrap()
}

fn put(name: &str, text: &str) {
    let path = certs().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn test_key(pem: &str) -> String {
    format!("A key for tests only: it is public, and protects nothing.\n{pem}")
}

fn set_name(params: &mut CertificateParams, kind: DnType, text: &str) {
    params.distinguished_name.remove(kind.clone());
    params.distinguished_name.push(kind, text);
}

fn root(begins: i64, ends: i64, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let pair = KeyPair::generate().unwrap();
    let mut params = ca_params(begins, ends);
    set_name(&mut params, DnType::CommonName, "swarm-ca");
    change(&mut params);
    let cert = params.self_signed(&pair).unwrap();
    (certificate_pem(cert.der()), pair.serialize_pem())
}

fn put_root(name: &str) -> Authority {
    let (cert_pem, key_pem) = root(BEGINS, ENDS, |_| {});
    put(&format!("{name}.crt"), &cert_pem);
    put(&format!("{name}.key"), &test_key(&key_pem));
    Authority::load(&RootCa {
        cert_pem,
        key_pem: crate::model::cluster::Secret(key_pem),
        cross_pem: String::new(),
    })
    .unwrap()
}

#[test]
#[ignore = "writes certs/ anew: certs/make calls it"]
fn make() {
    assert!(
        std::env::var_os("SKEIN_MAKE_CERTS").is_some(),
        "run certs/make"
    );
    let authority = put_root("root");
    let foreign = put_root("foreign-root");
    let next = put_root("next-root");
    make_members(&authority, &foreign);
    make_impostors(&authority);
    let cross_pem = authority
        .cross_sign(next.root(), timestamp(BEGINS))
        .unwrap();
    put("next-root-cross.crt", &cross_pem);
    let next = Authority::load(&RootCa {
        cross_pem,
        ..next.root().clone()
    });
    Leaf::of(&next.unwrap()).write("nodes/after-rotation", |_| {});
    make_own_roots(&authority);
}

/// Certificates of which each has at most one thing wrong.
fn make_members(authority: &Authority, foreign: &Authority) {
    Leaf::of(authority).write("nodes/manager", |_| {});
    let mut worker = Leaf::of(authority);
    worker.grant.standing = Standing::Worker;
    worker.write("nodes/worker", |_| {});
    Leaf::of(authority).write("nodes/removed", |_| {});
    let mut expired = Leaf::of(authority);
    expired.ends = BEGINS + 90 * 24 * 3600;
    expired.write("nodes/expired", |_| {});
    let mut not_yet_valid = Leaf::of(authority);
    not_yet_valid.begins = ENDS - 90 * 24 * 3600;
    not_yet_valid.write("nodes/not-yet-valid", |_| {});
    Leaf::of(foreign).write("nodes/foreign-root", |_| {});
    let mut wrong_cluster = Leaf::of(authority);
    wrong_cluster.grant.cluster = ClusterId::from_bits(7);
    wrong_cluster.write("nodes/wrong-cluster", |_| {});
    Leaf::of(authority).write("nodes/wrong-role", |params| {
        set_name(params, DnType::OrganizationalUnitName, "swarm-guest");
    });
    Leaf::of(authority).write("nodes/no-cluster", |params| {
        params.distinguished_name.remove(DnType::OrganizationName);
    });
    Leaf::of(authority).write("nodes/no-node", |params| {
        set_name(params, DnType::CommonName, "www.example.com");
    });
    Leaf::of(authority).write("nodes/key-mismatch", |params| {
        let another = NodeId::from_bits(1).to_string();
        set_name(params, DnType::CommonName, &another);
    });
    Leaf::of(authority).write("nodes/wrong-purpose", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    });
    Leaf::of(authority).write("nodes/wrong-name", |params| {
        params.subject_alt_names = vec![SanType::DnsName("www.example.com".try_into().unwrap())];
    });
}

/// Certificates that members without the root's key can make.
fn make_impostors(authority: &Authority) {
    let signer = (read("nodes/manager.crt"), read("nodes/manager.key"));
    let issuer = issuer_of_pems(&signer.0, &signer.1);
    let grant = Leaf::of(authority).grant;
    for (name, self_signed) in [("issued-by-a-node", false), ("self-signed", true)] {
        let key = NodeKey::generate().unwrap();
        let pair = KeyPair::from_pem(&key.to_pem()).unwrap();
        let params = leaf_params(key.node_id(), &grant, BEGINS, ENDS).unwrap();
        let chain = if self_signed {
            certificate_pem(params.self_signed(&pair).unwrap().der()) + &read("root.crt")
        } else {
            certificate_pem(params.signed_by(&pair, &issuer).unwrap().der()) + &signer.0
        };
        put(&format!("nodes/{name}.crt"), &chain);
        put(&format!("nodes/{name}.key"), &test_key(&key.to_pem()));
    }
}

/// Roots that a user might bring and that are to be refused; the good ones are made by openssl in `certs/make`.
fn make_own_roots(authority: &Authority) {
    let name = |params: &mut CertificateParams| {
        set_name(params, DnType::CommonName, "Example root");
    };
    let write = |file: &str, (cert, key): (String, String)| {
        put(&format!("own/{file}.crt"), &cert);
        put(&format!("own/{file}.key"), &test_key(&key));
    };
    write("expired", root(BEGINS, BEGINS + 365 * 24 * 3600, name));
    write("not-begun", root(ENDS - 365 * 24 * 3600, ENDS, name));
    let soon = NOW.after(20 * DAY).secs();
    write("ends-soon", root(BEGINS, soon, name));
    let not_a_ca = |params: &mut CertificateParams| {
        name(params);
        params.is_ca = IsCa::ExplicitNoCa;
    };
    write("not-a-ca", root(BEGINS, ENDS, not_a_ca));
    let no_signing = |params: &mut CertificateParams| {
        name(params);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    };
    write("no-cert-sign", root(BEGINS, ENDS, no_signing));
    let constrained = |params: &mut CertificateParams| {
        name(params);
        params.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("example.com".into())],
            excluded_subtrees: Vec::new(),
        });
    };
    write("name-constraints", root(BEGINS, ENDS, constrained));
    let nameless = |params: &mut CertificateParams| {
        params.distinguished_name = rcgen::DistinguishedName::new();
    };
    write("nameless", root(BEGINS, ENDS, nameless));
    let pair = KeyPair::generate().unwrap();
    let mut params = ca_params(BEGINS, ENDS);
    set_name(&mut params, DnType::CommonName, "Example intermediate");
    let issuer = issuer_of_pems(&authority.root().cert_pem, &authority.root().key_pem.0);
    let cert = params.signed_by(&pair, &issuer).unwrap();
    let intermediate = (certificate_pem(cert.der()), pair.serialize_pem());
    write("intermediate", intermediate);
}
