//! Records of images, and leases.

use std::collections::BTreeMap;

use containerd_client::services::v1::{
    CreateImageRequest, CreateRequest, DeleteImageRequest, DeleteRequest, GetImageRequest, Image,
    ListImagesRequest, ListRequest, ListResourcesRequest, UpdateImageRequest,
};
use containerd_client::types::Descriptor as WireDescriptor;

use super::{Containerd, Lease, StoreError, maybe};
use crate::agent::images::manifest::Descriptor;
use crate::model::Timestamp;

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Canonical.
    pub name: String,
    /// An index or a manifest.
    pub target: Descriptor,
    /// Whatever was noted.
    pub labels: BTreeMap<String, String>,
    /// When the name last came to stand for this.
    pub updated: Timestamp,
}

pub(super) fn to_wire(descriptor: &Descriptor) -> WireDescriptor {
    WireDescriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        annotations: Default::default(),
    }
}

pub(super) fn time(stamp: Option<prost_types::Timestamp>) -> Timestamp {
    stamp.map_or_else(Timestamp::default, |stamp| {
        Timestamp::from_nanos(i128::from(stamp.seconds) * 1_000_000_000 + i128::from(stamp.nanos))
    })
}

fn from_wire(image: Image) -> Option<Record> {
    let target = image.target?;
    Some(Record {
        name: image.name,
        target: Descriptor::new(
            &target.media_type,
            target.digest.parse().ok()?,
            u64::try_from(target.size).ok()?,
        ),
        labels: image.labels.into_iter().collect(),
        updated: time(image.updated_at),
    })
}

impl Containerd {
    /// What a name stands for.
    pub async fn record(&self, name: &str) -> Result<Option<Record>, StoreError> {
        let request = self.ask(GetImageRequest { name: name.into() });
        let answer = self.images().get(request).await;
        let answer = maybe(answer.map_err(|status| StoreError::new("look up an image", status)))?;
        Ok(answer.and_then(|answer| from_wire(answer.into_inner().image?)))
    }

    /// Every name and what it stands for.
    pub async fn records(&self) -> Result<Vec<Record>, StoreError> {
        let request = self.ask(ListImagesRequest {
            filters: Vec::new(),
        });
        let answer = self.images().list(request).await;
        let answer = answer.map_err(|status| StoreError::new("list images", status))?;
        Ok(answer
            .into_inner()
            .images
            .into_iter()
            .filter_map(from_wire)
            .collect())
    }

    /// Lets a name stand for `target` from now on.
    pub async fn set_record(
        &self,
        name: &str,
        target: &Descriptor,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let image = Image {
            name: name.into(),
            labels: labels.clone().into_iter().collect(),
            target: Some(to_wire(target)),
            created_at: None,
            updated_at: None,
        };
        let request = self.ask(CreateImageRequest {
            image: Some(image.clone()),
            source_date_epoch: None,
        });
        let created = self.images().create(request).await;
        let created = created.map_err(|status| StoreError::new("record an image", status));
        match created {
            Err(error) if error.is_there() => {}
            other => return other.map(drop),
        }
        let request = self.ask(UpdateImageRequest {
            image: Some(image),
            update_mask: None,
            source_date_epoch: None,
        });
        let updated = self.images().update(request).await;
        updated
            .map(drop)
            .map_err(|status| StoreError::new("record an image", status))
    }

    /// Takes a name away; good when there is none. With `now`, what nothing refers to any more is collected before
    /// this returns.
    pub async fn remove_record(&self, name: &str, now: bool) -> Result<(), StoreError> {
        let request = self.ask(DeleteImageRequest {
            name: name.into(),
            sync: now,
            target: None,
        });
        let answer = self.images().delete(request).await;
        maybe(answer.map_err(|status| StoreError::new("remove an image", status))).map(drop)
    }

    /// A lease of this name until `expires`. One that is there is taken as it is when it was made after `since`, and
    /// made anew otherwise.
    pub async fn lease(
        &self,
        id: &str,
        since: Timestamp,
        expires: Timestamp,
    ) -> Result<Lease, StoreError> {
        let words = |status| StoreError::new("make a lease", status);
        let Ok(value) = id.parse() else {
            let status = tonic::Status::invalid_argument("a lease needs a plain name");
            return Err(words(status));
        };
        let filters = vec![format!("id=={id}")];
        let answer = self
            .leases()
            .list(self.ask(ListRequest { filters }))
            .await
            .map_err(words)?;
        let young = |at: Option<prost_types::Timestamp>| time(at) > since;
        if let Some(lease) = answer.into_inner().leases.pop() {
            if young(lease.created_at) {
                return Ok(Lease(value));
            }
            self.end_lease(&Lease(value), false).await?;
            return Box::pin(self.lease(id, since, expires)).await;
        }
        let labels = [("containerd.io/gc.expire".to_string(), expires.to_string())];
        let request = self.ask(CreateRequest {
            id: id.into(),
            labels: labels.into(),
        });
        match self.leases().create(request).await.map_err(words) {
            Err(error) if !error.is_there() => Err(error),
            _ => Ok(Lease(value)),
        }
    }

    /// Whether a lease keeps nothing at all.
    pub async fn keeps_nothing(&self, lease: &Lease) -> Result<bool, StoreError> {
        let id = lease.0.to_str().unwrap_or_default().to_string();
        let answer = self
            .leases()
            .list_resources(self.ask(ListResourcesRequest { id }))
            .await;
        let kept = maybe(answer.map_err(|status| StoreError::new("look at a lease", status)))?;
        Ok(kept.is_none_or(|kept| kept.into_inner().resources.is_empty()))
    }

    /// Ends a lease: what nothing else refers to is collected, `now` or some time later.
    pub async fn end_lease(&self, lease: &Lease, now: bool) -> Result<(), StoreError> {
        let id = lease.0.to_str().unwrap_or_default().to_string();
        let answer = self
            .leases()
            .delete(self.ask(DeleteRequest { id, sync: now }))
            .await;
        maybe(answer.map_err(|status| StoreError::new("end a lease", status))).map(drop)
    }
}
