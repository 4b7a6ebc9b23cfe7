//! Sockets inside of a container's network namespace, opened by a thread that ends there.
//!
//! A socket stays in the namespace that it was opened in, so only the opening needs a thread of its own. No thread of
//! the runtime ever enters a namespace: what it does next would happen there.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::model::ContainerId;

/// Longest time that opening takes; it is a matter of microseconds.
const OPENED_WITHIN: Duration = Duration::from_secs(10);

/// The address of every container's resolver.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Ports that a container's resolver has, above those that the kernel gives to whoever wants any.
const PORTS: Range<u16> = 61_000..65_535;

/// Sends what goes to port 53 of the resolver's address to these two ports instead (UDP, TCP), in the namespace of the
/// calling thread.
#[derive(Clone)]
pub(super) struct Redirect(Arc<Redirecting>);

type Redirecting = dyn Fn(u16, u16) -> Result<(), Failure> + Send + Sync;
type Failure = Box<dyn Error + Send + Sync>;

impl Redirect {
    pub(super) fn new<E: Into<Failure>>(
        to: impl Fn(u16, u16) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |udp, tcp| to(udp, tcp).map_err(Into::into)))
    }
}

impl fmt::Debug for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redirect")
    }
}

/// Why a container's names cannot be answered. Nothing of it is left open.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// There is no thread for it.
    #[error("no thread can be started that enters a container's network")]
    Thread(#[source] io::Error),
    /// The namespace is not there, or may not be entered.
    #[error("the network namespace {} cannot be entered", path.display())]
    Enter {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The resolver's address is not to be had; the loopback interface may be down.
    #[error("nothing can listen at 127.0.0.11 in {}", path.display())]
    Listen {
        /// The namespace's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The packet filter refuses.
    #[error("port 53 of 127.0.0.11 cannot be redirected in {}", path.display())]
    Redirect {
        /// The namespace's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The thread has ended without a word, or takes longer than anything in it can.
    #[error("opening sockets in {} takes longer than {OPENED_WITHIN:?}", path.display())]
    Late {
        /// The namespace's file.
        path: PathBuf,
    },
}

/// Where a container's questions arrive.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

/// Opens them and has port 53 redirected to them, in the namespace at `netns`. A container has the same ports each time
/// if it can: the flows that stand when the daemon restarts find it there again.
pub(super) async fn open(
    container: ContainerId,
    netns: &Path,
    redirect: Redirect,
) -> Result<Sockets, DnsError> {
    let port = usual_port(container);
    let (tell, told) = oneshot::channel();
    let path = netns.to_owned();
    let thread = thread::Builder::new().name("dns-open".into());
    thread
        .spawn(move || {
            // Who asked may have stopped waiting; the sockets are closed then.
            let _ = tell.send(open_here(port, &path, &redirect));
        })
        .map_err(DnsError::Thread)?;
    match timeout(OPENED_WITHIN, told).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(_)) | Err(_) => Err(DnsError::Late { path: netns.into() }),
    }
}

/// The port that a container has unless somebody in it has taken it.
fn usual_port(container: ContainerId) -> u16 {
    let [high, low, ..] = container.bytes();
    let ports = PORTS.end - PORTS.start;
    PORTS.start + u16::from_be_bytes([high, low]) % ports
}

/// Moves the calling thread into the namespace for good.
fn open_here(port: u16, netns: &Path, redirect: &Redirect) -> Result<Sockets, DnsError> {
    let path = || netns.to_owned();
    let enter = |source| DnsError::Enter {
        path: path(),
        source,
    };
    let listen = |source| DnsError::Listen {
        path: path(),
        source,
    };
    let namespace = File::open(netns).map_err(enter)?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| enter(errno.into()))?;
    let udp = UdpSocket::bind((RESOLVER, port)).or_else(|_| UdpSocket::bind((RESOLVER, 0)));
    let udp = udp.map_err(listen)?;
    let tcp = TcpListener::bind((RESOLVER, port)).or_else(|_| TcpListener::bind((RESOLVER, 0)));
    let tcp = tcp.map_err(listen)?;
    udp.set_nonblocking(true).map_err(listen)?;
    tcp.set_nonblocking(true).map_err(listen)?;
    let udp_addr = udp.local_addr().map_err(listen)?;
    let tcp_addr = tcp.local_addr().map_err(listen)?;
    (redirect.0)(udp_addr.port(), tcp_addr.port()).map_err(|source| DnsError::Redirect {
        path: path(),
        source,
    })?;
    Ok(Sockets { udp, tcp })
}
