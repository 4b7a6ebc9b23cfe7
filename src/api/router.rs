//! Which handler answers which path: versions, methods, and what is not there.
//!
//! Every route exists with a version prefix and without. An unknown path or a wrong method is Docker's 404; what
//! Docker has and this version of Skein has not is a 501 that says so.

use std::sync::Arc;

use axum::Router;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use futures_util::future::BoxFuture;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::backend::{Backend, Refusal, RefusalClass};
use super::call::{ApiVersion, Call, Target};
use super::error::Handled;
use super::gather::{self, Of, gathers};
use super::headers::{self, API_VERSION, MIN_API_VERSION};
use super::lead::{Operation, Origin, at_leader};
use super::machine::Machine;
use super::{
    absent, configs, containers, df, distribution, events, images, info, networks, nodes, ping,
    place, secrets, services, skein, swarm, tasks, version, volumes, whole, words,
};

/// First segments of the paths of Docker's API that are not built.
const NOT_BUILT: [&str; 6] = ["build", "commit", "grpc", "plugins", "session", "stacks"];

/// What every handler has at hand.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) origin: Origin,
    pub(super) machine: Arc<Machine>,
}

impl Api {
    /// Runs `operation` at the leader for `call`.
    pub(super) async fn at_leader(&self, call: &Call, operation: Operation) -> Handled {
        at_leader(&self.backend, self.origin, call, operation).await
    }
}

/// The whole API for requests of this origin.
pub(super) fn build(backend: Arc<dyn Backend>, origin: Origin) -> Router {
    let api = Api {
        backend,
        origin,
        machine: Arc::new(Machine::read()),
    };
    let routes = match origin {
        Origin::Local | Origin::Cluster => shared_routes().merge(local_routes()),
        Origin::Forwarded => shared_routes().merge(forwarded_routes()),
    };
    let mut routes = routes
        .fallback(missing)
        .method_not_allowed_fallback(page_not_found)
        .with_state(api.clone());
    if origin == Origin::Cluster {
        routes = whole::routes()
            .fallback_service(routes)
            .method_not_allowed_fallback(page_not_found)
            .with_state(api);
    }
    Router::new()
        .fallback(dispatch)
        .with_state(Arc::new(TowerToHyperService::new(routes)))
}

/// What the leader answers, on whichever node it was asked.
fn shared_routes() -> Router<Api> {
    Router::new()
        .route("/swarm", get(leader_does(swarm::inspect)))
        .route("/swarm/update", post(leader_does(swarm::update)))
        .route("/swarm/unlockkey", get(leader_does(swarm::unlock_key)))
        .route("/nodes", get(leader_does(nodes::list)))
        .route(
            "/nodes/{id}",
            get(leader_does(nodes::inspect)).delete(leader_does(nodes::remove)),
        )
        .route("/nodes/{id}/update", post(leader_does(nodes::update)))
        .route("/skein/rebalance", post(leader_does(skein::rebalance)))
        .merge(service_routes())
        .merge(containers::routes())
        .merge(dependency_routes())
        .merge(network_routes())
}

fn service_routes() -> Router<Api> {
    Router::new()
        .route("/services", get(leader_does(services::list)))
        .route("/services/create", post(leader_does(services::create)))
        .route(
            "/services/{id}",
            get(leader_does(services::inspect)).delete(leader_does(services::remove)),
        )
        .route("/services/{id}/update", post(leader_does(services::update)))
        .route("/tasks", get(leader_does(tasks::list)))
        .route("/tasks/{id}", get(leader_does(tasks::inspect)))
}

fn dependency_routes() -> Router<Api> {
    Router::new()
        .route("/secrets", get(leader_does(secrets::list)))
        .route("/secrets/create", post(leader_does(secrets::create)))
        .route(
            "/secrets/{id}",
            get(leader_does(secrets::inspect)).delete(leader_does(secrets::remove)),
        )
        .route("/secrets/{id}/update", post(leader_does(secrets::update)))
        .route("/configs", get(leader_does(configs::list)))
        .route("/configs/create", post(leader_does(configs::create)))
        .route(
            "/configs/{id}",
            get(leader_does(configs::inspect)).delete(leader_does(configs::remove)),
        )
        .route("/configs/{id}/update", post(leader_does(configs::update)))
}

