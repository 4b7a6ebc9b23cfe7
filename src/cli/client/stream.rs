//! Requests that stream: bodies of any length, answers that go on, and conversations.
//!
//! Called by the commands that show logs and events, carry archives, or talk with a container. A connection lives as
//! long as its answer is held.

use std::io;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio_util::io::ReaderStream;

use super::{ANSWER_LIMIT, ASK, Client, ClientError, broken, parsed, refused};

/// The registry's credentials.
pub(in crate::cli) const REGISTRY_AUTH: HeaderName = HeaderName::from_static("x-registry-auth");

/// What answers say that are framed, one frame for each piece of one output.
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// A request to be made.
#[derive(Debug)]
pub(in crate::cli) struct Ask {
    method: Method,
    target: String,
    headers: Vec<(HeaderName, String)>,
    body: UnsyncBoxBody<Bytes, io::Error>,
    within: Option<Duration>,
}

impl Ask {
    /// A request without a body. Its answer must begin within [`ASK`].
    pub(in crate::cli) fn new(method: Method, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            headers: Vec::new(),
            body: UnsyncBoxBody::new(Empty::new().map_err(|never| match never {})),
            within: Some(ASK),
        }
    }

    /// `GET`.
    pub(in crate::cli) fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target)
    }

    /// `POST`.
    pub(in crate::cli) fn post(target: impl Into<String>) -> Self {
        Self::new(Method::POST, target)
    }

    /// With JSON as its body.
    pub(in crate::cli) fn json(mut self, body: &Value) -> Self {
        let body = Full::new(Bytes::from(body.to_string()));
        self.body = UnsyncBoxBody::new(body.map_err(|never| match never {}));
        self.header(header::CONTENT_TYPE, "application/json")
    }

    /// With an archive as its body, read while it is sent.
    pub(in crate::cli) fn archive(mut self, body: impl AsyncRead + Send + 'static) -> Self {
        let pieces = ReaderStream::new(body).map_ok(Frame::data);
        self.body = UnsyncBoxBody::new(StreamBody::new(pieces));
        self.header(header::CONTENT_TYPE, "application/x-tar")
    }

    /// With a header.
    pub(in crate::cli) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Whose answer may take as long as the work does: a pull, a stop with a long grace period.
    pub(in crate::cli) fn patiently(mut self) -> Self {
        self.within = None;
        self
    }

    fn into_request(self) -> Result<Request<UnsyncBoxBody<Bytes, io::Error>>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.target)
            .header(header::HOST, "skein");
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(self.body)
    }
}

/// An answer, as it comes.
#[derive(Debug)]
pub(in crate::cli) struct Reply {
    response: Response<Incoming>,
}

impl Reply {
    /// The next piece, and `None` at the end.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.response.body_mut().frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// All of it, as JSON.
    pub(in crate::cli) async fn value(self) -> Result<Value, ClientError> {
        let body = Limited::new(self.response.into_body(), ANSWER_LIMIT);
        let body = body.collect().await.map_err(ClientError::Broken)?;
        parsed(&body.to_bytes())
    }

    /// Its headers.
    pub(in crate::cli) fn headers(&self) -> &HeaderMap<HeaderValue> {
        self.response.headers()
    }

    /// Its status.
    pub(in crate::cli) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Whether its outputs come in frames rather than as they are.
    pub(in crate::cli) fn is_framed(&self) -> bool {
        self.headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == MULTIPLEXED)
    }
}

/// A conversation with a container.
#[derive(Debug)]
pub(in crate::cli) struct Conversation {
    pub(in crate::cli) io: TokioIo<Upgraded>,
}

impl Client {
    /// Makes a request and gives its answer as soon as it begins. A refusal is an error.
    pub(in crate::cli) async fn open(&self, ask: Ask) -> Result<Reply, ClientError> {
        let within = ask.within;
        let begun = self.begin(ask);
        let response = match within {
            None => begun.await?,
            Some(within) => match tokio::time::timeout(within, begun).await {
                Ok(response) => response?,
                Err(_elapsed) => return Err(ClientError::TooSlow(within)),
            },
        };
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect();
            let body = body.await.map_err(ClientError::Broken)?.to_bytes();
            return Err(refused(status.as_u16(), &body));
        }
        Ok(Reply { response })
    }

    /// Begins a conversation: the connection belongs to both sides from the answer on.
    pub(in crate::cli) async fn converse(&self, ask: Ask) -> Result<Conversation, ClientError> {
        let ask = ask
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "tcp");
        let reply = self.open(ask).await?;
        let status = reply.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let message = format!("the daemon began no conversation, but answered {status}");
            let status = status.as_u16();
            return Err(ClientError::Refused { status, message });
        }
        let upgraded = hyper::upgrade::on(reply.response).await.map_err(broken)?;
        Ok(Conversation {
            io: TokioIo::new(upgraded),
        })
    }

    async fn begin(&self, ask: Ask) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(self.path())
            .await
            .map_err(|error| self.not_connected(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // What goes wrong with it is told by whoever reads the answer.
        self.connections.spawn(connection.with_upgrades());
        let request = ask.into_request().map_err(broken)?;
        sender.send_request(request).await.map_err(broken)
    }
}
