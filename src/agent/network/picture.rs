//! What this node's kernel and its answers about names are to be, of what is known.
//!
//! Pure: from the cluster's intent, what nodes gossip and who is alive, and the containers here. The loop in
//! [`super::plane`] makes it so. A node that is dead takes no traffic; what it gossiped stays its own to take back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::dns::Names;
use super::intent::Intent;
use super::links::{Desired, Peer, mac_of};
use super::nft::{Pool, Rules, Target};
use super::record::Record;
use crate::model::network::Subnet;
use crate::model::plane::{Endpoint, Mesh, PlaneService, Published};
use crate::model::{ContainerId, NetworkId, NodeId, ServiceId};

/// What is believed of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// Where its packets come from.
    pub(super) addr: IpAddr,
    /// It answers, or will in a moment.
    pub(super) alive: bool,
    /// What takes traffic there.
    pub(super) endpoints: Vec<Endpoint>,
}

/// All that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// This node.
    pub(super) me: NodeId,
    /// Its address between nodes.
    pub(super) own: IpAddr,
    /// The port of packets between nodes.
    pub(super) port: u16,
    /// The cluster's intent.
    pub(super) intent: &'a Intent,
    /// Other nodes.
    pub(super) sights: &'a BTreeMap<NodeId, Sight>,
    /// Containers here.
    pub(super) records: &'a BTreeMap<ContainerId, Record>,
    /// The node's own range.
    pub(super) local: Subnet,
}

/// What is to be.
#[derive(Debug)]
pub(super) struct Picture {
    /// Interfaces and routes.
    pub(super) links: Desired,
    /// The packet filter.
    pub(super) rules: Rules,
    /// Names.
    pub(super) names: Names,
}

/// A task that takes traffic.
#[derive(Clone, Copy, Debug)]
struct Serving<'a> {
    here: bool,
    service: Option<ServiceId>,
    name: &'a str,
    endpoint: &'a Endpoint,
}

impl Serving<'_> {
    fn addresses(&self, network: NetworkId) -> impl Iterator<Item = IpAddr> + '_ {
        let attached = self.endpoint.attachments.iter();
        let there = attached.filter(move |one| one.network == network);
        there.flat_map(|one| one.addresses.iter().copied())
    }
}

/// Thinks it all through.
pub(super) fn draw(known: &Known<'_>) -> Picture {
    let own: Vec<Endpoint> = known
        .records
        .values()
        .filter(|record| record.serving)
        .map(Record::endpoint)
        .collect();
    let serving = serving(known, &own);
    Picture {
        links: links(known),
        rules: rules(known, &serving),
        names: names(known, &serving),
    }
}

/// Everything that takes traffic, of nodes that are alive, at addresses that are theirs.
fn serving<'a>(known: &Known<'a>, own: &'a [Endpoint]) -> Vec<Serving<'a>> {
    let here = own.iter().map(|endpoint| (true, known.me, endpoint));
    let alive = known.sights.iter().filter(|(_, sight)| sight.alive);
    let there = alive.flat_map(|(node, sight)| {
        let endpoints = sight.endpoints.iter();
        endpoints.map(move |endpoint| (false, *node, endpoint))
    });
    let honest = |node: NodeId, endpoint: &Endpoint| {
        let attached = endpoint.attachments.iter();
        let mut addresses =
            attached.flat_map(|one| one.addresses.iter().map(|addr| (one.network, *addr)));
        addresses.all(|(network, addr)| known.intent.is_of(network, addr, node))
    };
    here.chain(there)
        .filter(|(here, node, endpoint)| *here || honest(*node, endpoint))
        .map(|(here, _, endpoint)| Serving {
            here,
            service: endpoint.service,
            name: &endpoint.name,
            endpoint,
        })
        .collect()
}

fn links(known: &Known<'_>) -> Desired {
    let numbers = &known.intent.numbers;
    let sights = known.sights.iter();
    let peers = sights.filter_map(|(node, sight)| {
        Some(Peer {
            addr: sight.addr,
            mac: mac_of(*node),
            index: *numbers.get(node)?,
        })
    });
    let blocks = known.intent.blocks.values().flatten();
    let routes = blocks.filter(|block| block.node != known.me);
    let routes = routes.filter_map(|block| {
        let sight = known.sights.get(&block.node)?;
        numbers.contains_key(&block.node).then_some(())?;
        Some((block.prefix, sight.addr))
    });
    Desired {
        peers: peers.collect(),
        routes: routes.collect(),
        pools: known.intent.subnets().collect(),
    }
}

