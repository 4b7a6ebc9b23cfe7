//! What there is: this node's containers and how far each is.

use std::collections::{BTreeSet, HashMap};

use containerd_client::services::v1::{ListContainersRequest, ListTasksRequest};
use containerd_client::types::v1::{Process, Status as TaskStatus};

use super::super::{Found, RuntimeError};
use super::client::failed;
use super::process::belongs;
use super::{Inner, NODE_LABEL, disk};
use crate::model::container::ContainerState;
use crate::model::{ContainerId, NodeId};

impl Inner {
    pub(super) async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let filter = format!("labels.\"{NODE_LABEL}\"=={}", self.settings.node);
        let request = self.client.request(ListContainersRequest {
            filters: vec![filter],
        });
        // One at a time: each has its whole specification with it, and only its name is wanted.
        let fail = || failed("list the containers");
        let records = self.client.containers().list_stream(request).await;
        let mut records = records.map_err(fail())?.into_inner();
        let mut names = Vec::new();
        while let Some(record) = records.message().await.map_err(fail())? {
            names.extend(record.container.map(|record| record.id));
        }
        let request = self.client.request(ListTasksRequest::default());
        let tasks = self.client.tasks().list(request).await;
        let tasks = tasks.map_err(failed("list the tasks"))?.into_inner().tasks;
        let mut tasks: HashMap<String, Process> = tasks
            .into_iter()
            .map(|task| (task.id.clone(), task))
            .collect();
        names
            .into_iter()
            // Not one of ours has another kind of name.
            .filter_map(|name| Some((name.parse().ok()?, tasks.remove(&name))))
            .map(|(id, task)| self.found(id, task))
            .collect()
    }

    pub(super) async fn nodes(&self) -> Result<BTreeSet<NodeId>, RuntimeError> {
        let filters = vec![format!("labels.\"{NODE_LABEL}\"")];
        let request = self.client.request(ListContainersRequest { filters });
        let records = self.client.containers().list(request).await;
        let records = records.map_err(failed("list the containers"))?.into_inner();
        let labels = records.containers.iter();
        let owners = labels.filter_map(|record| record.labels.get(NODE_LABEL)?.parse().ok());
        Ok(owners.collect())
    }

    pub(super) async fn inspect(&self, id: ContainerId) -> Result<Option<Found>, RuntimeError> {
        if self.record(id).await?.is_none() {
            return Ok(None);
        }
        let task = self.task(id).await?;
        self.found(id, task).map(Some)
    }

    fn found(&self, id: ContainerId, task: Option<Process>) -> Result<Found, RuntimeError> {
        let folder = self.folder(id);
        let config = folder.config().map_err(disk("read the container"))?;
        let whole = config.is_some() && folder.is_created();
        Ok(Found {
            id,
            labels: config.map(|config| config.labels).unwrap_or_default(),
            state: if whole {
                Some(self.state(id, task)?)
            } else {
                None
            },
        })
    }

    fn state(
        &self,
        id: ContainerId,
        task: Option<Process>,
    ) -> Result<ContainerState, RuntimeError> {
        let folder = self.folder(id);
        if let Some(exit) = folder.exit().map_err(disk("read how it ended"))? {
            return Ok(ContainerState::Exited(exit));
        }
        let mark = folder.started().map_err(disk("read when it began"))?;
        let running = |pid, paused| ContainerState::Running { pid, paused };
        Ok(match (task, mark) {
            (Some(task), mark) => match task.status() {
                TaskStatus::Created => ContainerState::Created,
                TaskStatus::Running => running(task.pid, false),
                TaskStatus::Paused | TaskStatus::Pausing => running(task.pid, true),
                TaskStatus::Stopped => ContainerState::Exited(self.exit_of(id, &task)),
                // Its shim does not answer; whoever waits for it will learn more.
                TaskStatus::Unknown => match mark {
                    Some(mark) => running(mark.pid, false),
                    None => ContainerState::Created,
                },
            },
            (None, Some(mark)) if belongs(mark.pid, id) => running(mark.pid, false),
            (None, Some(mark)) => ContainerState::Exited(self.exit_of_vanished(&mark)),
            (None, None) => ContainerState::Created,
        })
    }
}
