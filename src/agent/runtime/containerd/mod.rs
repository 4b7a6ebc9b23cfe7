//! Containers on containerd, 1.6 and later.
//!
//! [`Containerd`] keeps nothing in memory that it could not find again: the containers are containerd's records under
//! this node's label, and each has a directory of ours for what containerd does not remember. So a daemon that is
//! killed at any point, a containerd that is restarted, and a machine that is switched off are all the same case: look,
//! and go on.
//!
//! ```text
//! create   directory, container record → snapshot → mark `created`      a record without the mark is a ruin
//! start    task → mark `started` → process                              the mark before the process: never twice
//! wait     process ends → mark `exit` → task deleted
//! again    task, shim and logger gone → marks away             the same file system, for another process
//! remove   task → snapshot → record → what is ours of the directory     the record last: it leads to the rest
//! ```
//!
//! Nothing here touches a container without this node's label, or decides anything about tasks.

mod again;
mod archive;
mod attach;
mod cgroup;
mod client;
mod control;
mod create;
mod cut_short;
mod devices;
mod exec;
mod folder;
mod host;
mod image;
mod list;
mod look;
mod prepared;
mod probe;
mod process;
mod remove;
mod rootfs;
mod shim;
mod start;
mod stats;
mod wait;
mod words;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use containerd_client::services::v1::version_client::VersionClient;
use tokio::sync::{Notify, Semaphore};

use super::spec::HostFacts;
use super::{Found, Runtime, RuntimeError, Started};
use crate::model::container::{Exit, ImageRef};
use crate::model::{ContainerConfig, ContainerId, NodeId, Timestamp};
pub use archive::ArchiveError;
pub use attach::Attached;
use client::Client;
pub use exec::{Exec, ExecSpec};
use folder::Folder;
use image::Bases;
pub use look::Look;
use prepared::Prepared;

/// The label that says whose a container is.
const NODE_LABEL: &str = "skein.node";

/// The shim that containers run under.
const RUNTIME: &str = "io.containerd.runc.v2";

/// What the runtime works with.
#[derive(Clone, Debug)]
pub struct ContainerdSettings {
    /// containerd's socket.
    pub address: PathBuf,
    /// Never shared with another node or another containerd of this machine: what is below knows containers by
    /// namespace and ID alone, and would take one for the other.
    pub namespace: String,
    /// Whose containers these are.
    pub node: NodeId,
    /// `overlayfs`, or another that containerd has.
    pub snapshotter: String,
    /// Our own program: the logger, and the init of containers that have one.
    pub helper: PathBuf,
    /// Where each container has a directory of its own.
    pub state_dir: PathBuf,
    /// The control group of all containers of this node.
    pub cgroup_parent: String,
    /// Containers that are started at a time.
    pub starts_at_once: usize,
    /// The wall clock.
    pub now: fn() -> Timestamp,
}

/// Why the runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A name that containerd would not take.
    #[error("\"{0}\" is no name for a namespace of containerd")]
    Namespace(String),
    /// Nobody answers.
    #[error("containerd does not answer on {}", .address.display())]
    Unreachable {
        /// Where it was looked for.
        address: PathBuf,
        /// What was tried.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Our own directory cannot be made.
    #[error("cannot make {}", .path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Runs containers. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Containerd {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: ContainerdSettings,
    host: HostFacts,
    client: Client,
    bases: Bases,
    prepared: Prepared,
    /// Path of the program that makes containers; empty for the shim's own choice, which is runc.
    binary: String,
    version: String,
    starts: Semaphore,
    /// Something was started or removed: whoever waits for a container looks again.
    changed: Notify,
}

impl Containerd {
    /// Connects, and finds out what the machine can do.
    pub async fn connect(settings: ContainerdSettings) -> Result<Self, ConnectError> {
        let namespace = settings.namespace.parse();
        let fits = !settings.namespace.is_empty() && settings.namespace.len() <= 76;
        let namespace = namespace
            .ok()
            .filter(|_| fits)
            .ok_or_else(|| ConnectError::Namespace(settings.namespace.clone()))?;
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| {
            let address = settings.address.clone();
            ConnectError::Unreachable { address, source }
        };
        let channel = containerd_client::connect(&settings.address).await;
        let channel = channel.map_err(|error| unreachable(Box::new(error)))?;
        let client = Client::new(channel.clone(), namespace);
        let version = VersionClient::new(channel)
            .version(client.request(()))
            .await;
        let version = version.map_err(|status| unreachable(Box::new(status)))?;
        let mount_point = settings.state_dir.join(MOUNT_POINT);
        std::fs::create_dir_all(&mount_point).map_err(|source| ConnectError::Directory {
            path: mount_point,
            source,
        })?;
        if let Err(status) = image::remove_views(&client, &settings.snapshotter).await {
            tracing::warn!(%status, "views of images that were left behind were not removed");
        }
        let binary = probe::better_runtime(&settings).await;
        let mut host = host::facts(&settings.helper, &settings.cgroup_parent);
        host.read_only_below =
            host.kernel >= (5, 12) && probe::reads_only_below(binary.as_deref()).await;
        Ok(Self {
            inner: Arc::new(Inner {
                host,
                client,
                bases: Bases::default(),
                prepared: Prepared::default(),
                binary: binary.unwrap_or_default(),
                version: version.into_inner().version,
                starts: Semaphore::new(settings.starts_at_once.max(1)),
                changed: Notify::new(),
                settings,
            }),
        })
    }

