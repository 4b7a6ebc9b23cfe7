//! Asking every node the same, and what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::api::backend::{LocalState, Refusal, RefusalClass};
use crate::api::call::{ApiVersion, Call, Target};
use crate::api::error::Handled;
use crate::api::place::{read, relay};
use crate::api::router::Api;
use crate::api::words;
use crate::model::NodeId;

/// How long a node may take before the answer is given without it.
const NODE_DEADLINE: Duration = Duration::from_secs(4);

/// How long a node may take for what changes something: removing images, say.
const CHANGE_DEADLINE: Duration = Duration::from_secs(60);

/// Nodes that are asked at once.
const AT_ONCE: usize = 64;

/// Carries what is missing of an answer, a header for each node.
const WARNING: HeaderName = HeaderName::from_static("warning");

/// How this node answers for itself.
pub(super) type Own = fn(Api, Request) -> BoxFuture<'static, Handled>;

/// A node as it is asked and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// `None` when the machine is in no cluster, and is all that there is.
    pub(super) node: Option<NodeId>,
    /// Its host's name; its ID where another node has the same.
    pub(super) name: String,
    /// Whether gossip takes it for alive.
    pub(super) alive: bool,
    /// It is this one.
    pub(super) own: bool,
}

impl Peer {
    /// Whether a user means it by this name.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.node.is_some_and(|node| node.to_string() == name)
    }
}

/// All nodes, this one first. Refused where no node may be asked for others.
pub(super) fn nodes(api: &Api) -> Result<Vec<Peer>, Refusal> {
    let local = api.backend.local();
    let hostname = local.description.hostname.clone();
    let own = Peer {
        node: local.node,
        name: hostname,
        alive: true,
        own: true,
    };
    if local.state == LocalState::Inactive {
        return Ok(vec![Peer { node: None, ..own }]);
    }
    if let Some(refusal) = words::refuse_cluster_command(&local) {
        return Err(refusal);
    }
    let others = api.backend.status().peers.into_iter();
    let others = others.filter(|peer| Some(peer.node) != local.node);
    let others = others.map(|peer| Peer {
        node: Some(peer.node),
        name: peer.hostname,
        alive: peer.alive,
        own: false,
    });
    let mut all: Vec<Peer> = std::iter::once(own).chain(others).collect();
    let mut count = BTreeMap::new();
    for peer in &all {
        *count.entry(peer.name.clone()).or_insert(0) += 1;
    }
    for peer in &mut all {
        if let Some(node) = peer.node
            && (peer.name.is_empty() || count.get(&peer.name).is_some_and(|count| *count > 1))
        {
            peer.name = node.to_string();
        }
    }
    Ok(all)
}

/// What is asked of each node.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    /// Path and query without a version.
    pub(super) target: String,
    pub(super) version: ApiVersion,
}

impl Question {
    /// A question that changes nothing.
    pub(super) fn get(target: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            target: target.into(),
            version: ApiVersion(1, 50),
        }
    }

    /// What a client asks, of another path and query perhaps.
    pub(super) fn of(call: &Call, target: impl Into<String>) -> Self {
        Self {
            method: call.method.clone(),
            target: target.into(),
            version: call.version,
        }
    }

    fn deadline(&self) -> Duration {
        if self.method == Method::GET {
            NODE_DEADLINE
        } else {
            CHANGE_DEADLINE
        }
    }

    /// As a request of this API, as the router hands it on.
    fn request(&self) -> Result<Request, Refusal> {
        let unusable = |_| Refusal::invalid("invalid path");
        let uri: Uri = self.target.parse().map_err(unusable)?;
        let mut request = Request::new(Body::empty());
        *request.method_mut() = self.method.clone();
        if let Some(target) = uri.path_and_query() {
            request.extensions_mut().insert(Target(target.clone()));
        }
        *request.uri_mut() = uri;
        request.extensions_mut().insert(self.version);
        Ok(request)
    }

    fn versioned(&self) -> String {
        let ApiVersion(major, minor) = self.version;
        format!("/v{major}.{minor}{}", self.target)
    }
}

