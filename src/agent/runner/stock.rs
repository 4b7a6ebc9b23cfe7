//! What a container needs besides the runtime, as the runner sees it: an image, volumes, a network, and a way to ask
//! for its health.
//!
//! Implemented over the rooms of images and volumes where the node is put together, and in memory for tests. Each verb
//! may be repeated after a crash, and may be dropped at any await: what it has done by then is released, or found
//! again, with the container's ID.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent::runtime::Failure;
use crate::agent::task::health::{Answer, Health};
use crate::agent::task::plan::{FileRequest, VolumeRequest};
use crate::model::cluster::Secret;
use crate::model::container::{ImageRef, NetworkMode, ProcessConfig};
use crate::model::{ContainerId, ImageConfig};
use crate::wire::assignment::Assigned;

/// Images, volumes and networks of this machine.
pub trait Stock: Clone + Send + Sync + 'static {
    /// Says, once, before all else, what containers hold by earlier lives of the daemon: the paths of the machine that
    /// are mounted in each, `None` where that is not known. What nobody holds any more is let go.
    fn restore(
        &self,
        _held: BTreeMap<ContainerId, Option<Vec<PathBuf>>>,
    ) -> impl Future<Output = Result<(), StockError>> + Send {
        async { Ok(()) }
    }

    /// The image that `reference` names, pulled when it is not here; `auth` as in `X-Registry-Auth`, or empty. When it
    /// can be had nowhere: [`Failure::Refused`] with Docker's `No such image: …`.
    fn image(
        &self,
        reference: &str,
        auth: &Secret,
    ) -> impl Future<Output = Result<(ImageRef, ImageConfig), StockError>> + Send;

    /// Where the volume `wanted` is, made when it is not there, filled from `image` when it is empty and should be, and
    /// held for `container` from now on.
    fn volume(
        &self,
        container: ContainerId,
        image: &ImageRef,
        wanted: &VolumeRequest,
    ) -> impl Future<Output = Result<PathBuf, StockError>> + Send;

    /// Sees to it that a path of the machine that is to be mounted is there; a directory is made when `make`. When it
    /// is not: [`Failure::Refused`].
    fn bind(&self, path: &Path, make: bool) -> impl Future<Output = Result<(), StockError>> + Send {
        bind(path, make)
    }

    /// The paths of files with the secrets and configs of `container`, in this order: in memory, closed to others, and
    /// never on a disk. What an earlier attempt has made is replaced.
    fn files(
        &self,
        container: ContainerId,
        files: &[FileRequest],
    ) -> impl Future<Output = Result<Vec<PathBuf>, StockError>> + Send;

    /// Wipes what [`Stock::files`] has made for `container`, whose process has ended. Good when there is nothing.
    fn wipe(&self, container: ContainerId);

    /// The network of `container`, wired for it as `assigned` says.
    fn network(
        &self,
        container: ContainerId,
        assigned: &Assigned,
    ) -> impl Future<Output = Result<Wired, StockError>> + Send;

    /// From now on `container` takes traffic: its process runs, and is healthy if it is asked. Said again, it is the same.
    fn serve(&self, _container: ContainerId) {}

    /// `container` takes no more traffic: its process has ended. Nobody waits.
    fn fell(&self, _container: ContainerId) {}

    /// `container` is about to be asked to end. Returns when no node sends it new traffic any more, or not long after
    /// when one does not say so.
    fn retire(&self, _container: ContainerId) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Lets go of everything that was given to `container`, which is gone: its network, its hold on volumes, its
    /// anonymous volumes, its secrets, its logs. Good when there is nothing.
    fn release(
        &self,
        container: ContainerId,
    ) -> impl Future<Output = Result<(), StockError>> + Send;
}

/// A container's place in networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wired {
    /// How it reaches others.
    pub mode: NetworkMode,
    /// What its own name stands for.
    pub address: Option<IpAddr>,
}

/// Asks a container for its health.
pub trait HealthExec: Clone + Send + Sync + 'static {
    /// Runs a program in a container that runs, until it ends or `deadline` has passed; then it is killed. It is killed
    /// as well when this is dropped.
    fn exec(
        &self,
        container: ContainerId,
        process: ProcessConfig,
        deadline: Duration,
    ) -> impl Future<Output = Answer> + Send;

    /// Hears what came of a question, and how healthy the container is by it; `changed` when that is news.
    fn hear(&self, _container: ContainerId, _health: Health, _answer: Answer, _changed: bool) {}
}

/// Why something cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StockError {
    /// What to do: [`Failure::Refused`] rejects the task, the others are tried again later.
    pub failure: Failure,
    /// Docker's words where it has any; shown to the user.
    pub message: String,
    /// What it was below.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// [`Stock::bind`] on the machine's own file system.
async fn bind(path: &Path, make: bool) -> Result<(), StockError> {
    let outcome = match tokio::fs::metadata(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && make => {
            tokio::fs::create_dir_all(path).await
        }
        outcome => outcome.map(drop),
    };
    outcome.map_err(|error| StockError {
        failure: Failure::Refused,
        message: match error.kind() {
            std::io::ErrorKind::NotFound => format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                path.display()
            ),
            _ => format!(
                "invalid mount config for type \"bind\": {}: {error}",
                path.display()
            ),
        },
        source: Some(Box::new(error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bind_is_there_or_made_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let error = bind(&path, false).await.unwrap_err();
        assert_eq!(error.failure, Failure::Refused);
        let words = "invalid mount config for type \"bind\": bind source path does not exist: /";
        assert!(error.message.starts_with(words), "{}", error.message);
        bind(&path, true).await.unwrap();
        bind(&path, false).await.unwrap();
        let below_a_file = dir.path().join("file");
        std::fs::write(&below_a_file, "").unwrap();
        bind(&below_a_file, false).await.unwrap();
        let error = bind(&below_a_file.join("x"), true).await.unwrap_err();
        assert_eq!(error.failure, Failure::Refused);
    }
}
