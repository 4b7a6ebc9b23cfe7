//! An update takes no more slots of a service at a time than its policy allows: so many are without a task that runs
//! because the old one was told to go, and so many have a second one beside the old.
//!
//! What nodes lose, what fails by itself, and what an operator takes out of use is nobody's update, and does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::history::{Entry, Record};
use crate::cluster::store::State;
use crate::model::service_spec::UpdatePolicy;
use crate::model::{
    Availability, NodeId, NodeState, Service, ServiceId, Slot, Task, TaskId, TaskState,
};

/// What a leader decides of a node it may have seen so long ago: a plan waits for its majority.
const DECIDED: Duration = Duration::from_secs(5);

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut watch = Watch::default();
    let mut broken = Vec::new();
    for Record { at, entry } in records {
        match entry {
            Entry::Told(_, task, status) => {
                let told = watch.told.entry(*task).or_default();
                *told = status.state.max(*told);
            }
            Entry::Shown {
                node,
                state: NodeState::Down | NodeState::Disconnected,
                ..
            } => {
                watch.unwell.insert(*node, *at);
            }
            Entry::Shows(_, state) if state.version > watch.last.version => {
                broken.extend(watch.look(*at, state));
            }
            _ => {}
        }
    }
    broken
}

#[derive(Default)]
struct Watch {
    last: Arc<State>,
    told: BTreeMap<TaskId, TaskState>,
    /// When nodes were last seen away, or not open to tasks.
    unwell: BTreeMap<NodeId, Duration>,
    /// Slots whose old task an update has told to go.
    taken: BTreeMap<(ServiceId, Slot), Arc<Task>>,
    /// The most that each service was ever to have under way; `None` is any number.
    bounds: BTreeMap<ServiceId, Option<u64>>,
    named: BTreeSet<ServiceId>,
}

impl Watch {
    fn look(&mut self, at: Duration, state: &Arc<State>) -> Vec<String> {
        for (id, node) in &state.nodes {
            if node.spec.availability != Availability::Active {
                self.unwell.insert(*id, at);
            }
        }
        let mut broken = Vec::new();
        for service in state.work.services.values() {
            if service.removed || service.spec.mode.read().is_job() {
                continue;
            }
            self.bound(service);
            let tasks: Vec<&Arc<Task>> = state.work.tasks_of(service.id).collect();
            let lost: Vec<&&Arc<Task>> = tasks
                .iter()
                .filter(|task| self.is_taken(at, state, service, task))
                .collect();
            for task in lost {
                let key = (service.id, task.slot);
                self.taken.insert(key, Arc::clone(task));
            }
            broken.extend(self.judge(at, state.version, service, &tasks));
        }
        self.last = state.clone();
        broken
    }

    fn bound(&mut self, service: &Service) {
        let configs = [&service.spec.update_config, &service.spec.rollback_config];
        let bound = self.bounds.entry(service.id).or_insert(Some(0));
        for config in configs {
            let most = UpdatePolicy::read(config.as_ref()).parallelism;
            *bound = bound.and_then(|bound| Some(bound.max(most?)));
        }
    }

    fn is_well(&self, at: Duration, node: NodeId) -> bool {
        let unwell = self.unwell.get(&node);
        unwell.is_none_or(|unwell| at.saturating_sub(*unwell) > DECIDED)
    }

    fn told(&self, task: &Task) -> TaskState {
        let told = self.told.get(&task.id).copied().unwrap_or_default();
        told.max(task.status.state)
    }

    /// Whether a task that runs where it may was told to go, and is of an older version.
    fn is_taken(&self, at: Duration, state: &State, service: &Service, task: &Task) -> bool {
        let before = self.last.work.tasks.get(&task.id);
        let told = before.is_some_and(|before| before.desired <= TaskState::Complete)
            && task.desired == TaskState::Shutdown;
        let well = task
            .node
            .is_some_and(|node| state.nodes.contains_key(&node) && self.is_well(at, node));
        told && well
            && self.told(task) == TaskState::Running
            && task.spec_version < service.spec_version
    }

    /// Whether a task has taken the place of `old`, whatever became of it then.
    fn follows(&self, old: &Task, tasks: &[&Arc<Task>]) -> bool {
        tasks.iter().any(|task| {
            task.slot == old.slot
                && task.spec_version > old.spec_version
                && self.told(task) >= TaskState::Running
        })
    }

    fn judge(
        &mut self,
        at: Duration,
        version: u64,
        service: &Service,
        tasks: &[&Arc<Task>],
    ) -> Vec<String> {
        let mut wanted: BTreeMap<Slot, Vec<&Arc<Task>>> = BTreeMap::new();
        for task in tasks {
            if task.desired <= TaskState::Complete && !self.told(task).is_terminal() {
                wanted.entry(task.slot).or_default().push(task);
            }
        }
        let well = |slot: &Slot| match slot {
            Slot::Node(node) => self.is_well(at, *node),
            Slot::Number(_) => true,
        };
        let over = |(id, slot): &(ServiceId, Slot), old: &Arc<Task>| {
            *id == service.id
                && (!wanted.contains_key(slot) || !well(slot) || self.follows(old, tasks))
        };
        let mut taken = self.taken.clone();
        taken.retain(|key, old| !over(key, old));
        let short = taken.keys().filter(|(id, _)| *id == service.id).count() as u64;
        let failed = |slot: &Slot| {
            let mut ended = tasks.iter().filter(|task| self.told(task).is_terminal());
            ended.any(|task| task.slot == *slot)
        };
        let doubled = wanted
            .iter()
            .filter(|(slot, tasks)| tasks.len() > 1 && !failed(slot));
        let doubled = doubled.count() as u64;
        self.taken = taken;
        let Some(Some(bound)) = self.bounds.get(&service.id) else {
            return Vec::new();
        };
        let most = short.max(doubled);
        if most <= *bound || !self.named.insert(service.id) {
            return Vec::new();
        }
        vec![format!(
            "in version {version} of the state service {} has {short} slots without a task and {doubled} with two, and may have {bound}",
            service.id
        )]
    }
}
