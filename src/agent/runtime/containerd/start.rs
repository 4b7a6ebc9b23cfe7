//! Beginning a container's process, once.

use std::path::Path;
use std::time::Duration;

use containerd_client::services::v1::snapshots::MountsRequest;
use containerd_client::services::v1::{
    CreateTaskRequest, DeleteTaskRequest, GetRequest, StartRequest,
};
use containerd_client::types::Mount;
use containerd_client::types::v1::{Process, Status as TaskStatus};
use prost::Message;
use prost_types::Any;
use tokio::time::sleep;
use tonic::{Code, Status};
use tracing::{info, warn};

use super::super::{Failure, RuntimeError, Started};
use super::client::{START_DEADLINE, failed, found, is_unreachable, said};
use super::create::ShimOptions;
use super::folder::{self, Folder, StartedMark};
use super::words::start_failure;
use super::{Inner, attach, cut_short, disk, shim};
use crate::model::{ContainerConfig, ContainerId};

/// The wait before a task is deleted again, doubled each time, and the longest.
const DELETE_AGAIN: Duration = Duration::from_millis(20);
const DELETE_AGAIN_MOST: Duration = Duration::from_secs(1);

impl Inner {
    pub(super) async fn start(&self, id: ContainerId) -> Result<Started, RuntimeError> {
        let folder = self.folder(id);
        let gone = || said(Failure::Gone, format!("No such container: {id}"));
        let _permit = self.starts.acquire().await.map_err(|_| gone())?;
        let config = folder.config().map_err(disk("read the container"))?;
        let config = config.filter(|_| folder.is_created()).ok_or_else(gone)?;
        let mark = folder.started().map_err(disk("read the container"))?;
        let begun = |mark: StartedMark| Started {
            pid: mark.pid,
            at: mark.at,
        };
        let task = match &mark {
            Some(_) => self.task(id).await?,
            None => None,
        };
        let namespace = &self.settings.namespace;
        match (mark, task.as_ref().map(Process::status)) {
            (Some(mark), Some(TaskStatus::Created)) => {
                let has_begun = cut_short::has_begun(namespace, id, mark.pid);
                match has_begun.map_err(disk("look at the container's process"))? {
                    true => Ok(begun(mark)),
                    false => self.begin(id, &folder, mark.pid).await,
                }
            }
            (Some(_), Some(TaskStatus::Stopped)) if cut_short::never_began(namespace, id) => {
                let error = said(Failure::Retry, "the container's start was cut short");
                Err(self.unmake(id, &folder).await.err().unwrap_or(error))
            }
            (Some(mark), _) => Ok(begun(mark)),
            (None, _) => {
                let pid = self.create_task(&config, &folder).await?;
                self.begin(id, &folder, pid).await
            }
        }
    }

    /// The container's task; `None` when it has none.
    pub(super) async fn task(&self, id: ContainerId) -> Result<Option<Process>, RuntimeError> {
        let request = self.client.request(GetRequest {
            container_id: id.to_string(),
            ..GetRequest::default()
        });
        let answer = found(self.client.tasks().get(request).await);
        let answer = answer.map_err(failed("look for the container's task"))?;
        Ok(answer.and_then(|answer| answer.into_inner().process))
    }

    async fn mounts(&self, id: ContainerId) -> Result<Vec<Mount>, RuntimeError> {
        let request = self.client.request(MountsRequest {
            snapshotter: self.settings.snapshotter.clone(),
            key: id.to_string(),
        });
        let mounts = self.client.snapshots().mounts(request).await;
        let mounts = mounts.map_err(failed("look for the container's file system"))?;
        Ok(mounts.into_inner().mounts)
    }

