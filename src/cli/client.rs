//! The daemon's client: one HTTP request over the unix socket at a time, with a deadline.
//!
//! What streams, in or out, and conversations are in [`stream`].

pub(super) mod frames;
pub(super) mod stream;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

/// How long a question may take; the daemon itself gives up on the leader after less.
pub(super) const ASK: Duration = Duration::from_secs(30);

/// How long a change of the cluster's life may take: joining alone may take 20 s.
pub(super) const CHANGE: Duration = Duration::from_secs(60);

/// Longest answer that is read: thousands of nodes.
const ANSWER_LIMIT: usize = 64 << 20;

/// Why there is no answer, in words for the user.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// No socket, or nobody at it.
    #[error(
        "no daemon answers at {}: start it with `sudo skein init`, `sudo skein join`, or `sudo systemctl start skein`",
        .0.display()
    )]
    NoDaemon(PathBuf),
    /// The socket's mode.
    #[error("no permission to use {}: run it with sudo, or be a member of the group {group}", .path.display())]
    Denied {
        /// Which socket.
        path: PathBuf,
        /// Whose it is.
        group: String,
    },
    /// Another reason not to connect.
    #[error("{} cannot be connected to", .path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The daemon said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The daemon's words.
        message: String,
    },
    /// The connection broke.
    #[error("the daemon's answer broke off; look at its log")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing came.
    #[error("the daemon did not answer within {} s; look at its log", .0.as_secs())]
    TooSlow(Duration),
    /// Something else came.
    #[error("the daemon's answer is not understood; is it another version?")]
    Nonsense(#[source] serde_json::Error),
}

/// Asks the daemon at one socket.
#[derive(Clone, Debug)]
pub(super) struct Client {
    path: PathBuf,
    /// Drives the connections of streams, each until its stream is let go.
    connections: TaskTracker,
}

impl Client {
    /// A client of the socket at `path`; nothing is connected yet.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            connections: TaskTracker::new(),
        }
    }

    /// The socket.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `GET`, as JSON.
    pub(super) async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        let text = self.get_text(target).await?;
        serde_json::from_slice(&text).map_err(ClientError::Nonsense)
    }

    /// `GET`, as it comes.
    pub(super) async fn get_text(&self, target: &str) -> Result<Bytes, ClientError> {
        self.ask(Method::GET, target, None, ASK).await
    }

    /// `POST` with a JSON body.
    pub(super) async fn post(
        &self,
        target: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, ClientError> {
        self.ask(Method::POST, target, body, CHANGE).await
    }

    /// `POST` with a JSON body, for an answer in JSON.
    pub(super) async fn tell(
        &self,
        target: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        parsed(&self.post(target, body).await?)
    }

    /// `GET`, as JSON; `None` when there is no such thing.
    pub(super) async fn find(&self, target: &str) -> Result<Option<Value>, ClientError> {
        match self.get(target).await {
            Ok(found) => Ok(Some(found)),
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `DELETE`.
    pub(super) async fn delete(&self, target: &str) -> Result<Bytes, ClientError> {
        self.ask(Method::DELETE, target, None, ASK).await
    }

    /// Whether a daemon answers within `deadline`.
    pub(super) async fn answers(&self, deadline: Duration) -> Result<(), ClientError> {
        self.ask(Method::GET, "/_ping", None, deadline).await?;
        Ok(())
    }

    async fn ask(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Bytes, ClientError> {
        let exchange = self.exchange(method, target, body);
        match tokio::time::timeout(deadline, exchange).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(ClientError::TooSlow(deadline)),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|error| self.not_connected(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let request = request(method, target, body).map_err(broken)?;
        let answer = async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT)
                .collect()
                .await
                .map_err(ClientError::Broken)?
                .to_bytes();
            match status.is_success() {
                true => Ok(body),
                false => Err(refused(status.as_u16(), &body)),
            }
        };
        let (_closed, answer) = tokio::join!(connection, answer);
        answer
    }

    fn not_connected(&self, error: io::Error) -> ClientError {
        let path = self.path.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon(path)
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied {
                group: group_of(&path),
                path,
            },
            _ => ClientError::Connect {
                path,
                source: error,
            },
        }
    }
}

/// The group that may use a socket; the usual one when that is root's alone.
fn group_of(path: &Path) -> String {
    let group = std::fs::metadata(path).map_or(0, |meta| meta.gid());
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(group) && group != 0).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| {
        "skein, after the daemon is started again with that group on the machine".into()
    })
}

/// An answer in JSON; no answer is `null`.
pub(super) fn parsed(body: &[u8]) -> Result<Value, ClientError> {
    match body.trim_ascii() {
        b"" => Ok(Value::Null),
        body => serde_json::from_slice(body).map_err(ClientError::Nonsense),
    }
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    ClientError::Broken(Box::new(error))
}

fn request(
    method: Method,
    target: &str,
    body: Option<&Value>,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "skein")
        .header(header::CONNECTION, "close");
    match body {
        None => request.body(Full::default()),
        Some(body) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.to_string().into())),
    }
}

fn refused(status: u16, body: &[u8]) -> ClientError {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let message = parsed
        .as_ref()
        .and_then(|body| body["message"].as_str())
        .map_or_else(
            || format!("the daemon answered with status {status}"),
            Into::into,
        );
    ClientError::Refused { status, message }
}

/// `text` for a path or query: everything but unreserved characters is percent-encoded.
pub(super) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_encoded() {
        assert_eq!(encode("node-1.x"), "node-1.x");
        assert_eq!(encode("a b/ü?"), "a%20b%2F%C3%BC%3F");
    }

    #[tokio::test]
    async fn nobody_at_the_socket_says_how_to_start() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(&dir.path().join("none.sock"));
        let error = client.get_text("/info").await.unwrap_err();
        assert!(error.to_string().contains("sudo skein init"), "{error}");
        let path = dir.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = Client::new(&path).get_text("/info").await.unwrap_err();
        assert!(matches!(error, ClientError::NoDaemon(_)), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_hangs_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hung.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = Client::new(&path).get_text("/info").await.unwrap_err();
        assert!(matches!(error, ClientError::TooSlow(ASK)), "{error}");
    }
}
