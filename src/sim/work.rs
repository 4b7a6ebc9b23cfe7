//! Whether every service is as it is to be: the work of a cluster that has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use super::world::World;
use crate::cluster::store::State;
use crate::manager::term::Term;
use crate::model::service_spec::Mode;
use crate::model::{
    Availability, NodeId, NodeState, Observed, Service, Slot, Task, TaskId, TaskState,
};

/// How far a task is, by all that is known.
pub(super) fn state_of(task: &Task, observed: &Observed) -> TaskState {
    let seen = observed.get(&task.id).map(|seen| seen.state);
    task.status.state.max(seen.unwrap_or_default())
}

/// The tasks of a service that are of use.
pub(super) fn live<'s>(
    state: &'s State,
    service: &Service,
    observed: &'s Observed,
) -> Vec<&'s Task> {
    let tasks = state.work.tasks_of(service.id).map(AsRef::as_ref);
    let live = |task: &&Task| {
        task.desired <= TaskState::Complete && !state_of(task, observed).is_terminal()
    };
    tasks.filter(live).collect()
}

/// Whether all services run as they should; the error is the first thing that is not so.
pub(super) fn check(world: &World, state: &State, term: &Term) -> Result<(), String> {
    let observed = term.observed();
    let mut expected: BTreeMap<NodeId, BTreeSet<TaskId>> = BTreeMap::new();
    for service in state.work.services.values() {
        let name = &service.spec.name;
        if service.removed && !is_held_by_the_lost(state, service, term) {
            return Err(format!("{name} is removed, and its tasks are still there"));
        }
        if service.removed {
            continue;
        }
        for task in live(state, service, &observed) {
            check_task(task, &observed).map_err(|why| format!("{name}: {why}"))?;
            if let (Some(node), TaskState::Running) = (task.node, state_of(task, &observed)) {
                expected.entry(node).or_default().insert(task.id);
            }
        }
        let update = service.update.as_ref();
        if update.is_some_and(|update| update.state.is_active()) {
            return Err(format!("{name} is being changed: {update:?}"));
        }
        check_count(state, service, term).map_err(|why| format!("{name}: {why}"))?;
    }
    for machine in world.members() {
        let runs: BTreeSet<TaskId> = machine.host.running().into_iter().collect();
        let wanted = expected.remove(&machine.id).unwrap_or_default();
        if runs != wanted {
            return Err(format!(
                "{} runs {runs:?} and should run {wanted:?}",
                machine.id
            ));
        }
    }
    match expected.pop_first() {
        None => Ok(()),
        Some((node, tasks)) => Err(format!("{tasks:?} run on {node}, which is no member")),
    }
}

/// Whether all that is left of a service is on nodes of which nothing is known: it is kept for a day.
fn is_held_by_the_lost(state: &State, service: &Service, term: &Term) -> bool {
    let statuses = term.statuses().borrow().clone();
    let mut tasks = state.work.tasks_of(service.id).peekable();
    tasks.peek().is_some()
        && tasks.all(|task| {
            let node = task.node.and_then(|node| statuses.get(&node));
            node.is_some_and(|seen| seen.state == NodeState::Down)
        })
}

fn check_task(task: &Task, observed: &Observed) -> Result<(), String> {
    let state = state_of(task, observed);
    let explained = !task.status.err.is_empty();
    let id = task.id;
    match (state, task.desired) {
        (TaskState::Running, TaskState::Running | TaskState::Complete) => Ok(()),
        (TaskState::Pending, _) if explained => Ok(()),
        (TaskState::Pending, _) => Err(format!("{id} waits and nobody says why")),
        (state, desired) => Err(format!("{id} is {state} and to be {desired}")),
    }
}

fn check_count(state: &State, service: &Service, term: &Term) -> Result<(), String> {
    let observed = term.observed();
    let live = live(state, service, &observed);
    let mut slots: Vec<Slot> = live.iter().map(|task| task.slot).collect();
    slots.sort();
    slots.dedup();
    if slots.len() != live.len() {
        return Err("two tasks have one slot".into());
    }
    let statuses = term.statuses().borrow().clone();
    let ready = |node: &NodeId| {
        let seen = statuses.get(node);
        seen.is_some_and(|seen| seen.state == NodeState::Ready)
    };
    let usable: Vec<Slot> = state
        .nodes
        .values()
        .filter(|node| node.spec.availability == Availability::Active && ready(&node.id))
        .map(|node| Slot::Node(node.id))
        .collect();
    match service.spec.mode.read() {
        Mode::Replicated { replicas } if slots.len() as u64 != replicas => Err(format!(
            "it has {} tasks and is to have {replicas}",
            slots.len()
        )),
        Mode::Global if usable.iter().any(|slot| !slots.contains(slot)) => {
            Err(format!("it is on {slots:?} and is to be on {usable:?}"))
        }
        Mode::ReplicatedJob { total, .. } => {
            let done = completed(state, service, &observed).len() as u64;
            match done >= total {
                true => Ok(()),
                false => Err(format!("{done} of {total} are complete")),
            }
        }
        Mode::GlobalJob => {
            let done = completed(state, service, &observed);
            match usable.iter().all(|slot| done.contains(slot)) {
                true => Ok(()),
                false => Err(format!(
                    "it is complete on {done:?} and is to be on {usable:?}"
                )),
            }
        }
        Mode::Replicated { .. } | Mode::Global => Ok(()),
    }
}

/// The slots of a job that this run of it has completed.
fn completed(state: &State, service: &Service, observed: &Observed) -> BTreeSet<Slot> {
    let iteration = service.job.map(|job| job.iteration);
    let tasks = state.work.tasks_of(service.id);
    let done = tasks.filter(|task| {
        task.iteration == iteration && state_of(task, observed) == TaskState::Complete
    });
    done.map(|task| task.slot).collect()
}
