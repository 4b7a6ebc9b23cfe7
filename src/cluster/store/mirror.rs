//! The part of the raft log that is in memory: its newest entries, and what is known of the rest.
//!
//! ```text
//!   purged │ only in the file │ in the file and in memory │ only in memory (being written)
//! ─────────┴──────────────────┴───────────────────────────┴────────────────────────────────
//!          ^ begin            ^ first in memory           ^ flushed                       ^ last
//! ```

use std::collections::VecDeque;
use std::io;

use openraft::EntryPayload;

use super::fault::FileFault;
use super::log_file::{Contents, Lazy, Write};
use super::types::{Ballot, Entry, Epoch, LogRef};

/// Entries that stay in memory after they are on disk.
const TAIL_ENTRIES: usize = 1024;
/// Bytes of commands that stay in memory after they are on disk.
const TAIL_BYTES: usize = 2 << 20;

/// What is known of the log without reading the file.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) epoch: Epoch,
    pub(super) vote: Option<Ballot>,
    pub(super) lazy: Lazy,
    /// Index of the first entry that is still held, on disk or in memory.
    pub(super) begin: u64,
    pub(super) last: Option<LogRef>,
    tail: VecDeque<Cached>,
    tail_bytes: usize,
    /// Number of the write that was queued last.
    pub(super) queued: u64,
    pub(super) fault: Option<FileFault>,
}

/// An entry in memory, with the number of the write that puts it on disk.
#[derive(Debug)]
struct Cached {
    entry: Entry,
    bytes: usize,
    write: u64,
}

impl Mirror {
    pub(super) fn new(contents: Contents) -> Self {
        Self {
            epoch: contents.epoch,
            vote: contents.vote,
            lazy: contents.lazy,
            begin: after(contents.lazy.purged),
            last: contents.last,
            tail: VecDeque::new(),
            tail_bytes: 0,
            queued: 0,
            fault: None,
        }
    }

    /// Entries in memory.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.tail.len()
    }

    /// Index of the first entry in memory, or the one after the last when there is none.
    pub(super) fn tail_first(&self) -> u64 {
        match self.tail.front() {
            Some(cached) => cached.entry.log_id.index,
            None => after(self.last),
        }
    }

    /// The entries with `first <= index < end`, all of which are in memory: as many of the first of them
    /// as fit into `bytes`, but at least one.
    pub(super) fn cached(&self, first: u64, end: u64, bytes: usize) -> Vec<Entry> {
        let skip = (first - self.tail_first()) as usize;
        let count = (end - first) as usize;
        let mut left = bytes;
        let mut entries = Vec::with_capacity(count.min(self.tail.len()));
        for cached in self.tail.iter().skip(skip).take(count) {
            if cached.bytes > left && !entries.is_empty() {
                break;
            }
            left = left.saturating_sub(cached.bytes);
            entries.push(cached.entry.clone());
        }
        entries
    }

    /// A log has no gaps.
    pub(super) fn check_follows(&self, entries: &[Entry]) -> Result<(), io::Error> {
        let first = entries.first().map(|entry| entry.log_id.index);
        match (self.last, first) {
            (Some(last), Some(first)) if first != last.index + 1 => {
                let what = format!("entry {first} does not follow entry {}", last.index);
                Err(io::Error::new(io::ErrorKind::InvalidInput, what))
            }
            _ => Ok(()),
        }
    }

    /// Adds entries that the write of this number puts on disk.
    pub(super) fn push(&mut self, entries: &[Entry], write: u64) {
        if let (None, Some(first)) = (self.last, entries.first()) {
            self.begin = first.log_id.index;
        }
        for entry in entries {
            let bytes = match &entry.payload {
                EntryPayload::Normal(command) => command.len(),
                EntryPayload::Blank | EntryPayload::Membership(_) => 0,
            };
            self.last = Some(entry.log_id.into());
            self.tail_bytes += bytes;
            self.tail.push_back(Cached {
                entry: entry.clone(),
                bytes,
                write,
            });
        }
    }

    /// Forgets what follows `last`.
    pub(super) fn truncate(&mut self, last: Option<LogRef>) {
        let keep = after(last);
        if after(self.last) <= keep {
            return;
        }
        while let Some(cached) = self.tail.back()
            && cached.entry.log_id.index >= keep
        {
            self.tail_bytes -= cached.bytes;
            self.tail.pop_back();
        }
        self.begin = self.begin.min(keep);
        self.last = last;
    }

    /// Forgets what a snapshot up to here has made superfluous.
    pub(super) fn purge(&mut self, upto: LogRef) {
        while let Some(cached) = self.tail.front()
            && cached.entry.log_id.index <= upto.index
        {
            self.tail_bytes -= cached.bytes;
            self.tail.pop_front();
        }
        self.lazy.purged = Some(upto);
        self.begin = self.begin.max(upto.index + 1);
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
        }
    }

    /// Drops entries from memory whose write is on disk, until the rest fits.
    pub(super) fn shrink(&mut self, flushed: u64) {
        while let Some(cached) = self.tail.front()
            && cached.write <= flushed
            && (self.tail.len() > TAIL_ENTRIES || self.tail_bytes > TAIL_BYTES)
        {
            self.tail_bytes -= cached.bytes;
            self.tail.pop_front();
        }
    }

    /// Takes note of what a write that is on disk now has changed.
    pub(super) fn written(&mut self, write: &Write) {
        match write {
            Write::Append(_) | Write::Truncate(_) => {}
            Write::Vote(vote) => self.vote = Some(*vote),
            Write::Adopt(epoch) => self.epoch = *epoch,
            Write::Reset(epoch) => {
                self.epoch = *epoch;
                self.vote = None;
                self.lazy = Lazy::default();
                self.truncate(None);
            }
            Write::Restart(epoch, at, vote) => {
                self.epoch = *epoch;
                self.vote = Some(*vote);
                self.truncate(None);
                self.lazy = Lazy {
                    committed: Some(*at),
                    purged: Some(*at),
                };
                self.last = Some(*at);
                self.begin = at.index + 1;
            }
        }
    }
}

/// The index after an entry's.
pub(super) fn after(entry: Option<LogRef>) -> u64 {
    entry.map_or(0, |entry| entry.index + 1)
}
