//! What begins, ends, holds and changes a container, and what a container of a task cannot be asked: to begin again is
//! its service's business.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use crate::api::backend::Refusal;
use crate::api::backend::containers::Container;
use crate::api::call::Call;
use crate::api::dto::create::RestartPolicyDto;
use crate::api::error::{Handled, JSON, json};
use crate::api::router::Api;
use crate::model::container::ContainerState;
use crate::model::limits::ResourceLimits;
use crate::model::signal::signal_number;
use crate::model::standalone::WaitFor;

/// Says which service a container is of.
const SERVICE_LABEL: &str = "com.docker.swarm.service.name";

type Operation = BoxFuture<'static, Handled>;

/// `DELETE /containers/{id}`.
pub(super) fn remove(api: Api, container: Container, request: Request) -> Operation {
    Box::pin(async move {
        let call = Call::read(request, String::new()).await?;
        let id = container.config.id;
        let (containers, force) = (api.backend.containers(), call.params.flag("force"));
        let is_up = is_up(&container);
        if is_up && !force {
            let name = &container.config.name;
            let words = match &container.state {
                ContainerState::Running { paused: true, .. } => {
                    "container is paused and must be unpaused first"
                }
                ContainerState::Running { .. }
                | ContainerState::Created
                | ContainerState::Exited(_) => {
                    "container is running: stop the container before removing or force remove"
                }
            };
            return Err(Refusal::conflict(format!(
                "cannot remove container \"/{name}\": {words}"
            )));
        }
        if call.params.flag("link") {
            return Err(Refusal::invalid("skein has no links between containers"));
        }
        if container.standalone.is_some() {
            containers.remove(id, call.params.flag("v")).await?;
            return Ok(no_content());
        }
        if is_up {
            containers.kill(id, nix::libc::SIGKILL).await?;
            return Ok(no_content());
        }
        Err(Refusal::conflict(format!(
            "container \"/{}\" is kept for the history of its task, and goes with it: {}",
            container.config.name,
            advice(&container, "docker service rm")
        )))
    })
}

/// Whether it runs, or is about to run again.
fn is_up(container: &Container) -> bool {
    let restarts = container
        .standalone
        .as_ref()
        .is_some_and(|one| one.restarting);
    restarts || matches!(container.state, ContainerState::Running { .. })
}

