//! Requests on the API socket by hand, for what the docker command does not show.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// No request of the API may take longer, a join included.
const DEADLINE: Duration = Duration::from_secs(30);

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body as text.
    pub(crate) body: String,
}

impl Answer {
    /// The body of a success as JSON, or what was answered instead.
    pub(crate) fn json(&self) -> Result<Value, String> {
        match self.status {
            200..300 => {
                serde_json::from_str(&self.body).map_err(|error| format!("{error} in {self:?}"))
            }
            _ => Err(format!("{self:?}")),
        }
    }

    /// The text of an error as Docker's clients read it.
    #[track_caller]
    pub(crate) fn message(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).expect("an error is JSON");
        body["message"]
            .as_str()
            .expect("an error has a message")
            .to_string()
    }
}

/// Asks the API at `socket`.
pub(crate) fn ask(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Answer, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let answer = runtime.block_on(async {
        tokio::time::timeout(DEADLINE, exchange(socket, method, path, body)).await
    });
    match answer {
        Ok(answer) => answer.map_err(|error| format!("{method} {path}: {error}")),
        Err(_) => Err(format!("{method} {path}: no answer in {DEADLINE:?}")),
    }
}

async fn exchange(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Answer, Box<dyn std::error::Error>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "skein");
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let request = request.body(Full::new(bytes))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        drop(sender);
        Ok::<_, hyper::Error>(Answer {
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    };
    let (_, answer) = tokio::join!(connection, answer);
    Ok(answer?)
}
