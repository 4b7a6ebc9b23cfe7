//! A conversation with the kernel about links, addresses, neighbours, routes and rules.
//!
//! A socket belongs for ever to the namespace of the thread that opened it, and may be used from any thread. The kernel
//! answers each request before it takes the next, so that a call blocks for as long as the work takes: it is made from
//! threads that may block, never from those that carry tasks.

use std::io;

use nix::libc;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::LinkError;

/// Requests that are sent at once: their answers fit into a socket's buffer of the smallest usual size.
const AT_ONCE: usize = 64;

/// A listing is asked for again when the kernel says that it changed while it was written, so many times.
const LISTINGS: usize = 8;

/// Set in the answers of a listing that changed while it was written.
const INTERRUPTED: u16 = 0x10;

/// One thing that the kernel is to do.
#[derive(Debug)]
pub(super) struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
    /// What is attempted, as it follows "cannot".
    what: String,
    /// Errors that mean it is so already.
    good: &'static [i32],
}

impl Request {
    /// Makes what is not there; an error when it is.
    pub(super) fn create(message: RouteNetlinkMessage, what: impl Into<String>) -> Self {
        Self {
            message,
            flags: NLM_F_CREATE | NLM_F_EXCL,
            what: what.into(),
            good: &[],
        }
    }

    /// Makes what is not there.
    pub(super) fn ensure(message: RouteNetlinkMessage, what: impl Into<String>) -> Self {
        Self {
            good: &[libc::EEXIST],
            ..Self::create(message, what)
        }
    }

    /// Makes it as it is said here, whatever it was.
    pub(super) fn replace(message: RouteNetlinkMessage, what: impl Into<String>) -> Self {
        Self {
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            ..Self::create(message, what)
        }
    }

    /// Changes what is there.
    pub(super) fn change(message: RouteNetlinkMessage, what: impl Into<String>) -> Self {
        Self {
            flags: 0,
            ..Self::create(message, what)
        }
    }

    /// Takes away what may be there.
    pub(super) fn remove(message: RouteNetlinkMessage, what: impl Into<String>) -> Self {
        Self {
            good: &[libc::ENOENT, libc::ESRCH, libc::ENODEV, libc::EADDRNOTAVAIL],
            ..Self::change(message, what)
        }
    }
}

/// A socket to the kernel.
pub(super) struct Kernel {
    socket: Socket,
    sequence: u32,
}

