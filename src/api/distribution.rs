//! `GET /distribution/{name}/json`: what the name of an image stands for. Each node answers for itself.
//!
//! Docker's client asks before it creates or updates a service, and names the image by its digest from then on, so that
//! all tasks are of one image whatever becomes of its tag.

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Serialize;

use super::backend::{Distribution, ImagePlatform, Refusal};
use super::call::Call;
use super::error::{Handled, json};
use super::router::Api;

/// The client's credentials for the registry.
const AUTH: &str = "x-registry-auth";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    descriptor: Descriptor,
    platforms: Vec<ImagePlatform>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

/// `GET /distribution/{name}/json`.
pub(super) async fn inspect(
    State(api): State<Api>,
    path: axum::extract::Path<String>,
    request: Request,
) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let Some(image) = path.strip_suffix("/json").filter(|image| !image.is_empty()) else {
        return Err(Refusal::not_found("page not found"));
    };
    let auth = call.headers.get(AUTH).map(|value| value.to_str());
    let auth = auth.unwrap_or(Ok("")).map_err(|_not_text| {
        Refusal::invalid("the credentials in X-Registry-Auth are not base64 text")
    })?;
    let found = api.backend.distribution(image, auth).await?;
    Ok(shown(found))
}

fn shown(found: Distribution) -> Response {
    json(&Inspected {
        descriptor: Descriptor {
            media_type: found.media_type,
            digest: found.digest,
            size: found.size,
        },
        platforms: found.platforms,
    })
}
