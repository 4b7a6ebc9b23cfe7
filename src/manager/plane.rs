//! What nodes are told of networks and services, so that they can carry packets: the cluster's intent.
//!
//! [`Planner`] follows the state by what differs, so that a change costs what it changes; [`Told`] is one session's, and
//! gives what is new to its node. Pure; [`dispatch`](super::dispatch) and [`sessions`](super::sessions) call it. Nothing
//! is decided here: addresses and ports are what objects name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::allocator::block_size;
use crate::cluster::store::State;
use crate::model::network::{HOST, NONE, Subnet};
use crate::model::plane::{Block, Mesh, PlaneNetwork, PlaneService, PlaneUpdate};
use crate::model::task::record::holds;
use crate::model::{Network, NetworkId, NodeId, Service, ServiceId, Task};
use crate::wire::Json;
use crate::wire::limits::SESSION_FRAME;
use crate::wire::session::Downward;

/// Bytes in one message, about.
const MESSAGE: usize = SESSION_FRAME / 2;

/// What a block is long at the most, as JSON.
const BLOCK_LENGTH: usize = 192;

/// Docker's option of how long packets may be.
const MTU: &str = "com.docker.network.driver.mtu";

/// Docker's option of encryption.
const ENCRYPTED: &str = "encrypted";

/// The intent, as of one state. Cheap to clone and to compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plane {
    networks: OrdMap<NetworkId, Arc<PlaneNetwork>>,
    services: OrdMap<ServiceId, Arc<PlaneService>>,
    blocks: OrdMap<NetworkId, Arc<Vec<Block>>>,
}

impl Plane {
    /// Whether both are one and the same, or look so.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.networks.ptr_eq(&other.networks)
            && self.services.ptr_eq(&other.services)
            && self.blocks.ptr_eq(&other.blocks)
    }
}

/// Addresses that tasks hold, by the node that they are on.
type Holdings = BTreeMap<NodeId, BTreeMap<IpAddr, usize>>;

/// Makes the intent of states that follow one another.
#[derive(Debug, Default)]
pub struct Planner {
    state: Arc<State>,
    plane: Plane,
    /// By network and block.
    held: BTreeMap<NetworkId, BTreeMap<Subnet, Holdings>>,
}

impl Planner {
    /// The intent of the newest state.
    pub fn follow(&mut self, state: &Arc<State>) -> Plane {
        let old = std::mem::replace(&mut self.state, state.clone());
        self.follow_networks(&old);
        for item in old.work.services.diff(&state.work.services) {
            match item {
                DiffItem::Add(_, new) | DiffItem::Update { new: (_, new), .. } => {
                    self.put_service(new);
                }
                DiffItem::Remove(id, _) => drop(self.plane.services.remove(id)),
            }
        }
        let mut moved = BTreeSet::new();
        for item in old.work.tasks.diff(&state.work.tasks) {
            let (before, after) = match item {
                DiffItem::Add(_, task) => (None, Some(task)),
                DiffItem::Update { old, new } => (Some(old.1), Some(new.1)),
                DiffItem::Remove(_, task) => (Some(task), None),
            };
            self.follow_task(
                before.map(AsRef::as_ref),
                after.map(AsRef::as_ref),
                &mut moved,
            );
        }
        for network in moved {
            self.cut(network);
        }
        self.plane.clone()
    }

    fn follow_networks(&mut self, old: &State) {
        let state = self.state.clone();
        for item in old.objects.networks.diff(&state.objects.networks) {
            match item {
                DiffItem::Add(id, new) | DiffItem::Update { new: (id, new), .. } => {
                    self.plane.networks.insert(*id, Arc::new(network(new)));
                    // Tasks may have been there before.
                    self.cut(*id);
                }
                DiffItem::Remove(id, _) => {
                    self.plane.networks.remove(id);
                    self.plane.blocks.remove(id);
                }
            }
        }
    }

    fn put_service(&mut self, new: &Service) {
        let next = service(new);
        if next.as_ref() == self.plane.services.get(&new.id).map(AsRef::as_ref) {
            return;
        }
        match next {
            Some(next) => self.plane.services.insert(new.id, Arc::new(next)),
            None => self.plane.services.remove(&new.id),
        };
    }

