//! Messages of the kernel's packet filter and of its connection table, as bytes; and the socket that they go through.
//!
//! Attributes lie inside of one another, each padded to four bytes; numbers are big-endian. A batch is one transaction:
//! all of it holds, or nothing. See `linux/netfilter/nfnetlink.h` and `nf_tables.h`.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use futures_util::FutureExt as _;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

/// The protocol families of tables.
pub(super) const INET: u8 = 1;
pub(super) const IPV4: u8 = 2;

/// Flags of requests.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const LIST: u16 = 0x300;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// The filter's own part of the messages' numbers, and the connection table's.
const TABLES: u16 = 10;
const CONNECTIONS: u16 = 1;

/// All who want to hear of changes of tables, as a bit.
const CHANGES: u32 = 1 << 6;

/// Set in the kind of an attribute that others lie in.
const NESTED: u16 = 0x8000;

const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Bytes of a transaction that the socket takes: some thousand services.
const ROOM: usize = 64 << 20;

/// The kernel answers within this, or something is wrong with it.
const DEADLINE: Duration = Duration::from_secs(10);

/// Attributes, one after another.
#[derive(Debug, Default)]
pub(super) struct Attrs(Vec<u8>);

impl Attrs {
    /// An attribute with these bytes.
    pub(super) fn put(&mut self, kind: u16, bytes: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + bytes.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A number.
    pub(super) fn number(&mut self, kind: u16, number: u32) -> &mut Self {
        self.put(kind, &number.to_be_bytes())
    }

    /// A text, with the zero that ends it.
    pub(super) fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        self.put(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// An attribute in which others lie.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.put(kind | NESTED, &inner.0)
    }

    /// All that is in others.
    pub(super) fn raw(&mut self, other: &Self) -> &mut Self {
        self.0.extend(&other.0);
        self
    }
}

/// A transaction in the making.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    family: u8,
    /// Of the last message.
    number: u32,
    /// Where the flags of the last message are.
    flags_at: usize,
    sets: u32,
}

impl Batch {
    /// One that changes nothing yet, in tables of a family.
    pub(super) fn new(family: u8) -> Self {
        let mut batch = Self::of_nothing(family);
        batch.message(BATCH_BEGIN, REQUEST, 0, TABLES, &Attrs::default());
        batch
    }

    /// No transaction, but messages one by one.
    fn of_nothing(family: u8) -> Self {
        Self {
            bytes: Vec::new(),
            family,
            number: 0,
            flags_at: 0,
            sets: 0,
        }
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, attrs: &Attrs) {
        self.number += 1;
        let length = u32::try_from(20 + attrs.0.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.flags_at = self.bytes.len();
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.number.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(&attrs.0);
    }

    /// Adds a message of the filter's.
    pub(super) fn add(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Attrs)) {
        let mut attrs = Attrs::default();
        fill(&mut attrs);
        self.message(TABLES << 8 | kind, REQUEST | flags, self.family, 0, &attrs);
    }

    /// A number for a set that has no name.
    pub(super) fn set_number(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }

    /// Whether it would change nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.number == 1
    }

    fn finish(mut self) -> (Vec<u8>, u32) {
        let flags = REQUEST | ACK | u16::from_ne_bytes(self.flags());
        if let Some(place) = self.bytes.get_mut(self.flags_at..self.flags_at + 2) {
            place.copy_from_slice(&flags.to_ne_bytes());
        }
        let last = self.number;
        self.message(BATCH_END, REQUEST, 0, TABLES, &Attrs::default());
        (self.bytes, last)
    }

    fn flags(&self) -> [u8; 2] {
        let place = self.bytes.get(self.flags_at..self.flags_at + 2);
        place
            .and_then(|place| place.try_into().ok())
            .unwrap_or_default()
    }
}

/// A socket to the kernel, in the namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Opens one.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkNetFilter;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&fd, sockopt::SndBufForce, &ROOM)?;
        setsockopt(&fd, sockopt::RcvBufForce, &ROOM)?;
        let deadline = i64::try_from(DEADLINE.as_secs()).unwrap_or(i64::MAX);
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(deadline))?;
        Ok(Self(fd))
    }

    /// What the kernel calls it.
    pub(super) fn number(&self) -> io::Result<u32> {
        Ok(getsockname::<NetlinkAddr>(self.0.as_raw_fd())?.pid())
    }

    /// Has a transaction done. Nothing of it is when this fails.
    pub(super) fn commit(&self, batch: Batch) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let (bytes, last) = batch.finish();
        self.talk(&bytes, last)
    }

    /// Has one message of the connection table done.
    pub(super) fn connections(&self, kind: u16, family: u8, attrs: &Attrs) -> io::Result<()> {
        let mut batch = Batch::of_nothing(family);
        batch.message(CONNECTIONS << 8 | kind, REQUEST | ACK, family, 0, attrs);
        self.talk(&batch.bytes, batch.number)
    }

    /// All that the kernel has of a kind, in tables of a family.
    pub(super) fn list(&self, kind: u16, family: u8) -> io::Result<Vec<Item>> {
        let mut batch = Batch::of_nothing(family);
        let kind = TABLES << 8 | kind;
        batch.message(kind, REQUEST | LIST, family, 0, &Attrs::default());
        let fd = self.0.as_raw_fd();
        sendto(fd, &batch.bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut room = vec![0; 64 << 10];
        let mut all = Vec::new();
        loop {
            let length = recv(fd, &mut room, MsgFlags::empty())?;
            let mut rest = room.get(..length).unwrap_or_default();
            while let Some((message, more)) = Message::read(rest) {
                rest = more;
                match message.kind {
                    DONE => return Ok(all),
                    ERROR => {
                        let code = number_at(message.body, 0).unwrap_or_default();
                        return Err(Errno::from_raw(-code.cast_signed()).into());
                    }
                    _ => all.push(message.item()),
                }
            }
        }
    }

    fn talk(&self, bytes: &[u8], last: u32) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        sendto(fd, bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut room = vec![0; 64 << 10];
        let mut failed = None;
        loop {
            let length = recv(fd, &mut room, MsgFlags::empty())?;
            let mut rest = room.get(..length).unwrap_or_default();
            while let Some((answer, more)) = answer(rest) {
                rest = more;
                if answer.code != 0 {
                    failed.get_or_insert(answer.code);
                }
                if answer.number == last || answer.number == 0 {
                    return match failed {
                        None => Ok(()),
                        Some(code) => Err(Errno::from_raw(-code).into()),
                    };
                }
            }
        }
    }
}

