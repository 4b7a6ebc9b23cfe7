//! A cluster on a bed whose daemons are killed, paused and watched directly, without a script in the way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::bed::Bed;
use crate::client::Client;
use crate::view::NodeView;
use crate::wait::{self, secs};
use crate::watch::{self, until};

/// A cluster that cannot settle within this has a fault that no figure may hide.
const SETTLE_DEADLINE: Duration = secs(90);

/// A write that is not taken within this is given up.
const WRITE_DEADLINE: Duration = secs(60);

/// Between two new requests to each survivor.
const ATTEMPT_EVERY: Duration = Duration::from_millis(20);

/// The hosts, and which of their daemons run.
pub(crate) struct Fleet {
    pub(crate) bed: Bed,
    pub(crate) runtime: Runtime,
    alive: BTreeMap<usize, Peer>,
}

/// A daemon that runs.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) host: usize,
    pub(crate) node: String,
    pub(crate) pid: i32,
}

impl Fleet {
    /// As many hosts in one cluster, settled.
    pub(crate) fn up(count: usize) -> Result<Self, String> {
        let bed = Bed::up(count).ok_or("no hosts can be made here; standard error says why")?;
        let mut fleet = Self {
            bed,
            runtime: runtime()?,
            alive: BTreeMap::new(),
        };
        (1..=count).for_each(|host| fleet.enlist(host));
        fleet.settle()?;
        Ok(fleet)
    }

    /// Learns what a running daemon is called.
    pub(crate) fn enlist(&mut self, host: usize) {
        let pid = self.bed.script(&["pid", &host.to_string()]).ok();
        let node = self.bed.local(host)["NodeID"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let pid = pid.parse().unwrap_or_default();
        self.alive.insert(host, Peer { host, node, pid });
    }

    /// The daemons that run.
    pub(crate) fn alive(&self) -> Vec<Peer> {
        self.alive.values().cloned().collect()
    }

    /// All but one of them.
    pub(crate) fn others(&self, host: usize) -> Vec<Peer> {
        let others = self.alive.values().filter(|peer| peer.host != host);
        others.cloned().collect()
    }

    pub(crate) fn peer(&self, host: usize) -> Result<Peer, String> {
        let peer = self.alive.get(&host).cloned();
        peer.ok_or_else(|| format!("host {host} is not running"))
    }

    pub(crate) fn client(&self, host: usize) -> Client {
        Client::new(&self.bed.socket(host))
    }

    /// The host of the leader.
    pub(crate) fn leader(&self) -> usize {
        self.bed
            .leader(&self.alive.keys().copied().collect::<Vec<_>>())
    }

    /// Kills a daemon at once, and returns the moment before.
    pub(crate) fn kill(&mut self, host: usize) -> Result<Instant, String> {
        let peer = self.peer(host)?;
        let moment = Instant::now();
        signal(&peer, Signal::SIGKILL)?;
        self.alive.remove(&host);
        Ok(moment)
    }

    /// Starts the daemon of a host again.
    pub(crate) fn start(&mut self, host: usize) {
        let note = self.bed.folder(host).join("exit");
        wait::eventually(secs(10), "the daemon has ended", || {
            note.exists().then_some(()).ok_or_else(|| "it runs".into())
        });
        self.bed.act("start", host);
        self.enlist(host);
    }

    /// Waits until all that run are Ready, hear each other, and have as many managers as they should, all of which
    /// answer.
    pub(crate) fn settle(&self) -> Result<(), String> {
        let pause = Duration::from_millis(100);
        self.runtime.block_on(watch::eventually(
            SETTLE_DEADLINE,
            pause,
            "the cluster has settled",
            async || self.is_settled().await,
        ))
    }

    async fn is_settled(&self) -> Result<(), String> {
        let Some(first) = self.alive.keys().next() else {
            return Err("nobody runs".into());
        };
        let nodes = nodes(&mut self.client(*first)).await?;
        let alive: BTreeSet<&str> = self.alive.values().map(|peer| peer.node.as_str()).collect();
        let ready = nodes.iter().filter(|node| node.is_ready());
        let ready: BTreeSet<&str> = ready.map(NodeView::id).collect();
        if ready != alive {
            return Err(format!("{} of {} are Ready", ready.len(), alive.len()));
        }
        let managers = nodes.iter().filter(|node| node.is_manager()).count();
        let reachable = nodes
            .iter()
            .filter(|node| node.is_reachable_manager())
            .count();
        let wanted = match alive.len() {
            0..=2 => 1,
            3..=4 => 3,
            _ => 5,
        };
        if (managers, reachable) != (wanted, wanted) {
            return Err(format!(
                "{managers} managers, {reachable} of them reachable"
            ));
        }
        let seen = self.alive.keys().map(|host| async move {
            let status = self.client(*host).get("/skein/status").await?;
            Ok::<_, String>((host, living(&status)))
        });
        for seen in join_all(seen).await {
            let (host, living) = seen?;
            if !alive.iter().all(|node| living.contains(*node)) {
                return Err(format!(
                    "host {host} hears {} of {}",
                    living.len(),
                    alive.len()
                ));
            }
        }
        Ok(())
    }

    /// Tries a write with a new request to each host every 20 ms until the first is acknowledged. `node` is the one
    /// that is written to. Returns the time from `since` until then.
    pub(crate) async fn first_write(
        &self,
        hosts: &[Peer],
        node: &str,
        label: &str,
        since: Instant,
    ) -> Result<Duration, String> {
        let mut attempts = JoinSet::new();
        let (mut next, mut last) = (Instant::now(), String::from("nothing was said"));
        while since.elapsed() < WRITE_DEADLINE {
            tokio::select! {
                biased;
                Some(attempt) = attempts.join_next() => match attempt {
                    Ok(Ok(())) => return Ok(since.elapsed()),
                    Ok(Err(reason)) => last = reason,
                    Err(error) => last = error.to_string(),
                },
                () = until(next) => {
                    for peer in hosts {
                        let mut client = self.client(peer.host);
                        let (node, label) = (node.to_owned(), label.to_owned());
                        attempts.spawn(async move { client.label(&node, &label).await });
                    }
                    next += ATTEMPT_EVERY;
                }
            }
        }
        Err(format!(
            "no write was accepted in {WRITE_DEADLINE:?}: {last}"
        ))
    }
}

/// Sends a signal to a daemon.
pub(crate) fn signal(peer: &Peer, signal: Signal) -> Result<(), String> {
    kill(Pid::from_raw(peer.pid), signal)
        .map_err(|error| format!("{signal} to the daemon of host {}: {error}", peer.host))
}

/// The runtime in which a measurement asks.
pub(crate) fn runtime() -> Result<Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}

/// The cluster's nodes.
pub(crate) async fn nodes(client: &mut Client) -> Result<Vec<NodeView>, String> {
    match client.get("/nodes").await? {
        Value::Array(nodes) => Ok(nodes.into_iter().map(NodeView).collect()),
        other => Err(format!("no list: {other}")),
    }
}

/// The nodes that a `/skein/status` holds for alive.
pub(crate) fn living(status: &Value) -> BTreeSet<String> {
    peers(status)
        .filter(|(_, alive)| *alive)
        .map(|(node, _)| node)
        .collect()
}

/// All that a `/skein/status` knows, and whether it holds them for alive.
pub(crate) fn peers(status: &Value) -> impl Iterator<Item = (String, bool)> {
    let peers = status["Peers"].as_array().into_iter().flatten();
    peers.map(|peer| {
        let node = peer["ID"].as_str().unwrap_or_default().to_owned();
        (node, peer["Alive"] == true)
    })
}
