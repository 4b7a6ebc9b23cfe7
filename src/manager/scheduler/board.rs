//! What the scheduler knows of nodes and tasks: counts and orders that the state itself does not hold.
//!
//! A [`Board`] is made of a view once a term and then told what has changed; being told twice, or late, does no harm,
//! because each time the object itself is looked at. Nothing here decides where a task goes.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::constraints::Facts;
use super::explain::{Explanation, Refusal};
use super::filters::{Class, Room, refusal};
use super::needs::{Needs, Place};
use super::spread::mix;
use crate::cluster::store::{Changed, StateEvent};
use crate::manager::allocator::Addresses;
use crate::manager::draft::{Draft, View};
use crate::model::task_spec::GenericResource;
use crate::model::{
    Availability, NodeId, NodeState, ServiceId, Slot, Task, TaskId, TaskState, Template, Timestamp,
};

/// How long a failure counts against its node.
pub(super) const FAILURE_WINDOW: Duration = Duration::from_secs(5 * 60);

/// So many failures make a node the last choice.
pub(super) const FAILURES: usize = 5;

/// Failures remembered of one version of a service on one node; more make no difference.
const FAILURES_KEPT: usize = 32;

/// Versions of services of which failures are remembered before those that count no more are looked for.
const FAILING_KEPT: usize = 1024;

/// Places whose nodes are remembered. They come anew when they are needed, so all are dropped at once.
const CLASSES_KEPT: usize = 1024;

/// A version of a service: its tasks need the same and are placed together.
pub(super) type GroupKey = (ServiceId, u64);

/// A place in the order of the least loaded: active tasks, the node's own number in the order, its index.
pub(super) type Load = (u32, u64, usize);

/// What the scheduler knows.
#[derive(Debug, Default)]
pub struct Board {
    nodes: Vec<Spot>,
    index: BTreeMap<NodeId, usize>,
    /// The usable nodes.
    pub(super) by_load: BTreeSet<Load>,
    /// Found, never walked: its order is nobody's.
    tasks: HashMap<TaskId, Entry, BuildHasherDefault<Folded>>,
    groups: BTreeMap<GroupKey, Group>,
    waiting: BTreeSet<GroupKey>,
    /// How many active tasks of each service are where.
    services: BTreeMap<ServiceId, BTreeMap<usize, u32>>,
    failures: BTreeMap<GroupKey, BTreeMap<usize, Vec<Timestamp>>>,
    classes: BTreeMap<Place, Arc<Class>>,
    /// Tasks that are here as a draft had them, which may have come to nothing.
    drafted: Vec<TaskId>,
    /// Rises whenever there may be room where there was none.
    room: u64,
    /// What is in use of addresses: it is told of the same changes.
    pub addresses: Addresses,
}

/// A node. It stays when it is removed, for as long as the board does: tasks may still name it.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) id: NodeId,
    /// Its place among equals.
    pub(super) tie: u64,
    /// How many active tasks it has.
    pub(super) active: u32,
    pub(super) room: Room,
    /// `None` when it is no member. Apart, so that what is looked at for each placement lies close together.
    pub(super) facts: Option<Box<Facts>>,
}

/// What a task is to the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: GroupKey,
    stage: Stage,
    claimed: Vec<GenericResource>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for a node.
    Pending,
    /// Waits for a word on the node that it has.
    Preassigned,
    /// Has its node, and takes room there until it has ended.
    Placed { node: usize, active: bool },
}

/// The tasks of one version of a service.
#[derive(Debug, Default)]
struct Group {
    needs: Arc<Needs>,
    tasks: usize,
    pending: BTreeSet<TaskId>,
    preassigned: BTreeSet<TaskId>,
    /// What its tasks are told, and for which `room` it was found out.
    blocked: Option<(u64, String)>,
}

impl Board {
    /// What a view shows.
    pub fn new(view: &View) -> Self {
        let mut board = Self {
            addresses: Addresses::new(view),
            ..Self::default()
        };
        for id in view.state.nodes.keys() {
            board.see_node(view, *id);
        }
        for (id, task) in &view.state.work.tasks {
            board.see_task(view, *id);
            let status = view.observed.get(id);
            let status = status.map_or_else(
                || task.status.clone(),
                |seen| task.status.clone().merge(seen.clone()),
            );
            board.note_failure(task, status.state, status.at, view.now);
        }
        board
    }

