//! The tasks of one membership: their runner, from when containers can be run until the node leaves the cluster.
//!
//! Begun by the [`Engine`](super::engine::Engine) with a node's identity. Outlives memberships that are begun anew, so
//! that a change of standing disturbs no task. What it finds of an identity that this machine no longer has is removed:
//! that node has left its cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::engine::{EngineState, Machine, NOBODY, SNAPSHOTTER};
use super::join::reason;
use super::told::{Clocked, Told};
use super::{clock, machine};
use crate::agent::happenings::Happenings;
use crate::agent::images::{InUse, User};
use crate::agent::ledger::{Ledger, LedgerError};
use crate::agent::network::plane::{Plane, PlaneGround};
use crate::agent::runner::stock::{Stock, StockError};
use crate::agent::runner::{Runner, RunnerSettings, Tools};
use crate::agent::runtime::containerd::{ConnectError, Containerd, ContainerdSettings};
use crate::agent::runtime::{Runtime, RuntimeError};
use crate::agent::secrets::Secrets;
use crate::agent::stock::LocalStock;
use crate::agent::task::plan::NodeSelf;
use crate::agent::vitals::Vitals;
use crate::model::NodeId;
use crate::model::container::{ContainerState, LogConfig};
use crate::wire::assignment::Assignments;

/// Containers that are made or started at a time, for each processor.
const STARTS_PER_CPU: usize = 4;

/// Work that cannot be begun is tried again after this, at first; doubled up to [`AGAIN_MOST`].
const AGAIN: Duration = Duration::from_secs(1);

/// The longest pause between two tries.
const AGAIN_MOST: Duration = Duration::from_secs(30);

/// Tasks of a node that leaves have this long to end by themselves: Docker's ten seconds, and what it takes to remove
/// them. Then they are killed.
const END_DEADLINE: Duration = Duration::from_secs(15);

/// The UDP port of packets between nodes, as of Docker's overlay networks.
const DATA_PATH_PORT: u16 = 4789;

/// What works for the tasks may take this long to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// What work is begun on.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// Whose tasks.
    pub(super) node: NodeId,
    /// Where its files are.
    pub(super) data_root: PathBuf,
    /// Where what goes with the machine is.
    pub(super) run_dir: PathBuf,
    /// The node's address between nodes; `None` when it has none.
    pub(super) own: Option<IpAddr>,
    /// The engine's labels.
    pub(super) labels: BTreeMap<String, String>,
    /// Hears what happens.
    pub(super) happenings: Happenings,
    /// Hears how containers are.
    pub(super) vitals: Vitals,
    /// What a container gets that binds Docker's socket; `None` where that is somebody else's.
    pub(super) socket: Option<PathBuf>,
}

/// Why work cannot be begun.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error("containerd cannot be used for containers")]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the containers that are here cannot be looked at")]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Stock(#[from] StockError),
}

