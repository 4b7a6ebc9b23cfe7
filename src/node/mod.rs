//! The composition root: builds one node out of the rooms and runs it.
//!
//! [`run`] is the whole daemon: sockets, the [`Daemon`](daemon::Daemon) that founds, joins and leaves clusters, and a
//! [`Member`](member::Member) while the node is part of one. Nothing outside this room starts a task of its own accord.

pub mod backend;
pub mod clock;
mod containers;
pub mod content;
pub mod daemon;
pub mod depart;
pub mod distribution;
mod doors;
pub mod duties;
pub mod engine;
pub mod events;
mod execs;
pub mod found;
mod images;
pub mod inbound;
mod input;
pub mod instance;
pub mod join;
pub mod leaders;
pub mod links;
pub mod local;
pub mod machine;
pub mod member;
mod placement;
mod plane;
pub mod rooms;
mod told;
mod volumes;
mod work;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::api;
use crate::cluster::frames::Io;
use crate::config::Config;
use backend::DaemonBackend;
use daemon::Daemon;
use doors::Doors;
use engine::Engine;
use member::Host;

/// Forwarded requests that wait to be served; more are refused at the door.
const FORWARDED_WAITING: usize = 256;

/// A stop takes at most this long, whatever hangs.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// Runs the daemon until SIGTERM or SIGINT. Returns when everything is down.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let _lock = lock(&config.data_root)?;
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    let (forwarded, forwarded_out) = mpsc::channel(FORWARDED_WAITING);
    let engine = Engine::start(config.clone(), tracker.clone(), stop.child_token());
    let host = Host {
        api: forwarded,
        engine,
    };
    let daemon = Daemon::new(config, host, tracker.clone(), stop.child_token());
    let doors = Doors::open(&daemon.config).await?;
    // Before anybody can ask for another membership.
    daemon.resume()?;
    let backend = Arc::new(DaemonBackend::new(
        daemon.clone(),
        tracker.clone(),
        stop.child_token(),
    ));
    let marks = doors.serve(backend.clone(), &tracker, &stop);
    tracker.spawn(serve_forwarded(
        forwarded_out,
        backend,
        tracker.clone(),
        stop.child_token(),
    ));
    let supervision = stop
        .child_token()
        .run_until_cancelled_owned(daemon.clone().supervise());
    tracker.spawn(supervision);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    info!(socket = %daemon.config.socket().display(), version = env!("CARGO_PKG_VERSION"), "ready");

    wait_for_stop().await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    info!("stopping");
    let drain = async {
        daemon.drain().await;
        stop.cancel();
        tracker.close();
        tracker.wait().await;
    };
    if tokio::time::timeout(DRAIN_DEADLINE, drain).await.is_err() {
        warn!(
            tasks = tracker.len(),
            "the stop took too long; what was left is dropped"
        );
    }
    marks.iter().for_each(api::socket::Mark::remove);
    info!("stopped");
    Ok(())
}

async fn wait_for_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Serves API requests that other members forward to this one: as the leader, or for its containers.
async fn serve_forwarded(
    mut streams: mpsc::Receiver<Box<dyn Io>>,
    backend: Arc<DaemonBackend>,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let router = api::forwarded_router(backend);
    while let Some(Some(io)) = stop.run_until_cancelled(streams.recv()).await {
        tracker.spawn(api::serve_connection(
            io,
            router.clone(),
            tracker.clone(),
            stop.child_token(),
        ));
    }
}

/// Takes the data directory for this process alone.
fn lock(data_root: &Path) -> anyhow::Result<Flock<File>> {
    std::fs::create_dir_all(data_root).with_context(|| {
        format!(
            "the data directory {} cannot be made: run as root, or choose another with --data-root",
            data_root.display()
        )
    })?;
    let path = data_root.join("lock");
    let file =
        File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| {
        anyhow::anyhow!(
            "another skein daemon uses {}: stop it, or choose another directory with --data-root",
            data_root.display()
        )
    })
}