/// Hears of every change of tables in the namespace of the thread that opened it.
pub(super) struct Listener(TokioSocket);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl Listener {
    /// Opens one, where a runtime is at hand.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(SockProtocol::NetlinkNetFilter as isize)?;
        setsockopt(socket.socket_mut(), sockopt::RcvBufForce, &ROOM)?;
        socket.socket_mut().bind(&SocketAddr::new(0, CHANGES))?;
        Ok(Self(socket))
    }

    /// Waits until some other socket than `own` has changed something in a table of this name, and takes note of all that it
    /// did until now.
    pub(super) async fn anothers(&self, own: u32, table: &str) -> io::Result<()> {
        while !self.heard(own, table).await? {}
        while let Some(more) = self.heard(own, table).now_or_never() {
            more?;
        }
        Ok(())
    }

    /// Waits for the next message. Whether it is of what another socket did to the table.
    async fn heard(&self, own: u32, table: &str) -> io::Result<bool> {
        match self.0.recv_from_full().await {
            Ok((bytes, _)) => Ok(is_anothers(&bytes, own, table)),
            // There was more to say than fits: it may have been anything.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Whether one of these messages is of what another socket did to a table of this name.
fn is_anothers(mut bytes: &[u8], own: u32, table: &str) -> bool {
    let name = [table.as_bytes(), &[0]].concat();
    while let Some((message, rest)) = Message::read(bytes) {
        let of_tables = message.kind >> 8 == TABLES;
        // The first attribute names the table in all of them, but in that which ends a transaction.
        if of_tables && message.by != own && message.item().attr(1) == Some(&name) {
            return true;
        }
        bytes = rest;
    }
    false
}

/// A message of the kernel's.
struct Message<'a> {
    kind: u16,
    by: u32,
    /// All behind its head.
    body: &'a [u8],
}

impl<'a> Message<'a> {
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = usize::try_from(number_at(bytes, 0)?).ok()?;
        let body = bytes.get(16..length)?;
        let message = Self {
            kind: u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?),
            by: number_at(bytes, 12)?,
            body,
        };
        let next = length.next_multiple_of(4).min(bytes.len());
        Some((message, bytes.get(next..)?))
    }

    fn item(&self) -> Item {
        Item {
            family: self.body.first().copied().unwrap_or_default(),
            attrs: self.body.get(4..).unwrap_or_default().to_owned(),
        }
    }
}

/// Something that the kernel has.
#[derive(Debug)]
pub(super) struct Item {
    /// Of tables of this protocol family.
    pub(super) family: u8,
    attrs: Vec<u8>,
}

impl Item {
    /// The value of an attribute.
    pub(super) fn attr(&self, kind: u16) -> Option<&[u8]> {
        let mut rest = &self.attrs[..];
        loop {
            let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
            let is = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & !NESTED;
            let value = rest.get(4..length)?;
            if is == kind {
                return Some(value);
            }
            rest = rest.get(length.next_multiple_of(4)..)?;
        }
    }

    /// The attributes that lie in one.
    pub(super) fn nested(&self, kind: u16) -> Option<Self> {
        Some(Self {
            family: self.family,
            attrs: self.attr(kind)?.to_owned(),
        })
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(field.try_into().ok()?))
}

/// What the kernel says of a message.
struct Answer {
    number: u32,
    code: i32,
}

fn answer(bytes: &[u8]) -> Option<(Answer, &[u8])> {
    let length = usize::try_from(number_at(bytes, 0)?).ok()?.max(16);
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let code = match kind {
        ERROR => number_at(bytes, 16)?.cast_signed(),
        _ => 0,
    };
    let number = match kind {
        ERROR => number_at(bytes, 8)?,
        // Nobody asked for it.
        _ => u32::MAX,
    };
    let next = length.next_multiple_of(4).min(bytes.len());
    Some((Answer { number, code }, bytes.get(next..)?))
}