/// `POST /containers/{id}/start`.
pub(super) fn start(api: Api, container: Container, _request: Request) -> Operation {
    Box::pin(async move {
        if container.standalone.is_some() {
            if matches!(
                container.state,
                ContainerState::Running { paused: true, .. }
            ) {
                return Err(Refusal::conflict(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            return match api.backend.containers().start(container.config.id).await? {
                true => Ok(no_content()),
                false => Ok(StatusCode::NOT_MODIFIED.into_response()),
            };
        }
        match container.state {
            ContainerState::Running { .. } => Ok(StatusCode::NOT_MODIFIED.into_response()),
            ContainerState::Created | ContainerState::Exited(_) => Err(not_again(&container)),
        }
    })
}

/// `POST /containers/{id}/restart`.
pub(super) fn restart(api: Api, container: Container, request: Request) -> Operation {
    Box::pin(async move {
        if container.standalone.is_none() {
            return Err(not_again(&container));
        }
        let call = Call::read(request, String::new()).await?;
        let (signal, grace) = how_to_stop(&call)?;
        let containers = api.backend.containers();
        containers
            .restart(container.config.id, signal, grace)
            .await?;
        Ok(no_content())
    })
}

/// `POST /containers/{id}/rename`.
pub(super) fn rename(api: Api, container: Container, request: Request) -> Operation {
    Box::pin(async move {
        if container.standalone.is_some() {
            let call = Call::read(request, String::new()).await?;
            let containers = api.backend.containers();
            let renamed = containers.rename(container.config.id, call.params.text("name"));
            renamed.await?;
            return Ok(no_content());
        }
        Err(Refusal::conflict(format!(
            "container \"/{}\" is named by its task and cannot be renamed",
            container.config.name
        )))
    })
}

fn not_again(container: &Container) -> Refusal {
    Refusal::conflict(format!(
        "container \"/{}\" belongs to a task, which never begins twice: {}",
        container.config.name,
        advice(container, "docker service update --force")
    ))
}

/// What to do instead.
fn advice(container: &Container, command: &str) -> String {
    let service = container.config.labels.get(SERVICE_LABEL);
    format!("use {command} {}", service.map_or("", String::as_str))
}

/// `POST /containers/{id}/stop`.
pub(super) fn stop(api: Api, container: Container, request: Request) -> Operation {
    Box::pin(async move {
        let call = Call::read(request, String::new()).await?;
        let (signal, grace) = how_to_stop(&call)?;
        if !is_up(&container) {
            return Ok(StatusCode::NOT_MODIFIED.into_response());
        }
        api.backend
            .containers()
            .stop(container.config.id, signal, grace)
            .await?;
        Ok(no_content())
    })
}

/// With which signal, and how long it has then; `None` for the container's own, `None` inside for ever.
fn how_to_stop(call: &Call) -> Result<(Option<i32>, Option<Option<Duration>>), Refusal> {
    let signal = signal(call.params.text("signal"))?;
    let grace = match call.params.text("t") {
        "" => None,
        text => {
            let seconds: i64 = text.parse().map_err(|_not_a_number| {
                Refusal::invalid(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))
            })?;
            Some(u64::try_from(seconds).ok().map(Duration::from_secs))
        }
    };
    Ok((signal, grace))
}

/// `POST /containers/{id}/kill`.
pub(super) fn kill(api: Api, container: Container, request: Request) -> Operation {
    Box::pin(async move {
        let call = Call::read(request, String::new()).await?;
        let signal = signal(call.params.text("signal"))?.unwrap_or(nix::libc::SIGKILL);
        if !matches!(container.state, ContainerState::Running { .. }) {
            return Err(Refusal::conflict(format!(
                "cannot kill container: {}: container {} is not running",
                call.id, container.config.id
            )));
        }
        api.backend
            .containers()
            .kill(container.config.id, signal)
            .await?;
        Ok(no_content())
    })
}

/// A signal by name or number; `None` when none is named.
fn signal(name: &str) -> Result<Option<i32>, Refusal> {
    if name.is_empty() {
        return Ok(None);
    }
    let number = signal_number(name);
    number
        .map(Some)
        .ok_or_else(|| Refusal::invalid(format!("invalid signal: {name}")))
}

/// `POST /containers/{id}/pause`.
pub(super) fn pause(api: Api, container: Container, _request: Request) -> Operation {
    Box::pin(async move {
        api.backend.containers().pause(container.config.id).await?;
        Ok(no_content())
    })
}

/// `POST /containers/{id}/unpause`.
pub(super) fn unpause(api: Api, container: Container, _request: Request) -> Operation {
    Box::pin(async move {
        api.backend.containers().resume(container.config.id).await?;
        Ok(no_content())
    })
}

/// `POST /containers/{id}/wait`. The head of the answer goes out at once; its one line when the container has ended.
pub(super) fn wait(api: Api, container: Container, request: Request) -> Operation {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Ended {
        status_code: i32,
    }
    Box::pin(async move {
        let call = Call::read(request, String::new()).await?;
        let what = match call.params.text("condition") {
            "" | "not-running" => WaitFor::NotRunning,
            "next-exit" => WaitFor::NextExit,
            "removed" => WaitFor::Removed,
            other => return Err(Refusal::invalid(format!("invalid condition: \"{other}\""))),
        };
        // It waits from here on, before the client is told and begins the container.
        let ended = api
            .backend
            .containers()
            .wait(container.config.id, what)
            .await?;
        let end = stream::once(async move {
            let exit = ended.await?;
            let ended = Ended {
                status_code: exit.code,
            };
            let mut line =
                serde_json::to_vec(&ended).map_err(|error| Refusal::internal(error.to_string()))?;
            line.push(b'\n');
            Ok::<_, Refusal>(Bytes::from(line))
        });
        Ok(([(header::CONTENT_TYPE, JSON)], Body::from_stream(end)).into_response())
    })
}

/// The part of Docker's `UpdateConfig` that can be changed while a container runs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct UpdateDto {
    memory: u64,
    memory_reservation: u64,
    memory_swap: i64,
    nano_cpus: u64,
    #[serde(rename = "CpuShares")]
    cpu_shares: u64,
    cpu_period: u64,
    cpu_quota: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    blkio_weight: u16,
    pids_limit: Option<i64>,
    restart_policy: Option<RestartPolicyDto>,
}

/// `POST /containers/{id}/update`. What is not named stays as it is.
pub(super) fn update(api: Api, container: Container, request: Request) -> Operation {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Updated {
        warnings: Option<Vec<String>>,
    }
    Box::pin(async move {
        let call = Call::read(request, String::new()).await?;
        let mut wanted: UpdateDto = call.json()?;
        let (containers, id) = (api.backend.containers(), container.config.id);
        let policy = wanted.restart_policy.take();
        let policy = policy.filter(RestartPolicyDto::is_said);
        let policy = policy.map(|policy| policy.read()).transpose()?;
        if policy.is_some() && container.standalone.is_none() {
            return Err(Refusal::conflict(format!(
                "container \"/{}\" begins again as its service says: {}",
                container.config.name,
                advice(&container, "docker service update --restart-condition")
            )));
        }
        let limits = merged(&container.config.limits, wanted);
        if limits != container.config.limits || policy.is_none() {
            containers.update(id, limits).await?;
        }
        if let Some(policy) = policy {
            containers.set_restart(id, policy).await?;
        }
        Ok(json(&Updated { warnings: None }))
    })
}

fn merged(now: &ResourceLimits, wanted: UpdateDto) -> ResourceLimits {
    fn or<T: PartialEq + Default>(wanted: T, now: T) -> T {
        if wanted == T::default() { now } else { wanted }
    }
    ResourceLimits {
        memory: or(wanted.memory, now.memory),
        memory_reservation: or(wanted.memory_reservation, now.memory_reservation),
        memory_swap: or(wanted.memory_swap, now.memory_swap),
        nano_cpus: or(wanted.nano_cpus, now.nano_cpus),
        cpu_shares: or(wanted.cpu_shares, now.cpu_shares),
        cpu_period: or(wanted.cpu_period, now.cpu_period),
        cpu_quota: or(wanted.cpu_quota, now.cpu_quota),
        cpuset_cpus: or(wanted.cpuset_cpus, now.cpuset_cpus.clone()),
        cpuset_mems: or(wanted.cpuset_mems, now.cpuset_mems.clone()),
        blkio_weight: or(wanted.blkio_weight, now.blkio_weight),
        pids: wanted.pids_limit.unwrap_or(now.pids),
        ..now.clone()
    }
}

pub(super) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_changes_what_it_names_alone() {
        let now = ResourceLimits {
            memory: 1 << 20,
            nano_cpus: 5,
            pids: 7,
            ..ResourceLimits::default()
        };
        let wanted = UpdateDto {
            memory: 2 << 20,
            ..UpdateDto::default()
        };
        let after = merged(&now, wanted);
        assert_eq!((after.memory, after.nano_cpus, after.pids), (2 << 20, 5, 7));
    }
}
