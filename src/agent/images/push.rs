//! `docker push`: an image of this machine to its registry; and whether a registry takes credentials.
//!
//! What the registry has is not sent again. The tag moves last, so that a push which breaks off leaves it as it was.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use tracing::info;

use super::auth::RegistryAuth;
use super::error::{ImageError, PullError};
use super::local::damaged;
use super::manifest::{Descriptor, Document, Manifest};
use super::progress::{Progress, Step};
use super::reference::{DEFAULT_REGISTRY, Reference};
use super::registry::Repository;
use super::{Images, Inner};
use crate::model::Digest;

/// What a push left in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The tag.
    pub tag: String,
    /// What it stands for there.
    pub digest: Digest,
    /// Bytes of that manifest or index.
    pub size: u64,
}

/// Why a push failed. The tag stands for what it stood for before.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// No image has this name here.
    #[error("tag does not exist: {0}")]
    NoSuchTag(String),
    /// What is pushed has a tag.
    #[error("cannot push a digest reference")]
    Digest,
    /// The registry does not allow it.
    #[error("denied: requested access to the resource is denied")]
    Denied,
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(PullError),
    /// The image here.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl From<PullError> for PushError {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Denied { .. } => Self::Denied,
            error => Self::Registry(error),
        }
    }
}

impl Images {
    /// Sends what `reference` stands for here to the registry that it names, all of it that is here.
    pub async fn push(
        &self,
        reference: &str,
        auth: Option<&RegistryAuth>,
        progress: &Progress,
    ) -> Result<Pushed, PushError> {
        let parsed = reference.parse::<Reference>().map_err(ImageError::from)?;
        let reference = parsed.or_latest();
        let (Some(tag), None) = (reference.tag(), reference.digest()) else {
            return Err(PushError::Digest);
        };
        let store = &self.0.store;
        let record = store.record(&reference.record()).await;
        let record = record.map_err(ImageError::from)?;
        let missing = || PushError::NoSuchTag(reference.familiar());
        let target = record.ok_or_else(missing)?.target;
        let plan = self.0.plan_push(&reference, target).await?;
        let to = format!("The push refers to repository [{}]", reference.repository());
        progress.tell("", Step::Status(to));
        for part in plan.layers() {
            progress.layer(part.digest, Step::Preparing);
        }
        let registries = &self.0.registries;
        let repository = registries.open_to_push(&reference, auth).await?;
        for manifest in &plan.manifests {
            self.0.push_image(&repository, manifest, progress).await?;
            if manifest.at.digest != plan.target.digest {
                self.0
                    .put_document(&repository, &manifest.at, false)
                    .await?;
            }
        }
        self.0.put_document(&repository, &plan.target, true).await?;
        let Descriptor { digest, size, .. } = plan.target;
        info!(image = %reference.familiar(), %digest, "image pushed");
        let words = format!("{tag}: digest: {digest} size: {size}");
        progress.tell("", Step::Status(words));
        let tag = tag.to_owned();
        Ok(Pushed { tag, digest, size })
    }

    /// Asks a registry, `host[:port]` or a URL of it, whether it takes these credentials. Gives its address on refusal
    /// too, in the error.
    pub async fn login(&self, server: &str, auth: &RegistryAuth) -> Result<(), PullError> {
        // Any name will do: what is asked for need not be there.
        let name = format!("{}/skein/login", registry_of(server));
        let reference = name.parse::<Reference>()?;
        let repository = self.0.registries.open(&reference, Some(auth)).await;
        let refused = |url: &str| PullError::Unauthorized {
            url: url.into(),
            why: "401 Unauthorized".into(),
        };
        let repository = repository.map_err(|error| match error {
            PullError::Unauthorized { url, .. } => refused(&url),
            PullError::Denied { .. } => refused(reference.registry()),
            error => error,
        })?;
        let knocked = repository.knock().await;
        knocked.map_err(|error| match error {
            PullError::Unauthorized { .. } => refused(repository.url()),
            error => error,
        })
    }
}

/// The registry that a user or a client means.
fn registry_of(server: &str) -> &str {
    let host = server
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    match host.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        host => host,
    }
}

/// What goes.
struct Plan {
    /// What the tag is to stand for.
    target: Descriptor,
    manifests: Vec<Whole>,
}

