//! Services of a number of tasks: slots 1, 2, … as many as there are replicas.
//!
//! Fills the lowest free numbers first. When there are too many, those go first that do not run, then those that share
//! their node with the most others.

use std::collections::{BTreeMap, BTreeSet};

use super::new_task;
use super::slots::{self, Tasks};
use crate::manager::draft::Draft;
use crate::model::{NodeId, Service, Slot, TaskState};

type Slots<'a> = BTreeMap<Slot, &'a Tasks>;

/// Brings the number of slots that are taken to `replicas`.
pub(super) fn reconcile(draft: &mut Draft<'_>, service: &Service, replicas: u64) {
    let all = slots::by_slot(draft, service.id);
    let (held, free): (Slots<'_>, Slots<'_>) = all
        .iter()
        .map(|(slot, tasks)| (*slot, tasks))
        .partition(|(_, tasks)| slots::is_held(draft, service, tasks));
    let have = held.len() as u64;
    let mut kept: BTreeSet<Slot> = held.keys().copied().collect();
    if have < replicas {
        let numbers = (1..).map(Slot::Number);
        let missing = usize::try_from(replicas - have).unwrap_or(usize::MAX);
        let missing: Vec<Slot> = numbers
            .filter(|slot| !held.contains_key(slot))
            .take(missing)
            .collect();
        for slot in missing {
            new_task(draft, service, slot, None);
            kept.insert(slot);
        }
    } else {
        let surplus = usize::try_from(have - replicas).unwrap_or(usize::MAX);
        if surplus > 0 && is_waiting(draft, service, &held) {
            return;
        }
        // In most passes nothing leaves, and who would be the next need not be known.
        let leaving = match surplus {
            0 => Vec::new(),
            _ => leaving(draft, &held),
        };
        for slot in leaving.into_iter().take(surplus) {
            kept.remove(&slot);
            forget(draft, held[&slot]);
        }
    }
    for (slot, tasks) in &free {
        if !kept.contains(slot) {
            forget(draft, tasks);
        }
    }
}

/// Whether a node that has some of the tasks has not said yet how they are: which of them run, nobody knows.
fn is_waiting(draft: &mut Draft<'_>, service: &Service, held: &Slots<'_>) -> bool {
    let wanted = held
        .values()
        .copied()
        .flatten()
        .filter(|task| slots::is_wanted(task));
    let mut nodes = wanted.filter_map(|task| task.node);
    let unheard = nodes.find(|node| slots::is_unheard(draft, *node));
    if let Some(node) = unheard {
        draft.wait(service.id, None, format!("a word from node {node}"));
    }
    unheard.is_some()
}

/// The slots in the order in which they are given up.
fn leaving(draft: &Draft<'_>, held: &Slots<'_>) -> Vec<Slot> {
    let mut on_node: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut ranked = Vec::new();
    for (slot, tasks) in held {
        let running = tasks
            .iter()
            .rev()
            .find(|task| slots::is_wanted(task) && draft.state_of(task) == TaskState::Running);
        let copy = match running.and_then(|task| task.node) {
            Some(node) => {
                let copies = on_node.entry(node).or_default();
                *copies += 1;
                *copies
            }
            None => 0,
        };
        ranked.push((running.is_some(), std::cmp::Reverse((copy, *slot)), *slot));
    }
    ranked.sort();
    ranked.into_iter().map(|(.., slot)| slot).collect()
}

fn forget(draft: &mut Draft<'_>, tasks: &Tasks) {
    for task in tasks {
        draft.want(task.id, TaskState::Remove);
    }
}
