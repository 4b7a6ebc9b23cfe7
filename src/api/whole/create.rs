//! `POST /containers/create`: the scheduler chooses the node, and the container is made there.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;

use super::ask::{Peer, again, nodes};
use super::find::around;
use super::{host, images};
use crate::api::backend::{Leader, Refusal, Wish};
use crate::api::call::{ApiVersion, Call};
use crate::api::containers;
use crate::api::error::{Handled, json};
use crate::api::place::{read, relay};
use crate::api::router::Api;
use crate::model::NodeId;
use crate::model::constraints::Constraint;

/// A label that says where a container may be put, as a service's constraints do: `node.labels.disk==ssd`, several with
/// commas between them.
const CONSTRAINTS: &str = "skein.constraints";

/// How long an image may take from one node to another.
const IMAGE_DEADLINE: Duration = Duration::from_secs(300);

/// How long the node may take to make the container.
const CREATE_DEADLINE: Duration = Duration::from_secs(60);

/// `POST /skein/place`, at the leader.
pub(in crate::api) fn place<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let wish: Wish = serde_json::from_slice(&call.body)
            .map_err(|error| Refusal::invalid(format!("invalid JSON: {error}")))?;
        Ok(json(&leader.place(wish).await?))
    })
}

/// `POST /containers/create`.
pub(super) async fn create(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let peers = nodes(&api)?;
    if let [Peer { node: None, .. }] = peers[..] {
        return Ok(containers::create_here(api, again(&call)?).await);
    }
    let wanted: Wanted = call.json()?;
    let mut wish = wanted.wish()?;
    let name = call.params.text("name").trim_start_matches('/');
    if !name.is_empty()
        && let Some((peer, at)) = around(&api, peers, name).await?.first()
    {
        return Err(Refusal::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{}\" on node {}. You have to \
             remove (or rename) that container to be able to reuse that name.",
            at.container, peer.name
        )));
    }
    wish.load = host::loads(&api).await?.into_iter().collect();
    let node = choose(&api, &wish).await?;
    let response = create_on(&api, node, &call).await?;
    let image = &wanted.image;
    if response.status() != StatusCode::NOT_FOUND || image.is_empty() {
        return Ok(response);
    }
    let holders = images::holders(&api, image).await?;
    let Some(holder) = holders.into_iter().find(|peer| peer.node != Some(node)) else {
        return Ok(response);
    };
    bring(&api, image, &holder, node).await?;
    create_on(&api, node, &call).await
}

/// What of a container's making decides where it goes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Wanted {
    image: String,
    labels: BTreeMap<String, String>,
    host_config: Host,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Host {
    nano_cpus: i64,
    memory: i64,
    memory_reservation: i64,
}

impl Wanted {
    /// What is to be thought of when a node is chosen.
    fn wish(&self) -> Result<Wish, Refusal> {
        let constraints = self.labels.get(CONSTRAINTS);
        let constraints = constraints.map_or("", String::as_str).split(',');
        let constraints: Vec<String> = constraints
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect();
        for text in &constraints {
            Constraint::parse(text)
                .map_err(|error| Refusal::invalid(format!("label {CONSTRAINTS}: {error}")))?;
        }
        let host = &self.host_config;
        Ok(Wish {
            nano_cpus: host.nano_cpus,
            memory_bytes: host.memory_reservation.max(host.memory),
            constraints,
            ..Wish::default()
        })
    }
}

/// Asks the leader for a node.
async fn choose(api: &Api, wish: &Wish) -> Result<NodeId, Refusal> {
    let mut call = Call::internal("/skein/place");
    call.method = Method::POST;
    let body = serde_json::to_vec(wish);
    call.body = body
        .map_err(|error| Refusal::internal(error.to_string()))?
        .into();
    call.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    read(api.at_leader(&call, place).await?).await
}

