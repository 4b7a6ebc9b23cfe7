//! What ends, holds and changes a container, and what a container of a task cannot be asked: to begin again is its
//! service's business.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use crate::api::backend::containers::Container;
use crate::api::backend::{Refusal, RefusalClass};
use crate::api::call::Call;
use crate::api::error::{Handled, JSON, json};
use crate::api::router::Api;
use crate::model::container::ContainerState;
use crate::model::limits::ResourceLimits;
use crate::model::signal::signal_number;

/// Says which service a container is of.
const SERVICE_LABEL: &str = "com.docker.swarm.service.name";

type Operation = BoxFuture<'static, Handled>;

/// `POST /containers/create`.
pub(super) async fn create(State(_api): State<Api>) -> Handled {
    Err(Refusal::new(
        RefusalClass::NotImplemented,
        "skein runs containers as tasks of services in this version: use docker service create",
    ))
}

/// `POST /containers/prune`: tasks' containers go with their tasks, so there is nothing to prune.
pub(super) async fn prune(State(_api): State<Api>) -> Handled {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        containers_deleted: Option<Vec<String>>,
        space_reclaimed: u64,
    }
    Ok(json(&Pruned {
        containers_deleted: None,
        space_reclaimed: 0,
    }))
}

/// `DELETE /containers/{id}`.
pub(super) fn remove(api: Api, container: Container, request: Request) -> Operation {
    Box::pin(async move {
        let call = Call::read(request, String::new()).await?;
        let id = container.config.id;
        match container.state {
            ContainerState::Running { .. } if call.params.flag("force") => {
                api.backend
                    .containers()
                    .kill(id, nix::libc::SIGKILL)
                    .await?;
                Ok(no_content())
            }
            ContainerState::Running { .. } => Err(Refusal::conflict(format!(
                "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
                container.config.name
            ))),
            ContainerState::Created | ContainerState::Exited(_) => Err(Refusal::conflict(format!(
                "container \"/{}\" is kept for the history of its task, and goes with it: {}",
                container.config.name,
                advice(&container, "docker service rm")
            ))),
        }
    })
}

/// `POST /containers/{id}/start`.
pub(super) fn start(_api: Api, container: Container, _request: Request) -> Operation {
    Box::pin(async move {
        match container.state {
            ContainerState::Running { .. } => Ok(StatusCode::NOT_MODIFIED.into_response()),
            ContainerState::Created | ContainerState::Exited(_) => Err(not_again(&container)),
        }
    })
}

/// `POST /containers/{id}/restart`.
pub(super) fn restart(_api: Api, container: Container, _request: Request) -> Operation {
    Box::pin(async move { Err(not_again(&container)) })
}

/// `POST /containers/{id}/rename`.
pub(super) fn rename(_api: Api, container: Container, _request: Request) -> Operation {
    Box::pin(async move {
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
        if !matches!(container.state, ContainerState::Running { .. }) {
            return Ok(StatusCode::NOT_MODIFIED.into_response());
        }
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
        api.backend
            .containers()
            .stop(container.config.id, signal, grace)
            .await?;
        Ok(no_content())
    })
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
        let condition = call.params.text("condition");
        if !matches!(condition, "" | "not-running" | "next-exit" | "removed") {
            return Err(Refusal::invalid(format!(
                "invalid condition: \"{condition}\""
            )));
        }
        let (containers, id) = (api.backend.containers(), container.config.id);
        let end = stream::once(async move {
            let exit = containers.wait(id).await?;
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
        let wanted: UpdateDto = call.json()?;
        let limits = merged(&container.config.limits, wanted);
        api.backend
            .containers()
            .update(container.config.id, limits)
            .await?;
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
