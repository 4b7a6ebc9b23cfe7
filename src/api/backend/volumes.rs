//! The seam to this machine's volumes. Plain values; the node implements [`VolumeStore`].

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Refusal;
use crate::model::Timestamp;

/// The label of volumes that were made without a name.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name, unique on this machine.
    pub name: String,
    /// What keeps it.
    pub driver: String,
    /// Where its files are.
    pub mountpoint: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The driver's options, as they were given.
    pub options: BTreeMap<String, String>,
    /// How many containers hold it.
    pub users: usize,
}

/// A volume to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name; one is made up when it is empty.
    pub name: String,
    /// Its driver; empty is `local`.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What a pruning took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunedVolumes {
    /// Names.
    pub names: Vec<String>,
    /// Bytes of their files.
    pub reclaimed: u64,
}

/// Which volumes are to go, of those that nobody holds.
pub type VolumeChoice = Box<dyn Fn(&Volume) -> bool + Send>;

/// The volumes of this machine.
#[async_trait]
pub trait VolumeStore: Send + Sync + 'static {
    /// All volumes, by name.
    async fn list(&self) -> Result<Vec<Volume>, Refusal>;

    /// One volume.
    async fn inspect(&self, name: &str) -> Result<Volume, Refusal>;

    /// Bytes of a volume's files on this machine's disks.
    async fn size(&self, name: &str) -> Result<u64, Refusal>;

    /// Makes a volume, or finds the one that has this name.
    async fn create(&self, new: NewVolume) -> Result<Volume, Refusal>;

    /// Removes a volume that nobody holds. With `force`, one that is not there is no error.
    async fn remove(&self, name: &str, force: bool) -> Result<(), Refusal>;

    /// Removes the volumes that nobody holds and that are chosen.
    async fn prune(&self, chosen: VolumeChoice) -> Result<PrunedVolumes, Refusal>;
}