/// The tasks of one node, in this process.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) node: NodeId,
    ground: Ground,
    runner: watch::Sender<Option<Runner>>,
    stock: Mutex<Option<LocalStock>>,
    plane: watch::Sender<Option<Plane>>,
    trouble: Mutex<Option<String>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Work {
    /// Begins as soon as containers can be run. `tracker` is done when all of it has stopped.
    pub(super) fn begin(
        ground: Ground,
        engine: watch::Receiver<EngineState>,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let work = Arc::new(Self {
            node: ground.node,
            ground,
            runner: watch::channel(None).0,
            stock: Mutex::default(),
            plane: watch::channel(None).0,
            trouble: Mutex::default(),
            tracker: TaskTracker::new(),
            stop,
        });
        let own = work.clone();
        work.tracker.spawn(async move {
            let stop = own.stop.clone();
            stop.run_until_cancelled(Box::pin(own.run(engine))).await;
        });
        let own = work.clone();
        tracker.spawn(async move {
            own.stop.cancelled().await;
            own.tracker.close();
            own.tracker.wait().await;
        });
        work
    }

    /// The runner, once there is one.
    pub(super) fn runner(&self) -> watch::Receiver<Option<Runner>> {
        self.runner.subscribe()
    }

    /// The data plane, once there is one.
    pub(super) fn plane(&self) -> watch::Receiver<Option<Plane>> {
        self.plane.subscribe()
    }

    /// Why tasks cannot be run, although containers can.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
    }

    async fn run(&self, mut engine: watch::Receiver<EngineState>) {
        let mut wait = AGAIN;
        loop {
            let ready = engine.wait_for(|state| matches!(state, EngineState::Ready(_)));
            let state = match ready.await {
                Ok(state) => state.clone(),
                Err(_) => return,
            };
            let EngineState::Ready(machine) = state else {
                continue;
            };
            match self.open(&machine).await {
                Ok((stock, runner)) => {
                    self.tell_trouble(None);
                    *self.stock.lock().unwrap_or_else(PoisonError::into_inner) = Some(stock);
                    self.runner.send_replace(Some(runner));
                    return;
                }
                Err(error) => self.tell_trouble(Some(reason(&error))),
            }
            sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MOST);
        }
    }

    fn tell_trouble(&self, why: Option<String>) {
        if let Some(why) = &why {
            warn!(why, "no tasks can be run");
        }
        let words = why.map(|why| format!("WARNING: no tasks can be run: {why}"));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    async fn open(&self, machine: &Machine) -> Result<(LocalStock, Runner), BeginError> {
        let runtime = self.connect(machine, self.node).await?;
        let stock = LocalStock {
            images: machine.images.clone(),
            volumes: machine.volumes.clone(),
            runtime: runtime.clone(),
            secrets: Secrets::at(self.ground.data_root.join("agent").join("secrets")),
            plane: self.begin_plane().await,
            clock: Arc::new(clock::now),
        };
        for stranger in runtime.nodes().await? {
            if stranger != self.node && stranger != NOBODY {
                info!(node = %stranger, "containers of a membership that is over are removed");
                let runtime = self.connect(machine, stranger).await?;
                clear(&runtime, &stock).await?;
            }
        }
        let (ledger, contents) = Ledger::open(&self.ledger(), &self.tracker).await?;
        let told = Told {
            runtime,
            happenings: self.ground.happenings.clone(),
            vitals: self.ground.vitals.clone(),
            clock: Clocked(stock.clock.clone()),
            known: Arc::default(),
        };
        let tools = Tools {
            runtime: told.clone(),
            stock: stock.clone(),
            health: told,
            ledger,
            contents,
            clock: stock.clock.clone(),
        };
        let described = machine::describe(&self.ground.labels);
        let settings = RunnerSettings {
            node: NodeSelf {
                node: self.node,
                hostname: described.hostname,
                platform: described.platform,
                log: LogConfig::default(),
                init: false,
                socket: self.ground.socket.clone(),
            },
            starts_at_once: starts_at_once(),
        };
        let runner = Runner::start(settings, tools, &self.tracker, self.stop.clone()).await;
        Ok((stock, runner))
    }

    /// The data plane, or why there is none: tasks without networks of their own run all the same.
    async fn begin_plane(&self) -> Result<Plane, Arc<str>> {
        let Some(own) = self.ground.own else {
            return Err("it has no address that other machines reach".into());
        };
        if let Some(plane) = self.plane.borrow().clone() {
            return Ok(plane);
        }
        let ground = PlaneGround {
            node: self.node,
            own,
            port: DATA_PATH_PORT,
            run: self.ground.run_dir.join("netns"),
            keep: self.ground.data_root.join("network"),
        };
        match Plane::begin(ground, &self.tracker, self.stop.clone()).await {
            Ok(plane) => {
                self.plane.send_replace(Some(plane.clone()));
                Ok(plane)
            }
            Err(error) => {
                let why = reason(&error);
                warn!(why, "containers have no networks");
                Err(why.into())
            }
        }
    }

    fn stock(&self) -> Option<LocalStock> {
        let stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        stock.clone()
    }

    /// What runs the containers, once it does.
    pub(super) fn runtime(&self) -> Option<Containerd> {
        Some(self.stock()?.runtime)
    }

    fn ledger(&self) -> PathBuf {
        self.ground.data_root.join("agent").join("ledger")
    }

    async fn connect(&self, machine: &Machine, node: NodeId) -> Result<Containerd, ConnectError> {
        let settings = ContainerdSettings {
            address: machine.address.clone(),
            namespace: machine.namespace.clone(),
            node,
            snapshotter: SNAPSHOTTER.into(),
            helper: machine.program.clone(),
            state_dir: self.ground.data_root.join("containers"),
            cgroup_parent: machine.namespace.clone(),
            starts_at_once: starts_at_once(),
            now: clock::now,
        };
        Containerd::connect(settings).await
    }

    /// The images that containers are made of; `None` when that cannot be told.
    pub(super) async fn images_in_use(&self) -> Option<InUse> {
        let runtime = self.stock()?.runtime;
        let mut in_use = InUse::default();
        for found in runtime.list().await.ok()? {
            if let Some(config) = runtime.config(found.id).ok()? {
                let users = in_use.0.entry(config.image.manifest).or_default();
                users.push(User {
                    container: found.id.to_string().chars().take(12).collect(),
                    running: matches!(found.state, Some(ContainerState::Running { .. })),
                });
            }
        }
        Some(in_use)
    }

    /// Ends every task and removes what is left of it. Takes at most half a minute; what that does not suffice for is
    /// removed when this machine is in a cluster again.
    pub(super) async fn end(&self) {
        let runner = self.runner.borrow().clone();
        if let Some(runner) = runner
            && timeout(END_DEADLINE, end_tasks(&runner)).await.is_err()
        {
            warn!("tasks did not end in time and are killed");
        }
        self.stop.cancel();
        self.tracker.close();
        if timeout(STOP_DEADLINE, self.tracker.wait()).await.is_err() {
            warn!("what ran the tasks did not stop in time");
        }
        if let Some(stock) = self.stock()
            && let Err(error) = clear(&stock.runtime, &stock).await
        {
            warn!(error = %reason(&error), "containers are left");
        }
        let plane = self.plane.borrow().clone();
        if let Some(plane) = plane
            && let Err(error) = plane.end().await
        {
            warn!(error = %reason(&error), "networks of containers are left");
        }
        match std::fs::remove_file(self.ledger()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!(%error, "the ledger of the tasks is left");
            }
            _ => {}
        }
    }
}

pub(super) fn starts_at_once() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cpus * STARTS_PER_CPU
}

/// Says for the leader that there are to be no tasks any more, and waits until there are none.
async fn end_tasks(runner: &Runner) {
    let nothing = Assignments {
        term: u64::MAX,
        generation: u64::MAX,
        complete: true,
        tasks: Vec::new(),
        removed: Vec::new(),
    };
    if let Err(error) = runner.assign(nothing).await {
        warn!(error = %reason(&error), "the tasks cannot be told to end");
        return;
    }
    let mut statuses = runner.statuses();
    // Its end is the end of all.
    let _ = statuses.wait_for(|tasks| tasks.is_empty()).await;
}

/// Kills and removes all containers of a node, with what they used.
async fn clear(runtime: &Containerd, stock: &LocalStock) -> Result<(), BeginError> {
    for found in runtime.list().await? {
        runtime.remove(found.id).await?;
        stock.release(found.id).await?;
        runtime.purge(found.id)?;
    }
    Ok(())
}
