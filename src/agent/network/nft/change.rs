//! The transaction that makes the table of what it is what it is to be: all of it, or what differs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::base::{self, HIDDEN, HOOKS, Kind, MESH, SETS, Set, VERDICT};
use super::rule::{Flow, Rule, Verdict};
use super::rules::{Element, Rules, Target, v4};
use super::wire::{APPEND, Attrs, Batch, CREATE, INET};
use crate::model::plane::Protocol;

/// The table's name.
pub(super) const TABLE: &str = "skein";

/// Kinds of messages.
pub(super) const NEW_TABLE: u16 = 0;
pub(super) const DELETE_TABLE: u16 = 2;
pub(super) const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
pub(super) const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;

/// Flags of sets.
const ANONYMOUS: u32 = 1;
const CONSTANT: u32 = 2;
const INTERVAL: u32 = 4;
const MAP: u32 = 8;
const CONCAT: u32 = 0x80;

/// Elements in one message: an attribute holds 64 KiB.
const AT_ONCE: usize = 400;

/// The whole table in place of whatever is there.
pub(super) fn whole(rules: &Rules) -> Batch {
    let mut batch = Batch::new(INET);
    renew_table(&mut batch);
    for (number, set) in SETS.iter().enumerate() {
        new_set(
            &mut batch,
            set,
            u32::try_from(number).unwrap_or_default() + 1_000_000,
        );
    }
    for hook in HOOKS {
        new_base_chain(&mut batch, hook.chain, hook.kind, hook.hook, hook.priority);
    }
    for (chain, rule) in base::rules(rules.own_v4(), rules.port) {
        new_rule(&mut batch, chain, &rule);
    }
    let nothing = Rules {
        own: rules.own.clone(),
        port: rules.port,
        ..Rules::default()
    };
    differ(&mut batch, &nothing, rules);
    batch
}

/// What makes a table of `old` one of `new`.
pub(super) fn between(old: &Rules, new: &Rules) -> Batch {
    if (old.own_v4(), old.port) != (new.own_v4(), new.port) {
        return whole(new);
    }
    let mut batch = Batch::new(INET);
    differ(&mut batch, old, new);
    batch
}

/// An empty table in place of whatever is there.
pub(super) fn renew_table(batch: &mut Batch) {
    drop_table(batch);
    batch.add(NEW_TABLE, CREATE, |it| {
        it.text(1, TABLE);
    });
}

/// No table, whether there is one or not.
pub(super) fn drop_table(batch: &mut Batch) {
    for (kind, flags) in [(NEW_TABLE, CREATE), (DELETE_TABLE, 0)] {
        batch.add(kind, flags, |it| {
            it.text(1, TABLE);
        });
    }
}

fn new_set(batch: &mut Batch, set: &Set, number: u32) {
    batch.add(NEW_SET, CREATE, |it| {
        let pair = set.key.1 == 8;
        let mut flags = 0;
        flags |= if set.data.is_some() { MAP } else { 0 };
        flags |= if set.ranges { INTERVAL } else { 0 };
        flags |= if set.ranges && pair { CONCAT } else { 0 };
        it.text(1, TABLE).text(2, set.name).number(3, flags);
        it.number(4, set.key.0).number(5, set.key.1);
        if let Some((kind, length)) = set.data {
            it.number(6, kind).number(7, length);
        }
        if set.ranges && pair {
            it.nest(9, |description| {
                description.nest(2, |fields| {
                    for _ in 0..2 {
                        fields.nest(1, |field| {
                            field.number(1, 4);
                        });
                    }
                });
            });
        }
        it.number(10, number);
    });
}

/// A chain that packets come by.
pub(super) fn new_base_chain(batch: &mut Batch, name: &str, kind: &str, hook: u32, priority: i32) {
    batch.add(NEW_CHAIN, CREATE, |it| {
        it.text(1, TABLE).text(3, name);
        it.nest(4, |at| {
            at.number(1, hook).number(2, priority.cast_unsigned());
        });
        it.number(5, 1).text(7, kind);
    });
}

/// A rule behind those that its chain has.
pub(super) fn new_rule(batch: &mut Batch, chain: &str, rule: &Rule) {
    batch.add(NEW_RULE, CREATE | APPEND, |it| {
        it.text(1, TABLE).text(2, chain);
        rule.write(4, it);
    });
}

