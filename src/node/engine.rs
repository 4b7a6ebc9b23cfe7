//! What this machine runs containers with: a containerd, images and volumes; and the [`Work`] for the cluster.
//!
//! One for the daemon's whole life, member or not: images and volumes are the machine's, whoever's tasks it runs. A
//! machine without a containerd is a member all the same, and says in `docker info` what to install; it is looked for
//! again and again. What is run for a cluster is begun by a membership and outlives it, until the node leaves.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::content::QuicPeers;
use super::images::NodeImages;
use super::instance::{self, InstanceError};
use super::join::reason;
use super::volumes::NodeVolumes;
use super::work::{Ground, Work, starts_at_once};
use super::{clock, machine};
use crate::agent::happenings::Happenings;
use crate::agent::images::{self, Disk, Images, ImagesSettings, sample};
use crate::agent::network::plane::Plane;
use crate::agent::runner::Runner;
use crate::agent::runtime::containerd::{ConnectError, Containerd, ContainerdSettings};
use crate::agent::runtime::supervise::{self, SYSTEM_ADDRESS, SuperviseError, SuperviseSettings};
use crate::agent::secrets::Secrets;
use crate::agent::standalone::{self, Standalone};
use crate::agent::stock::LocalStock;
use crate::agent::vitals::Vitals;
use crate::agent::volumes::{self, Volumes};
use crate::api::backend::{ImageStore, Refusal, VolumeStore};
use crate::config::Config;
use crate::model::plane::Place;
use crate::model::{ContainerId, NodeDescription, NodeId};

/// What makes layers into file systems.
pub(super) const SNAPSHOTTER: &str = "overlayfs";

/// A machine that cannot run containers is looked at again after this, at first; doubled up to [`AGAIN_MOST`].
const AGAIN: Duration = Duration::from_secs(1);

/// The longest pause between two looks.
const AGAIN_MOST: Duration = Duration::from_secs(30);

/// How often the disk that images lie on is looked at.
const RELIEVE_EVERY: Duration = Duration::from_secs(300);

/// Where a system's containerd keeps images.
const SYSTEM_IMAGES: &str = "/var/lib/containerd";

/// The machine's rooms, open. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Machine {
    /// containerd's socket.
    pub address: PathBuf,
    /// containerd's version, `1.6.20`.
    pub version: String,
    /// This daemon's own namespace in it.
    pub namespace: String,
    /// Images.
    pub images: Images,
    /// Volumes.
    pub volumes: Volumes,
    /// This program, which containers have as their logger and init.
    pub program: PathBuf,
    /// The containers that users have made by themselves.
    pub(super) standalone: StandaloneContainers,
    /// Where containerd keeps images.
    images_at: PathBuf,
}

/// The containers that users have made by themselves, on this machine's containerd.
pub(super) type StandaloneContainers = Standalone<Containerd, LocalStock, Containerd>;

/// Whose they are in containerd: no node's, for a node's go when it leaves its cluster, and these stay. No key has this
/// ID.
pub(super) const NOBODY: NodeId = NodeId::from_bits(0);

impl Machine {
    /// How full the disk is that images lie on; `None` when that cannot be told.
    fn disk(&self) -> Option<Disk> {
        let disk = nix::sys::statvfs::statvfs(&self.images_at).ok()?;
        Some(Disk {
            total: disk.blocks() * disk.fragment_size(),
            free: disk.blocks_available() * disk.fragment_size(),
        })
    }

    /// Makes the sample image, but not of the last room on the disk, which what matters more may need. Whether nothing
    /// is left to do.
    async fn make_sample(&self) -> bool {
        let needs = sample::room_for(&self.program).unwrap_or_default();
        if self.disk().is_some_and(|disk| disk.free / 2 < needs) {
            warn!(
                needs,
                "the sample image is not made: the disk is nearly full"
            );
            return false;
        }
        match self.images.ensure_sample(&self.program).await {
            Ok(_) => true,
            Err(error) => {
                warn!(error = %reason(&error), "the sample image was not made");
                false
            }
        }
    }
}

/// Whether containers can be run.
#[derive(Clone, Debug, Default)]
pub enum EngineState {
    /// Not known yet.
    #[default]
    Starting,
    /// They can.
    Ready(Machine),
    /// They cannot, with words for the user.
    Failed(String),
}

