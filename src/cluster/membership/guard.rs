//! Looks through each gossip message before chitchat does.
//!
//! chitchat trusts its peers: a well-formed message with a key that is not ASCII, a version that falls, or more
//! members than its digest can hold makes it panic, and gossip is not signed, so one bad member could take the
//! whole cluster down. This reads the same bytes first and refuses what no honest member sends. Called for every
//! message that comes in; it must never let through what it could not read to the end.
//!
//! The format is chitchat 0.13's, protocol version 1: a header, then a digest of all members, a delta of keys
//! and values, or both, each a stream of zstd blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::facts::MAX_VALUE;
use crate::model::NodeId;

/// Lives of members (a restarted one has two for a while) that this node keeps at once. With more, the digest
/// could grow beyond what a message holds.
pub(super) const MAX_LIVES: usize = 2_048;

/// A life that nobody has mentioned for so long is not counted any more: chitchat has dropped it, too.
const LIFE_MEMORY: Duration = Duration::from_secs(180);

/// Longest key.
const MAX_KEY: usize = 64;

/// Versions and heartbeats rise by one at a time: no honest one comes near, and sums of them do not overflow.
const MAX_COUNT: u64 = 1 << 48;

/// Unpacked bytes of one message.
const MAX_UNPACKED: usize = 4 << 20;

/// Unpacked bytes of one block, chitchat's own limit.
const MAX_BLOCK: usize = u16::MAX as usize;

const MAGIC: u16 = 45_139;
const VERSION: u8 = 1;

/// Why a message is refused. Nothing of it was used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// It ends too early, or has bytes left over.
    #[error("its length does not match its content")]
    Length,
    /// Another protocol, or another version of it.
    #[error("it is not gossip of a version that this node speaks")]
    Protocol,
    /// Damaged, or made to fill memory.
    #[error("it does not unpack, or to more than {MAX_UNPACKED} bytes")]
    Packing,
    /// A member without a gossip address of ours, or without a generation.
    #[error("it names a member in a way that no member has")]
    Identity,
    /// A key, value, version or heartbeat that no honest node sends.
    #[error("it has {0} out of range")]
    Range(&'static str),
    /// Only this node itself changes its keys.
    #[error(
        "it changes the keys of this very node: is there a copy of its data directory at work?"
    )]
    OwnState,
    /// There would be too many.
    #[error(
        "it would bring the known members, restarts included, beyond {MAX_LIVES}: \
         the cluster is too large, remove nodes"
    )]
    Crowd,
}

/// One life of a member as a digest shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    pub node: NodeId,
    pub generation: u64,
    pub heartbeat: u64,
}

/// The reader of all messages of one node, with what it must remember.
pub(super) struct Guard {
    me: NodeId,
    generation: u64,
    lives: BTreeMap<(NodeId, u64), Instant>,
    unpack: zstd::bulk::Decompressor<'static>,
    block: Vec<u8>,
    raw: Vec<u8>,
}

impl Guard {
    /// A guard of the node `me` in this life of it. Fails when there is no memory for unpacking.
    pub(super) fn new(me: NodeId, generation: u64) -> std::io::Result<Self> {
        Ok(Self {
            me,
            generation,
            lives: BTreeMap::new(),
            unpack: zstd::bulk::Decompressor::new()?,
            block: vec![0; MAX_BLOCK],
            raw: Vec::new(),
        })
    }

    /// Reads a message through. What its digest says of this node itself, which is echo or another life of it, is put
    /// into `own`, also when the message is refused.
    pub(super) fn check(
        &mut self,
        message: &[u8],
        own: &mut Vec<Mention>,
        now: Instant,
    ) -> Result<(), Refused> {
        let mut message = Cursor(message);
        if message.u16()? != MAGIC || message.u8()? != VERSION {
            return Err(Refused::Protocol);
        }
        match message.u8()? {
            0 => {
                self.check_digest(&mut message, own, now)?;
                message.text()?;
            }
            1 => {
                self.check_digest(&mut message, own, now)?;
                self.check_delta(&mut message)?;
            }
            2 => self.check_delta(&mut message)?,
            3 => {}
            _ => return Err(Refused::Protocol),
        }
        if !message.0.is_empty() {
            return Err(Refused::Length);
        }
        Ok(())
    }

