//! `/containers` and `/exec`: what runs, on whichever node. The list is this node's alone, as a dockerd's would be.
//!
//! [`place`](super::place) brings each request to the container's own node; what is here is done there.
//!
//! | file | holds |
//! |---|---|
//! | `list` | the list and its filters, inspect |
//! | `make` | create, prune, export |
//! | `life` | start, stop, kill, pause, wait, remove, and what a task's container cannot be asked |
//! | `logs` | what it says |
//! | `talk` | attach and exec |
//! | `look` | top, stats |
//! | `files` | copying in and out |

mod files;
mod life;
mod list;
pub(super) mod logs;
mod look;
mod make;
mod talk;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler as _;
use axum::response::Response;
use axum::routing::{get, post};

use super::place::{container_does, exec_does};
use super::router::Api;

/// This node's own list, for whoever gathers those of all.
pub(super) async fn list_here(api: Api, request: Request) -> Response {
    list::list.call(request, api).await
}

/// Makes a container on this node.
pub(super) async fn create_here(api: Api, request: Request) -> Response {
    make::create.call(request, api).await
}

/// Removes what has ended on this node.
pub(super) async fn prune_here(api: Api, request: Request) -> Response {
    make::prune.call(request, api).await
}

/// All routes of containers and of further processes in them.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/containers/json", get(list::list))
        .route("/containers/create", post(make::create))
        .route("/containers/prune", post(make::prune))
        .route(
            "/containers/{id}",
            axum::routing::delete(container_does(life::remove)),
        )
        .route("/containers/{id}/json", get(container_does(list::inspect)))
        .route("/containers/{id}/logs", get(container_does(logs::logs)))
        .route(
            "/containers/{id}/attach",
            post(container_does(talk::attach)),
        )
        .route(
            "/containers/{id}/resize",
            post(container_does(talk::resize)),
        )
        .route("/containers/{id}/start", post(container_does(life::start)))
        .route("/containers/{id}/stop", post(container_does(life::stop)))
        .route(
            "/containers/{id}/restart",
            post(container_does(life::restart)),
        )
        .route(
            "/containers/{id}/rename",
            post(container_does(life::rename)),
        )
        .route(
            "/containers/{id}/update",
            post(container_does(life::update)),
        )
        .route("/containers/{id}/kill", post(container_does(life::kill)))
        .route("/containers/{id}/pause", post(container_does(life::pause)))
        .route(
            "/containers/{id}/unpause",
            post(container_does(life::unpause)),
        )
        .route("/containers/{id}/wait", post(container_does(life::wait)))
        .route("/containers/{id}/export", get(container_does(make::export)))
        .route("/containers/{id}/top", get(container_does(look::top)))
        .route("/containers/{id}/stats", get(container_does(look::stats)))
        .route(
            "/containers/{id}/archive",
            get(container_does(files::read))
                .head(container_does(files::head))
                .put(container_does(files::write)),
        )
        .route(
            "/containers/{id}/exec",
            post(container_does(talk::create_exec)),
        )
        .route("/exec/{id}/start", post(exec_does(talk::start_exec)))
        .route("/exec/{id}/json", get(exec_does(talk::inspect_exec)))
        .route("/exec/{id}/resize", post(exec_does(talk::resize_exec)))
}
