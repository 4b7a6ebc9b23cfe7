//! What a service needs of what is around it: networks, secrets, configs, ports. Pure, of the state as the leader has it.
//!
//! What a client names is looked for, and a network is stored by its ID, so that a service which is put back as it was
//! is the same.

use super::problem::SpecProblem;
use crate::api::lookup;
use crate::cluster::store::State;
use crate::model::network::{HOST, NONE};
use crate::model::plane::Published;
use crate::model::service_spec::PortConfig;
use crate::model::task_spec::NetworkAttachmentConfig;
use crate::model::{DependencyId, DependencyKind, Network, Service, ServiceId, ServiceSpec};

/// Docker's network of one machine.
const BRIDGE: &str = "bridge";

/// Finds what the spec of a service names, `own` when it is there already. Refuses what is not there.
pub(super) fn settle(
    spec: &mut ServiceSpec,
    own: Option<ServiceId>,
    state: &State,
) -> Result<(), SpecProblem> {
    let networks = spec.task_template.networks.iter_mut();
    for network in networks.chain(&mut spec.networks) {
        settle_network(network, state)?;
    }
    dependencies(spec, state, DependencyKind::Secret)?;
    dependencies(spec, state, DependencyKind::Config)?;
    ports(spec, own, state)
}

fn settle_network(wanted: &mut NetworkAttachmentConfig, state: &State) -> Result<(), SpecProblem> {
    let target = wanted.target.as_str();
    match target {
        HOST | NONE => return Ok(()),
        BRIDGE => return Err(SpecProblem::Network(BRIDGE.into())),
        _ => {}
    }
    let found = lookup::find(
        "network",
        target,
        state.objects.networks.values().map(AsRef::as_ref),
        |network: &Network| network.id.to_string(),
        |network| [network.spec.name.as_str()],
    );
    let found = found.map_err(SpecProblem::NoNetwork)?;
    if found.spec.ingress {
        return Err(SpecProblem::OnIngress(found.spec.name.clone()));
    }
    wanted.target = found.id.to_string();
    Ok(())
}

/// Each reference names an ID and the name that goes with it.
fn dependencies(
    spec: &ServiceSpec,
    state: &State,
    kind: DependencyKind,
) -> Result<(), SpecProblem> {
    let container = spec.task_template.container_spec.as_ref();
    let named = container.into_iter().flat_map(|spec| spec.dependencies());
    let missing: Vec<&str> = named
        .filter(|one| one.kind == kind)
        .filter(|one| {
            let id = one.id.parse::<DependencyId>().ok();
            let found = id.and_then(|id| state.objects.dependencies.get(&id));
            !found.is_some_and(|found| found.kind == kind && found.spec.name == one.name)
        })
        .map(|one| one.name)
        .collect();
    let plural = match missing.len() {
        0 => return Ok(()),
        1 => "",
        _ => "s",
    };
    Err(SpecProblem::Missing {
        kinds: format!("{}{plural}", kind.name()),
        names: missing.join(", "),
    })
}

/// A port of the whole cluster has one service.
fn ports(spec: &ServiceSpec, own: Option<ServiceId>, state: &State) -> Result<(), SpecProblem> {
    let published = |spec: &ServiceSpec| -> Vec<PortConfig> {
        let ports = spec.endpoint_spec.iter().flat_map(|spec| &spec.ports);
        let ports = ports.filter(|port| port.published_port != 0);
        ports.cloned().collect()
    };
    let wanted = published(spec);
    if wanted.is_empty() {
        return Ok(());
    }
    let services = state.work.services.values();
    for other in services.filter(|other| !other.removed && Some(other.id) != own) {
        let asked = published(&other.spec);
        let asked = asked
            .iter()
            .map(|port| (port.published_port, port.protocol(), port.is_host()));
        // Some were chosen for it.
        let settled = other.ports.iter();
        let settled =
            settled.map(|port: &Published| (port.published, port.protocol.name(), port.host));
        for (number, protocol, on_host) in asked.chain(settled) {
            let clash = wanted.iter().find(|port| {
                port.published_port == number
                    && port.protocol() == protocol
                    && !(port.is_host() && on_host)
            });
            if let Some(port) = clash {
                return Err(port_in_use(port, other, on_host));
            }
        }
    }
    Ok(())
}

fn port_in_use(port: &PortConfig, by: &Service, on_host: bool) -> SpecProblem {
    SpecProblem::PortInUse {
        port: port.published_port,
        name: by.spec.name.clone(),
        id: by.id.to_string(),
        how: match on_host {
            true => "a host-published port",
            false => "an ingress port",
        },
    }
}
