//! What Docker's API has no place for: `GET /skein/status` and `POST /skein/recover`.

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Serialize;

use super::backend::{LocalState, Refusal};
use super::call::Call;
use super::dto::status::StatusDto;
use super::error::{Handled, json};
use super::router::Api;
use super::words;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Recovered {
    message: String,
}

/// `GET /skein/status`: answered from what this node knows, with or without a leader.
pub(super) async fn status(State(api): State<Api>) -> Response {
    json(&StatusDto::of(api.backend.local(), api.backend.status()))
}

/// `POST /skein/recover`: this node's replica becomes the cluster.
pub(super) async fn recover(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let local = api.backend.local();
    match local.state {
        LocalState::Inactive => return Err(Refusal::unavailable(words::NOT_A_MEMBER)),
        LocalState::Locked => return Err(Refusal::unavailable(words::LOCKED)),
        LocalState::Pending | LocalState::Active | LocalState::Error => {}
    }
    let message = call
        .to_the_end(async move { api.backend.recover().await })
        .await?;
    Ok(json(&Recovered { message }))
}
