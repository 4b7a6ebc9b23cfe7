//! What standalone containers need besides the runtime, and what they need of the runtime beyond what tasks do.
//!
//! The traits are for tests alone: the node has one kind of each.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};

use crate::agent::runner::stock::{Stock, StockError};
use crate::agent::runtime::containerd::Containerd;
use crate::agent::runtime::{Failure, Runtime, RuntimeError};
use crate::agent::stock::LocalStock;
use crate::agent::task::plan::VolumeRequest;
use crate::model::container::ImageRef;
use crate::model::{ContainerConfig, ContainerId, ImageConfig};

/// A runtime whose containers may begin more than once.
pub trait Machine: Runtime {
    /// Makes a container that has ended ready to begin once more, with the file system that it has. Good when it has
    /// never begun; refused when it runs.
    fn again(&self, id: ContainerId) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Lets a paused container go on; refused when it is not paused.
    fn resume(&self, id: ContainerId) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Gives a container that does not run another configuration of the same image.
    fn reconfigure(
        &self,
        config: &ContainerConfig,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Writes down a configuration that differs in its name alone.
    fn rename(&self, config: &ContainerConfig) -> Result<(), RuntimeError>;
}

impl Machine for Containerd {
    async fn again(&self, id: ContainerId) -> Result<(), RuntimeError> {
        Self::again(self, id).await
    }

    async fn resume(&self, id: ContainerId) -> Result<(), RuntimeError> {
        Self::resume(self, id).await
    }

    async fn reconfigure(&self, config: &ContainerConfig) -> Result<(), RuntimeError> {
        Self::reconfigure(self, config).await
    }

    fn rename(&self, config: &ContainerConfig) -> Result<(), RuntimeError> {
        self.write_config(config)
    }
}

/// Images and volumes of this machine.
pub trait Supplies: Clone + Send + Sync + 'static {
    /// An image that is here; `None` when it is not.
    fn image(
        &self,
        reference: &str,
    ) -> impl Future<Output = Result<Option<(ImageRef, ImageConfig)>, StockError>> + Send;

    /// Where a volume is, made and filled where it has to be, and held for `container` from now on.
    fn volume(
        &self,
        container: ContainerId,
        image: &ImageRef,
        wanted: &VolumeRequest,
    ) -> impl Future<Output = Result<PathBuf, StockError>> + Send;

    /// Sees to it that a volume that `container` holds is there to be used; it may have been unmounted with the machine.
    fn hold(
        &self,
        container: ContainerId,
        volume: &str,
    ) -> impl Future<Output = Result<(), StockError>> + Send;

    /// Sees to it that a path of the machine is there; a directory is made when `make`.
    fn bind(&self, path: &Path, make: bool) -> impl Future<Output = Result<(), StockError>> + Send;

    /// Lets go of all that `container` held, removes those volumes, and its logs. Good when there is nothing.
    fn release(
        &self,
        container: ContainerId,
        remove: &[String],
    ) -> impl Future<Output = Result<(), StockError>> + Send;
}

impl Supplies for LocalStock {
    async fn image(&self, reference: &str) -> Result<Option<(ImageRef, ImageConfig)>, StockError> {
        let found = self.images.resolve(reference).await;
        let found = found.map_err(|error| StockError {
            failure: Failure::Refused,
            message: error.to_string(),
            source: Some(Box::new(error)),
        })?;
        Ok(found.map(|found| {
            let image = ImageRef {
                name: reference.to_owned(),
                manifest: found.manifest,
            };
            (image, found.config)
        }))
    }

    async fn volume(
        &self,
        container: ContainerId,
        image: &ImageRef,
        wanted: &VolumeRequest,
    ) -> Result<PathBuf, StockError> {
        Stock::volume(self, container, image, wanted).await
    }

    async fn hold(&self, container: ContainerId, volume: &str) -> Result<(), StockError> {
        let mounted = self.volumes.mount(volume, container).await;
        mounted.map(drop).map_err(|error| StockError {
            failure: Failure::Refused,
            message: error.to_string(),
            source: Some(Box::new(error)),
        })
    }

    async fn bind(&self, path: &Path, make: bool) -> Result<(), StockError> {
        Stock::bind(self, path, make).await
    }

    async fn release(&self, container: ContainerId, remove: &[String]) -> Result<(), StockError> {
        let failed = |message: String| StockError {
            failure: Failure::Retry,
            message,
            source: None,
        };
        let remove: BTreeSet<&str> = remove.iter().map(String::as_str).collect();
        for volume in self.volumes.list() {
            if volume.users.contains(&container) {
                let released = self.volumes.unmount(&volume.name, container).await;
                released.map_err(|error| failed(error.to_string()))?;
            }
            if remove.contains(&*volume.name)
                && let Err(error) = self.volumes.remove(&volume.name, true).await
            {
                // Another container has it as well by now, as `--volumes-from` lets it.
                tracing::info!(volume = volume.name, %error, "a volume of a removed container stays");
            }
        }
        let purged = self.runtime.purge(container);
        purged.map_err(|error| failed(error.to_string()))
    }
}