fn rules(known: &Known<'_>, serving: &[Serving<'_>]) -> Rules {
    let peers = known.sights.values().map(|sight| sight.addr);
    let numbers = known.intent.numbers.iter();
    let marks = numbers.map(|(node, number)| (mac_of(*node), *number));
    let mut pools: Vec<Pool> = known
        .intent
        .networks
        .values()
        .map(|network| Pool {
            subnets: network.subnets.clone(),
            internal: network.internal,
            local: false,
            ingress: network.ingress,
        })
        .collect();
    pools.push(Pool {
        subnets: vec![known.local],
        internal: false,
        local: true,
        ingress: false,
    });
    let hairpin = known.records.values().flat_map(Record::addresses);
    let mut balancers = BTreeMap::new();
    let mut ports = BTreeMap::new();
    let by_service = by_service(serving);
    for service in known.intent.services.values() {
        let tasks = by_service.get(&service.id).map_or(&[][..], Vec::as_slice);
        for vip in &service.vips {
            let behind = tasks.iter().flat_map(|task| task.addresses(vip.network));
            let mut behind: Vec<IpAddr> = behind
                .filter(|addr| addr.is_ipv4() == vip.addr.is_ipv4())
                .collect();
            behind.sort_unstable();
            balancers.insert(vip.addr, behind);
        }
        for port in &service.ports {
            if let Some(target) = target(known, service, port, tasks) {
                ports.insert((port.protocol, port.published), target);
            }
        }
    }
    Rules {
        own: vec![known.own],
        port: known.port,
        peers: peers.chain([known.own]).collect(),
        marks: marks.collect(),
        pools,
        hairpin: hairpin.collect(),
        balancers,
        ports,
    }
}

fn by_service<'a, 'b>(serving: &'b [Serving<'a>]) -> BTreeMap<ServiceId, Vec<&'b Serving<'a>>> {
    let mut by_service: BTreeMap<ServiceId, Vec<&Serving<'_>>> = BTreeMap::new();
    for task in serving {
        if let Some(service) = task.service {
            by_service.entry(service).or_default().push(task);
        }
    }
    by_service
}

/// Where a published port leads from this node; `None` when it is not this node's to open.
fn target(
    known: &Known<'_>,
    service: &PlaneService,
    port: &Published,
    tasks: &[&Serving<'_>],
) -> Option<Target> {
    if port.published == 0 {
        return None;
    }
    let mut backends: Vec<(IpAddr, u16)> = if port.host {
        let records = known.records.values();
        let own = records.filter(|record| record.serving && record.service == Some(service.id));
        own.filter_map(Record::primary)
            .map(|addr| (addr, port.target))
            .collect()
    } else {
        let ingress = known.intent.ingress()?;
        let reached = tasks
            .iter()
            .filter(|task| task.here || service.mesh != Mesh::Local);
        reached
            .flat_map(|task| task.addresses(ingress))
            .map(|addr| (addr, port.target))
            .collect()
    };
    if port.host && backends.is_empty() {
        return None;
    }
    backends.sort_unstable();
    Some(Target {
        backends,
        snat: service.mesh == Mesh::Snat,
    })
}

fn names(known: &Known<'_>, serving: &[Serving<'_>]) -> Names {
    let mut names = Names::default();
    for network in known.intent.networks.values().filter(|it| !it.ingress) {
        names.network_name(network.id, &network.name);
    }
    let by_service = by_service(serving);
    for service in known.intent.services.values() {
        let tasks = by_service.get(&service.id).map_or(&[][..], Vec::as_slice);
        for (network, aliases) in &service.networks {
            let behind = tasks.iter().flat_map(|task| task.addresses(*network));
            let behind: Vec<IpAddr> = behind.collect();
            let vips = service.vips.iter().filter(|vip| vip.network == *network);
            let vips: Vec<IpAddr> = vips.map(|vip| vip.addr).collect();
            let (answer, shuffled) = match vips.is_empty() {
                true => (&behind, true),
                false => (&vips, false),
            };
            for name in [&service.name].into_iter().chain(aliases) {
                names.add(*network, name, answer, shuffled);
            }
            names.add(*network, &format!("tasks.{}", service.name), &behind, true);
            for vip in &vips {
                names.reverse(*vip, &service.name);
            }
        }
    }
    for task in serving {
        for place in &task.endpoint.attachments {
            let further = place.aliases.iter().filter(|_| task.service.is_none());
            for name in further.map(String::as_str).chain([task.name]) {
                names.add(place.network, name, &place.addresses, true);
            }
            for addr in &place.addresses {
                names.reverse(*addr, task.name);
            }
        }
    }
    for (id, record) in known.records {
        for place in &record.attachments {
            names.add(place.network, &id.short(), &place.addresses, true);
        }
    }
    names
}

/// The addresses that take traffic in this picture and did not take any in none that follows: their flows are to end.
pub(super) fn behind(rules: &Rules) -> BTreeSet<IpAddr> {
    let balanced = rules.balancers.values().flatten().copied();
    let published = rules.ports.values().flat_map(|target| &target.backends);
    balanced.chain(published.map(|(addr, _)| *addr)).collect()
}

#[cfg(test)]
mod tests;
