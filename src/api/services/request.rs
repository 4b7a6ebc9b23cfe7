//! A service as a client sends it: the spec in the body, the credentials in a header, what to do in the query.

use axum::http::HeaderMap;
use serde::Deserialize;

use super::problem::SpecProblem;
use super::{check, stored, surroundings};
use crate::api::backend::Refusal;
use crate::api::call::Call;
use crate::cluster::store::State;
use crate::model::cluster::Secret;
use crate::model::{AuthFrom, ServiceId, ServiceSpec, ServiceUpdate};

/// Credentials for the registry, as Docker's clients send them.
const AUTH: &str = "x-registry-auth";

/// Longest credentials that are kept, bytes; tokens of registries are a few thousand long.
const AUTH_LIMIT: usize = 64 << 10;

/// The shortest time that a health check is let have, nanoseconds, but for zero.
const MIN_SPAN: i64 = 1_000_000;

/// The parts of a spec that the stored one has no place for as they may come.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Sent {
    task_template: SentTask,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SentTask {
    container_spec: SentContainer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SentContainer {
    mounts: Vec<SentMount>,
    healthcheck: SentHealth,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SentMount {
    #[serde(rename = "Type")]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SentHealth {
    interval: i64,
    timeout: i64,
    start_period: i64,
    start_interval: i64,
    retries: i64,
}

impl Sent {
    fn check(&self) -> Result<(), SpecProblem> {
        let container = &self.task_template.container_spec;
        for mount in &container.mounts {
            if !matches!(
                mount.kind.to_ascii_lowercase().as_str(),
                "" | "bind" | "volume" | "tmpfs" | "image" | "npipe" | "cluster"
            ) {
                return Err(SpecProblem::MountKind(mount.kind.clone()));
            }
        }
        let health = &container.healthcheck;
        for (name, span) in [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
        ] {
            if span != 0 && span < MIN_SPAN {
                return Err(SpecProblem::HealthSpan(name));
            }
        }
        match health.retries {
            0.. => Ok(()),
            _ => Err(SpecProblem::HealthRetries),
        }
    }
}

/// The spec that a request carries, as it may be stored. `name` makes one up where there is none; `own` is the service
/// that it is for, when it is there already.
pub(super) fn spec(
    call: &Call,
    state: &State,
    own: Option<ServiceId>,
    name: impl FnOnce() -> String,
) -> Result<ServiceSpec, Refusal> {
    call.json::<Sent>()?.check()?;
    let mut spec = stored::completed(call.json()?);
    if spec.name.is_empty() {
        spec.name = name();
    }
    check::check(&spec)?;
    surroundings::settle(&mut spec, own, state)?;
    Ok(spec)
}

/// The credentials that a request carries. Whether they can be read is seen where they are used.
pub(super) fn registry_auth(headers: &HeaderMap) -> Result<Option<Secret>, Refusal> {
    let Some(value) = headers.get(AUTH) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok("") => Ok(None),
        Ok(text) if text.len() <= AUTH_LIMIT => Ok(Some(Secret(text.into()))),
        Ok(_) => Err(Refusal::invalid(format!(
            "the credentials in X-Registry-Auth are longer than {} KiB",
            AUTH_LIMIT >> 10
        ))),
        Err(_) => Err(Refusal::invalid(
            "the credentials in X-Registry-Auth are not base64 text",
        )),
    }
}

/// What an update is to do, besides its spec.
pub(super) fn update(call: &Call, spec: ServiceSpec) -> Result<ServiceUpdate, Refusal> {
    let rollback = match call.params.text("rollback") {
        "" | "none" => false,
        "previous" => true,
        other => {
            let words = format!("unrecognized rollback option {other}");
            return Err(Refusal::invalid(words));
        }
    };
    let from = match call.params.text("registryAuthFrom") {
        "" | "spec" => AuthFrom::Spec,
        "previous-spec" => AuthFrom::PreviousSpec,
        other => {
            let words = format!("invalid registryAuthFrom '{other}'");
            return Err(Refusal::invalid(words));
        }
    };
    let given = registry_auth(&call.headers)?;
    Ok(ServiceUpdate {
        spec,
        rollback,
        registry_auth: given.map_or(from, AuthFrom::Given),
    })
}