    fn check_digest(
        &mut self,
        message: &mut Cursor<'_>,
        own: &mut Vec<Mention>,
        now: Instant,
    ) -> Result<(), Refused> {
        self.unpack_stream(message)?;
        let mut rest = Cursor(&self.raw);
        let mut fresh = Vec::new();
        while !rest.0.is_empty() {
            let (node, generation) = rest.identity()?;
            let heartbeat = rest.count("a heartbeat")?;
            rest.count("a version")?;
            rest.count("a version")?;
            if node == self.me {
                own.push(Mention {
                    node,
                    generation,
                    heartbeat,
                });
            }
            match self.lives.get_mut(&(node, generation)) {
                Some(mentioned) => *mentioned = now,
                None => fresh.push((node, generation)),
            }
        }
        if self.lives.len() + fresh.len() > MAX_LIVES {
            self.lives
                .retain(|_, mentioned| now.duration_since(*mentioned) < LIFE_MEMORY);
        }
        if self.lives.len() + fresh.len() > MAX_LIVES {
            return Err(Refused::Crowd);
        }
        self.lives.extend(fresh.into_iter().map(|life| (life, now)));
        Ok(())
    }

    fn check_delta(&mut self, message: &mut Cursor<'_>) -> Result<(), Refused> {
        self.unpack_stream(message)?;
        let mut rest = Cursor(&self.raw);
        let mut listed = BTreeSet::new();
        // The highest version of the member whose keys are being listed.
        let mut version = None;
        while !rest.0.is_empty() {
            match rest.u8()? {
                0 => {
                    let (node, generation) = rest.identity()?;
                    if (node, generation) == (self.me, self.generation) {
                        return Err(Refused::OwnState);
                    }
                    if !listed.insert((node, generation)) {
                        return Err(Refused::Range("the order of its changes"));
                    }
                    rest.count("a version")?;
                    rest.count("a version")?;
                    version = Some(0);
                }
                1 => {
                    check_key(rest.text()?)?;
                    if rest.text()?.len() > MAX_VALUE {
                        return Err(Refused::Range("a value"));
                    }
                    let next = rest.count("a version")?;
                    if rest.u8()? > 2 || version.is_none_or(|version| next <= version) {
                        return Err(Refused::Range("the order of its changes"));
                    }
                    version = Some(next);
                }
                2 => {
                    rest.count("a version")?;
                    if version != Some(0) {
                        return Err(Refused::Range("the order of its changes"));
                    }
                    version = None;
                }
                _ => return Err(Refused::Protocol),
            }
        }
        Ok(())
    }

    /// Unpacks the blocks at the start of `message` into `self.raw`.
    fn unpack_stream(&mut self, message: &mut Cursor<'_>) -> Result<(), Refused> {
        self.raw.clear();
        loop {
            let kind = message.u8()?;
            if kind == 0 {
                return Ok(());
            }
            let len = usize::from(message.u16()?);
            let packed = message.take(len)?;
            let unpacked = match kind {
                1 => {
                    let len = self
                        .unpack
                        .decompress_to_buffer(packed, &mut self.block[..])
                        .map_err(|_damaged| Refused::Packing)?;
                    &self.block[..len]
                }
                2 => packed,
                _ => return Err(Refused::Protocol),
            };
            if self.raw.len() + unpacked.len() > MAX_UNPACKED {
                return Err(Refused::Packing);
            }
            self.raw.extend_from_slice(unpacked);
        }
    }
}

fn check_key(key: &str) -> Result<(), Refused> {
    let fits =
        (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(()).ok_or(Refused::Range("a key"))
}

/// Bytes not yet read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Refused::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Refused::Length)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Refused> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Refused> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Refused> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &'static str) -> Result<u64, Refused> {
        let count = self.u64()?;
        (count < MAX_COUNT)
            .then_some(count)
            .ok_or(Refused::Range(what))
    }

    fn text(&mut self) -> Result<&'a str, Refused> {
        let len = usize::from(self.u16()?);
        std::str::from_utf8(self.take(len)?).map_err(|_not_text| Refused::Range("a text"))
    }

    /// A chitchat id as this room makes it: no name, a generation, and the address that is the node's identity.
    fn identity(&mut self) -> Result<(NodeId, u64), Refused> {
        let name = self.text()?;
        let generation = self.u64()?;
        if self.u8()? != 6 {
            return Err(Refused::Identity);
        }
        let addr = std::net::Ipv6Addr::from(self.array::<16>()?);
        let addr = SocketAddr::from((addr, self.u16()?));
        let node = NodeId::from_gossip_addr(addr).filter(|node| node.gossip_addr() == addr);
        match node {
            Some(node) if name.is_empty() && generation > 0 => Ok((node, generation)),
            _ => Err(Refused::Identity),
        }
    }
}

#[cfg(test)]
mod tests;
