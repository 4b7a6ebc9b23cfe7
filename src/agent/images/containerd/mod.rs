//! containerd's stores of content, snapshots and images, as the image room uses them.
//!
//! Thin: one method for each thing that is asked, names and namespace filled in, errors sorted by what to do about
//! them. Works on containerd 1.6, 1.7 and 2.x alike. Decides nothing.

pub mod content;
pub mod records;
pub mod snapshots;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::tonic::metadata::AsciiMetadataValue;
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Request, Status};

/// Longest answer that is read: lists of images and their labels.
const ANSWER_LIMIT: usize = 64 << 20;

/// How long a question without much content may take; disks are slow under load.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// Why containerd could not do something.
#[derive(Debug, thiserror::Error)]
#[error("containerd cannot {what}: {}", .source.message())]
pub struct StoreError {
    what: &'static str,
    #[source]
    source: Box<Status>,
}

impl StoreError {
    fn new(what: &'static str, source: Status) -> Self {
        let source = Box::new(source);
        Self { what, source }
    }

    /// What was to be done.
    pub const fn what(&self) -> &'static str {
        self.what
    }

    /// There is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.source.code() == Code::NotFound
    }

    /// It is there already.
    pub fn is_there(&self) -> bool {
        self.source.code() == Code::AlreadyExists
    }

    /// Its state does not allow it: content is not what it should be.
    pub fn is_mismatch(&self) -> bool {
        self.source.code() == Code::FailedPrecondition
    }

    /// Somebody else writes the same content at this moment.
    pub fn is_locked(&self) -> bool {
        self.source.code() == Code::Unavailable && self.source.message().contains("locked")
    }

    /// The disk is full.
    pub fn is_disk_full(&self) -> bool {
        let words = self.source.message();
        words.contains("no space left on device") || words.contains("disk quota exceeded")
    }
}

/// What cannot be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// containerd does not answer.
    #[error("containerd does not answer at {address}")]
    Unreachable {
        /// Its socket.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The namespace is no name.
    #[error("\"{0}\" is no name for a namespace of containerd")]
    Namespace(String),
}

/// A connection to containerd, for one namespace. It connects again by itself when containerd restarts.
#[derive(Clone)]
pub struct Containerd {
    channel: Channel,
    namespace: AsciiMetadataValue,
    snapshotter: Arc<str>,
    lease: Option<AsciiMetadataValue>,
}

impl std::fmt::Debug for Containerd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Containerd({:?}, {:?})", self.namespace, self.lease)
    }
}

impl Containerd {
    /// Connects to the socket at `address`.
    pub async fn connect(
        address: &Path,
        namespace: &str,
        snapshotter: &str,
    ) -> Result<Self, ConnectError> {
        let channel = containerd_client::connect(address)
            .await
            .map_err(|source| ConnectError::Unreachable {
                address: address.display().to_string(),
                source,
            })?;
        let good = !namespace.is_empty()
            && namespace.len() <= 76
            && namespace
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let value = namespace
            .parse::<AsciiMetadataValue>()
            .ok()
            .filter(|_| good);
        let namespace = value.ok_or_else(|| ConnectError::Namespace(namespace.into()))?;
        Ok(Self {
            channel,
            namespace,
            snapshotter: snapshotter.into(),
            lease: None,
        })
    }

    /// The same, with everything that is made kept by a lease.
    #[must_use]
    pub fn leased(&self, lease: &Lease) -> Self {
        let lease = Some(lease.0.clone());
        Self {
            lease,
            ..self.clone()
        }
    }

    /// Which snapshotter unpacks.
    pub fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    fn stream<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            metadata.insert("containerd-lease", lease.clone());
        }
        request
    }

    /// A question with a deadline.
    fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = self.stream(message);
        request.set_timeout(CALL_DEADLINE);
        request
    }

    fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_LIMIT)
    }

    fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_LIMIT)
    }

    fn images(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_LIMIT)
    }

    fn leases(&self) -> LeasesClient<Channel> {
        LeasesClient::new(self.channel.clone())
    }

    fn diff(&self) -> DiffClient<Channel> {
        DiffClient::new(self.channel.clone())
    }
}

/// What keeps content that nothing refers to yet.
#[derive(Clone, Debug)]
pub struct Lease(AsciiMetadataValue);

/// "Not found" as `None`.
fn maybe<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
