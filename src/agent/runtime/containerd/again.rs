//! Making a container that has ended ready to begin once more, with the file system that it has.
//!
//! containerd and the shim may still hold something of the process that was: what a container's ID is begun with again
//! must first be gone, one by one, or the ID would stand for two processes. So the task goes, then a shim that was left
//! behind, then the logger, and last the marks that say that it began and ended: the end after the beginning, for a
//! beginning without an end would be a process that vanished. Each step may be repeated.
//!
//! Only for standalone containers. A container of a task never begins twice.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use containerd_client::services::v1::{Container, UpdateContainerRequest};
use prost_types::FieldMask;

use super::super::{Failure, RuntimeError};
use super::client::{failed, said};
use super::{Containerd, Inner, disk, shim};
use crate::agent::logs::logger;
use crate::model::container::ContainerState;
use crate::model::{ContainerConfig, ContainerId};

/// A shim that was left behind goes within this.
const SHIM_DEADLINE: Duration = Duration::from_secs(2);

/// A logger has written all within this, or is left to itself: what it reads from is not what the next one reads from.
const LOGGER_DEADLINE: Duration = Duration::from_secs(5);

/// Between two looks whether the logger is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl Containerd {
    /// Makes a container that has ended ready to begin once more. Good when it has never begun. One that runs is
    /// refused.
    pub async fn again(&self, id: ContainerId) -> Result<(), RuntimeError> {
        self.inner.again(id).await
    }

    /// Gives a container that does not run another configuration of the same image: a name, limits.
    pub async fn reconfigure(&self, config: &ContainerConfig) -> Result<(), RuntimeError> {
        self.inner.reconfigure(config).await
    }

    /// Writes down what changes nothing of a container that runs: its name.
    pub fn write_config(&self, config: &ContainerConfig) -> Result<(), RuntimeError> {
        let written = self.inner.folder(config.id).write_config(config);
        written.map_err(disk("write down the container's configuration"))
    }
}

impl Inner {
    async fn again(&self, id: ContainerId) -> Result<(), RuntimeError> {
        let found = self.inspect(id).await?;
        match found.and_then(|found| found.state) {
            None => return Err(said(Failure::Gone, format!("No such container: {id}"))),
            Some(ContainerState::Running { .. }) => {
                return Err(said(Failure::Refused, format!("container {id} is running")));
            }
            Some(ContainerState::Created) => return Ok(()),
            Some(ContainerState::Exited(_)) => {}
        }
        let folder = self.folder(id);
        let mark = folder.started().ok().flatten();
        self.delete_task(id).await?;
        if let Some(mark) = mark {
            let name = id.to_string();
            let gone = timeout(SHIM_DEADLINE, shim::shut_down(&mark.shim, &name)).await;
            if let Ok(Ok(())) = gone {
                tracing::debug!(container = ?id, "its shim was left behind, and goes now");
            }
        }
        let deadline = Instant::now() + LOGGER_DEADLINE;
        while logger::is_alive(folder.path()) && Instant::now() < deadline {
            sleep(LOOK_AGAIN).await;
        }
        let cleared = folder.begin_again();
        cleared.map_err(disk("make the container ready to begin again"))
    }

    async fn reconfigure(&self, config: &ContainerConfig) -> Result<(), RuntimeError> {
        let base = self.base(&config.image).await?;
        let joined = self.joined(config).await?;
        let request = self.client.request(UpdateContainerRequest {
            container: Some(Container {
                id: config.id.to_string(),
                spec: Some(self.spec(config, &base, joined)?),
                ..Container::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["spec".to_owned()],
            }),
        });
        let updated = self.client.containers().update(request).await;
        updated.map_err(failed("update the container"))?;
        let written = self.folder(config.id).write_config(config);
        written.map_err(disk("write down the container's configuration"))
    }
}
