//! Chooses the addresses of tasks and services, and the numbers of published ports.
//!
//! What is in use is what objects in the store name, and [`Addresses`] finds it without looking at all of them: it is
//! made of a view once a term and then told what has changed. Being told twice, or late, does no harm, because each time
//! the object itself is looked at. It also remembers for a while what was given back, so that nobody has it at once.
//!
//! ```text
//!   service ─► settle: its ports, and an address for all of its tasks in each network
//!   task    ─► attach: an address in each network, with its node      (the scheduler asks, in one proposal with it)
//! ```
//!
//! A task of a service that is not settled, or whose networks are used up, is given no node, and says why.

mod ingress;
mod needs;
mod ports;
mod settle;
mod space;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use self::ports::Ports;
use self::space::{Holder, Space};
use super::draft::{Draft, View};
use crate::model::network::IpamConfig;
use crate::model::plane::Attachment;
use crate::model::task::record::holds;
use crate::model::{NetworkId, NodeId, Service, ServiceId, Task, TaskId, Timestamp};

pub use ingress::{INGRESS, ingress_spec, keep_ingress, lacks_ingress};
pub use needs::{Lack, Needs, is_ingress};
pub use settle::{needs, settle};

pub(super) use space::block_size;

/// What is in use of addresses and ports.
#[derive(Debug, Default)]
pub struct Addresses {
    /// By their first address: no two have one in common.
    spaces: BTreeMap<IpAddr, Space>,
    /// The first addresses of each network's ranges, and what those were made of.
    networks: BTreeMap<NetworkId, (Vec<IpamConfig>, Vec<IpAddr>)>,
    /// Addresses that are held in no network that there is.
    strays: BTreeMap<IpAddr, Vec<Holder>>,
    /// Found, never walked.
    tasks: HashMap<TaskId, Held>,
    services: BTreeMap<ServiceId, Held>,
    ports: Ports,
    /// What is here as a draft had it, which may have come to nothing.
    drafted_tasks: BTreeSet<TaskId>,
    drafted_services: BTreeSet<ServiceId>,
    /// Services that could not be settled when they were last looked at, and why.
    unsettled: BTreeMap<ServiceId, Lack>,
    /// Something was given back of which there may have been none left.
    loosened: bool,
}

/// The addresses of a task or a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    by: Holder,
    addresses: Vec<IpAddr>,
}

impl Addresses {
    /// What a view shows.
    pub fn new(view: &View) -> Self {
        let mut addresses = Self::default();
        for id in view.state.objects.networks.keys() {
            addresses.see_network(view, *id);
        }
        for id in view.state.work.services.keys() {
            addresses.see_service(view, *id);
        }
        for (id, task) in &view.state.work.tasks {
            if !task.attachments.is_empty() {
                addresses.see_task(view, *id);
            }
        }
        for task in view.state.work.tasks.values() {
            if !task.attachments.is_empty() && !holds(task) {
                addresses.rest(task, view.now);
            }
        }
        addresses.loosened = false;
        addresses
    }

    /// A network has changed.
    pub fn see_network(&mut self, view: &View, id: NetworkId) {
        let network = view.state.objects.networks.get(&id);
        let pools = network.map(|network| &network.pools);
        let known = self.networks.get(&id).map(|(pools, _)| pools);
        if known == pools {
            return;
        }
        self.loosened = true;
        let gone = self.networks.remove(&id);
        for base in gone.into_iter().flat_map(|(_, bases)| bases) {
            let space = self.spaces.remove(&base);
            for (addr, holder) in space.iter().flat_map(Space::holdings) {
                self.strays.entry(addr).or_default().push(holder);
            }
        }
        let Some(pools) = pools else {
            return;
        };
        let mut bases = Vec::new();
        for mut space in pools.iter().filter_map(Space::new) {
            let base = space.subnet().base();
            self.strays.retain(|addr, holders| {
                let is_here = space.subnet().has(*addr);
                if is_here {
                    holders.iter().for_each(|one| space.hold(*addr, *one));
                }
                !is_here
            });
            bases.push(base);
            self.spaces.insert(base, space);
        }
        self.networks.insert(id, (pools.clone(), bases));
    }

    /// A service has changed.
    pub fn see_service(&mut self, view: &View, id: ServiceId) {
        let service = view.state.work.services.get(&id).map(AsRef::as_ref);
        self.put_service(id, service, Some(view.now));
        if service.is_none_or(|service| service.removed) {
            self.unsettled.remove(&id);
        }
    }

    /// A task has changed.
    pub fn see_task(&mut self, view: &View, id: TaskId) {
        self.put_task(view, id, Some(view.now));
    }

    /// What a task does not hold any more rests from `since` on.
    fn put_task(&mut self, view: &View, id: TaskId, since: Option<Timestamp>) {
        let task = view.state.work.tasks.get(&id);
        let task = task.filter(|task| holds(task));
        if task.is_none() && !self.tasks.contains_key(&id) {
            return;
        }
        let next = task.and_then(|task| {
            let by = Holder::Node(task.node?);
            let places = task.attachments.iter();
            let addresses = places.flat_map(|place| place.addresses.iter().copied());
            Some(Held {
                by,
                addresses: addresses.collect(),
            })
        });
        let old = match next.clone() {
            Some(next) => self.tasks.insert(id, next),
            None => self.tasks.remove(&id),
        };
        if old != next {
            self.exchange(old, next, since);
        }
    }

    /// Services that are worth another look, because something was given back since this was last asked.
    pub fn to_look_at(&mut self) -> Vec<ServiceId> {
        match std::mem::take(&mut self.loosened) {
            true => self.unsettled.keys().copied().collect(),
            false => Vec::new(),
        }
    }

