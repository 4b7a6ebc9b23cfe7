//! Records one after another out of one file, plain or compressed, in either format.
//!
//! A record that is not whole yet is read again, from its beginning, when more is asked for: its writer may have cut it
//! off and written something else. What is no record is passed over.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;

use flate2::read::MultiGzDecoder;

use super::parts::Part;
use crate::agent::logs::{LogLine, json, local};

/// What is read at once, bytes.
const CHUNK: usize = 64 << 10;

/// No record is longer; what is, is none.
const MAX_RECORD: usize = local::MAX_MESSAGE + 2 * local::LENGTH;

/// How records look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Lines of JSON.
    Json,
    /// Messages between lengths.
    Local,
}

#[derive(Debug)]
enum Source {
    Plain(File),
    Squeezed(Box<MultiGzDecoder<BufReader<File>>>),
}

/// The records of one file.
#[derive(Debug)]
pub(super) struct Records {
    format: Format,
    source: Source,
    /// Where in the file `buffer` begins.
    offset: u64,
    buffer: Vec<u8>,
    /// How much of it was handed out.
    used: usize,
    /// What seems to be no record was already read a second time.
    doubted: bool,
}

/// What a buffer begins with.
enum Found {
    /// Something of so many bytes, which is a record or nothing.
    Record(Option<LogLine>, usize),
    /// The beginning of something.
    Begun,
}

impl Records {
    /// Those of `part`, from its beginning.
    pub(super) fn new(part: Part, format: Format) -> Self {
        Self {
            format,
            source: if part.squeezed {
                let file = BufReader::with_capacity(CHUNK, part.file);
                Source::Squeezed(Box::new(MultiGzDecoder::new(file)))
            } else {
                Source::Plain(part.file)
            },
            offset: 0,
            buffer: Vec::new(),
            used: 0,
            doubted: false,
        }
    }

    /// Goes on at this byte of a plain file.
    pub(super) fn seek(&mut self, offset: u64) {
        self.buffer.clear();
        self.used = 0;
        self.offset = offset;
    }

    /// The next one; `None` when there is no further one now.
    pub(super) fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            match self.step()? {
                None => return Ok(None),
                Some(None) => {}
                Some(line) => return Ok(line),
            }
        }
    }

    /// Passes over so many records; fewer when there are not as many. How many it was.
    pub(super) fn pass(&mut self, count: u64) -> io::Result<u64> {
        let mut passed = 0;
        while passed < count && self.step()?.is_some() {
            passed += 1;
        }
        Ok(passed)
    }

    /// One record, or something in the place of one; `None` at the end.
    fn step(&mut self) -> io::Result<Option<Option<LogLine>>> {
        loop {
            match self.look() {
                Found::Record(None, _)
                    if !self.doubted && matches!(self.source, Source::Plain(_)) =>
                {
                    self.doubted = true;
                    self.again();
                }
                Found::Record(line, length) => {
                    self.doubted = false;
                    self.used += length;
                    return Ok(Some(line));
                }
                Found::Begun => {
                    if !self.fill()? {
                        if matches!(self.source, Source::Plain(_)) {
                            self.again();
                        }
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn look(&self) -> Found {
        let bytes = &self.buffer[self.used..];
        if bytes.is_empty() {
            return Found::Begun;
        }
        match self.format {
            Format::Json => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(end) => Found::Record(json::decode(&bytes[..end]), end + 1),
                None if bytes.len() >= MAX_RECORD => Found::Record(None, bytes.len()),
                None => Found::Begun,
            },
            Format::Local => {
                if bytes.len() < local::LENGTH {
                    return Found::Begun;
                }
                match local::length(bytes) {
                    Some(length) if bytes.len() < length + 2 * local::LENGTH => Found::Begun,
                    _ => match local::decode(bytes) {
                        Some((line, length)) => Found::Record(Some(line), length),
                        None => Found::Record(None, next_record(bytes)),
                    },
                }
            }
        }
    }

    /// Forgets what was read ahead of the next record.
    fn again(&mut self) {
        self.offset += self.used as u64;
        self.buffer.clear();
        self.used = 0;
    }

    /// Reads more; `false` when there is no more.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.used);
        self.offset += self.used as u64;
        self.used = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        let room = &mut self.buffer[filled..];
        let read = match &mut self.source {
            Source::Plain(file) => {
                // Someone else emptied it: what is there now is new.
                if file.metadata()?.len() < self.offset {
                    self.offset = 0;
                    self.buffer.clear();
                    return Ok(true);
                }
                file.read_at(room, self.offset + filled as u64)
            }
            Source::Squeezed(decoder) => decoder.read(room),
        };
        match read {
            Ok(read) => {
                self.buffer.truncate(filled + read);
                Ok(read > 0)
            }
            Err(error) => {
                self.buffer.truncate(filled);
                match (error.kind(), &self.source) {
                    (io::ErrorKind::Interrupted, _) => Ok(true),
                    // A compressed part that a crash tore: what could be read is all.
                    (
                        io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::InvalidData,
                        Source::Squeezed(_),
                    ) => Ok(false),
                    _ => Err(error),
                }
            }
        }
    }
}

/// How many bytes to pass over until something looks like a record again; at least one.
fn next_record(bytes: &[u8]) -> usize {
    let is_record = |at: &usize| local::decode(&bytes[*at..]).is_some();
    // The last bytes may be the beginning of one.
    let end = bytes.len().saturating_sub(local::LENGTH - 1).max(1);
    (1..end).find(is_record).unwrap_or(end)
}

/// Where in the first `size` bytes of `file` its last `wanted` records begin, and how many they are: fewer when the file
/// has fewer. Reads from the end, and no more than it must.
pub(super) fn tail(file: &File, format: Format, size: u64, wanted: u64) -> io::Result<(u64, u64)> {
    match format {
        Format::Json => tail_of_lines(file, size, wanted),
        Format::Local => tail_of_records(file, size, wanted),
    }
}

fn tail_of_lines(file: &File, size: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut buffer = vec![0; CHUNK];
    let mut end = size;
    // Each line ends with the end of a line, and what follows the last one is none: the one before the first that is
    // wanted is one more.
    let mut ends = 0;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let chunk = &mut buffer[..(end - start) as usize];
        file.read_exact_at(chunk, start)?;
        for (at, _) in chunk
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
        {
            if ends == wanted {
                return Ok((start + at as u64 + 1, wanted));
            }
            ends += 1;
        }
        end = start;
    }
    Ok((0, ends))
}

fn tail_of_records(file: &File, size: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut start = local::end_of_last_record(file, size)?;
    let mut found = 0;
    let mut field = [0; local::LENGTH];
    while found < wanted && start > 0 {
        file.read_exact_at(&mut field, start.saturating_sub(local::LENGTH as u64))?;
        let record = local::length(&field).map(|length| (length + 2 * local::LENGTH) as u64);
        let Some(before) = record.and_then(|record| start.checked_sub(record)) else {
            break;
        };
        start = before;
        found += 1;
    }
    Ok((start, found))
}
