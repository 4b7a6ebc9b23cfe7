//! One request, read completely and within limits, before anything is decided about it.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::backend::Refusal;
use super::go_json;
use super::query::Params;

/// Longest request body that is read into memory: a spec is at most a few MiB.
pub(super) const BODY_LIMIT: usize = 8 << 20;

/// How long a body may take to arrive.
pub(super) const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// The API version of a request, as the router found it in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion(pub(super) u32, pub(super) u32);

/// The path and query as they arrived, version included; what is forwarded.
#[derive(Clone, Debug)]
pub(super) struct Target(pub(super) PathAndQuery);

/// Cancelled when the server stops; streams without an end end then.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(pub(super) CancellationToken);

/// Where work goes on that must not end with the client's connection.
#[derive(Clone, Debug)]
pub(super) struct Workers(pub(super) TaskTracker);

/// Why a request's body cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// Docker's words, with the header as it came.
    #[error("unsupported Content-Type header ({0}): must be 'application/json'")]
    ContentType(String),
    /// More than [`BODY_LIMIT`].
    #[error("the request body is longer than {} MiB", BODY_LIMIT >> 20)]
    TooLong,
    /// Not there after [`BODY_DEADLINE`].
    #[error("the request body did not arrive within {} s", BODY_DEADLINE.as_secs())]
    TooSlow,
    /// The client went away, or its framing is broken.
    #[error("the request body cannot be read")]
    Broken(#[source] axum::Error),
    /// Not JSON, or not of the type that the request takes.
    #[error("invalid JSON: {0}")]
    Json(String),
    /// A JSON value, and more. Docker's words.
    #[error("unexpected content after JSON")]
    Trailing,
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// A request in full.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) version: ApiVersion,
    pub(super) headers: HeaderMap,
    pub(super) params: Params,
    /// The object in the path, decoded; empty when the path names none.
    pub(super) id: String,
    pub(super) body: Bytes,
    pub(super) stop: CancellationToken,
    workers: Option<TaskTracker>,
}

impl Call {
    /// Reads a request that the router has marked with its version and target.
    pub(super) async fn read(request: Request, id: String) -> Result<Self, Refusal> {
        let (call, body) = Self::open(request, id)?;
        Ok(Self {
            body: read_body(body).await?,
            ..call
        })
    }

    /// The request without its body, which is for the handler to read.
    pub(super) fn open(request: Request, id: String) -> Result<(Self, Body), Refusal> {
        let (parts, body) = request.into_parts();
        let params = Params::of(&parts.uri)?;
        let target = match parts.extensions.get::<Target>() {
            Some(Target(target)) => target.clone(),
            None => PathAndQuery::from_static("/"),
        };
        let stop = parts.extensions.get::<Stop>().cloned().unwrap_or_default();
        let workers = parts.extensions.get::<Workers>().cloned();
        let call = Self {
            version: parts.extensions.get().copied().unwrap_or(ApiVersion(1, 50)),
            method: parts.method,
            headers: parts.headers,
            target,
            params,
            id,
            body: Bytes::new(),
            stop: stop.0,
            workers: workers.map(|workers| workers.0),
        };
        Ok((call, body))
    }

    /// A request that this node makes of the leader for its own needs.
    pub(super) fn internal(target: &'static str) -> Self {
        Self {
            method: Method::GET,
            target: PathAndQuery::from_static(target),
            version: ApiVersion(1, 50),
            headers: HeaderMap::new(),
            params: Params::default(),
            id: String::new(),
            body: Bytes::new(),
            stop: CancellationToken::new(),
            workers: None,
        }
    }

    /// Points an internal request elsewhere.
    pub(super) fn set_target(&mut self, target: PathAndQuery) {
        let query = target.query().unwrap_or_default();
        self.params = Params::parse(query);
        self.target = target;
    }

