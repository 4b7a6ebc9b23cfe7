//! What users ask of networks: a new one, an end.
//!
//! Called by [`term`](super::term) with a linearizable state; each gives the one change to commit. Here a network gets
//! the addresses that are its own, so that no two networks ever have one in common: what is taken is what the networks
//! in the store say. What the spec alone tells was judged by the API.

use std::net::{IpAddr, Ipv6Addr};

use super::AdminError;
use super::allocator::{ingress_spec, is_ingress};
use crate::cluster::store::State;
use crate::model::network::{IpamConfig, Subnet};
use crate::model::service_spec::ServiceSpec;
use crate::model::task::record::holds;
use crate::model::{Change, Expect, Network, NetworkId, NetworkSpec, Rejection, TaskState};

/// Where addresses come from when the cluster has no pools of its own, as in Docker.
const DEFAULT_POOL: &str = "10.0.0.0/8";

/// How long subnets are when the cluster does not say.
const DEFAULT_BITS: u32 = 24;

/// Subnets that are tried before a pool is held to be used up. More networks than that no cluster has.
const TRIED: u128 = 1 << 16;

/// The change that makes a network.
pub fn create(state: &State, id: NetworkId, spec: NetworkSpec) -> Result<Change, AdminError> {
    if state.objects.network_named(&spec.name).is_some() {
        return Err(Rejection::NetworkTaken(spec.name).into());
    }
    let mut networks = state.objects.networks.values();
    if spec.ingress
        && let Some(other) = networks.find(|network| network.spec.ingress)
    {
        let words = format!("ingress network ({}) is already present", other.id);
        return Err(AdminError::Conflict(words));
    }
    let pools = pools(state, id, &spec, 1)?;
    let network = Network {
        id,
        spec,
        pools,
        ..Network::default()
    };
    Ok(Change::PutNetwork(Expect::Absent, Box::new(network)))
}

/// The network for published ports that every cluster begins with, on the very first addresses of its pools.
pub fn ingress(state: &State, id: NetworkId) -> Result<Network, AdminError> {
    let spec = ingress_spec();
    let pools = pools(state, id, &spec, 0)?;
    Ok(Network {
        id,
        spec,
        pools,
        ..Network::default()
    })
}

/// The change that removes a network; refused while a service, or a task that is to run on, is attached to it.
pub fn remove(state: &State, id: NetworkId) -> Result<Change, AdminError> {
    let found = state.objects.networks.get(&id);
    let network = found.ok_or_else(|| AdminError::NotFound(format!("network {id} not found")))?;
    let text = id.to_string();
    let in_use = |kind: &str, by: String| {
        Err(AdminError::Invalid(format!(
            "network {id} is in use by {kind} {by}"
        )))
    };
    for service in state.work.services.values() {
        if service.removed {
            // Its tasks are about to end, and a stack removes its networks at once.
            continue;
        }
        if attaches(&service.spec, &text) {
            return in_use("service", service.id.to_string());
        }
        if network.spec.ingress && is_ingress(service.spec.endpoint_spec.as_ref()) {
            return Err(AdminError::Invalid(format!(
                "ingress network cannot be removed because service {} depends on it",
                service.id
            )));
        }
        let held = state.work.tasks_of(service.id).find(|task| {
            let template = state.work.template(task.service, task.spec_version);
            task.desired <= TaskState::Running
                && task.status.state <= TaskState::Running
                && template.is_some_and(|it| it.task.networks.iter().any(|on| on.target == text))
        });
        if let Some(task) = held {
            return in_use("task", task.id.to_string());
        }
    }
    Ok(Change::RemoveNetwork(
        Expect::Version(network.meta.version),
        id,
    ))
}

fn attaches(spec: &ServiceSpec, network: &str) -> bool {
    let mut named = spec.task_template.networks.iter().chain(&spec.networks);
    named.any(|one| one.target == network)
}

