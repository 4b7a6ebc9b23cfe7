//! The ledger's file: tables, rows, and what its faults mean.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format`, `mark` | the format, 4 bytes little endian; a [`Mark`] as JSON |
//! | `orders`, `progress`, `made` | the task's 128 bits | records as JSON |
//!
//! Only the ledger's writer calls it, one call at a time, where it may block.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Contents, LedgerError, Mark, Write};
use crate::agent::task::kept::{Kept, Order, Progress};
use crate::model::TaskId;

/// The format that this build writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// Memory that redb may use to cache pages: it is read once, and the system keeps what is written as well.
const CACHE: usize = 128 << 10;

const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
const ORDERS: Table = TableDefinition::new("orders");
const PROGRESS: Table = TableDefinition::new("progress");
const MADE: Table = TableDefinition::new("made");

/// A table of records by task.
type Table = TableDefinition<'static, u128, &'static [u8]>;

/// A record as it lies in the file.
pub(super) enum Row {
    Mark(Vec<u8>),
    Task(Table, TaskId, Option<Vec<u8>>),
}

impl Row {
    /// Adds the rows of a write.
    pub(super) fn of(write: &Write<'_>, rows: &mut Vec<Self>) {
        match write {
            Write::Mark(mark) => rows.push(Self::Mark(json(mark))),
            Write::Order(task, order) => rows.push(Self::Task(ORDERS, *task, Some(json(order)))),
            Write::Progress(task, progress) => {
                rows.push(Self::Task(PROGRESS, *task, Some(json(progress))));
            }
            Write::Made(task, made) => rows.push(Self::Task(MADE, *task, Some(json(made)))),
            Write::Forget(task) => {
                rows.extend([ORDERS, PROGRESS, MADE].map(|table| Self::Task(table, *task, None)));
            }
        }
    }
}

