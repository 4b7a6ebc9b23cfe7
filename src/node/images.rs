//! This machine's images, as the API sees them: translation between the agent's room and the API's seam.
//!
//! Made for each request by [`Engine::image_store`](super::engine::Engine::image_store). Decides nothing but which
//! kind of "no" an error is.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::engine::Engine;
use super::join::reason;
use crate::agent::images::auth::AuthError;
use crate::agent::images::{
    ImageError, Images, InUse, LoadError, LocalImage, Platform, Progress, PruneFilters, PullError,
    PushError, RegistryAuth, Removed, Step, Update,
};
use crate::api::backend::images::{
    Content, Image, ImageLayer, ImagePlatform, ImagePrune, ImageStep, ImageStore, Line, Login,
    PrunedImages, RemovedImage, Told,
};
use crate::api::backend::{Refusal, RefusalClass};
use crate::model::Digest;

/// The images of a machine that can run containers.
#[derive(Debug)]
pub(super) struct NodeImages {
    pub(super) images: Images,
    pub(super) engine: Arc<Engine>,
}

impl NodeImages {
    async fn in_use(&self) -> Result<InUse, Refusal> {
        let unknown = "which images are in use cannot be told at the moment; try again later";
        let in_use = self.engine.images_in_use().await;
        in_use.ok_or_else(|| Refusal::unavailable(unknown))
    }
}

impl NodeImages {
    /// What has happened to an image.
    fn tell(&self, action: &str, actor: &str, name: &str) {
        let name = [("name".to_owned(), name.to_owned())];
        let happenings = &self.engine.happenings;
        happenings.tell("image", action, actor, name.into());
    }

    /// The ID of an image; its name when it has gone meanwhile.
    async fn id_of(&self, name: &str) -> String {
        match self.images.inspect(name).await {
            Ok(found) => found.image.id.to_string(),
            Err(_) => name.to_owned(),
        }
    }

    fn tell_of(&self, removed: &[Removed]) {
        for one in removed {
            match one {
                Removed::Untagged(name) => self.tell("untag", name, name),
                Removed::Deleted(digest) => {
                    let digest = digest.to_string();
                    self.tell("delete", &digest, &digest);
                }
            }
        }
    }
}

#[async_trait]
impl ImageStore for NodeImages {
    async fn list(&self) -> Result<Vec<Image>, Refusal> {
        let images = self.images.list().await.map_err(image_refusal)?;
        Ok(images.into_iter().map(shown).collect())
    }

    async fn users(&self) -> Option<BTreeMap<Digest, usize>> {
        let InUse(users) = self.engine.images_in_use().await?;
        let counts = users.into_iter().map(|(image, users)| (image, users.len()));
        Some(counts.collect())
    }

    async fn inspect(&self, name: &str) -> Result<(Image, Value), Refusal> {
        let found = self.images.inspect(name).await.map_err(image_refusal)?;
        Ok((shown(found.image), found.json))
    }

    async fn history(&self, name: &str) -> Result<Vec<ImageStep>, Refusal> {
        let steps = self.images.history(name).await.map_err(image_refusal)?;
        let steps = steps.into_iter().map(|made| ImageStep {
            created: made.step.created,
            created_by: made.step.created_by,
            comment: made.step.comment,
            size: made.size,
            image: made.image,
        });
        Ok(steps.collect())
    }

    async fn tag(&self, name: &str, new: &str) -> Result<(), Refusal> {
        self.images.tag(name, new).await.map_err(image_refusal)?;
        let id = self.id_of(new).await;
        self.tell("tag", &id, new);
        Ok(())
    }

    async fn remove(&self, name: &str, force: bool) -> Result<Vec<RemovedImage>, Refusal> {
        let in_use = self.in_use().await?;
        let removed = self.images.remove(name, force, &in_use).await;
        let removed = removed.map_err(image_refusal)?;
        self.tell_of(&removed);
        Ok(removed.into_iter().map(gone).collect())
    }

    async fn prune(&self, which: ImagePrune) -> Result<PrunedImages, Refusal> {
        let filters = PruneFilters {
            dangling: !which.all,
            until: which.until,
            labels: which.labels,
            not_labels: which.not_labels,
        };
        let in_use = self.in_use().await?;
        let pruned = self.images.prune(&filters, &in_use).await;
        let pruned = pruned.map_err(image_refusal)?;
        self.tell_of(&pruned.removed);
        Ok(PrunedImages {
            removed: pruned.removed.into_iter().map(gone).collect(),
            reclaimed: pruned.reclaimed,
        })
    }

    async fn pull(
        &self,
        name: &str,
        auth: &str,
        platform: &str,
        told: Told,
    ) -> Result<(), Refusal> {
        let auth = credentials(auth)?;
        let platform = match platform {
            "" => None,
            text => Some(text.parse::<Platform>().map_err(invalid)?),
        };
        let progress = progress(told);
        let pulled = self
            .images
            .pull(name, auth.as_ref(), platform.as_ref(), &progress);
        pulled.await.map_err(pull_refusal)?;
        self.tell("pull", name, name);
        Ok(())
    }

    async fn push(&self, name: &str, auth: &str, told: Told) -> Result<(), Refusal> {
        let auth = credentials(auth)?;
        let progress = progress(told.clone());
        let pushed = self.images.push(name, auth.as_ref(), &progress).await;
        let pushed = pushed.map_err(push_refusal)?;
        self.tell("push", name, name);
        (told.0)(Line::Aux(serde_json::json!({
            "Tag": pushed.tag, "Digest": pushed.digest, "Size": pushed.size,
        })));
        Ok(())
    }