    fn follow_task(
        &mut self,
        before: Option<&Task>,
        after: Option<&Task>,
        moved: &mut BTreeSet<NetworkId>,
    ) {
        let (before, after) = (before.filter(|it| holds(it)), after.filter(|it| holds(it)));
        if let (Some(before), Some(after)) = (before, after)
            && (before.node, &before.attachments) == (after.node, &after.attachments)
        {
            return;
        }
        for (task, is_held) in [(before, false), (after, true)] {
            let Some((task, node)) = task.and_then(|task| Some((task, task.node?))) else {
                continue;
            };
            for place in &task.attachments {
                for addr in &place.addresses {
                    self.count(place.network, node, *addr, is_held);
                }
                moved.insert(place.network);
            }
        }
    }

    fn count(&mut self, network: NetworkId, node: NodeId, addr: IpAddr, is_held: bool) {
        let known = self.state.objects.networks.get(&network);
        let ranges = known.into_iter().flat_map(|network| &network.pools);
        let mut ranges = ranges.filter_map(|pool| pool.subnet.parse().ok());
        let range = ranges.find(|range: &Subnet| range.has(addr));
        let blocks = self.held.entry(network).or_default();
        // What is held was counted in the block that it was in then.
        let mut known = blocks.range(..=Subnet::around(addr, u8::MAX));
        let known = known.next_back().map(|(block, _)| *block);
        let known = known.filter(|block| block.has(addr));
        let block = known.unwrap_or_else(|| block_of(range, addr));
        let holdings = blocks.entry(block).or_default();
        let addresses = holdings.entry(node).or_default();
        let times = addresses.entry(addr).or_default();
        *times = match is_held {
            true => *times + 1,
            false => times.saturating_sub(1),
        };
        if *times == 0 {
            addresses.remove(&addr);
        }
        if addresses.is_empty() {
            holdings.remove(&node);
        }
        if holdings.is_empty() {
            blocks.remove(&block);
        }
        if blocks.is_empty() {
            self.held.remove(&network);
        }
    }

    /// Tells anew which node has which blocks of a network.
    fn cut(&mut self, network: NetworkId) {
        if !self.plane.networks.contains_key(&network) {
            return;
        }
        let held = self.held.get(&network).into_iter().flatten();
        let blocks: Vec<Block> = held
            .flat_map(|(block, holdings)| shares(network, *block, holdings))
            .collect();
        let known = self.plane.blocks.get(&network);
        if known.map_or(blocks.is_empty(), |known| **known == blocks) {
            return;
        }
        match blocks.is_empty() {
            true => self.plane.blocks.remove(&network),
            false => self.plane.blocks.insert(network, Arc::new(blocks)),
        };
    }
}

fn block_of(range: Option<Subnet>, addr: IpAddr) -> Subnet {
    let width = if addr.is_ipv4() { 32 } else { 128 };
    let size = range.map_or(1, |range| block_size(&range));
    let bits = width - size.trailing_zeros();
    Subnet::around(addr, u8::try_from(bits).unwrap_or(width as u8))
}

/// Who has what of a block: all of it has the node with most addresses there, and the others have theirs one by one.
fn shares(network: NetworkId, block: Subnet, holdings: &Holdings) -> Vec<Block> {
    let most = holdings
        .iter()
        .max_by_key(|(node, held)| (held.len(), std::cmp::Reverse(**node)));
    let owner = most.map(|(node, _)| *node);
    let whole = owner.map(|node| Block {
        network,
        prefix: block,
        node,
    });
    let others = holdings.iter().filter(|(node, _)| Some(**node) != owner);
    let single = others.flat_map(|(node, held)| {
        held.keys().map(|addr| Block {
            network,
            prefix: Subnet::around(*addr, u8::MAX),
            node: *node,
        })
    });
    whole.into_iter().chain(single).collect()
}

