//! The API on TCP: for clients with a certificate, or on loopback for all when the operator has asked for it.
//!
//! Off unless an address is given. A client is let in by its certificate before a byte of HTTP is read, and holds a
//! place from its first packet on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call::Workers;
use super::server::{ACCEPT_PAUSE, converse, hold};

/// Connections that are served at once, those that have not shown a certificate yet among them.
const CONNECTIONS: usize = 256;

/// How long a client may take to show its certificate.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Seconds of silence after which the machine of a client is asked whether it is still there.
const KEEP_ALIVE_AFTER: u32 = 30;

/// Files in PEM form.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Roots of the clients' certificates.
    pub ca: PathBuf,
    /// The server's own certificate, with what leads to its root.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why the API is not served on TCP. Nothing listens then.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// A file cannot be read, or holds nothing of the kind.
    #[error("--{option} {}: {why}", .path.display())]
    File {
        /// Which option.
        option: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The address cannot be had.
    #[error("--host tcp://{0} cannot be listened at: is it this machine's, and free?")]
    Bind(SocketAddr, #[source] io::Error),
}

/// Who is let in.
#[derive(Clone)]
pub struct Gate(Option<TlsAcceptor>);

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.0.is_some() { "tls" } else { "open" };
        f.debug_tuple("Gate").field(&name).finish()
    }
}

impl Gate {
    /// Whoever can reach the address; for loopback alone.
    pub const fn open() -> Self {
        Self(None)
    }

    /// Clients with a certificate of these roots.
    pub fn tls(files: &TlsFiles) -> Result<Self, TcpError> {
        let wrong = |option, path: &Path, why: String| TcpError::File {
            option,
            path: path.to_owned(),
            why,
        };
        let mut roots = RootCertStore::empty();
        for root in certificates("tlscacert", &files.ca)? {
            roots
                .add(root)
                .map_err(|error| wrong("tlscacert", &files.ca, error.to_string()))?;
        }
        let chain = certificates("tlscert", &files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| wrong("tlskey", &files.key, error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| wrong("tlscacert", &files.ca, error.to_string()))?;
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("tlscert", &files.cert, error.to_string()))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|error| wrong("tlscert", &files.cert, error.to_string()))?;
        Ok(Self(Some(TlsAcceptor::from(Arc::new(config)))))
    }
}

fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TcpError> {
    let wrong = |why: String| TcpError::File {
        option,
        path: path.to_owned(),
        why,
    };
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = found.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("there is no certificate in it".into()));
    }
    Ok(found)
}

/// Listens at `addr`.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, TcpError> {
    let bound = TcpListener::bind(addr).await;
    bound.map_err(|error| TcpError::Bind(addr, error))
}

/// Accepts and serves until `stop`. Connections live on `tasks`.
pub async fn serve(
    listener: TcpListener,
    gate: Gate,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let router = router.layer(Extension(Workers(tasks.clone())));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a TCP connection to the API cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%from, limit = CONNECTIONS, "a TCP connection to the API is one too many");
            continue;
        };
        let served = serve_client(stream, from, gate.clone(), router.clone(), stop.clone());
        tasks.spawn(hold(place, served));
    }
}

async fn serve_client(
    stream: TcpStream,
    from: SocketAddr,
    Gate(gate): Gate,
    router: Router,
    stop: CancellationToken,
) {
    // Without it a client whose machine is gone would hold its place for ever.
    let kept = setsockopt(&stream, sockopt::KeepAlive, &true)
        .and_then(|()| setsockopt(&stream, sockopt::TcpKeepIdle, &KEEP_ALIVE_AFTER))
        .map_err(io::Error::from)
        .and_then(|()| stream.set_nodelay(true));
    if let Err(error) = kept {
        tracing::debug!(%from, %error, "a TCP connection to the API ended at once");
        return;
    }
    let Some(gate) = gate else {
        return converse(stream, router, stop, false).await;
    };
    let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, gate.accept(stream));
    match stop.run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => converse(stream, router, stop, false).await,
        Some(Ok(Err(error))) => {
            tracing::warn!(%from, %error, "refused: a client of the API on TCP");
        }
        Some(Err(_elapsed)) => {
            tracing::warn!(%from, "refused: a client of the API on TCP shows no certificate");
        }
        None => {}
    }
}

#[cfg(test)]
mod tests;
