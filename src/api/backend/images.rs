//! The seam to this machine's images: what the API shows of them, and what it may have done to them.
//!
//! Plain values, so that handlers know neither registries nor containerd. The node implements [`ImageStore`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Refusal;
use crate::model::{Digest, ImageConfig, Timestamp};

/// An image that is here, by all its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of its config: Docker's ID.
    pub id: Digest,
    /// The manifest for this machine; containers are made of it.
    pub manifest: Digest,
    /// What its names stand for: an index, or the manifest.
    pub target: Content,
    /// What it says of containers.
    pub config: ImageConfig,
    /// What it is built for.
    pub platform: ImagePlatform,
    /// When it was built.
    pub created: Option<Timestamp>,
    /// `busybox:latest`; none when it dangles.
    pub tags: Vec<String>,
    /// `busybox@sha256:…`.
    pub digests: Vec<String>,
    /// Its layers, lowest first.
    pub layers: Vec<ImageLayer>,
    /// When one of its names last came to stand for it.
    pub updated: Timestamp,
}

impl Image {
    /// Bytes on disk of all its layers.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

/// One layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLayer {
    /// What it is when unpacked.
    pub diff_id: Digest,
    /// What it is on top of those below it: two images share a layer when this is the same.
    pub chain: Digest,
    /// Bytes on disk.
    pub size: u64,
}

/// Some content by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its kind.
    pub media_type: String,
    /// Its SHA-256.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// What an image is built for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagePlatform {
    /// `linux`.
    pub os: String,
    /// As Go names it: `amd64`.
    pub architecture: String,
    /// `v7`; empty when there is none.
    pub variant: String,
}

impl fmt::Display for ImagePlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

/// A step that made an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageStep {
    /// When.
    pub created: Option<Timestamp>,
    /// By which command.
    pub created_by: String,
    /// A note.
    pub comment: String,
    /// Bytes on disk of the layer that it made.
    pub size: u64,
    /// The image's ID and tags, at the last step.
    pub image: Option<(Digest, Vec<String>)>,
}

/// What a removal did, one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovedImage {
    /// A name was taken away.
    Untagged(String),
    /// An image or a layer has gone.
    Deleted(String),
}

/// Which images are to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagePrune {
    /// All that are not in use, and not only those without a name.
    pub all: bool,
    /// Only those built before.
    pub until: Option<Timestamp>,
    /// Only those with all of these labels, `name` or `name=value`.
    pub labels: Vec<String>,
    /// None with one of these.
    pub not_labels: Vec<String>,
}

/// What a pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunedImages {
    /// Each step.
    pub removed: Vec<RemovedImage>,
    /// Bytes that are free again.
    pub reclaimed: u64,
}

/// One line of what a pull, a push or a load tells while it goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// Words about a tag, or (`id` empty) about the whole.
    Said {
        /// What it is about.
        id: String,
        /// Docker's words.
        words: String,
    },
    /// How far a layer is. Later lines of the same words stand for earlier ones.
    Layer {
        /// The first 12 digits of its digest.
        id: String,
        /// Docker's words.
        words: String,
        /// Bytes done, and bytes in all; zeros where they are not counted.
        of: (u64, u64),
    },
    /// Words for the user as they are.
    Stream(String),
    /// A value for programs.
    Aux(Value),
}

/// Who is told. Never waits.
#[derive(Clone)]
pub struct Told(pub Arc<dyn Fn(Line) + Send + Sync>);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told(…)")
    }
}

/// `POST /auth`: credentials, and what for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password, or an access token.
    pub password: String,
    /// A token that a browser's login gave.
    pub identity_token: String,
    /// The registry; empty is Docker's own.
    pub server: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({} at {}, …)", self.username, self.server)
    }
}

/// The images of this machine.
///
/// `auth` is what an `X-Registry-Auth` header says. Names are as users write them: a name, a name with a digest, an ID
/// or its beginning. What goes on for long ends when its future is dropped, and leaves nothing half done.
#[async_trait]
pub trait ImageStore: Send + Sync + 'static {
    /// All images, newest first.
    async fn list(&self) -> Result<Vec<Image>, Refusal>;

    /// How many containers are made of each manifest; `None` when that cannot be told.
    async fn users(&self) -> Option<BTreeMap<Digest, usize>>;

    /// One image, and its config as it is written.
    async fn inspect(&self, name: &str) -> Result<(Image, Value), Refusal>;

    /// The steps that made an image, last one first.
    async fn history(&self, name: &str) -> Result<Vec<ImageStep>, Refusal>;

    /// Gives an image another name.
    async fn tag(&self, name: &str, new: &str) -> Result<(), Refusal>;

    /// Takes a name away, and the image with its last one.
    async fn remove(&self, name: &str, force: bool) -> Result<Vec<RemovedImage>, Refusal>;

    /// Removes images that no container is made of.
    async fn prune(&self, which: ImagePrune) -> Result<PrunedImages, Refusal>;

    /// Pulls an image, for this machine unless another platform (`os/arch[/variant]`) is given.
    async fn pull(&self, name: &str, auth: &str, platform: &str, told: Told)
    -> Result<(), Refusal>;

    /// Pushes what this name stands for to its registry.
    async fn push(&self, name: &str, auth: &str, told: Told) -> Result<(), Refusal>;

    /// Loads every image of an archive.
    async fn load(
        &self,
        archive: Box<dyn AsyncRead + Send + Unpin>,
        told: Told,
    ) -> Result<(), Refusal>;

    /// Writes images as one archive. Nothing is written when one of them is not here.
    async fn save(
        &self,
        names: Vec<String>,
        out: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Result<(), Refusal>;

    /// Asks a registry whether it takes these credentials.
    async fn login(&self, login: Login) -> Result<(), Refusal>;
}
