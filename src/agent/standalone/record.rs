//! What is written down of a standalone container: one file each, complete or not there.
//!
//! Written before each effect, so that a daemon that was killed at any point finds what it was about. What cannot be read
//! is told and left alone: nothing of that container is touched.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::warn;

use super::life::{Life, Rules};
use crate::agent::task::health::HealthPlan;
use crate::model::container::Mount;
use crate::model::standalone::Wanted;
use crate::model::{ContainerConfig, ContainerId, Timestamp};

/// The form of the file.
const FORMAT: u32 = 1;

/// A standalone container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// As its user asked for it.
    pub wanted: Wanted,
    /// Docker's `Config`, with what the image says where the user said nothing.
    pub shown: Map<String, Value>,
    /// As the runtime is asked for it.
    pub config: ContainerConfig,
    /// What is mounted into it, with its volumes by their names.
    pub mounts: Vec<Mount>,
    /// How its health is asked, if it is.
    pub health: Option<HealthPlan>,
    /// The volumes that it holds.
    pub volumes: Vec<String>,
    /// Those of them that are nobody else's.
    pub anonymous: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// How far it is.
    pub life: Life,
}

impl Record {
    /// Of a container that is about to be made.
    pub(super) fn new(
        wanted: Wanted,
        shown: Map<String, Value>,
        config: ContainerConfig,
        created: Timestamp,
    ) -> Self {
        Self {
            format: FORMAT,
            wanted,
            shown,
            mounts: config.mounts.clone(),
            config,
            health: None,
            volumes: Vec::new(),
            anonymous: Vec::new(),
            created,
            life: Life::default(),
        }
    }

    /// Its rules.
    pub fn rules(&self) -> Rules {
        Rules {
            restart: self.wanted.restart,
            auto_remove: self.wanted.auto_remove,
        }
    }
}

/// Where records are.
#[derive(Clone, Debug)]
pub(super) struct Shelf(PathBuf);

impl Shelf {
    /// Opens the directory, which is made when it is not there, and reads what is in it.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Vec<Record>)> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let mut records = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(id) = name.strip_suffix(".json") else {
                continue;
            };
            let Ok(id) = id.parse::<ContainerId>() else {
                continue;
            };
            let read = serde_json::from_slice::<Record>(&fs::read(&path)?);
            match read {
                Ok(record) if record.config.id == id && record.format == FORMAT => {
                    records.push(record);
                }
                Ok(_) => {
                    warn!(path = %path.display(), "the record of a container has another form")
                }
                Err(error) => {
                    warn!(path = %path.display(), %error, "the record of a container cannot be read");
                }
            }
        }
        Ok((Self(dir.to_owned()), records))
    }

    fn path(&self, id: ContainerId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    /// Writes a record down: when this returns it is on disk.
    pub(super) fn save(&self, record: &Record) -> io::Result<()> {
        let path = self.path(record.config.id);
        let aside = path.with_extension("new");
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&aside)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.sync_data()?;
        fs::rename(&aside, &path)?;
        self.sync()
    }

    /// Forgets a container.
    pub(super) fn remove(&self, id: ContainerId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_data()
    }
}
