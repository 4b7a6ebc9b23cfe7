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
use crate::model::service_spec::Mode;
use crate::model::{Node, NodeId, Role, Service, Timestamp};

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
        let Some((kind, action, actor, attributes)) = describe(&event.changed) else {
            return;
        };
        let at = match &event.changed {
            Changed::Node { new: Some(new), .. } => new.meta.updated_at,
            Changed::Service { new: Some(new), .. } => new.meta.updated_at,
            Changed::Dependency { new: Some(new), .. } => new.meta.updated_at,
            Changed::Network { new: Some(new), .. } => new.meta.updated_at,
            Changed::Node { .. }
            | Changed::Service { .. }
            | Changed::Dependency { .. }
            | Changed::Network { .. }
            | Changed::Task { .. }
            | Changed::Cluster { .. } => now,
        };
        self.record(kind, action, actor, attributes, at);
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
            self.record("node", "update", node.to_string(), attributes, at);
        }
    }

    fn record(
        &self,
        kind: &str,
        action: &str,
        actor: String,
        attributes: BTreeMap<String, String>,
        at: Timestamp,
    ) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept
            .back()
            .map_or_else(Timestamp::default, |event| event.time);
        let event = Event {
            kind: kind.into(),
            action: action.into(),
            actor,
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

/// Kind, action, actor and attributes of an event.
type Description = (&'static str, &'static str, String, BTreeMap<String, String>);

/// What Docker tells of a change. Of tasks it tells nothing.
fn describe(change: &Changed) -> Option<Description> {
    match change {
        Changed::Cluster { .. } | Changed::Task { .. } => None,
        Changed::Node { id, old, new } => {
            let (action, attributes) = describe_node(old.as_deref(), new.as_deref())?;
            Some(("node", action, id.to_string(), attributes))
        }
        Changed::Service { id, old, new } => {
            let (action, attributes) = describe_service(old.as_deref(), new.as_deref())?;
            Some(("service", action, id.to_string(), attributes))
        }
        Changed::Dependency { id, old, new } => {
            let one = new.as_ref().or(old.as_ref())?;
            let (action, attributes) = named(&one.spec.name, old.is_some(), new.is_some());
            Some((one.kind.name(), action, id.to_string(), attributes))
        }
        Changed::Network { id, old, new } => {
            let one = new.as_ref().or(old.as_ref())?;
            let (action, attributes) = named(&one.spec.name, old.is_some(), new.is_some());
            Some(("network", action, id.to_string(), attributes))
        }
    }
}

type Told = (&'static str, BTreeMap<String, String>);

/// What is told of an object of which nothing but the name is told.
fn named(name: &str, was: bool, is: bool) -> Told {
    let action = match (was, is) {
        (false, _) => "create",
        (true, true) => "update",
        (true, false) => "remove",
    };
    (
        action,
        BTreeMap::from([("name".to_owned(), name.to_owned())]),
    )
}

fn describe_node(old: Option<&Node>, new: Option<&Node>) -> Option<Told> {
    let name = ("name".to_owned(), new.or(old)?.description.hostname.clone());
    let mut attributes = BTreeMap::from([name]);
    let (Some(old), Some(new)) = (old, new) else {
        let action = if new.is_some() { "create" } else { "remove" };
        return Some((action, attributes));
    };
    let (before, after) = (&old.spec.availability, &new.spec.availability);
    if before != after {
        attributes.insert("availability.old".into(), word(before));
        attributes.insert("availability.new".into(), word(after));
    }
    if old.role != new.role {
        attributes.insert("role.old".into(), word::<Role>(&old.role));
        attributes.insert("role.new".into(), word::<Role>(&new.role));
    }
    Some(("update", attributes))
}

/// What Docker tells of a service. One that is removed is gone for its users from then on, though its tasks still end.
fn describe_service(old: Option<&Service>, new: Option<&Service>) -> Option<Told> {
    let name = ("name".to_owned(), new.or(old)?.spec.name.clone());
    let mut attributes = BTreeMap::from([name]);
    let there = |service: &&Service| !service.removed;
    let (old, new) = match (old.filter(there), new.filter(there)) {
        (None, None) => return None,
        (None, Some(_)) => return Some(("create", attributes)),
        (Some(_), None) => return Some(("remove", attributes)),
        (Some(old), Some(new)) => (old, new),
    };
    let mut tell = |what: &str, before: String, after: String| {
        if before != after {
            attributes.insert(format!("{what}.old"), before);
            attributes.insert(format!("{what}.new"), after);
        }
    };
    let replicas = |service: &Service| match service.spec.mode.read() {
        Mode::Replicated { replicas } => replicas.to_string(),
        Mode::Global | Mode::GlobalJob | Mode::ReplicatedJob { .. } => String::new(),
    };
    tell("replicas", replicas(old), replicas(new));
    let image = |service: &Service| {
        let container = service.spec.task_template.container_spec.as_ref();
        container.map_or_else(String::new, |container| container.image.clone())
    };
    tell("image", image(old), image(new));
    let update = |service: &Service| {
        let update = service.update.as_ref();
        update.map_or_else(String::new, |update| word(&update.state))
    };
    tell("updatestate", update(old), update(new));
    Some(("update", attributes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::ServiceSpec;
    use crate::model::service::{UpdateState, UpdateStatus};

    fn service(replicas: u64, image: &str) -> Service {
        let spec = json!({
            "Name": "web",
            "TaskTemplate": {"ContainerSpec": {"Image": image}},
            "Mode": {"Replicated": {"Replicas": replicas}},
        });
        Service {
            spec: serde_json::from_value::<ServiceSpec>(spec).unwrap(),
            ..Service::default()
        }
    }

    #[track_caller]
    fn check(old: Option<&Service>, new: Option<&Service>, action: &str, told: &[(&str, &str)]) {
        let (found, attributes) = describe_service(old, new).unwrap();
        assert_eq!(found, action);
        let told = told.iter().chain(&[("name", "web")]);
        let told: BTreeMap<String, String> = told
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(attributes, told);
    }

    #[test]
    fn a_service_is_told_of_as_its_users_see_it() {
        let (old, new) = (service(1, "a"), service(3, "b"));
        let removed = Service {
            removed: true,
            ..new.clone()
        };
        check(None, Some(&old), "create", &[]);
        check(Some(&old), Some(&old), "update", &[]);
        let changes = [
            ("replicas.old", "1"),
            ("replicas.new", "3"),
            ("image.old", "a"),
            ("image.new", "b"),
        ];
        check(Some(&old), Some(&new), "update", &changes);
        check(Some(&new), Some(&removed), "remove", &[]);
        assert_eq!(describe_service(Some(&removed), Some(&removed)), None);
        assert_eq!(describe_service(Some(&removed), None), None);
    }

    #[test]
    fn secrets_configs_and_networks_are_told_of_by_name() {
        use crate::model::{Dependency, DependencyId, DependencyKind, Network, NetworkId};
        let mut one = Dependency {
            kind: DependencyKind::Config,
            ..Dependency::default()
        };
        one.spec.name = "site".into();
        let one = Some(Arc::new(one));
        let mut network = Network::default();
        network.spec.name = "net".into();
        let dependency = |old, new| Changed::Dependency {
            id: DependencyId::from_bits(1),
            old,
            new,
        };
        let gone = Changed::Network {
            id: NetworkId::from_bits(1),
            old: Some(Arc::new(network)),
            new: None,
        };
        for (changed, kind, action, name) in [
            (dependency(None, one.clone()), "config", "create", "site"),
            (dependency(one.clone(), one), "config", "update", "site"),
            (gone, "network", "remove", "net"),
        ] {
            let (found, did, actor, attributes) = describe(&changed).unwrap();
            assert_eq!((found, did, actor.len()), (kind, action, 25));
            assert_eq!(attributes["name"], name);
        }
    }

    #[test]
    fn how_an_update_goes_is_told() {
        let old = service(1, "a");
        let update = Some(UpdateStatus {
            state: UpdateState::RollbackStarted,
            ..UpdateStatus::default()
        });
        let new = Service {
            update,
            ..old.clone()
        };
        let changes = [
            ("updatestate.old", ""),
            ("updatestate.new", "rollback_started"),
        ];
        check(Some(&old), Some(&new), "update", &changes);
    }
}
