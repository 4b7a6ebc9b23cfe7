//! What a service needs of what is around it, and is not there in this version. Pure.
//!
//! A task runs on its machine's network or on none; secrets and configs are not kept yet. What would be promised and not
//! done is refused.

use super::problem::SpecProblem;
use crate::model::ServiceSpec;

/// The network that is the machine's own.
pub(in crate::api) const HOST: &str = "host";

/// The network that is none.
pub(in crate::api) const NONE: &str = "none";

/// Docker's network of one machine.
const BRIDGE: &str = "bridge";

/// Docker's network for published ports.
const INGRESS: &str = "ingress";

/// Refuses what a spec needs that is not there.
pub(super) fn check(spec: &ServiceSpec) -> Result<(), SpecProblem> {
    let task = &spec.task_template;
    for network in task.networks.iter().chain(&spec.networks) {
        match network.target.as_str() {
            HOST | NONE => {}
            BRIDGE => return Err(SpecProblem::Network(BRIDGE.into())),
            INGRESS => return Err(SpecProblem::NoNetwork(INGRESS.into())),
            other => return Err(SpecProblem::NoNetwork(other.into())),
        }
    }
    let container = task.container_spec.iter();
    let secrets = container.clone().flat_map(|container| &container.secrets);
    absent(["secret", "secrets"], secrets.map(|one| &*one.secret_name))?;
    let configs = container.flat_map(|container| &container.configs);
    absent(["config", "configs"], configs.map(|one| &*one.config_name))?;
    check_ports(spec)
}

fn absent<'a>(
    kinds: [&'static str; 2],
    names: impl Iterator<Item = &'a str>,
) -> Result<(), SpecProblem> {
    let names: Vec<&str> = names.collect();
    let kind = match names.len() {
        0 => return Ok(()),
        1 => kinds[0],
        _ => kinds[1],
    };
    let names = names.join(", ");
    Err(SpecProblem::Missing { kind, names })
}

/// Ports of a machine's own network are there already; naming them keeps tasks that want the same one apart.
fn check_ports(spec: &ServiceSpec) -> Result<(), SpecProblem> {
    let ports = spec.endpoint_spec.iter().flat_map(|spec| &spec.ports);
    let networks = &spec.task_template.networks;
    let on_host = networks.iter().any(|network| network.target == HOST);
    for port in ports {
        if !port.is_host() {
            return Err(SpecProblem::NoIngress);
        }
        if !on_host {
            return Err(SpecProblem::HostPorts);
        }
    }
    Ok(())
}
