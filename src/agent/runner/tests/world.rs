//! A machine whose daemon may die at any step, and a leader who remembers what was told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::stock::{HealthExec, Stock, StockError, Wired};
use super::super::{AssignError, Runner, RunnerSettings, Statuses, Tools};
use crate::agent::ledger::{Contents, Ledger};
use crate::agent::runtime::Failure;
use crate::agent::runtime::fake::{FakeRuntime, Fate};
use crate::agent::task::health::Answer;
use crate::agent::task::plan::{FileRequest, NodeSelf, VolumeRequest};
use crate::model::cluster::Secret;
use crate::model::container::{ImageRef, ProcessConfig};
use crate::model::image::Healthcheck;
use crate::model::task::ServiceRef;
use crate::model::task_spec::{MountKind, MountSpec};
use crate::model::{
    ContainerId, ContainerSpec, Digest, ImageConfig, NodeId, ServiceId, Slot, TaskId, TaskSpec,
    TaskState, TaskStatus, Timestamp,
};
use crate::wire::Json;
use crate::wire::assignment::{Assigned, Assignments};

/// Virtual time in which anything that is to happen has happened.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// An image that is never pulled to its end.
pub(super) const ENDLESS: &str = "endless";

/// What the machine has for containers, and what is held for which.
#[derive(Clone, Debug)]
pub(super) struct FakeStock {
    fate: Fate,
    held: Arc<Mutex<BTreeSet<ContainerId>>>,
}

impl FakeStock {
    pub(super) fn held(&self) -> BTreeSet<ContainerId> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<ContainerId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn chance(&self) -> Result<(), StockError> {
        self.fate.pass().await;
        match self.fate.fails() {
            true => Err(refusal(Failure::Retry, "the disk is busy")),
            false => Ok(()),
        }
    }
}

fn refusal(failure: Failure, message: &str) -> StockError {
    StockError {
        failure,
        message: message.into(),
        source: None,
    }
}

impl Stock for FakeStock {
    async fn image(
        &self,
        reference: &str,
        _: &Secret,
    ) -> Result<(ImageRef, ImageConfig), StockError> {
        self.chance().await?;
        match reference {
            "nothing" => Err(refusal(Failure::Refused, "No such image: nothing")),
            ENDLESS => std::future::pending().await,
            name => {
                let image = ImageRef {
                    name: name.into(),
                    manifest: Digest::from_bytes([3; 32]),
                };
                Ok((image, ImageConfig::default()))
            }
        }
    }

    async fn volume(
        &self,
        container: ContainerId,
        _: &ImageRef,
        wanted: &VolumeRequest,
    ) -> Result<PathBuf, StockError> {
        self.chance().await?;
        self.lock().insert(container);
        self.chance().await?;
        Ok(PathBuf::from("/volumes").join(&wanted.name))
    }

    async fn files(
        &self,
        _: ContainerId,
        files: &[FileRequest],
    ) -> Result<Vec<PathBuf>, StockError> {
        Ok(files.iter().map(|file| file.target.clone()).collect())
    }

    fn wipe(&self, _: ContainerId) {}

    async fn network(&self, container: ContainerId, _: &Assigned) -> Result<Wired, StockError> {
        self.chance().await?;
        self.lock().insert(container);
        self.chance().await?;
        Ok(Wired::default())
    }

    async fn release(&self, container: ContainerId) -> Result<(), StockError> {
        self.chance().await?;
        self.lock().remove(&container);
        self.chance().await
    }
}

/// What every question for health is answered with.
#[derive(Clone, Debug)]
pub(super) struct FakeHealth(pub(super) Arc<Mutex<Answer>>);