/// Makes it there.
async fn create_on(api: &Api, node: NodeId, call: &Call) -> Result<Response, Refusal> {
    let request = again(call)?;
    if Some(node) == api.backend.local().node {
        return Ok(containers::create_here(api.clone(), request).await);
    }
    let ApiVersion(major, minor) = call.version;
    let query = call.target.query().map(|query| format!("?{query}"));
    let path = format!(
        "/v{major}.{minor}/containers/create{}",
        query.unwrap_or_default()
    );
    let made = tokio::time::timeout(CREATE_DEADLINE, relay(api, node, path, request)).await;
    made.unwrap_or_else(|_elapsed| {
        Err(Refusal::unavailable(format!(
            "node {node} did not make the container within {} s",
            CREATE_DEADLINE.as_secs()
        )))
    })
}

/// Brings an image from a node that has it to one that needs it.
async fn bring(api: &Api, image: &str, from: &Peer, to: NodeId) -> Result<(), Refusal> {
    let path = format!("/images/{}/get", images::path_of(image));
    let brought = async {
        let archive = exchange(api, from.node, Method::GET, &path, Body::empty()).await?;
        if !archive.status().is_success() {
            return read::<Value>(archive).await.map(drop);
        }
        let archive = archive.into_body();
        let loaded = exchange(api, Some(to), Method::POST, "/images/load?quiet=1", archive).await?;
        if !loaded.status().is_success() {
            return read::<Value>(loaded).await.map(drop);
        }
        let said = axum::body::to_bytes(loaded.into_body(), crate::api::call::BODY_LIMIT).await;
        said.map(drop)
            .map_err(|_broken| Refusal::unavailable("it broke off"))
    };
    let brought = tokio::time::timeout(IMAGE_DEADLINE, brought).await;
    brought
        .unwrap_or_else(|_elapsed| Err(Refusal::unavailable("it takes too long")))
        .map_err(|refusal| {
            let words = format!(
                "image {image} is not brought from node {} to the node of the container: {}",
                from.name, refusal.message
            );
            Refusal::new(refusal.class, words)
        })
}

/// One request about images, of this node or another.
async fn exchange(
    api: &Api,
    node: Option<NodeId>,
    method: Method,
    path: &str,
    body: Body,
) -> Handled {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    let unusable = |_| Refusal::invalid("invalid path");
    *request.uri_mut() = path.parse().map_err(unusable)?;
    request.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-tar"),
    );
    match node.filter(|node| Some(*node) != api.backend.local().node) {
        Some(node) => relay(api, node, format!("/v1.50{path}"), request).await,
        None => {
            let rest = request
                .uri()
                .path()
                .trim_start_matches("/images/")
                .to_owned();
            let rest = Ok(axum::extract::Path(rest));
            crate::api::images::serve(State(api.clone()), rest, request).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(body: &str) -> Result<Wish, Refusal> {
        let mut call = Call::internal("/");
        let json = HeaderValue::from_static("application/json");
        call.headers.insert(header::CONTENT_TYPE, json);
        call.body = body.to_owned().into();
        call.json::<Wanted>()?.wish()
    }

    #[test]
    fn a_wish_is_read_from_what_is_to_be_made() {
        let read = wish(
            r#"{"image": "web", "hostconfig": {"Memory": 1000, "MemoryReservation": 5, "NanoCpus": 7},
                "Labels": {"skein.constraints": "node.labels.disk==ssd, node.role!=manager"}}"#,
        );
        let read = read.unwrap();
        assert_eq!((read.memory_bytes, read.nano_cpus), (1000, 7));
        let constraints = ["node.labels.disk==ssd", "node.role!=manager"];
        assert_eq!(read.constraints, constraints);
        assert_eq!(wish("{}").unwrap(), Wish::default());
        let refusal = wish(r#"{"Labels": {"skein.constraints": "zone"}}"#).unwrap_err();
        let words = refusal.to_string();
        assert!(words.starts_with("label skein.constraints: "), "{words}");
    }
}
