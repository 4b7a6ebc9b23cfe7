//! The raft log on disk: a redb database of sealed entries and a few sealed fields.
//!
//! One caller writes ([`super::writer`]), any may read. Each batch of writes is one transaction, and
//! every transaction that was acknowledged has a number, which is also left in the file `mark`: a
//! database that comes back with a lower number than the mark has lost acknowledged writes, and is
//! refused. redb alone would take such a file for one whose last write never finished.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::disk::{Disk, LOG_FILE, redb_fault};
use super::fault::FileFault;
use super::log_fields::{Field, Fields, is_formatted};
use super::mark::{mark_of, read_mark};
use super::seal::{Kind, Sealer};
use super::types::{Ballot, Entry, EntryRecord, Epoch, LogRef};
use crate::model::NodeId;
use crate::wire::{decode, encode};

/// Entries by index, each a sealed [`EntryRecord`].
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");

/// One write to the log. Those of a batch take effect in order and together.
pub(super) enum Write {
    /// Entries that follow the last one.
    Append(Vec<Entry>),
    /// Forget every entry after this index; all when `None`.
    Truncate(Option<u64>),
    /// For whom this node voted.
    Vote(Ballot),
    /// Begin again in this epoch, with nothing.
    Reset(Epoch),
    /// Begin again in this epoch, after a snapshot that ends here.
    Restart(Epoch, LogRef, Ballot),
    /// Belong to this epoch from now on. Only a log that holds nothing is asked to.
    Adopt(Epoch),
}

impl Write {
    /// Whether nothing of what was before is left.
    pub(super) fn begins_anew(&self) -> bool {
        matches!(self, Self::Reset(_) | Self::Restart(..))
    }
}

/// Facts that need no transaction of their own: they are written with the next batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lazy {
    /// The last entry known to be committed.
    pub(super) committed: Option<LogRef>,
    /// The last entry that a snapshot made superfluous.
    pub(super) purged: Option<LogRef>,
}

/// What a log holds when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) epoch: Epoch,
    pub(super) vote: Option<Ballot>,
    pub(super) lazy: Lazy,
    /// The last entry, or the last purged one.
    pub(super) last: Option<LogRef>,
}

/// The database. Closed once, explicitly, whoever else still holds it.
pub(super) struct LogFile {
    disk: Arc<dyn Disk>,
    sealer: Arc<Sealer>,
    path: PathBuf,
    database: RwLock<Option<Database>>,
}

impl std::fmt::Debug for LogFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogFile({})", self.path.display())
    }
}

impl LogFile {
    /// Opens or makes the log of `node`, with its key, and checks that it holds what it acknowledged.
    pub(super) fn open(disk: Arc<dyn Disk>, node: NodeId) -> Result<(Self, Contents), FileFault> {
        Self::open_with(disk, node, None)
    }

    /// As [`Self::open`], with the keys that are in use already.
    pub(super) fn open_with(
        disk: Arc<dyn Disk>,
        node: NodeId,
        sealer: Option<Arc<Sealer>>,
    ) -> Result<(Self, Contents), FileFault> {
        // First of all the lock, so that two processes do not make two keys.
        let database = disk.open_log()?;
        let path = disk.path(LOG_FILE);
        let formatted = is_formatted(&database, &path)?;
        let file = Self {
            sealer: match sealer {
                Some(sealer) => sealer,
                None => Arc::new(Sealer::open(&*disk, !formatted)?),
            },
            path,
            disk,
            database: RwLock::new(Some(database)),
        };
        if !formatted {
            file.format(node)?;
        }
        let (contents, sequence) = file.load(node)?;
        let marked = read_mark(&*file.disk)?;
        if marked > sequence {
            return Err(FileFault::Reverted {
                path: file.path,
                expected: marked,
                found: sequence,
            });
        }
        Ok((file, contents))
    }

    /// What seals the files of this store.
    pub(super) fn sealer(&self) -> Arc<Sealer> {
        self.sealer.clone()
    }

