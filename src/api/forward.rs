//! Carries a request to the node that leads, and its response back.
//!
//! One HTTP/1.1 exchange on a stream that the transport opened. Decides when an answer is given up; whether to ask
//! again is `lead`'s decision. The connection is driven by whoever polls the response, so nothing is spawned and
//! nothing outlives the request.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Uri, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::backend::Io;
use super::call::Call;
use super::headers::{FORWARDED_BY, LEADER_LOST, NOT_LEADER, is_hop_by_hop};
use crate::model::NodeId;

/// How long the leader may take until its response begins: its own work takes at most 10 s.
pub(super) const HEADERS_DEADLINE: Duration = Duration::from_secs(12);

/// What became of a forwarded request.
#[derive(Debug)]
pub(super) enum Forwarded {
    /// The leader's response; its body may still be on its way.
    Answer(Response),
    /// The node does not lead and has done nothing.
    NotLeader,
    /// No response; the request may or may not have been carried out.
    Lost(String),
}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Sends `call` over `io` for the node `by`. Gives up after [`HEADERS_DEADLINE`], or when `deposed` comes true
/// before the response begins.
pub(super) async fn forward(
    io: Box<dyn Io>,
    by: Option<NodeId>,
    call: &Call,
    deposed: impl Future<Output = ()>,
) -> Forwarded {
    let deadline = tokio::time::sleep(HEADERS_DEADLINE);
    let given_up = async {
        tokio::select! {
            () = deposed => "another node leads".to_owned(),
            () = deadline => format!("no answer within {} s", HEADERS_DEADLINE.as_secs()),
        }
    };
    exchange(io, request(call, by), given_up).await
}

/// One request and its response. Gives up when `given_up` says why before the response begins.
pub(super) async fn exchange(
    io: Box<dyn Io>,
    request: Request<Body>,
    given_up: impl Future<Output = String>,
) -> Forwarded {
    let (mut sender, connection) = match http1::handshake(TokioIo::new(io)).await {
        Ok(pair) => pair,
        Err(error) => return Forwarded::Lost(error.to_string()),
    };
    let mut driver: Option<Driver> = Some(Box::pin(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a forwarding connection ended");
        }
    }));
    let response = sender.send_request(request);
    let answer = {
        let mut response = pin!(response);
        let mut given_up = pin!(given_up);
        loop {
            let driven = async {
                match driver.as_mut() {
                    Some(driver) => driver.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = &mut response => break answer.map_err(|error| error.to_string()),
                () = driven => driver = None,
                why = &mut given_up => break Err(why),
            }
        }
    };
    match answer {
        Err(why) => Forwarded::Lost(why),
        Ok(response) if response.headers().contains_key(NOT_LEADER) => Forwarded::NotLeader,
        Ok(response) if response.headers().contains_key(LEADER_LOST) => {
            Forwarded::Lost("its term ended".into())
        }
        Ok(response) => {
            let (mut parts, body) = response.into_parts();
            let hop: Vec<_> = parts
                .headers
                .keys()
                .filter(|name| is_hop_by_hop(name))
                .cloned()
                .collect();
            for name in hop {
                parts.headers.remove(name);
            }
            let body = DrivenBody {
                body,
                driver,
                _sender: sender,
            };
            Forwarded::Answer(Response::from_parts(parts, Body::new(body)))
        }
    }
}

fn request(call: &Call, by: Option<NodeId>) -> Request<Body> {
    let mut request = Request::new(Body::from(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = Uri::from(call.target.clone());
    *request.headers_mut() = for_node(&call.headers, by);
    request
}

/// The headers of a client's request as another node is to see them.
pub(super) fn for_node(given: &HeaderMap, by: Option<NodeId>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        if !is_hop_by_hop(name) && name != header::HOST && name != header::CONTENT_LENGTH {
            headers.append(name, value.clone());
        }
    }
    headers.insert(header::HOST, HeaderValue::from_static("skein"));
    let by = by.map(|node| node.to_string()).unwrap_or_default();
    if let Ok(by) = HeaderValue::from_str(&by) {
        headers.insert(FORWARDED_BY, by);
    }
    headers
}

/// A response body that drives its own connection.
struct DrivenBody {
    body: Incoming,
    driver: Option<Driver>,
    _sender: SendRequest<Body>,
}

impl HttpBody for DrivenBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(driver) = self.driver.as_mut()
            && driver.as_mut().poll(cx).is_ready()
        {
            self.driver = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
