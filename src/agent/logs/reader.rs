//! Reads a container's log back, while it is written or after.
//!
//! [`read`] gives a stream of lines. Files are read in batches on the threads for blocking work; between them a
//! follower waits until the directory changes. It follows through rotations, without a line lost or shown twice as
//! long as the file that it has reached, or the compressed form of it, is still there.

mod cursor;
mod parts;
mod records;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{BoxStream, Stream, StreamExt as _, unfold};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::options::Driver;
use super::{LogLine, Origin, ReadOptions, journald, log_path};
use cursor::{Batch, Cursor};
use records::Format;
use watch::Watch;

/// How long a follower waits, after the container has ended, for its logger to have written all.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

/// What becomes of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Show,
    Pass,
    /// It and all that follow are too late.
    End,
}

impl ReadOptions {
    pub(super) fn choose(&self, line: &LogLine) -> Choice {
        let wanted = match line.stream {
            Origin::Stdout => self.stdout,
            Origin::Stderr => self.stderr,
        };
        if self.until.is_some_and(|until| line.at > until) {
            Choice::End
        } else if wanted && self.since.is_none_or(|since| line.at >= since) {
            Choice::Show
        } else {
            Choice::Pass
        }
    }
}

/// Why a log cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The driver keeps nothing.
    #[error("configured logging driver does not support reading")]
    Unreadable,
    /// A file.
    #[error("the log {path} cannot be read")]
    File {
        /// The newest file of the log.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The journal is read by its own command, which is missing or failed.
    #[error("the journal cannot be read by journalctl")]
    Journal {
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// The lines of a log, in the order in which they were taken down. Ends after an error.
pub struct Lines(BoxStream<'static, Result<LogLine, ReadError>>);

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lines").finish_non_exhaustive()
    }
}

impl Stream for Lines {
    type Item = Result<LogLine, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

/// The lines that `driver` keeps of the container with this directory. A follower ends once `ended` is cancelled, which
/// is to say that the container has ended, and its logger has written all. A log that does not exist yet is empty.
pub fn read(
    dir: &Path,
    driver: Driver,
    options: ReadOptions,
    ended: CancellationToken,
) -> Result<Lines, ReadError> {
    let (path, format) = match (driver, log_path(dir, driver)) {
        (Driver::JsonFile, Some(path)) => (path, Format::Json),
        (Driver::Local, Some(path)) => (path, Format::Local),
        (Driver::Journald, _) => {
            return Ok(Lines(journald::reader::lines(dir, options, ended).boxed()));
        }
        (Driver::None | Driver::JsonFile | Driver::Local, _) => return Err(ReadError::Unreadable),
    };
    let reading = Reading {
        dir: dir.into(),
        watch: Watch::new(path.parent().unwrap_or(dir)),
        path,
        format,
        options,
        ended,
        cursor: None,
        ready: VecDeque::new(),
        phase: Phase::Live,
    };
    Ok(Lines(unfold(reading, Reading::next).boxed()))
}

/// Waits until the logger of the container with this directory has written all that the container said; `false` when
/// it has not within `deadline`. A container's end is known before its last words are on disk.
pub async fn drained(dir: &Path, deadline: Duration) -> bool {
    let until = Instant::now() + deadline;
    while super::logger::is_alive(dir) {
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(watch::LOOK_AGAIN / 10).await;
    }
    true
}

/// How far a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The container may say more.
    Live,
    /// Its logger may write more until then.
    Draining(Instant),
    /// What is there is all.
    Last,
    /// Nothing more is read.
    Over,
}

struct Reading {
    dir: PathBuf,
    path: PathBuf,
    format: Format,
    options: ReadOptions,
    ended: CancellationToken,
    watch: Watch,
    /// `None` before the first batch.
    cursor: Option<Cursor>,
    ready: VecDeque<LogLine>,
    phase: Phase,
}

impl Reading {
    async fn next(mut self) -> Option<(Result<LogLine, ReadError>, Self)> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some((Ok(line), self));
            }
            if self.phase == Phase::Over {
                return None;
            }
            match self.batch().await {
                Err(source) => {
                    self.phase = Phase::Over;
                    let path = self.path.clone();
                    return Some((Err(ReadError::File { path, source }), self));
                }
                Ok(Batch { lines, at_end, .. }) => {
                    self.ready = lines.into();
                    if at_end {
                        self.at_end().await;
                    }
                }
            }
        }
    }

    /// Reads on, on a thread where that may take its time.
    async fn batch(&mut self) -> io::Result<Batch> {
        let (cursor, path, format) = (self.cursor.take(), self.path.clone(), self.format);
        let options = self.options.clone();
        let (cursor, batch) = tokio::task::spawn_blocking(move || {
            let mut cursor = match cursor {
                Some(cursor) => cursor,
                None => Cursor::open(path, format, options)?,
            };
            let batch = cursor.batch()?;
            io::Result::Ok((cursor, batch))
        })
        .await
        .map_err(io::Error::other)??;
        if batch.is_over() {
            self.phase = Phase::Over;
        }
        self.cursor = Some(cursor);
        Ok(batch)
    }

    /// All that is there was read: waits for more, or decides that there is none.
    async fn at_end(&mut self) {
        let give_up = match self.phase {
            Phase::Over => return,
            Phase::Last => {
                self.phase = Phase::Over;
                return;
            }
            Phase::Live if !self.options.follow => {
                self.phase = Phase::Over;
                return;
            }
            Phase::Live if self.ended.is_cancelled() => {
                let until = Instant::now() + DRAIN_DEADLINE;
                self.phase = Phase::Draining(until);
                until
            }
            Phase::Live => {
                // What is ready goes out first; the end is met again by the next batch.
                if self.ready.is_empty() {
                    tokio::select! {
                        () = self.watch.changed() => {}
                        () = self.ended.cancelled() => {}
                    }
                }
                return;
            }
            Phase::Draining(until) => until,
        };
        if !super::logger::is_alive(&self.dir) || Instant::now() >= give_up {
            self.phase = Phase::Last;
        } else if self.ready.is_empty() {
            let soon = Instant::now() + watch::LOOK_AGAIN / 10;
            let _ = timeout_at(soon.min(give_up), self.watch.changed()).await;
        }
    }
}

#[cfg(test)]
mod tests;
