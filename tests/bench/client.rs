//! Requests to a daemon over a connection that stays open, for figures in which a new one would count.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::http::Answer;

/// One connection, made when it is needed and again when it broke.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    line: Option<Line>,
}

#[derive(Debug)]
struct Line {
    sender: SendRequest<Full<Bytes>>,
    /// Moves the bytes; ends with the line.
    _driver: JoinSet<()>,
}

impl Client {
    /// A client of the daemon at `socket`.
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.into(),
            line: None,
        }
    }

    /// Sends a request and reads the whole answer. Waits as long as the daemon makes it.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let line = match self.line.take() {
            Some(line) if line.sender.is_ready() => line,
            _ => connect(&self.socket).await?,
        };
        let line = self.line.insert(line);
        let answer = exchange(&mut line.sender, method, path, body).await;
        if answer.is_err() {
            self.line = None;
        }
        answer.map_err(|error| format!("{method} {path}: {error}"))
    }

    /// The JSON at a path.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Value, String> {
        self.ask("GET", path, None).await?.json()
    }

    /// Gives a node a label, by what is known of it at this moment.
    pub(crate) async fn label(&mut self, node: &str, label: &str) -> Result<(), String> {
        let known = self.get(&format!("/nodes/{node}")).await?;
        let version = known["Version"]["Index"].as_u64().unwrap_or_default();
        let mut spec = known["Spec"].clone();
        spec["Labels"][label] = "done".into();
        let path = format!("/nodes/{node}/update?version={version}");
        self.ask("POST", &path, Some(&spec)).await?.content()
    }
}

impl Answer {
    /// Whether the request was taken, or what was said instead.
    pub(crate) fn content(&self) -> Result<(), String> {
        match self.status {
            200..300 => Ok(()),
            status => Err(format!("{status} {}", self.body.trim())),
        }
    }
}

async fn connect(socket: &Path) -> Result<Line, String> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|error| format!("{}: {error}", socket.display()))?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // A broken connection shows in the request that was on it.
        let _ = connection.await;
    });
    Ok(Line {
        sender,
        _driver: driver,
    })
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "skein");
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let response = sender.send_request(request.body(Full::new(bytes))?).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
