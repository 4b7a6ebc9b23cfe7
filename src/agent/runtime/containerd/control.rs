//! What is done to a container that runs: held and let go, given other limits, asked what it runs, its terminal
//! resized.

use containerd_client::services::v1::snapshots::UsageRequest;
use containerd_client::services::v1::{
    CloseIoRequest, ListPidsRequest, PauseTaskRequest, ResizePtyRequest, ResumeTaskRequest,
    UpdateTaskRequest,
};
use containerd_client::types::v1::{Process, Status as TaskStatus};
use prost_types::Any;

use super::super::spec::resources;
use super::super::{Failure, RuntimeError};
use super::attach::not_running;
use super::client::{broken, failed, said};
use super::{Containerd, Inner, disk};
use crate::model::limits::ResourceLimits;
use crate::model::{ContainerConfig, ContainerId};

const RESOURCES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

impl Inner {
    /// The task and the configuration of a container that runs; refused in Docker's words when it does not.
    pub(super) async fn running(
        &self,
        id: ContainerId,
    ) -> Result<(Process, ContainerConfig), RuntimeError> {
        let config = self.folder(id).config();
        let config = config.map_err(disk("read the container"))?;
        let no_such = || said(Failure::Gone, format!("No such container: {id}"));
        let config = config.ok_or_else(no_such)?;
        if self.record(id).await?.is_none() {
            return Err(no_such());
        }
        let task = self.task(id).await?;
        let runs = |task: &Process| {
            matches!(
                task.status(),
                TaskStatus::Running | TaskStatus::Paused | TaskStatus::Pausing
            )
        };
        match task.filter(runs) {
            Some(task) => Ok((task, config)),
            None => Err(said(Failure::Refused, not_running(id))),
        }
    }
}

impl Containerd {
    /// Holds all processes of a container.
    pub async fn pause(&self, id: ContainerId) -> Result<(), RuntimeError> {
        let (task, _) = self.inner.running(id).await?;
        if task.status() != TaskStatus::Running {
            return Err(said(
                Failure::Refused,
                format!("container {id} is already paused"),
            ));
        }
        let client = &self.inner.client;
        let request = client.request(PauseTaskRequest {
            container_id: id.to_string(),
        });
        let paused = client.tasks().pause(request).await;
        paused.map(drop).map_err(failed("pause the container"))
    }

    /// Lets the processes of a paused container go on.
    pub async fn resume(&self, id: ContainerId) -> Result<(), RuntimeError> {
        let (task, _) = self.inner.running(id).await?;
        if task.status() == TaskStatus::Running {
            return Err(said(
                Failure::Refused,
                format!("Container {id} is not paused"),
            ));
        }
        let client = &self.inner.client;
        let request = client.request(ResumeTaskRequest {
            container_id: id.to_string(),
        });
        let resumed = client.tasks().resume(request).await;
        resumed.map(drop).map_err(failed("resume the container"))
    }

    /// Gives a container other limits, at once.
    pub async fn update(
        &self,
        id: ContainerId,
        limits: &ResourceLimits,
    ) -> Result<(), RuntimeError> {
        let (_, mut config) = self.inner.running(id).await?;
        let wanted = resources::limits(limits, &self.inner.host);
        let wanted = wanted.map_err(|error| broken(Failure::Refused, error.to_string(), error))?;
        let value = serde_json::to_vec(&wanted)
            .map_err(|error| broken(Failure::Refused, "encode the limits", error))?;
        let client = &self.inner.client;
        let request = client.request(UpdateTaskRequest {
            container_id: id.to_string(),
            resources: Some(Any {
                type_url: RESOURCES_TYPE.to_owned(),
                value,
            }),
            ..UpdateTaskRequest::default()
        });
        let updated = client.tasks().update(request).await;
        updated.map_err(failed("update the container"))?;
        config.limits = limits.clone();
        let written = self.inner.folder(id).write_config(&config);
        written.map_err(disk("write down the container's limits"))
    }

    /// The processes of a container, as the machine counts.
    pub async fn top(&self, id: ContainerId) -> Result<Vec<u32>, RuntimeError> {
        self.inner.running(id).await?;
        let client = &self.inner.client;
        let request = client.request(ListPidsRequest {
            container_id: id.to_string(),
        });
        let listed = client.tasks().list_pids(request).await;
        let listed = listed.map_err(failed("list the container's processes"))?;
        let mut pids: Vec<u32> = listed
            .into_inner()
            .processes
            .iter()
            .map(|p| p.pid)
            .collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// Says how large the terminal of a container is, in characters.
    pub async fn resize(
        &self,
        id: ContainerId,
        height: u32,
        width: u32,
    ) -> Result<(), RuntimeError> {
        self.inner.resize(id, "", height, width).await
    }

    /// Closes the standard input of a container that was given one.
    pub async fn close_stdin(&self, id: ContainerId) -> Result<(), RuntimeError> {
        self.inner.close_stdin(id, "").await
    }

    /// How much the container has written to its file system: bytes, and files.
    pub async fn size(&self, id: ContainerId) -> Result<(u64, u64), RuntimeError> {
        let client = &self.inner.client;
        let request = client.request(UsageRequest {
            snapshotter: self.inner.settings.snapshotter.clone(),
            key: id.to_string(),
        });
        let usage = client.snapshots().usage(request).await;
        let usage = usage.map_err(failed("measure the container"))?.into_inner();
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok((count(usage.size), count(usage.inodes)))
    }
}

impl Inner {
    /// Of an execution, or of the container when that is empty.
    pub(super) async fn resize(
        &self,
        id: ContainerId,
        exec: &str,
        height: u32,
        width: u32,
    ) -> Result<(), RuntimeError> {
        let request = self.client.request(ResizePtyRequest {
            container_id: id.to_string(),
            exec_id: exec.to_owned(),
            width,
            height,
        });
        let resized = self.client.tasks().resize_pty(request).await;
        resized.map(drop).map_err(failed("resize the terminal"))
    }

    pub(super) async fn close_stdin(
        &self,
        id: ContainerId,
        exec: &str,
    ) -> Result<(), RuntimeError> {
        let request = self.client.request(CloseIoRequest {
            container_id: id.to_string(),
            exec_id: exec.to_owned(),
            stdin: true,
        });
        let closed = self.client.tasks().close_io(request).await;
        closed.map(drop).map_err(failed("close the input"))
    }
}
