//! What Docker fills in when it takes a spec, so that what is read is what was stored; and what it fills in only when a
//! client asks for defaults.
//!
//! Pure. Both leave what was written as it is, and doing them twice is doing them once.

use crate::model::service_spec::{Replicated, ServiceMode, UpdateConfig};
use crate::model::task_spec::{
    ContainerSpec, DnsSpec, MountKind, Placement, ResourceRequirements, RestartPolicy,
};
use crate::model::{ServiceSpec, TaskSpec};

/// From a container's stop signal until it is killed, nanoseconds.
const STOP_GRACE: i64 = 10_000_000_000;

/// From a task's end to the start of its successor, nanoseconds.
const RESTART_DELAY: i64 = 5_000_000_000;

/// How long a new task is watched in an update, nanoseconds.
const MONITOR: i64 = 5_000_000_000;

/// The spec as it is stored: words that Docker always writes, and numbers of tasks.
pub(super) fn completed(mut spec: ServiceSpec) -> ServiceSpec {
    spec.mode = complete_mode(spec.mode);
    for config in spec.update_config.iter_mut() {
        complete_update(config);
    }
    for config in spec.rollback_config.iter_mut() {
        complete_update(config);
    }
    if let Some(endpoint) = &mut spec.endpoint_spec {
        fill(&mut endpoint.mode, "vip");
        for port in &mut endpoint.ports {
            port.protocol.make_ascii_lowercase();
            fill(&mut port.protocol, "tcp");
            fill(&mut port.publish_mode, "ingress");
        }
    }
    if spec.task_template.networks.is_empty() {
        // What an old client names for the service is meant for its tasks.
        spec.task_template.networks.clone_from(&spec.networks);
    }
    complete_task(&mut spec.task_template);
    spec
}

fn fill(word: &mut String, usual: &str) {
    if word.is_empty() {
        *word = usual.into();
    }
}

fn complete_mode(mut mode: ServiceMode) -> ServiceMode {
    if let Some(job) = &mut mode.replicated_job {
        let concurrent = *job.max_concurrent.get_or_insert(1);
        job.total_completions.get_or_insert(concurrent);
    }
    let other = mode.global.is_some() || mode.global_job.is_some() || mode.replicated_job.is_some();
    if !other {
        mode.replicated.get_or_insert_with(Replicated::default);
    }
    if let Some(replicated) = &mut mode.replicated {
        replicated.replicas.get_or_insert(1);
    }
    mode
}

fn complete_update(config: &mut UpdateConfig) {
    fill(&mut config.failure_action, "pause");
    fill(&mut config.order, "stop-first");
}

fn complete_task(task: &mut TaskSpec) {
    fill(&mut task.runtime, "container");
    if let Some(policy) = &mut task.restart_policy {
        fill(&mut policy.condition, "any");
        policy.max_attempts.get_or_insert(0);
    }
    if let Some(placement) = &mut task.placement {
        placement.preferences.retain(|one| one.spread.is_some());
    }
    if let Some(container) = &mut task.container_spec {
        complete_container(container);
    }
}

fn complete_container(container: &mut ContainerSpec) {
    container.isolation.make_ascii_lowercase();
    fill(&mut container.isolation, "default");
    for mount in &mut container.mounts {
        mount.kind.get_or_insert(MountKind::Bind);
    }
    if let Some(privileges) = &mut container.privileges {
        if let Some(seccomp) = &mut privileges.seccomp {
            fill(&mut seccomp.mode, "default");
        }
        if let Some(apparmor) = &mut privileges.app_armor {
            fill(&mut apparmor.mode, "default");
        }
    }
}

/// The spec with everything that holds when nothing is said, as `?insertDefaults=true` shows it.
pub(super) fn with_defaults(mut spec: ServiceSpec) -> ServiceSpec {
    let task = &mut spec.task_template;
    if let Some(container) = &mut task.container_spec {
        container.stop_grace_period.get_or_insert(STOP_GRACE);
        container.dns_config.get_or_insert_with(DnsSpec::default);
    }
    task.resources
        .get_or_insert_with(ResourceRequirements::default);
    let usual = || RestartPolicy {
        condition: "any".into(),
        max_attempts: Some(0),
        ..RestartPolicy::default()
    };
    let policy = task.restart_policy.get_or_insert_with(usual);
    policy.delay.get_or_insert(RESTART_DELAY);
    task.placement.get_or_insert_with(Placement::default);
    for config in [&mut spec.update_config, &mut spec.rollback_config] {
        let config = config.get_or_insert_with(|| UpdateConfig {
            parallelism: 1,
            ..UpdateConfig::default()
        });
        complete_update(config);
        if config.monitor == 0 {
            config.monitor = MONITOR;
        }
    }
    spec
}

#[cfg(test)]
mod tests;
