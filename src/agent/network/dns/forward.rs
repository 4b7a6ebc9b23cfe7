//! Asks servers outside what is not known here, from the machine's own network.
//!
//! A question goes out as it came in, but for a fresh ID and a random port, to one server after the other. What comes
//! back is passed on as it is once it is sure to be an answer to that question.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::message::{Asked, Via, is_cut_short, is_no_help};
use super::resolv::{self, Listed};

/// Time that one server has.
const SERVER_WITHIN: Duration = Duration::from_secs(2);

/// A datagram without an answer is sent again after this: it may have been lost.
const AGAIN_AFTER: Duration = Duration::from_millis(900);

/// Time that all servers have together: less than the five seconds after which the C library asks again.
const ALL_WITHIN: Duration = Duration::from_millis(4500);

/// Time for the whole of an answer that a datagram had no room for. The short one is passed on when it is over.
const WHOLE_WITHIN: Duration = Duration::from_secs(1);

/// Longest message.
const LONGEST: usize = u16::MAX as usize;

/// What is read of the machine's `resolv.conf`, in bytes.
const LONGEST_FILE: u64 = 64 * 1024;

/// The port of name servers.
const PORT: u16 = 53;

/// The machine's own servers: those of its `resolv.conf`, read again whenever it is another.
#[derive(Debug)]
pub(super) struct Machine {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Arc<[SocketAddr]>)>>,
}

/// What tells one version of a file from the next: device, file, length, and when it was last changed.
type Stamp = (u64, u64, u64, i64, i64);

impl Machine {
    pub(super) fn new(path: PathBuf) -> Self {
        let read = Mutex::new(None);
        Self { path, read }
    }

    /// The servers, in order. An unreadable file is one that lists none.
    pub(super) fn servers(&self) -> Arc<[SocketAddr]> {
        let stamp = self.stamp();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, servers)) = &*read
            && *of == stamp
        {
            return servers.clone();
        }
        let servers: Arc<[SocketAddr]> = self.listed().into();
        *read = Some((stamp, servers.clone()));
        servers
    }

    fn stamp(&self) -> Stamp {
        let of = |file: fs::Metadata| {
            let (device, inode, length) = (file.dev(), file.ino(), file.len());
            (device, inode, length, file.ctime(), file.ctime_nsec())
        };
        fs::metadata(&self.path).map_or_else(|_| Stamp::default(), of)
    }

    fn listed(&self) -> Vec<SocketAddr> {
        let mut text = Vec::new();
        let file = File::open(&self.path);
        let read = file.and_then(|file| file.take(LONGEST_FILE).read_to_end(&mut text));
        if let Err(error) = read {
            debug!(path = %self.path.display(), %error, "no name servers can be read");
        }
        let listed = resolv::servers(&String::from_utf8_lossy(&text));
        listed.into_iter().filter_map(placed).collect()
    }
}

/// The servers that a user has named, in order.
pub(super) fn named(servers: &[IpAddr]) -> Arc<[SocketAddr]> {
    servers.iter().map(|addr| (*addr, PORT).into()).collect()
}

/// Where a listed server is; nowhere if its interface is not there.
fn placed(listed: Listed) -> Option<SocketAddr> {
    match (listed.addr, listed.scope) {
        (IpAddr::V6(addr), Some(scope)) => {
            let number = scope.parse().ok();
            let index = number.or_else(|| if_nametoindex(&*scope).ok())?;
            Some(SocketAddrV6::new(addr, PORT, 0, index).into())
        }
        (addr, _) => Some((addr, PORT).into()),
    }
}

/// Asks the servers in order. Returns within [`ALL_WITHIN`] what the asker is to be sent: an answer, or that there is
/// none.
pub(super) async fn ask(asked: &Asked, servers: &[SocketAddr]) -> Vec<u8> {
    let end = Instant::now() + ALL_WITHIN;
    let mut last = None;
    for server in servers {
        let until = end.min(Instant::now() + SERVER_WITHIN);
        match timeout_at(until, ask_one(asked, *server)).await {
            Ok(Ok(answer)) if is_no_help(&answer) => last = Some(answer),
            Ok(Ok(answer)) => return asked.answered(answer),
            Ok(Err(error)) => debug!(%server, %error, "a name server cannot be asked"),
            Err(_) => debug!(%server, "a name server does not answer"),
        }
    }
    last.map_or_else(|| asked.failed(), |answer| asked.answered(answer))
}

/// An answer of one server. The caller sets the deadline.
async fn ask_one(asked: &Asked, server: SocketAddr) -> io::Result<Vec<u8>> {
    if asked.via() == Via::Tcp {
        return by_stream(asked, server).await;
    }
    let answer = by_datagram(asked, server).await?;
    if !is_cut_short(&answer) {
        return Ok(answer);
    }
    // The server may put less into a datagram than the asker takes.
    match timeout(WHOLE_WITHIN, by_stream(asked, server)).await {
        Ok(Ok(whole)) if whole.len() <= asked.limit() => Ok(whole),
        _ => Ok(answer),
    }
}

async fn by_datagram(asked: &Asked, server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of the kernel's choice, which is a random one.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id = rand::random();
    let question = asked.under(id);
    // One byte more than the asker takes: what does not fit into that is too long, whatever its length.
    let mut bytes = vec![0; asked.limit() + 1];
    loop {
        socket.send(&question).await?;
        if let Ok(length) = timeout(AGAIN_AFTER, receive(&socket, asked, id, &mut bytes)).await {
            bytes.truncate(length?);
            return Ok(bytes);
        }
    }
}

/// The length of the first datagram that is an answer.
async fn receive(
    socket: &UdpSocket,
    asked: &Asked,
    id: u16,
    bytes: &mut [u8],
) -> io::Result<usize> {
    loop {
        let length = socket.recv(bytes).await?;
        if asked.is_answered_by(id, &bytes[..length]) {
            return Ok(length);
        }
    }
}

async fn by_stream(asked: &Asked, server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let id = rand::random();
    stream.write_all(&framed(&asked.under(id))).await?;
    let answer = read_message(&mut stream, LONGEST).await?;
    if asked.is_answered_by(id, &answer) {
        return Ok(answer);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "the answer is to another question",
    ))
}

/// A message with its length before it, as a stream carries it.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let message = &message[..usize::from(length)];
    [&length.to_be_bytes(), message].concat()
}

/// The next message of a stream; an error when it is longer than `longest`.
pub(super) async fn read_message(stream: &mut TcpStream, longest: usize) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > longest {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the message is too long",
        ));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
