//! A place in a log that goes from file to file: where reading begins, and which file comes next.
//!
//! Blocking. The place is known by the file that it is in, not by a name: names move on when the log is rotated.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::parts::{self, Part};
use super::records::{self, Format, Records};
use super::{Choice, LogLine, ReadOptions};

/// Lines that are handed on together.
const BATCH_LINES: usize = 512;

/// Bytes of lines that are handed on together.
const BATCH_BYTES: usize = 256 << 10;

/// Records that are looked at before what was found is handed on.
const BATCH_RECORDS: usize = 16 << 10;

/// A place in a log.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    format: Format,
    options: ReadOptions,
    /// The file that is read, and its number.
    current: Option<(Records, u64)>,
    /// Files that come after it.
    queue: VecDeque<(Part, Start)>,
    /// The log was rotated, and the current file was not looked at since.
    rotated: bool,
    /// A line came after which none is wanted.
    over: bool,
}

/// Where reading of a file begins.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// At this byte.
    Offset(u64),
    /// After so many records.
    Passing(u64),
}

/// Lines, some of them.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) lines: Vec<LogLine>,
    /// There are no more, for now.
    pub(super) at_end: bool,
    over: bool,
}

impl Batch {
    /// There will be no more.
    pub(super) const fn is_over(&self) -> bool {
        self.over
    }
}

impl Cursor {
    /// At the first line that may be wanted.
    pub(super) fn open(path: PathBuf, format: Format, options: ReadOptions) -> io::Result<Self> {
        let parts = parts::open(&path)?;
        let mut cursor = Self {
            path,
            format,
            current: None,
            queue: VecDeque::new(),
            rotated: false,
            over: false,
            options,
        };
        match (cursor.options.tail, cursor.options.since) {
            (Some(wanted), _) => cursor.begin_at_tail(parts, wanted)?,
            (None, since) => {
                let is_over = |part: &Part| {
                    part.last
                        .zip(since)
                        .is_some_and(|(last, since)| last < since)
                };
                let wanted = parts.into_iter().skip_while(is_over);
                cursor.queue = wanted.map(|part| (part, Start::Offset(0))).collect();
            }
        }
        Ok(cursor)
    }

    fn begin_at_tail(&mut self, mut parts: Vec<Part>, wanted: u64) -> io::Result<()> {
        let mut missing = wanted;
        while let Some(part) = parts.pop() {
            let (found, start) = if part.squeezed {
                let count = count(&part, self.format)?;
                let found = count.min(missing);
                (found, Start::Passing(count - found))
            } else {
                let size = part.file.metadata()?.len();
                let (offset, found) = records::tail(&part.file, self.format, size, missing)?;
                (found, Start::Offset(offset))
            };
            self.queue.push_front((part, start));
            missing -= found;
            if missing == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The next lines.
    pub(super) fn batch(&mut self) -> io::Result<Batch> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        let mut at_end = false;
        for _ in 0..BATCH_RECORDS {
            let line = match &mut self.current {
                Some((records, _)) => records.next()?,
                None => None,
            };
            let Some(line) = line else {
                if self.advance()? {
                    continue;
                }
                at_end = true;
                break;
            };
            match self.options.choose(&line) {
                Choice::Pass => continue,
                Choice::End => {
                    self.over = true;
                    at_end = true;
                    break;
                }
                Choice::Show => {}
            }
            bytes += line.line.len();
            lines.push(line);
            if lines.len() >= BATCH_LINES || bytes >= BATCH_BYTES {
                break;
            }
        }
        Ok(Batch {
            lines,
            at_end,
            over: self.over,
        })
    }

    /// At the end of the current file: `true` when there is more to read elsewhere, or perhaps here.
    fn advance(&mut self) -> io::Result<bool> {
        if let Some((part, start)) = self.queue.pop_front() {
            let inode = part.inode;
            let mut records = Records::new(part, self.format);
            match start {
                Start::Offset(offset) => records.seek(offset),
                Start::Passing(count) => drop(records.pass(count)?),
            }
            self.current = Some((records, inode));
            self.rotated = false;
            return Ok(true);
        }
        let newest = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.ino(),
            // Not made yet, or in the middle of a rotation.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let here = self.current.as_ref().map(|(_, inode)| *inode);
        if here == Some(newest) {
            return Ok(false);
        }
        if here.is_some() && !self.rotated {
            // Nothing more is written to this file, but something may have been since its end was met.
            self.rotated = true;
            return Ok(true);
        }
        let mut parts = parts::open(&self.path)?;
        // Newest last: of two that say they were this file, the newer one was, as it is still open here.
        if let Some(at) = parts.iter().rposition(|part| Some(part.inode) == here) {
            parts.drain(..=at);
        }
        let parts = parts.into_iter();
        self.queue = parts.map(|part| (part, Start::Offset(0))).collect();
        Ok(!self.queue.is_empty() && self.advance()?)
    }
}

/// Records in a compressed file.
fn count(part: &Part, format: Format) -> io::Result<u64> {
    // The two share a place in the file.
    let mut file = part.file.try_clone()?;
    let twin = Part {
        file: part.file.try_clone()?,
        ..*part
    };
    let count = Records::new(twin, format).pass(u64::MAX)?;
    file.rewind()?;
    Ok(count)
}
