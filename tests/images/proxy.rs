//! A proxy before a registry: counts what it sends, and breaks off when told to.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A proxy, which ends when it is dropped.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: String,
    sent: Arc<AtomicU64>,
    allowance: Arc<AtomicI64>,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// Before the registry at `to`.
    pub(crate) async fn before(to: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::at(listener, to)
    }

    /// Before the registry at `to`, for those who come here.
    pub(crate) fn at(listener: TcpListener, to: &str) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let (sent, allowance) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicI64::new(i64::MAX)),
        );
        let mut serving = JoinSet::new();
        let (counted, allowed, to) = (sent.clone(), allowance.clone(), to.to_string());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (counted, allowed, to) = (counted.clone(), allowed.clone(), to.clone());
                connections.spawn(async move { relay(client, &to, &counted, &allowed).await });
            }
        });
        Self {
            address,
            sent,
            allowance,
            _serving: serving,
        }
    }

    /// Bytes that the registry has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Lets so many bytes more through, over all connections; every connection breaks after that.
    pub(crate) fn allow(&self, bytes: i64) {
        self.allowance.store(bytes, Ordering::Relaxed);
    }
}

async fn relay(client: TcpStream, to: &str, sent: &AtomicU64, allowance: &AtomicI64) {
    let Ok(server) = TcpStream::connect(to).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    };
    let down = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            let length = i64::try_from(read).unwrap();
            if allowance.fetch_sub(length, Ordering::Relaxed) < length {
                return;
            }
            sent.fetch_add(read as u64, Ordering::Relaxed);
            if to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = down => {}
        () = async { up.await; std::future::pending().await } => {}
    }
}