    /// Something has changed in the state; `view` shows it.
    pub fn apply(&mut self, view: &View, event: &StateEvent) {
        match &event.changed {
            Changed::Cluster { .. } | Changed::Dependency { .. } => {}
            Changed::Network { id, .. } => self.addresses.see_network(view, *id),
            Changed::Node { id, .. } => self.see_node(view, *id),
            Changed::Service { id, new, .. } => {
                self.addresses.see_service(view, *id);
                if new.is_none() {
                    self.forget_service(*id);
                }
            }
            Changed::Task { id, .. } => self.see_task(view, *id),
        }
    }

    /// A service is gone.
    pub fn forget_service(&mut self, id: ServiceId) {
        let range = (id, 0)..=(id, u64::MAX);
        let gone: Vec<_> = self.failures.range(range).map(|(key, _)| *key).collect();
        gone.iter().for_each(|key| drop(self.failures.remove(key)));
    }

    /// A node has changed, or is seen otherwise than before.
    pub fn see_node(&mut self, view: &View, id: NodeId) {
        let index = self.index_of(id);
        let status = view.nodes.get(&id);
        let node = view.state.nodes.get(&id);
        let facts = node.map(|node| Box::new(Facts::of(node, status)));
        let usable = node.is_some_and(|node| {
            node.spec.availability == Availability::Active
                && status.is_some_and(|status| status.state == NodeState::Ready)
                && !node.description.runtime.is_empty()
        });
        let spot = &mut self.nodes[index];
        if let Some(node) = node {
            spot.room.stock.describe(&node.description);
        }
        let load = spot.load(index);
        spot.room.usable = usable;
        match usable {
            true => self.by_load.insert(load),
            false => self.by_load.remove(&load),
        };
        if facts != self.nodes[index].facts {
            if let Some(facts) = &facts {
                for class in self.classes.values_mut() {
                    Arc::make_mut(class).judge(index, facts);
                }
            }
            self.nodes[index].facts = facts;
        }
        self.room += 1;
    }

    /// A task has changed, or is seen otherwise than before.
    pub fn see_task(&mut self, view: &View, id: TaskId) {
        self.addresses.see_task(view, id);
        let task = view.state.work.tasks.get(&id).map(Arc::as_ref);
        let seen = view.observed.get(&id);
        let task = task.map(|task| {
            let seen_state = seen.map_or(TaskState::New, |seen| seen.state);
            (task, task.status.state.max(seen_state))
        });
        let failed_at = seen.map(|seen| seen.at);
        self.put(id, task, failed_at, view.now, |(service, version)| {
            let template = view.state.work.template(service, version);
            template.map(Arc::as_ref)
        });
    }

    /// Takes back what an earlier draft was believed to become, and looks at what this one has changed.
    pub(super) fn look_at(&mut self, draft: &Draft<'_>) {
        for id in std::mem::take(&mut self.drafted) {
            self.see_task(draft.view, id);
        }
        for id in draft.changed_tasks() {
            self.see_draft(draft, id);
        }
    }

    /// A task is as the draft has it.
    pub(super) fn see_draft(&mut self, draft: &Draft<'_>, id: TaskId) {
        let task = draft.task(id);
        let task = task.as_deref().map(|task| (task, draft.state_of(task)));
        let seen_at = draft.view.observed.get(&id).map(|seen| seen.at);
        self.put(id, task, seen_at, draft.now(), |(service, version)| {
            draft.template(service, version)
        });
        self.drafted.push(id);
    }