    async fn create_task(
        &self,
        config: &ContainerConfig,
        folder: &Folder,
    ) -> Result<u32, RuntimeError> {
        self.refresh_joined(config).await?;
        let id = config.id.to_string();
        let mounts = match self.prepared.take(config.id) {
            Some(mounts) => mounts,
            None => self.mounts(config.id).await?,
        };
        let io = attach::stdio(config, folder, &self.settings.helper)?;
        let options = ShimOptions {
            binary_name: self.binary.clone(),
        };
        let request = CreateTaskRequest {
            container_id: id,
            rootfs: mounts,
            stdin: io.stdin.clone(),
            stdout: io.stdout.clone(),
            stderr: io.stderr.clone(),
            terminal: config.process.tty,
            options: (!self.binary.is_empty()).then(|| Any {
                type_url: "containerd.runc.v1.Options".to_owned(),
                value: options.encode_to_vec(),
            }),
            ..CreateTaskRequest::default()
        };
        let request = self.client.request_within(START_DEADLINE, request);
        match self.client.tasks().create(request).await {
            Ok(answer) => Ok(answer.into_inner().pid),
            // By an attempt that did not live to see it.
            Err(status) if status.code() == Code::AlreadyExists => {
                if let Some(task) = self.task(config.id).await? {
                    return Ok(task.pid);
                }
                // A shim without a task, for containerd was killed between the two. It makes room for another.
                self.delete_task(config.id).await?;
                Err(said(Failure::Retry, "the container's task was half made"))
            }
            Err(status) => Err(self.refused(config.id, status)),
        }
    }

    /// Marks the container as begun, then lets its process go on.
    async fn begin(
        &self,
        id: ContainerId,
        folder: &Folder,
        pid: u32,
    ) -> Result<Started, RuntimeError> {
        let mark = StartedMark {
            pid,
            at: self.now(),
            boot: folder::boot(),
            shim: shim::address(pid),
        };
        let marked = folder.mark_started(&mark);
        marked.map_err(disk("mark the container as started"))?;
        let request = self.client.request_within(
            START_DEADLINE,
            StartRequest {
                container_id: id.to_string(),
                ..StartRequest::default()
            },
        );
        let started = Started { pid, at: mark.at };
        let mut tasks = self.client.tasks();
        let (outcome, synced) = tokio::join!(tasks.start(request), async { folder.sync_started() });
        let Err(status) = outcome else {
            synced.map_err(disk("mark the container as started"))?;
            self.changed.notify_waiters();
            return Ok(started);
        };
        let error = start_failure(status);
        if error.failure == Failure::Refused {
            self.unmake(id, folder).await?;
        }
        Err(error)
    }

    /// Undoes what was made for a process that never ran.
    async fn unmake(&self, id: ContainerId, folder: &Folder) -> Result<(), RuntimeError> {
        // The mark goes before the task: a mark without a task would be a process that vanished.
        let unmarked = folder.unmark_started();
        unmarked.map_err(disk("unmark the container as started"))?;
        self.delete_task(id).await
    }

    /// Why containerd made no task. What an attempt that was cut short has left in its way goes.
    fn refused(&self, id: ContainerId, status: Status) -> RuntimeError {
        if let Some(bundle) =
            cut_short::bundle_in_the_way(status.message(), &self.settings.namespace, id)
        {
            match cut_short::clear_bundle(&bundle, self.now()) {
                Ok(true) => {
                    info!(bundle = %bundle.display(), "removed what a killed containerd has left")
                }
                Ok(false) => {}
                Err(error) => {
                    warn!(bundle = %bundle.display(), %error, "a task's bundle is in the way")
                }
            }
        }
        start_failure(status)
    }

    /// Deletes a task that does not run. Good when there is none.
    pub(super) async fn delete_task(&self, id: ContainerId) -> Result<(), RuntimeError> {
        let mut pause = DELETE_AGAIN;
        loop {
            let request = DeleteTaskRequest {
                container_id: id.to_string(),
            };
            let request = self.client.request_within(START_DEADLINE, request);
            let Err(status) = found(self.client.tasks().delete(request).await) else {
                return Ok(());
            };
            // Two that delete it at once, as who waits for it and who removes it: the shim leaves the one that is late
            // without an answer, and a moment later there is no task.
            if is_unreachable(&status) || pause > DELETE_AGAIN_MOST {
                return Err(failed("delete the container's task")(status));
            }
            sleep(pause).await;
            pause *= 2;
        }
    }
}

/// The address of our logger for the shim: what runs, and the container's directory as its only argument.
pub(super) fn logger_uri(helper: &Path, folder: &Path) -> String {
    format!(
        "binary://{}?logger={}",
        escaped(helper, b"/"),
        escaped(folder, b"/")
    )
}

/// A path as part of an address.
fn escaped(path: &Path, plain: &[u8]) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || plain.contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loggers_address_takes_any_path() {
        assert_eq!(
            logger_uri(Path::new("/usr/bin/skein"), Path::new("/var/a b/c?&ü")),
            "binary:///usr/bin/skein?logger=/var/a%20b/c%3F%26%C3%BC"
        );
    }
}
