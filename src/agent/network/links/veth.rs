//! A container's cables: for each of its networks a pair of interfaces, one here and one in its namespace.
//!
//! Each pair is either exactly right, and then everything on it is said to the kernel once more, or it is replaced with
//! all behind it: an attempt that was broken off at any point is completed by the next. They are made in order and taken
//! away at once, so that all are found by counting, with some patience for one that somebody took away. The container knows one neighbour, the
//! machine, and sends it everything; nobody asks for hardware addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::RouteProtocol;

use super::link::{self, HOST_V4, HOST_V6, Link};
use super::netlink::{Kernel, Request};
use super::routes::{self, MAIN, NEAR, Place, Way};
use super::{Interface, LinkError, mac, namespace, rules, sysctl};
use crate::model::ContainerId;
use crate::model::network::Subnet;

/// Most networks of a container: the names of interfaces have 15 characters.
pub(super) const MOST: usize = 100;

/// Tables of what is sent from a further interface of a container: this and its number.
const OF_INTERFACES: u32 = 100;

/// So many numbers without an interface, and there is none with a greater one.
const MISSED: usize = 8;

/// The machine's end of a container's cable.
pub(super) fn name(container: ContainerId, index: usize) -> String {
    let mut name = format!("sk{container}");
    name.truncate(13);
    format!("{name}{index}")
}

fn inner_name(index: usize) -> String {
    format!("eth{index}")
}

/// Gives a container its interfaces, from a thread in the machine's namespace.
pub(super) fn wire(
    namespace: &File,
    container: ContainerId,
    interfaces: &[Interface],
) -> Result<(), LinkError> {
    let mut host = Kernel::open()?;
    let mut inner = namespace::inside(namespace, Kernel::open)?;
    let mut pairs = existing(&mut host, &mut inner, container, interfaces)?;
    for (index, interface) in interfaces.iter().enumerate().skip(pairs.len()) {
        pairs.push(create(
            &mut host, &mut inner, namespace, container, index, interface,
        )?);
    }
    // First, because links that are too short for IPv6 have no switches of it.
    let size = |(link, interface): (u32, &Interface)| link::resize(link, interface.mtu);
    host.tell(
        pairs
            .iter()
            .map(|pair| pair.outer)
            .zip(interfaces)
            .map(size)
            .collect(),
    )?;
    inner.tell(
        pairs
            .iter()
            .map(|pair| pair.inner)
            .zip(interfaces)
            .map(size)
            .collect(),
    )?;
    let families: Vec<bool> = interfaces
        .iter()
        .map(|interface| interface.addresses.iter().any(IpAddr::is_ipv6))
        .collect();
    namespace::inside(namespace, || {
        families
            .iter()
            .enumerate()
            .try_for_each(|(index, v6)| switch_v6(&inner_name(index), *v6))
    })?;
    let mut inside = vec![link::up(1, Vec::new())];
    let mut outside = Vec::new();
    for (index, (interface, pair)) in interfaces.iter().zip(&pairs).enumerate() {
        let name = name(container, index);
        sysctl::set(&format!("ipv4/conf/{name}/rp_filter"), "1")?;
        sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
        switch_v6(&name, families[index])?;
        inside.extend(inner_end(index, interface, pair.inner));
        outside.extend(outer_end(container, interface, pair.outer));
    }
    inner.tell(inside)?;
    host.tell(outside)
}

/// Marks a container's interfaces as those to be taken away, from a thread in the machine's namespace.
pub(super) fn doom(container: ContainerId) -> Result<(), LinkError> {
    let mut host = Kernel::open()?;
    let all = outer_ends(&mut host, container)?;
    host.tell(link::doom(all.values().map(|link| link.index)))
}

/// Takes away what is marked, of whichever container.
pub(super) fn bury() -> Result<(), LinkError> {
    Kernel::open()?.tell(vec![link::bury()])
}

/// The indexes of both ends.
#[derive(Clone, Copy, Debug)]
struct Pair {
    outer: u32,
    inner: u32,
}

/// The machine's ends of a container's cables, by their numbers.
fn outer_ends(
    host: &mut Kernel,
    container: ContainerId,
) -> Result<BTreeMap<usize, Link>, LinkError> {
    let mut all = BTreeMap::new();
    let mut missed = 0;
    for index in 0..MOST {
        match Link::named(host, &name(container, index))? {
            Some(link) => {
                all.insert(index, link);
                missed = 0;
            }
            None => missed += 1,
        }
        if missed == MISSED {
            break;
        }
    }
    Ok(all)
}

/// The pairs that are right. All behind those are taken away.
fn existing(
    host: &mut Kernel,
    inner: &mut Kernel,
    container: ContainerId,
    interfaces: &[Interface],
) -> Result<Vec<Pair>, LinkError> {
    let ends = outer_ends(host, container)?;
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    let addresses = link::addresses(inner)?;
    let mut pairs = Vec::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let Some(outer) = ends.get(&index) else {
            break;
        };
        let Some(link) = Link::named(inner, &inner_name(index))? else {
            break;
        };
        let joined = outer.other == Some(link.index) && link.other == Some(outer.index);
        let has: BTreeSet<IpAddr> = addresses
            .iter()
            .filter(|(of, addr)| *of == link.index && !is_automatic(addr))
            .map(|(_, addr)| *addr)
            .collect();
        let wants: BTreeSet<IpAddr> = interface.addresses.iter().copied().collect();
        let macs = (&*link.mac, &*outer.mac);
        let right = macs == (&mac::of_addresses(&interface.addresses), &mac::HOST);
        if !(joined && right && (has == wants || has.is_empty())) {
            break;
        }
        pairs.push(Pair {
            outer: outer.index,
            inner: link.index,
        });
    }
    let wrong = ends.range(pairs.len()..).map(|(_, link)| link.index);
    host.tell(link::delete(wrong))?;
    Ok(pairs)
}