    fn format(&self, node: NodeId) -> Result<(), FileFault> {
        self.with(|database| {
            let txn = database.begin_write().map_err(|e| self.redb(e))?;
            txn.open_table(ENTRIES).map_err(|e| self.redb(e))?;
            let fields = self.fields(&txn);
            fields.put_format()?;
            fields.put(Field::Node, &node)?;
            fields.put(Field::Epoch, &Epoch::default())?;
            fields.put(Field::Sequence, &0u64)?;
            txn.commit().map_err(|e| self.redb(e))
        })
    }

    fn load(&self, node: NodeId) -> Result<(Contents, u64), FileFault> {
        self.with(|database| {
            let txn = database.begin_write().map_err(|e| self.redb(e))?;
            let contents = self.contents(&txn, node)?;
            txn.abort().map_err(|e| self.redb(e))?;
            Ok(contents)
        })
    }

    fn contents(&self, txn: &WriteTransaction, node: NodeId) -> Result<(Contents, u64), FileFault> {
        let fields = self.fields(txn);
        let owner = fields.require(Field::Node)?;
        if owner != node {
            return Err(FileFault::Foreign {
                path: self.path.clone(),
                owner,
                node,
            });
        }
        let lazy = Lazy {
            committed: fields.get(Field::Committed)?,
            purged: fields.get(Field::Purged)?,
        };
        let entries = txn.open_table(ENTRIES).map_err(|e| self.redb(e))?;
        let contents = Contents {
            epoch: fields.require(Field::Epoch)?,
            vote: fields.get(Field::Vote)?,
            lazy,
            last: self.check_entries(&entries, lazy.purged)?,
        };
        Ok((contents, fields.require(Field::Sequence)?))
    }

    /// Opens every entry: they run without a gap from the one after the purged one. Returns the last.
    fn check_entries(
        &self,
        entries: &impl ReadableTable<u64, &'static [u8]>,
        purged: Option<LogRef>,
    ) -> Result<Option<LogRef>, FileFault> {
        let mut last = purged;
        for item in entries.iter().map_err(|e| self.redb(e))? {
            let (index, sealed) = item.map_err(|e| self.redb(e))?;
            let next = last.map_or(0, |last| last.index + 1);
            let at = self.unseal(index.value(), sealed.value())?.at;
            if index.value() != next || at.index != next || last.is_some_and(|last| at < last) {
                let what = format!("entry {next} is missing");
                return Err(FileFault::damaged(&self.path, what));
            }
            last = Some(at);
        }
        Ok(last)
    }

    /// Writes a batch durably. After an error nothing of it is there, and nothing more can be written.
    pub(super) fn write(&self, writes: &[Write], lazy: Lazy) -> Result<(), FileFault> {
        self.with(|database| {
            let mut txn = database.begin_write().map_err(|e| self.redb(e))?;
            txn.set_durability(Durability::Immediate)
                .map_err(|error| FileFault::damaged(&self.path, error.to_string()))?;
            for write in writes {
                self.apply(&txn, write)?;
            }
            self.put_lazy(&txn, lazy)?;
            let fields = self.fields(&txn);
            let sequence = fields.require::<u64>(Field::Sequence)? + 1;
            fields.put(Field::Sequence, &sequence)?;
            txn.commit().map_err(|e| self.redb(e))?;
            self.disk.write_mark(&mark_of(sequence))
        })
    }

    fn apply(&self, txn: &WriteTransaction, write: &Write) -> Result<(), FileFault> {
        let fields = self.fields(txn);
        match write {
            Write::Append(entries) => self.append(txn, entries),
            Write::Truncate(after) => {
                self.forget(txn, after.map_or(0, |after| after + 1), u64::MAX)
            }
            Write::Vote(vote) => fields.put(Field::Vote, vote),
            Write::Adopt(epoch) => fields.put(Field::Epoch, epoch),
            Write::Reset(epoch) => {
                self.forget(txn, 0, u64::MAX)?;
                for field in [Field::Vote, Field::Committed, Field::Purged] {
                    fields.clear(field)?;
                }
                fields.put(Field::Epoch, epoch)
            }
            Write::Restart(epoch, at, vote) => {
                self.forget(txn, 0, u64::MAX)?;
                fields.put(Field::Committed, at)?;
                fields.put(Field::Purged, at)?;
                fields.put(Field::Vote, vote)?;
                fields.put(Field::Epoch, epoch)
            }
        }
    }

