//! All that is known of a container at one moment, for whoever shows it to people.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use super::super::RuntimeError;
use super::{Containerd, Inner, disk};
use crate::model::container::ContainerState;
use crate::model::{ContainerConfig, ContainerId, Timestamp};

/// A container as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// What it was made from.
    pub config: ContainerConfig,
    /// How far it is.
    pub state: ContainerState,
    /// When it was made.
    pub created: Timestamp,
    /// When its process began, if it has.
    pub started: Option<Timestamp>,
    /// Its directory.
    pub folder: PathBuf,
}

impl Containerd {
    /// Every whole container of this node, in no order.
    pub async fn look_around(&self) -> Result<Vec<Look>, RuntimeError> {
        let found = self.inner.list().await?.into_iter();
        let looks =
            found.filter_map(|found| self.inner.look_at(found.id, found.state?).transpose());
        looks.collect()
    }

    /// One container; `None` when there is none, or it is not whole.
    pub async fn look(&self, id: ContainerId) -> Result<Option<Look>, RuntimeError> {
        let found = self.inner.inspect(id).await?;
        match found.and_then(|found| found.state) {
            Some(state) => self.inner.look_at(id, state),
            None => Ok(None),
        }
    }
}

impl Inner {
    /// `None` when it has been removed since.
    fn look_at(
        &self,
        id: ContainerId,
        state: ContainerState,
    ) -> Result<Option<Look>, RuntimeError> {
        let folder = self.folder(id);
        let read = || {
            let Some(config) = folder.config()? else {
                return Ok(None);
            };
            Ok(Some(Look {
                config,
                state,
                created: folder.made_at()?,
                started: folder.started()?.map(|mark| mark.at),
                folder: folder.path().into(),
            }))
        };
        read().map_err(disk("look at the container"))
    }
}

/// A file's time as one of ours; the beginning of time when it is before that.
pub(super) fn timestamp(time: std::time::SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(i128::try_from(since.as_nanos()).unwrap_or(i128::MAX))
}
