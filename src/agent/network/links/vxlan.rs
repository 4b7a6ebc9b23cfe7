//! The one tunnel to all other nodes: the device `skein0`, and what it knows of each of them.
//!
//! It outlives the daemon, and one that is as it should be is never touched. It has an address of its own because the
//! kernel takes packets with foreign senders only from a link that has one; that address is no route and known on this
//! link alone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};

use super::link::{self, Link};
use super::netlink::{Kernel, Request};
use super::{Desired, LinkError, Underlay, routes, sysctl};

/// Its name.
pub(super) const NAME: &str = "skein0";

/// Its number, which all nodes share.
pub(super) const VNI: u32 = 4096;

/// Bytes that the tunnel adds to a packet: the outer addresses, ports and both headers.
const OVERHEAD: [u32; 2] = [50, 70];

/// Longest packet between machines of which nothing else is known.
const USUAL: u32 = 1500;

/// Makes the tunnel what it is to be, from a thread in its namespace.
pub(super) fn ensure(kernel: &mut Kernel, underlay: &Underlay) -> Result<Link, LinkError> {
    let mtu = mtu(kernel, underlay.addr)?;
    let tunnel = match Link::named(kernel, NAME)? {
        Some(tunnel) if fits(&tunnel, underlay) => tunnel,
        Some(other) => {
            tracing::info!(link = ?other, "the tunnel is not as it should be and made anew");
            kernel.tell(link::delete([other.index]))?;
            create(kernel, underlay, mtu)?
        }
        None => create(kernel, underlay, mtu)?,
    };
    // Packets come in whose senders are elsewhere: clients of other nodes.
    sysctl::set("ipv4/conf/skein0/rp_filter", "2")?;
    sysctl::set("ipv4/conf/skein0/route_localnet", "1")?;
    for name in ["accept_ra", "accept_dad", "router_solicitations"] {
        sysctl::set_if_any(&format!("ipv6/conf/skein0/{name}"), "0")?;
    }
    let index = tunnel.index;
    if !tunnel.up || tunnel.mtu != mtu {
        let request = link::up(index, vec![LinkAttribute::Mtu(mtu)]);
        kernel
            .tell(vec![request])
            .map_err(|error| taken(error, underlay))?;
    }
    kernel.tell(vec![link::address(index, link::HOST_V4.into(), 32, true)])?;
    Ok(Link {
        up: true,
        mtu,
        ..tunnel
    })
}

/// Longest packet inside of the tunnel.
fn mtu(kernel: &mut Kernel, addr: IpAddr) -> Result<u32, LinkError> {
    let outer = interface_of(kernel, addr)?.map_or(USUAL, |link| link.mtu);
    Ok(outer.saturating_sub(OVERHEAD[usize::from(addr.is_ipv6())]))
}

/// The link that has an address, and is not a loop back to this machine.
pub(super) fn interface_of(kernel: &mut Kernel, addr: IpAddr) -> Result<Option<Link>, LinkError> {
    let all = link::addresses(kernel)?;
    match all.iter().find(|(_, held)| *held == addr) {
        Some((index, _)) => Link::indexed(kernel, *index),
        None => Ok(None),
    }
}

fn fits(tunnel: &Link, underlay: &Underlay) -> bool {
    let Some(data) = &tunnel.vxlan else {
        return false;
    };
    let local = match underlay.addr {
        IpAddr::V4(v4) => InfoVxlan::Local(v4),
        IpAddr::V6(v6) => InfoVxlan::Local6(v6),
    };
    let said = [
        InfoVxlan::Id(VNI),
        InfoVxlan::Port(underlay.port),
        InfoVxlan::Learning(false),
        local,
    ];
    said.iter().all(|one| data.contains(one)) && tunnel.mac == underlay.mac
}

fn create(kernel: &mut Kernel, underlay: &Underlay, mtu: u32) -> Result<Link, LinkError> {
    let local = match underlay.addr {
        IpAddr::V4(v4) => InfoVxlan::Local(v4),
        IpAddr::V6(v6) => InfoVxlan::Local6(v6),
    };
    let data = vec![
        InfoVxlan::Id(VNI),
        local,
        InfoVxlan::Port(underlay.port),
        InfoVxlan::Learning(false),
    ];
    let info = link::kind(InfoKind::Vxlan, InfoData::Vxlan(data));
    let message = RouteNetlinkMessage::NewLink(link::new(NAME, underlay.mac, mtu, info));
    let request = Request::create(message, format!("make the tunnel {NAME}"));
    kernel
        .tell(vec![request])
        .map_err(|error| taken(error, underlay))?;
    Link::named(kernel, NAME)?.ok_or(LinkError::Gone(NAME))
}

