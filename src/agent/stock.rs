//! What tasks need besides the runtime, out of this node's own rooms: images, volumes, the machine's network, and the
//! runtime's executions for questions of health.
//!
//! The runner sees it as [`Stock`] and [`HealthExec`]. It decides which failures are worth another try: what the user
//! has to put right is refused in Docker's words, and what may pass is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use super::images::sample::SAMPLE;
use super::images::{Images, Progress, Reference, RegistryAuth};
use super::network::plane::{Plane, Wish};
use super::runner::Clock;
use super::runner::stock::{HealthExec, Stock, StockError, Wired};
use super::runtime::Failure;
use super::runtime::containerd::{Containerd, ExecSpec};
use super::secrets::Secrets;
use super::task::health::Answer;
use super::task::plan::{FileRequest, VolumeRequest};
use super::volumes::{NewVolume, VolumeError, Volumes};
use crate::model::cluster::Secret;
use crate::model::container::{ImageRef, NetworkMode, ProcessConfig};
use crate::model::{ContainerId, ImageConfig};
use crate::wire::assignment::Assigned;

/// The network of Docker's that is the machine's own.
const HOST_NETWORK: &str = "host";

/// Characters of its container's ID that an anonymous volume's name begins with.
const ANONYMOUS_PREFIX: usize = 56;

/// This node's images, volumes and containers. Clones are handles to the same.
#[derive(Clone)]
pub struct LocalStock {
    /// Images.
    pub images: Images,
    /// Volumes.
    pub volumes: Volumes,
    /// Containers.
    pub runtime: Containerd,
    /// Secrets and configs of containers.
    pub secrets: Secrets,
    /// Networks, or why there are none.
    pub plane: Result<Plane, Arc<str>>,
    /// The wall clock.
    pub clock: Clock,
}

impl std::fmt::Debug for LocalStock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalStock").finish_non_exhaustive()
    }
}

impl LocalStock {
    /// Copies what the image has where the volume is mounted into it, when it is empty.
    async fn fill(
        &self,
        container: ContainerId,
        image: &ImageRef,
        wanted: &VolumeRequest,
    ) -> Result<(), StockError> {
        let empty = self.volumes.is_empty(&wanted.name, container).await;
        if !empty.map_err(volume_error)? {
            return Ok(());
        }
        let (volumes, name) = (self.volumes.clone(), wanted.name.clone());
        let target = wanted.target.clone();
        let work = move |root: &Path| volumes.fill(&name, container, root, &target);
        match self.runtime.with_image(image, work).await {
            Ok(filled) => filled.map_err(volume_error),
            Err(error) => Err(StockError {
                failure: error.failure,
                message: error.message.clone(),
                source: Some(Box::new(error)),
            }),
        }
    }
}

impl Stock for LocalStock {
    /// What a container holds that only the runtime knows is found in the container's own directory.
    async fn restore(
        &self,
        held: BTreeMap<ContainerId, Option<Vec<PathBuf>>>,
    ) -> Result<(), StockError> {
        let paths = |container, known: Option<Vec<PathBuf>>| match known {
            Some(paths) => paths,
            None => match self.runtime.config(container) {
                Ok(Some(config)) => config.binds().collect(),
                Ok(None) | Err(_) => Vec::new(),
            },
        };
        let known: BTreeSet<ContainerId> = held.keys().copied().collect();
        let kept = self.secrets.restore(&known);
        kept.map_err(|error| again("let go of secrets of containers that are gone", error))?;
        let volumes = |paths: Vec<PathBuf>| {
            let names = paths.iter().filter_map(|path| self.volumes.of_path(path));
            names.collect::<BTreeSet<_>>()
        };
        let users = held
            .into_iter()
            .map(|(container, known)| (container, volumes(paths(container, known))));
        let restored = self.volumes.restore(users.collect()).await;
        restored.map_err(volume_error)
    }

    /// As Docker: a pull that fails is only logged when the image is here; what is to run is what is here then. A
    /// registry that has just been asked in vain is not asked again by each task.
    async fn image(
        &self,
        reference: &str,
        auth: &Secret,
    ) -> Result<(ImageRef, ImageConfig), StockError> {
        let parsed = reference.parse::<Reference>();
        let parsed = parsed.map_err(|error| refused("invalid reference format", error))?;
        let shown = parsed.clone().or_latest().familiar();
        let image = |manifest| ImageRef {
            name: reference.to_owned(),
            manifest,
        };
        let find = async || {
            let found = self.images.resolve(reference).await;
            found.map_err(|error| again("look for the image", error))
        };
        let is_away = self.images.is_away(&parsed);
        if let Some(local) = if is_away { find().await? } else { None } {
            return Ok((image(local.manifest), local.config));
        }
        if shown != SAMPLE {
            let auth = RegistryAuth::from_header(&auth.0).unwrap_or_default();
            let progress = Progress::none();
            let pull = self.images.pull(reference, auth.as_ref(), None, &progress);
            match pull.await {
                Ok(pulled) => return Ok((image(pulled.manifest), pulled.config)),
                Err(error) => warn!(image = %shown, %error, "pull failed"),
            }
        }
        match find().await? {
            Some(local) => Ok((image(local.manifest), local.config)),
            None => Err(StockError {
                failure: Failure::Refused,
                message: format!("No such image: {shown}"),
                source: None,
            }),
        }
    }

