//! `docker save`: images as one archive, in the form that newer Docker writes, which is Docker's and OCI's at once.
//!
//! Written piece by piece as it is read from containerd: nothing is gathered. Blobs that several images share are
//! written once.

use std::collections::BTreeMap;
use std::io;
use std::pin::{Pin, pin};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::error::ImageError;
use super::local::shown;
use super::manifest::{Descriptor, Document, OCI_INDEX};
use super::reference::Reference;
use super::{Images, Inner};
use crate::model::Digest;

/// Bytes of a block of a tar.
const BLOCK: u64 = 512;

/// What goes into an archive.
#[derive(Default)]
struct Plan {
    blobs: BTreeMap<Digest, u64>,
    index: Vec<Value>,
    docker: BTreeMap<Digest, (Vec<String>, Vec<Digest>)>,
}

impl Images {
    /// Writes these images, by name or ID, as one archive. Nothing is written when one of them is not here.
    pub async fn save(&self, names: &[String], out: impl AsyncWrite) -> Result<(), ImageError> {
        let plan = self.0.plan_save(names).await?;
        let mut tar = Tar(pin!(out));
        tar.small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
            .await?;
        tar.directory("blobs/").await?;
        tar.directory("blobs/sha256/").await?;
        for (digest, size) in &plan.blobs {
            tar.header(&format!("blobs/sha256/{}", digest.hex()), *size)
                .await?;
            let mut pieces = self.0.store.read(*digest, 0).await?;
            let mut written = 0;
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                written += piece.len() as u64;
                if written > *size {
                    break;
                }
                tar.bytes(&piece).await?;
            }
            if written != *size {
                return Err(ImageError::Write(io::ErrorKind::UnexpectedEof.into()));
            }
            tar.pad(*size).await?;
        }
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": plan.index});
        tar.small("index.json", index.to_string().as_bytes())
            .await?;
        let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let docker = plan.docker.iter().map(|(config, (tags, layers))| {
            let layers: Vec<String> = layers.iter().map(path).collect();
            json!({"Config": path(config), "RepoTags": tags, "Layers": layers})
        });
        let docker = Value::Array(docker.collect());
        tar.small("manifest.json", docker.to_string().as_bytes())
            .await?;
        tar.end().await
    }
}

impl Inner {
    async fn plan_save(&self, names: &[String]) -> Result<Plan, ImageError> {
        let records = self.store.records().await?;
        let mut plan = Plan::default();
        for name in names {
            let missing = || ImageError::NoSuchImage(shown(name));
            let target = self.find(&records, name).await?.ok_or_else(missing)?;
            let image = self.image(&records, &target).await?.ok_or_else(missing)?;
            // By a name, the image has that name in the archive; by its ID, or by a digest, none.
            let parsed = name.parse::<Reference>().ok().map(Reference::or_latest);
            let tag = parsed
                .filter(|name| name.digest().is_none() && image.tags.contains(&name.familiar()));
            plan.name(&target, tag.as_ref());
            let mut todo = vec![target.digest];
            while let Some(digest) = todo.pop() {
                let Some(known) = self.store.known(digest).await? else {
                    continue;
                };
                plan.blobs.insert(digest, known.size);
                let broken = |error| super::local::damaged(name, error);
                match self.document(digest).await.map_err(broken)? {
                    Some((Document::Index(index), _)) => {
                        todo.extend(index.manifests.iter().map(|entry| entry.digest));
                    }
                    Some((Document::Manifest(manifest), _)) => {
                        let mut layers = Vec::new();
                        for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
                            let known = self.store.known(part.digest).await?;
                            plan.blobs
                                .insert(part.digest, known.ok_or_else(missing)?.size);
                            layers.push(part.digest);
                        }
                        let layers = layers.split_off(1);
                        if manifest.config.digest == image.id {
                            let entry = plan.docker.entry(image.id).or_insert((Vec::new(), layers));
                            entry.0.extend(tag.as_ref().map(Reference::familiar));
                        }
                    }
                    None => {}
                }
            }
        }
        Ok(plan)
    }
}

impl Plan {
    fn name(&mut self, target: &Descriptor, tag: Option<&Reference>) {
        let mut entry =
            json!({"mediaType": target.media_type, "digest": target.digest, "size": target.size});
        if let Some(tag) = tag {
            entry["annotations"] = json!({
                "io.containerd.image.name": tag.to_string(),
                "org.opencontainers.image.ref.name": tag.tag(),
            });
        }
        if !self.index.contains(&entry) {
            self.index.push(entry);
        }
    }
}

/// A tar that is written piece by piece.
struct Tar<'a, W>(Pin<&'a mut W>);

impl<W: AsyncWrite> Tar<'_, W> {
    async fn bytes(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.0.write_all(bytes).await.map_err(ImageError::Write)
    }

    async fn header(&mut self, name: &str, size: u64) -> Result<(), ImageError> {
        self.entry(name, size, tar::EntryType::Regular, 0o644).await
    }

    async fn directory(&mut self, name: &str) -> Result<(), ImageError> {
        self.entry(name, 0, tar::EntryType::Directory, 0o755).await
    }

    async fn entry(
        &mut self,
        name: &str,
        size: u64,
        kind: tar::EntryType,
        mode: u32,
    ) -> Result<(), ImageError> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).map_err(ImageError::Write)?;
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.bytes(header.as_bytes()).await
    }

    async fn pad(&mut self, size: u64) -> Result<(), ImageError> {
        let rest = usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or_default();
        self.bytes(&[0; BLOCK as usize][..rest]).await
    }

    async fn small(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        self.header(name, bytes.len() as u64).await?;
        self.bytes(bytes).await?;
        self.pad(bytes.len() as u64).await
    }

    async fn end(&mut self) -> Result<(), ImageError> {
        self.bytes(&[0; 2 * BLOCK as usize]).await?;
        self.0.flush().await.map_err(ImageError::Write)
    }
}
