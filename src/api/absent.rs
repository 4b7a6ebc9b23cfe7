//! Resources of kinds that there are none of: plugins.

use axum::response::Response;

use super::error::json;

/// `GET /plugins`.
pub(super) async fn plugins() -> Response {
    json::<[(); 0]>(&[])
}
