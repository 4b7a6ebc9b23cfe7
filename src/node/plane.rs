//! Between the data plane and the cluster: what the leader wants and what others gossip goes in, and what takes traffic
//! here goes out. Runs for as long as the membership; the plane outlives it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::warn;

use super::member::Member;
use crate::agent::network::buckets::Buckets;
use crate::agent::network::plane::Plane;
use crate::cluster::membership::{Liveness, PeerView};
use crate::model::NodeId;
use crate::model::facts::Phase;
use crate::model::plane::{Endpoint, PlaneUpdate};

/// A node that said it would be back in a moment, and is silent, takes traffic for so long.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Whether such a node is back is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Updates of the leader's that wait until they are looked at.
pub(super) const UPDATES: usize = 16;

/// Carries all of it, until the membership ends.
pub(super) async fn follow(
    member: Arc<Member>,
    planes: watch::Receiver<Option<Plane>>,
    updates: mpsc::Receiver<PlaneUpdate>,
) {
    let (for_peers, for_endpoints) = (planes.clone(), planes.clone());
    tokio::join!(
        follow_leader(planes, updates),
        follow_peers(&member, for_peers),
        tell_endpoints(&member, for_endpoints),
    );
}

/// What the leader wants. Nobody who tells of it ever waits for the plane.
async fn follow_leader(
    mut planes: watch::Receiver<Option<Plane>>,
    mut updates: mpsc::Receiver<PlaneUpdate>,
) {
    let mut kept: Option<PlaneUpdate> = None;
    let plane = loop {
        tokio::select! {
            update = updates.recv() => match (update, &mut kept) {
                (None, _) => return,
                (Some(update), Some(kept)) => kept.and_then(update),
                (Some(update), None) => kept = Some(update),
            },
            there = there(&mut planes) => match there {
                Some(plane) => break plane,
                None => return,
            },
        }
    };
    if let Some(update) = kept {
        plane.intend(update);
    }
    while let Some(update) = updates.recv().await {
        plane.intend(update);
    }
}

/// The plane, once there is one; `None` when there will be none.
async fn there(planes: &mut watch::Receiver<Option<Plane>>) -> Option<Plane> {
    planes.wait_for(Option::is_some).await.ok()?.clone()
}

/// Who is there, and what takes traffic there.
async fn follow_peers(member: &Member, mut planes: watch::Receiver<Option<Plane>>) {
    let Some(plane) = there(&mut planes).await else {
        return;
    };
    let mut peers = member.membership.peers();
    loop {
        let now = peers.borrow_and_update().clone();
        let others = now.nodes.iter().filter(|(node, _)| **node != member.node);
        let seen: BTreeMap<NodeId, (IpAddr, bool, Option<Vec<Endpoint>>)> = others
            .filter_map(|(node, peer)| {
                let addr = peer.facts.addresses.first()?.ip();
                Some((
                    *node,
                    (addr, takes_traffic(peer), peer.facts.endpoints.clone()),
                ))
            })
            .collect();
        plane.see(seen);
        let away = now.nodes.values().any(is_away);
        let changed = match away {
            true => timeout(LOOK_EVERY, peers.changed()).await,
            false => Ok(peers.changed().await),
        };
        if matches!(changed, Ok(Err(_))) {
            return;
        }
    }
}

/// It has said that it would be back, and is not yet.
fn is_away(peer: &PeerView) -> bool {
    peer.liveness == Liveness::Dead
        && peer.facts.phase == Phase::Restarting
        && peer.since.elapsed() < BACK_WITHIN
}

fn takes_traffic(peer: &PeerView) -> bool {
    peer.facts.phase != Phase::Left && (peer.liveness == Liveness::Alive || is_away(peer))
}

/// What takes traffic here.
async fn tell_endpoints(member: &Member, mut planes: watch::Receiver<Option<Plane>>) {
    let Some(plane) = there(&mut planes).await else {
        return;
    };
    let mut serving = plane.serving();
    let mut buckets = Buckets::default();
    loop {
        let (version, endpoints) = serving.borrow_and_update().clone();
        let (values, homeless) = buckets.say(&endpoints);
        if !homeless.is_empty() {
            warn!(
                tasks = homeless.len(),
                "this node has more tasks than it can tell of; these take no traffic from others"
            );
        }
        for (key, value) in values {
            member.membership.publish(key, value).await;
        }
        member.membership.tell_all().await;
        plane.was_told(version);
        if serving.changed().await.is_err() {
            return;
        }
    }
}