fn taken(error: LinkError, underlay: &Underlay) -> LinkError {
    match error.errno() {
        Some(nix::errno::Errno::EEXIST | nix::errno::Errno::EADDRINUSE) => LinkError::Taken {
            port: underlay.port,
            source: Box::new(error),
        },
        _ => error,
    }
}

/// What the tunnel is to know of the peers, and does not, and the other way round: requests to be made before routes
/// lead there, and requests for after none does.
pub(super) fn difference(
    kernel: &mut Kernel,
    desired: &Desired,
    tunnel: u32,
) -> Result<(Vec<Request>, Vec<Request>), LinkError> {
    let (mut learn, mut forget) = (Vec::new(), Vec::new());
    let want: BTreeMap<IpAddr, [u8; 6]> = neighbours(desired).collect();
    let mut have = known(kernel, AddressFamily::Inet, tunnel)?;
    have.extend(known(kernel, AddressFamily::Inet6, tunnel)?);
    let have: BTreeMap<IpAddr, [u8; 6]> = have.into_iter().collect();
    for (addr, mac) in want
        .iter()
        .filter(|(addr, mac)| have.get(addr) != Some(mac))
    {
        let message = link::neighbour(tunnel, *addr, *mac);
        learn.push(link::learn(
            message,
            format!("learn of the neighbour {addr}"),
        ));
    }
    for (addr, mac) in have.iter().filter(|(addr, _)| !want.contains_key(addr)) {
        let message = link::neighbour(tunnel, *addr, *mac);
        forget.push(link::forget(
            message,
            format!("forget the neighbour {addr}"),
        ));
    }
    let peers = desired.peers.iter();
    let want: BTreeMap<[u8; 6], IpAddr> = peers.map(|peer| (peer.mac, peer.addr)).collect();
    let have = known(kernel, AddressFamily::Bridge, tunnel)?;
    let have: BTreeMap<[u8; 6], IpAddr> = have.into_iter().map(|(addr, mac)| (mac, addr)).collect();
    for (mac, addr) in want
        .iter()
        .filter(|(mac, addr)| have.get(*mac) != Some(addr))
    {
        let message = link::forwarding(tunnel, *mac, *addr);
        learn.push(link::learn(message, format!("learn of the machine {addr}")));
    }
    for (mac, addr) in have.iter().filter(|(mac, _)| !want.contains_key(*mac)) {
        let message = link::forwarding(tunnel, *mac, *addr);
        forget.push(link::forget(message, format!("forget the machine {addr}")));
    }
    Ok((learn, forget))
}

/// Next hops of routes through the tunnel.
fn neighbours(desired: &Desired) -> impl Iterator<Item = (IpAddr, [u8; 6])> {
    let v6 = routes::families(desired).any(|v4| !v4);
    desired.peers.iter().flat_map(move |peer| {
        let own = peer.addr.is_ipv4().then_some(peer.addr);
        let next = (v6 || own.is_none()).then(|| routes::next_hop(peer.index));
        own.into_iter().chain(next).map(|addr| (addr, peer.mac))
    })
}

fn known(
    kernel: &mut Kernel,
    family: AddressFamily,
    tunnel: u32,
) -> Result<Vec<(IpAddr, [u8; 6])>, LinkError> {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    match family {
        AddressFamily::Bridge => message.header.ifindex = tunnel,
        _ => message.attributes = vec![NeighbourAttribute::IfIndex(tunnel)],
    }
    let question = RouteNetlinkMessage::GetNeighbour(message);
    let all = kernel.list(question, "list neighbours")?;
    let read = |message: &RouteNetlinkMessage| match message {
        RouteNetlinkMessage::NewNeighbour(message) => link::read_neighbour(message),
        _ => None,
    };
    let of_tunnel = all
        .iter()
        .filter_map(read)
        .filter(|(link, ..)| *link == tunnel);
    Ok(of_tunnel.map(|(_, addr, mac)| (addr, mac)).collect())
}
