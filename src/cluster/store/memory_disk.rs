//! A disk in memory that can lose power, fill up or fail, for tests and the simulated cluster.
//!
//! It keeps what was synced apart from what was only written, so that a crash can lose any of the
//! latter. Files other than the log are always synced, as a directory's are. A machine that boots takes the disk
//! by [`MemoryDisk::mounted`]; what still runs of a life before the last crash then writes nothing any more.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::{Database, StorageBackend};

use super::disk::{Disk, LOG_FILE, MARK_FILE, SNAPSHOT_PREFIX, open_database};
use super::fault::FileFault;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk {
    platter: Arc<Mutex<Platter>>,
    /// The life that it was mounted in; any when `None`.
    mounted: Option<u64>,
}

#[derive(Debug, Default)]
struct Platter {
    files: BTreeMap<String, Vec<u8>>,
    log: Vec<u8>,
    /// The log as of the last sync.
    synced: Vec<u8>,
    /// What was done to the log since, in order.
    unsynced: Vec<Unsynced>,
    /// The mark as of the last sync of the log: it is never ahead of what a crash leaves.
    synced_mark: Option<Vec<u8>>,
    open: bool,
    /// Raised by a crash: what was opened before it can no longer write.
    life: u64,
    /// After so many more writes of the log, all fail.
    writes_left: Option<u64>,
    /// The disk is full once the log is longer than this.
    capacity: Option<u64>,
    /// Tells how long each write of the log takes; none takes any time when `None`.
    latency: Option<Latency>,
    /// Syncs are acknowledged and not done.
    lies: bool,
}

/// How long the next write takes.
struct Latency(Box<dyn FnMut() -> Duration + Send>);

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Latency(…)")
    }
}

/// A change of the log that a crash may lose.
#[derive(Debug)]
enum Unsynced {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

impl Platter {
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            self.keep(change);
        }
        self.synced_mark = self.files.get(MARK_FILE).cloned();
    }

    fn keep(&mut self, change: Unsynced) {
        match change {
            Unsynced::Length(len) => self.synced.resize(len, 0),
            Unsynced::Bytes(start, bytes) => {
                // A write beyond a length that the crash took back went with it.
                if let Some(place) = self.synced.get_mut(start..start + bytes.len()) {
                    place.copy_from_slice(&bytes);
                }
            }
        }
    }
}

impl MemoryDisk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same disk, until the next crash.
    pub(crate) fn mounted(&self) -> Self {
        Self {
            platter: self.platter.clone(),
            mounted: Some(self.platter().life),
        }
    }

    /// The files, for a write of `name`.
    fn writable(&self, name: &str) -> Result<MutexGuard<'_, Platter>, FileFault> {
        let platter = self.platter();
        match self.mounted.is_none_or(|life| life == platter.life) {
            true => Ok(platter),
            false => Err(FileFault::io(&self.path(name), crashed())),
        }
    }

    /// The machine loses power: of what was not synced only that is left of which `survives` says so,
    /// asked for each write in order and last for the mark, and whoever has the disk open is cut off.
    pub(crate) fn crash(&self, mut survives: impl FnMut() -> bool) {
        let mut platter = self.platter();
        for change in std::mem::take(&mut platter.unsynced) {
            if survives() {
                platter.keep(change);
            }
        }
        platter.log = platter.synced.clone();
        if !survives() {
            match platter.synced_mark.clone() {
                Some(mark) => platter.files.insert(MARK_FILE.into(), mark),
                None => platter.files.remove(MARK_FILE),
            };
        }
        platter.open = false;
        platter.life += 1;
    }

    /// Every write of the log fails after so many more; none does when `None`.
    pub(crate) fn fail_log_after(&self, writes: Option<u64>) {
        self.platter().writes_left = writes;
    }

    /// Writes that would make the log longer than this fail.
    pub(crate) fn set_capacity(&self, capacity: Option<u64>) {
        self.platter().capacity = capacity;
    }

    /// Writes of the log take as long as `latency` says, asked for each, where the store's pace is virtual.
    pub(crate) fn set_latency(&self, latency: impl FnMut() -> Duration + Send + 'static) {
        self.platter().latency = Some(Latency(Box::new(latency)));
    }

    /// From now on the disk acknowledges syncs that it does not do, as some consumer disks.
    pub(crate) fn lie(&self) {
        self.platter().lies = true;
    }

    /// Whether a snapshot was kept.
    pub(crate) fn has_snapshot(&self) -> bool {
        let platter = self.platter();
        let mut names = platter.files.keys();
        names.any(|name| name.starts_with(SNAPSHOT_PREFIX))
    }

    /// Bytes of the log.
    pub(crate) fn log_len(&self) -> u64 {
        self.platter().log.len() as u64
    }
}

impl Disk for MemoryDisk {
    fn prepare(&self) -> Result<(), FileFault> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new("memory").join(name)
    }

    fn open_log(&self) -> Result<Database, FileFault> {
        let path = self.path(LOG_FILE);
        let life = {
            let mut platter = self.writable(LOG_FILE)?;
            if platter.open {
                return Err(FileFault::InUse { path });
            }
            platter.open = true;
            platter.life
        };
        let backend = Backend {
            disk: self.clone(),
            life,
        };
        open_database(&path, backend).inspect_err(|_| self.platter().open = false)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileFault> {
        Ok(self.platter().files.get(name).cloned())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileFault> {
        self.writable(name)?
            .files
            .insert(name.into(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), FileFault> {
        self.writable(name)?.files.remove(name);
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, FileFault> {
        let platter = self.platter();
        let log = (!platter.log.is_empty()).then(|| LOG_FILE.to_owned());
        Ok(platter.files.keys().cloned().chain(log).collect())
    }

    fn write_mark(&self, bytes: &[u8]) -> Result<(), FileFault> {
        self.write(MARK_FILE, bytes)
    }

    fn latency(&self) -> Duration {
        let mut platter = self.platter();
        let latency = platter.latency.as_mut();
        latency.map_or(Duration::ZERO, |latency| (latency.0)())
    }
}

fn crashed() -> io::Error {
    io::Error::other("the machine has crashed")
}

/// The log of a [`MemoryDisk`] as redb sees it, until the next crash.
#[derive(Debug)]
struct Backend {
    disk: MemoryDisk,
    life: u64,
}

impl Backend {
    fn platter(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.disk.platter();
        match platter.life == self.life {
            true => Ok(platter),
            false => Err(crashed()),
        }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter()?.log.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter()?;
        let start = offset as usize;
        let bytes = platter.log.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.platter()?;
        if platter.capacity.is_some_and(|capacity| len > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.log.resize(len as usize, 0);
        platter.unsynced.push(Unsynced::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.platter()?;
        if !platter.lies {
            platter.sync();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.platter()?;
        match &mut platter.writes_left {
            Some(0) => return Err(io::Error::other("the disk does not answer")),
            Some(left) => *left -= 1,
            None => {}
        }
        let start = offset as usize;
        let bytes = platter.log.get_mut(start..start + data.len());
        bytes
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(data);
        let write = Unsynced::Bytes(start, data.to_vec());
        platter.unsynced.push(write);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        let mut platter = self.disk.platter();
        if platter.life == self.life {
            platter.open = false;
        }
        Ok(())
    }
}