    fn put<'t>(
        &mut self,
        id: TaskId,
        task: Option<(&Task, TaskState)>,
        seen_at: Option<Timestamp>,
        now: Timestamp,
        template: impl FnOnce(GroupKey) -> Option<&'t Template>,
    ) {
        let next = task.and_then(|(task, state)| self.entry(task, state));
        let old = match &next {
            Some(next) => match self.tasks.entry(id) {
                hash_map::Entry::Occupied(known) if known.get() == next => return,
                hash_map::Entry::Occupied(mut known) => Some(known.insert(next.clone())),
                hash_map::Entry::Vacant(place) => {
                    place.insert(next.clone());
                    None
                }
            },
            None => self.tasks.remove(&id),
        };
        if let Some(old) = old {
            self.release(id, &old);
            if let Some((task, state)) = task {
                self.note_failure(task, state, seen_at.unwrap_or(task.status.at), now);
            }
        }
        let Some(next) = next else {
            return;
        };
        let group = self.groups.entry(next.key).or_insert_with(|| Group {
            needs: Arc::new(template(next.key).map(Needs::of).unwrap_or_default()),
            ..Group::default()
        });
        group.tasks += 1;
        match next.stage {
            Stage::Pending => {
                group.pending.insert(id);
                self.waiting.insert(next.key);
            }
            Stage::Preassigned => {
                group.preassigned.insert(id);
                self.waiting.insert(next.key);
            }
            Stage::Placed { node, active } => {
                let needs = group.needs.clone();
                self.hold(node, active, &next, &needs);
            }
        }
    }

    /// What a task is to the scheduler; `None` when it is nothing to it yet, or no more.
    fn entry(&mut self, task: &Task, state: TaskState) -> Option<Entry> {
        let wanted = task.desired <= TaskState::Complete;
        let stage = match (state, task.node) {
            (TaskState::Pending, None) if wanted => Stage::Pending,
            (TaskState::Pending, Some(_)) if wanted => Stage::Preassigned,
            (state, Some(node)) if state > TaskState::Pending && !state.is_terminal() => {
                Stage::Placed {
                    node: self.index_of(node),
                    active: wanted,
                }
            }
            (_, _) => return None,
        };
        Some(Entry {
            key: (task.service, task.spec_version),
            stage,
            claimed: task.generic_resources.clone(),
        })
    }

    fn hold(&mut self, node: usize, active: bool, entry: &Entry, needs: &Needs) {
        let spot = &mut self.nodes[node];
        spot.room.stock.take(&needs.demand, &entry.claimed);
        for port in &needs.ports {
            *spot.room.ports.entry(*port).or_default() += 1;
        }
        if active {
            let here = self.services.entry(entry.key.0).or_default();
            *here.entry(node).or_default() += 1;
            self.load(node, |active| active + 1);
        }
    }

    fn release(&mut self, id: TaskId, old: &Entry) {
        let Some(group) = self.groups.get_mut(&old.key) else {
            return;
        };
        group.tasks -= 1;
        group.pending.remove(&id);
        group.preassigned.remove(&id);
        let needs = group.needs.clone();
        if group.pending.is_empty() && group.preassigned.is_empty() {
            self.waiting.remove(&old.key);
        }
        if group.tasks == 0 {
            self.groups.remove(&old.key);
        }
        let Stage::Placed { node, active } = old.stage else {
            return;
        };
        self.room += 1;
        let room = &mut self.nodes[node].room;
        room.stock.give_back(&needs.demand, &old.claimed);
        for port in &needs.ports {
            if let Some(users) = room.ports.get_mut(port) {
                *users -= 1;
                if *users == 0 {
                    room.ports.remove(port);
                }
            }
        }
        if active {
            if let Some(here) = self.services.get_mut(&old.key.0) {
                if let Some(count) = here.get_mut(&node) {
                    *count -= 1;
                    if *count == 0 {
                        here.remove(&node);
                    }
                }
                if here.is_empty() {
                    self.services.remove(&old.key.0);
                }
            }
            self.load(node, |active| active - 1);
        }
    }

    /// Changes how many active tasks a node has.
    fn load(&mut self, node: usize, change: impl FnOnce(u32) -> u32) {
        let spot = &mut self.nodes[node];
        let ordered = self.by_load.remove(&spot.load(node));
        spot.active = change(spot.active);
        if ordered {
            self.by_load.insert(spot.load(node));
        }
    }

    /// A global service's tasks have no choice, so their failures are not counted.
    fn note_failure(&mut self, task: &Task, state: TaskState, at: Timestamp, now: Timestamp) {
        let failed = matches!(state, TaskState::Failed | TaskState::Rejected);
        let (Some(node), Slot::Number(_), true) = (task.node, task.slot, failed) else {
            return;
        };
        let at = at.min(now);
        if now.since(at) >= FAILURE_WINDOW {
            return;
        }
        if self.failures.len() >= FAILING_KEPT {
            self.failures.retain(|_, nodes| {
                let mut all = nodes.values().flatten();
                all.any(|at| now.since(*at) < FAILURE_WINDOW)
            });
        }
        let node = self.index_of(node);
        let key = (task.service, task.spec_version);
        let times = self.failures.entry(key).or_default();
        let times = times.entry(node).or_default();
        times.retain(|at| now.since(*at) < FAILURE_WINDOW);
        if times.len() < FAILURES_KEPT {
            times.push(at);
        }
    }

    fn index_of(&mut self, id: NodeId) -> usize {
        *self.index.entry(id).or_insert_with(|| {
            self.nodes.push(Spot {
                id,
                tie: mix((id.bits() >> 64) as u64 ^ id.bits() as u64),
                active: 0,
                room: Room::default(),
                facts: None,
            });
            self.nodes.len() - 1
        })
    }
}

/// What choosing asks.
impl Board {
    /// The versions of services that have tasks to be placed.
    pub(super) fn waiting(&self) -> Vec<GroupKey> {
        self.waiting.iter().copied().collect()
    }

