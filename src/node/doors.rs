//! The sockets by which clients reach this node: opened before anything else happens, served until the daemon stops.
//!
//! What cannot be opened ends the start, but for Docker's own place: that is a courtesy, and somebody else may have it.

use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::api::socket::{self, BindError, DOCKER_GROUP, GROUP, Mark, Owner};
use crate::api::tcp::{self, Gate, TcpError, TlsFiles};
use crate::api::{self, Backend};
use crate::config::Config;
use crate::config::doors::{DOCKER_SOCKET, Tcp};

/// Why clients cannot reach this node.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoorError {
    /// A socket cannot be had.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The TCP address cannot be had.
    #[error(transparent)]
    Tcp(#[from] TcpError),
}

/// The open sockets; nobody is served yet.
pub(super) struct Doors {
    /// This node's own, and the one at Docker's place.
    own: Vec<UnixListener>,
    cluster: UnixListener,
    tcp: Option<(TcpListener, Gate)>,
    marks: Vec<Mark>,
}

impl Doors {
    /// Opens what the configuration names.
    pub(super) async fn open(config: &Config) -> Result<Self, DoorError> {
        let named = config.doors.group.clone().map(Owner::Named);
        let owner = |usual: Owner| named.clone().unwrap_or(usual);
        let tcp = match &config.doors.tcp {
            Some(wanted) => Some(tcp_door(wanted).await?),
            None => None,
        };
        let (own, own_mark) = socket::bind(&config.socket(), &owner(GROUP))?;
        let (cluster, cluster_mark) = match socket::bind(&config.cluster_socket(), &owner(GROUP)) {
            Ok(bound) => bound,
            Err(error) => {
                own_mark.remove();
                return Err(error.into());
            }
        };
        let mut doors = Self {
            own: vec![own],
            cluster,
            tcp,
            marks: vec![own_mark, cluster_mark],
        };
        if config.doors.stands_in {
            match socket::bind(Path::new(DOCKER_SOCKET), &owner(DOCKER_GROUP)) {
                Ok((listener, mark)) => {
                    info!(socket = DOCKER_SOCKET, "clients of Docker are served");
                    doors.own.push(listener);
                    doors.marks.push(mark);
                }
                Err(BindError::InUse(_)) => {
                    warn!(
                        socket = DOCKER_SOCKET,
                        "a Docker daemon has its socket, which stays its own"
                    );
                }
                Err(error) => {
                    warn!(socket = DOCKER_SOCKET, error = %super::join::reason(&error), "Docker's socket is not served");
                }
            }
        }
        Ok(doors)
    }

    /// Serves all of them on `tracker` until `stop`. Gives what is to be removed then.
    pub(super) fn serve(
        self,
        backend: Arc<dyn Backend>,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Vec<Mark> {
        let router = api::router(backend.clone());
        let (tasks, stop) = (|| tracker.clone(), || stop.child_token());
        for listener in self.own {
            tracker.spawn(api::serve(listener, router.clone(), tasks(), stop()));
        }
        let whole = api::cluster_router(backend);
        tracker.spawn(api::serve(self.cluster, whole, tasks(), stop()));
        if let Some((listener, gate)) = self.tcp {
            tracker.spawn(tcp::serve(listener, gate, router, tasks(), stop()));
        }
        self.marks
    }
}

async fn tcp_door(wanted: &Tcp) -> Result<(TcpListener, Gate), TcpError> {
    let gate = match &wanted.tls {
        None => Gate::open(),
        Some(paths) => Gate::tls(&TlsFiles {
            ca: paths.ca.clone(),
            cert: paths.cert.clone(),
            key: paths.key.clone(),
        })?,
    };
    let listener = tcp::bind(wanted.addr).await?;
    info!(address = %wanted.addr, tls = wanted.tls.is_some(), "clients are served on TCP");
    Ok((listener, gate))
}