/// Why containers cannot be run here.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("this program's own file is not known")]
    Program(#[source] std::io::Error),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Supervise(#[from] SuperviseError),
    #[error("containerd cannot be used for images")]
    Images(#[from] images::ConnectError),
    #[error("the volumes cannot be used")]
    Volumes(#[from] volumes::OpenError),
    #[error("containerd cannot be used for containers")]
    Runtime(#[from] ConnectError),
    #[error("the containers of users cannot be read")]
    Standalone(#[source] std::io::Error),
}

/// This machine's containers.
#[derive(Debug)]
pub struct Engine {
    /// Whom images may come from.
    pub peers: Arc<QuicPeers>,
    /// What happens on this machine.
    pub happenings: Happenings,
    /// How its containers say that they are.
    pub vitals: Vitals,
    config: Config,
    state: watch::Sender<EngineState>,
    work: Mutex<Option<Arc<Work>>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Engine {
    /// Looks for a containerd, and keeps what it needs running until `stop`. Returns at once.
    pub fn start(config: Config, tracker: TaskTracker, stop: CancellationToken) -> Arc<Self> {
        let engine = Arc::new(Self {
            peers: Arc::default(),
            happenings: Happenings::new(Arc::new(clock::now)),
            vitals: Vitals::default(),
            config,
            state: watch::channel(EngineState::Starting).0,
            work: Mutex::default(),
            tracker: tracker.clone(),
            stop: stop.clone(),
        });
        let own = engine.clone();
        tracker.spawn(async move {
            stop.run_until_cancelled(Box::pin(own.run())).await;
        });
        engine
    }

    /// Whether containers can be run, as it changes.
    pub fn state(&self) -> watch::Receiver<EngineState> {
        self.state.subscribe()
    }

    /// The images, once they can be had.
    pub fn images(&self) -> Option<Images> {
        match &*self.state.borrow() {
            EngineState::Ready(machine) => Some(machine.images.clone()),
            EngineState::Starting | EngineState::Failed(_) => None,
        }
    }

    /// What runs the containers of the cluster that this node is in, once it can.
    pub fn runtime(&self) -> Option<Containerd> {
        self.work()?.runtime()
    }

    /// The containers that users have made by themselves, once they can be had.
    pub(super) fn standalone(&self) -> Option<StandaloneContainers> {
        Some(self.machine().ok()?.standalone)
    }

    /// The images as the API sees them, or why there are none.
    pub fn image_store(self: &Arc<Self>) -> Result<Arc<dyn ImageStore>, Refusal> {
        Ok(Arc::new(NodeImages {
            images: self.machine()?.images,
            engine: self.clone(),
        }))
    }

    /// The volumes as the API sees them, or why there are none.
    pub fn volume_store(&self) -> Result<Arc<dyn VolumeStore>, Refusal> {
        Ok(Arc::new(NodeVolumes {
            volumes: self.machine()?.volumes,
            happenings: self.happenings.clone(),
        }))
    }

    /// The machine's rooms, or why they are shut, in words for the user.
    pub(super) fn machine(&self) -> Result<Machine, Refusal> {
        match &*self.state.borrow() {
            EngineState::Ready(machine) => Ok(machine.clone()),
            EngineState::Starting => Err(Refusal::unavailable(
                "containerd is not found yet: try again in a moment",
            )),
            EngineState::Failed(why) => Err(Refusal::unavailable(why.clone())),
        }
    }

    /// The images that containers are made of; `None` when that cannot be told.
    pub(super) async fn images_in_use(&self) -> Option<images::InUse> {
        let mut in_use = match self.work() {
            None => images::InUse::default(),
            Some(work) => work.images_in_use().await?,
        };
        for (image, container, running) in self.machine().ok()?.standalone.images() {
            in_use.0.entry(image).or_default().push(images::User {
                container: container.short(),
                running,
            });
        }
        Some(in_use)
    }

    /// What the machine is, what runs its containers included.
    pub fn describe(&self, labels: &BTreeMap<String, String>) -> NodeDescription {
        let runtime = match &*self.state.borrow() {
            EngineState::Ready(machine) => format!("containerd {}", machine.version),
            EngineState::Starting | EngineState::Failed(_) => String::new(),
        };
        NodeDescription {
            runtime,
            generic_resources: self.config.generic_resources.clone(),
            ..machine::describe(labels)
        }
    }

    /// The data plane of the tasks' work, once there is one.
    pub(super) fn plane(&self) -> Option<watch::Receiver<Option<Plane>>> {
        Some(self.work()?.plane())
    }

    /// Where a container of this machine is reached.
    pub(super) fn places(&self, container: ContainerId) -> Vec<Place> {
        let plane = self.plane().and_then(|plane| plane.borrow().clone());
        plane.map_or_else(Vec::new, |plane| plane.places(container))
    }

    /// What the user is to be warned of: why no containers, or no tasks, can be run.
    pub fn warnings(&self) -> Vec<String> {
        let own = match &*self.state.borrow() {
            EngineState::Failed(why) => Some(format!("WARNING: no containers can be run: {why}")),
            EngineState::Starting | EngineState::Ready(_) => None,
        };
        let work = self.work().and_then(|work| work.trouble());
        own.into_iter().chain(work).collect()
    }

    /// The runner of a node's tasks, once there is one. It is begun at the first call and goes on until
    /// [`Engine::forget`], however often the membership is begun anew.
    pub fn work_for(&self, node: NodeId, own: Option<IpAddr>) -> watch::Receiver<Option<Runner>> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let current = work.take().filter(|work| work.node == node);
        let current = current.unwrap_or_else(|| {
            let ground = Ground {
                node,
                data_root: self.config.data_root.clone(),
                run_dir: self.config.run_dir.clone(),
                own,
                labels: self.config.labels.clone(),
                happenings: self.happenings.clone(),
                vitals: self.vitals.clone(),
                socket: self.config.doors.stands_in.then(|| self.config.socket()),
            };
            let stop = self.stop.child_token();
            Work::begin(ground, self.state(), &self.tracker, stop)
        });
        let runner = current.runner();
        *work = Some(current);
        runner
    }

    /// Ends all tasks, and leaves nothing of them. Images and named volumes stay.
    pub async fn forget(&self) {
        let work = self.work();
        if let Some(work) = work {
            work.end().await;
        }
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn work(&self) -> Option<Arc<Work>> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.clone()
    }

    async fn run(self: Arc<Self>) {
        let mut wait = AGAIN;
        let machine = loop {
            // What a vain attempt has begun ends with it.
            let attempt = self.stop.child_token();
            match self.open(attempt.clone()).await {
                Ok(machine) => break machine,
                Err(error) => {
                    attempt.cancel();
                    let why = reason(&error);
                    self.fail(why);
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MOST);
        };
        self.state.send_replace(EngineState::Ready(machine.clone()));
        let mut has_sample = false;
        loop {
            has_sample = has_sample || machine.make_sample().await;
            sleep(RELIEVE_EVERY).await;
            self.relieve(&machine).await;
        }
    }

    fn fail(&self, why: String) {
        self.state.send_if_modified(|state| {
            let news = !matches!(state, EngineState::Failed(before) if *before == why);
            if news {
                warn!(why, "no containers can be run");
                *state = EngineState::Failed(why);
            }
            news
        });
    }

    async fn open(&self, stop: CancellationToken) -> Result<Machine, OpenError> {
        let root = &self.config.data_root;
        let namespace = instance::namespace(root)?;
        let settings = SuperviseSettings {
            system: self
                .config
                .containerd
                .clone()
                .unwrap_or_else(|| SYSTEM_ADDRESS.into()),
            may_start: self.config.containerd.is_none(),
            data: root.join("containerd"),
            run: self.config.run_dir.join("containerd"),
        };
        let disk = settings.data.clone();
        let found = supervise::containerd(settings, &self.tracker, stop.clone()).await?;
        let settings = ImagesSettings {
            address: found.address.clone(),
            namespace: namespace.clone(),
            snapshotter: SNAPSHOTTER.into(),
            scratch: root.join("scratch"),
            insecure_registries: self.config.insecure_registries.clone(),
            clock: clock::now,
        };
        let program = std::env::current_exe().map_err(OpenError::Program)?;
        let images = Images::connect(settings, self.peers.clone()).await?;
        let volumes = Volumes::open(root.join("volumes")).await?;
        let runtime = Containerd::connect(ContainerdSettings {
            address: found.address.clone(),
            namespace: namespace.clone(),
            node: NOBODY,
            snapshotter: SNAPSHOTTER.into(),
            helper: program.clone(),
            state_dir: root.join("containers"),
            cgroup_parent: namespace.clone(),
            starts_at_once: starts_at_once(),
            now: clock::now,
        });
        let stock = LocalStock {
            images: images.clone(),
            volumes: volumes.clone(),
            runtime: runtime.await?,
            secrets: Secrets::at(root.join("secrets")),
            plane: Err("it is in no cluster".into()),
            clock: Arc::new(clock::now),
        };
        Ok(Machine {
            standalone: self.adopt(stock, stop)?,
            program,
            images,
            volumes,
            images_at: if found.private {
                disk
            } else {
                SYSTEM_IMAGES.into()
            },
            address: found.address,
            version: found.version,
            namespace,
        })
    }

    /// Goes on with the containers that users have made, and holds their volumes for them.
    fn adopt(
        &self,
        stock: LocalStock,
        stop: CancellationToken,
    ) -> Result<StandaloneContainers, OpenError> {
        let volumes = stock.volumes.clone();
        let tools = standalone::Tools {
            runtime: stock.runtime.clone(),
            health: stock.runtime.clone(),
            clock: stock.clock.clone(),
            supplies: stock,
            happenings: self.happenings.clone(),
            vitals: self.vitals.clone(),
            init: false,
        };
        let dir = self.config.data_root.join("standalone");
        let adopted = Standalone::open(tools, dir, &self.tracker, stop);
        let adopted = adopted.map_err(OpenError::Standalone)?;
        let held = adopted.list().into_iter();
        let held = held.map(|record| (record.config.id, record.volumes.into_iter().collect()));
        volumes.hold(&held.collect());
        Ok(adopted)
    }

    /// Removes images that nobody uses when the disk fills up.
    async fn relieve(&self, machine: &Machine) {
        let Some(disk) = machine.disk() else { return };
        let Some(in_use) = self.images_in_use().await else {
            debug!("what images are in use is not known");
            return;
        };
        if let Err(error) = machine.images.relieve(&in_use, disk).await {
            warn!(error = %reason(&error), "images that nobody uses were not removed");
        }
    }
}
