//! One rule of the packet filter, as the small steps that the kernel takes through it.
//!
//! Each step reads into, compares or changes a register; the first that does not match ends the rule. Registers 1 to 4 have
//! 16 bytes; [`BESIDE`] is the part of register 1 behind its first four. Steps and numbers are `linux/netfilter/nf_tables.h`'s.

use std::net::Ipv4Addr;

use super::wire::Attrs;

/// Behind the first four bytes of register 1.
pub(super) const BESIDE: u32 = 9;

/// What a packet carries with it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    /// Its mark.
    Mark = 3,
    /// The interface that it came by.
    InName = 6,
    /// The interface that it leaves by.
    OutName = 7,
    /// The kind of interface that it came by.
    InType = 8,
    /// IPv4 or IPv6.
    Family = 15,
    /// TCP, UDP …
    Transport = 16,
}

/// What is known of a packet's connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flow {
    /// How far it is.
    State = 0,
    /// Which way this packet goes.
    Direction = 1,
    /// Its mark.
    Mark = 3,
    /// Its zone.
    Zone = 17,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    /// It goes.
    Accept,
    /// It is gone.
    Drop,
    /// The chain of this name says.
    Jump(&'a str),
}

impl Verdict<'_> {
    /// As the data of a rule or an element.
    pub(super) fn write(self, data: &mut Attrs) {
        data.nest(2, |verdict| {
            let code: i32 = match self {
                Self::Drop => 0,
                Self::Accept => 1,
                Self::Jump(_) => -3,
            };
            verdict.number(1, code.cast_unsigned());
            if let Self::Jump(chain) = self {
                verdict.text(2, chain);
            }
        });
    }
}

/// States of connections.
pub(super) const KNOWN: u32 = 2 | 4;
pub(super) const NEW: u32 = 8;

/// A rule in the making.
#[derive(Debug, Default)]
pub(super) struct Rule(Attrs);

impl Rule {
    /// As an attribute of a message.
    pub(super) fn write(&self, kind: u16, to: &mut Attrs) {
        to.nest(kind, |inner| {
            inner.raw(&self.0);
        });
    }

    fn step(mut self, name: &str, fill: impl FnOnce(&mut Attrs)) -> Self {
        self.0.nest(1, |step| {
            step.text(1, name).nest(2, fill);
        });
        self
    }

    /// Reads what the packet carries with it.
    pub(super) fn meta(self, what: Meta, to: u32) -> Self {
        self.step("meta", |it| {
            it.number(1, to).number(2, what as u32);
        })
    }

    /// Changes the packet's mark.
    pub(super) fn set_mark(self) -> Self {
        self.step("meta", |it| {
            it.number(3, 1).number(2, Meta::Mark as u32);
        })
    }

    /// Reads what is known of the connection.
    pub(super) fn flow(self, what: Flow) -> Self {
        self.step("ct", |it| {
            it.number(1, 1).number(2, what as u32);
            if matches!(what, Flow::Zone) {
                it.put(3, &[0]);
            }
        })
    }

    /// Changes it.
    pub(super) fn set_flow(self, what: Flow) -> Self {
        self.step("ct", |it| {
            it.number(4, 1).number(2, what as u32);
            if matches!(what, Flow::Zone) {
                // Of the way there alone.
                it.put(3, &[0]);
            }
        })
    }

    fn payload(self, base: u32, at: u32, length: u32, to: u32) -> Self {
        self.step("payload", |it| {
            it.number(1, to)
                .number(2, base)
                .number(3, at)
                .number(4, length);
        })
    }

    /// Goes on when the register is these bytes.
    pub(super) fn is(self, bytes: &[u8]) -> Self {
        self.compare(0, bytes)
    }

    /// Goes on when it is not.
    pub(super) fn differs(self, bytes: &[u8]) -> Self {
        self.compare(1, bytes)
    }

