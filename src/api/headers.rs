//! The headers that every response carries, and those of the ping.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::backend::{Local, LocalState};

/// The highest version of the API that is spoken, and what an unversioned path means.
pub const API_VERSION: &str = "1.50";

/// The lowest.
pub const MIN_API_VERSION: &str = "1.24";

/// The version of Docker's engine whose behaviour is answered with. Tools compare it with what they need.
pub const ENGINE_VERSION: &str = "28.2.2";

/// Marks a forwarded request with the node that forwards it.
pub(super) const FORWARDED_BY: HeaderName = HeaderName::from_static("skein-forwarded-by");

/// Marks a refusal that means "I lost my office while I did it": it may or may not have been done.
pub(super) const LEADER_LOST: HeaderName = HeaderName::from_static("skein-leader-lost");

/// Marks a refusal that means "I do not lead": nothing was done, ask the leader.
pub(super) const NOT_LEADER: HeaderName = HeaderName::from_static("skein-not-leader");

/// Adds what Docker's clients read from each response: `Server` is parsed for its parenthesis.
pub(super) fn decorate(headers: &mut HeaderMap) {
    headers.insert("api-version", HeaderValue::from_static(API_VERSION));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(
        header::SERVER,
        HeaderValue::from_static("Docker/28.2.2 (linux)"),
    );
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
}

/// Adds what only the ping carries.
pub(super) fn decorate_ping(headers: &mut HeaderMap, local: &Local) {
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static(swarm_word(local)));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
}

const fn swarm_word(local: &Local) -> &'static str {
    match local.state {
        LocalState::Inactive => "inactive",
        LocalState::Pending => "pending",
        LocalState::Error => "error",
        LocalState::Locked => "locked",
        LocalState::Active if local.control => "active/manager",
        LocalState::Active => "active/worker",
    }
}

/// Whether a header belongs to one connection and is not forwarded.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    const HOP: [&str; 9] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    HOP.contains(&name.as_str())
}
