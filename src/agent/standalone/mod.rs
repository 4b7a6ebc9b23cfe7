//! Containers that users make by themselves with `docker run` and `docker create`, on the node that is asked.
//!
//! They are the machine's, in a cluster or in none, and outlive daemons and reboots. [`Standalone`] is opened once by the
//! node, adopts what it finds written down, and owns one worker for each container.
//!
//! | file | does |
//! |---|---|
//! | [`life`] | pure: phases, restart policies, pauses |
//! | `plan` | pure: what container a request is |
//! | [`record`] | what is on disk of each |
//! | `names` | which names are names, and made-up ones |
//! | `make` | makes one: all of it or nothing |
//! | `work` | its worker: begins it, watches it, begins it again, removes it |
//! | `acts` | what users do to one: stop, kill, rename, wait |
//! | [`supplies`] | what it needs besides |
//!
//! One container keeps one ID for all its processes, as Docker's do, so that its directory, its log and its file system are
//! the same throughout: before each further process the runtime makes sure that nothing of the one before is left
//! ([`Machine::again`]). The worker does that while the record still says how that one ended, and writes `Starting` after it:
//! whatever end is found in that phase is of the new process, and none is ever begun twice for one request.
//!
//! A daemon that is killed leaves: a record in the phase `Making`, of which nobody was told, and all of it is removed; one in
//! `Removing`, which is gone on with; one in `Starting`, whose process is begun unless it has; all else is as it says.

mod acts;
pub mod life;
mod make;
mod names;
mod plan;
pub mod record;
pub mod supplies;
#[cfg(test)]
mod tests;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::happenings::Happenings;
use super::runner::Clock;
use super::runner::stock::{HealthExec, StockError};
use super::runtime::RuntimeError;
use super::vitals::Vitals;
use crate::model::container::Exit;
use crate::model::{ContainerId, Digest};
use life::Phase;
use record::{Record, Shelf};
pub use supplies::{Machine, Supplies};

/// Requests on their way to one worker.
const QUEUE: usize = 16;

/// What standalone containers are run with.
pub struct Tools<M, S, H> {
    /// Runs them.
    pub runtime: M,
    /// Has what they need.
    pub supplies: S,
    /// Asks for their health.
    pub health: H,
    /// Hears what happens.
    pub happenings: Happenings,
    /// Hears how they are.
    pub vitals: Vitals,
    /// The wall clock.
    pub clock: Clock,
    /// They have a tiny init when nobody says.
    pub init: bool,
}

impl<M, S, H> fmt::Debug for Tools<M, S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools").finish_non_exhaustive()
    }
}

