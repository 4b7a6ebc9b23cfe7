//! Where a container is, and how a request for it gets there.
//!
//! A container of this node is answered for here. Another's is found by asking the leader where the task is that it
//! belongs to, and when it knows of none, and what is named looks like an ID, by asking the nodes whether their user has
//! made it. The request is carried to that node as it is, body, upgrade and all. What arrives from another node is never
//! carried on. An execution's ID ends with its node's.

use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use futures_util::future::BoxFuture;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};

use super::backend::containers::Container;
use super::backend::{Leader, Refusal, RefusalClass};
use super::call::{ApiVersion, Call};
use super::error::{Handled, json};
use super::forward::{Forwarded, exchange, for_node};
use super::hijack::{Hijack, wants_upgrade};
use super::lead::Origin;
use super::lookup::{self, LookupError};
use super::router::{Api, NamedObject, object_id};
use super::{tasks, whole, words};
use crate::model::{ContainerId, NodeId};

/// Digits of an ID as Docker's client shows it.
const SHORT_ID: usize = 12;

/// What is done for a container of this node.
pub(super) type ContainerOperation = fn(Api, Container, Request) -> BoxFuture<'static, Handled>;

/// What is done for an execution of this node.
pub(super) type ExecOperation = fn(Api, String, Request) -> BoxFuture<'static, Handled>;

/// Where somebody says that a container is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Whereabouts {
    pub(super) node: Option<NodeId>,
    pub(super) container: ContainerId,
}

/// Where a container is.
pub(super) enum Place {
    Here(Box<Container>),
    There(Whereabouts),
}

/// Does it on the container's node.
pub(super) fn container_does(
    operation: ContainerOperation,
) -> impl Fn(State<Api>, NamedObject, Request) -> BoxFuture<'static, Handled> + Clone {
    move |State(api), named, request| {
        Box::pin(async move {
            let name = object_id(named)?;
            match find(&api, &name).await? {
                Place::Here(container) => operation(api, *container, request).await,
                Place::There(at) => {
                    let path = path_for(&request, &at.container.to_string());
                    let node = at.node.ok_or_else(|| no_such(&name))?;
                    relay(&api, node, path, request).await
                }
            }
        })
    }
}

/// Does it on the execution's node.
pub(super) fn exec_does(
    operation: ExecOperation,
) -> impl Fn(State<Api>, NamedObject, Request) -> BoxFuture<'static, Handled> + Clone {
    move |State(api), named, request| {
        Box::pin(async move {
            let id = object_id(named)?;
            let me = api.backend.local().node;
            match node_of(&id).filter(|node| Some(*node) != me) {
                Some(node) if api.may_ask_others() => {
                    let path = path_for(&request, &id);
                    relay(&api, node, path, request).await
                }
                Some(_) | None => operation(api, id, request).await,
            }
        })
    }
}

/// `GET /skein/where/{name}`, at the leader.
pub(super) fn whereabouts<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let found = tasks::of_container(&view, &call.id).map_err(in_words)?;
        let (node, container) = found;
        Ok(json(&Whereabouts {
            node: Some(node),
            container,
        }))
    })
}

/// `GET /skein/have/{name}`: whether the container is here, asked by other nodes.
pub(super) fn have(
    State(api): State<Api>,
    named: NamedObject,
    _request: Request,
) -> BoxFuture<'static, Handled> {
    Box::pin(async move {
        let name = object_id(named)?;
        let found = here(&api, name.trim_start_matches('/')).await?;
        let container = found.ok_or_else(|| no_such(&name))?.config.id;
        let node = api.backend.local().node;
        Ok(json(&Whereabouts { node, container }))
    })
}

impl Api {
    /// Whether a request may be carried to another node: it came from a client, and this is no plain worker.
    pub(super) fn may_ask_others(&self) -> bool {
        let local = self.backend.local();
        self.origin != Origin::Forwarded && words::refuse_cluster_command(&local).is_none()
    }
}

async fn find(api: &Api, name: &str) -> Result<Place, Refusal> {
    let name = name.trim_start_matches('/');
    if api.origin == Origin::Cluster {
        return whole::find::container(api, name).await;
    }
    if let Some(container) = here(api, name).await? {
        return Ok(Place::Here(Box::new(container)));
    }
    if !api.may_ask_others() {
        return Err(no_such(name));
    }
    match ask_leader(api, name).await {
        // No task's: perhaps a user has made it on another node, or the leader is away.
        Err(refusal) if is_like_id(name) => match whole::find::elsewhere(api, name).await {
            Err(missing) if missing.class == RefusalClass::NotFound => Err(refusal),
            found => found,
        },
        found => found.map(Place::There),
    }
}

/// Whether somebody means a container by what was made for it: who does, means that one and no other of the name.
fn is_like_id(name: &str) -> bool {
    name.len() >= SHORT_ID && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The container of this node by its ID, its name or the beginning of its ID.
pub(super) async fn here(api: &Api, name: &str) -> Result<Option<Container>, Refusal> {
    let containers = api.backend.containers();
    if let Ok(id) = name.parse() {
        return containers.look(id).await;
    }
    let all = containers.list().await?;
    match of_list(name, &all) {
        Ok(found) => Ok(Some(found.clone())),
        Err(LookupError::NotFound { .. }) => Ok(None),
        Err(ambiguous) => Err(in_words(ambiguous)),
    }
}

fn of_list<'a>(name: &str, all: &'a [Container]) -> Result<&'a Container, LookupError> {
    lookup::find(
        "container",
        name,
        all.iter(),
        |container| container.config.id.to_string(),
        |container| [container.config.name.as_str()],
    )
}

