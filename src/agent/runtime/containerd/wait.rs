//! How a container ended: waits for it through restarts of containerd, writes it down, and lets its task go.

use std::time::Duration;

use containerd_client::services::v1::WaitRequest;
use containerd_client::types::v1::{Process, Status as TaskStatus};
use tokio::time::{Instant, sleep, timeout};

use super::super::{Failure, RuntimeError};
use super::cgroup::Group;
use super::client::said;
use super::folder::{self, Folder, StartedMark};
use super::process::{Sent, belongs, send};
use super::{Inner, disk};
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
        loop {
            match self.look(id).await {
                Ok(Some(exit)) => return Ok(exit),
                Ok(None) => pause = RETRY_FIRST,
                Err(error) if error.failure == Failure::Retry => {
                    tracing::debug!(container = ?id, %error, "waiting goes on");
                    sleep(pause).await;
                    pause = (pause * 2).min(LOOK_AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits once: for the exit, or for something to have changed.
    async fn look(&self, id: ContainerId) -> Result<Option<Exit>, RuntimeError> {
        let folder = self.folder(id);
        let changed = self.changed.notified();
        if let Some(exit) = folder.exit().map_err(disk("read how it ended"))? {
            return Ok(Some(exit));
        }
        if let Some(task) = self.task(id).await? {
            return match task.status() {
                TaskStatus::Stopped => self.settle(id, &folder, &task).await.map(Some),
                _ => {
                    self.wait_for_task(id).await?;
                    Ok(None)
                }
            };
        }
        if self.record(id).await?.is_none() {
            return Err(said(Failure::Gone, format!("No such container: {id}")));
        }
        if let Some(mark) = folder.started().map_err(disk("read when it began"))? {
            return self.settle_vanished(id, &folder, &mark).await.map(Some);
        }
        // Made and not started: whoever starts it says so, here or in a process before this one.
        let _ = timeout(LOOK_AGAIN, changed).await;
        Ok(None)
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
        let at = task.exited_at.as_ref().map_or_else(
            || self.now(),
            |at| {
                Timestamp::from_nanos(i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos))
            },
        );
        Exit {
            code: i32::try_from(task.exit_status).unwrap_or(LOST),
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