fn network_routes() -> Router<Api> {
    let inspect = leader_or_alone(networks::inspect, networks::inspect_own);
    Router::new()
        .route(
            "/networks",
            get(leader_or_alone(networks::list, networks::list_own)),
        )
        .route("/networks/create", post(leader_does(networks::create)))
        .route("/networks/prune", post(leader_does(networks::prune)))
        .route(
            "/networks/{id}",
            get(inspect).delete(leader_does(networks::remove)),
        )
        .route(
            "/networks/{id}/connect",
            post(leader_does(networks::attach)),
        )
        .route(
            "/networks/{id}/disconnect",
            post(leader_does(networks::attach)),
        )
}

/// What a node answers for itself.
fn local_routes() -> Router<Api> {
    Router::new()
        .route("/_ping", get(ping::get).head(ping::head))
        .route("/version", get(version::show))
        .route("/info", get(info::show))
        .route("/events", get(events::stream))
        .route("/distribution/{*image}", get(distribution::inspect))
        .route("/swarm/init", post(swarm::init))
        .route("/swarm/join", post(swarm::join))
        .route("/swarm/leave", post(swarm::leave))
        .route("/swarm/unlock", post(swarm::unlock))
        .route("/services/{id}/logs", get(gathers(Of::Service)))
        .route("/tasks/{id}/logs", get(gathers(Of::Task)))
        .route("/skein/status", get(skein::status))
        .route("/skein/recover", post(skein::recover))
        .merge(disk_routes())
}

/// What lies on the disks of the node that is asked.
fn disk_routes() -> Router<Api> {
    Router::new()
        .route("/images/{*rest}", any(images::serve))
        .route("/auth", post(images::login))
        .route("/volumes", get(volumes::list))
        .route("/volumes/create", post(volumes::create))
        .route("/volumes/prune", post(volumes::prune))
        .route(
            "/volumes/{name}",
            get(volumes::inspect)
                .put(volumes::update)
                .delete(volumes::remove),
        )
        .route("/system/df", get(df::show))
        .route("/plugins", get(absent::plugins))
}

/// What only other nodes ask.
fn forwarded_routes() -> Router<Api> {
    Router::new()
        .route("/skein/summary", get(leader_does(info::summary)))
        .route("/skein/events", get(leader_does(events::raw)))
        .route("/skein/where/{id}", get(leader_does(place::whereabouts)))
        .route(
            "/skein/speakers/service/{id}",
            get(leader_does(gather::of_service)),
        )
        .route(
            "/skein/speakers/task/{id}",
            get(leader_does(gather::of_task)),
        )
        .route("/skein/logs/{id}", get(gather::one))
        .route("/skein/have/{id}", get(place::have))
        .route("/skein/counts", get(whole::counts))
        .route("/skein/place", post(leader_does(whole::place)))
        .merge(disk_routes())
}

fn leader_does(
    operation: Operation,
) -> impl Fn(State<Api>, NamedObject, Request) -> BoxFuture<'static, Handled> + Clone {
    move |State(api), named, request| {
        Box::pin(async move {
            let id = object_id(named)?;
            let call = Call::read(request, id).await?;
            api.at_leader(&call, operation).await
        })
    }
}

/// As [`leader_does`]; a machine that does not answer for a cluster answers for itself alone.
fn leader_or_alone(
    operation: Operation,
    alone: fn(&Call) -> Handled,
) -> impl Fn(State<Api>, NamedObject, Request) -> BoxFuture<'static, Handled> + Clone {
    move |State(api), named, request| {
        Box::pin(async move {
            let id = object_id(named)?;
            let call = Call::read(request, id).await?;
            match words::refuse_cluster_command(&api.backend.local()) {
                Some(_) if api.origin == Origin::Local => alone(&call),
                Some(_) | None => api.at_leader(&call, operation).await,
            }
        })
    }
}

/// What stands for an object in the path, if the path has a place for one.
pub(super) type NamedObject = Result<Path<String>, PathRejection>;