/// The addresses of a new network: what its user asks for, and what is missing of it.
/// `skip` subnets at the beginning of the cluster's pools are somebody else's.
fn pools(
    state: &State,
    id: NetworkId,
    spec: &NetworkSpec,
    skip: u128,
) -> Result<Vec<IpamConfig>, AdminError> {
    let networks = state.objects.networks.values();
    let held = networks.flat_map(|network| &network.pools);
    let taken: Vec<Subnet> = held.filter_map(|pool| pool.subnet.parse().ok()).collect();
    let asked = spec.ipam.iter().flat_map(|ipam| &ipam.config);
    let mut pools = Vec::new();
    for asked in asked.filter(|asked| !asked.subnet.is_empty()) {
        let subnet: Subnet = asked.subnet.parse().map_err(|error| {
            AdminError::Invalid(format!("invalid subnet {}: {error}", asked.subnet))
        })?;
        if taken.iter().any(|other| other.overlaps(&subnet)) {
            return Err(AdminError::Forbidden(
                "invalid pool request: Pool overlaps with other one on this address space".into(),
            ));
        }
        pools.push(with_gateway(asked.clone(), subnet));
    }
    let has = |v4: bool, pools: &[IpamConfig]| {
        let mut subnets = pools.iter().filter_map(|pool| pool.subnet.parse().ok());
        subnets.any(|subnet: Subnet| subnet.base().is_ipv4() == v4)
    };
    if !has(true, &pools) {
        let subnet = free(state, &taken, skip)?;
        pools.insert(0, with_gateway(IpamConfig::default(), subnet));
    }
    if spec.enable_ipv6 && !has(false, &pools) {
        let subnet = private_v6(id);
        pools.push(with_gateway(IpamConfig::default(), subnet));
    }
    Ok(pools)
}

fn with_gateway(pool: IpamConfig, subnet: Subnet) -> IpamConfig {
    let gateway = match pool.gateway.is_empty() {
        true => subnet.at(1).map_or_else(String::new, |at| at.to_string()),
        false => pool.gateway,
    };
    IpamConfig {
        subnet: subnet.to_string(),
        gateway,
        ..pool
    }
}

/// The first subnet of the cluster's pools that no network has, nor a task that has not ended yet. The very first is for
/// published ports.
fn free(state: &State, taken: &[Subnet], mut skip: u128) -> Result<Subnet, AdminError> {
    let held = held_outside(state, taken);
    let cluster = state.cluster.as_ref();
    let bits = cluster.map_or(DEFAULT_BITS, |cluster| cluster.subnet_size);
    let bits = u8::try_from(bits)
        .ok()
        .filter(|bits| (1..=32).contains(bits));
    let bits = bits.unwrap_or(24);
    let own = cluster.map_or(&[][..], |cluster| &cluster.address_pools);
    let default = [DEFAULT_POOL.to_owned()];
    let pools = if own.is_empty() { &default[..] } else { own };
    let pools = pools.iter().filter_map(|pool| pool.parse::<Subnet>().ok());
    for pool in pools.filter(|pool| pool.base().is_ipv4() && pool.bits() <= bits) {
        let count = 1u128 << (bits - pool.bits());
        for number in skip..count.min(TRIED) {
            let base = pool.at(number << (32 - bits));
            let subnet = base.map(|base| Subnet::around(base, bits));
            if let Some(subnet) = subnet
                && !taken.iter().any(|other| other.overlaps(&subnet))
                && !held.iter().any(|addr| subnet.has(*addr))
            {
                return Ok(subnet);
            }
        }
        skip = 0;
    }
    Err(AdminError::Invalid(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
            .into(),
    ))
}

/// Addresses that tasks have of networks that were removed, which they are about to leave.
fn held_outside(state: &State, taken: &[Subnet]) -> Vec<IpAddr> {
    let tasks = state.work.tasks.values().filter(|task| holds(task));
    let places = tasks.flat_map(|task| &task.attachments);
    let gone = places.filter(|place| !state.objects.networks.contains_key(&place.network));
    let addresses = gone.flat_map(|place| place.addresses.iter().copied());
    addresses
        .filter(|addr| !taken.iter().any(|subnet| subnet.has(*addr)))
        .collect()
}

