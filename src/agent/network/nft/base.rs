//! The chains that are always there, and the sets and maps that they look into.
//!
//! A packet's way through them is told in ARCHITECTURE.md. What changes with services and tasks is in the sets, and in one
//! chain for each service address and published port ([`change`](super::change)); nothing here does, but for this node's
//! own address.

use std::net::Ipv4Addr;

use super::others::CABLES;
use super::rule::{BESIDE, Flow, KNOWN, Meta, NEW, Rule, Verdict};

/// The tunnel between nodes.
pub(super) const TUNNEL: &str = "skein0";

/// Which peer a connection came by, in its mark.
const PEER: u32 = 0x7fff_0000;

/// A connection to a published port that began at this node.
pub(super) const MESH: u32 = 0x8000_0000;

/// Such a one of which the task is to see this node's address alone.
pub(super) const HIDDEN: u32 = 0x8000;

/// The host's side of a container that asks itself.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What a set holds: the number of a type in listings, and its bytes.
pub(super) type Kind = (u32, u32);

const ADDRESS: Kind = (7, 4);
const HARDWARE: Kind = (9, 6);
const MARK: Kind = (19, 4);
const ZONE: Kind = (19, 2);
/// Two in a row, each in four bytes.
const ADDRESSES: Kind = (7 << 6 | 7, 8);
const PORT: Kind = (12 << 6 | 13, 8);
/// What becomes of a packet.
pub(super) const VERDICT: Kind = (0xffff_ff00, 0);

/// A set or a map that has a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) key: Kind,
    pub(super) data: Option<Kind>,
    /// Its elements are ranges.
    pub(super) ranges: bool,
}

const fn set(name: &'static str, key: Kind) -> Set {
    Set {
        name,
        key,
        data: None,
        ranges: false,
    }
}

const fn map(name: &'static str, key: Kind, data: Kind) -> Set {
    Set {
        data: Some(data),
        ..set(name, key)
    }
}

const fn ranges(name: &'static str, key: Kind) -> Set {
    Set {
        ranges: true,
        ..set(name, key)
    }
}

/// All of them.
pub(super) const SETS: [Set; 10] = [
    ranges("same", ADDRESSES),
    ranges("overlay", ADDRESS),
    ranges("internal", ADDRESS),
    set("peers", ADDRESS),
    set("hairpin", ADDRESSES),
    set("empty", ADDRESS),
    map("marks", HARDWARE, MARK),
    map("zones", HARDWARE, ZONE),
    map("vips", ADDRESS, VERDICT),
    map("ports", PORT, VERDICT),
];

/// Where packets come by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    pub(super) chain: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: u32,
    pub(super) priority: i32,
}

const fn hook(chain: &'static str, kind: &'static str, hook: u32, priority: i32) -> Hook {
    Hook {
        chain,
        kind,
        hook,
        priority,
    }
}

/// All of them.
pub(super) const HOOKS: [Hook; 10] = [
    hook("raw_in", "filter", 0, -300),
    hook("mangle_in", "filter", 0, -150),
    hook("nat_in", "nat", 0, -100),
    hook("refuse", "filter", 0, -90),
    hook("forward", "filter", 2, 0),
    hook("raw_out", "filter", 3, -300),
    hook("mangle_out", "route", 3, -150),
    hook("nat_out", "nat", 3, -100),
    hook("mangle_post", "filter", 4, -150),
    hook("nat_post", "nat", 4, 100),
];

fn rule() -> Rule {
    Rule::default()
}

/// From an address of no network of the cluster, by the tunnel: to a published port, by the node that was asked.
fn by_mesh(rule: Rule) -> Rule {
    rule.v4().source(1).not_in_set("overlay")
}

fn to_tunnel_port(port: u16) -> Rule {
    rule().transport(UDP).port(1).is(&port.to_be_bytes())
}

/// Goes on for answers to what came by a peer.
fn answers() -> Rule {
    rule()
        .flow(Flow::Direction)
        .is(&[1])
        .flow(Flow::Mark)
        .has(PEER)
}

/// The peer of the connection as the packet's mark: it says by which table the packet is routed.
fn back_to_peer(rule: Rule) -> Rule {
    rule.flow(Flow::Mark).bits(PEER, 0).set_mark()
}

/// To a port that is published here.
fn published(rule: Rule) -> Rule {
    rule.v4()
        .for_this_machine()
        .meta(Meta::Transport, 1)
        .port(BESIDE)
        .verdict_of("ports")
}

fn service() -> Rule {
    rule().v4().destination(1).verdict_of("vips")
}

/// Every rule, with its chain.
pub(super) fn rules(own: Ipv4Addr, port: u16) -> Vec<(&'static str, Rule)> {
    let mut all = incoming(port);
    all.extend(passing());
    all.extend(outgoing(port));
    all.extend(seen_from(own));
    all
}

