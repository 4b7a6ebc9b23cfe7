//! Making a container: all that can be refused is refused before anything is made.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use containerd_client::services::v1::container::Runtime as ShimRuntime;
use containerd_client::services::v1::snapshots::PrepareSnapshotRequest;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, GetContainerRequest, UpdateContainerRequest,
};
use prost::Message;
use prost_types::{Any, FieldMask};
use tonic::Code;

use super::super::spec::{Place, SpecError, oci_spec, users};
use super::super::{Failure, RuntimeError};
use super::client::{broken, failed, found, said};
use super::image::Base;
use super::{Inner, NODE_LABEL, RUNTIME, devices, disk};
use crate::model::container::{ContainerState, ImageRef, MountSource, NetworkMode, Sharing};
use crate::model::{ContainerConfig, ContainerId};

/// The options of the shim, as far as we use them; not part of containerd's published messages.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ShimOptions {
    /// Path of the program that makes containers.
    #[prost(string, tag = "6")]
    pub(super) binary_name: String,
}

const SHIM_OPTIONS_TYPE: &str = "containerd.runc.v1.Options";

const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

impl Inner {
    pub(super) async fn create(&self, config: &ContainerConfig) -> Result<(), RuntimeError> {
        let id = config.id;
        // Its directory is made with the first attempt. A record without one is in the way below, and is removed then.
        if self.folder(id).path().exists() && self.record(id).await?.is_some() {
            if self.folder(id).is_created() {
                return Ok(());
            }
            self.remove(id).await?;
        }
        sources_exist(config)?;
        let base = self.base(&config.image).await?;
        let record = self.new_record(config, &base, self.joined(config).await?)?;
        let folder = self.folder(id);
        let made = self.make(config, record, base.chain.clone()).await;
        let made = made.and_then(|()| {
            let marked = folder.mark_created();
            marked.map_err(disk("mark the container as made"))
        });
        if let Err(error) = made {
            // What cannot be removed now is a ruin that the next attempt, or reconciliation, removes.
            if let Err(error) = self.remove(id).await {
                tracing::warn!(container = ?id, %error, "what was left of a failed container was not removed");
            }
            let _ = self.folder(id).purge();
            return Err(error);
        }
        Ok(())
    }

    /// What containers of an image are made of.
    pub(super) async fn base(
        &self,
        image: &ImageRef,
    ) -> Result<std::sync::Arc<Base>, RuntimeError> {
        let (snapshotter, mount_point) = (&self.settings.snapshotter, self.mount_point());
        let get = self
            .bases
            .get(&self.client, snapshotter, &mount_point, image);
        get.await
    }

    /// containerd's record of a container of this node.
    pub(super) async fn record(&self, id: ContainerId) -> Result<Option<Container>, RuntimeError> {
        let request = self
            .client
            .request(GetContainerRequest { id: id.to_string() });
        let answer = found(self.client.containers().get(request).await);
        let answer = answer.map_err(failed("look for the container"))?;
        let record = answer.and_then(|answer| answer.into_inner().container);
        let ours = self.settings.node.to_string();
        Ok(record.filter(|record| record.labels.get(NODE_LABEL) == Some(&ours)))
    }

    /// The directory and the record at the same time: each waits for a disk, and neither is anything without the mark.
    async fn make(
        &self,
        config: &ContainerConfig,
        record: Container,
        parent: String,
    ) -> Result<(), RuntimeError> {
        let key = record.id.clone();
        let request = self.client.request(CreateContainerRequest {
            container: Some(record),
        });
        let mut containers = self.client.containers();
        let folder = self.folder(config.id);
        let (created, folder) =
            tokio::join!(containers.create(request), async { folder.make(config) });
        folder.map_err(disk("write the container's directory"))?;
        created.map_err(failed("make the container"))?;
        let request = self.client.request(PrepareSnapshotRequest {
            snapshotter: self.settings.snapshotter.clone(),
            key,
            parent,
            ..PrepareSnapshotRequest::default()
        });
        match self.client.snapshots().prepare(request).await {
            Ok(prepared) => {
                self.prepared.keep(config.id, prepared.into_inner().mounts);
                Ok(())
            }
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(failed("make the container's file system")(status)),
        }
    }