    /// The tasks of a group that wait for a node.
    pub(super) fn pending(&self, key: GroupKey) -> Vec<TaskId> {
        let group = self.groups.get(&key).into_iter();
        group.flat_map(|group| &group.pending).copied().collect()
    }

    /// The tasks of a group that have a node and wait for a word on it.
    pub(super) fn preassigned(&self, key: GroupKey) -> Vec<TaskId> {
        let group = self.groups.get(&key).into_iter();
        let tasks = group.flat_map(|group| &group.preassigned);
        tasks.copied().collect()
    }

    /// What the tasks of a group need.
    pub(super) fn needs(&self, key: GroupKey) -> Arc<Needs> {
        let group = self.groups.get(&key);
        group.map(|group| group.needs.clone()).unwrap_or_default()
    }

    /// A node.
    pub(super) fn spot(&self, node: usize) -> &Spot {
        &self.nodes[node]
    }

    /// A node, by its ID; `None` when nothing was ever heard of it.
    pub(super) fn find(&self, id: NodeId) -> Option<usize> {
        self.index.get(&id).copied()
    }

    /// How many active tasks a service has on each node that has any.
    pub(super) fn service(&self, service: ServiceId) -> impl Iterator<Item = (usize, u32)> + '_ {
        let here = self.services.get(&service).into_iter().flatten();
        here.map(|(node, count)| (*node, *count))
    }

    /// How many active tasks a service has on a node.
    pub(super) fn active(&self, service: ServiceId, node: usize) -> u32 {
        let here = self.services.get(&service);
        here.and_then(|here| here.get(&node)).copied().unwrap_or(0)
    }

    /// The nodes where a version of a service failed too often lately, and how often.
    pub(super) fn failing(&self, key: GroupKey, now: Timestamp) -> BTreeMap<usize, usize> {
        let nodes = self.failures.get(&key).into_iter().flatten();
        let counted = nodes.map(|(node, times)| {
            let recent = times.iter().filter(|at| now.since(**at) < FAILURE_WINDOW);
            (*node, recent.count())
        });
        counted.filter(|(_, count)| *count >= FAILURES).collect()
    }

    /// The nodes of a place; `None` when it is all of them.
    pub(super) fn class(&mut self, place: &Place) -> Option<Arc<Class>> {
        if place.is_anywhere() {
            return None;
        }
        if let Some(known) = self.classes.get(place) {
            return Some(known.clone());
        }
        let mut class = Class::new(place);
        for (index, spot) in self.nodes.iter().enumerate() {
            if let Some(facts) = &spot.facts {
                class.judge(index, facts);
            }
        }
        if self.classes.len() >= CLASSES_KEPT {
            self.classes.clear();
        }
        let class = Arc::new(class);
        self.classes.insert(place.clone(), class.clone());
        Some(class)
    }

    /// Why a node cannot take one more task of a service.
    pub(super) fn refusal(
        &self,
        node: usize,
        service: ServiceId,
        needs: &Needs,
        class: Option<&Class>,
    ) -> Option<Refusal> {
        let place = class.and_then(|class| class.refusal(node));
        let active = match needs.max_replicas {
            Some(_) => self.active(service, node),
            None => 0,
        };
        refusal(&self.nodes[node].room, needs, place, active)
    }

    /// What a group's tasks were told when nothing fitted, if there is no more room than there was.
    pub(super) fn blocked(&self, key: GroupKey) -> Option<String> {
        let (room, words) = self.groups.get(&key)?.blocked.as_ref()?;
        (*room == self.room).then(|| words.clone())
    }

    /// Why nothing fits, remembered for as long as there is no more room.
    pub(super) fn block(&mut self, key: GroupKey, class: Option<&Class>) -> String {
        let needs = self.needs(key);
        let mut explanation = Explanation::default();
        for (index, spot) in self.nodes.iter().enumerate() {
            if spot.facts.is_some() {
                let refusal = self.refusal(index, key.0, &needs, class);
                refusal.into_iter().for_each(|one| explanation.count(one));
            }
        }
        let words = explanation.words();
        if let Some(group) = self.groups.get_mut(&key) {
            group.blocked = Some((self.room, words.clone()));
        }
        words
    }
}

/// Folds an ID, which is random already: the leader chooses them.
#[derive(Clone, Copy, Debug, Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte));
        }
    }

    fn write_u128(&mut self, bits: u128) {
        self.0 = mix(self.0 ^ (bits >> 64) as u64 ^ bits as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Spot {
    /// Where it stands in the order of the least loaded.
    fn load(&self, index: usize) -> Load {
        (self.active, self.tie, index)
    }
}