fn network(network: &Network) -> PlaneNetwork {
    let spec = &network.spec;
    let pools = network.pools.iter();
    let encrypted = spec.options.get(ENCRYPTED);
    PlaneNetwork {
        id: network.id,
        name: spec.name.clone(),
        subnets: pools.filter_map(|pool| pool.subnet.parse().ok()).collect(),
        internal: spec.internal,
        encrypted: encrypted.is_some_and(|value| value != "false"),
        ingress: spec.ingress,
        mtu: spec
            .options
            .get(MTU)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
    }
}

/// A service, as far as others reach it; `None` when nobody does.
fn service(service: &Service) -> Option<PlaneService> {
    let spec = &service.spec;
    let named = spec.task_template.networks.iter().chain(&spec.networks);
    let named = named.filter(|one| ![HOST, NONE].contains(&one.target.as_str()));
    let mut networks: Vec<(NetworkId, Vec<String>)> = Vec::new();
    for one in named {
        let Ok(id) = one.target.parse() else {
            continue;
        };
        match networks.iter_mut().find(|(network, _)| *network == id) {
            Some((_, aliases)) => aliases.extend(one.aliases.iter().cloned()),
            None => networks.push((id, one.aliases.clone())),
        }
    }
    let is_reached = !(networks.is_empty() && service.vips.is_empty() && service.ports.is_empty());
    (is_reached && !service.removed).then(|| PlaneService {
        id: service.id,
        name: spec.name.clone(),
        networks,
        vips: service.vips.clone(),
        ports: service.ports.clone(),
        mesh: Mesh::of(&spec.labels),
    })
}

/// What one session has told its node.
#[derive(Debug, Default)]
pub struct Told(Option<Plane>);

impl Told {
    /// What is to be sent; nothing when the node knows all of it.
    pub fn next(&mut self, now: &Plane) -> Vec<Downward> {
        let complete = self.0.is_none();
        if self.0.as_ref().is_some_and(|told| told.is(now)) {
            return Vec::new();
        }
        let told = self.0.replace(now.clone()).unwrap_or_default();
        let mut parts = Parts::default();
        for item in told.networks.diff(&now.networks) {
            match item {
                DiffItem::Add(_, new) | DiffItem::Update { new: (_, new), .. } => {
                    parts.room(length(&**new)).networks.push((**new).clone());
                }
                DiffItem::Remove(id, _) => parts.room(BLOCK_LENGTH).gone_networks.push(*id),
            }
        }
        for item in told.blocks.diff(&now.blocks) {
            let (id, blocks) = match item {
                DiffItem::Add(id, new) | DiffItem::Update { new: (id, new), .. } => {
                    (*id, (**new).clone())
                }
                DiffItem::Remove(id, _) if now.networks.contains_key(id) => (*id, Vec::new()),
                DiffItem::Remove(..) => continue,
            };
            let length = blocks.len() * BLOCK_LENGTH;
            parts.room(length).blocks.push((id, blocks));
        }
        for item in told.services.diff(&now.services) {
            match item {
                DiffItem::Add(_, new) | DiffItem::Update { new: (_, new), .. } => {
                    parts.room(length(&**new)).services.push((**new).clone());
                }
                DiffItem::Remove(id, _) => parts.room(BLOCK_LENGTH).gone_services.push(*id),
            }
        }
        parts.messages(complete)
    }
}

fn length(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

/// Updates that are being filled.
#[derive(Debug, Default)]
struct Parts {
    all: Vec<PlaneUpdate>,
    bytes: usize,
}

impl Parts {
    /// The part that has room for so many bytes more.
    fn room(&mut self, bytes: usize) -> &mut PlaneUpdate {
        if self.all.is_empty() || self.bytes + bytes > MESSAGE {
            self.all.push(PlaneUpdate::default());
            self.bytes = 0;
        }
        self.bytes += bytes;
        let last = self.all.len() - 1;
        &mut self.all[last]
    }

    fn messages(mut self, complete: bool) -> Vec<Downward> {
        if complete {
            // The last part says that there is no more.
            self.room(0).complete = true;
        }
        let updates = self.all.into_iter();
        updates
            .map(|update| Downward::Plane(Json(update)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
