//! The file that a container's output is appended to, for the drivers that have one.
//!
//! Used by the logger alone. Records are gathered and written together; [`LogFile::flush`] says when. Nothing here
//! fails the container: what cannot be written is counted and dropped, and the first record that can be written
//! again is preceded by one that says how many are missing. A record is in the file whole or not at all.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use super::options::Rotation;
use super::{Origin, Record, json, local, rotation};
use crate::model::Timestamp;

/// Records are written together when there are so many bytes of them.
const BATCH: usize = 64 << 10;

/// A full file is written on while the one before it is still being compressed, up to so many times its size.
const PATIENCE: u64 = 2;

/// Stack of the thread that compresses, bytes.
const STACK: usize = 128 << 10;

/// How records look.
#[derive(Debug)]
pub(super) enum Encoder {
    /// Of `json-file`.
    Json(json::Encoder),
    /// Of `local`.
    Local(local::Encoder),
}

impl Encoder {
    fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Json(encoder) => encoder.encode(record, out),
            Self::Local(encoder) => encoder.encode(record, out),
        }
    }
}

/// A log that is written.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    encoder: Encoder,
    /// `None` until it could be opened.
    file: Option<File>,
    /// Of the file, bytes.
    size: u64,
    /// Records that are not written yet.
    batch: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// The first of them says what was lost before.
    noted: bool,
    /// Records that were dropped since the last one that was written.
    lost: u64,
    /// Why.
    reason: String,
    /// When the last record was taken.
    last: Timestamp,
    squeezing: Option<JoinHandle<()>>,
}

impl LogFile {
    /// A log at `path`, which is opened at once or, when that fails, as soon as it can be.
    pub(super) fn new(path: PathBuf, rotation: Rotation, encoder: Encoder) -> Self {
        let mut log = Self {
            path,
            rotation,
            encoder,
            file: None,
            size: 0,
            batch: Vec::new(),
            ends: Vec::new(),
            noted: false,
            lost: 0,
            reason: String::new(),
            last: Timestamp::from_nanos(0),
            squeezing: None,
        };
        if let Err(error) = log.open() {
            log.reason = error.to_string();
        }
        log
    }

    /// Takes a record; it is in the file after the next [`Self::flush`].
    pub(super) fn write(&mut self, record: &Record<'_>) {
        if self.is_full(self.batch.len()) {
            self.flush();
            if self.is_full(0) {
                self.rotate();
            }
        }
        if self.lost > 0 && self.batch.is_empty() {
            let note = format!("skein: {} lines were lost here: {}", self.lost, self.reason);
            let note = Record {
                at: record.at,
                origin: Origin::Stderr,
                text: note.as_bytes(),
                part: None,
            };
            self.encoder.encode(&note, &mut self.batch);
            self.ends.push(self.batch.len());
            self.noted = true;
        }
        self.encoder.encode(record, &mut self.batch);
        self.ends.push(self.batch.len());
        self.last = record.at;
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Writes what was taken.
    pub(super) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let (written, problem) = match (self.open(), &self.file) {
            (Ok(()), Some(file)) => write(file, &self.batch),
            (Ok(()), None) => (0, None),
            (Err(error), _) => (0, Some(error)),
        };
        let whole = self.ends.partition_point(|end| *end <= written);
        let kept = whole.checked_sub(1).map_or(0, |last| self.ends[last]);
        if kept < written
            && let Some(file) = &self.file
        {
            // Should this fail too, a reader passes over the torn record.
            let _ = file.set_len(self.size + kept as u64);
        }
        self.size += kept as u64;
        let note = usize::from(self.noted);
        if whole >= note && self.noted {
            self.lost = 0;
        }
        self.lost += (self.ends.len() - whole.max(note)) as u64;
        if let Some(problem) = problem {
            self.reason = problem.to_string();
        }
        self.batch.clear();
        self.ends.clear();
        self.noted = false;
    }

    /// Writes what was taken and waits for a compression that runs.
    pub(super) fn close(mut self) {
        self.flush();
        if let Some(thread) = self.squeezing.take() {
            let _ = thread.join();
        }
    }

    fn is_full(&self, waiting: usize) -> bool {
        let limit = self.rotation.max_size;
        self.size + waiting as u64 >= limit.unwrap_or(u64::MAX)
    }

    fn open(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let file = rotation::open(&self.path)?;
            self.size = mend(&file, &self.encoder)?;
            self.file = Some(file);
        }
        Ok(())
    }

    /// Begins a new file. Goes on with the full one when that cannot be done, and tries again with the next record.
    fn rotate(&mut self) {
        if let Some(thread) = self.squeezing.take() {
            let limit = self.rotation.max_size.unwrap_or(u64::MAX);
            if !thread.is_finished() && self.size < limit.saturating_mul(PATIENCE) {
                self.squeezing = Some(thread);
                return;
            }
            let _ = thread.join();
        }
        let Ok(file) = rotation::rotate(&self.path, self.rotation.max_files) else {
            return;
        };
        self.file = Some(file);
        self.size = 0;
        if self.rotation.compress && self.rotation.max_files > 1 {
            let (path, last) = (self.path.clone(), self.last);
            // A part that cannot be compressed stays as it is, and can be read like that.
            let squeeze = move || drop(rotation::squeeze(&path, 1, last));
            self.squeezing = thread::Builder::new().stack_size(STACK).spawn(squeeze).ok();
        }
    }
}

/// Writes as much of `bytes` as can be written: how many, and why not all.
fn write(mut file: &File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

/// Cuts off a record that a crash left torn at the end of `file`; the size after that.
fn mend(file: &File, encoder: &Encoder) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let end = match encoder {
        Encoder::Json(_) => end_of_last_line(file, size)?,
        Encoder::Local(_) => local::end_of_last_record(file, size)?,
    };
    if end < size {
        file.set_len(end)?;
    }
    Ok(end)
}

fn end_of_last_line(file: &File, size: u64) -> io::Result<u64> {
    let mut buffer = vec![0; 4 << 10];
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let chunk = &mut buffer[..(end - start) as usize];
        file.read_exact_at(chunk, start)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
