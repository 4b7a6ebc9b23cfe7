//! Why an image cannot be had, in Docker's words: tools match on them.
//!
//! What lies below is kept as the source. `kind` says what to do about it; the words are for people.

use std::io;

use super::auth::AuthError;
use super::config::ConfigError;
use super::containerd::StoreError;
use super::manifest::ManifestError;
use super::platform::Platform;
use super::reference::ReferenceError;

/// Why a pull failed. What had come stays for a day, so that the next attempt continues there; nothing stays when the
/// disk is full. The name stands for what it stood for before.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The name is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The credentials are none.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The registry knows no such repository, or does not show it to who asks.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
    )]
    Denied {
        /// The repository as people write it.
        name: String,
    },
    /// The registry does not take the credentials, or wants some.
    #[error("Head \"{url}\": {why}")]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// The registry's words.
        why: String,
    },
    /// The repository has no such tag or digest.
    #[error("manifest for {name} not found: manifest unknown: {why}")]
    Unknown {
        /// The image as people write it.
        name: String,
        /// The registry's words.
        why: String,
    },
    /// The image is for other machines.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(Platform),
    /// The image is for another machine.
    #[error(
        "image with reference {name} was found but its platform ({found}) does not match the specified platform ({wanted})"
    )]
    WrongPlatform {
        /// The image as people write it.
        name: String,
        /// What it is built for.
        found: Box<Platform>,
        /// What it was asked for.
        wanted: Box<Platform>,
    },
    /// The registry, or the way to it, does not answer.
    #[error("Get \"{url}\": {why}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why, as Go has it.
        why: String,
        /// What it was below.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The registry answers with something that is no answer.
    #[error("unexpected answer of the registry at {url}: {why}")]
    Registry {
        /// What was asked for.
        url: String,
        /// The registry's words.
        why: String,
    },
    /// What came is not what was asked for. It was thrown away.
    #[error("filesystem layer verification failed for digest {0}")]
    WrongContent(crate::model::Digest),
    /// The manifest is not the one that was asked for.
    #[error("manifest verification failed for digest {0}")]
    WrongManifest(crate::model::Digest),
    /// A layer is not what the config says that it is when unpacked.
    #[error(
        "wrong diff id calculated on extraction: layer {layer} is {found}, the config says {wanted}"
    )]
    WrongDiff {
        /// The layer.
        layer: crate::model::Digest,
        /// What it became.
        found: String,
        /// What it should have become.
        wanted: crate::model::Digest,
    },
    /// The content ended before its time, and again when it was asked for anew.
    #[error("{0}: unexpected EOF")]
    Cut(crate::model::Digest),
    /// The manifest is of no use.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The config is of no use.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The disk is full.
    #[error("{what}: no space left on device")]
    DiskFull {
        /// What was being done.
        what: String,
    },
    /// containerd refuses, or does not answer.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for PullError {
    fn from(error: StoreError) -> Self {
        match error.is_disk_full() {
            true => Self::DiskFull {
                what: error.what().into(),
            },
            false => Self::Store(error),
        }
    }
}

impl PullError {
    /// Whether another attempt may well succeed, with nothing changed by anybody.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Registry { .. } | Self::Cut(_) | Self::Store(_) => {
                true
            }
            Self::DiskFull { .. } => true,
            Self::Reference(_)
            | Self::Auth(_)
            | Self::Denied { .. }
            | Self::Unauthorized { .. }
            | Self::Unknown { .. }
            | Self::NoPlatform(_)
            | Self::WrongPlatform { .. }
            | Self::WrongContent(_)
            | Self::WrongManifest(_)
            | Self::WrongDiff { .. }
            | Self::Manifest(_)
            | Self::Config(_) => false,
        }
    }

    /// Whether the registry could not say, so that a peer may be asked for what the name stands for.
    pub(super) const fn leaves_it_open(&self) -> bool {
        matches!(
            self,
            Self::Denied { .. }
                | Self::Unauthorized { .. }
                | Self::Unknown { .. }
                | Self::Unreachable { .. }
                | Self::Registry { .. }
        )
    }
}

/// Why something about an image that is here, or should be, failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is none.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// The name is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The digits stand for several.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// A tag cannot have a digest.
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    /// It is in use, or several names stand for it. Nothing was removed.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Its content is not what it should be.
    #[error("the image {name} is damaged: pull it again")]
    Damaged {
        /// The image.
        name: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Whoever reads or writes the other end failed.
    #[error("the archive cannot be written")]
    Write(#[source] io::Error),
    /// containerd refuses, or does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImageError {
    /// Whether the image or the name does not exist.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NoSuchImage(_))
    }
}

/// Why an archive cannot be loaded. Images that were loaded whole before stay.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It did not come whole, or the scratch space cannot be written.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// It is no archive.
    #[error("the archive is no tar file")]
    NotTar(#[source] io::Error),
    /// It has neither of the two lists of images.
    #[error("invalid archive: does not contain a manifest.json")]
    NoManifest,
    /// One of its lists cannot be read.
    #[error("invalid archive: {0} cannot be read")]
    Malformed(
        &'static str,
        #[source] Box<dyn std::error::Error + Send + Sync>,
    ),
    /// A file is missing.
    #[error("invalid archive: {0}: no such file or directory")]
    Missing(String),
    /// A file is not what its name says. It was thrown away.
    #[error("invalid archive: {0} is not what its name says")]
    WrongContent(String),
    /// An image of it cannot be had.
    #[error(transparent)]
    Image(#[from] PullError),
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> Self {
        Self::Image(error.into())
    }
}