fn differ(batch: &mut Batch, old: &Rules, new: &Rules) {
    for ((name, before), (_, after)) in old.sets().into_iter().zip(new.sets()) {
        if before != after {
            if !before.is_empty() {
                batch.add(DELETE_ELEMENTS, 0, |it| {
                    it.text(1, TABLE).text(2, name);
                });
            }
            add_elements(batch, name, None, &after);
        }
    }
    services(batch, old, new);
    ports(batch, old, new);
}

fn add_elements(batch: &mut Batch, set: &str, number: Option<u32>, elements: &[Element]) {
    for part in elements.chunks(AT_ONCE) {
        batch.add(NEW_ELEMENTS, CREATE, |it| {
            it.text(1, TABLE).text(2, set);
            it.nest(3, |list| {
                for element in part {
                    list.nest(1, |it| write(element, it));
                }
            });
            if let Some(number) = number {
                it.number(4, number);
            }
        });
    }
}

fn write(element: &Element, it: &mut Attrs) {
    let value = |it: &mut Attrs, kind, bytes: &[u8]| {
        it.nest(kind, |data| {
            data.put(1, bytes);
        });
    };
    value(it, 1, &element.key);
    if let Some(data) = &element.data {
        value(it, 2, data);
    }
    if element.ends {
        it.number(3, 1);
    }
    if let Some(last) = &element.last {
        value(it, 10, last);
    }
}

fn services(batch: &mut Batch, old: &Rules, new: &Rules) {
    let full = |rules: &Rules| -> BTreeMap<Ipv4Addr, Vec<Ipv4Addr>> {
        let all = rules.balancers.iter().filter_map(|(vip, behind)| {
            let behind = behind.iter().filter_map(|addr| v4(*addr));
            Some((v4(*vip)?, behind.collect::<Vec<_>>()))
        });
        all.filter(|(_, behind)| !behind.is_empty()).collect()
    };
    let (old, new) = (full(old), full(new));
    let chain = |vip: &Ipv4Addr| format!("vip-{vip}");
    for (vip, behind) in &new {
        if old.get(vip) == Some(behind) {
            continue;
        }
        let key = vip.octets();
        let place = Place {
            map: "vips",
            key: &key,
            chain: &chain(vip),
            is_there: old.contains_key(vip),
        };
        place.lead(batch, |batch| {
            let count = u32::try_from(behind.len()).unwrap_or(u32::MAX);
            let data = behind.iter().map(|addr| addr.octets().to_vec());
            let map = choices(batch, (7, 4), data);
            vec![
                Rule::default()
                    .v4()
                    .chance(count)
                    .mapped_by(map)
                    .lead_to_address(),
            ]
        });
    }
    for vip in old.keys().filter(|vip| !new.contains_key(vip)) {
        close(batch, "vips", &vip.octets(), &chain(vip));
    }
}

fn ports(batch: &mut Batch, old: &Rules, new: &Rules) {
    let is_open = |target: &&Target| target.backends.iter().any(|(addr, _)| addr.is_ipv4());
    for (port, target) in &new.ports {
        let before = old.ports.get(port).filter(is_open);
        if !is_open(&target) || before == Some(target) {
            continue;
        }
        let (protocol, key) = key_of(*port);
        let place = Place {
            map: "ports",
            key: &key,
            chain: &chain_of(*port),
            is_there: before.is_some(),
        };
        place.lead(batch, |batch| vec![to_target(batch, protocol, target)]);
    }
    for (port, _) in old.ports.iter().filter(|(_, target)| is_open(target)) {
        if !new.ports.get(port).as_ref().is_some_and(is_open) {
            close(batch, "ports", &key_of(*port).1, &chain_of(*port));
        }
    }
}

fn to_target(batch: &mut Batch, protocol: u8, target: &Target) -> Rule {
    let backends = target.backends.iter();
    let data: Vec<Vec<u8>> = backends
        .filter_map(|(addr, port)| {
            let [high, low] = port.to_be_bytes();
            Some([&v4(*addr)?.octets()[..], &[high, low, 0, 0]].concat())
        })
        .collect();
    let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let map = choices(batch, (7 << 6 | 13, 8), data.into_iter());
    let marked = MESH | if target.snat { HIDDEN } else { 0 };
    Rule::default()
        .v4()
        .transport(protocol)
        .flow(Flow::Mark)
        .bits(!marked, marked)
        .set_flow(Flow::Mark)
        .chance(count)
        .mapped_by(map)
        .lead_to_address_and_port()
}

