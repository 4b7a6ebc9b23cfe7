//! The replicated store: a raft log on disk and the state that it makes.
//!
//! One [`Store`] is one replica: it votes or learns, and on the leader it takes proposals. Who else
//! holds a replica and who votes is decided elsewhere ([`crate::cluster::quorum`]) and done here. How
//! replicas reach each other is behind [`RaftLink`]; where files lie is behind `disk::Disk`.
//!
//! ```text
//!   propose ─► raft ─► log ─► writer ─► disk          (group commit: one sync for all that waits)
//!                │  └─► network ─► RaftLink ─► handle  (on the other replicas)
//!                └─ committed ─► machine ─► State ─► watch(), events()
//! ```
//!
//! *Invariant*: nothing is acknowledged that a quorum does not have on disk. *Invariant*: no lock is
//! held while consensus is awaited, and each wait has a deadline. *Invariant*: files that cannot be
//! trusted stop the store with an error that names the file; they are never read past.
//!
//! | file | decides |
//! |---|---|
//! | `state` `work` `command` | what a proposal changes, and its encoding |
//! | `types` `rpc` | what is stored and sent |
//! | `log` `mirror` `writer` | entries in memory, and when they are on disk |
//! | `log_file` `log_fields` `mark` `disk` `seal` `fault` | files, and what can be wrong with them |
//! | `machine` `snapshot` | the state in memory and on disk |
//! | `network` `serve` | asking other replicas, answering them |
//! | `ticks` | when raft has to look at its clock |
//! | `look` | whether a replica that has just started may vote |
//! | `client` `change` `leadership` | what the rest of the node asks and sees |
//! | `open` `recover` | the beginning, and a new beginning after a lost quorum |

mod change;
mod client;
mod command;
mod config;
mod disk;
mod fault;
mod leadership;
mod log;
mod log_fields;
mod log_file;
mod look;
mod machine;
mod mark;
mod mirror;
mod network;
mod objects;
mod open;
mod recover;
mod rpc;
mod seal;
mod serve;
mod snapshot;
mod state;
mod ticks;
mod types;
mod work;
mod writer;

pub mod measure;
pub(crate) mod memory;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(test)]
pub(crate) mod memory_disk;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Mutex, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use change::ChangeError;
pub use client::{BootstrapError, ProposeError, ReadError};
pub use config::{StoreConfig, Timings};
pub use fault::FileFault;
pub use leadership::{Leadership, Replicas};
pub use network::{LinkError, RaftLink};
pub use objects::Objects;
pub use open::OpenError;
pub use recover::{RecoverError, Recovered, recover};
pub use rpc::MessageError;
pub use serve::HandleError;
pub use state::{Action, Changed, State, StateEvent};
pub use work::{TemplateKey, Work};

pub(crate) use disk::Disk;
#[cfg(test)]
pub(crate) use recover::recover_on;
pub(crate) use writer::Pace;

use log::{Log, Shared};
use machine::Stage;
use seal::Sealer;
use snapshot::Snapshots;
use types::Raft;

/// Changes that a slow listener may be behind before it is told that it missed some.
const EVENTS: usize = 4096;

/// Why the store does nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has stopped: {why}")]
pub struct Stopped {
    /// The fault, or that it was told to.
    pub why: String,
}

/// One replica. Clones are handles of the same.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What all handles share.
struct Inner {
    config: StoreConfig,
    disk: Arc<dyn Disk>,
    pace: Pace,
    sealer: Arc<Sealer>,
    snapshots: Snapshots,
    link: Arc<dyn RaftLink>,
    tasks: TaskTracker,
    stop: CancellationToken,
    stage: Stage,
    leadership: watch::Sender<Leadership>,
    replicas: watch::Sender<Replicas>,
    stopped: watch::Sender<Option<Stopped>>,
    /// The raft instance at work. `None` before the first, between two, and after the last.
    running: RwLock<Option<Running>>,
    /// Held while `running` is replaced or ended.
    life: Mutex<()>,
    /// Held while the membership changes: one change at a time.
    changing: Mutex<()>,
    /// A snapshot that is arriving.
    receiving: Mutex<Option<serve::Receiving>>,
}

/// One raft instance with its log.
#[derive(Clone)]
struct Running {
    raft: Raft,
    log: Log,
    shared: Arc<Shared>,
    /// When this replica last agreed to what a leader sent.
    heard: watch::Sender<Option<Instant>>,
    /// Whether it may take part in elections.
    sight: watch::Sender<look::Sight>,
    /// Ends what was spawned for this instance.
    stop: CancellationToken,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("node", &self.inner.config.node)
            .field("dir", &self.inner.config.dir)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Whether a replica was ever opened in `dir`.
    pub fn exists(dir: &Path) -> bool {
        dir.join(disk::LOG_FILE).exists()
    }

    /// The state as applied here; it may be behind the leader's. After a proposal of this node was
    /// acknowledged, it shows it.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.inner.stage.state.subscribe()
    }

    /// Every change that is applied here, in order. Who is too slow is told so and looks at
    /// [`Self::watch`].
    pub fn events(&self) -> broadcast::Receiver<StateEvent> {
        self.inner.stage.events.subscribe()
    }

    /// Who leads, as far as this replica knows.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// Who holds a replica, and how far each is.
    pub fn replicas(&self) -> watch::Receiver<Replicas> {
        self.inner.replicas.subscribe()
    }

    /// Why the store has stopped, once it has: a file that failed, or [`Self::shutdown`]. A node whose
    /// store fails should end: it cannot vote or lead any more.
    pub fn stopped(&self) -> watch::Receiver<Option<Stopped>> {
        self.inner.stopped.subscribe()
    }

    /// Seals everything that is written from now on with a fresh data key. What is on disk is sealed
    /// anew as snapshots replace it.
    pub fn rotate_data_key(&self) -> Result<(), FileFault> {
        self.inner.sealer.rotate(&*self.inner.disk)
    }

    /// Ends the replica and closes its files: they can be opened again at once. Returns within some
    /// seconds. Whoever leads should [`transfer`](Self::transfer) first.
    pub async fn shutdown(&self) {
        let _life = self.inner.life.lock().await;
        self.inner.report_stop("it was shut down".into());
        self.inner.stop.cancel();
        self.inner.end_running().await;
    }
}

impl Inner {
    fn running(&self) -> Result<Running, Stopped> {
        let running = self
            .running
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        running.ok_or_else(|| {
            self.stopped.borrow().clone().unwrap_or_else(|| Stopped {
                why: "it is starting again".into(),
            })
        })
    }

    /// Takes note of the first reason to stop.
    fn report_stop(&self, why: String) {
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                *stopped = Some(Stopped { why });
            }
            first
        });
    }

    /// Ends the raft instance, if there is one, and closes its log. The caller holds `life`.
    async fn end_running(&self) {
        let running = self
            .running
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(running) = running else { return };
        running.stop.cancel();
        if let Err(error) = running.raft.shutdown().await {
            tracing::warn!(%error, "raft did not end cleanly");
        }
        running.log.close().await;
    }

    /// The error behind openraft's, in the words of the file that caused it.
    fn stopped_by(&self, error: impl fmt::Display) -> Stopped {
        if let Some(stopped) = self.stopped.borrow().clone() {
            return stopped;
        }
        let fault = self
            .running()
            .ok()
            .and_then(|running| running.shared.fault());
        Stopped {
            why: fault.map_or_else(|| error.to_string(), |fault| fault.to_string()),
        }
    }
}