/// Where the leader says that a task's container is.
pub(super) async fn ask_leader(api: &Api, name: &str) -> Result<Whereabouts, Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(no_such(name));
    }
    let target: Result<PathAndQuery, _> = format!("/skein/where/{name}").parse();
    let mut call = Call::internal("/");
    call.set_target(target.map_err(|_unusable| no_such(name))?);
    call.id = name.to_owned();
    let response = api.at_leader(&call, whereabouts).await?;
    read(response).await
}

/// A small value that another node has answered with.
pub(super) async fn read<T: for<'a> Deserialize<'a>>(response: Response) -> Result<T, Refusal> {
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), super::call::BODY_LIMIT).await;
    let body = body.map_err(|_broken| Refusal::unavailable("the answer of a node broke off"))?;
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|error| Refusal::internal(format!("a node answered strangely: {error}")));
    }
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let said = serde_json::from_slice(&body).map(|said: Said| said.message);
    let words = said.unwrap_or_else(|_| format!("a node answered with {status}"));
    Err(Refusal::new(class_of(status), words))
}

const fn class_of(status: StatusCode) -> RefusalClass {
    match status.as_u16() {
        400 => RefusalClass::Invalid,
        404 => RefusalClass::NotFound,
        409 => RefusalClass::Conflict,
        501 => RefusalClass::NotImplemented,
        503 => RefusalClass::Unavailable,
        _ => RefusalClass::Internal,
    }
}

/// The node that an execution's ID names.
fn node_of(exec: &str) -> Option<NodeId> {
    let bits = exec.get(32..).filter(|_| exec.len() == 64)?;
    u128::from_str_radix(bits, 16).ok().map(NodeId::from_bits)
}

/// The path of a request with the object's full ID instead of what the user wrote.
fn path_for(request: &Request, id: &str) -> String {
    let ApiVersion(major, minor) = request
        .extensions()
        .get()
        .copied()
        .unwrap_or(ApiVersion(1, 50));
    let mut parts = request.uri().path().splitn(4, '/').skip(1);
    let kind = parts.next().unwrap_or_default();
    let rest = parts
        .nth(1)
        .map(|rest| format!("/{rest}"))
        .unwrap_or_default();
    let query = request.uri().query().map(|query| format!("?{query}"));
    format!(
        "/v{major}.{minor}/{kind}/{id}{rest}{}",
        query.unwrap_or_default()
    )
}

/// Carries a request to another node, and the answer back.
pub(super) async fn relay(api: &Api, node: NodeId, path: String, mut request: Request) -> Handled {
    let io = api.backend.node(node).await?;
    let hijack = wants_upgrade(&request)
        .then(|| Hijack::of(&mut request))
        .transpose()?;
    let uri: Uri = path
        .parse()
        .map_err(|_unusable| Refusal::invalid("invalid path"))?;
    let (mut parts, body) = request.into_parts();
    parts.headers = for_node(&parts.headers, api.backend.local().node);
    parts.uri = uri;
    parts.extensions = axum::http::Extensions::new();
    let mut request = Request::from_parts(parts, body);
    let lost = |why: &str| Refusal::unavailable(format!("node {node} did not answer: {why}"));
    let Some(hijack) = hijack else {
        return match exchange(io, request, std::future::pending()).await {
            Forwarded::Answer(response) => Ok(response),
            Forwarded::NotLeader => Err(Refusal::no_leader()),
            Forwarded::Lost(why) => Err(lost(&why)),
        };
    };
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(io))
        .await
        .map_err(|error| lost(&error.to_string()))?;
    hijack.workers().spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a carried connection ended");
        }
    });
    let response = sender.send_request(request).await;
    let mut response = response.map_err(|error| lost(&error.to_string()))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // A refusal, which is short; the connection is driven until it is read.
        return Ok(response.map(axum::body::Body::new));
    }
    let far = hyper::upgrade::on(&mut response);
    hijack.carry(far, response.map(axum::body::Body::new))
}

/// In Docker's words.
pub(super) fn no_such(name: &str) -> Refusal {
    Refusal::not_found(format!("No such container: {name}"))
}

fn in_words(error: LookupError) -> Refusal {
    match error {
        LookupError::NotFound { input, .. } => no_such(&input),
        LookupError::Ambiguous { input, .. } => {
            Refusal::invalid(format!("multiple IDs found with provided prefix: {input}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_names_its_node() {
        let node = NodeId::from_bits(0xfeed);
        let id = format!("{:032x}{:032x}", 7, node.bits());
        assert_eq!(node_of(&id), Some(node));
        for bad in ["", "abc", &id[1..], &"z".repeat(64), &"é".repeat(32)] {
            assert_eq!(node_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_name_in_a_path_becomes_the_id() {
        for (uri, path) in [
            (
                "/containers/web.1.x/json?size=1",
                "/v1.50/containers/ID/json?size=1",
            ),
            ("/containers/%2Fweb", "/v1.50/containers/ID"),
            ("/exec/abc/start", "/v1.50/exec/ID/start"),
        ] {
            let request = Request::builder().uri(uri).body(axum::body::Body::empty());
            assert_eq!(path_for(&request.unwrap(), "ID"), path);
        }
    }
}