/// What came of asking.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// What each node said that said something.
    pub(super) answers: Vec<(Peer, Value)>,
    /// What nodes refused: the question itself is wrong, or they have nothing of the kind.
    pub(super) refusals: Vec<(Peer, Refusal)>,
    /// What is missing, in words.
    pub(super) warnings: Vec<String>,
}

impl Gathered {
    /// The refusal to pass on: when nobody answered otherwise, or the question itself is wrong.
    pub(super) fn refused(&mut self) -> Result<(), Refusal> {
        let wrong = |refusal: &Refusal| refusal.class == RefusalClass::Invalid;
        let at = self.refusals.iter().position(|(_, refusal)| wrong(refusal));
        let at = at.or_else(|| self.answers.is_empty().then_some(0));
        match at.filter(|at| *at < self.refusals.len()) {
            Some(at) => Err(self.refusals.swap_remove(at).1),
            None => Ok(()),
        }
    }

    /// Says in a response what is missing of it.
    pub(super) fn warn(&self, mut response: Response) -> Response {
        for warning in &self.warnings {
            let plain = |c: char| {
                if c.is_ascii_graphic() || c == ' ' {
                    c
                } else {
                    '?'
                }
            };
            let text: String = warning.chars().map(plain).collect();
            let text = format!("199 skein \"{}\"", text.replace(['"', '\\'], "'"));
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().append(WARNING, value);
            }
        }
        response
    }
}

/// Asks all of `peers`; this node answers by `own`.
pub(super) async fn everywhere(
    api: &Api,
    peers: Vec<Peer>,
    question: &Question,
    own: Own,
) -> Gathered {
    let asked = stream::iter(peers).map(|peer| async move {
        let answer = ask(api, &peer, question, own).await;
        (peer, answer)
    });
    let mut answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
    answers.sort_by(|(a, _), (b, _)| (!a.own, &a.name).cmp(&(!b.own, &b.name)));
    let mut gathered = Gathered::default();
    for (peer, answer) in answers {
        match answer {
            Ok(value) => gathered.answers.push((peer, value)),
            Err(refusal) if refusal.class == RefusalClass::Unavailable => {
                gathered
                    .warnings
                    .push(format!("node {}: {}", peer.name, refusal.message));
                gathered.refusals.push((peer, refusal));
            }
            Err(refusal) => gathered.refusals.push((peer, refusal)),
        }
    }
    gathered
}

/// Asks one node.
async fn ask(api: &Api, peer: &Peer, question: &Question, own: Own) -> Result<Value, Refusal> {
    if !peer.alive {
        return Err(Refusal::unavailable("it is down"));
    }
    let deadline = question.deadline();
    let asked = async {
        let request = question.request()?;
        let response = match peer.node {
            Some(node) if !peer.own => relay(api, node, question.versioned(), request).await?,
            _ => own(api.clone(), request).await?,
        };
        if response.status() == axum::http::StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        read(response).await
    };
    match tokio::time::timeout(deadline, asked).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(Refusal::unavailable(format!(
            "it did not answer within {} s",
            deadline.as_secs()
        ))),
    }
}

/// Carries a client's request to one node as it is.
pub(super) async fn pass_on(api: &Api, node: NodeId, request: Request) -> Handled {
    let target = request.extensions().get::<Target>();
    let target = target.map(|Target(target)| target.to_string());
    relay(api, node, target.unwrap_or_default(), request).await
}

/// A client's request as it is read twice: by whoever looks where it belongs, and there.
pub(super) fn again(call: &Call) -> Result<Request, Refusal> {
    let ApiVersion(major, minor) = call.version;
    let version = format!("/v{major}.{minor}/");
    let target = call.target.as_str();
    let plain = target.strip_prefix(&version).map(|rest| format!("/{rest}"));
    let question = Question::of(call, plain.unwrap_or_else(|| target.to_owned()));
    let mut request = question.request()?;
    *request.headers_mut() = call.headers.clone();
    *request.body_mut() = Body::from(Bytes::clone(&call.body));
    Ok(request)
}