    fn compare(self, how: u32, bytes: &[u8]) -> Self {
        self.step("cmp", |it| {
            it.number(1, 1).number(2, how).nest(3, |data| {
                data.put(1, bytes);
            });
        })
    }

    /// Keeps the bits of `mask` in the register's number, and turns those of `turned`.
    pub(super) fn bits(self, mask: u32, turned: u32) -> Self {
        self.step("bitwise", |it| {
            it.number(1, 1).number(2, 1).number(3, 4);
            it.nest(4, |data| {
                data.put(1, &mask.to_ne_bytes());
            });
            it.nest(5, |data| {
                data.put(1, &turned.to_ne_bytes());
            });
        })
    }

    /// Goes on when the number has one of these bits.
    pub(super) fn has(self, mask: u32) -> Self {
        self.bits(mask, 0).differs(&[0; 4])
    }

    /// Goes on for IPv4.
    pub(super) fn v4(self) -> Self {
        self.meta(Meta::Family, 1).is(&[2])
    }

    /// Goes on for a transport.
    pub(super) fn transport(self, protocol: u8) -> Self {
        self.meta(Meta::Transport, 1).is(&[protocol])
    }

    /// Goes on when the packet came by an interface, or by another.
    pub(super) fn came_by(self, name: &str, is: bool) -> Self {
        let name = interface(name);
        let read = self.meta(Meta::InName, 1);
        if is {
            read.is(&name)
        } else {
            read.differs(&name)
        }
    }

    /// Goes on when it came by an interface whose name begins so.
    pub(super) fn came_by_some(self, prefix: &str) -> Self {
        self.meta(Meta::InName, 1).is(prefix.as_bytes())
    }

    /// Goes on when it leaves by an interface whose name begins so.
    pub(super) fn leaves_by_some(self, prefix: &str) -> Self {
        self.meta(Meta::OutName, 1).is(prefix.as_bytes())
    }

    /// Goes on when answers to it would leave by another interface than the one that it came by.
    pub(super) fn astray(self) -> Self {
        let source_and_interface = 1 | 8;
        let just_whether = 32;
        self.step("fib", |it| {
            it.number(1, 1)
                .number(2, 1)
                .number(3, source_and_interface | just_whether);
        })
        .is(&[0])
    }

    /// Goes on when it leaves by an interface, or by another.
    pub(super) fn leaves_by(self, name: &str, is: bool) -> Self {
        let name = interface(name);
        let read = self.meta(Meta::OutName, 1);
        if is {
            read.is(&name)
        } else {
            read.differs(&name)
        }
    }

    /// Reads the address that it comes from.
    pub(super) fn source(self, to: u32) -> Self {
        self.payload(1, 12, 4, to)
    }

    /// Reads the address that it goes to.
    pub(super) fn destination(self, to: u32) -> Self {
        self.payload(1, 16, 4, to)
    }

    /// Reads the port that it goes to.
    pub(super) fn port(self, to: u32) -> Self {
        self.payload(2, 2, 2, to)
    }

    /// Reads the flags of TCP.
    pub(super) fn tcp_flags(self) -> Self {
        self.payload(2, 13, 1, 1)
    }

    /// Reads the hardware address that it comes from.
    pub(super) fn hardware_source(self) -> Self {
        self.meta(Meta::InType, 1)
            .is(&1u16.to_ne_bytes())
            .payload(0, 6, 6, 1)
    }

    /// Goes on when the address that it goes to is the machine's own.
    pub(super) fn for_this_machine(self) -> Self {
        self.step("fib", |it| {
            it.number(1, 1).number(2, 3).number(3, 2);
        })
        .is(&2u32.to_ne_bytes())
    }

    /// Goes on when a set has the register.
    pub(super) fn in_set(self, set: &str) -> Self {
        self.lookup(set, |_| {})
    }

    /// Goes on when it has not.
    pub(super) fn not_in_set(self, set: &str) -> Self {
        self.lookup(set, |it| {
            it.number(5, 1);
        })
    }

