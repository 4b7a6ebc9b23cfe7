//! Brings what concerns the cluster before the leader, wherever it is, and asks again while it moves.
//!
//! A handler is a function of the leader and the request; this file decides where it runs. A request that was
//! forwarded once is never forwarded again: the node that gets it leads, or says so and has done nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Limited};
use tokio::sync::watch;
use tokio::time::Instant;

use super::backend::{Backend, Leader, Refusal, RefusalClass, Route};
use super::call::Call;
use super::error::{Handled, done};
use super::forward::{Forwarded, forward};
use super::headers::{LEADER_LOST, NOT_LEADER};
use super::words;
use crate::model::NodeId;

/// How long a request follows a moving leader, beyond what each attempt takes.
const FOLLOW_FOR: Duration = Duration::from_secs(5);

/// Between two attempts, so that a node which is wrong about the leader is not asked in a tight loop.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest response that is read to be judged; refusals are short.
const JUDGED: usize = 64 << 10;

/// Said when a change was asked of a leader that went away before it answered.
const UNCERTAIN: &str = "the leader was lost while it made this change, which may or may not have been made; look \
     before you try again";

/// What is done at the leader.
pub(super) type Operation =
    for<'a> fn(&'a dyn Leader, &'a Call) -> BoxFuture<'a, Result<Response, Refusal>>;

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client of this node's socket.
    Local,
    /// A client of this node's socket for the whole cluster.
    Cluster,
    /// Another node, which took this one for the leader.
    Forwarded,
}

/// Runs `operation` at the leader. Refuses on nodes that do not answer for the cluster.
pub(super) async fn at_leader(
    backend: &Arc<dyn Backend>,
    origin: Origin,
    call: &Call,
    operation: Operation,
) -> Handled {
    if let Some(refusal) = words::refuse_cluster_command(&backend.local()) {
        return Err(refusal);
    }
    if origin == Origin::Forwarded {
        return here_or_nowhere(backend, call, operation).await;
    }
    let mut hint = backend.leader_hint();
    let started = Instant::now();
    let mut uncertain = false;
    loop {
        let why = match backend.leader().await? {
            Route::Here(leader) => match operation(leader.as_ref(), call).await {
                Err(refusal) if refusal.class == RefusalClass::NoLeader => refusal,
                Err(refusal) if refusal.class == RefusalClass::Unconfirmed => {
                    uncertain |= !call.is_read();
                    refusal
                }
                other => return settle(other, uncertain, &call.method).await,
            },
            Route::There(node, io) => {
                hint.mark_unchanged();
                let deposed = deposed(&mut hint, node);
                match forward(io, backend.local().node, call, deposed).await {
                    Forwarded::Answer(response) => {
                        return settle(Ok(response), uncertain, &call.method).await;
                    }
                    Forwarded::NotLeader => Refusal::no_leader(),
                    Forwarded::Lost(why) => {
                        tracing::debug!(%node, %why, "a forwarded request was lost");
                        uncertain |= !call.is_read();
                        Refusal::no_leader()
                    }
                }
            }
        };
        if started.elapsed() >= FOLLOW_FOR {
            return Err(if uncertain {
                Refusal::unavailable(UNCERTAIN)
            } else {
                why
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn here_or_nowhere(backend: &Arc<dyn Backend>, call: &Call, operation: Operation) -> Handled {
    let hinted = *backend.leader_hint().borrow();
    if (hinted.is_none() || hinted == backend.local().node)
        && let Ok(Route::Here(leader)) = backend.leader().await
    {
        return match operation(leader.as_ref(), call).await {
            Err(refusal) if refusal.class == RefusalClass::NoLeader => {
                Ok(marked(refusal, NOT_LEADER))
            }
            Err(refusal) if refusal.class == RefusalClass::Unconfirmed => {
                Ok(marked(refusal, LEADER_LOST))
            }
            other => other,
        };
    }
    Ok(marked(Refusal::no_leader(), NOT_LEADER))
}

fn marked(refusal: Refusal, mark: HeaderName) -> Response {
    let mut response = refusal.into_response();
    let headers = response.headers_mut();
    headers.insert(mark, HeaderValue::from_static("1"));
    response
}

/// Comes true when the node learns that somebody else than `node` leads.
async fn deposed(hint: &mut watch::Receiver<Option<NodeId>>, node: NodeId) {
    while hint.changed().await.is_ok() {
        if hint
            .borrow_and_update()
            .is_some_and(|leader| leader != node)
        {
            return;
        }
    }
    std::future::pending().await
}

/// The answer to give when an earlier attempt may have done the work already: a removed object is not missing, and
/// a changed one not out of sequence, because of us.
async fn settle(answer: Handled, uncertain: bool, method: &Method) -> Handled {
    if !uncertain {
        return answer;
    }
    let response = answer.unwrap_or_else(IntoResponse::into_response);
    if *method == Method::DELETE && response.status() == StatusCode::NOT_FOUND {
        return Ok(done());
    }
    if response.status() == StatusCode::CONFLICT {
        // What stands in the way of a creation may be what the first attempt has made.
        return Err(Refusal::unavailable(UNCERTAIN));
    }
    if response.status() != StatusCode::INTERNAL_SERVER_ERROR {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    match Limited::new(body, JUDGED).collect().await {
        Ok(body) => {
            let bytes = body.to_bytes();
            if String::from_utf8_lossy(&bytes).contains("update out of sequence") {
                return Err(Refusal::unavailable(UNCERTAIN));
            }
            Ok(Response::from_parts(parts, bytes.into()))
        }
        Err(_broken) => Err(Refusal::unavailable(UNCERTAIN)),
    }
}
