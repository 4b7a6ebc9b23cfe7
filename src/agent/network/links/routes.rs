//! Routes of ours: which there are to be, and what is to be done where the kernel has others.
//!
//! Values only, and how they are said to the kernel. Ours are known by their protocol number; whatever has another is
//! somebody else's and never touched. The same destination may be near and far for a moment, when an address moves: the
//! nearer has the smaller metric.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Desired, Peer};
use crate::model::network::Subnet;

/// Who made a route or a rule: we did.
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(0x53);

/// The table that all packets are looked up in.
pub(super) const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// A container of this node.
pub(super) const NEAR: u32 = 1;

/// Containers of another node.
const FAR: u32 = 100;

/// What nobody has.
const NOWHERE: u32 = 4000;

/// Table of the way back to a peer: this and its index.
const BACK: u32 = 7000;

/// What a route is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// In which table.
    pub table: u32,
    /// Where to.
    pub to: Subnet,
    /// The smallest wins.
    pub metric: u32,
}

/// Where packets of a route go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Back to the sender: there is no such address.
    Nowhere,
    /// Out of this link, to whom it is for.
    Link(u32),
    /// Out of this link, to this neighbour.
    Via {
        /// The neighbour.
        gateway: IpAddr,
        /// The link.
        link: u32,
        /// What the machine's own packets have as their source; chosen by the kernel when none.
        source: Option<IpAddr>,
    },
}

/// Routes by what they are known by.
pub(super) type Routes = BTreeMap<Place, Way>;

/// The table of the way back to a peer.
pub(super) fn back(index: u16) -> u32 {
    BACK + u32::from(index)
}

/// The neighbour that stands for a peer among IPv6 addresses, and for one whose own address is of IPv6.
pub(super) fn next_hop(index: u16) -> IpAddr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, index).into()
}

fn gateway(to: &Subnet, peer: &Peer) -> IpAddr {
    match to.base().is_ipv4() && peer.addr.is_ipv4() {
        true => peer.addr,
        false => next_hop(peer.index),
    }
}

/// All addresses of a family.
pub(super) fn everything(v4: bool) -> Subnet {
    match v4 {
        true => Subnet::around(Ipv4Addr::UNSPECIFIED.into(), 0),
        false => Subnet::around(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

/// One address.
pub(super) fn only(addr: IpAddr) -> Subnet {
    Subnet::around(addr, 128)
}

/// The families of which this node carries anything.
pub(super) fn families(desired: &Desired) -> impl Iterator<Item = bool> + use<> {
    let mut all = desired.pools.iter().chain(desired.routes.keys());
    let v6 = all.any(|subnet| subnet.base().is_ipv6());
    [true].into_iter().chain(v6.then_some(false))
}

/// The routes that `desired` needs, out of the tunnel `link`, on a node with the address `own`.
pub(super) fn wanted(desired: &Desired, own: IpAddr, link: u32) -> Routes {
    let peers: BTreeMap<IpAddr, &Peer> =
        desired.peers.iter().map(|peer| (peer.addr, peer)).collect();
    let via = |to: &Subnet, peer: &Peer| Way::Via {
        gateway: gateway(to, peer),
        link,
        source: (own.is_ipv4() == to.base().is_ipv4()).then_some(own),
    };
    let blocks = desired.routes.iter().filter_map(|(to, addr)| {
        let place = Place {
            table: MAIN,
            to: *to,
            metric: FAR,
        };
        Some((place, via(to, peers.get(addr)?)))
    });
    let nowhere = desired.pools.iter().map(|pool| {
        let place = Place {
            table: MAIN,
            to: *pool,
            metric: NOWHERE,
        };
        (place, Way::Nowhere)
    });
    let ways_back = families(desired).flat_map(|v4| {
        let to = everything(v4);
        desired.peers.iter().map(move |peer| {
            let place = Place {
                table: back(peer.index),
                to,
                metric: FAR,
            };
            (place, via(&to, peer))
        })
    });
    blocks.chain(nowhere).chain(ways_back).collect()
}

/// What is to be written, and what is to be taken away, where there is `have` and is to be `want`.
pub(super) fn difference(have: &Routes, want: &Routes) -> (Routes, Routes) {
    let differs = |(place, way): &(&Place, &Way)| have.get(place) != Some(way);
    let too_much = |(place, _): &(&Place, &Way)| !want.contains_key(place);
    let copied = |(place, way): (&Place, &Way)| (*place, *way);
    (
        want.iter().filter(differs).map(copied).collect(),
        have.iter().filter(too_much).map(copied).collect(),
    )
}

/// A question for all routes of ours, of a family.
pub(super) fn question(v4: bool) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(v4);
    message.header.protocol = PROTOCOL;
    RouteNetlinkMessage::GetRoute(message)
}

/// A route, as the kernel is told of it.
pub(super) fn message(place: &Place, way: &Way, protocol: RouteProtocol) -> RouteMessage {
    let v4 = place.to.base().is_ipv4();
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(v4);
    header.destination_prefix_length = place.to.bits();
    header.protocol = protocol;
    header.kind = RouteType::Unicast;
    header.table = u8::try_from(place.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(place.table));
    if place.to.bits() > 0 {
        attributes.push(RouteAttribute::Destination(place.to.base().into()));
    }
    if place.metric > 0 {
        attributes.push(RouteAttribute::Priority(place.metric));
    }
    match way {
        Way::Nowhere => header.kind = RouteType::Unreachable,
        Way::Link(link) => {
            header.scope = if v4 {
                RouteScope::Link
            } else {
                RouteScope::Universe
            };
            attributes.push(RouteAttribute::Oif(*link));
        }
        Way::Via {
            gateway,
            link,
            source,
        } => {
            attributes.push(RouteAttribute::Oif(*link));
            match gateway.is_ipv4() == v4 {
                true => attributes.push(RouteAttribute::Gateway((*gateway).into())),
                false => attributes.push(RouteAttribute::Via((*gateway).into())),
            }
            if gateway.is_ipv4() {
                header.flags = RouteFlags::Onlink;
            }
            attributes.extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
        }
    }
    message
}

/// A route, as the kernel tells of it; `None` for one that says more than ours do.
pub(super) fn read(message: &RouteMessage) -> Option<(Place, Way)> {
    let header = &message.header;
    let v4 = match header.address_family {
        AddressFamily::Inet => true,
        AddressFamily::Inet6 => false,
        _ => return None,
    };
    let mut to = everything(v4).base();
    let (mut table, mut metric) = (u32::from(header.table), 0);
    let (mut gateway, mut link, mut source) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(addr) => to = address(addr)?,
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(addr) => gateway = Some(address(addr)?),
            RouteAttribute::Via(RouteVia::Inet6(addr)) => gateway = Some((*addr).into()),
            RouteAttribute::PrefSource(addr) => source = Some(address(addr)?),
            _ => {}
        }
    }
    let way = match (header.kind, gateway, link) {
        (RouteType::Unreachable, _, _) => Way::Nowhere,
        (_, None, Some(link)) => Way::Link(link),
        (_, Some(gateway), Some(link)) => Way::Via {
            gateway,
            link,
            source,
        },
        (_, _, None) => return None,
    };
    let place = Place {
        table,
        to: Subnet::around(to, header.destination_prefix_length),
        metric,
    };
    Some((place, way))
}

fn address(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// The number of a family.
pub(super) fn family(v4: bool) -> AddressFamily {
    match v4 {
        true => AddressFamily::Inet,
        false => AddressFamily::Inet6,
    }
}
