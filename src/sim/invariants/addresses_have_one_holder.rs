//! No two tasks that may run, and no two services, have one address, in every state that any replica shows; and no two
//! services one port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::history::{Entry, Record};
use crate::cluster::store::State;
use crate::model::plane::Protocol;
use crate::model::task::record::holds;

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut broken = Vec::new();
    for record in records {
        if let Entry::Shows(_, state) = &record.entry
            && seen.insert(state.version)
        {
            broken.extend(doubles(state));
            broken.extend(ports(state));
        }
    }
    broken
}

fn doubles(state: &State) -> Vec<String> {
    let mut holders: BTreeMap<IpAddr, String> = BTreeMap::new();
    let services = state.work.services.values();
    let vips = services.flat_map(|service| {
        let all = service.vips.iter();
        all.map(|vip| (vip.addr, format!("service {}", service.id)))
    });
    let tasks = state.work.tasks.values().filter(|task| holds(task));
    let places = tasks.flat_map(|task| {
        let places = task.attachments.iter();
        let addresses = places.flat_map(|place| place.addresses.iter());
        addresses.map(|addr| (*addr, format!("task {}", task.id)))
    });
    let mut broken = Vec::new();
    for (addr, holder) in vips.chain(places) {
        if let Some(other) = holders.insert(addr, holder.clone()) {
            broken.push(format!(
                "in version {} both {other} and {holder} have {addr}",
                state.version
            ));
        }
    }
    broken
}

fn ports(state: &State) -> Vec<String> {
    let mut users: BTreeMap<(Protocol, u16), String> = BTreeMap::new();
    let mut broken = Vec::new();
    for service in state.work.services.values() {
        for port in service.ports.iter().filter(|port| !port.host) {
            let key = (port.protocol, port.published);
            if let Some(other) = users.insert(key, service.spec.name.clone()) {
                broken.push(format!(
                    "in version {} both {other} and {} publish {}",
                    state.version, service.spec.name, port.published
                ));
            }
        }
    }
    broken
}
