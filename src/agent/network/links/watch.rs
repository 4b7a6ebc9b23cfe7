//! Notices that somebody else has changed what is ours: an administrator, another program, the kernel that empties a
//! link which went down.
//!
//! What counts is a loss of something that is still wanted, so that what this room itself takes away is none; unless it is
//! wanted again at once, which costs a look that finds nothing to do. The kernel says nothing of the routes that went with
//! a link, which is why links are watched too.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NLM_F_REPLACE, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio_util::sync::CancellationToken;

use super::link::{self, HOST_V4, Link};
use super::{Desired, Held, Peer, Shared, netlink, routes, rules, vxlan};

const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
];

/// A socket that hears of all changes in the namespace of this thread, which has to have a runtime at hand.
pub(super) fn open() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    let groups = GROUPS
        .iter()
        .fold(0, |all, one| all | 1 << (*one as u32 - 1));
    socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
    Ok(socket)
}

/// Hears of changes until `stop`, and counts those that matter.
pub(super) async fn run(socket: TokioSocket, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let heard = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            heard = socket.recv_from_full() => heard,
        };
        let matters = match heard {
            Ok((bytes, _)) => {
                let held = shared.held();
                netlink::read(&bytes)
                    .iter()
                    .any(|(flags, _, payload)| matters(*flags, payload, &held))
            }
            // The kernel had more to say than fits: anything may have happened.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => true,
            Err(error) => {
                tracing::warn!(%error, "changes of links are not noticed");
                return;
            }
        };
        if matters {
            shared.changes.send_modify(|count| *count += 1);
        }
    }
}

/// Whether a change takes away something that is wanted.
fn matters(flags: u16, payload: &NetlinkPayload<RouteNetlinkMessage>, held: &Held) -> bool {
    let NetlinkPayload::InnerMessage(message) = payload else {
        return false;
    };
    let ours = |name: &str| name == vxlan::NAME || held.names.contains(name);
    match message {
        RouteNetlinkMessage::DelLink(message) => ours(&Link::read(message).name),
        RouteNetlinkMessage::NewLink(message) => {
            let link = Link::read(message);
            !link.up && ours(&link.name)
        }
        RouteNetlinkMessage::DelAddress(_) => {
            link::read_address(message) == Some((held.tunnel, HOST_V4.into()))
        }
        RouteNetlinkMessage::DelRoute(message) => {
            message.header.protocol == routes::PROTOCOL
                && routes::read(message).is_some_and(|(place, way)| {
                    held.routes.get(&place) == Some(&way) || held.is_local(place.to.base())
                })
        }
        RouteNetlinkMessage::NewRoute(message) => {
            message.header.protocol != routes::PROTOCOL
                && flags & NLM_F_REPLACE != 0
                && routes::read(message).is_some_and(|(place, _)| held.routes.contains_key(&place))
        }
        RouteNetlinkMessage::DelRule(message) => {
            rules::read(message).is_some_and(|rule| held.rules.contains(&rule))
        }
        RouteNetlinkMessage::DelNeighbour(message) => {
            message.header.ifindex == held.tunnel && is_wanted(message, &held.desired)
        }
        _ => false,
    }
}

/// Whether a neighbour of the tunnel is one of the peers. The kernel that forgets one says where it was no more.
fn is_wanted(message: &NeighbourMessage, desired: &Desired) -> bool {
    let carried = message.header.family == AddressFamily::Bridge;
    message.attributes.iter().any(|one| match one {
        NeighbourAttribute::LinkLayerAddress(mac) if carried => {
            desired.peers.iter().any(|peer| **mac == peer.mac)
        }
        NeighbourAttribute::Destination(addr) if !carried => {
            let addr = link::read_destination(addr);
            let names = |peer: &Peer| [peer.addr, routes::next_hop(peer.index)];
            let mut all = desired.peers.iter().flat_map(names);
            all.any(|name| Some(name) == addr)
        }
        _ => false,
    })
}

impl Held {
    /// Whether a container of this node has an address.
    fn is_local(&self, addr: IpAddr) -> bool {
        let mut all = self.wired.values().flatten();
        all.any(|interface| interface.addresses.contains(&addr))
    }
}
