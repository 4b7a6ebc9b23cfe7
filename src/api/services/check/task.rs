//! The template of a service's tasks, but for its container.

use super::{container, references};
use crate::api::services::problem::SpecProblem;
use crate::model::ServiceSpec;
use crate::model::constraints::Constraint;
use crate::model::task_spec::{GenericResource, ResourceRequirements, RestartPolicy};

/// The least part of a core that is asked for, in billionths.
const MIN_CPU: i64 = 1_000_000;

/// The least memory that is asked for, bytes.
const MIN_MEMORY: i64 = 4 << 20;

pub(super) fn check(spec: &ServiceSpec) -> Result<(), SpecProblem> {
    let task = &spec.task_template;
    match task.runtime.as_str() {
        "" | "container" => {}
        "plugin" => return Err(SpecProblem::Plugin),
        _ => return Err(SpecProblem::Runtime),
    }
    if task.network_attachment_spec.is_some() {
        return Err(SpecProblem::Mismatched);
    }
    let container = task.container_spec.as_ref();
    let container = container.ok_or(SpecProblem::Mismatched)?;
    check_resources(task.resources.as_ref())?;
    check_restart(task.restart_policy.as_ref())?;
    let placement = task.placement.iter();
    for constraint in placement.flat_map(|placement| &placement.constraints) {
        Constraint::parse(constraint).map_err(SpecProblem::Constraint)?;
    }
    references::check(container)?;
    container::check(spec, container)
}

fn check_resources(resources: Option<&ResourceRequirements>) -> Result<(), SpecProblem> {
    let Some(resources) = resources else {
        return Ok(());
    };
    let limits = resources.limits.as_ref();
    let reserved = resources.reservations.as_ref();
    let amounts = [
        limits.map(|limits| (limits.nano_cpus, limits.memory_bytes)),
        reserved.map(|reserved| (reserved.nano_cpus, reserved.memory_bytes)),
    ];
    for (cpus, memory) in amounts.into_iter().flatten() {
        if cpus != 0 && cpus < MIN_CPU {
            return Err(SpecProblem::Cpu(cpus));
        }
        if memory != 0 && memory < MIN_MEMORY {
            return Err(SpecProblem::Memory(memory));
        }
    }
    let mut generic = reserved.iter().flat_map(|one| &one.generic_resources);
    match generic.all(is_countable) {
        true => Ok(()),
        false => Err(SpecProblem::GenericResource),
    }
}

/// Whether it says of what, and how much or which.
fn is_countable(resource: &GenericResource) -> bool {
    match (
        &resource.named_resource_spec,
        &resource.discrete_resource_spec,
    ) {
        (Some(named), None) => !named.kind.is_empty() && !named.value.is_empty(),
        (None, Some(discrete)) => !discrete.kind.is_empty() && discrete.value > 0,
        (Some(_), Some(_)) | (None, None) => false,
    }
}

fn check_restart(policy: Option<&RestartPolicy>) -> Result<(), SpecProblem> {
    let Some(policy) = policy else {
        return Ok(());
    };
    let condition = policy.condition.as_str();
    if !matches!(condition, "" | "none" | "on-failure" | "any") {
        return Err(SpecProblem::RestartCondition(condition.into()));
    }
    if policy.delay.is_some_and(|delay| delay < 0) {
        return Err(SpecProblem::RestartDelay);
    }
    if policy.window.is_some_and(|window| window < 0) {
        return Err(SpecProblem::RestartWindow);
    }
    Ok(())
}
