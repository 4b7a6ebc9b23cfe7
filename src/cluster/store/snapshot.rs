//! Snapshots: the whole state at one index, as bytes on the wire and as a sealed file.
//!
//! A file's name holds the epoch and the index, so a newer one never overwrites an older one: it is
//! written and synced under another name, renamed, and only then are the older ones removed. Damage
//! shows when the file is opened, because the content is authenticated.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::disk::{Disk, SNAPSHOT_PREFIX};
use super::fault::FileFault;
use super::objects::Objects;
use super::seal::{Kind, Sealer};
use super::state::State;
use super::types::{Epoch, LogRef, Members, SnapshotMeta, StoredMembership};
use super::work::{TemplateKey, Work};
use crate::model::{
    Cluster, Dependency, Network, Node, NodeId, Service, Task, Template, Timestamp,
};
use crate::wire::codec::{DECODE_LIMIT, DecodeError, EncodeError};
use crate::wire::{Json, decode, encode};

/// First bytes of a snapshot file.
const MAGIC: &[u8; 8] = b"SKEINSNP";
/// The format of the file.
const FILE_FORMAT: u16 = 1;
/// The format of the content, which also travels.
const CONTENT_FORMAT: u16 = 3;
/// The format before secrets, configs and networks.
const WITHOUT_OBJECTS: u16 = 2;
/// The format before services and tasks.
const WITHOUT_WORK: u16 = 1;
/// Longest content, in bytes: what the codec decodes.
pub(super) const MAX_CONTENT: usize = DECODE_LIMIT;

/// Why bytes are no snapshot. Nothing of them was used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    /// A newer build wrote it.
    #[error(
        "the snapshot has format {0}, this build knows up to {CONTENT_FORMAT}: upgrade this node"
    )]
    Format(u16),
    /// They are damaged.
    #[error("the snapshot does not decode")]
    Malformed(#[source] DecodeError),
    /// They are too few, or name an impossible membership.
    #[error("the snapshot is impossible")]
    Impossible,
    /// There is more state than a snapshot may hold.
    #[error("a snapshot of {0} bytes is too long: at most {MAX_CONTENT}")]
    TooLong(usize),
    /// The state cannot be written down.
    #[error("the state cannot be encoded")]
    Encode(#[source] EncodeError),
}

/// A state with the place in the log that it stands for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Image {
    pub(super) meta: SnapshotMeta,
    pub(super) state: State,
}

#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "C: Serialize, N: Serialize",
    deserialize = "C: serde::de::DeserializeOwned, N: serde::de::DeserializeOwned"
))]
struct Record<C, N> {
    last: Option<LogRef>,
    members_at: Option<LogRef>,
    members: Members,
    version: u64,
    cluster: Option<Json<C>>,
    nodes: Vec<Json<N>>,
    removed: Vec<(NodeId, Timestamp)>,
}

/// What [`WITHOUT_WORK`] ends before.
#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "S: Serialize, P: Serialize, T: Serialize",
    deserialize = "S: serde::de::DeserializeOwned, P: serde::de::DeserializeOwned, T: serde::de::DeserializeOwned"
))]
struct WorkRecord<S, P, T> {
    services: Vec<Json<S>>,
    templates: Vec<(TemplateKey, Json<P>)>,
    tasks: Vec<Json<T>>,
}

/// What [`WITHOUT_OBJECTS`] ends before.
#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "D: Serialize, N: Serialize",
    deserialize = "D: serde::de::DeserializeOwned, N: serde::de::DeserializeOwned"
))]
struct ObjectsRecord<D, N> {
    dependencies: Vec<Json<D>>,
    networks: Vec<Json<N>>,
}

/// The content as it is read: [`WITHOUT_WORK`], then two more parts.
type Oldest = Record<Cluster, Node>;
type Old = (Oldest, WorkRecord<Service, Box<Template>, Task>);
type Now = (
    Oldest,
    WorkRecord<Service, Box<Template>, Task>,
    ObjectsRecord<Dependency, Network>,
);