/// Decoded; empty when the path names no object.
pub(super) fn object_id(named: NamedObject) -> Result<String, Refusal> {
    match named {
        Ok(Path(id)) => Ok(id),
        Err(PathRejection::FailedToDeserializePathParams(error))
            if matches!(error.kind(), ErrorKind::InvalidUtf8InPathParam { .. }) =>
        {
            Err(Refusal::invalid("invalid path: it is not UTF-8"))
        }
        Err(_no_place) => Ok(String::new()),
    }
}

type Routes = Arc<TowerToHyperService<Router>>;

/// Takes the version off the path, hands the request to its route and marks the response.
async fn dispatch(State(routes): State<Routes>, request: Request) -> Response {
    let mut response = match prepare(request) {
        Ok(Some(request)) => match routes.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        Ok(None) => StatusCode::OK.into_response(),
        Err(refusal) => refusal.into_response(),
    };
    headers::decorate(response.headers_mut());
    response
}

/// The request as the routes know it; `None` when there is nothing to do.
pub(super) fn prepare(mut request: Request) -> Result<Option<Request>, Refusal> {
    if request.method() == Method::OPTIONS {
        return Ok(None);
    }
    let target = match request.uri().path_and_query() {
        Some(target) => target.clone(),
        None => return Err(not_found()),
    };
    let (version, path) = split_version(target.path());
    let version = match version {
        Some(text) => check_version(text)?,
        None => parse_version(API_VERSION),
    };
    let routed = match target.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let routed = routed
        .parse::<PathAndQuery>()
        .map_err(|_invalid| not_found())?;
    *request.uri_mut() = Uri::from(routed);
    request.extensions_mut().insert(version);
    request.extensions_mut().insert(Target(target));
    Ok(Some(request))
}

/// `/v1.43/nodes` is `1.43` and `/nodes`.
fn split_version(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/v") else {
        return (None, path);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (version, after) = rest.split_at(end);
    let is_version = !version.is_empty()
        && !after.is_empty()
        && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_version {
        (Some(version), after)
    } else {
        (None, path)
    }
}

fn parse_version(text: &str) -> ApiVersion {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    ApiVersion(parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn check_version(text: &str) -> Result<ApiVersion, Refusal> {
    let version = parse_version(text);
    if version < parse_version(MIN_API_VERSION) {
        return Err(Refusal::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade \
             your client to a newer version"
        )));
    }
    if version > parse_version(API_VERSION) {
        return Err(Refusal::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )));
    }
    Ok(version)
}

pub(super) fn not_found() -> Refusal {
    Refusal::not_found("page not found")
}

async fn page_not_found() -> Refusal {
    not_found()
}

async fn missing(uri: Uri) -> Refusal {
    let first = uri.path().split('/').nth(1).unwrap_or_default();
    if NOT_BUILT.contains(&first) {
        return Refusal::new(
            RefusalClass::NotImplemented,
            format!("skein does not serve /{first} in this version"),
        );
    }
    not_found()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_taken_off_the_path() {
        for (path, version, rest) in [
            ("/v1.43/nodes", Some("1.43"), "/nodes"),
            ("/nodes", None, "/nodes"),
            ("/volumes", None, "/volumes"),
            ("/version", None, "/version"),
            ("/v1.43", None, "/v1.43"),
            ("/vx/nodes", None, "/vx/nodes"),
            ("/v/nodes", None, "/v/nodes"),
        ] {
            assert_eq!(split_version(path), (version, rest), "{path}");
        }
    }

    #[test]
    fn versions_outside_of_the_range_are_refused_in_dockers_words() {
        assert_eq!(check_version("1.24"), Ok(ApiVersion(1, 24)));
        assert_eq!(check_version("1.50"), Ok(ApiVersion(1, 50)));
        for (text, words) in [
            ("1.23", "client version 1.23 is too old."),
            ("1", "client version 1 is too old."),
            ("1.51", "client version 1.51 is too new."),
            ("2.0", "client version 2.0 is too new."),
            ("99999999999.1", "client version 99999999999.1 is too old."),
        ] {
            assert!(check_version(text).unwrap_err().message.starts_with(words));
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "/[ -~]{0,30}") {
            let (version, rest) = split_version(&path);
            prop_assert!(path.ends_with(rest));
            if let Some(version) = version {
                let _ = check_version(version);
            }
        }
    }
}
