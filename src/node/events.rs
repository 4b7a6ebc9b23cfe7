//! Swarm events: each applied change and each change of a node's status, kept for a while and passed on.
//!
//! Every replica records the changes that it applies, so that an event survives its leader; status changes are the
//! leader's alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::api::backend::Event;
use crate::cluster::store::{Changed, StateEvent};
use crate::manager::term::Statuses;
use crate::model::{Node, NodeId, Role, Timestamp};

/// Events kept for those who ask what was; dockerd keeps as many.
const KEPT: usize = 256;

/// The recorder of one node.
#[derive(Clone, Debug)]
pub struct Events {
    kept: Arc<Mutex<VecDeque<Event>>>,
    live: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            kept: Arc::default(),
            live: broadcast::channel(KEPT).0,
        }
    }
}

impl Events {
    /// The kept events at or after `since`, and those to come.
    pub fn subscribe(&self, since: Option<Timestamp>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        let past = since.map_or_else(Vec::new, |since| {
            kept.iter()
                .filter(|event| event.time >= since)
                .cloned()
                .collect()
        });
        (past, live)
    }

    /// Records a change of the store, at the time that the leader gave it, else `now`.
    pub fn applied(&self, event: &StateEvent, now: Timestamp) {
        let Some((action, actor, attributes)) = describe(&event.changed) else {
            return;
        };
        let at = match &event.changed {
            Changed::Node { new: Some(new), .. } => new.meta.updated_at,
            Changed::Node { new: None, .. } | Changed::Cluster { .. } => now,
        };
        self.record(action, actor, attributes, at);
    }

    /// Records what has changed between two looks at all nodes.
    pub fn statuses(
        &self,
        before: &Statuses,
        after: &Statuses,
        names: &dyn Fn(NodeId) -> String,
        at: Timestamp,
    ) {
        for (node, status) in after.iter() {
            let old = before.get(node).map(|old| old.state);
            let Some(old) = old.filter(|old| *old != status.state) else {
                continue;
            };
            let attributes = BTreeMap::from([
                ("name".to_owned(), names(*node)),
                ("state.old".to_owned(), word(&old)),
                ("state.new".to_owned(), word(&status.state)),
            ]);
            self.record("update", *node, attributes, at);
        }
    }

    fn record(
        &self,
        action: &str,
        actor: NodeId,
        attributes: BTreeMap<String, String>,
        at: Timestamp,
    ) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept
            .back()
            .map_or_else(Timestamp::default, |event| event.time);
        let event = Event {
            kind: "node".into(),
            action: action.into(),
            actor: actor.to_string(),
            attributes,
            time: at.max(Timestamp::from_nanos(last.nanos() + 1)),
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Nobody listening is no failure.
        let _ = self.live.send(event);
    }
}

/// An enum's name as the API writes it.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

type Description = (&'static str, NodeId, BTreeMap<String, String>);

fn describe(change: &Changed) -> Option<Description> {
    let name = |node: &Node| ("name".to_owned(), node.description.hostname.clone());
    match change {
        Changed::Cluster { .. }
        | Changed::Node {
            old: None,
            new: None,
            ..
        } => None,
        Changed::Node {
            old: None,
            new: Some(new),
            ..
        } => Some(("create", new.id, BTreeMap::from([name(new)]))),
        Changed::Node {
            old: Some(old),
            new: None,
            ..
        } => Some(("remove", old.id, BTreeMap::from([name(old)]))),
        Changed::Node {
            old: Some(old),
            new: Some(new),
            ..
        } => {
            let mut attributes = BTreeMap::from([name(new)]);
            let (before, after) = (&old.spec.availability, &new.spec.availability);
            if before != after {
                attributes.insert("availability.old".into(), word(before));
                attributes.insert("availability.new".into(), word(after));
            }
            if old.role != new.role {
                attributes.insert("role.old".into(), word::<Role>(&old.role));
                attributes.insert("role.new".into(), word::<Role>(&new.role));
            }
            Some(("update", new.id, attributes))
        }
    }
}
