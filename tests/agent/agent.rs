//! An agent for tests: the runner on a real containerd with this node's images and volumes, as one life of the daemon
//! has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use skein::agent::images::{Images, ImagesSettings, NoPeers};
use skein::agent::ledger::Ledger;
use skein::agent::runner::{Runner, RunnerSettings, Statuses, Tools};
use skein::agent::runtime::Runtime;
use skein::agent::runtime::containerd::Containerd;
use skein::agent::secrets::Secrets;
use skein::agent::stock::LocalStock;
use skein::agent::task::plan::NodeSelf;
use skein::agent::volumes::Volumes;
use skein::model::cluster::Secret;
use skein::model::container::{ContainerState, LogConfig};
use skein::model::task::ServiceRef;
use skein::model::task_spec::ContainerSpec;
use skein::model::{ContainerId, Platform, Slot, TaskId, TaskSpec, TaskState, TaskStatus};
use skein::wire::Json;
use skein::wire::assignment::{Assigned, Assignments};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bed::{Bed, DEADLINE, Place, node, now, within};

/// An agent: what one life of the daemon has.
pub(crate) struct Agent {
    pub(crate) runner: Runner,
    pub(crate) runtime: Containerd,
    pub(crate) stock: LocalStock,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Agent {
    pub(crate) async fn up(bed: &Bed) -> Self {
        Self::at(&bed.place()).await
    }

    pub(crate) async fn at(place: &Place) -> Self {
        let runtime = Containerd::connect(place.settings()).await.unwrap();
        let settings = ImagesSettings {
            address: place.images.clone(),
            namespace: place.name.clone(),
            snapshotter: "overlayfs".into(),
            scratch: place.directory.join("scratch"),
            insecure_registries: Vec::new(),
            clock: now,
        };
        let images = Images::connect(settings, Arc::new(NoPeers(node())));
        let volumes = Volumes::open(place.directory.join("volumes"));
        let stock = LocalStock {
            images: images.await.unwrap(),
            volumes: volumes.await.unwrap(),
            runtime: runtime.clone(),
            secrets: Secrets::at(place.directory.join("secrets")),
            plane: Err("these tests have none".into()),
            clock: Arc::new(now),
        };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let ledger = place.directory.join("tasks.redb");
        let (ledger, contents) = Ledger::open(&ledger, &tasks).await.unwrap();
        let tools = Tools {
            runtime: runtime.clone(),
            stock: stock.clone(),
            health: runtime.clone(),
            ledger,
            contents,
            clock: Arc::new(now),
        };
        let settings = RunnerSettings {
            node: NodeSelf {
                socket: None,
                node: node(),
                hostname: "host".into(),
                platform: Platform::default(),
                log: LogConfig::default(),
                init: false,
            },
            starts_at_once: 4,
        };
        let runner = Runner::start(settings, tools, &tasks, stop.clone()).await;
        Self {
            runner,
            runtime,
            stock,
            tasks,
            stop,
        }
    }

    /// The daemon ends; what it has started goes on.
    pub(crate) async fn down(self) {
        self.stop.cancel();
        self.tasks.close();
        drop((self.runner, self.stock));
        within(self.tasks.wait()).await;
    }

    pub(crate) async fn assign(&self, generation: u64, tasks: &[Assigned], removed: &[TaskId]) {
        let assignments = Assignments {
            term: 1,
            generation,
            complete: generation == 1,
            tasks: tasks.iter().cloned().map(Json).collect(),
            removed: removed.to_vec(),
        };
        within(self.runner.assign(assignments)).await.unwrap();
    }

    /// Waits until a task is in `state`.
    pub(crate) async fn until(&self, task: TaskId, state: TaskState) -> TaskStatus {
        self.until_status(task, |status| status.state == state)
            .await
    }

    /// Waits until a task has ended, however.
    pub(crate) async fn until_ended(&self, task: TaskId) -> TaskStatus {
        self.until_status(task, |status| status.state.is_terminal())
            .await
    }

    /// Waits until a task is as it should be.
    pub(crate) async fn until_status(
        &self,
        task: TaskId,
        is_it: impl Fn(&TaskStatus) -> bool,
    ) -> TaskStatus {
        let mut statuses = self.runner.statuses();
        let seen = |all: &Statuses| all.get(&task).is_some_and(&is_it);
        if let Ok(Ok(all)) = tokio::time::timeout(DEADLINE, statuses.wait_for(seen)).await {
            return all[&task].clone();
        }
        panic!("{task} is {:?}", statuses.borrow().get(&task));
    }

    pub(crate) async fn until_forgotten(&self, task: TaskId) {
        let mut statuses = self.runner.statuses();
        let gone = statuses.wait_for(|all| !all.contains_key(&task));
        within(gone).await.unwrap();
    }
}

pub(crate) fn id(number: u128) -> TaskId {
    TaskId::from_bits(number)
}

/// A task that runs `script` in a shell. Its image is named by digest, so that it is asked for nowhere.
pub(crate) fn task(bed: &Bed, number: u128, script: &str) -> Assigned {
    task_of(&format!("test/busybox@{}", bed.image), number, script)
}

/// The same, of an image by its reference.
pub(crate) fn task_of(image: &str, number: u128, script: &str) -> Assigned {
    Assigned {
        task: id(number),
        service: ServiceRef {
            name: "web".into(),
            ..ServiceRef::default()
        },
        service_labels: BTreeMap::new(),
        slot: Slot::Number(1),
        desired: TaskState::Running,
        observed: TaskState::Assigned,
        spec: TaskSpec {
            container_spec: Some(ContainerSpec {
                image: image.into(),
                command: ["sh", "-c", script].map(str::to_owned).to_vec(),
                ..ContainerSpec::default()
            }),
            ..TaskSpec::default()
        },
        generic_resources: Vec::new(),
        attachments: Vec::new(),
        log_driver: None,
        registry_auth: Secret(String::new()),
    }
}

pub(crate) fn to(mut task: Assigned, desired: TaskState) -> Assigned {
    task.desired = desired;
    task
}

pub(crate) async fn pid(runtime: &Containerd, container: ContainerId) -> u32 {
    match runtime.inspect(container).await.unwrap().unwrap().state {
        Some(ContainerState::Running { pid, .. }) => pid,
        state => panic!("it does not run: {state:?}"),
    }
}
