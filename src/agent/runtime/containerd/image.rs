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
use containerd_client::services::v1::snapshots::{RemoveSnapshotRequest, ViewSnapshotRequest};
use serde::Deserialize;

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
    let unique = format!("users-{:016x}", rand::random::<u64>());
    let view = client.request(ViewSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        key: unique.clone(),
        parent: chain.clone(),
        ..ViewSnapshotRequest::default()
    });
    let view = client.snapshots().view(view).await;
    let mounts = view.map_err(failed("view the image"))?.into_inner().mounts;
    let read = inside(Root::Mounts(mounts, mount_point), || {
        Ok((users("/etc/passwd")?, users("/etc/group")?))
    });
    let read = read.await;
    // Left behind at worst until containerd next collects what nobody refers to.
    let remove = client.request(RemoveSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        key: unique,
    });
    if let Err(status) = client.snapshots().remove(remove).await {
        tracing::debug!(%status, "a view of an image was not removed");
    }
    let (passwd, group) = read.map_err(|error| {
        let words = format!("cannot read the users of image {}", image.name);
        broken(Failure::Retry, words, error)
    })?;
    Ok(Base {
        chain,
        passwd,
        group,
    })
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
