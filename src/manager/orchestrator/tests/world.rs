//! A small world for the tests of these stages: a state, nodes that are seen, agents that move tasks, one pass of the
//! leader's loop at a time, each applied as the store applies it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::store::State;
use crate::manager::draft::{Draft, Nodes, View};
use crate::manager::orchestrator::{Fits, orchestrate};
use crate::manager::{reaper, restart, updater};
use crate::model::service::JobStatus;
use crate::model::{
    Availability, Change, Expect, Node, NodeId, NodeState, NodeStatus, Observed, Proposal, Service,
    ServiceId, Slot, Task, TaskId, TaskState, TaskStatus, Timestamp,
};

/// The service of most tests.
pub(crate) const WEB: ServiceId = ServiceId::from_bits(7);

/// Any node, but for those whose label `no` names the service.
pub(crate) const FITS: Fits<'static> = &|node, spec| node.spec.labels.get("no") != Some(&spec.name);

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) observed: Observed,
    pub(crate) nodes: BTreeMap<NodeId, NodeStatus>,
    pub(crate) now: Timestamp,
    ids: u128,
}

pub(crate) fn node(number: u128) -> NodeId {
    NodeId::from_bits(number)
}

/// A service of `mode` in Docker's JSON, with `policy` for restarts.
pub(crate) fn service(mode: Value, policy: Value) -> Service {
    let spec = json!({
        "Name": "web",
        "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}, "RestartPolicy": policy},
        "Mode": mode,
    });
    Service {
        id: WEB,
        spec: serde_json::from_value(spec).unwrap(),
        spec_version: 1,
        job: Some(JobStatus::default()),
        ..Service::default()
    }
}

pub(crate) fn replicas(count: u64) -> Value {
    json!({"Replicated": {"Replicas": count}})
}

impl World {
    /// So many nodes that are ready.
    pub(crate) fn new(nodes: u128) -> Self {
        let mut world = Self {
            state: State::default(),
            observed: Observed::new(),
            nodes: BTreeMap::new(),
            now: Timestamp::from_nanos(1_000_000_000_000),
            ids: 0,
        };
        for number in 1..=nodes {
            let mut new = Node {
                id: node(number),
                ..Node::default()
            };
            new.description.runtime = "containerd 1.6.20".into();
            world.write([Change::PutNode(Expect::Absent, Box::new(new))]);
            world.see(number, NodeState::Ready);
        }
        world
    }

    pub(crate) fn write(&mut self, changes: impl IntoIterator<Item = Change>) {
        let changes = changes.into_iter().collect();
        let proposal = Proposal {
            at: self.now,
            changes,
        };
        self.apply(proposal);
    }

    /// Applies what a pass proposes, and checks what holds of every proposal.
    fn apply(&mut self, proposal: Proposal) {
        let before = self.state.clone();
        self.state.apply(proposal, &mut Vec::new()).unwrap();
        for (id, old) in &before.work.tasks {
            if let Some(new) = self.state.work.tasks.get(id) {
                assert!(
                    new.desired >= old.desired,
                    "{id}: what is wanted only rises"
                );
                assert!(new.status.state >= old.status.state, "{id}: only rises");
            }
        }
    }

    pub(crate) fn see(&mut self, number: u128, state: NodeState) {
        let status = NodeStatus {
            state,
            ..NodeStatus::default()
        };
        self.nodes.insert(node(number), status);
    }

    pub(crate) fn set(&mut self, number: u128, availability: Availability) {
        self.edit_node(number, |node| node.spec.availability = availability);
    }

    pub(crate) fn edit_node(&mut self, number: u128, edit: impl FnOnce(&mut Node)) {
        let mut next = Node::clone(&self.state.nodes[&node(number)]);
        let version = next.meta.version;
        edit(&mut next);
        self.write([Change::PutNode(Expect::Version(version), Box::new(next))]);
    }

    pub(crate) fn remove_node(&mut self, number: u128) {
        let version = self.state.nodes[&node(number)].meta.version;
        self.nodes.remove(&node(number));
        self.write([Change::RemoveNode(Expect::Version(version), node(number))]);
    }

    pub(crate) fn create(&mut self, service: Service) {
        self.write([Change::PutService(Expect::Absent, Box::new(service))]);
    }

