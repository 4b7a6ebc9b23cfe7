//! Docker Engine API over HTTP: one file per resource.
//!
//! Clients speak to the socket of any node. What concerns the node itself is answered here; what concerns the
//! cluster runs at the leader, to which the request is carried when it is elsewhere. The room knows the node only
//! as a [`Backend`] and sees neither consensus, transport nor runtime.
//!
//! | file | holds |
//! |---|---|
//! | [`backend`] | the seam to the node |
//! | [`words`] | Docker's texts |
//! | `router`, `headers`, `call`, `query`, `go_json`, `error` | HTTP as Docker's daemon speaks it |
//! | `lead`, `forward` | where a request runs |
//! | `filters`, `lookup`, `dto` | values in and out |
//! | `ping`, `version`, `info`, `swarm`, `nodes`, `services`, `tasks`, `events`, `skein` | the resources |
//! | `images`, `volumes`, `df` | what lies on the disks of the node that is asked |
//! | `secrets`, `configs`, `dependencies`, `networks` | what the cluster keeps for services |
//! | `whole` | the cluster as one Docker host |
//! | `absent` | resources of which there are none |
//! | `server`, `socket`, `tcp` | connections, who may have one, and their limits |

mod absent;
pub mod backend;
mod call;
mod configs;
mod containers;
mod dependencies;
mod df;
mod distribution;
mod dto;
mod error;
mod events;
mod filters;
mod forward;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gather;
mod go_json;
mod headers;
mod hijack;
mod images;
mod info;
mod lead;
mod lookup;
mod machine;
mod networks;
mod nodes;
mod output;
mod ping;
mod place;
mod query;
mod router;
mod secrets;
pub mod server;
mod services;
mod skein;
pub mod socket;
mod swarm;
mod tasks;
pub mod tcp;
mod version;
mod volumes;
mod whole;
pub mod words;

use std::sync::Arc;

pub use backend::{Backend, Leader};
pub use headers::{API_VERSION, ENGINE_VERSION, MIN_API_VERSION};
pub use server::{serve, serve_connection, serve_stream};
pub use version::{BUILD_TIME, GIT_COMMIT, SKEIN_VERSION};

use lead::Origin;

/// The API as local clients see it.
pub fn router(backend: Arc<dyn Backend>) -> axum::Router {
    router::build(backend, Origin::Local)
}

/// The API as clients see it for whom the whole cluster is one Docker host.
pub fn cluster_router(backend: Arc<dyn Backend>) -> axum::Router {
    router::build(backend, Origin::Cluster)
}

/// The API as other nodes see it: what arrives here was forwarded once and is never forwarded again.
pub fn forwarded_router(backend: Arc<dyn Backend>) -> axum::Router {
    router::build(backend, Origin::Forwarded)
}

#[cfg(test)]
pub(crate) mod tests;