/// Whether the kernel gives links such addresses by itself.
fn is_automatic(addr: &IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn create(
    host: &mut Kernel,
    inner: &mut Kernel,
    namespace: &File,
    container: ContainerId,
    index: usize,
    interface: &Interface,
) -> Result<Pair, LinkError> {
    let (outer_name, inner_name) = (name(container, index), inner_name(index));
    let mac = mac::of_addresses(&interface.addresses);
    let mut peer = link::new(&inner_name, mac, interface.mtu, Vec::new());
    // Made in its namespace at once: an interface that moves there holds up the whole kernel.
    let descriptor = namespace.as_raw_fd();
    peer.attributes.push(LinkAttribute::NetNsFd(descriptor));
    let info = link::kind(InfoKind::Veth, InfoData::Veth(InfoVeth::Peer(peer)));
    let message = link::new(&outer_name, mac::HOST, interface.mtu, info);
    host.tell(vec![Request::create(
        RouteNetlinkMessage::NewLink(message),
        format!("make the interface {outer_name}"),
    )])?;
    let outer = Link::named(host, &outer_name)?.ok_or(LinkError::Gone("an interface"))?;
    let inner = Link::named(inner, &inner_name)?.ok_or(LinkError::Gone("an interface"))?;
    Ok(Pair {
        outer: outer.index,
        inner: inner.index,
    })
}

/// An interface without addresses of IPv6 sends nothing of it, either.
fn switch_v6(name: &str, v6: bool) -> Result<(), LinkError> {
    let folder = format!("ipv6/conf/{name}");
    sysctl::set_if_any(&format!("{folder}/accept_ra"), "0")?;
    let off = if v6 { "0" } else { "1" };
    sysctl::set_if_any(&format!("{folder}/disable_ipv6"), off)
}

/// The machine, in the family of `addr`.
fn machine(v4: bool) -> IpAddr {
    match v4 {
        true => HOST_V4.into(),
        false => HOST_V6.into(),
    }
}

/// A container with several networks answers by the interface that it was asked at: the machine takes no packet from
/// another. The first interface needs no rule for that, its routes are the main ones.
fn inner_end(index: usize, interface: &Interface, link: u32) -> Vec<Request> {
    let mut all = vec![link::up(link, Vec::new())];
    for addr in &interface.addresses {
        all.push(link::address(link, *addr, bits(addr), false));
    }
    // Each interface has this route, and the first wins.
    let metric = u32::try_from(index).unwrap_or(u32::MAX);
    let table = OF_INTERFACES.saturating_add(metric);
    for v4 in [true, false] {
        let mut own = interface.addresses.iter();
        let Some(addr) = own.find(|addr| addr.is_ipv4() == v4) else {
            continue;
        };
        let gateway = machine(v4);
        let neighbour = link::neighbour(link, gateway, mac::HOST);
        all.push(link::learn(neighbour, "learn of the machine".into()));
        if v4 {
            let to = routes::only(gateway);
            all.push(inner_route(MAIN, to, metric, Way::Link(link)));
        }
        let way = Way::Via {
            gateway,
            link,
            source: None,
        };
        let pools = interface.pools.iter().copied();
        let pools = pools.filter(|pool| pool.base().is_ipv4() == v4);
        let out = interface.default.then(|| routes::everything(v4));
        all.extend(pools.chain(out).map(|to| inner_route(MAIN, to, 0, way)));
        if index > 0 {
            all.push(inner_route(table, routes::everything(v4), 0, way));
            let rule = RouteNetlinkMessage::NewRule(rules::by_source(*addr, table));
            all.push(Request::ensure(rule, "add a rule of a container's routes"));
        }
    }
    all
}

fn inner_route(table: u32, to: Subnet, metric: u32, way: Way) -> Request {
    let place = Place { table, to, metric };
    let message = routes::message(&place, &way, RouteProtocol::Static);
    Request::replace(
        RouteNetlinkMessage::NewRoute(message),
        format!("route {to} in a container"),
    )
}

fn outer_end(container: ContainerId, interface: &Interface, link: u32) -> Vec<Request> {
    let attributes = vec![
        link::NO_GROUP,
        LinkAttribute::IfAlias(format!("container {container}")),
    ];
    let mut all = vec![link::up(link, attributes)];
    let has = |v4: bool| interface.addresses.iter().any(|addr| addr.is_ipv4() == v4);
    if has(true) {
        all.push(link::address(link, HOST_V4.into(), 32, true));
    }
    if has(false) {
        all.push(link::address(link, HOST_V6.into(), 64, true));
    }
    for addr in &interface.addresses {
        let place = Place {
            table: MAIN,
            to: routes::only(*addr),
            metric: NEAR,
        };
        let message = routes::message(&place, &Way::Link(link), routes::PROTOCOL);
        all.push(Request::replace(
            RouteNetlinkMessage::NewRoute(message),
            format!("route {addr} to a container"),
        ));
        let neighbour = link::neighbour(link, *addr, mac::of_addresses(&interface.addresses));
        all.push(link::learn(
            neighbour,
            format!("learn of the container {addr}"),
        ));
    }
    all
}

fn bits(addr: &IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