    /// Takes back what an earlier draft was believed to become.
    pub fn look_at(&mut self, view: &View) {
        for id in std::mem::take(&mut self.drafted_services) {
            let service = view.state.work.services.get(&id);
            self.put_service(id, service.map(AsRef::as_ref), None);
        }
        for id in std::mem::take(&mut self.drafted_tasks) {
            self.put_task(view, id, None);
        }
        // What was given in vain nobody waits for.
        self.loosened = false;
    }

    /// Why the tasks of a version of a service cannot be given a node, if nothing of the kind has changed since.
    pub fn lacking(&self, needs: &Needs) -> Option<Lack> {
        if let Some(lack) = &needs.lack {
            return Some(lack.clone());
        }
        let mut places = needs.places.iter();
        let used_up = places.find(|place| {
            let Some((_, bases)) = self.networks.get(&place.network) else {
                return true;
            };
            [true, false].into_iter().any(|v4| {
                let mut ranges = bases.iter().filter(|base| base.is_ipv4() == v4).peekable();
                ranges.peek().is_some()
                    && ranges.all(|base| self.spaces.get(base).is_none_or(Space::is_full))
            })
        });
        used_up.map(|place| Lack::Addresses(place.name.clone()))
    }

    /// Gives a task its places in networks; `None` when there are not enough, and nothing is given.
    pub fn attach(
        &mut self,
        task: TaskId,
        node: NodeId,
        needs: &Needs,
        now: Timestamp,
    ) -> Option<Vec<Attachment>> {
        let by = Holder::Node(node);
        let mut given = Vec::new();
        for place in &needs.places {
            match self.take(place.network, by, now) {
                Some(addresses) => given.push(Attachment {
                    network: place.network,
                    addresses,
                    aliases: place.aliases.clone(),
                }),
                None => {
                    for addr in given.iter().flat_map(|it: &Attachment| &it.addresses) {
                        self.release(*addr, by, None);
                    }
                    return None;
                }
            }
        }
        if !given.is_empty() {
            let addresses = given.iter().flat_map(|place| place.addresses.clone());
            let addresses = addresses.collect();
            self.tasks.insert(task, Held { by, addresses });
            self.drafted_tasks.insert(task);
        }
        Some(given)
    }

    /// One address of each family that a network has.
    fn take(&mut self, network: NetworkId, by: Holder, now: Timestamp) -> Option<Vec<IpAddr>> {
        let (_, bases) = self.networks.get(&network)?.clone();
        let mut taken = Vec::new();
        for v4 in [true, false] {
            let mut ranges = bases.iter().filter(|base| base.is_ipv4() == v4).peekable();
            if ranges.peek().is_none() {
                continue;
            }
            let found = ranges.find_map(|base| self.spaces.get_mut(base)?.take(by, now));
            match found {
                Some(addr) => taken.push(addr),
                None => {
                    for addr in taken {
                        self.release(addr, by, None);
                    }
                    return None;
                }
            }
        }
        (!taken.is_empty()).then_some(taken)
    }

    fn put_service(&mut self, id: ServiceId, service: Option<&Service>, since: Option<Timestamp>) {
        let next = service.map(|service| Held {
            by: Holder::Service,
            addresses: service.vips.iter().map(|vip| vip.addr).collect(),
        });
        let next = next.filter(|next| !next.addresses.is_empty());
        let old = match next.clone() {
            Some(next) => self.services.insert(id, next),
            None => self.services.remove(&id),
        };
        if old != next {
            self.exchange(old, next, since);
        }
        let ports = service.map_or(&[][..], |service| &service.ports);
        self.loosened |= self.ports.put(id, ports);
    }

    /// What was held is held no more, but for what is held now. What is given back rests from `since` on.
    fn exchange(&mut self, old: Option<Held>, new: Option<Held>, since: Option<Timestamp>) {
        // First what is new: what stays is never free.
        for held in new.iter() {
            held.addresses.iter().for_each(|it| self.hold(*it, held.by));
        }
        for held in old.iter() {
            self.loosened = true;
            for addr in &held.addresses {
                self.release(*addr, held.by, since);
            }
        }
    }

    fn space_of(&mut self, addr: IpAddr) -> Option<&mut Space> {
        let (_, space) = self.spaces.range_mut(..=addr).next_back()?;
        space.subnet().has(addr).then_some(space)
    }

    fn hold(&mut self, addr: IpAddr, by: Holder) {
        match self.space_of(addr) {
            Some(space) => space.hold(addr, by),
            None => self.strays.entry(addr).or_default().push(by),
        }
    }

    fn release(&mut self, addr: IpAddr, by: Holder, since: Option<Timestamp>) {
        if let Some(space) = self.space_of(addr) {
            space.release(addr, by, since);
            return;
        }
        if let Some(holders) = self.strays.get_mut(&addr) {
            if let Some(place) = holders.iter().position(|one| *one == by) {
                holders.remove(place);
            }
            if holders.is_empty() {
                self.strays.remove(&addr);
            }
        }
    }

    /// What an ended task had rests since then.
    fn rest(&mut self, task: &Task, now: Timestamp) {
        let since = task.status.at.min(now);
        if now.since(since) >= space::REST {
            return;
        }
        for place in &task.attachments {
            for addr in &place.addresses {
                if let Some(space) = self.space_of(*addr) {
                    space.rest(*addr, since);
                }
            }
        }
    }

    /// A draft has changed what a service has.
    fn see_draft(&mut self, draft: &Draft<'_>, id: ServiceId) {
        let service = draft.service(id);
        self.put_service(id, service.as_deref(), Some(draft.now()));
        self.drafted_services.insert(id);
    }
}