impl Image {
    /// The content of a snapshot of this.
    pub(super) fn encode(&self) -> Result<Bytes, ContentError> {
        let record = Record {
            last: self.meta.last_log_id.map(LogRef::from),
            members_at: self.meta.last_membership.log_id().map(LogRef::from),
            members: Members::of(self.meta.last_membership.membership()),
            version: self.state.version,
            cluster: self.state.cluster.as_deref().map(Json),
            nodes: self
                .state
                .nodes
                .values()
                .map(|node| Json(&**node))
                .collect(),
            removed: self
                .state
                .removed
                .iter()
                .map(|(id, at)| (*id, *at))
                .collect(),
        };
        let work = &self.state.work;
        let templates = work.templates();
        let work = WorkRecord {
            services: work.services.values().map(|one| Json(&**one)).collect(),
            templates: templates.map(|(key, one)| (key, Json(&**one))).collect(),
            tasks: work.tasks.values().map(|one| Json(&**one)).collect(),
        };
        let objects = &self.state.objects;
        let dependencies = objects.dependencies.values();
        let objects = ObjectsRecord {
            dependencies: dependencies.map(|one| Json(&**one)).collect(),
            networks: objects.networks.values().map(|one| Json(&**one)).collect(),
        };
        let mut content = CONTENT_FORMAT.to_le_bytes().to_vec();
        content.extend(encode(&(record, work, objects)).map_err(ContentError::Encode)?);
        match content.len() {
            len if len > MAX_CONTENT => Err(ContentError::TooLong(len)),
            _ => Ok(content.into()),
        }
    }

    /// The image that such content describes.
    pub(super) fn decode(content: &[u8]) -> Result<Self, ContentError> {
        let (format, body) = content
            .split_first_chunk::<2>()
            .ok_or(ContentError::Impossible)?;
        let format = u16::from_le_bytes(*format);
        let (record, work, objects) = match format {
            CONTENT_FORMAT => {
                let (record, work, objects): Now = decode(body).map_err(ContentError::Malformed)?;
                (record, Some(work), Some(objects))
            }
            WITHOUT_OBJECTS => {
                let (record, work): Old = decode(body).map_err(ContentError::Malformed)?;
                (record, Some(work), None)
            }
            WITHOUT_WORK => {
                let record: Oldest = decode(body).map_err(ContentError::Malformed)?;
                (record, None, None)
            }
            newer => return Err(ContentError::Format(newer)),
        };
        let membership = record
            .members
            .into_membership()
            .ok_or(ContentError::Impossible)?;
        Ok(Self {
            meta: SnapshotMeta {
                last_log_id: record.last.map(Into::into),
                last_membership: StoredMembership::new(
                    record.members_at.map(Into::into),
                    membership,
                ),
            },
            state: State {
                version: record.version,
                cluster: record.cluster.map(|cluster| Arc::new(cluster.0)),
                nodes: record
                    .nodes
                    .into_iter()
                    .map(|node| (node.0.id, Arc::new(node.0)))
                    .collect(),
                removed: record.removed.into_iter().collect(),
                work: work.map(WorkRecord::restore).unwrap_or_default(),
                objects: objects.map(ObjectsRecord::restore).unwrap_or_default(),
            },
        })
    }
}

impl WorkRecord<Service, Box<Template>, Task> {
    fn restore(self) -> Work {
        Work::restore(
            self.services.into_iter().map(|one| one.0),
            self.templates.into_iter().map(|(key, one)| (key, one.0)),
            self.tasks.into_iter().map(|one| one.0),
        )
    }
}

impl ObjectsRecord<Dependency, Network> {
    fn restore(self) -> Objects {
        Objects::restore(
            self.dependencies.into_iter().map(|one| one.0),
            self.networks.into_iter().map(|one| one.0),
        )
    }
}

/// The snapshot files of one store.
#[derive(Clone, Debug)]
pub(super) struct Snapshots {
    disk: Arc<dyn Disk>,
    sealer: Arc<Sealer>,
}

impl Snapshots {
    pub(super) fn new(disk: Arc<dyn Disk>, sealer: Arc<Sealer>) -> Self {
        Self { disk, sealer }
    }

