//! `/volumes…`: the volumes of the node that is asked.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::backend::volumes::{ANONYMOUS, Volume};
use super::backend::{Refusal, RefusalClass};
use super::call::{ApiVersion, Call};
use super::dto::volume::{VolumeCreate, VolumeDto, VolumeList, VolumesPruned};
use super::error::{Handled, created, json};
use super::filters::Filters;
use super::lookup::LookupError;
use super::router::{Api, NamedObject, object_id};

/// What the list filters by.
const FILTERS: &[&str] = &["dangling", "driver", "label", "label!", "name"];

/// What a prune filters by.
const PRUNE_FILTERS: &[&str] = &["all", "label", "label!"];

/// From here on a prune takes only volumes that were made without a name, unless it is asked for all.
const ANONYMOUS_ONLY: ApiVersion = ApiVersion(1, 42);

/// `GET /volumes`.
pub(super) async fn list(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let filters = Filters::parse(call.params.text("filters"), FILTERS)?;
    let dangling = filters.flag("dangling")?;
    let fits = |volume: &Volume| {
        filters.contained("name", &volume.name)
            && filters.exact("driver", &volume.driver)
            && filters.labels("label", &volume.labels)
            && !filters.has_unwanted("label!", &volume.labels)
            && dangling.is_none_or(|wanted| wanted == (volume.users == 0))
    };
    let all = api.backend.volumes()?.list().await?;
    let volumes = all.into_iter().filter(fits).map(VolumeDto::from).collect();
    Ok(json(&VolumeList {
        volumes,
        warnings: None,
    }))
}

/// `POST /volumes/create`.
pub(super) async fn create(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let order: VolumeCreate = call.json()?;
    if order.cluster_volume_spec.is_some() {
        return Err(Refusal::new(
            RefusalClass::NotImplemented,
            "skein has no cluster volumes: leave ClusterVolumeSpec out, and the volume is this machine's",
        ));
    }
    let made = api.backend.volumes()?.create(order.into()).await?;
    Ok(created(&VolumeDto::from(made)))
}

/// `GET /volumes/{name}`.
pub(super) async fn inspect(
    State(api): State<Api>,
    named: NamedObject,
    request: Request,
) -> Handled {
    let call = Call::read(request, object_id(named)?).await?;
    let found = api.backend.volumes()?.inspect(&call.id).await?;
    Ok(json(&VolumeDto::from(found)))
}

/// `PUT /volumes/{name}`, which is for volumes of the cluster alone.
pub(super) async fn update(
    State(api): State<Api>,
    named: NamedObject,
    request: Request,
) -> Handled {
    let call = Call::read(request, object_id(named)?).await?;
    if !api.backend.local().control {
        return Err(Refusal::unavailable(
            "volume update only valid for cluster volumes, but swarm is unavailable",
        ));
    }
    Err(LookupError::NotFound {
        kind: "volume",
        input: call.id,
    }
    .into())
}

/// `DELETE /volumes/{name}`.
pub(super) async fn remove(
    State(api): State<Api>,
    named: NamedObject,
    request: Request,
) -> Handled {
    let call = Call::read(request, object_id(named)?).await?;
    let force = call.params.flag("force");
    api.backend.volumes()?.remove(&call.id, force).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /volumes/prune`.
pub(super) async fn prune(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let filters = Filters::parse(call.params.text("filters"), PRUNE_FILTERS)?;
    let all = filters
        .flag("all")?
        .unwrap_or(call.version < ANONYMOUS_ONLY);
    let chosen = move |volume: &Volume| {
        (all || volume.labels.contains_key(ANONYMOUS))
            && filters.labels("label", &volume.labels)
            && !filters.has_unwanted("label!", &volume.labels)
    };
    let pruned = api.backend.volumes()?.prune(Box::new(chosen)).await?;
    Ok(json(&VolumesPruned {
        volumes_deleted: Some(pruned.names).filter(|names| !names.is_empty()),
        space_reclaimed: pruned.reclaimed,
    }))
}
