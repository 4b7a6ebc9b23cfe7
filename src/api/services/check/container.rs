//! The container of a service's tasks: its image, its templates, its mounts.

use std::collections::BTreeSet;

use crate::api::services::problem::SpecProblem;
use crate::model::reference::Reference;
use crate::model::task_spec::template::{TemplateContext, expand};
use crate::model::task_spec::{ContainerSpec, MountSpec};
use crate::model::{ServiceId, ServiceSpec};

pub(super) fn check(spec: &ServiceSpec, container: &ContainerSpec) -> Result<(), SpecProblem> {
    let context = made_up(spec);
    let expand = |text: &str| expand(text, &context).map_err(SpecProblem::Template);
    expand(&container.hostname)?;
    for entry in &container.env {
        if let Some((_name, value)) = entry.split_once('=') {
            expand(value)?;
        }
    }
    let mut targets = BTreeSet::new();
    for mount in &container.mounts {
        let target = expand(&mount.target)?;
        expand(&mount.source)?;
        check_mount(mount, &expand)?;
        if let Some(again) = targets.replace(target) {
            return Err(SpecProblem::DuplicateMount(again));
        }
    }
    if container.image.is_empty() {
        return Err(SpecProblem::NoImage);
    }
    match container.image.parse::<Reference>() {
        Ok(_) => Ok(()),
        Err(_) => Err(SpecProblem::Image(container.image.clone())),
    }
}

fn check_mount(
    mount: &MountSpec,
    expand: &impl Fn(&str) -> Result<String, SpecProblem>,
) -> Result<(), SpecProblem> {
    let bind = mount.bind_options.as_ref();
    if let Some(bind) = bind
        && !matches!(
            bind.propagation.as_str(),
            "" | "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave"
        )
    {
        return Err(SpecProblem::Propagation(bind.propagation.clone()));
    }
    let Some(volume) = &mount.volume_options else {
        return Ok(());
    };
    let driver = volume.driver_config.iter();
    let options = driver.flat_map(|driver| driver.options.values());
    for value in volume.labels.values().chain(options) {
        expand(value)?;
    }
    Ok(())
}

/// What a task of this service could be, on some node: enough to see whether its templates can be expanded.
fn made_up(spec: &ServiceSpec) -> TemplateContext {
    let text = |text: &str| text.to_owned();
    TemplateContext {
        service_id: ServiceId::default().to_string(),
        service_name: spec.name.clone(),
        service_labels: spec.labels.clone(),
        node_id: text("nodeid"),
        node_hostname: text("nodeHostname"),
        architecture: text("architecture"),
        os: text("os"),
        task_id: text("taskid"),
        task_name: text("taskname"),
        task_slot: text("1"),
        inside: None,
    }
}
