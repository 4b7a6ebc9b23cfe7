//! How a container ended: waits for it through restarts of containerd, writes it down, and lets its task go.

use std::time::Duration;

use containerd_client::services::v1::WaitRequest;
use containerd_client::types::v1::{Process, Status as TaskStatus};
use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use tokio::time::{Instant, sleep, timeout};

use super::super::{Failure, RuntimeError};
use super::cgroup::Group;
use super::client::said;
use super::folder::{self, Folder, StartedMark};
use super::process::{Sent, belongs, send};
use super::{Inner, disk, shim};
use crate::model::container::Exit;
use crate::model::{ContainerId, Timestamp};

/// Between two looks at something that nobody tells us about.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The first wait after a failure; doubled up to [`LOOK_AGAIN`].
const RETRY_FIRST: Duration = Duration::from_millis(20);

/// How long containerd has to end a process whose shim died, before we do.
const ORPHAN_DEADLINE: Duration = Duration::from_secs(5);

/// What Docker says of a process that nobody could ask: killed, or lost with the machine.
const KILLED: i32 = 137;
const LOST: i32 = 255;

impl Inner {
    pub(super) async fn wait(&self, id: ContainerId) -> Result<Exit, RuntimeError> {
        let mut pause = RETRY_FIRST;
        // Asked when containerd fails for the first time, and listened to until it answers.
        let mut at_shim = None;
        loop {
            match self.look(id).await {
                Ok(Some(exit)) => return Ok(exit),
                Ok(None) => pause = RETRY_FIRST,
                Err(error) if error.failure == Failure::Retry => {
                    tracing::debug!(container = ?id, %error, "waiting goes on");
                    let at_shim =
                        at_shim.get_or_insert_with(|| Box::pin(self.exit_at_shim(id).fuse()));
                    tokio::select! {
                        Some(exit) = &mut *at_shim, if !at_shim.is_terminated() => return Ok(exit),
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(LOOK_AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the exit as the shim tells it, and writes it down. `None` when the shim does not answer.
    async fn exit_at_shim(&self, id: ContainerId) -> Option<Exit> {
        let folder = self.folder(id);
        let mark = folder.started().ok().flatten()?;
        let ended = shim::wait(&mark.shim, &id.to_string()).await;
        let ended = ended.inspect_err(|error| {
            tracing::debug!(container = ?id, %error, "its shim does not say how it ended");
        });
        let ended = ended.ok()?;
        let exit = self.exit(id, ended.status, ended.at.as_ref());
        folder.mark_exit(&exit).ok()?;
        Some(exit)
    }

    /// Waits once: for the exit, or for something to have changed. Boxed is what takes a moment, for this is held as long
    /// as the container runs.
    async fn look(&self, id: ContainerId) -> Result<Option<Exit>, RuntimeError> {
        let folder = self.folder(id);
        let changed = self.changed.notified();
        if let Some(exit) = folder.exit().map_err(disk("read how it ended"))? {
            return Ok(Some(exit));
        }
        if let Some(task) = Box::pin(self.task(id)).await? {
            return match task.status() {
                TaskStatus::Stopped => {
                    let settled = Box::pin(self.settle(id, &folder, &task)).await;
                    settled.map(Some)
                }
                _ => self.wait_while_it_runs(id, &folder).await,
            };
        }
        if Box::pin(self.record(id)).await?.is_none() {
            return Err(said(Failure::Gone, format!("No such container: {id}")));
        }
        if let Some(mark) = folder.started().map_err(disk("read when it began"))? {
            let settled = Box::pin(self.settle_vanished(id, &folder, &mark)).await;
            return settled.map(Some);
        }
        // Made and not started: whoever starts it says so, here or in a process before this one.
        let _ = timeout(LOOK_AGAIN, changed).await;
        Ok(None)
    }

    /// Most of a container's life is spent in here, so what comes after is boxed.
    async fn wait_while_it_runs(
        &self,
        id: ContainerId,
        folder: &Folder,
    ) -> Result<Option<Exit>, RuntimeError> {
        if self.wait_at_shim(id, folder).await
            && let Some(task) = Box::pin(self.task(id)).await?
            && task.status() == TaskStatus::Stopped
        {
            let settled = Box::pin(self.settle(id, folder, &task)).await;
            return settled.map(Some);
        }
        Box::pin(self.wait_for_task(id)).await?;
        Ok(None)
    }

    /// Waits at the container's own shim: a connection of a few hundred bytes, where a call to containerd holds some
    /// twenty thousand for as long as the container runs. Whether the shim has said that the process ended.
    async fn wait_at_shim(&self, id: ContainerId, folder: &Folder) -> bool {
        let Ok(Some(mark)) = folder.started() else {
            return false;
        };
        let ended = shim::wait(&mark.shim, &id.to_string()).await;
        if let Err(error) = &ended {
            tracing::debug!(container = ?id, %error, "its shim is not there to be waited for");
        }
        ended.is_ok()
    }

    async fn wait_for_task(&self, id: ContainerId) -> Result<(), RuntimeError> {
        let request = self.client.endless_request(WaitRequest {
            container_id: id.to_string(),
            ..WaitRequest::default()
        });
        match self.client.tasks().wait(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(super::client::broken(
                Failure::Retry,
                "wait for the container",
                status,
            )),
        }
    }

    /// Writes down how a stopped task ended, then deletes it: its shim, its mounts, its control group.
    async fn settle(
        &self,
        id: ContainerId,
        folder: &Folder,
        task: &Process,
    ) -> Result<Exit, RuntimeError> {
        let exit = self.exit_of(id, task);
        if let Err(error) = folder.mark_exit(&exit) {
            // A disk that is full must not hold up the end. The shim knows it until the container is removed.
            tracing::warn!(container = ?id, %error, "how a container ended was not written down");
            return Ok(exit);
        }
        if let Err(error) = self.delete_task(id).await {
            tracing::warn!(container = ?id, %error, "the task of an ended container is still there");
        }
        Ok(exit)
    }

    /// How a stopped task ended.
    pub(super) fn exit_of(&self, id: ContainerId, task: &Process) -> Exit {
        self.exit(id, task.exit_status, task.exited_at.as_ref())
    }

    fn exit(&self, id: ContainerId, status: u32, at: Option<&prost_types::Timestamp>) -> Exit {
        let at = at.map_or_else(
            || self.now(),
            |at| {
                Timestamp::from_nanos(i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos))
            },
        );
        Exit {
            code: i32::try_from(status).unwrap_or(LOST),
            at,
            oom: Group::of(&self.host, id).ran_out_of_memory(),
        }
    }

    /// How a process ended that containerd does not know any more: with its shim, or with the machine.
    pub(super) fn exit_of_vanished(&self, mark: &StartedMark) -> Exit {
        let same_boot = mark.boot == folder::boot();
        Exit {
            code: if same_boot { KILLED } else { LOST },
            at: self.now(),
            oom: false,
        }
    }

    /// Makes sure that the process has ended, for nobody else can any more, and writes it down.
    async fn settle_vanished(
        &self,
        id: ContainerId,
        folder: &Folder,
        mark: &StartedMark,
    ) -> Result<Exit, RuntimeError> {
        let deadline = Instant::now() + ORPHAN_DEADLINE;
        while belongs(mark.pid, id) {
            if Instant::now() > deadline && send(mark.pid, id, nix::libc::SIGKILL) == Sent::Yes {
                tracing::warn!(container = ?id, pid = mark.pid, "a process without a shim was killed");
            }
            sleep(RETRY_FIRST).await;
        }
        let exit = self.exit_of_vanished(mark);
        if let Err(error) = folder.mark_exit(&exit) {
            tracing::warn!(container = ?id, %error, "how a container ended was not written down");
        }
        Ok(exit)
    }
}
