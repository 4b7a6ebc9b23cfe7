//! The environment of a container's program.

use std::collections::BTreeMap;

use super::PlanError;
use crate::model::task_spec::template::{TemplateContext, expand};
use crate::model::task_spec::{ContainerSpec, GenericResource};
use crate::model::{ContainerId, ImageConfig};
use crate::wire::assignment::Assigned;

/// Where programs are looked for when nobody says, as Docker has it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The whole environment, in Docker's order: what Docker sets, the user's, what was given to the task, the image's. Each
/// name once; a name alone takes away what the image says of it.
pub(super) fn of(
    assigned: &Assigned,
    spec: &ContainerSpec,
    config: &ImageConfig,
    (hostname, id): (&str, ContainerId),
    context: &TemplateContext,
) -> Result<Vec<String>, PlanError> {
    let mut users = Vec::new();
    for entry in &spec.env {
        users.push(match entry.split_once('=') {
            Some((name, value)) => {
                let value = expand(value, context).map_err(|e| PlanError::Template("env", e))?;
                format!("{name}={value}")
            }
            None => entry.clone(),
        });
    }
    users.extend(given(&assigned.generic_resources));
    Ok(whole(&users, config, (hostname, id), spec.tty))
}

/// What Docker sets, then `users`, then what the image says beside.
pub(in crate::agent) fn whole(
    users: &[String],
    config: &ImageConfig,
    (hostname, id): (&str, ContainerId),
    tty: bool,
) -> Vec<String> {
    let mut all: Vec<String> = vec![PATH.into()];
    all.push(match hostname {
        "" => format!("HOSTNAME={}", id.short()),
        name => format!("HOSTNAME={name}"),
    });
    if tty {
        all.push("TERM=xterm".into());
    }
    for entry in users.iter().chain(beside(users, config)) {
        let name = name_of(entry);
        match (
            all.iter().position(|old| name_of(old) == name),
            entry.contains('='),
        ) {
            (Some(at), true) => all[at].clone_from(entry),
            (Some(at), false) => drop(all.remove(at)),
            (None, true) => all.push(entry.clone()),
            (None, false) => {}
        }
    }
    all
}

/// What the image says of names of which `users` says nothing.
pub(in crate::agent) fn beside<'a>(
    users: &'a [String],
    config: &'a ImageConfig,
) -> impl Iterator<Item = &'a String> {
    config.env.iter().filter(move |entry| {
        let name = name_of(entry);
        !users.iter().any(|user| name_of(user) == name)
    })
}

/// `DOCKER_RESOURCE_GPU=uuid1,uuid2`: what of the node's own the task has, by kind. Of those that are only counted, how
/// many.
fn given(resources: &[GenericResource]) -> impl Iterator<Item = String> {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for resource in resources {
        let named = resource.named_resource_spec.iter();
        let named = named.map(|named| (&named.kind, named.value.clone()));
        let counted = resource.discrete_resource_spec.iter();
        let counted = counted.map(|counted| (&counted.kind, counted.value.to_string()));
        for (kind, value) in named.chain(counted) {
            let kind = kind.to_uppercase();
            kinds.entry(kind).or_default().push(value);
        }
    }
    let line = |(kind, values): (String, Vec<String>)| {
        format!("DOCKER_RESOURCE_{kind}={}", values.join(","))
    };
    kinds.into_iter().map(line)
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}
