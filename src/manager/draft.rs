//! A working copy of the state, on which the stages of one pass of the leader's loop build on one another.
//!
//! Each stage reads what those before it have written, and the loop proposes all of it at once, guarded by the versions
//! that the pass began with: if anything that it changes has changed meanwhile, nothing of it is applied, and it is
//! thought again. Nothing here decides, and nothing here reads a clock or a random source: both come with it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use crate::cluster::store::State;
use crate::model::{
    Change, Expect, Network, NodeId, NodeStatus, Observed, Proposal, Service, ServiceId, Slot,
    Task, TaskId, TaskState, TaskStatus, Template, Timestamp,
};

/// What is seen of each node.
pub type Nodes = Arc<BTreeMap<NodeId, NodeStatus>>;

/// Everything that a pass looks at.
#[derive(Clone, Debug)]
pub struct View {
    /// What is decided.
    pub state: Arc<State>,
    /// What is seen of tasks.
    pub observed: Observed,
    /// What is seen of nodes.
    pub nodes: Nodes,
    /// The leader's clock.
    pub now: Timestamp,
}

/// Why something that is to happen has not happened, and when it is worth another look at the latest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    /// When to look again; `None` when only news can change it.
    pub until: Option<Timestamp>,
    /// Of which service.
    pub service: ServiceId,
    /// What is waited for, in words.
    pub what: String,
}

/// A service's tasks by what they fill.
pub type BySlot = BTreeMap<Slot, Vec<Arc<Task>>>;

/// What was last found of the tasks of one service: most stages of a pass ask for the same, and change nothing.
#[derive(Default)]
struct Found {
    tasks: Option<(ServiceId, Rc<Vec<Arc<Task>>>)>,
    slots: Option<(ServiceId, Rc<BySlot>)>,
}

/// The working copy.
pub struct Draft<'a> {
    /// What the pass looks at; not what it has changed.
    pub view: &'a View,
    /// What had to wait.
    pub waits: BTreeSet<Wait>,
    networks: Vec<Network>,
    services: BTreeMap<ServiceId, Option<Arc<Service>>>,
    tasks: BTreeMap<TaskId, Option<Arc<Task>>>,
    added: BTreeMap<ServiceId, BTreeSet<TaskId>>,
    templates: BTreeMap<(ServiceId, u64), Box<Template>>,
    /// Void as soon as any task changes.
    found: RefCell<Found>,
    ids: &'a mut dyn FnMut() -> TaskId,
}

impl std::fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft")
            .field("services", &self.services.len())
            .field("tasks", &self.tasks.len())
            .field("waits", &self.waits)
            .finish_non_exhaustive()
    }
}

impl<'a> Draft<'a> {
    /// A copy of what `view` shows; new tasks are named by `ids`.
    pub fn new(view: &'a View, ids: &'a mut dyn FnMut() -> TaskId) -> Self {
        Self {
            view,
            waits: BTreeSet::new(),
            networks: Vec::new(),
            services: BTreeMap::new(),
            tasks: BTreeMap::new(),
            added: BTreeMap::new(),
            templates: BTreeMap::new(),
            found: RefCell::default(),
            ids,
        }
    }

    /// The leader's clock.
    pub fn now(&self) -> Timestamp {
        self.view.now
    }

    /// A service, as it is by now.
    pub fn service(&self, id: ServiceId) -> Option<Arc<Service>> {
        match self.services.get(&id) {
            Some(changed) => changed.clone(),
            None => self.view.state.work.services.get(&id).cloned(),
        }
    }

    /// A task, as it is by now.
    pub fn task(&self, id: TaskId) -> Option<Arc<Task>> {
        match self.tasks.get(&id) {
            Some(changed) => changed.clone(),
            None => self.view.state.work.tasks.get(&id).cloned(),
        }
    }

