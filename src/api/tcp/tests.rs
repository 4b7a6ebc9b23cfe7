//! Who comes in over TCP, and who does not.

use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;
/// Nothing here takes longer.
const SOON: Duration = Duration::from_secs(20);

/// A root that signs.
struct Pki {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// What it has signed.
struct Signed {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Pki {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        Self {
            pem: root.pem(),
            der: root.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str) -> Signed {
        let params = CertificateParams::new([name.replace(' ', "-")]).unwrap();
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        Signed {
            pem: signed.pem(),
            der: signed.der().clone(),
            key,
        }
    }
}

impl Signed {
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.serialize_pem().as_bytes()).unwrap()
    }
}

struct Running {
    addr: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

async fn start(gate: Gate) -> Running {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let router = Router::new().route("/", get(|| async { "hello" }));
    tasks.spawn(serve(listener, gate, router, tasks.clone(), stop.clone()));
    Running { addr, tasks, stop }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    let talk = async {
        let request = b"GET / HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    tokio::time::timeout(SOON, talk).await.unwrap()
}

/// What a client is told that trusts `root` and shows `own`.
async fn over_tls(addr: SocketAddr, root: &Pki, own: Option<&Signed>) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(root.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        Some(own) => config
            .with_client_auth_cert(vec![own.der.clone()], own.key())
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    ask(stream.await?).await
}

fn files(dir: &Path, root: &Pki, server: &Signed) -> TlsFiles {
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsFiles {
        ca: write("ca.pem", root.pem.clone()),
        cert: write("cert.pem", server.pem.clone()),
        key: write("key.pem", server.key.serialize_pem()),
    }
}

#[tokio::test]
async fn only_a_client_with_a_certificate_of_the_root_comes_in() {
    let dir = tempfile::tempdir().unwrap();
    let (root, other) = (Pki::new("ours"), Pki::new("another"));
    let server = root.sign("localhost");
    let running = start(Gate::tls(&files(dir.path(), &root, &server)).unwrap()).await;

    let client = root.sign("a client");
    let said = over_tls(running.addr, &root, Some(&client)).await.unwrap();
    assert!(said.ends_with("hello"), "{said}");
    let stranger = other.sign("a client");
    for own in [None, Some(&stranger)] {
        let said = over_tls(running.addr, &root, own).await;
        assert!(
            !said.as_ref().is_ok_and(|said| said.contains("hello")),
            "{said:?}"
        );
    }
    // Without TLS there is no answer in HTTP.
    let said = ask(TcpStream::connect(running.addr).await.unwrap()).await;
    assert!(
        !said.as_ref().is_ok_and(|said| said.contains("HTTP")),
        "{said:?}"
    );

    running.stop.cancel();
    running.tasks.close();
    tokio::time::timeout(SOON, running.tasks.wait())
        .await
        .unwrap();
}

#[tokio::test]
async fn on_loopback_all_come_in_where_that_was_asked_for() {
    let running = start(Gate::open()).await;
    let said = ask(TcpStream::connect(running.addr).await.unwrap()).await;
    assert!(said.unwrap().ends_with("hello"));
    let error = bind(running.addr).await.unwrap_err().to_string();
    assert!(error.contains("cannot be listened at"), "{error}");
}

#[test]
fn files_that_are_wrong_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = Pki::new("ours");
    let good = files(dir.path(), &root, &root.sign("localhost"));
    let other = root.sign("elsewhere");
    let key = dir.path().join("other.pem");
    std::fs::write(&key, other.key.serialize_pem()).unwrap();
    let none = dir.path().join("none.pem");
    std::fs::write(&none, "nothing\n").unwrap();
    for (files, start) in [
        (
            TlsFiles {
                ca: none.clone(),
                ..good.clone()
            },
            "--tlscacert ",
        ),
        (
            TlsFiles {
                cert: dir.path().join("missing"),
                ..good.clone()
            },
            "--tlscert ",
        ),
        (
            TlsFiles {
                key: none,
                ..good.clone()
            },
            "--tlskey ",
        ),
        (TlsFiles { key, ..good }, "--tlscert "),
    ] {
        let words = Gate::tls(&files).unwrap_err().to_string();
        assert!(words.starts_with(start), "{words}");
    }
}
