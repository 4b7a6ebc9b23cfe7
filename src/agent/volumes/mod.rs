//! Named volumes of this machine, as Docker's `local` driver has them.
//!
//! A volume is a directory below the root, `<name>/_data`, and what is known of it beside, `<name>/volume.json`. With
//! options it is a mount on that directory, made for its first user and undone after its last. Who uses a volume is
//! told by the runner, anew at each start ([`Volumes::restore`]): it is written down nowhere, so that nothing can
//! disagree with the containers that exist.
//!
//! | file | holds |
//! |---|---|
//! | `names` | what a volume may be called |
//! | `options` | the driver's options, as what `mount(2)` is told |
//! | `record` | what is known of a volume, on disk |
//! | `mounts` | mounting and unmounting |
//! | `fill` | an image's content into a volume that is empty |
//! | `shelf` | the volumes, blocking |
//!
//! Nothing here knows containers beyond their IDs, nor follows a symbolic link out of a volume or an image.

mod fill;
mod mounts;
mod names;
mod options;
mod record;
mod shelf;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{ContainerId, Timestamp};

pub use options::{MountPlan, OptionsError, plan};
use shelf::Shelf;

/// The one driver.
pub const DRIVER: &str = "local";

/// The label of volumes that were made without a name.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name, unique on this machine.
    pub name: String,
    /// Where it is mounted from.
    pub mountpoint: PathBuf,
    /// When it was made.
    pub created: Timestamp,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The driver's options, as they were given.
    pub options: BTreeMap<String, String>,
    /// The containers that hold it.
    pub users: BTreeSet<ContainerId>,
}

/// A volume to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name; when empty, one is made up, and it carries the label of an anonymous volume.
    pub name: String,
    /// `local`, or empty.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What prune took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names.
    pub names: Vec<String>,
    /// Bytes of their files.
    pub bytes: u64,
}