/// An image that is here with all its layers.
struct Whole {
    at: Descriptor,
    manifest: Manifest,
}

impl Plan {
    fn layers(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests
            .iter()
            .flat_map(|whole| &whole.manifest.layers)
    }
}

impl Inner {
    /// All of an index when all of it is here; else the image for this machine alone.
    async fn plan_push(
        &self,
        reference: &Reference,
        target: Descriptor,
    ) -> Result<Plan, PushError> {
        let name = reference.familiar();
        let missing = || ImageError::NoSuchImage(name.clone());
        let document = self.document(target.digest).await;
        let (document, _) = document
            .map_err(|error| damaged(&name, error))?
            .ok_or_else(missing)?;
        let entries = match document {
            Document::Manifest(manifest) => {
                let at = target.clone();
                let manifests = vec![Whole { at, manifest }];
                return Ok(Plan { target, manifests });
            }
            Document::Index(index) => index.manifests,
        };
        let mut manifests = Vec::new();
        for entry in &entries {
            if let Some(whole) = self.whole(&name, entry).await? {
                manifests.push(whole);
            }
        }
        if manifests.len() == entries.len() {
            return Ok(Plan { target, manifests });
        }
        let facts = self.facts(&target).await?.ok_or_else(missing)?;
        manifests.retain(|whole| whole.at.digest == facts.manifest_at);
        let target = manifests.first().ok_or_else(missing)?.at.clone();
        Ok(Plan { target, manifests })
    }

    async fn whole(&self, name: &str, entry: &Descriptor) -> Result<Option<Whole>, ImageError> {
        let document = self.document(entry.digest).await;
        let document = document.map_err(|error| damaged(name, error))?;
        let Some((Document::Manifest(manifest), _)) = document else {
            return Ok(None);
        };
        for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if self.store.known(part.digest).await?.is_none() {
                return Ok(None);
            }
        }
        let at = entry.clone();
        Ok(Some(Whole { at, manifest }))
    }

    /// Sends the layers and the config.
    async fn push_image(
        &self,
        repository: &Repository,
        whole: &Whole,
        progress: &Progress,
    ) -> Result<(), PushError> {
        for layer in &whole.manifest.layers {
            let told = progress.clone();
            if repository.has_blob(layer.digest).await {
                progress.layer(layer.digest, Step::LayerExists);
                continue;
            }
            self.push_blob(repository, layer, told).await?;
            progress.layer(layer.digest, Step::Pushed);
        }
        let config = &whole.manifest.config;
        if !repository.has_blob(config.digest).await {
            self.push_blob(repository, config, Progress::none()).await?;
        }
        Ok(())
    }

    async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        progress: Progress,
    ) -> Result<(), PushError> {
        let pieces = self.store.read(blob.digest, 0).await;
        let pieces = pieces.map_err(ImageError::from)?;
        let (digest, size, sent) = (blob.digest, blob.size, Arc::new(AtomicU64::new(0)));
        let pieces = pieces.map(move |piece| {
            let piece = piece.map_err(io::Error::other)?;
            let sent = sent.fetch_add(piece.len() as u64, Ordering::Relaxed) + piece.len() as u64;
            progress.layer(digest, Step::Pushing(sent, size));
            Ok(piece)
        });
        Ok(repository.put_blob(digest, size, pieces.boxed()).await?)
    }

    async fn put_document(
        &self,
        repository: &Repository,
        document: &Descriptor,
        tagged: bool,
    ) -> Result<(), PushError> {
        let limit = super::manifest::MANIFEST_LIMIT;
        let bytes = self.store.read_small(document.digest, limit).await;
        let bytes = bytes.map_err(ImageError::from)?;
        let gone = || ImageError::NoSuchImage(document.digest.to_string());
        let bytes = Bytes::from(bytes.ok_or_else(gone)?);
        let by_digest = (!tagged).then_some(document.digest);
        let put = repository.put_manifest(by_digest, &document.media_type, bytes);
        Ok(put.await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_known_by_all_its_names() {
        for (server, registry) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry.example", "registry.example"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://registry.example:5000/v2/", "registry.example:5000"),
        ] {
            assert_eq!(registry_of(server), registry, "{server}");
        }
    }
}