    fn new_record(
        &self,
        config: &ContainerConfig,
        base: &Base,
        joined: BTreeMap<ContainerId, u32>,
    ) -> Result<Container, RuntimeError> {
        let options = ShimOptions {
            binary_name: self.binary.clone(),
        };
        let labels = [(NODE_LABEL.to_owned(), self.settings.node.to_string())];
        Ok(Container {
            id: config.id.to_string(),
            labels: HashMap::from(labels),
            image: config.image.name.clone(),
            runtime: Some(ShimRuntime {
                name: RUNTIME.to_owned(),
                options: Some(Any {
                    type_url: SHIM_OPTIONS_TYPE.to_owned(),
                    value: options.encode_to_vec(),
                }),
            }),
            spec: Some(self.spec(config, base, joined)?),
            snapshotter: self.settings.snapshotter.clone(),
            // Named before it exists, so that the snapshot is never without somebody who refers to it.
            snapshot_key: config.id.to_string(),
            ..Container::default()
        })
    }

    pub(super) fn spec(
        &self,
        config: &ContainerConfig,
        base: &Base,
        joined: BTreeMap<ContainerId, u32>,
    ) -> Result<Any, RuntimeError> {
        let process = &config.process;
        let user = users::resolve(&process.user, &process.groups, &base.passwd, &base.group);
        let user = user.map_err(|error| broken(Failure::Refused, error.to_string(), error))?;
        let files = match config.network {
            NetworkMode::Container(other) => other,
            NetworkMode::None | NetworkMode::Host | NetworkMode::Namespace(_) => config.id,
        };
        let place = Place {
            user,
            files: self.folder(files).path().to_owned(),
            joined,
            devices: devices::of_container(config)?,
        };
        let refused = |error: SpecError| broken(Failure::Refused, error.to_string(), error);
        let spec = oci_spec(config, &self.host, &place).map_err(refused)?;
        let value = serde_json::to_vec(&spec).map_err(|error| {
            broken(
                Failure::Refused,
                "encode the container's specification",
                error,
            )
        })?;
        Ok(Any {
            type_url: SPEC_TYPE.to_owned(),
            value,
        })
    }

    /// The first processes of the containers whose namespaces this one joins; zero for one that does not run now.
    pub(super) async fn joined(
        &self,
        config: &ContainerConfig,
    ) -> Result<BTreeMap<ContainerId, u32>, RuntimeError> {
        let mut joined = BTreeMap::new();
        for other in joins(config) {
            let found = self.inspect(other).await?;
            let pid = match found.and_then(|found| found.state) {
                Some(ContainerState::Running { pid, .. }) => pid,
                Some(ContainerState::Created | ContainerState::Exited(_)) | None => 0,
            };
            joined.insert(other, pid);
        }
        Ok(joined)
    }

    /// Names the processes whose namespaces are joined as they are at this start.
    pub(super) async fn refresh_joined(
        &self,
        config: &ContainerConfig,
    ) -> Result<(), RuntimeError> {
        if joins(config).is_empty() {
            return Ok(());
        }
        let joined = self.joined(config).await?;
        if let Some((id, _)) = joined.iter().find(|(_, pid)| **pid == 0) {
            let error = SpecError::JoinedNotRunning(*id);
            return Err(said(Failure::Refused, error.to_string()));
        }
        let base = self.base(&config.image).await?;
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
        updated.map(drop).map_err(failed("update the container"))
    }
}

fn joins(config: &ContainerConfig) -> Vec<ContainerId> {
    let shared = [&config.pid, &config.ipc]
        .into_iter()
        .filter_map(|sharing| match sharing {
            Sharing::Container(id) => Some(*id),
            Sharing::Own | Sharing::Host => None,
        });
    let network = match config.network {
        NetworkMode::Container(id) => Some(id),
        NetworkMode::None | NetworkMode::Host | NetworkMode::Namespace(_) => None,
    };
    shared.chain(network).collect()
}

/// Docker looks before anything is made, and so do we.
fn sources_exist(config: &ContainerConfig) -> Result<(), RuntimeError> {
    for mount in &config.mounts {
        let path = match &mount.source {
            MountSource::Bind { path, .. } => path,
            // It went with the machine's memory, and is brought anew.
            MountSource::Dependency { path } if !Path::exists(path) => {
                let words = "a secret or config of the container is not there any more";
                return Err(said(Failure::Retry, words.to_owned()));
            }
            MountSource::Dependency { .. }
            | MountSource::Volume { .. }
            | MountSource::Tmpfs { .. } => continue,
        };
        let words = "invalid mount config for type \"bind\": ";
        if !path.is_absolute() {
            let words = format!(
                "{words}invalid mount path: '{}' mount path must be absolute",
                path.display()
            );
            return Err(said(Failure::Refused, words));
        }
        if !Path::exists(path) {
            let words = format!("{words}bind source path does not exist: {}", path.display());
            return Err(said(Failure::Refused, words));
        }
    }
    Ok(())
}
