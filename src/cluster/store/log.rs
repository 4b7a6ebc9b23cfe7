//! The raft log as openraft sees it: the file, and the newest entries in memory.
//!
//! Appending returns as soon as the entries are in memory and in the writer's queue; openraft is told
//! when they are on disk. Entries leave memory when they are on disk and newer ones fill the room, so
//! followers at line rate are served from memory and stragglers from the file.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};

use super::fault::FileFault;
use super::log_file::{Contents, Lazy, LogFile, Write};
use super::mirror::{Mirror, after};
use super::types::{Entry, Epoch, LogId, LogRef, Types, Vote};
use super::writer::{Done, Writer};

/// Bytes of entries that one read for a follower returns, so that a message stays far below
/// [`RAFT_FRAME`](crate::wire::limits::RAFT_FRAME). A longer entry is returned alone.
const READ_BYTES: usize = 1 << 20;

/// The log's content, shared by openraft, its readers and the writer.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) file: LogFile,
    mirror: Mutex<Mirror>,
}

impl Shared {
    pub(super) fn new(file: LogFile, contents: Contents) -> Self {
        Self {
            file,
            mirror: Mutex::new(Mirror::new(contents)),
        }
    }

    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which life of the cluster this log belongs to.
    pub(super) fn epoch(&self) -> Epoch {
        self.mirror().epoch
    }

    /// The last entry, or the last purged one.
    pub(super) fn last(&self) -> Option<LogRef> {
        self.mirror().last
    }

    /// Whether nothing was ever written to it.
    pub(super) fn is_pristine(&self) -> bool {
        let mirror = self.mirror();
        mirror.last.is_none() && mirror.vote.is_none()
    }

    /// Entries in memory.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.mirror().in_memory()
    }

    /// What made the log unusable.
    pub(super) fn fault(&self) -> Option<FileFault> {
        self.mirror().fault.clone()
    }

    /// Writes a batch to the file and takes note of what it came to.
    pub(super) fn flush(&self, writes: &[Write], upto: u64) -> Result<(), FileFault> {
        let lazy = {
            let mirror = self.mirror();
            if let Some(fault) = &mirror.fault {
                return Err(fault.clone());
            }
            // What was true of an older life is not carried into a new one.
            match writes.iter().any(Write::begins_anew) {
                true => Lazy::default(),
                false => mirror.lazy,
            }
        };
        let result = self.file.write(writes, lazy);
        let mut mirror = self.mirror();
        match &result {
            Ok(()) => {
                for write in writes {
                    mirror.written(write);
                }
                mirror.shrink(upto);
            }
            Err(fault) => {
                tracing::error!(error = %fault, "the raft log cannot be written: the store stops");
                mirror.fault.get_or_insert_with(|| fault.clone());
            }
        }
        result
    }

    fn read(&self, first: u64, end: u64, bytes: usize) -> Result<Vec<Entry>, io::Error> {
        let (first, end, tail_first) = {
            let mirror = self.mirror();
            let first = first.max(mirror.begin);
            let end = end.min(after(mirror.last));
            if first >= end {
                return Ok(Vec::new());
            }
            let tail_first = mirror.tail_first();
            if first >= tail_first {
                return Ok(mirror.cached(first, end, bytes));
            }
            (first, end, tail_first)
        };
        let entries = self
            .file
            .read(first, end.min(tail_first), bytes)
            .map_err(|fault| fault.to_io())?;
        let next = first + entries.len() as u64;
        if entries.last().map(|entry| entry.log_id.index + 1) != Some(next) {
            let what = format!("entries from {first} are missing");
            return Err(FileFault::damaged(self.file.path(), what).to_io());
        }
        if next == end || bytes != usize::MAX {
            return Ok(entries);
        }
        let mut entries = entries;
        entries.extend(self.read(next, end, bytes)?);
        Ok(entries)
    }
}

/// openraft's handle for writing.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(super) shared: Arc<Shared>,
    writer: Writer,
}

/// openraft's handle for reading.
#[derive(Clone, Debug)]
pub(crate) struct LogReader(Arc<Shared>);

impl Log {
    pub(super) fn new(shared: Arc<Shared>, writer: Writer) -> Self {
        Self { shared, writer }
    }

    /// Writes and waits until it is on disk.
    pub(super) async fn write(&self, write: Write) -> Result<(), io::Error> {
        let number = self.next_write();
        self.writer.write_durably(write, number).await
    }

    /// Waits for all writes, then closes the file. Nothing can be written afterwards.
    pub(super) async fn close(&self) {
        self.writer.close().await;
    }

    fn next_write(&self) -> u64 {
        let mut mirror = self.shared.mirror();
        mirror.queued += 1;
        mirror.queued
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let mirror = self.shared.mirror();
        Ok(LogState {
            last_purged_log_id: mirror.lazy.purged.map(LogId::from),
            last_log_id: mirror.last.map(LogId::from),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader(self.shared.clone())
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write(Write::Vote((*vote).into())).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.shared.mirror().lazy.committed = committed.map(Into::into);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let mirror = self.shared.mirror();
        // A write of entries that never finished may have been committed by others.
        Ok(mirror.lazy.committed.min(mirror.last).map(Into::into))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let number = {
            let mut mirror = self.shared.mirror();
            mirror.check_follows(&entries)?;
            mirror.queued += 1;
            let number = mirror.queued;
            mirror.push(&entries, number);
            number
        };
        self.writer
            .write(Write::Append(entries), number, Done::Flushed(callback))
            .await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let number = {
            let mut mirror = self.shared.mirror();
            mirror.queued += 1;
            mirror.truncate(last.map(Into::into));
            mirror.queued
        };
        // A snapshot that replaces the rest may be installed next: were it on disk before this, a crash
        // would leave a log that contradicts it.
        let write = Write::Truncate(last.map(|last| last.index));
        self.writer.write_durably(write, number).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.shared.mirror().purge(upto.into());
        Ok(())
    }
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.0.read(first, end, usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.0.read(start, end, READ_BYTES)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.mirror().vote.map(Into::into))
    }
}
