//! What this node was assigned and how far it has come with it, on disk before anything is done that looking would not
//! find again.
//!
//! A redb file with one writer, which commits what has gathered as one transaction. Read once, at the start. What is
//! kept of a task is [`super::task::kept`]; who writes which record is said there. A write is durable when its call
//! returns, or nothing of it is; after a disk was full the next write tries anew.

mod file;
#[cfg(test)]
pub(crate) mod memory;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use self::file::{File, Row};
use super::task::kept::{Kept, Made, Order, Progress};
use crate::model::TaskId;

/// Writes that may wait for the disk: a few of each task of a busy node.
const QUEUE: usize = 1024;

/// Writes that become one transaction at most.
const BATCH: usize = 1024;

/// The newest assignments that were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// Their term.
    pub term: u64,
    /// Their generation in it.
    pub generation: u64,
}

/// All that a ledger holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The newest assignments that were taken.
    pub mark: Mark,
    /// Every task that is not forgotten.
    pub tasks: BTreeMap<TaskId, Kept>,
}

/// One record to be written.
#[derive(Clone, Copy, Debug)]
pub enum Write<'a> {
    /// How new the assignments are.
    Mark(Mark),
    /// What the leader said.
    Order(TaskId, &'a Order),
    /// How far a task is.
    Progress(TaskId, &'a Progress),
    /// What its container is.
    Made(TaskId, &'a Made),
    /// All of a task goes.
    Forget(TaskId),
}

/// Why the ledger cannot be read or written. Nothing of it was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has it open.
    #[error(
        "{} is in use by another process: stop the other daemon, or give this one another --data-root",
        .0.display()
    )]
    InUse(PathBuf),
    /// It is not what was written.
    #[error(
        "{} is damaged ({what}): stop the daemon, remove the file and start it again; what runs is found by its labels \
         and goes on once the leader assigns it again",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// A newer build wrote it.
    #[error(
        "{} has format {found}, this build knows up to {known}: start a build at least as new as the one that wrote it",
        .path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// The disk has no room left.
    #[error("no space left on the disk of {}: free some space, and it goes on by itself", .0.display())]
    DiskFull(PathBuf),
    /// The system refuses to read or write it.
    #[error("{} cannot be read or written", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The daemon stops.
    #[error("the ledger is closed")]
    Closed,
}

struct Job {
    rows: Vec<Row>,
    done: oneshot::Sender<Result<(), LedgerError>>,
}

/// A handle of the ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
    jobs: mpsc::Sender<Job>,
}

impl Ledger {
    /// Opens the ledger at `path`, made new when there is none, and reads it. Its writer ends with the last handle.
    pub async fn open(path: &Path, tasks: &TaskTracker) -> Result<(Self, Contents), LedgerError> {
        Self::open_with(path, tasks, |_| true).await
    }

    /// As [`Ledger::open`]; `goes_on` is asked before and after each commit, and ends the writer by saying no.
    pub(crate) async fn open_with(
        path: &Path,
        tasks: &TaskTracker,
        goes_on: impl Fn(Moment) -> bool + Send + 'static,
    ) -> Result<(Self, Contents), LedgerError> {
        let path = path.to_owned();
        let opening = tasks.spawn_blocking(move || {
            let file = File::open(&path)?;
            let contents = file.read()?;
            Ok((file, contents))
        });
        let opened: Result<_, LedgerError> = opening.await.map_err(|_| LedgerError::Closed)?;
        let (file, contents) = opened?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        tasks.spawn(run(file, queue, tasks.clone(), goes_on));
        Ok((Self { jobs }, contents))
    }

    /// Writes all of these or none, and returns when they are on disk.
    pub async fn write(&self, writes: &[Write<'_>]) -> Result<(), LedgerError> {
        let mut rows = Vec::with_capacity(writes.len());
        for write in writes {
            Row::of(write, &mut rows);
        }
        let (done, outcome) = oneshot::channel();
        let job = Job { rows, done };
        self.jobs.send(job).await.map_err(|_| LedgerError::Closed)?;
        outcome.await.map_err(|_| LedgerError::Closed)?
    }
}

/// When a writer is asked whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Nothing of the batch is on disk.
    BeforeCommit,
    /// All of it is, and nobody knows.
    AfterCommit,
}

async fn run(
    mut file: File,
    mut queue: mpsc::Receiver<Job>,
    tasks: TaskTracker,
    goes_on: impl Fn(Moment) -> bool,
) {
    let mut jobs = Vec::new();
    while queue.recv_many(&mut jobs, BATCH).await > 0 {
        let mut rows = Vec::new();
        jobs.iter_mut().for_each(|job| rows.append(&mut job.rows));
        if !goes_on(Moment::BeforeCommit) {
            return;
        }
        let commit = tasks.spawn_blocking(move || {
            let outcome = file.commit(&rows);
            (file, outcome)
        });
        let Ok((back, outcome)) = commit.await else {
            return;
        };
        file = back;
        if let Err(error) = &outcome {
            tracing::error!(%error, "the ledger cannot be written");
        }
        if !goes_on(Moment::AfterCommit) {
            return;
        }
        for job in jobs.drain(..) {
            // Who no longer waits has ended.
            let _ = job.done.send(outcome.clone());
        }
    }
}

#[cfg(test)]
mod tests;
