//! `GET /containers/json` and `GET /containers/{id}/json`.

use axum::extract::{Request, State};
use futures_util::future::BoxFuture;

use crate::api::backend::Refusal;
use crate::api::backend::containers::Container;
use crate::api::call::Call;
use crate::api::dto::container::{self, SummaryDto, state_word};
use crate::api::error::{Handled, json};
use crate::api::filters::Filters;
use crate::api::router::Api;
use crate::model::container::{ContainerState, MountSource, NetworkMode};

/// Marks a container as a task's.
const TASK_LABEL: &str = "com.docker.swarm.task.id";

const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

const STATES: &[&str] = &[
    "created",
    "restarting",
    "running",
    "removing",
    "paused",
    "exited",
    "dead",
];

/// `GET /containers/json`: newest first.
pub(super) async fn list(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let filters = Filters::parse(call.params.text("filters"), FILTERS)?;
    filters.check("status", STATES)?;
    let limit = limit(call.params.text("limit"))?;
    let containers = api.backend.containers();
    let mut all = containers.list().await?;
    all.sort_by_key(|container| std::cmp::Reverse((container.created, container.config.id)));
    let after = bound(&all, &filters, "since")?;
    let before = bound(&all, &filters, "before")?;
    let stopped_too = call.params.flag("all")
        || limit.is_some()
        || filters.values("status").next().is_some()
        || filters.values("exited").next().is_some();
    let images = containers.image_ids().await;
    let now = api.backend.now();
    let mut lines = Vec::new();
    for container in &all {
        let restarts = container
            .standalone
            .as_ref()
            .is_some_and(|one| one.restarting);
        let runs = restarts || matches!(container.state, ContainerState::Running { .. });
        let in_time = after.is_none_or(|after| container.created > after)
            && before.is_none_or(|before| container.created < before);
        if lines.len() >= limit.unwrap_or(usize::MAX) {
            break;
        }
        if !(runs || stopped_too) || !in_time || !fits(&filters, container)? {
            continue;
        }
        let size = if call.params.flag("size") {
            Some(containers.size(container.config.id).await?)
        } else {
            None
        };
        lines.push(SummaryDto::of(container, &images, size, now));
    }
    Ok(json(&lines))
}

/// `GET /containers/{id}/json`.
pub(super) fn inspect(
    api: Api,
    container: Container,
    request: Request,
) -> BoxFuture<'static, Handled> {
    Box::pin(async move {
        let call = Call::read(request, String::new()).await?;
        let containers = api.backend.containers();
        let size = if call.params.flag("size") {
            Some(containers.size(container.config.id).await?)
        } else {
            None
        };
        let images = containers.image_ids().await;
        Ok(json(&container::inspect(&container, &images, size)))
    })
}

/// How many at most; `None` for all of those that run.
fn limit(text: &str) -> Result<Option<usize>, Refusal> {
    match text {
        "" | "0" | "-1" => Ok(None),
        text => text.parse().map(Some).map_err(|_not_a_number| {
            Refusal::invalid(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))
        }),
    }
}

/// When the container was made that a filter names.
fn bound(
    all: &[Container],
    filters: &Filters,
    key: &str,
) -> Result<Option<crate::model::Timestamp>, Refusal> {
    let Some(name) = filters.values(key).next() else {
        return Ok(None);
    };
    let named = |container: &&Container| {
        container.config.name == name || container.config.id.to_string().starts_with(name)
    };
    let found = all.iter().find(named);
    let found = found.ok_or_else(|| crate::api::place::no_such(name))?;
    Ok(Some(found.created))
}

const fn network_word(network: &NetworkMode) -> &'static str {
    match network {
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
        NetworkMode::Namespace(_) | NetworkMode::Container(_) => "default",
    }
}

fn fits(filters: &Filters, container: &Container) -> Result<bool, Refusal> {
    let config = &container.config;
    let is_task = config.labels.contains_key(TASK_LABEL);
    for value in filters.values("is-task") {
        if !matches!(value, "true" | "false" | "1" | "0") {
            return Err(Refusal::invalid(format!(
                "invalid filter 'is-task={value}'"
            )));
        }
    }
    for value in filters.values("exited") {
        if value.parse::<i32>().is_err() {
            return Err(Refusal::invalid(format!("invalid filter 'exited={value}'")));
        }
    }
    let code = match &container.state {
        ContainerState::Exited(exit) => exit.code.to_string(),
        ContainerState::Created | ContainerState::Running { .. } => "-".to_owned(),
    };
    let network = network_word(&config.network);
    let image = &config.image.name;
    let of_image = filters.values("ancestor").next().is_none()
        || filters
            .values("ancestor")
            .any(|name| image == name || image.split(['@', ':']).next() == Some(name));
    let mounts = container.standalone.as_ref();
    let mounts = mounts.map_or(&config.mounts, |alone| &alone.mounts);
    let with_volume = filters.values("volume").next().is_none()
        || filters.values("volume").any(|wanted| {
            mounts.iter().any(|mount| {
                let named =
                    matches!(&mount.source, MountSource::Volume { name, .. } if name == wanted);
                named || mount.target.to_string_lossy() == wanted
            })
        });
    let healthy = filters.values("health").next().is_none()
        || filters
            .values("health")
            .any(|health| container.health.as_ref().map_or("none", |view| view.status) == health);
    // Nothing publishes ports, and nothing is isolated in another way, in this version.
    let published = ["publish", "expose"]
        .iter()
        .all(|key| filters.values(key).next().is_none());
    let task_words = if is_task {
        ["true", "1"]
    } else {
        ["false", "0"]
    };
    let as_task = filters.values("is-task").next().is_none()
        || filters
            .values("is-task")
            .any(|value| task_words.contains(&value));
    Ok(filters.prefix("id", &config.id.to_string())
        && (filters.contained("name", &config.name)
            || filters
                .values("name")
                .any(|name| name.trim_start_matches('/') == config.name))
        && filters.labels("label", &config.labels)
        && filters.exact("status", state_word(container))
        && filters.exact("exited", &code)
        && filters.exact("network", network)
        && of_image
        && with_volume
        && healthy
        && published
        && as_task)
}
