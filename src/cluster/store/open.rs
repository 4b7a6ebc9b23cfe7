//! Opening a replica: checks its files together, then starts raft on them.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use openraft::ConfigError;
use tokio::sync::{Mutex, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::StoreConfig;
use super::disk::{Directory, Disk, LOG_FILE, MARK_FILE, SNAPSHOT_PREFIX};
use super::fault::FileFault;
use super::leadership::{self, Leadership, Replicas};
use super::log::{Log, Shared};
use super::log_file::{Contents, LogFile};
use super::machine::{Machine, Stage};
use super::network::{Network, RaftLink, Voteless};
use super::seal::Sealer;
use super::snapshot::Snapshots;
use super::state::State;
use super::types::Raft;
use super::writer::{Pace, Writer};
use super::{EVENTS, Inner, Running, Stopped, Store, look, ticks};

/// Why a replica cannot be opened. Its files are as they were.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileFault),
    /// The timings contradict each other.
    #[error("the timings of the store contradict each other")]
    Timings(#[source] Box<ConfigError>),
    /// The system gives no thread for the writer.
    #[error("no thread can be started for the raft log")]
    Thread(#[source] std::io::Error),
    /// Log and snapshot do not fit together.
    #[error("the files in {} do not fit together: restore the whole directory from a backup, or remove it and join again", .dir.display())]
    Inconsistent {
        /// The store's directory.
        dir: PathBuf,
        /// What openraft found.
        #[source]
        source: Stopped,
    },
}

/// The files of a store, opened and checked.
pub(super) struct Files {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) snapshots: Snapshots,
    pub(super) log: LogFile,
    pub(super) contents: Contents,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Files({:?})", self.contents)
    }
}

impl Files {
    /// Opens what is there, or makes the files of a replica that holds nothing.
    pub(super) fn open(disk: Arc<dyn Disk>, config: &StoreConfig) -> Result<Self, FileFault> {
        disk.prepare()?;
        check_log_not_lost(&*disk)?;
        let (log, contents) = LogFile::open(disk.clone(), config.node)?;
        let sealer = log.sealer();
        let snapshots = Snapshots::new(disk.clone(), sealer.clone());
        snapshots.drop_other_epochs(contents.epoch)?;
        check_snapshot(&snapshots, &contents)?;
        Ok(Self {
            disk,
            sealer,
            snapshots,
            log,
            contents,
        })
    }
}

/// A log is made where there is none, but not where one was lost: it leaves traces once it is used.
fn check_log_not_lost(disk: &dyn Disk) -> Result<(), FileFault> {
    let names = disk.list()?;
    let traces = |name: &String| name == MARK_FILE || name.starts_with(SNAPSHOT_PREFIX);
    let has_log = names.iter().any(|name| name == LOG_FILE);
    match !has_log && names.iter().any(traces) {
        false => Ok(()),
        true => Err(FileFault::Missing {
            path: disk.path(LOG_FILE),
        }),
    }
}

/// What was purged from the log must be in the snapshot.
fn check_snapshot(snapshots: &Snapshots, contents: &Contents) -> Result<(), FileFault> {
    let image = snapshots.newest_image(contents.epoch)?;
    let covered = image
        .and_then(|image| image.meta.last_log_id)
        .map(|last| last.index);
    match contents.lazy.purged {
        Some(purged) if covered.is_none_or(|covered| covered < purged.index) => {
            Err(FileFault::Missing {
                path: snapshots.path(contents.epoch, purged.index),
            })
        }
        _ => Ok(()),
    }
}

impl Store {
    /// Opens the replica in `config.dir`. One that holds nothing waits to be added by a leader, or for
    /// [`Self::bootstrap`].
    ///
    /// Background work is spawned on `tasks` and ends with `stop`, which also closes the store.
    pub async fn open(
        config: StoreConfig,
        link: Arc<dyn RaftLink>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, OpenError> {
        let disk = Arc::new(Directory::new(&config.dir));
        Self::open_on(config, disk, Pace::Threaded, link, tasks, stop).await
    }

    /// As [`Self::open`], with the files wherever `disk` keeps them.
    pub(crate) async fn open_on(
        config: StoreConfig,
        disk: Arc<dyn Disk>,
        pace: Pace,
        link: Arc<dyn RaftLink>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, OpenError> {
        let files = {
            let config = config.clone();
            let open = move || Files::open(disk, &config);
            match pace {
                Pace::Inline | Pace::Virtual => open()?,
                Pace::Threaded => tokio::task::spawn_blocking(open)
                    .await
                    .map_err(|error| OpenError::Thread(std::io::Error::other(error)))??,
            }
        };
        let store = Self {
            inner: Arc::new(Inner {
                config,
                disk: files.disk,
                pace,
                sealer: files.sealer,
                snapshots: files.snapshots,
                link,
                tasks: tasks.clone(),
                stop: stop.clone(),
                stage: Stage {
                    state: watch::Sender::new(Arc::new(State::default())),
                    events: broadcast::Sender::new(EVENTS),
                },
                leadership: watch::Sender::new(Leadership::default()),
                replicas: watch::Sender::new(Replicas::default()),
                stopped: watch::Sender::new(None),
                running: RwLock::new(None),
                life: Mutex::new(()),
                changing: Mutex::new(()),
                receiving: Mutex::new(None),
            }),
        };
        let shared = Arc::new(Shared::new(files.log, files.contents));
        store.inner.run(shared).await?;
        let closing = store.clone();
        tasks.spawn(async move {
            stop.cancelled().await;
            closing.shutdown().await;
        });
        Ok(store)
    }
}

impl Inner {
    /// Starts a raft instance on a log and puts it to work.
    pub(super) async fn run(self: &Arc<Self>, shared: Arc<Shared>) -> Result<(), OpenError> {
        let config = self
            .config
            .raft()
            .map_err(|error| OpenError::Timings(Box::new(error)))?;
        let writer =
            Writer::start(shared.clone(), self.pace, &self.tasks).map_err(OpenError::Thread)?;
        let log = Log::new(shared.clone(), writer);
        let machine = Machine::new(
            shared.clone(),
            self.snapshots.clone(),
            self.stage.clone(),
            self.pace,
        );
        let sight = watch::Sender::default();
        let voteless = Voteless::default();
        let network = Network {
            node: self.config.node,
            link: self.link.clone(),
            shared: shared.clone(),
            sight: sight.clone(),
            voteless: voteless.clone(),
        };
        let raft = Raft::new(
            self.config.node,
            Arc::new(config),
            network,
            log.clone(),
            machine,
        )
        .await;
        let raft = match raft {
            Ok(raft) => raft,
            Err(error) => {
                log.close().await;
                return Err(OpenError::Inconsistent {
                    dir: self.config.dir.clone(),
                    source: Stopped {
                        why: error.to_string(),
                    },
                });
            }
        };
        let stop = self.stop.child_token();
        let running = Running {
            raft,
            log,
            shared,
            heard: watch::Sender::default(),
            sight,
            stop,
        };
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Some(running.clone());
        self.tasks.spawn(ticks::govern(
            running.clone(),
            self.config.node,
            self.config.timings,
            voteless,
        ));
        self.tasks
            .spawn(look::around(self.clone(), running.clone()));
        self.tasks.spawn(leadership::observe(self.clone(), running));
        Ok(())
    }
}