    fn append(&self, txn: &WriteTransaction, entries: &[Entry]) -> Result<(), FileFault> {
        let mut table = txn.open_table(ENTRIES).map_err(|e| self.redb(e))?;
        for entry in entries {
            let index = entry.log_id.index;
            let plain = encode(&EntryRecord::from(entry.clone()))
                .map_err(|error| FileFault::damaged(&self.path, error.to_string()))?;
            let sealed = self.sealer.seal(Kind::Entry, index, &plain);
            table
                .insert(index, sealed.as_slice())
                .map_err(|e| self.redb(e))?;
        }
        Ok(())
    }

    fn put_lazy(&self, txn: &WriteTransaction, lazy: Lazy) -> Result<(), FileFault> {
        let fields = self.fields(txn);
        if let Some(committed) = lazy.committed {
            fields.put(Field::Committed, &committed)?;
        }
        if let Some(purged) = lazy.purged
            && fields.get(Field::Purged)? != Some(purged)
        {
            self.forget(txn, 0, purged.index)?;
            fields.put(Field::Purged, &purged)?;
        }
        Ok(())
    }

    /// Removes the entries from `first` to `last`, both included.
    fn forget(&self, txn: &WriteTransaction, first: u64, last: u64) -> Result<(), FileFault> {
        let mut table = txn.open_table(ENTRIES).map_err(|e| self.redb(e))?;
        table
            .retain_in(first..=last, |_, _| false)
            .map_err(|e| self.redb(e))
    }

    /// The entries with `first <= index < end`, as many of the first of them as fit into `bytes`, but
    /// at least one.
    pub(super) fn read(&self, first: u64, end: u64, bytes: usize) -> Result<Vec<Entry>, FileFault> {
        self.with(|database| {
            let txn = database.begin_read().map_err(|e| self.redb(e))?;
            let table = txn.open_table(ENTRIES).map_err(|e| self.redb(e))?;
            let mut entries = Vec::new();
            let mut left = bytes;
            for item in table.range(first..end).map_err(|e| self.redb(e))? {
                let (index, sealed) = item.map_err(|e| self.redb(e))?;
                let sealed = sealed.value();
                if sealed.len() > left && !entries.is_empty() {
                    break;
                }
                left = left.saturating_sub(sealed.len());
                let record = self.unseal(index.value(), sealed)?;
                let entry = record.into_entry().ok_or_else(|| {
                    FileFault::damaged(&self.path, "an entry holds an impossible membership")
                })?;
                entries.push(entry);
            }
            Ok(entries)
        })
    }

    fn unseal(&self, index: u64, sealed: &[u8]) -> Result<EntryRecord, FileFault> {
        let plain = self
            .sealer
            .open_record(Kind::Entry, index, sealed)
            .map_err(|error| FileFault::damaged(&self.path, format!("entry {index}: {error}")))?;
        let record: EntryRecord = decode(&plain).map_err(|_| {
            FileFault::damaged(&self.path, format!("entry {index} does not decode"))
        })?;
        Ok(record)
    }

    /// Closes the file and gives up its lock, whatever still refers to it.
    pub(super) fn close(&self) {
        let database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Err(error)) = database.map(Database::close) {
            tracing::warn!(%error, "the raft log did not close cleanly and will be checked when it is opened");
        }
    }

    /// How long the next write takes, where a disk is simulated.
    pub(super) fn latency(&self) -> Duration {
        self.disk.latency()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    fn with<T>(&self, f: impl FnOnce(&Database) -> Result<T, FileFault>) -> Result<T, FileFault> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match &*database {
            Some(database) => f(database),
            None => Err(FileFault::Io {
                path: self.path.clone(),
                source: Arc::new(std::io::Error::other("the store is closed")),
            }),
        }
    }

    fn fields<'a>(&'a self, txn: &'a WriteTransaction) -> Fields<'a> {
        Fields {
            txn,
            path: &self.path,
            sealer: &self.sealer,
        }
    }

    fn redb(&self, error: impl Into<redb::Error>) -> FileFault {
        redb_fault(&self.path, error)
    }
}