fn key_of((protocol, port): (Protocol, u16)) -> (u8, [u8; 8]) {
    let protocol = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    };
    let [high, low] = port.to_be_bytes();
    (protocol, [protocol, 0, 0, 0, high, low, 0, 0])
}

fn chain_of((protocol, port): (Protocol, u16)) -> String {
    format!("port-{}-{port}", format!("{protocol:?}").to_lowercase())
}

/// A map without a name from numbers to these; its number in the transaction.
fn choices(batch: &mut Batch, data: Kind, all: impl Iterator<Item = Vec<u8>>) -> u32 {
    let number = batch.set_number();
    batch.add(NEW_SET, CREATE, |it| {
        it.text(1, TABLE).text(2, "__map%d");
        it.number(3, ANONYMOUS | CONSTANT | MAP);
        it.number(4, 4).number(5, 4);
        it.number(6, data.0).number(7, data.1).number(10, number);
    });
    let elements: Vec<Element> = (0u32..)
        .zip(all)
        .map(|(at, data)| Element {
            key: at.to_ne_bytes().to_vec(),
            last: None,
            ends: false,
            data: Some(data),
        })
        .collect();
    add_elements(batch, "__map%d", Some(number), &elements);
    number
}

/// A key of a map whose element leads to a chain of its own.
struct Place<'a> {
    map: &'a str,
    key: &'a [u8],
    chain: &'a str,
    is_there: bool,
}

impl Place<'_> {
    /// Has the chain do this from now on.
    fn lead(&self, batch: &mut Batch, rules: impl FnOnce(&mut Batch) -> Vec<Rule>) {
        match self.is_there {
            true => empty_chain(batch, self.chain),
            false => batch.add(NEW_CHAIN, CREATE, |it| {
                it.text(1, TABLE).text(3, self.chain);
            }),
        }
        for rule in rules(batch) {
            new_rule(batch, self.chain, &rule);
        }
        if !self.is_there {
            verdict(batch, NEW_ELEMENTS, self.map, self.key, self.chain);
        }
    }
}

fn empty_chain(batch: &mut Batch, chain: &str) {
    batch.add(DELETE_RULE, 0, |it| {
        it.text(1, TABLE).text(2, chain);
    });
}

fn close(batch: &mut Batch, map: &str, key: &[u8], chain: &str) {
    verdict(batch, DELETE_ELEMENTS, map, key, chain);
    empty_chain(batch, chain);
    batch.add(DELETE_CHAIN, 0, |it| {
        it.text(1, TABLE).text(3, chain);
    });
}

/// Adds or takes away the element of a key that leads to a chain.
fn verdict(batch: &mut Batch, kind: u16, map: &str, key: &[u8], chain: &str) {
    debug_assert_eq!(VERDICT.1, 0, "the kernel knows how long a verdict is");
    let flags = if kind == NEW_ELEMENTS { CREATE } else { 0 };
    batch.add(kind, flags, |it| {
        it.text(1, TABLE).text(2, map);
        it.nest(3, |list| {
            list.nest(1, |element| {
                element.nest(1, |data| {
                    data.put(1, key);
                });
                if kind == NEW_ELEMENTS {
                    element.nest(2, |data| Verdict::Jump(chain).write(data));
                }
            });
        });
    });
}

/// Whether an address is one that flows can be of.
pub(super) fn flows_of(addr: IpAddr) -> (u8, Attrs) {
    let (family, kind, bytes) = match addr {
        IpAddr::V4(addr) => (2, 1, addr.octets().to_vec()),
        IpAddr::V6(addr) => (10, 3, addr.octets().to_vec()),
    };
    let mut attrs = Attrs::default();
    attrs.nest(2, |tuple| {
        tuple.nest(1, |ip| {
            ip.put(kind, &bytes);
        });
    });
    attrs.nest(25, |filter| {
        filter.put(1, &0u32.to_ne_bytes());
        filter.put(2, &1u32.to_ne_bytes());
    });
    (family, attrs)
}
