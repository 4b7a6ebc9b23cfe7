//! A server on a socket of its own, and requests written by hand so that every byte of the answer is seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{Backend, cluster_router, router, serve, socket};

/// No answer of a test takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The API of one node.
pub(crate) struct Served {
    dir: TempDir,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Served {
    /// Serves `backend`.
    pub(crate) fn start(backend: Arc<dyn Backend>) -> Self {
        Self::of(router(backend))
    }

    /// Serves `backend` as the whole cluster.
    pub(crate) fn whole(backend: Arc<dyn Backend>) -> Self {
        Self::of(cluster_router(backend))
    }

    fn of(router: axum::Router) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skein.sock");
        let (listener, _) = socket::bind(&path, &socket::GROUP).unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(serve(listener, router, tasks.clone(), stop.clone()));
        Self { dir, stop, tasks }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("skein.sock")
    }

    pub(crate) async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.unwrap()
    }

    /// Sends a request without a body.
    pub(crate) async fn ask(&self, method: &str, target: &str) -> Answer {
        self.send(&format!(
            "{method} {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target).await
    }

    /// Sends a JSON body.
    pub(crate) async fn post(&self, target: &str, body: &Value) -> Answer {
        self.post_as(target, "application/json", &body.to_string())
            .await
    }

    /// Sends a body of any type.
    pub(crate) async fn post_as(&self, target: &str, kind: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(&format!(
            "POST {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    /// Sends these bytes and reads until the server closes.
    pub(crate) async fn send(&self, request: &str) -> Answer {
        let exchange = async {
            let mut stream = self.connect().await;
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            Answer::parse(&bytes)
        };
        tokio::time::timeout(DEADLINE, exchange)
            .await
            .expect("an answer in time")
    }
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no head in {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers: BTreeMap<String, String> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.into()))
            .collect();
        let chunked = headers
            .get("transfer-encoding")
            .is_some_and(|coding| coding == "chunked");
        Self {
            status: status.parse().unwrap(),
            body: if chunked { unchunk(body) } else { body.into() },
            headers,
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that this is an error as Docker's clients read it, with these words.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        let body = self.json();
        let message = body["message"].as_str().expect("a message");
        assert!(message.contains(words), "{message:?} is not {words:?}");
        assert_eq!(body.as_object().unwrap().len(), 1);
        assert!(self.body.ends_with("}\n"), "{:?}", self.body);
    }

    /// Checks that this is a success without a body.
    #[track_caller]
    pub(crate) fn done(&self) {
        assert_eq!((self.status, self.body.as_str()), (200, ""), "{self:?}");
    }
}

/// The content of a chunked body, as far as it came.
pub(crate) fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        out.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    out
}

/// Waits for a condition that other tasks bring about.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, wait).await;
    assert!(waited.is_ok(), "{what}: not within {DEADLINE:?}");
}
