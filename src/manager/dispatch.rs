//! What each node is sent of its tasks, of the secrets and configs that they name, and which sessions have to look again
//! when something changes.
//!
//! [`Dispatch`] is pure and belongs to one session: first all tasks of the node, then what is new, what is wanted more of
//! and what is forgotten, numbered by the version of the state that says so. [`route`] compares states and wakes those
//! sessions alone whose nodes are concerned, so that a change costs what it changes. Nothing here decides about tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imbl::ordmap::DiffItem;
use tokio::sync::Notify;
use tracing::warn;

use super::plane::{Plane, Planner};
use super::term::Term;
use crate::cluster::store::State;
use crate::model::task::ServiceRef;
use crate::model::{
    Dependency, DependencyId, DependencySpec, NodeId, Observed, Task, TaskId, TaskState,
};
use crate::wire::Json;
use crate::wire::assignment::{Assigned, Assignments, Dependencies};
use crate::wire::limits::SESSION_FRAME;
use crate::wire::session::Downward;

/// Bytes of tasks in one message; the rest of the frame is for what is around them.
const MESSAGE: usize = SESSION_FRAME / 2;

/// IDs of forgotten tasks in one message.
const REMOVED: usize = 10_000;

/// What one session has sent of its node's tasks.
#[derive(Debug)]
pub struct Dispatch {
    term: u64,
    node: NodeId,
    /// What was last wanted of each task; `None` before the complete set.
    sent: Option<BTreeMap<TaskId, TaskState>>,
    /// The secrets and configs that the node has.
    held: BTreeSet<DependencyId>,
}

impl Dispatch {
    /// Nothing yet.
    pub fn new(term: u64, node: NodeId) -> Self {
        Self {
            term,
            node,
            sent: None,
            held: BTreeSet::new(),
        }
    }

    /// What is to be sent, in this order; nothing when the node knows all of it.
    pub fn next(&mut self, state: &State, observed: &Observed) -> Vec<Downward> {
        let complete = self.sent.is_none();
        let sent = self.sent.get_or_insert_default();
        let mut now = BTreeMap::new();
        let mut tasks = Vec::new();
        for task in state.work.tasks_on(self.node) {
            if task.status.state < TaskState::Assigned {
                // It has its node, and nobody has said yet that there is room.
                continue;
            }
            if sent.get(&task.id) == Some(&task.desired) {
                now.insert(task.id, task.desired);
                continue;
            }
            if let Some(assigned) = assigned(state, observed, task) {
                now.insert(task.id, task.desired);
                tasks.push(assigned);
            }
        }
        let removed: Vec<TaskId> = sent
            .keys()
            .filter(|id| !now.contains_key(id))
            .copied()
            .collect();
        *sent = now;
        let needed = needed(state, self.node);
        let mut messages = news(state, &needed, &self.held, complete);
        let given_up: Vec<DependencyId> = self.held.difference(&needed).copied().collect();
        self.held = needed;
        let given_up = (!given_up.is_empty()).then(|| {
            Downward::Dependencies(Dependencies {
                removed: given_up,
                ..Dependencies::default()
            })
        });
        if !complete && tasks.is_empty() && removed.is_empty() {
            messages.extend(given_up);
            return messages;
        }
        let message = |complete, tasks, removed| Assignments {
            term: self.term,
            generation: state.version,
            complete,
            tasks,
            removed,
        };
        let mut parts = parts(tasks);
        let last = parts.pop().unwrap_or_default();
        match complete {
            // All of them are one word to the node, however long.
            true => messages.extend(parts.into_iter().map(Downward::More)),
            false => {
                let parts = parts.into_iter();
                let parts = parts.map(|tasks| message(false, tasks, Vec::new()));
                messages.extend(parts.map(Downward::Assignments));
            }
        }
        let mut forgotten = removed.chunks(REMOVED);
        let first = forgotten.next().unwrap_or_default().to_vec();
        messages.push(Downward::Assignments(message(complete, last, first)));
        messages.extend(
            forgotten.map(|ids| Downward::Assignments(message(false, Vec::new(), ids.to_vec()))),
        );
        messages.extend(given_up);
        messages
    }
}

/// The secrets and configs that a node has to have: those that a task of it names which may begin yet, or runs.
fn needed(state: &State, node: NodeId) -> BTreeSet<DependencyId> {
    let tasks = state.work.tasks_on(node);
    let live = tasks.filter(|task| task.is_live() && task.status.state >= TaskState::Assigned);
    // Tasks of one version of a service name the same.
    let versions: BTreeSet<_> = live.map(|task| (task.service, task.spec_version)).collect();
    let templates = versions
        .into_iter()
        .filter_map(|(service, version)| state.work.template(service, version));
    let containers = templates.filter_map(|template| template.task.container_spec.as_ref());
    let named = containers.flat_map(|container| container.dependencies());
    named
        .filter_map(|one| one.id.parse().ok())
        .filter(|id| state.objects.dependencies.contains_key(id))
        .collect()
}

/// What brings a node the secrets and configs that it has not: nothing, when there are none.
fn news(
    state: &State,
    needed: &BTreeSet<DependencyId>,
    held: &BTreeSet<DependencyId>,
    complete: bool,
) -> Vec<Downward> {
    let missing = needed.difference(held);
    let missing = missing.filter_map(|id| state.objects.dependencies.get(id));
    let mut messages: Vec<Dependencies> = Vec::new();
    let mut bytes = usize::MAX;
    for dependency in missing {
        // As base64, which is a third longer, with its name.
        let length = dependency.spec.data.len() / 3 * 4 + (1 << 10);
        if bytes.saturating_add(length) > MESSAGE {
            bytes = 0;
            messages.push(Dependencies {
                complete: complete && messages.is_empty(),
                ..Dependencies::default()
            });
        }
        bytes += length;
        if let Some(message) = messages.last_mut() {
            message.kept.push(Json(for_a_node(dependency)));
        }
    }
    messages.into_iter().map(Downward::Dependencies).collect()
}

