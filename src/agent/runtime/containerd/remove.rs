//! Ending a container: signals to its process, and the removal of all that was made for it.

use std::time::Duration;

use containerd_client::services::v1::snapshots::RemoveSnapshotRequest;
use containerd_client::services::v1::{
    DeleteContainerRequest, KillRequest, ResumeTaskRequest, WaitRequest,
};
use containerd_client::types::v1::{Process, Status as TaskStatus};
use nix::libc::SIGKILL;
use tokio::time::timeout;
use tonic::Code;

use super::super::{Failure, RuntimeError};
use super::client::{broken, failed, found};
use super::process::{Sent, send};
use super::{Inner, disk, shim};
use crate::model::ContainerId;

/// How long a killed process may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(30);

/// How long a shim that was left behind may take to go.
const SHIM_DEADLINE: Duration = Duration::from_secs(2);

impl Inner {
    pub(super) async fn signal(&self, id: ContainerId, signal: i32) -> Result<(), RuntimeError> {
        let Some(task) = self.task(id).await? else {
            return Ok(());
        };
        self.signal_task(id, &task, signal).await
    }

    async fn signal_task(
        &self,
        id: ContainerId,
        task: &Process,
        signal: i32,
    ) -> Result<(), RuntimeError> {
        if task.status() == TaskStatus::Stopped {
            return Ok(());
        }
        match send(task.pid, id, signal) {
            Sent::Yes | Sent::Ended => Ok(()),
            Sent::Unknown => {
                let request = self.client.request(KillRequest {
                    container_id: id.to_string(),
                    signal: u32::try_from(signal).unwrap_or(0),
                    ..KillRequest::default()
                });
                match found(self.client.tasks().kill(request).await) {
                    Ok(_) => Ok(()),
                    Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
                    Err(status) => Err(failed("send a signal to the container")(status)),
                }
            }
        }
    }

    pub(super) async fn remove(&self, id: ContainerId) -> Result<(), RuntimeError> {
        let folder = self.folder(id);
        let name = id.to_string();
        self.prepared.take(id);
        let mark = folder.started().ok().flatten();
        let (record, task) = tokio::join!(self.record(id), self.task(id));
        if record?.is_none() {
            let cleared = folder.clear();
            return cleared.map_err(disk("remove the container's files"));
        }
        match task? {
            Some(task) => self.end_task(id, &task).await?,
            // There may be a shim without a task, whose making or whose deletion was cut short. Nobody lists it.
            None => self.delete_task(id).await?,
        }
        if let Some(mark) = mark
            && let Ok(Ok(())) = timeout(SHIM_DEADLINE, shim::shut_down(&mark.shim, &name)).await
        {
            tracing::debug!(container = ?id, "its shim was left behind, and goes now");
        }
        let request = self.client.request(RemoveSnapshotRequest {
            snapshotter: self.settings.snapshotter.clone(),
            key: id.to_string(),
        });
        let mut snapshots = self.client.snapshots();
        let (removed, cleared) = tokio::join!(snapshots.remove(request), async { folder.clear() });
        found(removed).map_err(failed("remove the container's file system"))?;
        cleared.map_err(disk("remove the container's files"))?;
        let request = self
            .client
            .request(DeleteContainerRequest { id: id.to_string() });
        let deleted = found(self.client.containers().delete(request).await);
        deleted.map_err(failed("remove the container"))?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Kills a task's process, if it runs, and deletes it.
    async fn end_task(&self, id: ContainerId, task: &Process) -> Result<(), RuntimeError> {
        if task.status() != TaskStatus::Stopped {
            if matches!(task.status(), TaskStatus::Paused | TaskStatus::Pausing) {
                // A frozen process does not die of a signal.
                let request = self.client.request(ResumeTaskRequest {
                    container_id: id.to_string(),
                });
                let resumed = found(self.client.tasks().resume(request).await);
                resumed.map_err(failed("resume the container"))?;
            }
            self.signal_task(id, task, SIGKILL).await?;
            let request = WaitRequest {
                container_id: id.to_string(),
                ..WaitRequest::default()
            };
            let request = self.client.request_within(KILL_DEADLINE, request);
            let ended = found(self.client.tasks().wait(request).await);
            ended.map_err(|status| {
                broken(Failure::Retry, "wait for the killed container", status)
            })?;
        }
        self.delete_task(id).await
    }
}
