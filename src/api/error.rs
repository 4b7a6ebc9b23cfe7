//! Errors as Docker's clients read them: a status and `{"message": …}`.
//!
//! The one place where the classes of [`Refusal`] meet HTTP. Every handler's error passes through here.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::backend::{Refusal, RefusalClass};

/// Docker's clients compare the content type of an error with exactly this.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What every handler returns.
pub(super) type Handled = Result<Response, Refusal>;

impl RefusalClass {
    /// Its HTTP status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Unavailable | Self::NoLeader | Self::Unconfirmed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            message: &'a str,
        }
        tracing::debug!(class = ?self.class, message = %self.message, "request refused");
        json_with(
            self.class.status(),
            &Body {
                message: &self.message,
            },
        )
    }
}

/// 200 with a value as Go's encoder writes it: compact, a newline at the end.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    json_with(StatusCode::OK, value)
}

/// 201 with a value.
pub(super) fn created<T: Serialize>(value: &T) -> Response {
    json_with(StatusCode::CREATED, value)
}

/// 200 without a body, Docker's answer to a change that has nothing to tell.
pub(super) fn done() -> Response {
    StatusCode::OK.into_response()
}

fn json_with<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a response cannot be written as JSON");
            let body = r#"{"message":"the response cannot be written as JSON"}"#;
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
        }
    }
}
