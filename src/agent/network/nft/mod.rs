//! The one table of the packet filter: service addresses, published ports, isolation, the way out.
//!
//! [`Nft`] holds what the table is, and makes it what it is to be in one transaction that changes only what differs; it
//! speaks netlink to the kernel, and runs no program. The rules follow three findings: a look-up during a transaction
//! may miss, so it is written more than once, and only what is known to be empty is refused; a published port leads to a
//! task on another node without hiding the client, whose answers go back by the node that was asked, which the task's
//! node knows by the hardware address of the tunnel's packets; and the tunnel's own packets would be routed by the mark of
//! those inside.
//!
//! | file | holds |
//! |---|---|
//! | `rules` | what is to be, as values |
//! | `base` | the chains that are always there |
//! | `change` | the transaction from one to the other |
//! | `others` | chains of other programs that would drop what this one lets pass |
//! | `rule` | one rule as the steps that the kernel takes |
//! | `wire` | messages and the socket |

mod base;
mod change;
mod others;
mod rule;
mod rules;
mod wire;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use rule::{Meta, Rule};
pub use rules::{Pool, Rules, Target};
use wire::{Batch, INET, IPV4, Listener, Socket};

/// The connection table's message that takes connections away.
const DELETE_CONNECTIONS: u16 = 2;

/// Where containers ask for names, and the port.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const NAMES: u16 = 53;

/// Why the packet filter is not as it should be. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// No conversation with the kernel.
    #[error(
        "the kernel's packet filter (nf_tables) cannot be spoken to; it needs root, and a kernel of 5.10 or later"
    )]
    Open(#[source] io::Error),
    /// Refused, or no answer in ten seconds.
    #[error("the kernel's packet filter (nf_tables) refuses {0}")]
    Refused(&'static str, #[source] io::Error),
}

/// The table of the calling thread's network namespace.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    /// What the kernel has, as far as is known.
    now: Option<Rules>,
}

impl Nft {
    /// Speaks with the kernel; changes nothing yet.
    pub fn open() -> Result<Self, NftError> {
        let socket = Socket::open().map_err(NftError::Open)?;
        Ok(Self { socket, now: None })
    }

    /// Makes the table what it is to be.
    pub fn apply(&mut self, rules: &Rules) -> Result<(), NftError> {
        let batch = match &self.now {
            Some(now) if now == rules => return Ok(()),
            Some(now) => change::between(now, rules),
            None => change::whole(rules),
        };
        // Should it fail, all of it is said the next time.
        self.now = None;
        let done = self.socket.commit(batch);
        done.map_err(|error| NftError::Refused("the rules for containers", error))?;
        self.now = Some(rules.clone());
        Ok(())
    }

    /// Hears of what others do to the table. Wants a runtime at hand.
    pub fn watch(&self) -> Result<Watch, NftError> {
        let open = || {
            Ok(Watch {
                own: self.socket.number()?,
                listener: Listener::open()?,
            })
        };
        open().map_err(NftError::Open)
    }

    /// Takes the table away, and all that it did.
    pub fn end(&mut self) -> Result<(), NftError> {
        self.now = None;
        let mut batch = Batch::new(INET);
        change::drop_table(&mut batch);
        let done = self.socket.commit(batch);
        done.and_then(|()| others::close(&self.socket))
            .map_err(|error| NftError::Refused("to take the rules for containers away", error))
    }

    /// Has packets of containers pass chains of other programs that drop what they do not know. Says which those are that did
    /// not let them pass until now.
    pub fn open_others(&mut self) -> Result<Vec<String>, NftError> {
        others::open(&self.socket)
            .map_err(|error| NftError::Refused("a way past another firewall", error))
    }

    /// Somebody else has changed the table: all of it is written the next time.
    pub fn forget(&mut self) {
        self.now = None;
    }

    /// Ends what the kernel knows of connections to an address, so that the next packet of each finds another way.
    pub fn drop_flows(&mut self, to: IpAddr) -> Result<(), NftError> {
        let (family, attrs) = change::flows_of(to);
        let done = self.socket.connections(DELETE_CONNECTIONS, family, &attrs);
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|error| NftError::Refused("to end connections", error)),
        }
    }
}

/// Notices that somebody else changes the table: an administrator, or a firewall that begins by emptying the whole filter.
#[derive(Debug)]
pub struct Watch {
    listener: Listener,
    /// The socket whose changes are no news.
    own: u32,
}

impl Watch {
    /// Waits for it.
    ///
    /// # Errors
    /// The kernel tells no more.
    pub async fn changed(&self) -> io::Result<()> {
        self.listener.anothers(self.own, change::TABLE).await
    }
}

/// Has what the calling thread's namespace, a container's, sends to its resolver come to these ports of the same address.
/// Said again, it holds instead.
pub fn redirect_dns(udp: u16, tcp: u16) -> Result<(), NftError> {
    let socket = Socket::open().map_err(NftError::Open)?;
    let mut batch = Batch::new(IPV4);
    change::renew_table(&mut batch);
    change::new_base_chain(&mut batch, "out", "nat", 3, -100);
    for (protocol, port) in [(17, udp), (6, tcp)] {
        let rule = Rule::default()
            .destination(1)
            .is(&RESOLVER.octets())
            .meta(Meta::Transport, 1)
            .is(&[protocol])
            .port(1)
            .is(&NAMES.to_be_bytes())
            .lead_to(RESOLVER, port);
        change::new_rule(&mut batch, "out", &rule);
    }
    let done = socket.commit(batch);
    done.map_err(|error| NftError::Refused("the way to a container's resolver", error))
}
