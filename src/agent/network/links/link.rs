//! Links, their addresses and neighbours: how they are asked for, made, changed, and what the kernel tells of them.
//!
//! Values and messages only. Every request here may be made again without harm.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::LinkError;
use super::netlink::{Kernel, Request};
use super::routes::family;

/// The machine, as its containers see it: the next hop of all that they send.
pub(super) const HOST_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// As [`HOST_V4`], among IPv6 addresses.
pub(super) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What the kernel tells of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub mtu: u32,
    pub mac: Vec<u8>,
    /// What somebody noted of it.
    pub alias: String,
    /// The index of its other end, in the namespace where that is.
    pub other: Option<u32>,
    /// Whether it is a tunnel, and of which kind.
    pub vxlan: Option<Vec<InfoVxlan>>,
}

impl Link {
    pub(super) fn read(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(mac) => link.mac.clone_from(mac),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::Link(index) => link.other = Some(*index),
                LinkAttribute::LinkInfo(all) => {
                    link.vxlan = all.iter().find_map(|info| match info {
                        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data.clone()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }

    /// The link of this name, if there is one.
    pub(super) fn named(kernel: &mut Kernel, name: &str) -> Result<Option<Self>, LinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        Self::get(kernel, message, name)
    }

    /// The link of this index, if there is one.
    pub(super) fn indexed(kernel: &mut Kernel, index: u32) -> Result<Option<Self>, LinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        Self::get(kernel, message, "")
    }

    fn get(
        kernel: &mut Kernel,
        message: LinkMessage,
        name: &str,
    ) -> Result<Option<Self>, LinkError> {
        let question = RouteNetlinkMessage::GetLink(message);
        let answer = kernel.get(question, &format!("ask for the link {name}"))?;
        Ok(answer.and_then(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(Self::read(&message)),
            _ => None,
        }))
    }
}

/// What a new link is made of: its kind, name, and the hardware address and longest packet that it has.
pub(super) fn new(name: &str, mac: [u8; 6], mtu: u32, info: Vec<LinkInfo>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Address(mac.to_vec()),
        LinkAttribute::Mtu(mtu),
    ];
    if !info.is_empty() {
        message.attributes.push(LinkAttribute::LinkInfo(info));
    }
    message
}

/// Kind of a link, and what is particular to it.
pub(super) fn kind(kind: InfoKind, data: InfoData) -> Vec<LinkInfo> {
    vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]
}

/// Lets a link carry packets as long as this.
pub(super) fn resize(index: u32, mtu: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Mtu(mtu));
    Request::change(
        RouteNetlinkMessage::SetLink(message),
        format!("have link {index} carry packets of {mtu} bytes"),
    )
}

/// Lets a link carry packets, and changes this of it.
pub(super) fn up(index: u32, attributes: Vec<LinkAttribute>) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = attributes;
    Request::change(
        RouteNetlinkMessage::SetLink(message),
        format!("start link {index}"),
    )
}

/// Links that are about to be taken away. Nobody else has a group of this number: it spells `skxx`.
const DOOMED: u32 = 0x736b_7878;

/// The group of all links of which nobody has said anything.
pub(super) const NO_GROUP: LinkAttribute = LinkAttribute::Group(0);

/// Marks links as those that are about to be taken away.
pub(super) fn doom(indexes: impl IntoIterator<Item = u32>) -> Vec<Request> {
    let doom = |index| {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Group(DOOMED));
        Request::remove(
            RouteNetlinkMessage::SetLink(message),
            format!("remove link {index}"),
        )
    };
    indexes.into_iter().map(doom).collect()
}

/// Takes all doomed links away, with all that hangs on them. The kernel waits for every processor when it does so,
/// whence all go at once.
pub(super) fn bury() -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(DOOMED));
    Request::remove(RouteNetlinkMessage::DelLink(message), "remove links")
}

/// Takes links away.
pub(super) fn delete(indexes: impl IntoIterator<Item = u32>) -> Vec<Request> {
    let mut all = doom(indexes);
    if !all.is_empty() {
        all.push(bury());
    }
    all
}

/// An address of a link, of that address alone, which is known on that link only when `near`.
pub(super) fn address(index: u32, addr: IpAddr, bits: u8, near: bool) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = family(addr.is_ipv4());
    message.header.prefix_len = bits;
    message.header.index = index;
    message.header.scope = match near {
        true => AddressScope::Link,
        false => AddressScope::Universe,
    };
    if addr.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes = vec![
        AddressAttribute::Local(addr),
        AddressAttribute::Address(addr),
    ];
    Request::ensure(
        RouteNetlinkMessage::NewAddress(message),
        format!("give link {index} the address {addr}"),
    )
}

/// The addresses of all links, with the links' indexes.
pub(super) fn addresses(kernel: &mut Kernel) -> Result<Vec<(u32, IpAddr)>, LinkError> {
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let all = kernel.list(question, "list addresses")?;
    Ok(all.iter().filter_map(read_address).collect())
}

/// An address, and the index of the link that has it.
pub(super) fn read_address(message: &RouteNetlinkMessage) -> Option<(u32, IpAddr)> {
    let (RouteNetlinkMessage::NewAddress(message) | RouteNetlinkMessage::DelAddress(message)) =
        message
    else {
        return None;
    };
    let local = message.attributes.iter().find_map(|one| match one {
        AddressAttribute::Local(addr) => Some(*addr),
        _ => None,
    });
    let addr = local.or_else(|| {
        message.attributes.iter().find_map(|one| match one {
            AddressAttribute::Address(addr) => Some(*addr),
            _ => None,
        })
    });
    Some((message.header.index, addr?))
}

/// Where a neighbour of a link is, for ever.
pub(super) fn neighbour(index: u32, addr: IpAddr, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(addr.is_ipv4());
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(addr.into()),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    message
}

/// Which machine a tunnel carries a hardware address to, for ever.
pub(super) fn forwarding(index: u32, mac: [u8; 6], to: IpAddr) -> NeighbourMessage {
    let mut message = neighbour(index, to, mac);
    message.header.family = AddressFamily::Bridge;
    message.header.flags = NeighbourFlags::Own;
    message
}

/// Has the kernel know a neighbour.
pub(super) fn learn(message: NeighbourMessage, what: String) -> Request {
    Request::replace(RouteNetlinkMessage::NewNeighbour(message), what)
}

/// Has the kernel forget one.
pub(super) fn forget(message: NeighbourMessage, what: String) -> Request {
    Request::remove(RouteNetlinkMessage::DelNeighbour(message), what)
}

/// What somebody told of a neighbour: of which link, its address, its hardware address. `None` for one that the kernel
/// has found by itself.
pub(super) fn read_neighbour(message: &NeighbourMessage) -> Option<(u32, IpAddr, [u8; 6])> {
    let NeighbourState::Permanent = message.header.state else {
        return None;
    };
    let (mut addr, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(found) => addr = read_destination(found),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(&**bytes).ok();
            }
            _ => {}
        }
    }
    Some((message.header.ifindex, addr?, mac?))
}

/// Tunnels say where a machine is in either family.
pub(super) fn read_destination(addr: &NeighbourAddress) -> Option<IpAddr> {
    match addr {
        NeighbourAddress::Inet(v4) => Some((*v4).into()),
        NeighbourAddress::Inet6(v6) => Some((*v6).into()),
        NeighbourAddress::Other(bytes) => match &**bytes {
            &[first, second, third, fourth] => Some([first, second, third, fourth].into()),
            bytes => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        },
        _ => None,
    }
}
