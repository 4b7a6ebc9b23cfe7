//! What a node remembers of its own membership between two starts: `<data-root>/swarm/state.json`.
//!
//! Not the cluster's state, which is the store's. Written whole and atomically; a file that does not parse is an error
//! with its name in it, since guessing would make a node forget its cluster.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The format written here.
const FORMAT: u32 = 1;

/// A member's own memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// [`FORMAT`].
    pub format: u32,
    /// Where `init` or `join` said to listen, when they did.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// What `init` or `join` said to advertise, when they did.
    #[serde(default)]
    pub advertise: Option<SocketAddr>,
    /// Rises with each start, whatever the clock does.
    #[serde(default)]
    pub generation: u64,
}

/// The file could not be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Reading or writing failed.
    #[error("{path} cannot be {verb}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read`, `written`, `removed`.
        verb: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no memory of this version.
    #[error(
        "{path} is damaged: restore it from a backup, or run \"skein leave --force\" and join again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A later Skein wrote it.
    #[error("{path} was written by a later version of Skein (format {format}): upgrade this node")]
    Later {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

/// The directory of all membership files: `<data-root>/swarm`.
#[derive(Clone, Debug)]
pub struct MemberDir(PathBuf);

impl MemberDir {
    /// The one below this data root.
    pub fn new(data_root: &Path) -> Self {
        Self(data_root.join("swarm"))
    }

    /// Where the store lives.
    pub fn store(&self) -> PathBuf {
        self.0.join("raft")
    }

    /// Where known peers are remembered.
    pub fn peers(&self) -> PathBuf {
        self.0.join("peers.json")
    }

    fn memory(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// Reads the memory; `None` when the node is in no cluster.
    pub fn load(&self) -> Result<Option<Memory>, MemoryError> {
        let path = self.memory();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(MemoryError::Io {
                    path,
                    verb: "read",
                    source,
                });
            }
        };
        let memory: Memory =
            serde_json::from_slice(&text).map_err(|source| MemoryError::Damaged {
                path: path.clone(),
                source,
            })?;
        if memory.format > FORMAT {
            return Err(MemoryError::Later {
                path,
                format: memory.format,
            });
        }
        Ok(Some(memory))
    }

    /// Writes the memory, durable on return.
    pub fn save(&self, memory: &Memory) -> Result<(), MemoryError> {
        self.write(memory, true)
    }

    /// Writes the memory for a start that follows at once, which saves it again: not durable before.
    pub fn hand_on(&self, memory: &Memory) -> Result<(), MemoryError> {
        self.write(memory, false)
    }

    fn write(&self, memory: &Memory, durable: bool) -> Result<(), MemoryError> {
        let path = self.memory();
        let memory = Memory {
            format: FORMAT,
            ..memory.clone()
        };
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(&self.0)?;
            let temporary = path.with_extension("new");
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(&memory)?)?;
            if durable {
                file.sync_all()?;
            }
            std::fs::rename(&temporary, &path)?;
            if durable {
                File::open(&self.0)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|source| MemoryError::Io {
            path: path.clone(),
            verb: "written",
            source,
        })
    }

    /// Forgets the membership: store, keys, peers, memory.
    pub fn wipe(&self) -> Result<(), MemoryError> {
        match std::fs::remove_dir_all(&self.0) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(MemoryError::Io {
                path: self.0.clone(),
                verb: "removed",
                source,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_and_forgets() {
        let root = tempfile::tempdir().unwrap();
        let dir = MemberDir::new(root.path());
        assert_eq!(dir.load().unwrap(), None);
        let memory = Memory {
            format: FORMAT,
            generation: 3,
            ..Memory::default()
        };
        dir.save(&memory).unwrap();
        assert_eq!(dir.load().unwrap(), Some(memory));
        dir.wipe().unwrap();
        assert_eq!(dir.load().unwrap(), None);
        dir.wipe().unwrap();
    }

    #[test]
    fn a_damaged_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        let dir = MemberDir::new(root.path());
        dir.save(&Memory::default()).unwrap();
        std::fs::write(dir.memory(), b"{").unwrap();
        assert!(
            dir.load()
                .unwrap_err()
                .to_string()
                .contains("state.json is damaged")
        );
        std::fs::write(dir.memory(), br#"{"format": 9}"#).unwrap();
        assert!(
            dir.load()
                .unwrap_err()
                .to_string()
                .contains("later version")
        );
    }
}
