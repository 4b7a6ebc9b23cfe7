//! Names of services and containers, answered at 127.0.0.11 in each container.
//!
//! | file | holds |
//! |---|---|
//! | `names` | which addresses a name stands for, as seen from a container |
//! | `message` | questions and answers as bytes |
//! | `sockets` | sockets inside of a container's namespace |
//! | `server` | one container's questions, served |
//! | `forward` | servers outside, asked for what is not known here |
//! | `resolv` | `resolv.conf`, a container's and the machine's |
//!
//! The data plane calls: [`Resolver::set`] whenever names have changed, [`Resolver::attach`] for each container that is
//! wired, [`Resolver::detach`] when it goes. Nothing here decides who is healthy.

mod forward;
mod message;
mod names;
mod resolv;
mod server;
mod sockets;

use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::{ContainerId, NetworkId};

pub use message::{Asked, Reply, Via, reply};
pub use names::{Answer, Kind, Names, PASSING_TTL, Query, STEADY_TTL};
pub use resolv::{RESOLVER, resolv_conf};
pub use sockets::DnsError;

use forward::Machine;
use server::{Asker, MOST_OPEN_OF_ALL};
use sockets::Redirect;

/// Answers the questions of this node's containers. Copies share everything.
#[derive(Clone, Debug)]
pub struct Resolver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    names: watch::Sender<Arc<Names>>,
    machine: Arc<Machine>,
    redirect: Redirect,
    /// Room for questions that servers outside are asked.
    open: Arc<Semaphore>,
    /// What ends each container's service.
    attached: Mutex<BTreeMap<ContainerId, CancellationToken>>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Resolver {
    /// A resolver that knows no names yet and serves nobody. All of its work ends with `stop`. `redirect` sends port 53
    /// of a namespace to two ports (UDP, TCP), and `resolv_conf` lists the machine's own servers.
    pub fn with<E: Into<Box<dyn Error + Send + Sync>>>(
        redirect: impl Fn(u16, u16) -> Result<(), E> + Send + Sync + 'static,
        resolv_conf: PathBuf,
        stop: CancellationToken,
        tracker: &TaskTracker,
    ) -> Self {
        let redirect = Redirect::new(redirect);
        Self(Arc::new(Shared {
            names: watch::Sender::new(Arc::default()),
            machine: Arc::new(Machine::new(resolv_conf)),
            redirect,
            open: Arc::new(Semaphore::new(MOST_OPEN_OF_ALL)),
            attached: Mutex::default(),
            stop,
            tracker: tracker.clone(),
        }))
    }

    /// From now on these are the names, for all containers.
    pub fn set(&self, names: Arc<Names>) {
        self.0.names.send_replace(names);
    }

    /// Serves a container whose namespace is at `netns`, until it is detached. It sees the names of its networks, the
    /// first first; for all else `servers` are asked, in order, or the machine's own when there are none. For a
    /// container that is served already it takes the place of that.
    pub async fn attach(
        &self,
        container: ContainerId,
        netns: &Path,
        networks: Vec<NetworkId>,
        servers: Vec<IpAddr>,
    ) -> Result<(), DnsError> {
        let shared = &*self.0;
        let sockets = sockets::open(container, netns, shared.redirect.clone()).await?;
        let machine = shared.machine.clone();
        let (names, open) = (shared.names.subscribe(), shared.open.clone());
        let asker = Asker::new(names, networks, &servers, machine, open);
        let stop = shared.stop.child_token();
        server::serve(sockets, asker, &stop, &shared.tracker).map_err(|source| {
            let path = netns.to_owned();
            DnsError::Listen { path, source }
        })?;
        if let Some(before) = self.attached().insert(container, stop) {
            before.cancel();
        }
        Ok(())
    }

    /// Serves a container no more. Its sockets are closed soon after, so that they do not keep its namespace. Good when
    /// it is not served.
    pub fn detach(&self, container: ContainerId) {
        if let Some(stop) = self.attached().remove(&container) {
            stop.cancel();
        }
    }

    fn attached(&self) -> MutexGuard<'_, BTreeMap<ContainerId, CancellationToken>> {
        let attached = self.0.attached.lock();
        attached.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
