//! What Docker's API has no place for: `GET /skein/status`, `POST /skein/recover` and `POST /skein/rebalance`.

use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::backend::{Leader, LocalState, PlannedMove, Refusal};
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

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rebalanced {
    moves: Vec<MoveDto>,
    /// There are more.
    more: bool,
    /// Nothing was begun.
    dry_run: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MoveDto {
    #[serde(rename = "ServiceID")]
    service_id: String,
    service: String,
    slot: String,
    #[serde(rename = "TaskID")]
    task_id: String,
    from: PlaceDto,
    to: PlaceDto,
    reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PlaceDto {
    #[serde(rename = "NodeID")]
    node_id: String,
    hostname: String,
}

impl From<PlannedMove> for MoveDto {
    fn from(planned: PlannedMove) -> Self {
        let place = |(node, hostname): (crate::model::NodeId, String)| PlaceDto {
            node_id: node.to_string(),
            hostname,
        };
        Self {
            service_id: planned.service.to_string(),
            service: planned.name,
            slot: planned.slot,
            task_id: planned.task.to_string(),
            from: place(planned.from),
            to: place(planned.to),
            reason: planned.why,
        }
    }
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

/// `POST /skein/rebalance`: each service is spread evenly, once. With `dryRun` only what would be moved is told.
pub(super) fn rebalance<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let dry_run = call.params.strict_flag("dryRun")?;
        let even = leader.rebalance(dry_run).await?;
        Ok(json(&Rebalanced {
            moves: even.moves.into_iter().map(MoveDto::from).collect(),
            more: even.more,
            dry_run,
        }))
    })
}