    /// Keeps `content`, which ends at `index`, durably, and removes those that a newer one replaces.
    pub(super) fn save(&self, epoch: Epoch, index: u64, content: &[u8]) -> Result<(), FileFault> {
        self.add(epoch, index, content)?;
        // A newer one may have been installed while this one was being made.
        let newest = self.newest_index(epoch)?.map(|index| name(epoch, index));
        let ours = epoch_prefix(epoch);
        for other in self.names()? {
            if other.starts_with(&ours) && Some(&other) != newest.as_ref() {
                self.disk.remove(&other)?;
            }
        }
        Ok(())
    }

    /// Keeps `content` beside the others.
    pub(super) fn add(&self, epoch: Epoch, index: u64, content: &[u8]) -> Result<(), FileFault> {
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&FILE_FORMAT.to_le_bytes());
        file.extend(self.sealer.seal(Kind::Snapshot, index, content));
        self.disk.write(&name(epoch, index), &file)
    }

    /// Removes the snapshots of other epochs: a recovery or a reset that did not come to its end left them.
    pub(super) fn drop_other_epochs(&self, epoch: Epoch) -> Result<(), FileFault> {
        let ours = epoch_prefix(epoch);
        for name in self.names()? {
            if !name.starts_with(&ours) {
                self.disk.remove(&name)?;
            }
        }
        Ok(())
    }

    /// The index that the newest snapshot of an epoch ends at.
    pub(super) fn newest_index(&self, epoch: Epoch) -> Result<Option<u64>, FileFault> {
        let prefix = epoch_prefix(epoch);
        let indices = self
            .names()?
            .into_iter()
            .filter_map(|name| name.strip_prefix(&prefix)?.parse().ok())
            .max();
        Ok(indices)
    }

    /// The content of the newest snapshot of an epoch, with its index.
    pub(super) fn newest(&self, epoch: Epoch) -> Result<Option<(u64, Bytes)>, FileFault> {
        let Some(index) = self.newest_index(epoch)? else {
            return Ok(None);
        };
        let name = name(epoch, index);
        let path = self.disk.path(&name);
        let file = self
            .disk
            .read(&name)?
            .ok_or_else(|| FileFault::Missing { path: path.clone() })?;
        let damaged = |what: &str| FileFault::damaged(&path, what);
        let Some((magic, rest)) = file.split_first_chunk::<8>() else {
            return Err(damaged("it is too short"));
        };
        let Some((format, sealed)) = rest.split_first_chunk::<2>() else {
            return Err(damaged("it is too short"));
        };
        if magic != MAGIC {
            return Err(damaged("it does not begin as a snapshot does"));
        }
        match u16::from_le_bytes(*format) {
            FILE_FORMAT => {}
            0 => return Err(damaged("it has no format")),
            found => {
                return Err(FileFault::NewerFormat {
                    path,
                    found: found.into(),
                    known: FILE_FORMAT.into(),
                });
            }
        }
        let content = self
            .sealer
            .open_record(Kind::Snapshot, index, sealed)
            .map_err(|_| damaged("its content does not open"))?;
        Ok(Some((index, content.into())))
    }

    /// The newest snapshot of an epoch as an image.
    pub(super) fn newest_image(&self, epoch: Epoch) -> Result<Option<Image>, FileFault> {
        let Some((index, content)) = self.newest(epoch)? else {
            return Ok(None);
        };
        let path = self.disk.path(&name(epoch, index));
        match Image::decode(&content) {
            Ok(image) => Ok(Some(image)),
            Err(ContentError::Format(found)) => Err(FileFault::NewerFormat {
                path,
                found: found.into(),
                known: CONTENT_FORMAT.into(),
            }),
            Err(error) => Err(FileFault::damaged(&path, error.to_string())),
        }
    }

    /// Where the snapshot that ends at `index` would be.
    pub(super) fn path(&self, epoch: Epoch, index: u64) -> std::path::PathBuf {
        self.disk.path(&name(epoch, index))
    }

    fn names(&self) -> Result<Vec<String>, FileFault> {
        let mut names = self.disk.list()?;
        names.retain(|name| name.starts_with(SNAPSHOT_PREFIX));
        Ok(names)
    }
}

fn epoch_prefix(epoch: Epoch) -> String {
    format!("{SNAPSHOT_PREFIX}{}-{:016x}-", epoch.count, epoch.id)
}

fn name(epoch: Epoch, index: u64) -> String {
    format!("{}{index}", epoch_prefix(epoch))
}
