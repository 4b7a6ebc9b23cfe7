//! The one writer of the raft log: takes what is queued, writes it as one batch, tells who waits.
//!
//! While one batch is being synced, the next one gathers: the busier the cluster, the fewer syncs per
//! entry. Order is kept: a vote is never on disk before an entry that was queued earlier. In a
//! simulation there is no thread: each write happens where it is asked for, or in a task that waits
//! first for as long as the simulated disk takes.

use std::io;
use std::sync::Arc;
use std::thread;

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::fault::FileFault;
use super::log::Shared;
use super::log_file::Write;
use super::types::Types;

/// Writes that may wait for the disk; who has more to write, waits. openraft merges entries into few.
const QUEUE: usize = 1024;
/// Writes that become one batch at most.
const BATCH: usize = 1024;

/// Where writes are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// On a thread of their own.
    Threaded,
    /// Where they are asked for, so that virtual time stands still meanwhile.
    #[cfg_attr(not(test), expect(dead_code, reason = "for simulations"))]
    Inline,
    /// In a task of the runtime, as a batch, after as long as the disk says that it takes.
    #[cfg_attr(not(test), expect(dead_code, reason = "for simulations"))]
    Virtual,
}

/// Who is told that a write is on disk, or why it is not.
pub(super) enum Done {
    Flushed(IOFlushed<Types>),
    Ack(oneshot::Sender<Result<(), io::Error>>),
}

impl Done {
    fn tell(self, result: &Result<(), FileFault>) {
        let result = match result {
            Ok(()) => Ok(()),
            Err(fault) => Err(fault.to_io()),
        };
        match self {
            Self::Flushed(callback) => callback.io_completed(result),
            // Who no longer waits has given up on the write.
            Self::Ack(ack) => drop(ack.send(result)),
        }
    }
}

/// What is queued.
pub(super) enum Job {
    /// A write.
    Write {
        write: Write,
        number: u64,
        done: Done,
    },
    /// The last job: close the file.
    Close(oneshot::Sender<()>),
}

/// A handle of the writer.
#[derive(Clone, Debug)]
pub(super) enum Writer {
    Queued(mpsc::Sender<Job>),
    Inline(Arc<Shared>),
}

impl Writer {
    /// Starts the writer of a log; a task that it needs is spawned on `tasks`.
    pub(super) fn start(
        shared: Arc<Shared>,
        pace: Pace,
        tasks: &TaskTracker,
    ) -> Result<Self, io::Error> {
        match pace {
            Pace::Inline => Ok(Self::Inline(shared)),
            Pace::Threaded => {
                let (jobs, queue) = mpsc::channel(QUEUE);
                thread::Builder::new()
                    .name("skein-log".into())
                    .spawn(move || run(&shared, queue))?;
                Ok(Self::Queued(jobs))
            }
            Pace::Virtual => {
                let (jobs, queue) = mpsc::channel(QUEUE);
                tasks.spawn(run_virtually(shared, queue));
                Ok(Self::Queued(jobs))
            }
        }
    }

    /// Queues a write. It is on disk once `done` is told so.
    pub(super) async fn write(
        &self,
        write: Write,
        number: u64,
        done: Done,
    ) -> Result<(), io::Error> {
        match self {
            Self::Queued(jobs) => jobs
                .send(Job::Write {
                    write,
                    number,
                    done,
                })
                .await
                .map_err(|_| closed()),
            Self::Inline(shared) => {
                done.tell(&shared.flush(&[write], number));
                Ok(())
            }
        }
    }

    /// Queues a write and waits until it is on disk.
    pub(super) async fn write_durably(&self, write: Write, number: u64) -> Result<(), io::Error> {
        let (ack, acked) = oneshot::channel();
        self.write(write, number, Done::Ack(ack)).await?;
        acked.await.map_err(|_| closed())?
    }

    /// Waits for all that is queued and closes the file.
    pub(super) async fn close(&self) {
        match self {
            Self::Queued(jobs) => {
                let (ack, acked) = oneshot::channel();
                if jobs.send(Job::Close(ack)).await.is_ok() {
                    // It fails only when the thread has closed the file already.
                    let _ = acked.await;
                }
            }
            Self::Inline(shared) => finish(shared),
        }
    }
}

fn closed() -> io::Error {
    io::Error::other("the store is closed")
}

fn run(shared: &Shared, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        if Batch::gather(job, &mut queue).write(shared) {
            return;
        }
    }
    finish(shared);
}

async fn run_virtually(shared: Arc<Shared>, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.recv().await {
        sleep(shared.file.latency()).await;
        if Batch::gather(job, &mut queue).write(&shared) {
            return;
        }
    }
    finish(&shared);
}

/// Writes that reach the disk together, and who waits for them.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    waiting: Vec<Done>,
    upto: u64,
    close: Option<oneshot::Sender<()>>,
}

impl Batch {
    /// The first job and all that has been queued behind it, up to the limit.
    fn gather(first: Job, queue: &mut mpsc::Receiver<Job>) -> Self {
        let mut batch = Self::default();
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Write {
                    write,
                    number,
                    done,
                } => {
                    batch.writes.push(write);
                    batch.waiting.push(done);
                    batch.upto = number;
                }
                Job::Close(ack) => {
                    batch.close = Some(ack);
                    break;
                }
            }
            if batch.writes.len() < BATCH {
                next = queue.try_recv().ok();
            }
        }
        batch
    }

    /// Writes it and tells who waits. True when it was the last, and the file is closed.
    fn write(self, shared: &Shared) -> bool {
        if !self.writes.is_empty() {
            let result = shared.flush(&self.writes, self.upto);
            self.waiting.into_iter().for_each(|done| done.tell(&result));
        }
        let Some(ack) = self.close else { return false };
        finish(shared);
        // Who closes may have been cancelled.
        let _ = ack.send(());
        true
    }
}

/// Writes down what waited for another write, and closes the file.
fn finish(shared: &Shared) {
    if shared.fault().is_none() {
        // An error was logged; what is lost are facts that the log implies.
        let _ = shared.flush(&[], 0);
    }
    shared.file.close();
}
