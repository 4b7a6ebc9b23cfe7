//! This machine's volumes, as the API sees them: translation between the agent's room and the API's seam.
//!
//! Decides nothing but which kind of "no" an error is.

use async_trait::async_trait;

use super::clock;
use super::join::reason;
use crate::agent::happenings::Happenings;
use crate::agent::volumes::{self, DRIVER, VolumeError, Volumes};
use crate::api::backend::volumes::{NewVolume, PrunedVolumes, Volume, VolumeChoice, VolumeStore};
use crate::api::backend::{Refusal, RefusalClass};

/// The volumes of a machine that can run containers.
#[derive(Debug)]
pub(super) struct NodeVolumes {
    pub(super) volumes: Volumes,
    pub(super) happenings: Happenings,
}

impl NodeVolumes {
    fn tell(&self, action: &str, name: &str) {
        let driver = [("driver".to_owned(), DRIVER.to_owned())];
        self.happenings.tell("volume", action, name, driver.into());
    }
}

#[async_trait]
impl VolumeStore for NodeVolumes {
    async fn list(&self) -> Result<Vec<Volume>, Refusal> {
        Ok(self.volumes.list().iter().map(shown).collect())
    }

    async fn inspect(&self, name: &str) -> Result<Volume, Refusal> {
        let found = self.volumes.inspect(name).map_err(refusal)?;
        Ok(shown(&found))
    }

    async fn size(&self, name: &str) -> Result<u64, Refusal> {
        self.volumes.size(name).await.map_err(refusal)
    }

    async fn create(&self, new: NewVolume) -> Result<Volume, Refusal> {
        let new = volumes::NewVolume {
            name: new.name,
            driver: new.driver,
            options: new.options,
            labels: new.labels,
        };
        let is_new = self.volumes.inspect(&new.name).is_err();
        let made = self.volumes.create(new, clock::now()).await;
        let made = made.map_err(refusal)?;
        if is_new {
            self.tell("create", &made.name);
        }
        Ok(shown(&made))
    }

    async fn remove(&self, name: &str, force: bool) -> Result<(), Refusal> {
        let was_there = self.volumes.inspect(name).is_ok();
        self.volumes.remove(name, force).await.map_err(refusal)?;
        if was_there {
            self.tell("destroy", name);
        }
        Ok(())
    }

    async fn prune(&self, chosen: VolumeChoice) -> Result<PrunedVolumes, Refusal> {
        let pruned = self
            .volumes
            .prune(move |volume| chosen(&shown(volume)))
            .await;
        let pruned = pruned.map_err(refusal)?;
        for name in &pruned.names {
            self.tell("destroy", name);
        }
        Ok(PrunedVolumes {
            names: pruned.names,
            reclaimed: pruned.bytes,
        })
    }
}

fn shown(volume: &volumes::Volume) -> Volume {
    Volume {
        name: volume.name.clone(),
        driver: DRIVER.into(),
        mountpoint: volume.mountpoint.display().to_string(),
        created: volume.created,
        labels: volume.labels.clone(),
        options: volume.options.clone(),
        users: volume.users.len(),
    }
}

fn refusal(error: VolumeError) -> Refusal {
    let class = match &error {
        VolumeError::NoSuch(_) | VolumeError::Driver { .. } => RefusalClass::NotFound,
        VolumeError::Name { .. } | VolumeError::Options { .. } => RefusalClass::Invalid,
        VolumeError::InUse { .. } => RefusalClass::Conflict,
        VolumeError::Mount { .. } | VolumeError::Subpath { .. } | VolumeError::File { .. } => {
            return Refusal::internal(reason(&error));
        }
    };
    Refusal::new(class, error.to_string())
}