/// Why a container could not be made. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// It can never be as it was asked for.
    #[error("{0}")]
    Invalid(String),
    /// The image is not here; Docker's client pulls it then.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// It was to share something with a container that is not here.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// Another has the name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken {
        /// Which name.
        name: String,
        /// Who.
        holder: ContainerId,
    },
    /// The runtime.
    #[error("{0}")]
    Runtime(#[source] RuntimeError),
    /// Images and volumes.
    #[error("{0}")]
    Supplies(#[source] StockError),
    /// It cannot be written down.
    #[error("the container cannot be written down: {0}")]
    Disk(#[source] io::Error),
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
}

/// Why something could not be done to a container.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// There is none.
    #[error("No such container: {0}")]
    NoSuch(ContainerId),
    /// It contradicts how the container is.
    #[error("{0}")]
    Conflict(String),
    /// It can never be.
    #[error("{0}")]
    Invalid(String),
    /// The runtime.
    #[error("{0}")]
    Runtime(#[source] RuntimeError),
    /// Its program cannot be run: Docker's words.
    #[error("{0}")]
    Refused(String),
    /// It cannot be written down.
    #[error("the change cannot be written down: {0}")]
    Disk(#[source] io::Error),
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
}

/// How a container is, for whoever waits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    phase: Phase,
    exit: Option<Exit>,
    /// How many processes have ended, or could not begin, in this life of the daemon.
    finished: u64,
    gone: bool,
}

/// What a worker is asked.
enum Command {
    /// To begin; whether it was not running already.
    Start(oneshot::Sender<Result<bool, ActError>>),
    /// To remove it.
    Remove(bool, oneshot::Sender<Result<(), ActError>>),
    /// To look at the record, which somebody has changed.
    Look,
}

/// One container.
struct Entry {
    id: ContainerId,
    record: Mutex<Record>,
    /// Held while the record is changed, on disk and in memory.
    writing: tokio::sync::Mutex<()>,
    view: watch::Sender<View>,
    commands: mpsc::Sender<Command>,
}

/// All that there are.
#[derive(Default)]
struct Book {
    entries: BTreeMap<ContainerId, Arc<Entry>>,
    names: BTreeMap<String, ContainerId>,
}

struct Shared<M, S, H> {
    tools: Tools<M, S, H>,
    shelf: Shelf,
    book: Mutex<Book>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// This machine's standalone containers. Clones are handles to the same.
pub struct Standalone<M, S, H>(Arc<Shared<M, S, H>>);

impl<M, S, H> Clone for Standalone<M, S, H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M, S, H> fmt::Debug for Standalone<M, S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standalone").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M, S, H> Shared<M, S, H> {
    fn entry(&self, id: ContainerId) -> Result<Arc<Entry>, ActError> {
        let book = lock(&self.book);
        book.entries.get(&id).cloned().ok_or(ActError::NoSuch(id))
    }

    /// Changes a record on disk and then in memory, and tells who waits.
    async fn change<T>(&self, entry: &Entry, work: impl FnOnce(&mut Record) -> T) -> io::Result<T> {
        let _turn = entry.writing.lock().await;
        let mut record = entry.record();
        let outcome = work(&mut record);
        self.shelf.save(&record)?;
        entry.take(record);
        Ok(outcome)
    }

    /// The same for what has happened already: a disk that is full does not make it undone.
    async fn note<T>(&self, entry: &Entry, work: impl FnOnce(&mut Record) -> T) -> T {
        let _turn = entry.writing.lock().await;
        let mut record = entry.record();
        let outcome = work(&mut record);
        if let Err(error) = self.shelf.save(&record) {
            tracing::warn!(container = ?entry.id, %error, "what became of a container is not written down");
        }
        entry.take(record);
        outcome
    }
}

impl Entry {
    fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    fn phase(&self) -> Phase {
        lock(&self.record).life.phase
    }

    fn take(&self, record: Record) {
        let (phase, exit) = (record.life.phase, record.life.exit);
        *lock(&self.record) = record;
        self.view.send_modify(|view| {
            view.phase = phase;
            view.exit = exit;
        });
    }

    fn finished(&self) {
        self.view.send_modify(|view| view.finished += 1);
    }
}

impl<M: Machine, S: Supplies, H: HealthExec> Standalone<M, S, H> {
    /// Adopts what is written down in `dir`, and runs on `tasks` until `stop`; containers run on.
    pub fn open(
        tools: Tools<M, S, H>,
        dir: PathBuf,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let (shelf, records) = Shelf::open(&dir)?;
        let shared = Arc::new(Shared {
            tools,
            shelf,
            book: Mutex::default(),
            tasks: tasks.clone(),
            stop,
        });
        for record in records {
            let id = record.config.id;
            lock(&shared.book)
                .names
                .insert(record.config.name.clone(), id);
            work::employ(&shared, record, true);
        }
        Ok(Self(shared))
    }

    /// All records, in no order, but of those that are being made.
    pub fn list(&self) -> Vec<Record> {
        let entries: Vec<Arc<Entry>> = lock(&self.0.book).entries.values().cloned().collect();
        entries.iter().map(|entry| entry.record()).collect()
    }

    /// One record.
    pub fn look(&self, id: ContainerId) -> Option<Record> {
        self.0.entry(id).ok().map(|entry| entry.record())
    }

    /// Whether a container is one of these.
    pub fn has(&self, id: ContainerId) -> bool {
        lock(&self.0.book).entries.contains_key(&id)
    }

    /// The images that they are made of, with the container and whether it runs.
    pub fn images(&self) -> Vec<(Digest, ContainerId, bool)> {
        let records = self.list().into_iter();
        let image = |record: Record| {
            let runs = record.life.phase == Phase::Running;
            (record.config.image.manifest, record.config.id, runs)
        };
        records.map(image).collect()
    }

    /// The runtime.
    pub fn runtime(&self) -> &M {
        &self.0.tools.runtime
    }
}