#[cfg(test)]
impl Row {
    /// What the row does to what is kept, where no file is in between.
    pub(super) fn apply(&self, contents: &mut Contents) {
        fn read<T: DeserializeOwned>(bytes: &[u8]) -> T {
            serde_json::from_slice(bytes).unwrap()
        }
        let (table, task, bytes) = match self {
            Self::Mark(bytes) => {
                contents.mark = read(bytes);
                return;
            }
            Self::Task(table, task, bytes) => (table.to_string(), task, bytes),
        };
        let Some(bytes) = bytes else {
            contents.tasks.remove(task);
            return;
        };
        if table == ORDERS.to_string() {
            let order: Order = read(bytes);
            let kept = contents.tasks.entry(*task).or_insert_with(|| Kept {
                order: order.clone(),
                progress: Progress::default(),
                made: None,
            });
            kept.order = order;
        } else if let Some(kept) = contents.tasks.get_mut(task) {
            match table == PROGRESS.to_string() {
                true => kept.progress = read(bytes),
                false => kept.made = Some(read(bytes)),
            }
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records are structs with text for keys")
}

/// The open file.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    /// Closed after a write that failed: redb refuses all that follows on the same handle.
    database: Option<Database>,
}

impl File {
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|error| fault(path, error.into()))?;
        }
        let mut file = Self {
            path: path.to_owned(),
            database: None,
        };
        file.commit(&[])?;
        Ok(file)
    }

    /// Everything in it.
    pub(super) fn read(&self) -> Result<Contents, LedgerError> {
        let database = self.database.as_ref().ok_or(LedgerError::Closed)?;
        let read = || -> Result<_, redb::Error> {
            let reading = database.begin_read()?;
            let meta = reading.open_table(META)?;
            let mark = meta.get("mark")?.map(|row| row.value().to_vec());
            let mut tables = [Vec::new(), Vec::new(), Vec::new()];
            for (found, table) in tables.iter_mut().zip([ORDERS, PROGRESS, MADE]) {
                let table = match reading.open_table(table) {
                    Err(TableError::TableDoesNotExist(_)) => continue,
                    opened => opened?,
                };
                for row in table.iter()? {
                    let (task, value) = row?;
                    found.push((TaskId::from_bits(task.value()), value.value().to_vec()));
                }
            }
            Ok((mark, tables))
        };
        let (mark, [orders, progress, made]) = read().map_err(|error| fault(&self.path, error))?;
        let mut contents = Contents::default();
        if let Some(mark) = mark {
            contents.mark = self.parse::<Mark>("the mark", &mark)?;
        }
        for (task, bytes) in orders {
            let kept = Kept {
                order: self.parse::<Order>("an order", &bytes)?,
                progress: Progress::default(),
                made: None,
            };
            contents.tasks.insert(task, kept);
        }
        let orphan = |what: &str| LedgerError::Damaged {
            path: self.path.clone(),
            what: format!("{what} is of no task"),
        };
        for (task, bytes) in progress {
            let kept = contents.tasks.get_mut(&task);
            let kept = kept.ok_or_else(|| orphan("a progress"))?;
            kept.progress = self.parse("a progress", &bytes)?;
        }
        for (task, bytes) in made {
            let kept = contents.tasks.get_mut(&task);
            let kept = kept.ok_or_else(|| orphan("a container"))?;
            kept.made = Some(self.parse("a container", &bytes)?);
        }
        Ok(contents)
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, bytes: &[u8]) -> Result<T, LedgerError> {
        serde_json::from_slice(bytes).map_err(|error| LedgerError::Damaged {
            path: self.path.clone(),
            what: format!("{what} cannot be read: {error}"),
        })
    }

    /// Writes all of `rows`, durably, or none.
    pub(super) fn commit(&mut self, rows: &[Row]) -> Result<(), LedgerError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.open_database()?,
        };
        let write = || -> Result<(), redb::Error> {
            let writing = database.begin_write()?;
            for row in rows {
                match row {
                    Row::Mark(bytes) => {
                        drop(writing.open_table(META)?.insert("mark", bytes.as_slice())?);
                    }
                    Row::Task(table, task, Some(bytes)) => {
                        let mut table = writing.open_table(*table)?;
                        drop(table.insert(task.bits(), bytes.as_slice())?);
                    }
                    Row::Task(table, task, None) => {
                        drop(writing.open_table(*table)?.remove(task.bits())?);
                    }
                }
            }
            writing.commit()?;
            Ok(())
        };
        if !rows.is_empty() {
            write().map_err(|error| fault(&self.path, error))?;
        }
        self.database = Some(database);
        Ok(())
    }

    fn open_database(&self) -> Result<Database, LedgerError> {
        let path = &self.path;
        let new = !path.exists();
        let database = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| DatabaseError::Storage(StorageError::Io(error)))
            .and_then(redb::backends::FileBackend::new)
            .and_then(|backend| {
                Builder::new()
                    .set_cache_size(CACHE)
                    .set_check_integrity_on_open(true)
                    .create_with_backend(backend)
            })
            .map_err(|error| fault(path, error.into()))?;
        let check = || -> Result<Option<u32>, redb::Error> {
            let writing = database.begin_write()?;
            let found = {
                let mut meta = writing.open_table(META)?;
                let found = meta.get("format")?.map(|row| row.value().to_vec());
                if found.is_none() {
                    drop(meta.insert("format", &FORMAT.to_le_bytes()[..])?);
                }
                found
            };
            match found {
                None => writing.commit()?,
                Some(_) => writing.abort()?,
            }
            let found = found.map_or(Some(FORMAT), |bytes| {
                bytes.try_into().ok().map(u32::from_le_bytes)
            });
            Ok(found)
        };
        match check().map_err(|error| fault(path, error))? {
            Some(FORMAT) if new => sync_dir(path).map(|()| database),
            Some(FORMAT) => Ok(database),
            Some(found) if found > FORMAT => Err(LedgerError::NewerFormat {
                path: path.clone(),
                found,
                known: FORMAT,
            }),
            other => Err(LedgerError::Damaged {
                path: path.clone(),
                what: format!("its format is {other:?}"),
            }),
        }
    }
}

/// A new file is durable once its directory is.
fn sync_dir(path: &Path) -> Result<(), LedgerError> {
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| fault(path, redb::Error::Io(error)))
}

/// What an error of redb means.
fn fault(path: &Path, error: redb::Error) -> LedgerError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => LedgerError::InUse(path),
        redb::Error::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                LedgerError::DiskFull(path)
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => LedgerError::Damaged {
                path,
                what: error.to_string(),
            },
            _ => LedgerError::Io {
                path,
                source: Arc::new(error),
            },
        },
        redb::Error::PreviousIo => LedgerError::Io {
            path,
            source: Arc::new(io::Error::other("an earlier write failed")),
        },
        other => LedgerError::Damaged {
            path,
            what: other.to_string(),
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file as a build of another format begins it.
    pub(in super::super) fn write_format(path: &Path, format: u32) {
        let database = Database::create(path).unwrap();
        let writing = database.begin_write().unwrap();
        let mut meta = writing.open_table(META).unwrap();
        meta.insert("format", &format.to_le_bytes()[..]).unwrap();
        drop(meta);
        writing.commit().unwrap();
    }
}
