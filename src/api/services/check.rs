//! What a spec tells by itself: whether a service can be as it says. Pure.
//!
//! What needs the state is judged at the leader (`manager::services`), but for what compares a spec with the one before.
//! A spec that passes is stored as it is.

mod container;
mod references;
mod task;

use std::collections::{BTreeMap, BTreeSet};

use super::problem::SpecProblem;
use crate::model::ServiceSpec;
use crate::model::plane::{MESH, Mesh};
use crate::model::service_spec::{EndpointSpec, Mode, ServiceMode, UpdateConfig};

/// Longest spec, bytes of JSON. A service holds two, and an entry of the log a few times that.
pub(super) const SPEC_LIMIT: usize = 1 << 20;

/// Most tasks that one service is let ask for: ten times what the largest cluster runs.
pub(super) const MAX_TASKS: u64 = 1_000_000;

/// Longest name, characters: it is a label of the DNS.
const NAME_LENGTH: usize = 63;

/// Refuses a spec that no service can have.
pub(super) fn check(spec: &ServiceSpec) -> Result<(), SpecProblem> {
    let length = serde_json::to_vec(spec).map_or(0, |json| json.len());
    if length > SPEC_LIMIT {
        return Err(SpecProblem::TooLong(length));
    }
    check_name(&spec.name)?;
    task::check(spec)?;
    check_mode(&spec.mode)?;
    if spec.mode.read().is_job() {
        if spec.update_config.is_some() {
            return Err(SpecProblem::JobUpdate);
        }
    } else {
        check_update(spec.update_config.as_ref())?;
    }
    check_update(spec.rollback_config.as_ref())?;
    check_mesh(&spec.labels)?;
    check_endpoint(spec.endpoint_spec.as_ref())
}

/// How published ports reach tasks.
fn check_mesh(labels: &BTreeMap<String, String>) -> Result<(), SpecProblem> {
    match labels.get(MESH) {
        Some(word) if Mesh::read(word).is_none() => Err(SpecProblem::Mesh(word.clone())),
        Some(_) | None => Ok(()),
    }
}

/// A label of the DNS, with underscores.
fn check_name(name: &str) -> Result<(), SpecProblem> {
    if name.is_empty() {
        return Err(SpecProblem::NoName);
    }
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let mut bytes = name.bytes();
    let allowed = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !allowed || !ends(name.as_bytes().first()) || !ends(name.as_bytes().last()) {
        return Err(SpecProblem::Name);
    }
    if name.len() > NAME_LENGTH {
        return Err(SpecProblem::LongName);
    }
    Ok(())
}

fn check_mode(mode: &ServiceMode) -> Result<(), SpecProblem> {
    let given = [
        mode.replicated.is_some(),
        mode.global.is_some(),
        mode.replicated_job.is_some(),
        mode.global_job.is_some(),
    ];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err(SpecProblem::Modes);
    }
    // As Docker sees them: numbers below zero that came as ones without a sign.
    let negative = |count: u64| i64::try_from(count).is_err();
    match mode.read() {
        Mode::Replicated { replicas } if negative(replicas) => Err(SpecProblem::NegativeReplicas),
        Mode::Replicated { replicas } if replicas > MAX_TASKS => {
            Err(SpecProblem::TooMany(replicas))
        }
        Mode::ReplicatedJob { concurrent, .. } if negative(concurrent) => {
            Err(SpecProblem::NegativeConcurrent)
        }
        Mode::ReplicatedJob { total, .. } if negative(total) => Err(SpecProblem::NegativeTotal),
        Mode::ReplicatedJob { concurrent, total } if concurrent.max(total) > MAX_TASKS => {
            Err(SpecProblem::TooMany(concurrent.max(total)))
        }
        Mode::Replicated { .. } | Mode::ReplicatedJob { .. } | Mode::Global | Mode::GlobalJob => {
            Ok(())
        }
    }
}

fn check_update(config: Option<&UpdateConfig>) -> Result<(), SpecProblem> {
    let Some(config) = config else {
        return Ok(());
    };
    let action = config.failure_action.as_str();
    if !matches!(action, "" | "pause" | "continue" | "rollback") {
        return Err(SpecProblem::FailureAction(action.into()));
    }
    let order = config.order.as_str();
    if !matches!(order, "" | "stop-first" | "start-first") {
        return Err(SpecProblem::Order(order.into()));
    }
    if config.delay < 0 {
        return Err(SpecProblem::UpdateDelay);
    }
    if config.monitor < 0 {
        return Err(SpecProblem::Monitor);
    }
    if !(0.0..=1.0).contains(&config.max_failure_ratio.0) {
        return Err(SpecProblem::FailureRatio);
    }
    Ok(())
}

fn check_endpoint(spec: Option<&EndpointSpec>) -> Result<(), SpecProblem> {
    let Some(spec) = spec else {
        return Ok(());
    };
    if !matches!(spec.mode.as_str(), "" | "vip" | "dnsrr") {
        return Err(SpecProblem::Resolution(spec.mode.clone()));
    }
    let mut published = BTreeSet::new();
    for port in &spec.ports {
        if !matches!(port.protocol(), "tcp" | "udp" | "sctp") {
            return Err(SpecProblem::Protocol(port.protocol.clone()));
        }
        if !matches!(port.publish_mode.as_str(), "" | "ingress" | "host") {
            return Err(SpecProblem::PublishMode(port.publish_mode.clone()));
        }
        if port.target_port == 0 {
            return Err(SpecProblem::NoTargetPort);
        }
        if spec.mode == "dnsrr" && !port.is_host() {
            return Err(SpecProblem::IngressWithDnsrr);
        }
        let key = (port.published_port, port.protocol());
        if port.published_port != 0 && !published.insert(key) {
            return Err(SpecProblem::DuplicatePorts);
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
