//! The raft log's own bookkeeping: a table of sealed fields beside the entries.

use std::path::Path;

use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disk::redb_fault;
use super::fault::FileFault;
use super::seal::{Kind, Sealer};
use crate::wire::{decode, encode};

/// Fields by number, each sealed, but for the format.
const FIELDS: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("fields");
/// The format of the log that this build writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// Numbers of the fields; the number of the format never changes.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Field {
    /// Not sealed: what the rest is.
    Format = 0,
    Node = 1,
    Epoch = 2,
    Sequence = 3,
    Vote = 4,
    Committed = 5,
    Purged = 6,
}

/// The fields as one transaction sees them.
pub(super) struct Fields<'a> {
    pub(super) txn: &'a WriteTransaction,
    pub(super) path: &'a Path,
    pub(super) sealer: &'a Sealer,
}

/// Whether the log has a format, which must be one that this build knows. Needs no key.
pub(super) fn is_formatted(database: &Database, path: &Path) -> Result<bool, FileFault> {
    let redb = |error: redb::Error| redb_fault(path, error);
    let txn = database.begin_read().map_err(|e| redb(e.into()))?;
    let table = match txn.open_table(FIELDS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(false),
        table => table.map_err(|e| redb(e.into()))?,
    };
    let format = table.get(Field::Format as u8);
    let Some(bytes) = format.map_err(|e| redb(e.into()))? else {
        return Ok(false);
    };
    let found = <[u8; 4]>::try_from(bytes.value())
        .map(u32::from_le_bytes)
        .map_err(|_| FileFault::damaged(path, "its format is not a number"))?;
    match found {
        FORMAT => Ok(true),
        0 => Err(FileFault::damaged(path, "it has no format")),
        found => Err(FileFault::NewerFormat {
            path: path.to_owned(),
            found,
            known: FORMAT,
        }),
    }
}

impl Fields<'_> {
    /// Gives the log this build's format.
    pub(super) fn put_format(&self) -> Result<(), FileFault> {
        self.insert(Field::Format, &FORMAT.to_le_bytes())
    }

    /// A field, if it is set.
    pub(super) fn get<T: DeserializeOwned>(&self, field: Field) -> Result<Option<T>, FileFault> {
        let damaged =
            |what: &str| FileFault::damaged(self.path, format!("field {} {what}", field as u8));
        let table = self.txn.open_table(FIELDS).map_err(|e| self.redb(e))?;
        let Some(sealed) = table.get(field as u8).map_err(|e| self.redb(e))? else {
            return Ok(None);
        };
        let plain = self
            .sealer
            .open_record(Kind::Field, field as u64, sealed.value())
            .map_err(|_| damaged("does not open"))?;
        decode(&plain)
            .map(Some)
            .map_err(|_| damaged("does not decode"))
    }

    /// A field that every log has.
    pub(super) fn require<T: DeserializeOwned>(&self, field: Field) -> Result<T, FileFault> {
        self.get(field)?.ok_or_else(|| {
            FileFault::damaged(self.path, format!("field {} is missing", field as u8))
        })
    }

    /// Sets a field.
    pub(super) fn put<T: Serialize>(&self, field: Field, value: &T) -> Result<(), FileFault> {
        let plain =
            encode(value).map_err(|error| FileFault::damaged(self.path, error.to_string()))?;
        self.insert(field, &self.sealer.seal(Kind::Field, field as u64, &plain))
    }

    /// Unsets a field.
    pub(super) fn clear(&self, field: Field) -> Result<(), FileFault> {
        let mut table = self.txn.open_table(FIELDS).map_err(|e| self.redb(e))?;
        table.remove(field as u8).map_err(|e| self.redb(e))?;
        Ok(())
    }

    fn insert(&self, field: Field, bytes: &[u8]) -> Result<(), FileFault> {
        let mut table = self.txn.open_table(FIELDS).map_err(|e| self.redb(e))?;
        table.insert(field as u8, bytes).map_err(|e| self.redb(e))?;
        Ok(())
    }

    fn redb(&self, error: impl Into<redb::Error>) -> FileFault {
        redb_fault(self.path, error)
    }
}
