//! The one UDP port: binds it, counts what passes, and gives it back when told to.
//!
//! quinn frees a socket only when the last handle of every connection and stream is gone, and streams are in
//! the hands of other rooms. [`Port`] stands between: after [`Port::release`] the port is free at once, whoever
//! still holds what. It reads no packet's content; it only looks whether a peer can have sent it at all, and whether it
//! begins a handshake for which there is no time ([`super::backlog`]).

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use quinn_proto::{ConnectionIdGenerator, HashedConnectionIdGenerator};
use tokio::time::Instant;

use super::backlog::{Backlog, begins_handshake};
use super::error::StartError;
use super::hub::lock;
use super::stats::WireCounters;

/// Bytes of the kernel's queues, where it grants them: bursts of many peers while the process waits for a core.
const KERNEL_BUFFER: usize = 2 << 20;

/// Bytes of a connection ID that [`HashedConnectionIdGenerator`] makes.
const CID_BYTES: usize = 8;

/// The shortest datagram with a short header that QUIC can mean: the sample for header protection needs it.
const SHORTEST: usize = 1 + CID_BYTES + 4 + 8;

/// Opens the UDP socket at `addr`. An IPv6 socket takes IPv4 too.
pub(super) fn open(addr: SocketAddr) -> Result<UdpSocket, StartError> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Datagram, flags, None).map_err(|no| explain(addr, no))?;
    if addr.is_ipv6() {
        // Where the system forbids it, IPv6 alone still works.
        let _ = setsockopt(&fd, sockopt::Ipv6V6Only, &false);
    }
    if setsockopt(&fd, sockopt::RcvBufForce, &KERNEL_BUFFER).is_err() {
        let _ = setsockopt(&fd, sockopt::RcvBuf, &KERNEL_BUFFER);
    }
    if setsockopt(&fd, sockopt::SndBufForce, &KERNEL_BUFFER).is_err() {
        let _ = setsockopt(&fd, sockopt::SndBuf, &KERNEL_BUFFER);
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(addr)).map_err(|no| explain(addr, no))?;
    Ok(UdpSocket::from(fd))
}

fn explain(addr: SocketAddr, error: Errno) -> StartError {
    match error {
        Errno::EADDRINUSE => StartError::PortTaken(addr),
        Errno::EACCES | Errno::EPERM => StartError::Privileged(addr),
        Errno::EADDRNOTAVAIL => StartError::NotOurAddress(addr),
        Errno::EAFNOSUPPORT => StartError::NoSuchFamily(addr),
        other => StartError::Socket {
            addr,
            source: other.into(),
        },
    }
}

/// A UDP socket that can be taken away from under quinn.
pub(super) struct Port {
    socket: RwLock<Option<Arc<dyn AsyncUdpSocket>>>,
    local: SocketAddr,
    receive_segments: usize,
    may_fragment: bool,
    full: AtomicBool,
    cids: HashedConnectionIdGenerator,
    backlog: Mutex<Backlog>,
    counters: Arc<WireCounters>,
}