    async fn load(
        &self,
        archive: Box<dyn AsyncRead + Send + Unpin>,
        told: Told,
    ) -> Result<(), Refusal> {
        let loaded = self.images.load(archive, &progress(told)).await;
        for name in loaded.map_err(load_refusal)? {
            let id = self.id_of(&name).await;
            self.tell("load", &id, &name);
        }
        Ok(())
    }

    async fn save(
        &self,
        names: Vec<String>,
        out: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Result<(), Refusal> {
        self.images.save(&names, out).await.map_err(image_refusal)?;
        for name in &names {
            self.tell("save", name, name);
        }
        Ok(())
    }

    async fn login(&self, login: Login) -> Result<(), Refusal> {
        if login.password.is_empty() && !login.identity_token.is_empty() {
            return Err(invalid(AuthError::IdentityToken));
        }
        let auth = RegistryAuth::Password {
            username: login.username,
            password: Zeroizing::new(login.password),
        };
        let entered = self.images.login(&login.server, &auth).await;
        entered.map_err(|error| match error {
            PullError::Unauthorized { url, why } => Refusal::new(
                RefusalClass::Unauthorized,
                format!("login attempt to {url} failed with status: {why}"),
            ),
            error => pull_refusal(error),
        })
    }
}

/// What the header says. One that is not readable is taken for none, as by Docker's daemon.
fn credentials(header: &str) -> Result<Option<RegistryAuth>, Refusal> {
    match RegistryAuth::from_header(header) {
        Err(AuthError::Malformed) => Ok(None),
        other => other.map_err(invalid),
    }
}

fn progress(told: Told) -> Progress {
    Progress::to(move |update| (told.0)(line(update)))
}

fn line(Update { id, step }: Update) -> Line {
    let words = step.status();
    match step {
        Step::Status(words) if words.starts_with("Loaded image") => {
            Line::Stream(format!("{words}\n"))
        }
        Step::PullingFrom(_) | Step::Digest(_) | Step::Status(_) => Line::Said { id, words },
        Step::PullingLayer
        | Step::Waiting
        | Step::AlreadyExists
        | Step::Downloading(..)
        | Step::Verifying
        | Step::Downloaded
        | Step::Extracting(..)
        | Step::Complete
        | Step::Loading(..)
        | Step::Preparing
        | Step::Pushing(..)
        | Step::Pushed
        | Step::LayerExists => Line::Layer {
            id,
            words,
            of: step.progress().unwrap_or_default(),
        },
    }
}

fn shown(image: LocalImage) -> Image {
    let layers = image.diff_ids.iter().zip(&image.chain);
    let layers = layers.zip(&image.layer_sizes);
    let layers = layers.map(|((diff_id, chain), size)| ImageLayer {
        diff_id: *diff_id,
        chain: *chain,
        size: *size,
    });
    Image {
        id: image.id,
        manifest: image.manifest,
        layers: layers.collect(),
        target: Content {
            media_type: image.target.media_type,
            digest: image.target.digest,
            size: image.target.size,
        },
        config: image.config,
        platform: ImagePlatform {
            os: image.platform.os,
            architecture: image.platform.architecture,
            variant: image.platform.variant,
        },
        created: image.created,
        tags: image.tags,
        digests: image.digests,
        updated: image.updated,
    }
}

fn gone(removed: Removed) -> RemovedImage {
    match removed {
        Removed::Untagged(name) => RemovedImage::Untagged(name),
        Removed::Deleted(digest) => RemovedImage::Deleted(digest.to_string()),
    }
}

fn invalid(error: impl std::error::Error) -> Refusal {
    Refusal::invalid(error.to_string())
}

fn image_refusal(error: ImageError) -> Refusal {
    let class = match &error {
        ImageError::NoSuchImage(_) => RefusalClass::NotFound,
        ImageError::Reference(_) | ImageError::Ambiguous(_) | ImageError::TagWithDigest => {
            RefusalClass::Invalid
        }
        ImageError::Conflict(_) => RefusalClass::Conflict,
        ImageError::Damaged { .. } | ImageError::Write(_) | ImageError::Store(_) => {
            return Refusal::internal(reason(&error));
        }
    };
    Refusal::new(class, error.to_string())
}

fn pull_refusal(error: PullError) -> Refusal {
    let class = match &error {
        PullError::Reference(_) | PullError::Auth(_) => RefusalClass::Invalid,
        PullError::Denied { .. }
        | PullError::Unknown { .. }
        | PullError::NoPlatform(_)
        | PullError::WrongPlatform { .. } => RefusalClass::NotFound,
        // Said in Go's words already.
        PullError::Unreachable { .. } | PullError::Unauthorized { .. } => RefusalClass::Internal,
        PullError::Registry { .. }
        | PullError::WrongContent(_)
        | PullError::WrongManifest(_)
        | PullError::WrongDiff { .. }
        | PullError::Cut(_)
        | PullError::Manifest(_)
        | PullError::Config(_)
        | PullError::DiskFull { .. }
        | PullError::Store(_) => return Refusal::internal(reason(&error)),
    };
    Refusal::new(class, error.to_string())
}

fn push_refusal(error: PushError) -> Refusal {
    match error {
        PushError::NoSuchTag(_) => Refusal::not_found(error.to_string()),
        PushError::Digest => invalid(error),
        PushError::Denied => Refusal::internal(error.to_string()),
        PushError::Registry(error) => pull_refusal(error),
        PushError::Image(error) => image_refusal(error),
    }
}

fn load_refusal(error: LoadError) -> Refusal {
    match error {
        LoadError::Image(error) => pull_refusal(error),
        LoadError::Read(_) => Refusal::internal(reason(&error)),
        LoadError::NotTar(_)
        | LoadError::NoManifest
        | LoadError::Malformed(..)
        | LoadError::Missing(_)
        | LoadError::WrongContent(_) => Refusal::invalid(reason(&error)),
    }
}