    async fn volume(
        &self,
        container: ContainerId,
        image: &ImageRef,
        wanted: &VolumeRequest,
    ) -> Result<PathBuf, StockError> {
        let new = NewVolume {
            name: wanted.name.clone(),
            driver: wanted.driver.clone(),
            options: wanted.options.clone(),
            labels: wanted.labels.clone(),
        };
        let made = self.volumes.create(new, (self.clock)()).await;
        made.map_err(volume_error)?;
        let mounted = self.volumes.mount(&wanted.name, container).await;
        let root = mounted.map_err(volume_error)?;
        if wanted.subpath.as_os_str().is_empty() {
            if !wanted.no_copy {
                self.fill(container, image, wanted).await?;
            }
            return Ok(root);
        }
        let part = self
            .volumes
            .subpath(&wanted.name, container, wanted.subpath.clone());
        part.await.map_err(volume_error)
    }

    async fn files(
        &self,
        container: ContainerId,
        files: &[FileRequest],
    ) -> Result<Vec<PathBuf>, StockError> {
        let made = self.secrets.make(container, files);
        made.map_err(|error| again("bring secrets and configs into memory", error))
    }

    fn wipe(&self, container: ContainerId) {
        if let Err(error) = self.secrets.wipe(container) {
            // Tried again when the container is removed.
            warn!(%container, %error, "secrets of a container that has ended are still there");
        }
    }

    async fn network(
        &self,
        container: ContainerId,
        assigned: &Assigned,
    ) -> Result<Wired, StockError> {
        let only = |mode| Wired {
            mode,
            address: None,
        };
        let mut networks = assigned.spec.networks.iter();
        if networks.any(|network| network.target == HOST_NETWORK) {
            return Ok(only(NetworkMode::Host));
        }
        let plane = match &self.plane {
            Ok(plane) => plane,
            Err(_) if assigned.attachments.is_empty() => return Ok(only(NetworkMode::None)),
            Err(why) => {
                return Err(StockError {
                    failure: Failure::Retry,
                    message: format!("this machine has no networks for containers: {why}"),
                    source: None,
                });
            }
        };
        let spec = assigned.spec.container_spec.as_ref();
        let dns = spec.and_then(|spec| spec.dns_config.as_ref());
        let servers = dns.map_or(&[][..], |dns| &dns.nameservers);
        let wish = Wish {
            name: assigned.name(),
            service: Some(assigned.service.id),
            attachments: assigned.attachments.clone(),
            servers: servers.iter().filter_map(|one| one.parse().ok()).collect(),
        };
        let wired = plane.wire(container, wish).await;
        let (path, address) = wired.map_err(|error| StockError {
            failure: Failure::Retry,
            message: error.to_string(),
            source: Some(Box::new(error)),
        })?;
        Ok(Wired {
            mode: NetworkMode::Namespace(path),
            address,
        })
    }

    fn serve(&self, container: ContainerId) {
        self.plane.iter().for_each(|plane| plane.serve(container));
    }

    fn fell(&self, container: ContainerId) {
        self.plane.iter().for_each(|plane| plane.fell(container));
    }

    async fn retire(&self, container: ContainerId) {
        if let Ok(plane) = &self.plane {
            plane.retire(container).await;
        }
    }

    async fn release(&self, container: ContainerId) -> Result<(), StockError> {
        let wiped = self.secrets.wipe(container);
        wiped.map_err(|error| again("wipe the container's secrets", error))?;
        let id = container.to_string();
        let own = id.get(..ANONYMOUS_PREFIX).unwrap_or(&id);
        for volume in self.volumes.list() {
            if volume.users.contains(&container) {
                let released = self.volumes.unmount(&volume.name, container).await;
                released.map_err(volume_error)?;
            }
            // Named after its container: it is nobody else's.
            if volume.name.starts_with(own) {
                let removed = self.volumes.remove(&volume.name, true).await;
                removed.map_err(volume_error)?;
            }
        }
        if let Ok(plane) = &self.plane {
            let released = plane.release(container).await;
            released.map_err(|error| again("take down the container's network", error))?;
        }
        let purged = self.runtime.purge(container);
        purged.map_err(|error| again("remove what the container has left", error))
    }
}

impl HealthExec for Containerd {
    async fn exec(
        &self,
        container: ContainerId,
        process: ProcessConfig,
        deadline: Duration,
    ) -> Answer {
        let wanted = ExecSpec {
            process,
            privileged: false,
            stdin: false,
            stdout: false,
            stderr: false,
        };
        let exec = match Self::exec(self, container, wanted).await {
            Ok(exec) => exec,
            Err(error) => {
                warn!(%container, %error, "a health check could not be run");
                return Answer::Failed;
            }
        };
        match timeout(deadline, exec.wait()).await {
            Ok(Ok(code)) => Answer::Exited(code),
            Ok(Err(_)) => Answer::Failed,
            Err(_) => {
                if let Err(error) = exec.kill().await {
                    warn!(%container, %error, "a health check that takes too long could not be killed");
                }
                Answer::TimedOut
            }
        }
    }
}

/// The user has asked for what cannot be, unless the machine's disk has failed.
fn volume_error(error: VolumeError) -> StockError {
    match error {
        VolumeError::File { ref source, .. } => {
            let doing = format!("prepare the volume: {error}: {source}");
            again(&doing, error)
        }
        error => refused(&error.to_string(), error),
    }
}

fn refused(words: &str, source: impl std::error::Error + Send + Sync + 'static) -> StockError {
    StockError {
        failure: Failure::Refused,
        message: words.to_owned(),
        source: Some(Box::new(source)),
    }
}

fn again(doing: &str, source: impl std::error::Error + Send + Sync + 'static) -> StockError {
    StockError {
        failure: Failure::Retry,
        message: format!("could not {doing}"),
        source: Some(Box::new(source)),
    }
}