fn incoming(port: u16) -> Vec<(&'static str, Rule)> {
    let tunnel = || rule().came_by(TUNNEL, true);
    let refused = || rule().v4().destination(1).in_set("empty");
    let loopback = rule()
        .came_by("lo", false)
        .v4()
        .destination(1)
        .bits(u32::from_ne_bytes([255, 0, 0, 0]), 0);
    let mut all = vec![
        // What is not encrypted is taken from known nodes alone.
        (
            "raw_in",
            to_tunnel_port(port)
                .v4()
                .source(1)
                .not_in_set("peers")
                .then(Verdict::Drop),
        ),
        ("raw_in", to_tunnel_port(port).untracked()),
        // The kernel's own look at sources is as loose as the machine's loosest setting.
        (
            "raw_in",
            rule()
                .came_by_some(CABLES)
                .came_by(TUNNEL, false)
                .astray()
                .then(Verdict::Drop),
        ),
        // A client that asks two nodes from one port has two connections here.
        (
            "raw_in",
            by_mesh(tunnel())
                .hardware_source()
                .mapped("zones")
                .set_flow(Flow::Zone),
        ),
        // Links route packets to 127.0.0.0/8; nobody else may use that.
        ("raw_in", loopback.is(&[127, 0, 0, 0]).then(Verdict::Drop)),
        (
            "mangle_in",
            by_mesh(tunnel().flow(Flow::State).has(NEW))
                .hardware_source()
                .mapped("marks")
                .set_flow(Flow::Mark),
        ),
        ("mangle_in", back_to_peer(answers().came_by(TUNNEL, false))),
    ];
    // A look-up during a change may miss what is there before and after it: the next one does not.
    all.extend((0..3).map(|_| ("nat_in", service())));
    let there = || published(rule().came_by(TUNNEL, false));
    all.extend((0..2).map(|_| ("nat_in", there())));
    all.push(("refuse", refused().transport(TCP).reset()));
    all.push(("refuse", refused().unreachable()));
    all
}

fn passing() -> Vec<(&'static str, Rule)> {
    let from = |rule: Rule| rule.v4().source(1).in_set("overlay");
    let to = |rule: Rule| rule.destination(1).in_set("overlay");
    let rules = [
        rule()
            .leaves_by(TUNNEL, true)
            .transport(TCP)
            .tcp_flags()
            .bits(2, 0)
            .differs(&[0])
            .fit_segments(),
        rule().flow(Flow::State).has(KNOWN).then(Verdict::Accept),
        rule()
            .v4()
            .source(1)
            .destination(BESIDE)
            .in_set("same")
            .then(Verdict::Accept),
        rule().flow(Flow::Mark).has(MESH).then(Verdict::Accept),
        to(by_mesh(rule().came_by(TUNNEL, true))).then(Verdict::Accept),
        to(from(rule())).then(Verdict::Drop),
        from(rule())
            .source(1)
            .not_in_set("internal")
            .then(Verdict::Accept),
        from(rule()).then(Verdict::Drop),
        to(rule().v4()).then(Verdict::Drop),
    ];
    rules.into_iter().map(|rule| ("forward", rule)).collect()
}

fn outgoing(port: u16) -> Vec<(&'static str, Rule)> {
    vec![
        ("raw_out", to_tunnel_port(port).untracked()),
        ("mangle_out", back_to_peer(answers())),
        ("nat_out", service()),
        ("nat_out", service()),
        ("nat_out", published(rule())),
        ("nat_out", published(rule())),
        // The tunnel's own packets are routed by the same mark, and would come back to it.
        (
            "mangle_post",
            rule()
                .leaves_by(TUNNEL, true)
                .meta(Meta::Mark, 1)
                .bits(!PEER, 0)
                .set_mark(),
        ),
    ]
}

/// Whom the other side sees.
fn seen_from(own: Ipv4Addr) -> Vec<(&'static str, Rule)> {
    let from_loopback = rule()
        .v4()
        .source(1)
        .bits(u32::from_ne_bytes([255, 0, 0, 0]), 0)
        .is(&[127, 0, 0, 0]);
    vec![
        (
            "nat_post",
            rule()
                .v4()
                .source(1)
                .destination(BESIDE)
                .in_set("hairpin")
                .appear_from(GATEWAY),
        ),
        (
            "nat_post",
            from_loopback.leaves_by("lo", false).appear_from(own),
        ),
        (
            "nat_post",
            rule().flow(Flow::Mark).has(HIDDEN).v4().appear_from(own),
        ),
        (
            "nat_post",
            rule()
                .flow(Flow::Mark)
                .has(MESH)
                .v4()
                .source(1)
                .in_set("overlay")
                .appear_from(own),
        ),
        // A node that asks another for a task of its own: it would not take packets from itself by the tunnel.
        (
            "nat_post",
            rule()
                .flow(Flow::Mark)
                .has(MESH)
                .v4()
                .source(1)
                .in_set("peers")
                .leaves_by(TUNNEL, true)
                .appear_from(own),
        ),
        (
            "nat_post",
            rule()
                .v4()
                .source(1)
                .in_set("overlay")
                .destination(1)
                .not_in_set("overlay")
                .leaves_by(TUNNEL, false)
                .masquerade(),
        ),
    ]
}