/// A secret or config without what only its users read.
fn for_a_node(dependency: &Dependency) -> Dependency {
    Dependency {
        spec: DependencySpec {
            labels: BTreeMap::new(),
            ..dependency.spec.clone()
        },
        ..dependency.clone()
    }
}

/// A task in the words of the session; `None` when it is too long for it.
fn assigned(state: &State, observed: &Observed, task: &Task) -> Option<(usize, Assigned)> {
    let template = state.work.template(task.service, task.spec_version)?;
    let seen = observed.get(&task.id).map(|seen| seen.state);
    let assigned = Assigned {
        task: task.id,
        service: ServiceRef {
            id: task.service,
            name: template.name.clone(),
        },
        service_labels: template.labels.clone(),
        slot: task.slot,
        desired: task.desired,
        observed: task.status.state.max(seen.unwrap_or_default()),
        spec: template.task.clone(),
        generic_resources: task.generic_resources.clone(),
        attachments: task.attachments.clone(),
        log_driver: template.log_driver.clone(),
        registry_auth: template.registry_auth.clone(),
    };
    let mut length = Length(0);
    let written = serde_json::to_writer(&mut length, &assigned);
    if written.is_err() || length.0 > MESSAGE {
        warn!(task = %task.id, bytes = length.0, "a task is too long to be sent");
        return None;
    }
    Some((length.0, assigned))
}

/// Tasks by what fits a message.
fn parts(tasks: Vec<(usize, Assigned)>) -> Vec<Vec<Json<Assigned>>> {
    let mut parts: Vec<Vec<Json<Assigned>>> = Vec::new();
    let mut bytes = usize::MAX;
    for (length, assigned) in tasks {
        if bytes.saturating_add(length) > MESSAGE {
            bytes = 0;
            parts.push(Vec::new());
        }
        bytes += length;
        if let Some(part) = parts.last_mut() {
            part.push(Json(assigned));
        }
    }
    parts
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A session, as others see it.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Something of its node has changed.
    pub(super) wake: Notify,
    heard: AtomicBool,
}

impl Session {
    /// Its node has told of all its tasks, and may be told of them.
    pub(super) fn heard_all(&self) {
        self.heard.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether its node has told of all its tasks.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Acquire)
    }
}

/// The last session of each node in a term.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<BTreeMap<NodeId, Arc<Session>>>);

impl Sessions {
    fn all(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node has a new session, which takes the place of its last.
    pub(super) fn begin(&self, node: NodeId) -> Arc<Session> {
        let session = Arc::new(Session::default());
        self.all().insert(node, session.clone());
        session
    }

    /// A session is over. True when no newer one of its node has begun meanwhile.
    pub(super) fn end(&self, node: NodeId, session: &Arc<Session>) -> bool {
        let mut all = self.all();
        let last = all
            .get(&node)
            .is_some_and(|last| Arc::ptr_eq(last, session));
        if last {
            all.remove(&node);
        }
        last
    }

    fn wake(&self, nodes: impl IntoIterator<Item = NodeId>) {
        let all = self.all();
        for node in nodes {
            if let Some(session) = all.get(&node) {
                session.wake.notify_one();
            }
        }
    }

    fn wake_all(&self) {
        self.all()
            .values()
            .for_each(|session| session.wake.notify_one());
    }
}

/// What sessions tell of: a state, with the intent that is made of it. Whoever is told of a task was told before of what
/// its packets need.
#[derive(Clone, Debug, Default)]
pub(super) struct Routed {
    pub(super) state: Arc<State>,
    pub(super) plane: Plane,
}

/// Publishes what sessions tell of, and wakes those that a change concerns, until the term ends.
pub(super) async fn route(term: Arc<Term>) {
    let mut states = term.context.store.watch();
    let mut planner = Planner::default();
    let mut old = Routed::default();
    let mut is_first = true;
    loop {
        let state = states.borrow_and_update().clone();
        let plane = planner.follow(&state);
        let new = Routed { state, plane };
        term.routed.send_replace(Some(new.clone()));
        let (was, is) = (&old.state, &new.state);
        let concerns_all = was.cluster != is.cluster || was.removed.len() != is.removed.len();
        if is_first || concerns_all || !old.plane.is(&new.plane) {
            term.sessions.wake_all();
        } else {
            term.sessions.wake(concerned(was, is));
        }
        (old, is_first) = (new, false);
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// The nodes for which something has changed between two states.
fn concerned(old: &State, new: &State) -> Vec<NodeId> {
    let mut nodes = Vec::new();
    for item in old.nodes.diff(&new.nodes) {
        nodes.push(match item {
            DiffItem::Add(id, _) | DiffItem::Remove(id, _) => *id,
            DiffItem::Update { new, .. } => *new.0,
        });
    }
    for item in old.work.tasks.diff(&new.work.tasks) {
        let task = match item {
            DiffItem::Add(_, task) | DiffItem::Remove(_, task) => task,
            DiffItem::Update { new, .. } => new.1,
        };
        nodes.extend(task.node);
    }
    nodes
}

#[cfg(test)]
mod tests;
