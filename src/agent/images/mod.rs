//! Images: what tasks run, fetched once for the whole cluster and kept in containerd.
//!
//! [`Images`] is the handle. It pulls from registries and peers, loads and saves archives, and answers what is here.
//! Each node serves what it holds to the others by digest, so that one download, or one `docker load`, is enough for
//! all. Nothing here runs a container; who uses an image is told by the caller.
//!
//! ```text
//! name ──registry or peer──► index ──platform──► manifest ──► config, layers ──unpack──► chain of snapshots
//! ```
//!
//! The parts are pure but for `containerd` (the stores), `registry` (HTTP), `source`, `fetch`, `pull`, `load`,
//! `save` and `push`, which move bytes.

mod archive;
pub mod auth;
mod busy;
pub mod chain;
pub mod claims;
pub mod config;
pub mod containerd;
pub mod describe;
pub mod error;
mod fetch;
mod load;
pub mod local;
pub mod manifest;
pub mod names;
pub mod peers;
pub mod platform;
pub mod progress;
pub mod prune;
pub mod pull;
pub mod push;
mod reach;
mod registry;
pub mod sample;
mod save;
mod serve;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

pub use crate::model::reference::{self, Reference};
use crate::model::{Digest, Timestamp};
pub use auth::RegistryAuth;
pub use containerd::{ConnectError, StoreError};
pub use describe::Described;
pub use error::{ImageError, LoadError, PullError};
pub use local::LocalImage;
pub use names::{InUse, Removed, User};
pub use peers::{NoPeers, PeerContent, Peers};
pub use platform::Platform;
pub use progress::{Progress, Step, Update};
pub use prune::{Disk, PruneFilters, Pruned};
pub use pull::Pulled;
pub use push::{PushError, Pushed};

use busy::Busy;
use claims::Claims;
use containerd::Containerd;
use local::Facts;
use reach::Reach;
use registry::Registries;

/// What the image room needs to know.
#[derive(Clone, Debug)]
pub struct ImagesSettings {
    /// containerd's socket.
    pub address: PathBuf,
    /// This node's own namespace in it.
    pub namespace: String,
    /// What unpacks layers, `overlayfs`.
    pub snapshotter: String,
    /// A directory for archives while they are read; made when it is missing.
    pub scratch: PathBuf,
    /// Registries that may speak plain HTTP or have any certificate, `host[:port]`; those on loopback always may.
    pub insecure_registries: Vec<String>,
    /// Tells the time.
    pub clock: fn() -> Timestamp,
}

/// The images of this node. Clones are handles to the same.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    store: Containerd,
    registries: Registries,
    peers: Arc<dyn Peers>,
    claims: Mutex<Claims>,
    busy: Busy,
    reach: Reach,
    places: Arc<Semaphore>,
    lookups: Semaphore,
    scratch: PathBuf,
    clock: fn() -> Timestamp,
    facts: Mutex<BTreeMap<Digest, Arc<Facts>>>,
    /// Names with a digest whose pull came to its end in this life: nothing of them is left to do.
    settled: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Images({:?})", self.0.store)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inner({:?})", self.store)
    }
}

impl Images {
    /// Connects to containerd.
    pub async fn connect(
        settings: ImagesSettings,
        peers: Arc<dyn Peers>,
    ) -> Result<Self, ConnectError> {
        let store = Containerd::connect(
            &settings.address,
            &settings.namespace,
            &settings.snapshotter,
        )
        .await?;
        Ok(Self(Arc::new(Inner {
            store,
            registries: Registries::new(settings.insecure_registries),
            peers,
            claims: Mutex::default(),
            busy: Busy::default(),
            reach: Reach::default(),
            places: Arc::new(Semaphore::new(pull::LAYERS_AT_ONCE)),
            lookups: Semaphore::new(local::LOOKUPS_AT_ONCE),
            scratch: settings.scratch,
            clock: settings.clock,
            facts: Mutex::default(),
            settled: Mutex::default(),
        })))
    }
}
