//! Where a node's identity lies: `<data-root>/swarm/certificates/`, with Swarm's file names.
//!
//! The directory is 0700 and its files 0600. A file is replaced as a whole and is on disk when a save returns, so that
//! a crash leaves the old one or the new one. Called by the node at start, after a join and at each renewal.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tracing::warn;
use zeroize::Zeroizing;

/// Name of the file of trusted roots.
pub const ROOTS_FILE: &str = "swarm-root-ca.crt";

/// Name of the file of the node's certificate chain.
pub const CHAIN_FILE: &str = "swarm-node.crt";

/// Name of the file of the node's key.
pub const KEY_FILE: &str = "swarm-node.key";

/// No file of an identity is longer: a chain is some kilobytes.
const MAX_FILE_BYTES: u64 = 256 << 10;

/// Why the identity on disk cannot be used or changed. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Reading.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Writing, syncing or renaming.
    #[error("{path} cannot be written")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Deleting.
    #[error("{path} cannot be removed")]
    Remove {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Far larger than any certificate.
    #[error("{path} is larger than {MAX_FILE_BYTES} bytes: it is no file of an identity")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Some files of an identity, but not all.
    #[error(
        "{present} is there but {missing} is not: restore it from a backup, or remove {present} and join again"
    )]
    Incomplete {
        /// A file that is there.
        present: PathBuf,
        /// The file that should be beside it.
        missing: PathBuf,
    },
}

/// An identity as it lies on disk, not looked into.
pub struct StoredIdentity {
    /// The node's key, PEM.
    pub key_pem: Zeroizing<String>,
    /// Its certificate chain, PEM.
    pub chain_pem: String,
    /// The trusted roots, PEM.
    pub roots_pem: String,
}

impl std::fmt::Debug for StoredIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredIdentity").finish_non_exhaustive()
    }
}

/// The directory of one node's identity.
#[derive(Clone, Debug)]
pub struct CertificateDir {
    path: PathBuf,
}

impl CertificateDir {
    /// The directory under a data root; nothing is made yet.
    pub fn new(data_root: &Path) -> Self {
        Self {
            path: data_root.join("swarm").join("certificates"),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of a node that is member of a cluster; `None` when it is member of none. A key alone, made but
    /// never used to join, is no identity.
    pub fn load(&self) -> Result<Option<StoredIdentity>, FilesError> {
        let chain = self.read(CHAIN_FILE)?;
        let roots = self.read(ROOTS_FILE)?;
        let (Some(chain), Some(roots)) = (&chain, &roots) else {
            // Roots are saved first: alone they are what a crash in the middle of joining leaves.
            return match chain {
                None => Ok(None),
                Some(_) => Err(self.incomplete(CHAIN_FILE, ROOTS_FILE)),
            };
        };
        let key_pem = self
            .load_key()?
            .ok_or_else(|| self.incomplete(CHAIN_FILE, KEY_FILE))?;
        Ok(Some(StoredIdentity {
            key_pem,
            chain_pem: chain.to_string(),
            roots_pem: roots.to_string(),
        }))
    }

    /// The node's key, PEM; `None` before it has one.
    pub fn load_key(&self) -> Result<Option<Zeroizing<String>>, FilesError> {
        self.read(KEY_FILE)
    }

    /// Stores the node's key.
    pub fn save_key(&self, key_pem: &str) -> Result<(), FilesError> {
        self.write(KEY_FILE, key_pem)
    }

    /// Stores a certificate chain and the roots to trust, roots first: new roots include those that the old
    /// certificate needs, so that a crash between the two leaves a pair that works.
    pub fn save_certificates(&self, chain_pem: &str, roots_pem: &str) -> Result<(), FilesError> {
        self.write(ROOTS_FILE, roots_pem)?;
        self.write(CHAIN_FILE, chain_pem)
    }

    /// Removes the identity, certificate first: what a crash leaves is no member of anything. Nothing there is no
    /// error.
    pub fn remove_all(&self) -> Result<(), FilesError> {
        for name in [CHAIN_FILE, ROOTS_FILE, KEY_FILE] {
            for path in [self.path.join(name), self.temporary(name)] {
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(FilesError::Remove { path, source });
                    }
                    _ => {}
                }
            }
        }
        if !self.path.exists() {
            return Ok(());
        }
        sync_dir(&self.path).map_err(|source| FilesError::Remove {
            path: self.path.clone(),
            source,
        })
    }

    fn incomplete(&self, present: &str, missing: &str) -> FilesError {
        FilesError::Incomplete {
            present: self.path.join(present),
            missing: self.path.join(missing),
        }
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.new"))
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>, FilesError> {
        let path = self.path.join(name);
        let failed = |source| FilesError::Read {
            path: path.clone(),
            source,
        };
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        if metadata.len() > MAX_FILE_BYTES {
            return Err(FilesError::TooLarge { path });
        }
        if name == KEY_FILE && metadata.permissions().mode() & 0o077 != 0 {
            warn!(path = %path.display(), "others may read this node's key: chmod 600 it");
        }
        fs::read_to_string(&path)
            .map(|text| Some(Zeroizing::new(text)))
            .map_err(failed)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), FilesError> {
        let path = self.path.join(name);
        self.replace(name, &path, text)
            .map_err(|source| FilesError::Write { path, source })
    }

    fn replace(&self, name: &str, path: &Path, text: &str) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)?;
        fs::set_permissions(&self.path, Permissions::from_mode(0o700))?;
        let temporary = self.temporary(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir(&self.path)
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
