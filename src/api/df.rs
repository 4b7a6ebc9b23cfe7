//! `GET /system/df`: what images, containers and volumes take of this machine's disks.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use serde::Serialize;

use super::backend::Refusal;
use super::call::Call;
use super::dto::container::SummaryDto;
use super::dto::image::{ImageSummary, bytes};
use super::dto::volume::VolumeDto;
use super::error::{Handled, json};
use super::images::{in_use, shared_sizes};
use super::router::Api;

/// What may be asked for, by its name.
const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// `SystemDataUsageResponse`.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    layers_size: i64,
    images: Vec<ImageSummary>,
    containers: Vec<SummaryDto>,
    volumes: Vec<VolumeDto>,
    build_cache: [(); 0],
    builder_size: i64,
}

/// `GET /system/df`.
pub(super) async fn show(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let kinds: Vec<&str> = call.params.all("type").collect();
    if let Some(unknown) = kinds.iter().find(|kind| !KINDS.contains(kind)) {
        return Err(Refusal::invalid(format!("unknown object type: {unknown}")));
    }
    let wanted = |kind: &str| kinds.is_empty() || kinds.contains(&kind);
    let mut usage = Usage::default();
    if wanted("image") {
        images(&api, &call, &mut usage).await?;
    }
    if wanted("container") {
        let containers = api.backend.containers();
        let images = containers.image_ids().await;
        for container in containers.list().await? {
            let size = containers.size(container.config.id).await.ok();
            let line = SummaryDto::of(&container, &images, size, api.backend.now());
            usage.containers.push(line);
        }
    }
    if wanted("volume") {
        let volumes = api.backend.volumes()?;
        for volume in volumes.list().await? {
            let size = volumes.size(&volume.name).await.ok();
            usage.volumes.push(VolumeDto::with_usage(volume, size));
        }
    }
    Ok(json(&usage))
}

async fn images(api: &Api, call: &Call, usage: &mut Usage) -> Result<(), Refusal> {
    let images = api.backend.images()?;
    let all = images.list().await?;
    let users = images.users().await;
    let shared = shared_sizes(&all);
    let layers = all.iter().flat_map(|image| &image.layers);
    let layers: BTreeMap<_, u64> = layers.map(|layer| (layer.chain, layer.size)).collect();
    usage.layers_size = bytes(layers.values().sum());
    for image in all {
        let (containers, shared) = (in_use(users.as_ref(), &image), shared[&image.id]);
        let mut summary = ImageSummary::of(image, call.version);
        (summary.containers, summary.shared_size) = (containers, bytes(shared));
        usage.images.push(summary);
    }
    Ok(())
}