/// A range of the addresses that are nobody's outside, made of the network's own ID.
fn private_v6(id: NetworkId) -> Subnet {
    let bits = 0xfd << 120 | (id.bits() >> 64 & 0xff_ffff_ffff_ffff) << 64;
    Subnet::around(IpAddr::from(Ipv6Addr::from_bits(bits)), 64)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{
        Meta, Proposal, Service, ServiceId, Slot, Task, TaskId, TaskStatus, Template, Timestamp,
    };

    fn write(state: &mut State, changes: Vec<Change>) {
        let at = Timestamp::from_nanos(5);
        let proposal = Proposal { at, changes };
        state.apply(proposal, &mut Vec::new()).unwrap();
    }

    fn read(spec: Value) -> NetworkSpec {
        serde_json::from_value(spec).unwrap()
    }

    fn make(state: &mut State, number: u128, spec: Value) -> Result<Vec<IpamConfig>, AdminError> {
        let id = NetworkId::from_bits(number);
        let change = create(state, id, read(spec))?;
        write(state, vec![change]);
        Ok(state.objects.networks[&id].pools.clone())
    }

    #[test]
    fn each_network_has_addresses_that_no_other_has() {
        let mut state = State::default();
        let first = make(&mut state, 1, json!({"Name": "a"})).unwrap();
        assert_eq!(
            (&*first[0].subnet, &*first[0].gateway),
            ("10.0.1.0/24", "10.0.1.1")
        );
        let own = json!({"Name": "b", "IPAM": {"Config": [{"Subnet": "10.0.2.0/23"}]}});
        let own = make(&mut state, 2, own).unwrap();
        assert_eq!(
            (&*own[0].subnet, &*own[0].gateway),
            ("10.0.2.0/23", "10.0.2.1")
        );
        let next = make(&mut state, 3, json!({"Name": "c", "EnableIPv6": true})).unwrap();
        assert_eq!(next[0].subnet, "10.0.4.0/24");
        assert!(next[1].subnet.starts_with("fd"), "{next:?}");
        let clash = json!({"Name": "d", "IPAM": {"Config": [{"Subnet": "10.0.3.128/25"}]}});
        let words = make(&mut state, 4, clash).unwrap_err().to_string();
        assert!(words.contains("Pool overlaps with other one"), "{words}");
        let words = make(&mut state, 5, json!({"Name": "a"}))
            .unwrap_err()
            .to_string();
        assert_eq!(words, "network with name a already exists");
        let removed = remove(&state, NetworkId::from_bits(1)).unwrap();
        write(&mut state, vec![removed]);
        let again = make(&mut state, 6, json!({"Name": "e"})).unwrap();
        assert_eq!(again[0].subnet, "10.0.1.0/24");
    }

    #[test]
    fn a_network_stays_while_somebody_is_attached() {
        let mut state = State::default();
        make(&mut state, 1, json!({"Name": "a"})).unwrap();
        let id = NetworkId::from_bits(1);
        let on = json!({"Networks": [{"Target": id.to_string()}]});
        let mut service = Service {
            id: ServiceId::from_bits(7),
            spec_version: 1,
            ..Service::default()
        };
        service.spec.name = "web".into();
        service.spec.task_template = serde_json::from_value(on).unwrap();
        let template = Template {
            task: service.spec.task_template.clone(),
            ..Template::default()
        };
        let task = Task {
            id: TaskId::from_bits(8),
            meta: Meta::default(),
            service: service.id,
            slot: Slot::Number(1),
            spec_version: 1,
            iteration: None,
            node: None,
            desired: TaskState::Running,
            status: TaskStatus::default(),
            start: None,
            generic_resources: Vec::new(),
            attachments: Vec::new(),
        };
        write(
            &mut state,
            vec![
                Change::PutService(Expect::Absent, Box::new(service.clone())),
                Change::PutTemplate(service.id, 1, Box::new(template)),
                Change::PutTask(Expect::Absent, Box::new(task)),
            ],
        );
        let words = |state: &State| remove(state, id).unwrap_err().to_string();
        let by = format!("network {id} is in use by service {}", service.id);
        assert_eq!(words(&state), by);
        let mut rewrite = |change: &dyn Fn(&mut Service)| {
            let mut next = Service::clone(&state.work.services[&service.id]);
            let version = next.meta.version;
            change(&mut next);
            write(
                &mut state,
                vec![Change::PutService(Expect::Version(version), Box::new(next))],
            );
        };
        rewrite(&|service| service.spec.task_template.networks.clear());
        rewrite(&|_| {});
        let by = format!("network {id} is in use by task {}", TaskId::from_bits(8));
        assert_eq!(words(&state), by);
        let mut gone = Service::clone(&state.work.services[&service.id]);
        let version = gone.meta.version;
        gone.removed = true;
        write(
            &mut state,
            vec![Change::PutService(Expect::Version(version), Box::new(gone))],
        );
        assert!(remove(&state, id).is_ok());
    }
}
