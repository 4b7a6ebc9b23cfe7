//! `cluster.sock`: the whole cluster as one Docker host.
//!
//! What a dockerd answers for its own machine is gathered here from all nodes, each with a deadline: a node that is away
//! costs a `Warning` header and never a hang. Names that more than one node has carry the node behind an `@`, and such a
//! name is understood wherever one may stand. Everything that is not here is answered as on `skein.sock`.
//!
//! | file | holds |
//! |---|---|
//! | `ask` | which nodes there are, and asking all of them |
//! | `lists` | containers, volumes, prunes |
//! | `images` | images, wherever they are |
//! | `host` | info and what the disks hold |
//! | `find` | the node of a container or a volume |
//! | `create` | a container on the node that the scheduler chooses |
//! | `merge` | pure: one list of many |

mod ask;
mod create;
pub(super) mod find;
mod host;
mod images;
mod lists;
mod merge;

use axum::Router;
use axum::routing::{any, get, post};

use super::router::Api;

pub(super) use create::place;
pub(super) use host::counts;

/// What is answered otherwise than for one machine.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/containers/json", get(lists::containers))
        .route("/containers/create", post(create::create))
        .route("/containers/prune", post(lists::prune_containers))
        .route("/images/{*rest}", any(images::serve))
        .route("/volumes", get(lists::volumes))
        .route("/volumes/prune", post(lists::prune_volumes))
        .route("/volumes/create", post(super::volumes::create))
        .route("/volumes/{name}", any(find::volume))
        .route("/system/df", get(host::df))
        .route("/info", get(host::info))
}