impl Port {
    /// Takes `socket` over. `cid_key` is the one of quinn's connection IDs. Must be called within a tokio runtime.
    pub(super) fn new(
        socket: UdpSocket,
        cid_key: u64,
        counters: Arc<WireCounters>,
    ) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let socket = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Self {
            local,
            receive_segments: socket.max_receive_segments(),
            may_fragment: socket.may_fragment(),
            socket: RwLock::new(Some(socket)),
            full: AtomicBool::new(false),
            cids: HashedConnectionIdGenerator::from_key(cid_key),
            backlog: Mutex::default(),
            counters,
        })
    }

    /// Closes the socket. What is sent from then on goes nowhere, and nothing more is received.
    pub(super) fn release(&self) {
        self.socket
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Holds off [`Self::release`] while it lives, so that the port is free when that returns.
    fn socket(&self) -> RwLockReadGuard<'_, Option<Arc<dyn AsyncUdpSocket>>> {
        self.socket.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_received(&self, datagrams: &[u8], stride: usize) {
        for datagram in datagrams.chunks(stride.max(1)) {
            self.counters.datagrams_received.one();
            self.counters.bytes_received.add(datagram.len() as u64);
            if !may_be_ours(datagram, &self.cids) {
                self.counters.garbage.one();
            }
        }
    }

    /// Empties those of the received messages that are not to be worked on.
    fn shed(&self, bufs: &[IoSliceMut<'_>], meta: &mut [RecvMeta]) {
        let now = Instant::now();
        let mut backlog = lock(&self.backlog);
        backlog.read(now);
        for (meta, buf) in meta.iter_mut().zip(bufs) {
            let datagrams = buf.get(..meta.len).unwrap_or_default();
            let mut each = datagrams.chunks(meta.stride.max(1)).peekable();
            let begins = |one| begins_handshake(one, &self.cids);
            if each.peek().is_some() && each.all(begins) && !backlog.lets_in(now) {
                self.counters.shed.one();
                meta.len = 0;
            }
        }
    }
}

/// Whether a peer can have sent a datagram, by its first bytes: QUIC 1 with the fixed bit, to one of our connection
/// IDs. A stateless reset is made to look like noise, and counts as such.
fn may_be_ours(datagram: &[u8], cids: &HashedConnectionIdGenerator) -> bool {
    let Some(first) = datagram.first() else {
        return false;
    };
    if first & 0x40 == 0 {
        return false;
    }
    if first & 0x80 != 0 {
        let version = datagram.get(1..5);
        return version == Some(&[0, 0, 0, 1]) || version == Some(&[0, 0, 0, 0]);
    }
    if datagram.len() < SHORTEST {
        return false;
    }
    let cid = quinn::ConnectionId::new(&datagram[1..=CID_BYTES]);
    cids.validate(&cid).is_ok()
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({})", self.local)
    }
}

