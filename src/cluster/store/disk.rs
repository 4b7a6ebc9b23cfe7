//! Where the store keeps its files, behind a seam: a directory, or memory for simulated crashes.
//!
//! | file | holds |
//! |---|---|
//! | `key` | the data keys ([`super::seal`]) |
//! | `log` | the raft log, a redb database ([`super::log_file`]) |
//! | `mark` | how far the log has acknowledged writes |
//! | `snapshot-…` | the newest snapshot ([`super::snapshot`]) |
//!
//! A disk knows nothing of what is in the files.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redb::{Builder, Database, DatabaseError};

use super::fault::FileFault;

/// The data keys.
pub(super) const KEY_FILE: &str = "key";
/// The raft log.
pub(super) const LOG_FILE: &str = "log";
/// How far the log has acknowledged.
pub(super) const MARK_FILE: &str = "mark";
/// What snapshot files begin with.
pub(super) const SNAPSHOT_PREFIX: &str = "snapshot-";
/// The suffix of a file that is being written.
const UNFINISHED: &str = ".new";
/// Memory that redb may use to cache pages of the log; recent entries are kept outside of it.
const LOG_CACHE: usize = 2 << 20;

/// Where files are kept.
pub(crate) trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes the place ready and removes what was left unfinished.
    fn prepare(&self) -> Result<(), FileFault>;
    /// What to call a file in errors.
    fn path(&self, name: &str) -> PathBuf;
    /// Opens the log database, made new when there is none. Every page of it is checked.
    fn open_log(&self) -> Result<Database, FileFault>;
    /// All of a file; `None` when there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileFault>;
    /// Replaces a file; after this it has either the old content or the new, durably.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileFault>;
    /// Removes a file if it is there.
    fn remove(&self, name: &str) -> Result<(), FileFault>;
    /// Names of all files, in order.
    fn list(&self) -> Result<Vec<String>, FileFault>;
    /// Overwrites the mark. It survives this process; it need not survive the machine.
    fn write_mark(&self, bytes: &[u8]) -> Result<(), FileFault>;
    /// How long the next write of the log takes, for simulations; a real disk takes the time it takes.
    fn latency(&self) -> Duration {
        Duration::ZERO
    }
}

/// A directory, mode 0700.
#[derive(Debug)]
pub(crate) struct Directory {
    dir: PathBuf,
    mark: Mutex<Option<File>>,
}

impl Directory {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            mark: Mutex::new(None),
        }
    }

    fn fault(&self, name: &str) -> impl Fn(io::Error) -> FileFault {
        let path = self.path(name);
        move |error| FileFault::io(&path, error)
    }
}

impl Disk for Directory {
    fn prepare(&self) -> Result<(), FileFault> {
        let fault = |error| FileFault::io(&self.dir, error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(fault)?;
        for name in self.list()? {
            if name.ends_with(UNFINISHED) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn open_log(&self) -> Result<Database, FileFault> {
        let path = self.path(LOG_FILE);
        let fault = self.fault(LOG_FILE);
        let new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(&fault)?;
        let backend = redb::backends::FileBackend::new(file).map_err(|e| open_fault(&path, e))?;
        let log = open_database(&path, backend)?;
        if new {
            sync_dir(&self.dir).map_err(&fault)?;
        }
        Ok(log)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileFault> {
        let mut file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.fault(name)(error)),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(self.fault(name))?;
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileFault> {
        let fault = self.fault(name);
        let unfinished = self.path(&format!("{name}{UNFINISHED}"));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, self.path(name))?;
            sync_dir(&self.dir)
        };
        write().map_err(|error| {
            // What is left of it takes room on a disk that may have none.
            let _ = fs::remove_file(&unfinished);
            fault(error)
        })
    }

    fn remove(&self, name: &str) -> Result<(), FileFault> {
        if name == MARK_FILE {
            *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.fault(name)(error)),
            _ => sync_dir(&self.dir).map_err(self.fault(name)),
        }
    }

    fn list(&self) -> Result<Vec<String>, FileFault> {
        let fault = |error| FileFault::io(&self.dir, error);
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(fault(error)),
        };
        for entry in entries {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.map_err(fault)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn write_mark(&self, bytes: &[u8]) -> Result<(), FileFault> {
        let fault = self.fault(MARK_FILE);
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match mark.take() {
            Some(file) => file,
            None => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(self.path(MARK_FILE))
                .map_err(&fault)?,
        };
        file.write_all_at(bytes, 0).map_err(&fault)?;
        *mark = Some(file);
        Ok(())
    }
}

/// Opens a database over `backend`, checking every page: a file that was altered is reported, where
/// an unchecked one would be trusted.
pub(super) fn open_database(
    path: &Path,
    backend: impl redb::StorageBackend,
) -> Result<Database, FileFault> {
    Builder::new()
        .set_cache_size(LOG_CACHE)
        .set_check_integrity_on_open(true)
        .create_with_backend(backend)
        .map_err(|error| open_fault(path, error))
}

fn open_fault(path: &Path, error: DatabaseError) -> FileFault {
    match error {
        DatabaseError::DatabaseAlreadyOpen => FileFault::InUse {
            path: path.to_owned(),
        },
        DatabaseError::UpgradeRequired(found) => {
            FileFault::damaged(path, format!("it is a redb file of format {found}"))
        }
        other => redb_fault(path, other),
    }
}

/// The fault behind an error of redb.
pub(super) fn redb_fault(path: &Path, error: impl Into<redb::Error>) -> FileFault {
    match error.into() {
        redb::Error::Io(error) => FileFault::io(path, error),
        redb::Error::PreviousIo => FileFault::io(path, io::Error::other("an earlier write failed")),
        other => FileFault::damaged(path, other.to_string()),
    }
}

/// A new or renamed file is durable once its directory is.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
