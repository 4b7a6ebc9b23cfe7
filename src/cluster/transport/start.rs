//! Start and end of a transport, and the change of its credentials while it runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::codes::CloseCode;
use super::endpoint::{Configs, listen};
use super::hub::{Hub, HubParts};
use super::limits::{EVENTS, INBOUND_GOSSIP, INBOUND_JOINS, INBOUND_STREAMS, Tuning};
use super::stats::WireCounters;
use super::{Inbound, StartError, Transport, TransportConfig, accept, socket};
use crate::identity::{Credentials, RemovedNodes};

/// How long the last packets to peers may take before the port is freed regardless.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Builds and starts a transport.
pub(super) fn start(
    config: TransportConfig,
    tuning: Tuning,
    mut credentials: watch::Receiver<Arc<Credentials>>,
    removed: RemovedNodes,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(Transport, Inbound), StartError> {
    let current = Arc::clone(&credentials.borrow_and_update());
    let configs = Configs::new(&current, &removed, &tuning)?;
    let open_failed = |source| StartError::Socket {
        addr: config.listen,
        source,
    };
    let socket = socket::open(config.listen)?;
    let local: SocketAddr = socket.local_addr().map_err(open_failed)?;
    let wire = Arc::new(WireCounters::default());
    let (endpoint, port) =
        listen(socket, &current, configs.server, Arc::clone(&wire)).map_err(open_failed)?;
    let (streams, inbound_streams) = mpsc::channel(INBOUND_STREAMS);
    let (gossip, inbound_gossip) = mpsc::channel(INBOUND_GOSSIP);
    let (joins, inbound_joins) = mpsc::channel(INBOUND_JOINS);
    let (events, _) = broadcast::channel(EVENTS);
    let hub = Arc::new(Hub::new(HubParts {
        own: current.node(),
        instance: config.instance,
        tuning,
        removed,
        port,
        local,
        wire,
        tasks: tasks.clone(),
        stop: stop.child_token(),
        streams,
        gossip,
        joins,
        events,
        endpoint,
        client: configs.client,
        advertised: config.advertise,
    }));
    let (goodbye, words) = watch::channel(String::new());
    let (say_closed, closed) = watch::channel(false);
    tasks.spawn(accept::run(Arc::clone(&hub)));
    tasks.spawn(follow(Arc::clone(&hub), credentials));
    tasks.spawn(end(Arc::clone(&hub), words, say_closed));
    info!(node = %hub.own, addr = %local, "transport listens");
    let inbound = Inbound {
        streams: inbound_streams,
        gossip: inbound_gossip,
        joins: inbound_joins,
    };
    let transport = Transport {
        hub,
        closed,
        goodbye,
    };
    Ok((transport, inbound))
}

/// Uses each new set of credentials for the connections that are made from then on.
async fn follow(hub: Arc<Hub>, mut credentials: watch::Receiver<Arc<Credentials>>) {
    loop {
        tokio::select! {
            biased;
            () = hub.stop.cancelled() => return,
            changed = credentials.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let current = Arc::clone(&credentials.borrow_and_update());
        if current.node() != hub.own {
            error!(ours = %hub.own, theirs = %current.node(),
                "new credentials are another node's and are not used: restart the node to change its identity");
            continue;
        }
        match Configs::new(&current, &hub.removed, &hub.tuning) {
            Ok(configs) => {
                if let Some(endpoint) = hub.endpoint() {
                    endpoint.set_server_config(Some(configs.server));
                }
                hub.change_client(configs.client);
                info!(not_after = %current.not_after(), "new credentials are used");
            }
            Err(problem) => {
                let problem = &problem as &dyn std::error::Error;
                error!(problem, "new credentials cannot be used; the old ones stay");
            }
        }
    }
}

/// Waits for the end, says goodbye and frees the port.
async fn end(hub: Arc<Hub>, words: watch::Receiver<String>, closed: watch::Sender<bool>) {
    hub.stop.cancelled().await;
    let why = match words.borrow().as_str() {
        "" => "the node is stopping".to_owned(),
        why => why.to_owned(),
    };
    if let Some(endpoint) = hub.take_endpoint() {
        endpoint.close(CloseCode::Stopping.on_wire(), why.as_bytes());
        // Peers that are gone do not confirm, and need no longer be waited for.
        let _ = timeout(LAST_WORDS, endpoint.wait_idle()).await;
    }
    hub.port.release();
    info!(node = %hub.own, %why, "transport closed");
    closed.send_replace(true);
}
