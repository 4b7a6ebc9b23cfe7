//! What of a machine runs containers: a runtime, a ledger, and all that containers need, each of them in memory.
//!
//! The runner is the real one ([`crate::agent::runner`]). Containers live on when the daemon is killed, and are ruins
//! when the machine lost power.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock;
use super::machine::Machine;
use crate::agent::ledger::memory::MemoryLedger;
use crate::agent::runner::stock::{HealthExec, Stock, StockError, Wired};
use crate::agent::runner::{Runner, RunnerSettings, Tools};
use crate::agent::runtime::fake::{FakeRuntime, Fate};
use crate::agent::task::health::Answer;
use crate::agent::task::plan::{FileRequest, NodeSelf, TASK_LABEL, VolumeRequest};
use crate::model::cluster::Secret;
use crate::model::container::{ContainerState, ImageRef, ProcessConfig};
use crate::model::{ContainerId, Digest, ImageConfig, TaskId};
use crate::wire::assignment::Assigned;

/// What a simulated machine says that runs its containers.
pub(super) const RUNTIME: &str = "containerd 0.0.0";

/// How long an image takes to come.
const PULL: Duration = Duration::from_millis(20);

/// One machine's.
#[derive(Debug)]
pub(super) struct Host {
    runtime: FakeRuntime,
    ledger: MemoryLedger,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            runtime: FakeRuntime::new(Fate::default()),
            ledger: MemoryLedger::default(),
        }
    }
}

impl Host {
    /// Starts a runner on what is there.
    pub(super) async fn start(
        &self,
        machine: &Machine,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Runner {
        let (ledger, contents) = self.ledger.open(tasks);
        let now = clock::of(machine.slot);
        let tools = Tools {
            runtime: self.runtime.clone(),
            stock: Shelf,
            health: Shelf,
            ledger,
            contents,
            clock: Arc::new(now),
        };
        let settings = RunnerSettings {
            node: NodeSelf {
                socket: None,
                node: machine.id,
                hostname: format!("host-{}", machine.slot),
                ..NodeSelf::default()
            },
            starts_at_once: 2,
        };
        Runner::start(settings, tools, tasks, stop).await
    }

    /// The machine lost power.
    pub(super) fn lose_power(&self) {
        self.runtime.reboot();
    }

    /// The machine is no member any more.
    pub(super) fn clear(&self) {
        self.runtime.clear();
        self.ledger.clear();
    }

    /// The tasks whose containers run.
    pub(super) fn running(&self) -> Vec<TaskId> {
        let all = self.runtime.containers().into_iter();
        let running =
            all.filter(|(_, state)| matches!(state, Some(ContainerState::Running { .. })));
        running.filter_map(|(id, _)| self.task_of(id)).collect()
    }

    /// How often processes began, by the IDs that their containers name.
    pub(super) fn processes(&self) -> Vec<(TaskId, u32)> {
        let all = self.runtime.all_begun().into_iter();
        let tasks = all.filter_map(|(label, begun)| Some((label.parse().ok()?, begun)));
        tasks.collect()
    }

    /// A process ends by itself. False when the task has none.
    pub(super) fn exit(&self, task: TaskId, code: i32) -> bool {
        let all = self.runtime.containers().into_keys();
        let mut own = all.filter(|id| self.task_of(*id) == Some(task));
        let found = own.next();
        if let Some(id) = found {
            self.runtime.exits(id, code);
        }
        found.is_some()
    }

    fn task_of(&self, id: ContainerId) -> Option<TaskId> {
        self.runtime
            .config(id)?
            .labels
            .get(TASK_LABEL)?
            .parse()
            .ok()
    }
}

/// What containers need: there, after a while.
#[derive(Clone, Debug)]
struct Shelf;

impl Stock for Shelf {
    async fn image(
        &self,
        reference: &str,
        _: &Secret,
    ) -> Result<(ImageRef, ImageConfig), StockError> {
        tokio::time::sleep(PULL).await;
        let image = ImageRef {
            name: reference.into(),
            manifest: Digest::from_bytes([3; 32]),
        };
        Ok((image, ImageConfig::default()))
    }

    async fn volume(
        &self,
        _: ContainerId,
        _: &ImageRef,
        wanted: &VolumeRequest,
    ) -> Result<PathBuf, StockError> {
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

    async fn network(&self, _: ContainerId, _: &Assigned) -> Result<Wired, StockError> {
        Ok(Wired::default())
    }

    async fn release(&self, _: ContainerId) -> Result<(), StockError> {
        Ok(())
    }
}

impl HealthExec for Shelf {
    async fn exec(&self, _: ContainerId, _: ProcessConfig, _: Duration) -> Answer {
        Answer::Exited(0)
    }
}
