//! A ledger in memory, for simulations: what it holds outlives the daemon, as a file does, and no thread is needed.
//!
//! Test builds only. A write takes as long as a disk does, in virtual time; one that had not come to its end when the
//! daemon ended was not made.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::file::Row;
use super::{BATCH, Contents, Job, Ledger, QUEUE};
use crate::testing::let_pass;

/// How long a write takes.
const LATENCY: Duration = Duration::from_millis(1);

/// What is on disk. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryLedger(Arc<Mutex<Contents>>);

impl MemoryLedger {
    /// Opens it, as [`Ledger::open`] opens a file.
    pub(crate) fn open(&self, tasks: &TaskTracker) -> (Ledger, Contents) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        tasks.spawn(write(self.clone(), queue));
        (Ledger { jobs }, self.contents())
    }

    /// All that is on disk.
    pub(crate) fn contents(&self) -> Contents {
        let contents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contents.clone()
    }

    /// The machine has left its cluster: nothing is kept.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Contents::default();
    }
}

/// Ends with the last handle, and does nothing more once its daemon has ended: its jobs are dropped then.
async fn write(ledger: MemoryLedger, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::new();
    while queue.recv_many(&mut jobs, BATCH).await > 0 {
        let_pass(LATENCY).await;
        for Job { rows, done } in jobs.drain(..) {
            if done.is_closed() {
                continue;
            }
            {
                let mut contents = ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
                rows.iter().for_each(|row: &Row| row.apply(&mut contents));
            }
            // Who no longer waits has ended.
            let _ = done.send(Ok(()));
        }
    }
}
