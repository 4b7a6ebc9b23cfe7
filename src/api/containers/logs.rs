//! `GET /containers/{id}/logs`, and how its parameters are read.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt};

use crate::api::backend::Refusal;
use crate::api::backend::containers::Container;
use crate::api::call::{ApiVersion, Call};
use crate::api::error::Handled;
use crate::api::events::time::parse_time;
use crate::api::output::Format;
use crate::api::query::Params;
use crate::api::router::Api;
use crate::model::log::ReadOptions;

/// Since when a client tells one stream from the other by the content type.
pub(in crate::api) const TELLS_APART: ApiVersion = ApiVersion(1, 42);

/// `GET /containers/{id}/logs`.
pub(super) fn logs(
    api: Api,
    container: Container,
    request: Request,
) -> BoxFuture<'static, Handled> {
    Box::pin(async move {
        let call = Call::read(request, String::new()).await?;
        let options = options(&call.params)?;
        let format = Format {
            framed: !container.config.process.tty,
            timestamps: call.params.flag("timestamps"),
            details: call.params.flag("details"),
        };
        let lines = api
            .backend
            .containers()
            .logs(container.config.id, options)
            .await?;
        let bytes = lines.map_ok(move |line| format.line(&line));
        let body = Body::from_stream(bytes.take_until(call.stop.clone().cancelled_owned()));
        let kind = HeaderValue::from_static(format.content_type(call.version >= TELLS_APART));
        Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
    })
}

/// Which lines a client wants.
pub(in crate::api) fn options(params: &Params) -> Result<ReadOptions, Refusal> {
    let (stdout, stderr) = (params.flag("stdout"), params.flag("stderr"));
    if !stdout && !stderr {
        return Err(Refusal::invalid(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    Ok(ReadOptions {
        follow: params.flag("follow"),
        tail: params.text("tail").parse().ok(),
        since: parse_time("since", params.text("since"))?,
        // Clients that always send it mean by a zero that there is no end.
        until: parse_time("until", params.text("until"))?.filter(|until| until.nanos() != 0),
        stdout,
        stderr,
    })
}