impl Kernel {
    /// Opens one, for the namespace of this thread.
    pub(super) fn open() -> Result<Self, LinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_netlink_get_strict_chk(true)?;
            socket.set_cap_ack(true)?;
            Ok(Self {
                socket,
                sequence: 0,
            })
        };
        open().map_err(LinkError::kernel("talk with the kernel about links"))
    }

    /// Has all of it done, in this order, also when some of it fails. Says the first failure.
    pub(super) fn tell(&mut self, requests: Vec<Request>) -> Result<(), LinkError> {
        let mut first = None;
        let mut rest = requests.into_iter().peekable();
        while rest.peek().is_some() {
            let some: Vec<Request> = rest.by_ref().take(AT_ONCE).collect();
            for (what, source) in self.tell_some(some)? {
                tracing::debug!(%what, error = %source, "the kernel refused");
                first.get_or_insert(LinkError::Kernel { what, source });
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// What the kernel has of what this asks for: one thing, or none.
    pub(super) fn get(
        &mut self,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<Option<RouteNetlinkMessage>, LinkError> {
        let sequence = self.next();
        let mut bytes = Vec::new();
        write(message, NLM_F_REQUEST | NLM_F_ACK, sequence, &mut bytes);
        let mut found = None;
        let mut conversation = || {
            self.socket.send(&bytes, 0)?;
            loop {
                for (_, number, payload) in self.receive()? {
                    match payload {
                        _ if number != sequence => {}
                        NetlinkPayload::InnerMessage(message) => found = Some(message),
                        NetlinkPayload::Error(answer) if answer.code.is_none() => return Ok(()),
                        NetlinkPayload::Error(answer) => return Err(answer.to_io()),
                        NetlinkPayload::Done(_)
                        | NetlinkPayload::Noop
                        | NetlinkPayload::Overrun(_)
                        | _ => {}
                    }
                }
            }
        };
        match conversation() {
            Ok(()) => Ok(found),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(LinkError::kernel(what)(error)),
        }
    }

    /// All that the kernel has of what this asks for, as of one moment.
    pub(super) fn list(
        &mut self,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, LinkError> {
        for _ in 0..LISTINGS {
            let listed = self.list_once(message.clone());
            if let Some(all) = listed.map_err(LinkError::kernel(what))? {
                return Ok(all);
            }
        }
        Err(LinkError::kernel(what)(io::Error::other(
            "it changes all the time",
        )))
    }

    /// `None` when it changed meanwhile.
    fn list_once(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        let sequence = self.next();
        let mut bytes = Vec::new();
        write(message, NLM_F_REQUEST | NLM_F_DUMP, sequence, &mut bytes);
        self.socket.send(&bytes, 0)?;
        let (mut all, mut whole) = (Vec::new(), true);
        loop {
            for (flags, number, payload) in self.receive()? {
                if number != sequence {
                    continue;
                }
                whole &= flags & INTERRUPTED == 0;
                match payload {
                    NetlinkPayload::InnerMessage(message) => all.push(message),
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Done(_) => return Ok(whole.then_some(all)),
                    NetlinkPayload::Error(answer) => return Err(answer.to_io()),
                    NetlinkPayload::Noop | NetlinkPayload::Overrun(_) | _ => {}
                }
            }
        }
    }

    fn tell_some(&mut self, requests: Vec<Request>) -> Result<Vec<(String, io::Error)>, LinkError> {
        let mut bytes = Vec::new();
        let mut waiting = Vec::new();
        for request in requests {
            let sequence = self.next();
            let flags = NLM_F_REQUEST | NLM_F_ACK | request.flags;
            write(request.message, flags, sequence, &mut bytes);
            waiting.push((sequence, request.what, request.good));
        }
        let mut failed = Vec::new();
        let mut conversation = || {
            self.socket.send(&bytes, 0)?;
            while !waiting.is_empty() {
                for (_, number, payload) in self.receive()? {
                    let NetlinkPayload::Error(answer) = payload else {
                        continue;
                    };
                    let Some(at) = waiting.iter().position(|one| one.0 == number) else {
                        continue;
                    };
                    let (_, what, good) = waiting.remove(at);
                    if !good.contains(&-answer.raw_code()) && answer.code.is_some() {
                        failed.push((what, answer.to_io()));
                    }
                }
            }
            Ok(())
        };
        conversation().map_err(LinkError::kernel("talk with the kernel about links"))?;
        Ok(failed)
    }

    fn receive(&self) -> io::Result<Vec<Received>> {
        let (bytes, _) = self.socket.recv_from_full()?;
        Ok(read(&bytes))
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

/// Flags, number and content of a message.
pub(super) type Received = (u16, u32, NetlinkPayload<RouteNetlinkMessage>);

/// The messages in a datagram of the kernel's. What is not understood is left out: a newer kernel says more.
pub(super) fn read(bytes: &[u8]) -> Vec<Received> {
    let mut rest = bytes;
    let mut all = Vec::new();
    while let Some((length, _)) = rest.split_first_chunk() {
        let length = u32::from_ne_bytes(*length) as usize;
        let Some(bytes) = rest.get(..length).filter(|bytes| bytes.len() >= 16) else {
            break;
        };
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
            Ok(message) => {
                let (header, payload) = message.into_parts();
                all.push((header.flags, header.sequence_number, payload));
            }
            Err(error) => tracing::debug!(%error, "a message of the kernel was not understood"),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn write(message: RouteNetlinkMessage, flags: u16, sequence: u32, bytes: &mut Vec<u8>) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = bytes.len().next_multiple_of(4);
    bytes.resize(start + message.buffer_len(), 0);
    message.serialize(&mut bytes[start..]);
}
