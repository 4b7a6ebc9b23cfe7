//! What a container needs to know of its image: the snapshot it grows from, and the users that are in it.
//!
//! Images are the work of `agent::images`; here their records are only read. What was found is remembered: content
//! never changes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use containerd_client::services::v1::ReadContentRequest;
use containerd_client::services::v1::snapshots::{
    ListSnapshotsRequest, RemoveSnapshotRequest, ViewSnapshotRequest,
};
use containerd_client::types::Mount;
use serde::Deserialize;
use tonic::Status;

use super::super::{Failure, RuntimeError};
use super::client::{Client, broken, failed, said};
use super::rootfs::{Root, inside};
use crate::model::container::ImageRef;
use crate::model::image::Digest;

/// Images that are remembered; they are small.
const REMEMBERED: usize = 256;

/// The largest file of users that is read, bytes.
const USERS_LIMIT: u64 = 4 << 20;

/// The largest manifest or configuration that is read, bytes.
const DOCUMENT_LIMIT: usize = 4 << 20;

/// What containers are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// The snapshot of all its layers.
    pub(super) chain: String,
    /// Its `/etc/passwd`.
    pub(super) passwd: String,
    /// Its `/etc/group`.
    pub(super) group: String,
}

/// Images that were looked at.
#[derive(Debug, Default)]
pub(super) struct Bases(Mutex<BTreeMap<Digest, Arc<Base>>>);

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

impl Bases {
    /// What is to be known of an image. Refused when it is not here.
    pub(super) async fn get(
        &self,
        client: &Client,
        snapshotter: &str,
        mount_point: &std::path::Path,
        image: &ImageRef,
    ) -> Result<Arc<Base>, RuntimeError> {
        let known = |bases: &Self| {
            let map = bases.0.lock().unwrap_or_else(PoisonError::into_inner);
            map.get(&image.manifest).cloned()
        };
        if let Some(base) = known(self) {
            return Ok(base);
        }
        let no_image = |error: RuntimeError| match error.failure {
            Failure::Gone => said(Failure::Refused, format!("No such image: {}", image.name)),
            Failure::Refused | Failure::Retry => error,
        };
        let look = look(client, snapshotter, mount_point.to_owned(), image);
        let base = Arc::new(look.await.map_err(no_image)?);
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= REMEMBERED {
            map.pop_first();
        }
        map.insert(image.manifest, base.clone());
        Ok(base)
    }
}

async fn look(
    client: &Client,
    snapshotter: &str,
    mount_point: PathBuf,
    image: &ImageRef,
) -> Result<Base, RuntimeError> {
    let corrupt = |error| {
        let words = format!("image {} cannot be read", image.name);
        broken(Failure::Refused, words, error)
    };
    let manifest = document(client, &image.manifest.to_string()).await?;
    let manifest: Manifest = serde_json::from_slice(&manifest).map_err(corrupt)?;
    let config = document(client, &manifest.config.digest).await?;
    let config: Config = serde_json::from_slice(&config).map_err(corrupt)?;
    let chain = chain_id(&config.rootfs.diff_ids);
    let read = View::of(client, snapshotter, &chain).await?;
    let mounts = Root::Mounts(read.mounts.clone(), mount_point);
    let users = inside(mounts, || Ok((users("/etc/passwd")?, users("/etc/group")?))).await;
    read.end(client).await;
    let (passwd, group) = users.map_err(|error| {
        let words = format!("cannot read the users of image {}", image.name);
        broken(Failure::Retry, words, error)
    })?;
    Ok(Base {
        chain,
        passwd,
        group,
    })
}

/// An image's content, to be read. Nobody refers to it: what a crash leaves of it goes at the next start, or when
/// containerd next collects.
pub(super) struct View {
    snapshotter: String,
    key: String,
    pub(super) mounts: Vec<Mount>,
}

/// Begins the name of each view.
const VIEW_PREFIX: &str = "view-";

impl View {
    pub(super) async fn of(
        client: &Client,
        snapshotter: &str,
        chain: &str,
    ) -> Result<Self, RuntimeError> {
        let key = format!("{VIEW_PREFIX}{:016x}", rand::random::<u64>());
        let request = client.request(ViewSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            key: key.clone(),
            parent: chain.to_owned(),
            ..ViewSnapshotRequest::default()
        });
        let answer = client.snapshots().view(request).await;
        let mounts = answer
            .map_err(failed("view the image"))?
            .into_inner()
            .mounts;
        Ok(Self {
            snapshotter: snapshotter.to_owned(),
            key,
            mounts,
        })
    }

    pub(super) async fn end(self, client: &Client) {
        remove_view(client, self.snapshotter, self.key).await;
    }
}

async fn remove_view(client: &Client, snapshotter: String, key: String) {
    let request = client.request(RemoveSnapshotRequest { snapshotter, key });
    if let Err(status) = client.snapshots().remove(request).await {
        tracing::debug!(%status, "a view of an image was not removed");
    }
}

/// Removes the views that a daemon before this one did not live to remove.
pub(super) async fn remove_views(client: &Client, snapshotter: &str) -> Result<(), Status> {
    let request = client.request(ListSnapshotsRequest {
        snapshotter: snapshotter.to_owned(),
        filters: vec![format!("name~=^{VIEW_PREFIX}")],
    });
    let mut found = client.snapshots().list(request).await?.into_inner();
    let mut left = Vec::new();
    while let Some(part) = found.message().await? {
        left.extend(part.info.into_iter().map(|info| info.name));
    }
    for key in left.into_iter().filter(|key| key.starts_with(VIEW_PREFIX)) {
        remove_view(client, snapshotter.to_owned(), key).await;
    }
    Ok(())
}

/// A file of users; empty when there is none.
pub(super) fn users(path: &str) -> io::Result<String> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    if !meta.is_file() || meta.len() > USERS_LIMIT {
        return Ok(String::new());
    }
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

async fn document(client: &Client, digest: &str) -> Result<Vec<u8>, RuntimeError> {
    let request = client.request(ReadContentRequest {
        digest: digest.to_owned(),
        offset: 0,
        size: 0,
    });
    let fail = || failed("read the image");
    let stream = client.content().read(request).await.map_err(fail())?;
    let mut stream = stream.into_inner();
    let mut all = Vec::new();
    while let Some(part) = stream.message().await.map_err(fail())? {
        all.extend_from_slice(&part.data);
        if all.len() > DOCUMENT_LIMIT {
            return Err(said(Failure::Refused, "the image's manifest is too large"));
        }
    }
    Ok(all)
}

/// The name of the snapshot of these layers, the lowest first.
fn chain_id(layers: &[Digest]) -> String {
    let mut chain: Option<String> = None;
    for layer in layers {
        chain = Some(match chain {
            None => layer.to_string(),
            Some(below) => {
                let both = format!("{below} {layer}");
                let hash = ring::digest::digest(&ring::digest::SHA256, both.as_bytes());
                let bytes = hash.as_ref().try_into().expect("SHA-256 has 32 bytes");
                Digest::from_bytes(bytes).to_string()
            }
        });
    }
    chain.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_of_layers_is_named_as_the_image_specification_says() {
        let layer = |byte| Digest::from_bytes([byte; 32]);
        assert_eq!(chain_id(&[]), "");
        assert_eq!(chain_id(&[layer(1)]), layer(1).to_string());
        let two = chain_id(&[layer(1), layer(2)]);
        assert_eq!(two.len(), 71);
        assert_ne!(two, chain_id(&[layer(2), layer(1)]));
        assert_ne!(two, chain_id(&[layer(1), layer(2), layer(3)]));
    }
}
