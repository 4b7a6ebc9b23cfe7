//! `POST /containers/create`, `POST /containers/prune`, `GET /containers/{id}/export`.
//!
//! A container is made on the node that is asked. What is understood of the request is in
//! [`dto::create`](crate::api::dto::create).

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_util::io::ReaderStream;

use crate::api::backend::containers::Container;
use crate::api::backend::{Refusal, RefusalClass};
use crate::api::call::Call;
use crate::api::dto::create::CreateDto;
use crate::api::error::{Handled, created, json};
use crate::api::events::time::parse_until;
use crate::api::filters::Filters;
use crate::api::router::Api;
use crate::model::container::ContainerState;

const PRUNE_FILTERS: &[&str] = &["label", "label!", "until"];

/// `POST /containers/create`.
pub(super) async fn create(State(api): State<Api>, request: Request) -> Handled {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Made {
        id: String,
        warnings: Vec<String>,
    }
    let call = Call::read(request, String::new()).await?;
    let wanted: CreateDto = call.json()?;
    let raw: Map<String, Value> = serde_json::from_slice(&call.body).unwrap_or_default();
    refuse_other_platforms(call.params.text("platform"))?;
    let (wanted, warnings) = wanted.wanted(call.params.text("name"), &raw)?;
    let id = api.backend.containers().create(wanted).await?;
    Ok(created(&Made {
        id: id.to_string(),
        warnings,
    }))
}

/// Nothing here runs the programs of another machine.
fn refuse_other_platforms(platform: &str) -> Result<(), Refusal> {
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut parts = platform.split('/');
    let (os, arch) = (parts.next().unwrap_or_default(), parts.next());
    if platform.is_empty() || (os == "linux" && arch.is_none_or(|arch| arch == own)) {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "a container of platform {platform} does not run here, where all are linux/{own}"
    )))
}

/// `POST /containers/prune`: those of users that do not run. Tasks' containers go with their tasks.
pub(super) async fn prune(State(api): State<Api>, request: Request) -> Handled {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        containers_deleted: Option<Vec<String>>,
        space_reclaimed: u64,
    }
    let call = Call::read(request, String::new()).await?;
    let filters = Filters::parse(call.params.text("filters"), PRUNE_FILTERS)?;
    let until = filters.values("until").next().unwrap_or_default();
    let until = parse_until("until", until, api.backend.now())?;
    let containers = api.backend.containers();
    let (mut deleted, mut reclaimed) = (Vec::new(), 0);
    for container in containers.list().await? {
        let rests = container
            .standalone
            .as_ref()
            .is_some_and(|one| !one.restarting && !one.removing)
            && !matches!(container.state, ContainerState::Running { .. });
        let labels = &container.config.labels;
        if !rests
            || until.is_some_and(|until| container.created > until)
            || !filters.labels("label", labels)
            || filters.has_unwanted("label!", labels)
        {
            continue;
        }
        let id = container.config.id;
        let size = containers.size(id).await.unwrap_or_default();
        match containers.remove(id, false).await {
            Ok(()) => {
                deleted.push(id.to_string());
                reclaimed += size;
            }
            // Somebody else was faster.
            Err(refusal) if refusal.class == RefusalClass::NotFound => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(json(&Pruned {
        containers_deleted: (!deleted.is_empty()).then_some(deleted),
        space_reclaimed: reclaimed,
    }))
}

/// `GET /containers/{id}/export`.
pub(super) fn export(
    api: Api,
    container: Container,
    _request: Request,
) -> BoxFuture<'static, Handled> {
    Box::pin(async move {
        let tar = api.backend.containers().export(container.config.id).await?;
        let kind = HeaderValue::from_static("application/x-tar");
        let body = Body::from_stream(ReaderStream::new(tar));
        Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
    })
}