    /// Carries `work` through to its end even when the client goes away meanwhile: a node that has begun to join or to
    /// leave must not stop half-way.
    pub(super) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let Some(workers) = &self.workers else {
            return work.await;
        };
        match workers.spawn(work).await {
            Ok(done) => done,
            Err(_stopped) => Err(Refusal::internal("the daemon stopped in the midst of this")),
        }
    }

    /// Starts `work` that goes on however slowly the client reads, and ends when the handle is dropped.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        let workers = self.workers.clone().unwrap_or_default();
        AbortOnDropHandle::new(workers.spawn(work))
    }

    /// A header; empty when it is missing or no text.
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    /// Whether it changes nothing, so that it may be asked twice.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// The body as a value by Go's rules; an empty one is the default.
    pub(super) fn json<T: DeserializeOwned + Default>(&self) -> Result<T, BodyError> {
        let kind = self.headers.get(header::CONTENT_TYPE);
        let kind = kind.map(|value| String::from_utf8_lossy(value.as_bytes()));
        match kind.as_deref() {
            None | Some("") if self.body.is_empty() => return Ok(T::default()),
            Some(kind) if is_json(kind) => {}
            other => return Err(BodyError::ContentType(other.unwrap_or("").into())),
        }
        if self.body.is_empty() {
            return Ok(T::default());
        }
        parse(&self.body)
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

async fn read_body(body: Body) -> Result<Bytes, BodyError> {
    let collected = Limited::new(body, BODY_LIMIT).collect();
    match tokio::time::timeout(BODY_DEADLINE, collected).await {
        Err(_elapsed) => Err(BodyError::TooSlow),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLong),
        Ok(Err(error)) => Err(BodyError::Broken(axum::Error::new(error))),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde::Deserialize::deserialize(&mut reader)
        .map_err(|error| BodyError::Json(error.to_string()))?;
    reader.end().map_err(|_more| BodyError::Trailing)?;
    go_json::from_value(value).map_err(|error| BodyError::Json(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Key {
        unlock_key: String,
    }

    fn call(content_type: Option<&str>, body: &str) -> Call {
        let mut call = Call::internal("/");
        if let Some(kind) = content_type {
            call.headers
                .insert(header::CONTENT_TYPE, kind.parse().unwrap());
        }
        call.body = Bytes::copy_from_slice(body.as_bytes());
        call
    }

    #[test]
    fn the_content_type_must_be_json_unless_nothing_comes() {
        let body = r#"{"unlockkey":"k"}"#;
        for kind in ["application/json", "Application/JSON; charset=utf-8"] {
            let key: Key = call(Some(kind), body).json().unwrap();
            assert_eq!(key.unlock_key, "k");
        }
        assert_eq!(call(None, "").json::<Key>().unwrap(), Key::default());
        for (kind, body) in [
            (None, body),
            (Some("text/plain"), body),
            (Some("text/plain"), ""),
        ] {
            let error = call(kind, body).json::<Key>().unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("unsupported Content-Type header ("),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for (body, words) in [
            ("{", "invalid JSON: "),
            ("{} {}", "unexpected content after JSON"),
            ("{}x", "unexpected content after JSON"),
            ("[]", "invalid JSON: "),
            (r#"{"UnlockKey":7}"#, "invalid JSON: UnlockKey: "),
            ("\u{0}", "invalid JSON: "),
        ] {
            let error = call(Some("application/json"), body)
                .json::<Key>()
                .unwrap_err();
            assert!(error.to_string().starts_with(words), "{body}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(call(Some("application/json"), &deep).json::<Key>().is_err());
    }

    #[tokio::test]
    async fn a_long_body_is_refused_before_it_is_all_here() {
        let body = Body::from(vec![b' '; BODY_LIMIT + 1]);
        assert!(matches!(read_body(body).await, Err(BodyError::TooLong)));
        let body = Body::from(vec![b' '; BODY_LIMIT]);
        assert_eq!(read_body(body).await.unwrap().len(), BODY_LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_given_up() {
        let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let error = read_body(Body::from_stream(never)).await.unwrap_err();
        assert!(matches!(error, BodyError::TooSlow));
    }

    proptest! {
        #[test]
        fn no_body_panics(body: String, kind in "[ -~]{0,24}") {
            let _ = call(Some(&kind), &body).json::<Key>();
            let _ = call(Some("application/json"), &body).json::<Key>();
        }
    }
}