    /// containerd's version.
    pub fn version(&self) -> &str {
        &self.inner.version
    }

    /// The program that makes containers, `runc` or `crun`.
    pub fn runtime_name(&self) -> &'static str {
        if self.inner.binary.is_empty() {
            "runc"
        } else {
            "crun"
        }
    }

    /// What the machine can do.
    pub fn host(&self) -> &HostFacts {
        &self.inner.host
    }

    /// Where a container's configuration and logs are. They stay when it is removed; [`Containerd::purge`] ends them.
    pub fn folder(&self, id: ContainerId) -> PathBuf {
        self.inner.folder(id).path().to_owned()
    }

    /// The nodes that have containers in the namespace: this one, and those that this machine has been before.
    pub async fn nodes(&self) -> Result<BTreeSet<NodeId>, RuntimeError> {
        self.inner.nodes().await
    }

    /// The configuration that a container was made with; also of one that was removed, until it is purged.
    pub fn config(&self, id: ContainerId) -> Result<Option<ContainerConfig>, RuntimeError> {
        let config = self.inner.folder(id).config();
        config.map_err(disk("read the container's configuration"))
    }

    /// Does `work`, which blocks, with the content of an image mounted at the path that it is given. Only `work` sees
    /// it there, and nothing of it is left, however this process ends.
    pub async fn with_image<T: Send + 'static>(
        &self,
        image: &ImageRef,
        work: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let (client, snapshotter) = (&self.inner.client, &self.inner.settings.snapshotter);
        let base = self.inner.base(image).await?;
        let view = image::View::of(client, snapshotter, &base.chain).await?;
        let done = rootfs::beside(view.mounts.clone(), self.inner.mount_point(), work).await;
        view.end(client).await;
        done.map_err(|error| {
            let words = format!("mount the image: {error}");
            client::broken(super::Failure::Retry, words, error)
        })
    }

    /// Removes what is left of a removed container: its logs.
    pub fn purge(&self, id: ContainerId) -> Result<(), RuntimeError> {
        let purged = self.inner.folder(id).purge();
        purged.map_err(disk("remove the container's directory"))
    }
}

/// Below the state directory: empty, roots are mounted on it in a private mount namespace.
const MOUNT_POINT: &str = ".root";

impl Inner {
    fn folder(&self, id: ContainerId) -> Folder {
        Folder::of(&self.settings.state_dir, id)
    }

    fn now(&self) -> Timestamp {
        (self.settings.now)()
    }

    fn mount_point(&self) -> PathBuf {
        self.settings.state_dir.join(MOUNT_POINT)
    }
}

/// A failure of our own disk: it may have room again later.
fn disk(doing: &'static str) -> impl FnOnce(io::Error) -> RuntimeError {
    move |error| {
        let message = format!("{doing}: {error}");
        client::broken(super::Failure::Retry, message, error)
    }
}

impl Runtime for Containerd {
    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        self.inner.list().await
    }

    async fn inspect(&self, id: ContainerId) -> Result<Option<Found>, RuntimeError> {
        self.inner.inspect(id).await
    }

    async fn create(&self, config: &ContainerConfig) -> Result<(), RuntimeError> {
        self.inner.create(config).await
    }

    async fn start(&self, id: ContainerId) -> Result<Started, RuntimeError> {
        self.inner.start(id).await
    }

    async fn wait(&self, id: ContainerId) -> Result<Exit, RuntimeError> {
        self.inner.wait(id).await
    }

    async fn signal(&self, id: ContainerId, signal: i32) -> Result<(), RuntimeError> {
        self.inner.signal(id, signal).await
    }

    async fn remove(&self, id: ContainerId) -> Result<(), RuntimeError> {
        self.inner.remove(id).await
    }
}
