//! Rules of ours: a marked packet goes back to the peer that its mark names.
//!
//! Values only, and how they are said to the kernel. All lie between two neighbouring priorities, and a packet without a
//! mark jumps to the second, not to the main table: rules that others have further on are looked at as ever.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Desired, routes};

/// Bits of a packet's mark that name a peer.
const MASK: u32 = 0x7fff_0000;

/// Where the index of a peer begins in a mark.
const SHIFT: u32 = 16;

/// Jumps over the others.
const JUMP: u32 = 999;

/// Those of peers.
const PEERS: u32 = 1000;

/// Where the jump ends.
const LANDING: u32 = 1001;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    v4: bool,
    priority: u32,
    mark: u32,
    mask: u32,
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Jump(u32),
    Nothing,
    Table(u32),
}

/// The rules that `desired` needs.
pub(super) fn wanted(desired: &Desired) -> BTreeSet<Rule> {
    routes::families(desired)
        .flat_map(|v4| {
            let rule = move |priority, mark, mask, action| Rule {
                v4,
                priority,
                mark,
                mask,
                action,
            };
            let peers = desired.peers.iter().map(move |peer| {
                let mark = u32::from(peer.index) << SHIFT;
                let action = Action::Table(routes::back(peer.index));
                rule(PEERS, mark, MASK, action)
            });
            let frame = [
                rule(LANDING, 0, 0, Action::Nothing),
                rule(JUMP, 0, MASK, Action::Jump(LANDING)),
            ];
            frame.into_iter().chain(peers)
        })
        .collect()
}

/// A question for all rules of a family.
pub(super) fn question(v4: bool) -> RouteNetlinkMessage {
    let mut message = RuleMessage::default();
    message.header.family = routes::family(v4);
    RouteNetlinkMessage::GetRule(message)
}

/// A rule, as the kernel is told of it.
pub(super) fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = routes::family(rule.v4);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Protocol(routes::PROTOCOL));
    if rule.mask > 0 {
        attributes.push(RuleAttribute::FwMark(rule.mark));
        attributes.push(RuleAttribute::FwMask(rule.mask));
    }
    message.header.action = match rule.action {
        Action::Jump(to) => {
            attributes.push(RuleAttribute::Goto(to));
            RuleAction::Goto
        }
        Action::Nothing => RuleAction::Nop,
        Action::Table(table) => {
            attributes.push(RuleAttribute::Table(table));
            RuleAction::ToTable
        }
    };
    message
}

/// Whatever is sent from an address is looked up in a table of its own.
pub(super) fn by_source(addr: IpAddr, table: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    let source = routes::only(addr);
    message.header.family = routes::family(addr.is_ipv4());
    message.header.src_len = source.bits();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(PEERS),
        RuleAttribute::Source(addr),
        RuleAttribute::Table(table),
        RuleAttribute::Protocol(routes::PROTOCOL),
    ];
    message
}

/// A rule, as the kernel tells of it; `None` for one that is not ours.
pub(super) fn read(message: &RuleMessage) -> Option<Rule> {
    let v4 = match message.header.family {
        AddressFamily::Inet => true,
        AddressFamily::Inet6 => false,
        _ => return None,
    };
    let (mut priority, mut mark, mut mask) = (0, 0, 0);
    let (mut table, mut target) = (u32::from(message.header.table), 0);
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::FwMark(bits) => mark = *bits,
            RuleAttribute::FwMask(bits) => mask = *bits,
            RuleAttribute::Table(id) => table = *id,
            RuleAttribute::Goto(to) => target = *to,
            RuleAttribute::Protocol(protocol) => ours = *protocol == routes::PROTOCOL,
            _ => {}
        }
    }
    let action = match message.header.action {
        RuleAction::Goto => Action::Jump(target),
        RuleAction::Nop => Action::Nothing,
        _ => Action::Table(table),
    };
    ours.then_some(Rule {
        v4,
        priority,
        mark,
        mask,
        action,
    })
}