    /// Does what a map says of the register.
    pub(super) fn verdict_of(self, map: &str) -> Self {
        self.lookup(map, |it| {
            it.number(3, 0);
        })
    }

    /// Reads what a map has for the register.
    pub(super) fn mapped(self, map: &str) -> Self {
        self.lookup(map, |it| {
            it.number(3, 1);
        })
    }

    /// The same of a map without a name, by its number in the transaction.
    pub(super) fn mapped_by(self, number: u32) -> Self {
        self.lookup("__map%d", |it| {
            it.number(3, 1).number(4, number);
        })
    }

    fn lookup(self, set: &str, further: impl FnOnce(&mut Attrs)) -> Self {
        self.step("lookup", |it| {
            it.text(1, set).number(2, 1);
            further(it);
        })
    }

    /// A number below `count`, by chance.
    pub(super) fn chance(self, count: u32) -> Self {
        self.step("numgen", |it| {
            it.number(1, 1).number(2, count).number(3, 1).number(4, 0);
        })
    }

    /// Puts an address into the register.
    pub(super) fn address(self, addr: Ipv4Addr) -> Self {
        self.load(1, &addr.octets())
    }

    fn load(self, to: u32, bytes: &[u8]) -> Self {
        self.step("immediate", |it| {
            it.number(1, to).nest(2, |data| {
                data.put(1, bytes);
            });
        })
    }

    /// The packet, and all of its connection, goes to the address in the register.
    pub(super) fn lead_to_address(self) -> Self {
        self.translate(1, None)
    }

    /// The packet, and all of its connection, goes to the address in the register, and the port beside it.
    pub(super) fn lead_to_address_and_port(self) -> Self {
        self.translate(1, Some(BESIDE))
    }

    /// The same with a port that is said here.
    pub(super) fn lead_to(self, addr: Ipv4Addr, port: u16) -> Self {
        self.address(addr)
            .load(2, &port.to_be_bytes())
            .translate(1, Some(2))
    }

    /// The packet, and all of its connection, comes from this address.
    pub(super) fn appear_from(self, addr: Ipv4Addr) -> Self {
        self.address(addr).translate(0, None)
    }

    fn translate(self, kind: u32, port: Option<u32>) -> Self {
        self.step("nat", |it| {
            it.number(1, kind).number(2, 2).number(3, 1).number(4, 1);
            if let Some(port) = port {
                it.number(5, port).number(6, port);
            }
        })
    }

    /// It comes from the address of the interface that it leaves by.
    pub(super) fn masquerade(self) -> Self {
        self.step("masq", |_| {})
    }

    /// No connection is made of it.
    pub(super) fn untracked(self) -> Self {
        self.step("notrack", |_| {})
    }

    /// Is answered as by a closed port: TCP by a reset.
    pub(super) fn reset(self) -> Self {
        self.step("reject", |it| {
            it.number(1, 1).put(2, &[0]);
        })
    }

    /// Is answered as by a closed port: all else.
    pub(super) fn unreachable(self) -> Self {
        self.step("reject", |it| {
            it.number(1, 2).put(2, &[1]);
        })
    }

    /// Both ends of a TCP connection send no longer segments than the way takes.
    pub(super) fn fit_segments(self) -> Self {
        self.step("rt", |it| {
            it.number(1, 1).number(2, 3);
        })
        .step("byteorder", |it| {
            it.number(1, 1)
                .number(2, 1)
                .number(3, 1)
                .number(4, 2)
                .number(5, 2);
        })
        .step("exthdr", |it| {
            it.number(7, 1)
                .put(2, &[2])
                .number(3, 2)
                .number(4, 2)
                .number(6, 1);
        })
    }

    /// What becomes of it.
    pub(super) fn then(self, verdict: Verdict<'_>) -> Self {
        self.step("immediate", |it| {
            it.number(1, 0).nest(2, |data| verdict.write(data));
        })
    }
}

/// A name as the kernel compares it: 16 bytes.
fn interface(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    bytes
}
