//! How far a pull, a load or a removal is, as Docker tells its clients line by line.
//!
//! Values only; the API makes JSON of them. Whoever reports never waits for whoever listens.

use std::fmt;
use std::sync::Arc;

use crate::model::Digest;

/// One line of progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// What it is about: the first 12 digits of a layer's digest, or a tag. Empty for the whole.
    pub id: String,
    /// What happened.
    pub step: Step,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins; the repository.
    PullingFrom(String),
    /// A layer is to be fetched.
    PullingLayer,
    /// A layer waits for its turn.
    Waiting,
    /// A layer is here already.
    AlreadyExists,
    /// So many bytes of so many are here.
    Downloading(u64, u64),
    /// All bytes are here.
    Verifying,
    /// They are what they should be.
    Downloaded,
    /// A layer is being unpacked.
    Extracting(u64, u64),
    /// A layer is whole.
    Complete,
    /// A layer comes out of an archive.
    Loading(u64, u64),
    /// A layer is to be sent.
    Preparing,
    /// So many bytes of so many are sent.
    Pushing(u64, u64),
    /// All are.
    Pushed,
    /// The registry has the layer already.
    LayerExists,
    /// The digest of the whole.
    Digest(Digest),
    /// Words for the whole.
    Status(String),
}

impl Step {
    /// Docker's words for it.
    pub fn status(&self) -> String {
        match self {
            Self::PullingFrom(repository) => format!("Pulling from {repository}"),
            Self::PullingLayer => "Pulling fs layer".into(),
            Self::Waiting => "Waiting".into(),
            Self::AlreadyExists => "Already exists".into(),
            Self::Downloading(..) => "Downloading".into(),
            Self::Verifying => "Verifying Checksum".into(),
            Self::Downloaded => "Download complete".into(),
            Self::Extracting(..) => "Extracting".into(),
            Self::Complete => "Pull complete".into(),
            Self::Loading(..) => "Loading layer".into(),
            Self::Preparing => "Preparing".into(),
            Self::Pushing(..) => "Pushing".into(),
            Self::Pushed => "Pushed".into(),
            Self::LayerExists => "Layer already exists".into(),
            Self::Digest(digest) => format!("Digest: {digest}"),
            Self::Status(words) => words.clone(),
        }
    }

    /// Bytes done and bytes in all, where they are counted.
    pub const fn progress(&self) -> Option<(u64, u64)> {
        match self {
            Self::Downloading(done, all)
            | Self::Extracting(done, all)
            | Self::Loading(done, all)
            | Self::Pushing(done, all) => Some((*done, *all)),
            Self::PullingFrom(_)
            | Self::PullingLayer
            | Self::Waiting
            | Self::AlreadyExists
            | Self::Verifying
            | Self::Downloaded
            | Self::Complete
            | Self::Preparing
            | Self::Pushed
            | Self::LayerExists
            | Self::Digest(_)
            | Self::Status(_) => None,
        }
    }
}

/// Who is told. What it does must not block.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Fn(Update) + Send + Sync>>);

impl Progress {
    /// Nobody.
    pub fn none() -> Self {
        Self::default()
    }

    /// This function, for each update.
    pub fn to(listener: impl Fn(Update) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(super) fn tell(&self, id: impl Into<String>, step: Step) {
        if let Some(listener) = &self.0 {
            let id = id.into();
            listener(Update { id, step });
        }
    }

    /// About a layer.
    pub(super) fn layer(&self, digest: Digest, step: Step) {
        let mut id = digest.hex();
        id.truncate(12);
        self.tell(id, step);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Progress(told)"
        } else {
            "Progress(none)"
        })
    }
}