impl HealthExec for FakeHealth {
    async fn exec(&self, _: ContainerId, _: ProcessConfig, _: Duration) -> Answer {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A life of the daemon.
pub(super) struct Life {
    pub(super) runner: Runner,
    pub(super) ends: CancellationToken,
    tasks: TaskTracker,
}

/// A machine.
pub(super) struct World {
    pub(super) fate: Fate,
    pub(super) runtime: FakeRuntime,
    pub(super) stock: FakeStock,
    pub(super) health: FakeHealth,
    dir: TempDir,
    epoch: Instant,
    /// The steps at which lives end, the next one last.
    pub(super) deaths: Vec<u64>,
    life: Option<Life>,
    /// What the leader wants.
    pub(super) leader: BTreeMap<TaskId, Assigned>,
    generation: u64,
    /// What the label `skein.isolation` says for a task.
    isolation: BTreeMap<TaskId, String>,
    /// What the leader was told, merged.
    pub(super) told: BTreeMap<TaskId, TaskStatus>,
}

impl World {
    pub(super) fn new() -> Self {
        let fate = Fate::default();
        let shm = std::path::Path::new("/dev/shm");
        Self {
            runtime: FakeRuntime::new(fate.clone()),
            stock: FakeStock {
                fate: fate.clone(),
                held: Arc::default(),
            },
            health: FakeHealth(Arc::new(Mutex::new(Answer::Exited(0)))),
            fate,
            dir: match shm.is_dir() {
                true => TempDir::new_in(shm).unwrap(),
                false => TempDir::new().unwrap(),
            },
            epoch: Instant::now(),
            deaths: Vec::new(),
            life: None,
            leader: BTreeMap::new(),
            generation: 0,
            isolation: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    /// The daemon, started when it is dead.
    pub(super) async fn life(&mut self) -> &Life {
        if self
            .life
            .as_ref()
            .is_some_and(|life| life.ends.is_cancelled())
        {
            self.end().await;
        }
        while self.life.is_none() {
            let ends = self.fate.reborn(self.deaths.pop());
            let tasks = TaskTracker::new();
            let began = ends.run_until_cancelled(self.begin(&tasks, &ends)).await;
            match began {
                Some(runner) => {
                    self.life = Some(Life {
                        runner,
                        ends,
                        tasks,
                    });
                }
                None => {
                    tasks.close();
                    tasks.wait().await;
                }
            }
        }
        self.life.as_ref().unwrap()
    }

    async fn begin(&self, tasks: &TaskTracker, ends: &CancellationToken) -> Runner {
        let fate = self.fate.clone();
        let ledger = Ledger::open_with(&self.ledger(), tasks, move |_| fate.step()).await;
        let (ledger, contents) = ledger.unwrap();
        let epoch = self.epoch;
        let tools = Tools {
            runtime: self.runtime.clone(),
            stock: self.stock.clone(),
            health: self.health.clone(),
            ledger,
            contents,
            clock: Arc::new(move || Timestamp::from_nanos(epoch.elapsed().as_nanos() as i128)),
        };
        let settings = RunnerSettings {
            node: NodeSelf {
                socket: None,
                node: NodeId::from_bits(900),
                hostname: "host".into(),
                ..NodeSelf::default()
            },
            starts_at_once: 2,
        };
        Runner::start(settings, tools, tasks, ends.clone()).await
    }

    /// The daemon is killed, if it lives.
    pub(super) async fn end(&mut self) {
        if let Some(life) = self.life.take() {
            life.ends.cancel();
            drop(life.runner);
            life.tasks.close();
            timeout(PATIENCE, life.tasks.wait()).await.unwrap();
        }
    }

    /// A task that is not assigned yet is one whose service has this label.
    pub(super) fn allow(&mut self, task: u128, isolation: &str) {
        let task = TaskId::from_bits(task);
        self.isolation.insert(task, isolation.into());
    }

    /// The leader wants this task to get so far, and says so.
    pub(super) async fn want(&mut self, task: u128, spec: &TaskSpec, desired: TaskState) {
        let mut assigned = assigned(task, spec.clone(), desired);
        if let Some(isolation) = self.isolation.get(&assigned.task) {
            let label = crate::agent::task::isolation::LABEL.into();
            assigned.service_labels.insert(label, isolation.clone());
        }
        self.leader.insert(assigned.task, assigned);
        self.say().await;
    }

    /// The leader has forgotten this task.
    pub(super) async fn forget(&mut self, task: u128) {
        self.leader.remove(&TaskId::from_bits(task));
        self.say().await;
    }

    /// The leader says all that it wants until somebody has taken it.
    pub(super) async fn say(&mut self) {
        self.generation += 1;
        loop {
            let assignments = self.assignments();
            let life = self.life().await;
            let ends = life.ends.clone();
            let runner = life.runner.clone();
            match ends.run_until_cancelled(runner.assign(assignments)).await {
                Some(Ok(())) => return,
                Some(Err(AssignError::Stopped | AssignError::Ledger(_))) | None => {}
                Some(Err(other)) => panic!("{other}"),
            }
        }
    }

    pub(super) fn assignments(&self) -> Assignments {
        Assignments {
            term: 1,
            generation: self.generation,
            complete: true,
            tasks: self.leader.values().cloned().map(Json).collect(),
            removed: Vec::new(),
        }
    }

    /// Lives, one after another, until what is told fits.
    pub(super) async fn until(
        &mut self,
        what: &str,
        fits: impl Fn(&BTreeMap<TaskId, TaskStatus>) -> bool,
    ) {
        let waiting = async {
            loop {
                let life = self.life().await;
                let ends = life.ends.clone();
                let mut statuses = life.runner.statuses();
                loop {
                    let now = statuses.borrow_and_update().clone();
                    self.hear(&now);
                    if fits(&self.told) {
                        return;
                    }
                    match ends.run_until_cancelled(statuses.changed()).await {
                        Some(Ok(())) => {}
                        Some(Err(_)) | None => break,
                    }
                }
            }
        };
        let outcome = timeout(PATIENCE, waiting).await;
        assert!(outcome.is_ok(), "{what}: {:#?}", self.told);
    }

    /// Takes what the runner says as a leader does: a later life may have forgotten its last word, never more.
    fn hear(&mut self, now: &Statuses) {
        for (task, status) in now {
            let old = self.told.remove(task).unwrap_or_default();
            self.told.insert(*task, old.merge(status.clone()));
        }
    }

    /// Waits until a task is in this state.
    pub(super) async fn reaches(&mut self, task: u128, state: TaskState) -> TaskStatus {
        let task = TaskId::from_bits(task);
        let is = |all: &BTreeMap<TaskId, TaskStatus>| {
            all.get(&task).is_some_and(|status| status.state == state)
        };
        self.until(&format!("{task} is {state}"), is).await;
        self.told[&task].clone()
    }

    /// The container of a task that was told.
    pub(super) fn container(&self, task: u128) -> ContainerId {
        let status = &self.told[&TaskId::from_bits(task)];
        status.container.unwrap()
    }

    /// The leader forgets everything; nothing is left behind.
    pub(super) async fn forget_all(&mut self) {
        self.leader.clear();
        self.say().await;
        self.is_empty().await;
    }

    /// Waits until nothing of any task is left: no status, container, hold or record.
    pub(super) async fn is_empty(&mut self) {
        let waiting = async {
            loop {
                let life = self.life().await;
                let ends = life.ends.clone();
                let mut statuses = life.runner.statuses();
                let empty = statuses.wait_for(Statuses::is_empty);
                if matches!(ends.run_until_cancelled(empty).await, Some(Ok(_))) {
                    return;
                }
            }
        };
        let outcome = timeout(PATIENCE, waiting).await;
        assert!(
            outcome.is_ok(),
            "something is left: {:#?}",
            self.runtime.containers()
        );
        self.deaths.clear();
        self.end().await;
        assert_eq!(self.runtime.containers(), BTreeMap::new());
        assert_eq!(self.stock.held(), BTreeSet::new());
        assert_eq!(self.kept().await.tasks, BTreeMap::new());
    }

    /// What the ledger holds while no daemon lives.
    pub(super) async fn kept(&self) -> Contents {
        let tasks = TaskTracker::new();
        let (ledger, contents) = Ledger::open(&self.ledger(), &tasks).await.unwrap();
        drop(ledger);
        tasks.close();
        tasks.wait().await;
        contents
    }
}

fn assigned(task: u128, spec: TaskSpec, desired: TaskState) -> Assigned {
    Assigned {
        task: TaskId::from_bits(task),
        service: ServiceRef {
            id: ServiceId::from_bits(500),
            name: "web".into(),
        },
        service_labels: BTreeMap::new(),
        slot: Slot::Number(1),
        desired,
        observed: TaskState::Assigned,
        spec,
        generic_resources: Vec::new(),
        attachments: Vec::new(),
        log_driver: None,
        registry_auth: Secret::default(),
    }
}

/// A task of this image that runs `script`, with a volume.
pub(super) fn spec(image: &str, script: &str) -> TaskSpec {
    let mount = MountSpec {
        kind: Some(MountKind::Volume),
        source: "data".into(),
        target: "/data".into(),
        ..MountSpec::default()
    };
    let args = ["/bin/sh", "-c", script].map(String::from);
    TaskSpec {
        container_spec: Some(ContainerSpec {
            image: image.into(),
            command: match script.starts_with('/') {
                true => vec![script.into()],
                false => args.into(),
            },
            mounts: vec![mount],
            ..ContainerSpec::default()
        }),
        ..TaskSpec::default()
    }
}

/// The same, asked for its health every second, unhealthy after two failures.
pub(super) fn asked(mut spec: TaskSpec) -> TaskSpec {
    if let Some(container) = &mut spec.container_spec {
        container.healthcheck = Some(Healthcheck {
            test: vec!["CMD".into(), "ask".into()],
            interval: Duration::from_secs(1),
            retries: 2,
            ..Healthcheck::default()
        });
    }
    spec
}
