//! `/_ping`: how each client begins. Tells the API version and whether this node is a manager; waits for nothing.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::headers::decorate_ping;
use super::router::Api;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// `GET /_ping`.
pub(super) async fn get(State(api): State<Api>) -> Response {
    let mut response = ([(header::CONTENT_TYPE, TEXT)], "OK").into_response();
    decorate_ping(response.headers_mut(), &api.backend.local());
    response
}

/// `HEAD /_ping`.
pub(super) async fn head(State(api): State<Api>) -> Response {
    let length = HeaderValue::from_static("0");
    let headers = [
        (header::CONTENT_TYPE, TEXT),
        (header::CONTENT_LENGTH, length),
    ];
    let mut response = headers.into_response();
    decorate_ping(response.headers_mut(), &api.backend.local());
    response
}
