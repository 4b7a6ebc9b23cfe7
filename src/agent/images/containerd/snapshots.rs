//! Unpacked layers.

use std::collections::HashMap;
use std::time::Duration;

use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
    UsageRequest,
};
use containerd_client::services::v1::{AddResourceRequest, ApplyRequest, Resource};
use containerd_client::tonic::Status;
use containerd_client::types::Mount;

use super::records::to_wire;
use super::{Containerd, StoreError, maybe};
use crate::agent::images::manifest::Descriptor;
use crate::model::Digest;

/// How long one layer may take to unpack: the largest there are, on the slowest disks.
const UNPACK_DEADLINE: Duration = Duration::from_secs(3600);

impl Containerd {
    /// Whether a chain of layers is unpacked.
    pub async fn is_unpacked(&self, chain: Digest) -> Result<bool, StoreError> {
        let request = self.ask(StatSnapshotRequest {
            snapshotter: self.snapshotter().into(),
            key: chain.to_string(),
        });
        let answer = self.snapshots().stat(request).await;
        let answer = maybe(answer.map_err(|status| StoreError::new("look up a snapshot", status)))?;
        Ok(answer.is_some())
    }

    /// Lets this connection's lease keep a chain that is unpacked already.
    pub async fn keep_chain(&self, chain: Digest) -> Result<(), StoreError> {
        let Some(lease) = &self.lease else {
            return Ok(());
        };
        let request = self.ask(AddResourceRequest {
            id: lease.to_str().unwrap_or_default().into(),
            resource: Some(Resource {
                id: chain.to_string(),
                r#type: format!("snapshots/{}", self.snapshotter()),
            }),
        });
        let answer = self.leases().add_resource(request).await;
        match answer.map_err(|status| StoreError::new("lease a snapshot", status)) {
            Err(error) if !error.is_there() => Err(error),
            _ => Ok(()),
        }
    }

    /// Bytes on disk of the topmost layer of a chain alone; zero when it is not unpacked.
    pub async fn unpacked_size(&self, chain: Digest) -> Result<u64, StoreError> {
        let request = self.ask(UsageRequest {
            snapshotter: self.snapshotter().into(),
            key: chain.to_string(),
        });
        let answer = self.snapshots().usage(request).await;
        let answer = maybe(answer.map_err(|status| StoreError::new("measure a snapshot", status)))?;
        let size = answer.map_or(0, |answer| answer.into_inner().size);
        Ok(u64::try_from(size).unwrap_or(0))
    }

    /// Unpacks a layer onto the chain below it, as the chain `chain`. Returns what the layer is when unpacked, which
    /// the caller compares before it [commits](Self::commit_layer).
    pub async fn unpack_layer(
        &self,
        layer: &Descriptor,
        below: Option<Digest>,
        chain: Digest,
    ) -> Result<String, StoreError> {
        let key = extraction(chain);
        let mounts = self.prepare(&key, below).await?;
        let mut request = self.stream(ApplyRequest {
            diff: Some(to_wire(layer)),
            mounts,
            payloads: HashMap::new(),
            sync_fs: false,
        });
        request.set_timeout(UNPACK_DEADLINE);
        let applied = self.diff().apply(request).await;
        let applied = applied.map_err(|status| StoreError::new("unpack a layer", status));
        if applied.is_err() {
            self.drop_layer(chain).await?;
        }
        let applied = applied?.into_inner().applied;
        Ok(applied.map(|applied| applied.digest).unwrap_or_default())
    }

    /// Lets what was unpacked be the chain from now on.
    pub async fn commit_layer(&self, chain: Digest) -> Result<(), StoreError> {
        let request = self.ask(CommitSnapshotRequest {
            snapshotter: self.snapshotter().into(),
            name: chain.to_string(),
            key: extraction(chain),
            labels: HashMap::new(),
        });
        let committed = self.snapshots().commit(request).await;
        match committed.map_err(|status| StoreError::new("commit a snapshot", status)) {
            Err(error) if error.is_there() => self.drop_layer(chain).await,
            other => other.map(drop),
        }
    }

    /// Throws away what was unpacked and not committed.
    pub async fn drop_layer(&self, chain: Digest) -> Result<(), StoreError> {
        let request = self.ask(RemoveSnapshotRequest {
            snapshotter: self.snapshotter().into(),
            key: extraction(chain),
        });
        let answer = self.snapshots().remove(request).await;
        maybe(answer.map_err(|status| StoreError::new("remove a snapshot", status))).map(drop)
    }

    async fn prepare(&self, key: &str, below: Option<Digest>) -> Result<Vec<Mount>, StoreError> {
        let message = PrepareSnapshotRequest {
            snapshotter: self.snapshotter().into(),
            key: key.into(),
            parent: below.map(|below| below.to_string()).unwrap_or_default(),
            labels: HashMap::new(),
        };
        let words = |status: Status| StoreError::new("prepare a snapshot", status);
        let prepared = self.snapshots().prepare(self.ask(message.clone())).await;
        match prepared.map_err(words) {
            Err(error) if error.is_there() => {}
            other => return Ok(other?.into_inner().mounts),
        }
        // An attempt that was cut short left it.
        let request = self.ask(RemoveSnapshotRequest {
            snapshotter: self.snapshotter().into(),
            key: key.into(),
        });
        maybe(self.snapshots().remove(request).await.map_err(words))?;
        let prepared = self.snapshots().prepare(self.ask(message)).await;
        Ok(prepared.map_err(words)?.into_inner().mounts)
    }
}

/// What a chain is called while it is unpacked.
fn extraction(chain: Digest) -> String {
    format!("extract-skein {chain}")
}