    /// A user changes the service.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut Service)) {
        let mut next = Service::clone(&self.state.work.services[&WEB]);
        let version = next.meta.version;
        edit(&mut next);
        self.write([Change::PutService(Expect::Version(version), Box::new(next))]);
    }

    pub(crate) fn view(&self) -> View {
        View {
            state: Arc::new(self.state.clone()),
            observed: self.observed.clone(),
            nodes: Nodes::new(self.nodes.clone()),
            now: self.now,
        }
    }

    /// Runs `stages` on a draft and applies what comes of it; whether anything did.
    pub(crate) fn run(&mut self, stages: impl FnOnce(&mut Draft<'_>)) -> bool {
        let view = self.view();
        let ids = &mut self.ids;
        let mut next = || {
            *ids += 1;
            // In no order that means anything.
            TaskId::from_bits(ids.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
        };
        let mut draft = Draft::new(&view, &mut next);
        stages(&mut draft);
        let proposal = draft.proposal();
        let changed = proposal.is_some();
        if let Some(proposal) = proposal {
            self.apply(proposal);
        }
        changed
    }

    /// One pass of the leader's loop, with a scheduler that takes the usable node with the fewest tasks.
    pub(crate) fn pass(&mut self) -> bool {
        self.run(|draft| {
            reaper::reap(draft, WEB);
            orchestrate(draft, WEB, FITS);
            updater::update(draft, WEB, FITS);
            restart::restart(draft, WEB);
            schedule(draft);
        })
    }

    /// Passes until one changes nothing.
    pub(crate) fn settle(&mut self) {
        for _ in 0..50 {
            if !self.pass() {
                return;
            }
        }
        panic!("the leader's loop finds no rest");
    }

    /// What the node says of a task.
    pub(crate) fn report(&mut self, task: TaskId, state: TaskState) {
        let at = self.now;
        let status = TaskStatus {
            state,
            at,
            ..TaskStatus::default()
        };
        let old = self.observed.get(&task).cloned().unwrap_or_default();
        if state > old.state {
            self.observed.insert(task, status);
        }
    }

    pub(crate) fn state_of(&self, task: &Task) -> TaskState {
        let seen = self.observed.get(&task.id);
        seen.map_or(task.status.state, |seen| seen.state.max(task.status.state))
    }

    /// All agents on nodes that are up do all that they are told.
    pub(crate) fn obey(&mut self) {
        for task in self.tasks() {
            let state = self.state_of(&task);
            let up = task.node.is_some_and(|node| self.is_up(node));
            if !up || state < TaskState::Assigned || state.is_terminal() {
                continue;
            }
            match task.desired {
                TaskState::Ready => self.report(task.id, TaskState::Ready),
                TaskState::Running | TaskState::Complete => {
                    self.report(task.id, TaskState::Running);
                }
                _ => self.report(task.id, TaskState::Shutdown),
            }
        }
    }

    pub(crate) fn is_up(&self, node: NodeId) -> bool {
        let seen = self.nodes.get(&node);
        seen.is_some_and(|seen| seen.state == NodeState::Ready)
    }

    /// Passes and obedient agents until nothing is to be done; time goes on where something waits for it.
    pub(crate) fn rest(&mut self) {
        for _ in 0..200 {
            self.settle();
            let before = self.observed.clone();
            self.obey();
            self.pass_time(1);
            if before == self.observed && !self.pass() && !self.is_waiting() {
                return;
            }
        }
        panic!("this world finds no rest: {:#?}", self.tasks());
    }

    fn is_waiting(&self) -> bool {
        let mut tasks = self.state.work.tasks.values();
        let service = self.state.work.services.get(&WEB);
        let update = service.and_then(|service| service.update.as_ref());
        tasks.any(|task| task.desired == TaskState::Ready)
            || update.is_some_and(|update| update.state.is_active())
    }

    pub(crate) fn pass_time(&mut self, secs: u64) {
        self.now = self.now.after(Duration::from_secs(secs));
    }

    /// The tasks, by slot and then by age.
    pub(crate) fn tasks(&self) -> Vec<Arc<Task>> {
        let mut tasks: Vec<_> = self.state.work.tasks.values().cloned().collect();
        tasks.sort_by_key(|task| (task.slot, task.meta.created_at, task.meta.version));
        tasks
    }

    /// Those that are of use.
    pub(crate) fn live(&self) -> Vec<Arc<Task>> {
        let mut tasks = self.tasks();
        tasks.retain(|task| {
            !self.state_of(task).is_terminal() && task.desired <= TaskState::Complete
        });
        tasks
    }

    pub(crate) fn live_slots(&self) -> Vec<Slot> {
        self.live().iter().map(|task| task.slot).collect()
    }

    /// The one task of use in the slot of this number.
    pub(crate) fn of(&self, slot: u64) -> Arc<Task> {
        let mut live = self.live();
        live.retain(|task| task.slot == Slot::Number(slot));
        assert_eq!(live.len(), 1, "slot {slot}");
        live.remove(0)
    }
}

fn schedule(draft: &mut Draft<'_>) {
    let mut busy: BTreeMap<NodeId, usize> = draft
        .view
        .nodes
        .keys()
        .copied()
        .filter(|node| may_take(draft, *node))
        .map(|node| (node, 0))
        .collect();
    let tasks = draft.tasks_of(WEB);
    for task in tasks.iter().filter(|task| draft.is_live(task)) {
        if let Some(count) = task.node.and_then(|node| busy.get_mut(&node)) {
            *count += 1;
        }
    }
    for task in tasks.iter() {
        if !draft.is_live(task) || draft.state_of(task) != TaskState::Pending {
            continue;
        }
        let free = busy
            .iter_mut()
            .filter(|(node, _)| task.node.is_none_or(|own| own == **node));
        let Some((node, count)) = free.min_by_key(|(_, count)| **count) else {
            continue;
        };
        *count += 1;
        let (node, at) = (*node, draft.now());
        draft.edit_task(task.id, |task| {
            task.node = Some(node);
            task.status.state = TaskState::Assigned;
            task.status.at = at;
        });
    }
}

fn may_take(draft: &Draft<'_>, node: NodeId) -> bool {
    let service = draft.service(WEB);
    let fits = service.is_some_and(|service| FITS(&draft.view.state.nodes[&node], &service.spec));
    super::super::slots::is_usable(draft, node) && fits
}