    /// The tasks that are not as the pass found them, removed ones included.
    pub fn changed_tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.tasks.keys().copied()
    }

    /// A service's tasks, as they are by now, by ID.
    pub fn tasks_of(&self, service: ServiceId) -> Rc<Vec<Arc<Task>>> {
        match &self.found.borrow().tasks {
            Some((of, tasks)) if *of == service => return tasks.clone(),
            _ => {}
        }
        let before = self.view.state.work.tasks_of(service);
        let mut tasks: Vec<Arc<Task>> = before.filter_map(|task| self.task(task.id)).collect();
        let added = self.added.get(&service).into_iter().flatten();
        tasks.extend(added.filter_map(|id| self.task(*id)));
        let tasks = Rc::new(tasks);
        self.found.borrow_mut().tasks = Some((service, tasks.clone()));
        tasks
    }

    /// What `sort` makes of a service's tasks, as they are by now. It is always to make the same of the same tasks.
    pub fn slots_of(
        &self,
        service: ServiceId,
        sort: impl FnOnce(&[Arc<Task>]) -> BySlot,
    ) -> Rc<BySlot> {
        match &self.found.borrow().slots {
            Some((of, slots)) if *of == service => return slots.clone(),
            _ => {}
        }
        let slots = Rc::new(sort(&self.tasks_of(service)));
        self.found.borrow_mut().slots = Some((service, slots.clone()));
        slots
    }

    /// How far a task is: the later of what is written down and what its node has said.
    pub fn status(&self, task: &Task) -> TaskStatus {
        match self.view.observed.get(&task.id) {
            Some(seen) => task.status.clone().merge(seen.clone()),
            None => task.status.clone(),
        }
    }

    /// As [`Self::status`], the state alone.
    pub fn state_of(&self, task: &Task) -> TaskState {
        let seen = self.view.observed.get(&task.id);
        let seen = seen.map_or(TaskState::New, |seen| seen.state);
        task.status.state.max(seen)
    }

    /// Whether a task is, or is to become, of use: neither it nor what is wanted of it has come to an end.
    pub fn is_live(&self, task: &Task) -> bool {
        !self.state_of(task).is_terminal() && task.desired <= TaskState::Complete
    }

    /// What the tasks of a version of a service share.
    pub fn template(&self, service: ServiceId, version: u64) -> Option<&Template> {
        let new = self.templates.get(&(service, version)).map(|new| &**new);
        new.or_else(|| {
            let kept = self.view.state.work.template(service, version);
            kept.map(|kept| &**kept)
        })
    }

    /// A name for a new task.
    pub fn new_id(&mut self) -> TaskId {
        (self.ids)()
    }

    /// Creates a network.
    pub fn add_network(&mut self, network: Network) {
        self.networks.push(network);
    }

    /// Creates or changes a service.
    pub fn put_service(&mut self, service: Service) {
        self.services.insert(service.id, Some(Arc::new(service)));
    }

    /// Removes a service.
    pub fn remove_service(&mut self, id: ServiceId) {
        self.services.insert(id, None);
    }

    /// Creates or changes a task. The template of a new one is made of its service as it is by now, if that is the
    /// version that the task names and none is kept.
    pub fn put_task(&mut self, task: Task) {
        let known = self.view.state.work.tasks.contains_key(&task.id);
        if !known && self.added.entry(task.service).or_default().insert(task.id) {
            self.keep_template(task.service, task.spec_version);
        }
        self.set(task.id, Some(Arc::new(task)));
    }

    /// Changes a task that is there; nothing when it is not.
    pub fn edit_task(&mut self, id: TaskId, edit: impl FnOnce(&mut Task)) {
        if let Some(task) = self.task(id) {
            let mut next = Task::clone(&task);
            edit(&mut next);
            if next != *task {
                // Whether it is new was noted when it was put here first.
                self.set(id, Some(Arc::new(next)));
            }
        }
    }

    /// Raises what is wanted of a task; never lowers it.
    pub fn want(&mut self, id: TaskId, desired: TaskState) {
        self.edit_task(id, |task| {
            if desired > task.desired {
                task.desired = desired;
                task.start = None;
            }
        });
    }

    /// Removes a task.
    pub fn remove_task(&mut self, id: TaskId) {
        self.set(id, None);
    }

    fn set(&mut self, id: TaskId, task: Option<Arc<Task>>) {
        self.tasks.insert(id, task);
        *self.found.get_mut() = Found::default();
    }

    /// Notes what has to wait.
    pub fn wait(&mut self, service: ServiceId, until: Option<Timestamp>, what: impl Into<String>) {
        self.waits.insert(Wait {
            until,
            service,
            what: what.into(),
        });
    }

    fn keep_template(&mut self, service: ServiceId, version: u64) {
        if self.template(service, version).is_some() {
            return;
        }
        let Some(found) = self.service(service) else {
            return;
        };
        if found.spec_version == version {
            let cluster = self.view.state.cluster.as_ref();
            let template = Template {
                name: found.spec.name.clone(),
                labels: found.spec.labels.clone(),
                task: found.spec.task_template.clone(),
                endpoint: found.spec.endpoint_spec.clone(),
                log_driver: cluster.and_then(|cluster| cluster.spec.default_log_driver()),
                registry_auth: found.registry_auth.clone(),
            };
            self.templates
                .insert((service, version), Box::new(template));
        }
    }

    /// All that has changed, guarded; `None` when nothing has. Templates come before the tasks that name them, tasks
    /// come before others go, since a template goes with the last task that names it, and tasks go before their
    /// services.
    pub fn proposal(self) -> Option<Proposal> {
        self.proposals(usize::MAX).pop()
    }

    /// As [`Self::proposal`], in parts of about `most` tasks each, to be proposed in this order. What is put into
    /// one slot is in one part, so that whoever finds only some of them applied finds no slot half changed.
    pub fn proposals(self, most: usize) -> Vec<Proposal> {
        // What was found holds on to the tasks, which would be copied instead of being taken.
        drop(self.found);
        let mut parts = Parts::new(self.view.now, most);
        let work = &self.view.state.work;
        let guard = |version: Option<u64>| version.map_or(Expect::Absent, Expect::Version);
        let mut removals = Vec::new();
        let mut services_removed = Vec::new();
        for network in self.networks {
            let change = Change::PutNetwork(Expect::Absent, Box::new(network));
            parts.add(SPEC_WEIGHT, [change]);
        }
        for (id, service) in self.services {
            let before = work.services.get(&id).map(|old| old.meta.version);
            match (service, before) {
                (Some(service), before) => {
                    let service = Box::new(Arc::unwrap_or_clone(service));
                    parts.add(SPEC_WEIGHT, [Change::PutService(guard(before), service)]);
                }
                (None, Some(version)) => {
                    services_removed.push(Change::RemoveService(Expect::Version(version), id));
                }
                (None, None) => {}
            }
        }
        for ((service, version), template) in self.templates {
            parts.add(
                SPEC_WEIGHT,
                [Change::PutTemplate(service, version, template)],
            );
        }
        let mut slots: BTreeMap<(ServiceId, Slot), Vec<Change>> = BTreeMap::new();
        for (id, task) in self.tasks {
            let before = work.tasks.get(&id);
            let version = before.map(|old| old.meta.version);
            let (key, change) = match (task, before) {
                (Some(task), _) => {
                    let task = Box::new(Arc::unwrap_or_clone(task));
                    let key = (task.service, task.slot);
                    (key, Change::PutTask(guard(version), task))
                }
                (None, Some(old)) => {
                    removals.push(Change::RemoveTask(Expect::Version(old.meta.version), id));
                    continue;
                }
                (None, None) => continue,
            };
            slots.entry(key).or_default().push(change);
        }
        for changes in slots.into_values() {
            parts.add(changes.len(), changes);
        }
        for removal in removals.into_iter().chain(services_removed) {
            parts.add(1, [removal]);
        }
        parts.all
    }
}

/// A spec is so many times as long as a task, at most and about.
const SPEC_WEIGHT: usize = 128;

/// Proposals that are being filled.
struct Parts {
    at: Timestamp,
    most: usize,
    weight: usize,
    all: Vec<Proposal>,
}

impl Parts {
    fn new(at: Timestamp, most: usize) -> Self {
        Self {
            at,
            most,
            weight: 0,
            all: Vec::new(),
        }
    }

    /// Adds changes that belong together.
    fn add(&mut self, weight: usize, changes: impl IntoIterator<Item = Change>) {
        if self.all.is_empty() || self.weight.saturating_add(weight) > self.most {
            self.weight = 0;
            self.all.push(Proposal {
                at: self.at,
                changes: Vec::new(),
            });
        }
        self.weight = self.weight.saturating_add(weight);
        if let Some(last) = self.all.last_mut() {
            last.changes.extend(changes);
        }
    }
}
