//! The environment of a container's program.

use super::PlanError;
use crate::model::task_spec::ContainerSpec;
use crate::model::task_spec::template::{TemplateContext, expand};
use crate::model::{ContainerId, ImageConfig};

/// Where programs are looked for when nobody says, as Docker has it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The whole environment, in Docker's order: what Docker sets, the user's, the image's. Each name once; a name alone
/// takes away what the image says of it.
pub(super) fn of(
    spec: &ContainerSpec,
    config: &ImageConfig,
    hostname: &str,
    id: ContainerId,
    context: &TemplateContext,
) -> Result<Vec<String>, PlanError> {
    let mut all: Vec<String> = vec![PATH.into()];
    all.push(match hostname {
        "" => format!("HOSTNAME={}", id.short()),
        name => format!("HOSTNAME={name}"),
    });
    if spec.tty {
        all.push("TERM=xterm".into());
    }
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
    let images = config.env.iter().filter(|entry| {
        let name = name_of(entry);
        !users.iter().any(|user| name_of(user) == name)
    });
    for entry in users.iter().chain(images) {
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
    Ok(all)
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}