impl AsyncUdpSocket for Port {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room {
            port: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let socket = self.socket();
        let Some(socket) = socket.as_ref() else {
            return Ok(());
        };
        let sent = socket.try_send(transmit);
        match &sent {
            Ok(()) => {
                let bytes = transmit.contents.len();
                let datagrams = transmit
                    .segment_size
                    .map_or(1, |size| bytes.div_ceil(size.max(1)));
                self.counters.datagrams_sent.add(datagrams as u64);
                self.counters.bytes_sent.add(bytes as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.full.store(true, Ordering::Release);
            }
            Err(_) => {}
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket();
        let Some(socket) = socket.as_ref() else {
            return Poll::Pending;
        };
        let Poll::Ready(received) = socket.poll_recv(cx, bufs, meta) else {
            lock(&self.backlog).emptied();
            return Poll::Pending;
        };
        if let Ok(count) = received {
            for (meta, buf) in meta.iter().zip(bufs.iter()).take(count) {
                if let Some(datagrams) = buf.get(..meta.len) {
                    self.count_received(datagrams, meta.stride);
                }
            }
            self.shed(bufs, meta.get_mut(..count).unwrap_or_default());
        }
        Poll::Ready(received)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn max_transmit_segments(&self) -> usize {
        let socket = self.socket();
        socket.as_ref().map_or(1, |s| s.max_transmit_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.receive_segments
    }

    fn may_fragment(&self) -> bool {
        self.may_fragment
    }
}

/// Tells quinn when there is room to send. It holds the socket only while there is none, so that a connection
/// that somebody forgot does not keep the port.
struct Room {
    port: Arc<Port>,
    waiting: Option<Pin<Box<dyn UdpPoller>>>,
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = self.get_mut();
        if room.waiting.is_none() {
            if !room.port.full.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            let socket = room.port.socket().clone();
            room.waiting = socket.map(AsyncUdpSocket::create_io_poller);
        }
        let Some(waiting) = &mut room.waiting else {
            return Poll::Ready(Ok(()));
        };
        let result = ready!(waiting.as_mut().poll_writable(cx));
        room.port.full.store(false, Ordering::Release);
        room.waiting = None;
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_taken_port_a_foreign_address_and_the_rest_are_told_apart() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let held = open(addr).unwrap();
        let taken = held.local_addr().unwrap();
        let error = open(taken).unwrap_err();
        assert!(matches!(error, StartError::PortTaken(a) if a == taken));
        assert!(error.to_string().contains(&format!(
            "port {}/udp is taken by another program",
            taken.port()
        )));
        let foreign = SocketAddr::from(([203, 0, 113, 7], 2377));
        let error = open(foreign).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("203.0.113.7 is not an address")
        );
        assert!(matches!(
            explain(addr, Errno::EACCES),
            StartError::Privileged(_)
        ));
        assert!(matches!(
            explain(addr, Errno::EAFNOSUPPORT),
            StartError::NoSuchFamily(_)
        ));
        drop(held);
        open(taken).expect("the port is free again");
    }

    #[test]
    fn noise_is_told_from_quic() {
        let mut cids = HashedConnectionIdGenerator::from_key(7);
        let mut short = vec![0x40];
        short.extend_from_slice(&cids.generate_cid());
        short.resize(200, 0xaa);
        assert!(may_be_ours(&short, &cids));
        short[3] ^= 1;
        assert!(!may_be_ours(&short, &cids), "not one of our IDs");
        assert!(may_be_ours(&[0xc0, 0, 0, 0, 1, 8], &cids));
        assert!(!may_be_ours(&[0xc0, 0xff, 0, 0, 1, 8], &cids));
        assert!(!may_be_ours(b"GET / HTTP/1.1\r\n", &cids));
        assert!(!may_be_ours(&[], &cids));
        assert!(!may_be_ours(&[0x40; 8], &cids));
        assert!(!may_be_ours(&[0x16; 300], &cids), "no fixed bit");
    }

    /// Bytes of the next message as quinn sees it, if one has come.
    async fn next(port: &Port) -> usize {
        let (mut bytes, mut meta) = (vec![0; 1 << 16], [RecvMeta::default()]);
        let mut bufs = [IoSliceMut::new(&mut bytes)];
        let received = poll_fn(|cx| port.poll_recv(cx, &mut bufs, &mut meta)).await;
        assert_eq!(received.unwrap(), 1);
        meta[0].len
    }

    #[tokio::test(start_paused = true)]
    async fn while_packets_wait_few_new_handshakes_are_handed_on_and_everything_else() {
        let socket = open(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let counters = Arc::new(WireCounters::default());
        let port = Port::new(socket, 7, Arc::clone(&counters)).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.connect(port.local).unwrap();
        let mut first = vec![0xc0, 0, 0, 0, 1, 8];
        first.resize(1_200, 9);
        let mut later = vec![0x40];
        later.extend_from_slice(&HashedConnectionIdGenerator::from_key(7).generate_cid());
        later.resize(100, 9);
        for _ in 0..20 {
            peer.send(&first).unwrap();
            peer.send(&later).unwrap();
        }
        let mut begun = 0;
        for _ in 0..20 {
            begun += usize::from(next(&port).await == first.len());
            tokio::time::advance(Duration::from_millis(20)).await;
            assert_eq!(next(&port).await, later.len());
            tokio::time::advance(Duration::from_millis(20)).await;
        }
        assert_eq!(begun, 4 + 5, "a burst's, and then one in three");
        assert_eq!(counters.shed.read(), 20 - 9);
        assert!(next(&port).now_or_never().is_none());
        for _ in 0..9 {
            peer.send(&first).unwrap();
            assert_eq!(next(&port).await, first.len(), "it has caught up");
        }
    }
}
