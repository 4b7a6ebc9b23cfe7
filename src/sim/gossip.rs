//! Gossip and the failure detector, simulated: facts and heartbeats travel where the network lets them, from node to
//! node, and verdicts follow the truth late and sometimes wrongly.
//!
//! It takes chitchat's place, whose choice of peers cannot be replayed, and gives each node its
//! [`Peers`], which is all that the other rooms see of membership.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::dice::Dice;
use super::network::Network;
use super::node::Node;
use crate::cluster::membership::{Liveness, PeerView, Peers};
use crate::model::{NodeFacts, NodeId};

/// Between two rounds.
const ROUND: Duration = Duration::from_millis(100);

/// Nodes that each node gossips with in a round.
const PARTNERS: usize = 2;

/// A node that was silent for a time between these, and does not answer, is dead.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(1200), Duration::from_millis(2300));

/// A node that was heard of so short a time ago is alive.
const FRESH: Duration = Duration::from_millis(350);

/// What one node has heard of another.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    facts: NodeFacts,
    generation: u64,
    heartbeat: u64,
    /// When the heartbeat last rose here.
    rose: Instant,
    liveness: Liveness,
    since: Instant,
    /// A verdict by mistake stands until then.
    mistaken_until: Option<Instant>,
}

/// What one node has heard of all others, and its own heartbeat.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    heard: BTreeMap<NodeId, Heard>,
    heartbeat: u64,
}

/// One round after another, for as long as the simulation runs. So many of one verdicts are `mistakes`.
pub(super) async fn run(
    network: Network,
    dice: Dice,
    mistakes: Arc<dyn Fn() -> f64 + Send + Sync>,
) {
    loop {
        sleep(ROUND).await;
        let awake: Vec<Arc<Node>> = network
            .up()
            .into_iter()
            .filter(|node| !network.is_paused(node.life.node))
            .collect();
        for node in &awake {
            node.with_view(|view| view.heartbeat += 1);
        }
        for node in &awake {
            let reached: Vec<Arc<Node>> = awake
                .iter()
                .filter(|other| network.passes(node.life.node, other.life.node))
                .filter(|other| other.life.node != node.life.node)
                .filter(|other| !node.shuts_out(other.life.node))
                .cloned()
                .collect();
            for _ in 0..PARTNERS {
                match dice.pick(&reached) {
                    Some(partner) if partner.shuts_out(node.life.node) => {
                        node.was_refused(&partner);
                    }
                    Some(partner) => exchange(node, &partner),
                    None => {}
                }
            }
        }
        for node in network.up() {
            match network.is_paused(node.life.node) {
                true => node.with_view(View::skip_round),
                false => judge(&network, &dice, &node, mistakes()),
            }
        }
    }
}

/// What a node can tell: of itself, and what it has heard.
fn told(node: &Node) -> Vec<(NodeId, u64, u64, NodeFacts)> {
    let facts = node.facts();
    node.with_view(|view| {
        let own = (node.life.node, node.life.count, view.heartbeat, facts);
        let heard = view
            .heard
            .iter()
            .map(|(id, heard)| (*id, heard.generation, heard.heartbeat, heard.facts.clone()));
        heard.chain([own]).collect()
    })
}

fn exchange(one: &Node, other: &Node) {
    let (ones, others) = (told(one), told(other));
    hear(one, others);
    hear(other, ones);
}

fn hear(node: &Node, told: Vec<(NodeId, u64, u64, NodeFacts)>) {
    let now = Instant::now();
    for (id, generation, heartbeat, facts) in told {
        if id == node.life.node || node.shuts_out(id) {
            continue;
        }
        let fresh = Heard {
            facts: facts.clone(),
            generation,
            heartbeat,
            rose: now,
            liveness: Liveness::Alive,
            since: now,
            mistaken_until: None,
        };
        node.with_view(|view| {
            let known = view.heard.entry(id).or_insert_with(|| fresh.clone());
            if generation > known.generation {
                *known = fresh;
            } else if generation == known.generation && heartbeat > known.heartbeat {
                known.heartbeat = heartbeat;
                known.facts = facts;
                known.rose = now;
            }
        });
    }
}

fn judge(network: &Network, dice: &Dice, node: &Node, mistakes: f64) {
    let now = Instant::now();
    let me = node.life.node;
    node.with_view(|view| {
        view.heard.retain(|id, _| !node.shuts_out(*id));
        for (id, heard) in &mut view.heard {
            let silent = now.saturating_duration_since(heard.rose);
            let verdict = match heard.liveness {
                Liveness::Alive if mistakes > 0.0 && dice.chance(mistakes) => {
                    heard.mistaken_until = Some(now + dice.millis(100, 1500));
                    Liveness::Dead
                }
                Liveness::Alive => {
                    let gone = silent > dice.span(PATIENCE.0, PATIENCE.1);
                    match gone && !network.reaches(me, *id) {
                        true => Liveness::Dead,
                        false => Liveness::Alive,
                    }
                }
                Liveness::Dead => {
                    let mistaken = heard.mistaken_until.is_some_and(|until| now < until);
                    match silent < FRESH && !mistaken {
                        true => Liveness::Alive,
                        false => Liveness::Dead,
                    }
                }
            };
            if verdict != heard.liveness {
                heard.liveness = verdict;
                heard.since = now;
            }
        }
    });
    publish(node);
}

fn publish(node: &Node) {
    let facts = node.facts();
    let peers = node.with_view(|view| {
        let own = PeerView {
            facts: Arc::new(facts),
            generation: node.life.count,
            liveness: Liveness::Alive,
            since: node.began,
        };
        let seen = view.heard.iter().map(|(id, heard)| {
            let view = PeerView {
                facts: Arc::new(heard.facts.clone()),
                generation: heard.generation,
                liveness: heard.liveness,
                since: heard.since,
            };
            (*id, view)
        });
        Peers {
            nodes: seen.chain([(node.life.node, own)]).collect(),
        }
    });
    node.peers.send_if_modified(|shown| {
        let changed = **shown != peers;
        if changed {
            *shown = Arc::new(peers);
        }
        changed
    });
}

impl View {
    /// A node that stood still holds the round against nobody.
    fn skip_round(&mut self) {
        for heard in self.heard.values_mut() {
            heard.rose += ROUND;
        }
    }
}
