//! Settles what a service publishes and the addresses that stand for it. Pure, of a draft and what is in use.
//!
//! Called in a pass before a service's tasks are made. What it has it keeps as long as its spec asks for it.

use super::needs::{Lack, Place, places};
use super::space::Holder;
use super::{Addresses, Needs};
use crate::cluster::store::State;
use crate::manager::draft::Draft;
use crate::model::plane::{Protocol, Published, Vip};
use crate::model::service_spec::PortConfig;
use crate::model::{Service, ServiceId, ServiceSpec};

/// Gives a service what it asks for, as far as it is to be had.
pub fn settle(draft: &mut Draft<'_>, addresses: &mut Addresses, id: ServiceId) {
    let Some(service) = draft.service(id) else {
        return;
    };
    if service.removed || (asks_nothing(&service.spec) && has_nothing(&service)) {
        addresses.unsettled.remove(&id);
        return;
    }
    let wanted = wanted(&draft.view.state, &service.spec);
    let mut lack = wanted.as_ref().err().cloned();
    let ports = ports(draft, addresses, &service, &mut lack);
    let vips = vips(
        draft,
        addresses,
        &service,
        wanted.unwrap_or_default(),
        &mut lack,
    );
    if vips != service.vips || ports != service.ports {
        draft.put_service(Service {
            vips,
            ports,
            ..Service::clone(&service)
        });
        addresses.see_draft(draft, id);
    }
    match lack {
        Some(lack) => {
            draft.wait(id, None, lack.to_string());
            addresses.unsettled.insert(id, lack);
        }
        None => drop(addresses.unsettled.remove(&id)),
    }
}

/// What tasks of a version of a service need, and lack because their service does.
pub fn needs(draft: &Draft<'_>, addresses: &Addresses, id: ServiceId, version: u64) -> Needs {
    let state = &draft.view.state;
    let template = draft.template(id, version);
    let needs = template.map(|template| Needs::of(state, template));
    let needs = needs.unwrap_or_default();
    let Some(service) = draft.service(id).filter(|it| !asks_nothing(&it.spec)) else {
        return needs;
    };
    let is_settled = service.ports.len() == asked(&service.spec).count()
        && wanted(state, &service.spec).is_ok_and(|wanted| {
            wanted.iter().all(|place| {
                let mut vips = service.vips.iter();
                vips.any(|vip| vip.network == place.network)
            })
        });
    let lack = (!is_settled).then(|| {
        let known = addresses.unsettled.get(&id).cloned();
        known.unwrap_or(Lack::Unseen)
    });
    needs.lacking(lack)
}

fn asked(spec: &ServiceSpec) -> impl Iterator<Item = &PortConfig> {
    spec.endpoint_spec.iter().flat_map(|spec| &spec.ports)
}

fn asks_nothing(spec: &ServiceSpec) -> bool {
    asked(spec).next().is_none()
        && spec.task_template.networks.is_empty()
        && spec.networks.is_empty()
}

fn has_nothing(service: &Service) -> bool {
    service.vips.is_empty() && service.ports.is_empty()
}

/// The networks in which a service is to have an address: none where names give its tasks themselves.
fn wanted(state: &State, spec: &ServiceSpec) -> Result<Vec<Place>, Lack> {
    let endpoint = spec.endpoint_spec.as_ref();
    let named = spec.task_template.networks.iter().chain(&spec.networks);
    let places = places(state, endpoint, named)?;
    let is_vip = endpoint.is_none_or(|endpoint| endpoint.mode != "dnsrr");
    Ok(if is_vip { places } else { Vec::new() })
}

fn vips(
    draft: &Draft<'_>,
    addresses: &mut Addresses,
    service: &Service,
    wanted: Vec<Place>,
    lack: &mut Option<Lack>,
) -> Vec<Vip> {
    let mut vips = Vec::new();
    for place in wanted {
        let network = place.network;
        let before = vips.len();
        let has = service.vips.iter().filter(|vip| vip.network == network);
        vips.extend(has.copied());
        if vips.len() > before {
            continue;
        }
        match addresses.take(network, Holder::Service, draft.now()) {
            Some(given) => vips.extend(given.into_iter().map(|addr| Vip { network, addr })),
            None => *lack = lack.take().or(Some(Lack::Vip(place.name))),
        }
    }
    // They are held once more when the draft is looked at.
    let new = vips.iter().filter(|vip| !service.vips.contains(vip));
    new.for_each(|vip| addresses.release(vip.addr, Holder::Service, None));
    vips
}

fn ports(
    draft: &Draft<'_>,
    addresses: &mut Addresses,
    service: &Service,
    lack: &mut Option<Lack>,
) -> Vec<Published> {
    let (mut free, mut settled) = (service.ports.clone(), Vec::new());
    let mut open = Vec::new();
    // First those that have a number, or had one: no other gets it.
    for port in asked(&service.spec) {
        let wanted = published(port);
        let known = free.iter().position(|had| {
            let alike = Published {
                published: had.published,
                ..wanted
            };
            *had == alike && (wanted.published == 0 || wanted.published == had.published)
        });
        match known {
            Some(known) => settled.push(free.remove(known)),
            None if wanted.published == 0 => open.push((settled.len() + open.len(), wanted)),
            None => settled.push(wanted),
        }
    }
    let ports = &mut addresses.ports;
    settled.retain(|port| {
        let by = ports.taken(service.id, port.protocol, port.published, port.host);
        if let Some(by) = by {
            let name = draft.service(by).map(|by| by.spec.name.clone());
            let name = name.unwrap_or_else(|| by.to_string());
            *lack = lack.take().or(Some(Lack::Port(port.published, name)));
        }
        by.is_none()
    });
    for (place, port) in open {
        match ports.choose(port.protocol, &settled) {
            Some(published) => {
                let place = place.min(settled.len());
                settled.insert(place, Published { published, ..port });
            }
            None => *lack = lack.take().or(Some(Lack::Ports)),
        }
    }
    settled
}

fn published(port: &PortConfig) -> Published {
    Published {
        protocol: Protocol::read(port.protocol()),
        target: port.target_port,
        published: port.published_port,
        host: port.is_host(),
    }
}