/// Why a volume could not be made, used or removed; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There is none of this name.
    #[error("get {0}: no such volume")]
    NoSuch(String),
    /// The name cannot be one.
    #[error("create {name}: {words}")]
    Name {
        /// As it was given.
        name: String,
        /// Docker's.
        words: String,
    },
    /// There is no such driver.
    #[error("create {name}: error looking up volume plugin {driver}: plugin {driver:?} not found")]
    Driver {
        /// Of the volume.
        name: String,
        /// As it was given.
        driver: String,
    },
    /// The driver does not take these options.
    #[error("create {name}: {words}")]
    Options {
        /// Of the volume.
        name: String,
        /// Docker's.
        words: OptionsError,
    },
    /// Containers hold it.
    #[error("remove {name}: volume is in use - [{users}]")]
    InUse {
        /// Of the volume.
        name: String,
        /// Their IDs.
        users: String,
    },
    /// Its file system cannot be mounted. A password in its options is not shown.
    #[error("error while mounting volume '{target}': failed to mount local volume: {words}")]
    Mount {
        /// Where to.
        target: PathBuf,
        /// What was tried, and the system's reason.
        words: String,
    },
    /// The directory within the volume cannot be had.
    #[error("cannot access path {path}: {reason}")]
    Subpath {
        /// Within the volume.
        path: PathBuf,
        /// The system's.
        reason: std::io::Error,
    },
    /// A file of the volume, or of its record.
    #[error("volume {name}: {doing}")]
    File {
        /// Of the volume.
        name: String,
        /// What failed.
        doing: &'static str,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// Why the volumes of this machine cannot be had at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Making or reading the root, or a record.
    #[error("the volumes in {path} cannot be read")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// The volumes of this machine. Clones are handles on the same ones. What blocks is done on threads for that: a file
/// server that does not answer holds up nobody who does not use its volume.
#[derive(Clone, Debug)]
pub struct Volumes(Arc<Shelf>);

impl Volumes {
    /// The volumes below `root`, which is made when it is not there. What a crash left half made or half removed goes.
    pub async fn open(root: PathBuf) -> Result<Self, OpenError> {
        let path = root.clone();
        let shelf = tokio::task::spawn_blocking(move || Shelf::open(root)).await;
        let ended = |error| OpenError::Read {
            path,
            source: std::io::Error::other(error),
        };
        Ok(Self(Arc::new(shelf.map_err(ended)??)))
    }

    /// Says what containers hold that are here whatever else is. Before [`Self::restore`].
    pub fn hold(&self, users: &BTreeMap<ContainerId, BTreeSet<String>>) {
        self.0.hold(users);
    }

    /// Says which other containers there are and what they hold, and undoes mounts that nobody uses. Once, at start.
    pub async fn restore(
        &self,
        users: BTreeMap<ContainerId, BTreeSet<String>>,
    ) -> Result<(), VolumeError> {
        self.blocking("", move |shelf| {
            shelf.restore(&users);
            Ok(())
        })
        .await
    }

    /// Makes a volume, or finds the one that has this name already, whatever its labels and options.
    pub async fn create(&self, new: NewVolume, now: Timestamp) -> Result<Volume, VolumeError> {
        let name = new.name.clone();
        self.blocking(&name, move |shelf| shelf.create(new, now))
            .await
    }

    /// One volume.
    pub fn inspect(&self, name: &str) -> Result<Volume, VolumeError> {
        self.0.inspect(name)
    }

    /// All volumes, by name.
    pub fn list(&self) -> Vec<Volume> {
        self.0.list()
    }

    /// Bytes of a volume's files, on this machine's disks: a mount counts nothing.
    pub async fn size(&self, name: &str) -> Result<u64, VolumeError> {
        let own = name.to_string();
        self.blocking(name, move |shelf| shelf.size(&own)).await
    }

    /// Removes a volume and what is in it, but nothing that is only mounted there. With `force`, one that is not there
    /// is no error.
    pub async fn remove(&self, name: &str, force: bool) -> Result<(), VolumeError> {
        let own = name.to_string();
        let done = self.blocking(name, move |shelf| shelf.remove(&own)).await;
        match done {
            Err(VolumeError::NoSuch(_)) if force => Ok(()),
            done => done,
        }
    }

    /// Removes all volumes that nobody holds and that `chosen` wants gone.
    pub async fn prune(
        &self,
        chosen: impl Fn(&Volume) -> bool + Send + 'static,
    ) -> Result<Pruned, VolumeError> {
        self.blocking("", move |shelf| Ok(shelf.prune(chosen)))
            .await
    }

    /// Gives a volume to a container and mounts it when it is the first: where it lies. Good when the container has it
    /// already. It stays in use until [`Self::unmount`].
    pub async fn mount(&self, name: &str, container: ContainerId) -> Result<PathBuf, VolumeError> {
        let own = name.to_string();
        self.blocking(name, move |shelf| shelf.mount(&own, container))
            .await
    }

    /// A directory within a volume that the container holds, which must exist. It is mounted by itself, so that nobody
    /// can put a symbolic link in its place meanwhile.
    pub async fn subpath(
        &self,
        name: &str,
        container: ContainerId,
        subpath: PathBuf,
    ) -> Result<PathBuf, VolumeError> {
        let own = name.to_string();
        self.blocking(name, move |shelf| shelf.subpath(&own, container, &subpath))
            .await
    }

    /// Whether there is nothing in a volume that the container holds.
    pub async fn is_empty(&self, name: &str, container: ContainerId) -> Result<bool, VolumeError> {
        let own = name.to_string();
        self.blocking(name, move |shelf| shelf.is_empty(&own, container))
            .await
    }

    /// Copies what the image has at `target` below `rootfs` into a volume that the container holds, when it is empty.
    /// Owners, modes and times come along; extended attributes do not. Blocks, because the caller's thread may be the
    /// only one that sees `rootfs`.
    pub fn fill(
        &self,
        name: &str,
        container: ContainerId,
        rootfs: &Path,
        target: &Path,
    ) -> Result<(), VolumeError> {
        self.0.fill(name, container, rootfs, target)
    }

    /// Which volume a path of [`Self::mount`] or [`Self::subpath`] is of.
    pub fn of_path(&self, path: &Path) -> Option<String> {
        self.0.of_path(path)
    }

    /// The container no longer uses the volume; it is unmounted when it was the last. Good when it does not use it, or
    /// there is none.
    pub async fn unmount(&self, name: &str, container: ContainerId) -> Result<(), VolumeError> {
        let own = name.to_string();
        self.blocking(name, move |shelf| shelf.unmount(&own, container))
            .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Shelf) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let shelf = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&shelf)).await;
        done.map_err(|error| VolumeError::File {
            name: name.into(),
            doing: "its thread ended",
            source: std::io::Error::other(error),
        })?
    }
}

#[cfg(test)]
mod tests;
