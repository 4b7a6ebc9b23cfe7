//! How many tasks of a service are where, and which move makes that more even.
//!
//! A node is a leaf of a tree of what the service is to be spread over. A move goes from the fullest branch to the
//! emptiest where they differ by two or more, the upper branches first: so the sum of the squares falls at one level
//! and stays at those above it, which cannot go on for ever.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{AFTER_FAILURE, Move, Uneven};
use crate::manager::draft::Draft;
use crate::manager::orchestrator::Fits;
use crate::manager::orchestrator::slots::{self, Tasks};
use crate::manager::restart::policy;
use crate::manager::scheduler::branch;
use crate::model::{NodeId, Service, ServiceId, Slot, Task, TaskId};

/// The nodes that may have tasks of a service, and those that they have.
#[derive(Debug)]
pub(super) struct Spread {
    service: ServiceId,
    nodes: BTreeMap<NodeId, Seat>,
}

#[derive(Debug, Default)]
struct Seat {
    /// The branches that it is on, the uppermost first.
    branch: Vec<String>,
    tasks: BTreeMap<Slot, (TaskId, u64)>,
    /// Nothing is moved here.
    is_avoided: bool,
}

impl Spread {
    /// How it is.
    pub(super) fn of(
        draft: &Draft<'_>,
        service: &Service,
        slots: &BTreeMap<Slot, Tasks>,
        fits: Fits<'_>,
    ) -> Self {
        let placement = service.spec.task_template.placement.clone();
        let placement = placement.unwrap_or_default();
        let known = draft.view.state.nodes.values();
        let fitting =
            known.filter(|node| slots::is_usable(draft, node.id) && fits(node, &service.spec));
        let mut nodes: BTreeMap<NodeId, Seat> = fitting
            .map(|node| {
                let branch = branch(node, draft.view.nodes.get(&node.id), &placement);
                let seat = Seat {
                    branch,
                    ..Seat::default()
                };
                (node.id, seat)
            })
            .collect();
        for task in slots.values().flatten() {
            let Some(seat) = task.node.and_then(|node| nodes.get_mut(&node)) else {
                continue;
            };
            if slots::is_wanted(task) && draft.is_live(task) {
                seat.tasks.insert(task.slot, (task.id, task.spec_version));
            }
            seat.is_avoided |= has_failed(draft, task);
        }
        Self {
            service: service.id,
            nodes,
        }
    }

    /// The next move, to a node that takes a task of the version.
    pub(super) fn next(
        &self,
        mut takes: impl FnMut(u64, NodeId) -> bool,
    ) -> Option<(Move, Uneven)> {
        let all: Vec<NodeId> = self.nodes.keys().copied().collect();
        self.within(&all, 0, &mut takes)
    }

    /// Makes a move on paper.
    pub(super) fn take(&mut self, step: &Move) {
        let from = self.nodes.get_mut(&step.from);
        let task = from.and_then(|seat| seat.tasks.remove(&step.slot));
        if let (Some(task), Some(to)) = (task, self.nodes.get_mut(&step.to)) {
            to.tasks.insert(step.slot, task);
        }
    }

    /// The name of the branch of a node at a level.
    pub(super) fn branch(&self, node: NodeId, level: usize) -> &str {
        let branch = self.nodes.get(&node).map(|seat| &seat.branch);
        let value = branch.and_then(|branch| branch.get(level));
        value.map_or("", String::as_str)
    }

    fn within(
        &self,
        nodes: &[NodeId],
        level: usize,
        takes: &mut dyn FnMut(u64, NodeId) -> bool,
    ) -> Option<(Move, Uneven)> {
        let is_leaf = |node: &NodeId| self.nodes[node].branch.len() <= level;
        if nodes.iter().all(is_leaf) {
            let alone: Vec<Vec<NodeId>> = nodes.iter().map(|node| vec![*node]).collect();
            return self.between(alone, None, takes);
        }
        let mut branches: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
        for node in nodes {
            let value = self.branch(*node, level);
            branches.entry(value).or_default().push(*node);
        }
        let branches: Vec<Vec<NodeId>> = branches.into_values().collect();
        let mut below = branches.clone().into_iter();
        self.between(branches, Some(level), takes)
            .or_else(|| below.find_map(|branch| self.within(&branch, level + 1, takes)))
    }

    /// A move from the fullest of these to the emptiest that takes it.
    fn between(
        &self,
        mut branches: Vec<Vec<NodeId>>,
        level: Option<usize>,
        takes: &mut dyn FnMut(u64, NodeId) -> bool,
    ) -> Option<(Move, Uneven)> {
        branches.sort_by_key(|branch| self.total(branch));
        let (fullest, others) = branches.split_last()?;
        let from = *fullest
            .iter()
            .max_by_key(|node| (self.count(**node), Reverse(**node)))?;
        let (slot, (task, version)) = self.nodes[&from].tasks.last_key_value()?;
        for branch in others {
            if self.total(fullest) < self.total(branch) + 2 {
                break;
            }
            let mut nodes = branch.clone();
            nodes.sort_by_key(|node| (self.count(*node), *node));
            let mut nodes = nodes.into_iter();
            if let Some(to) =
                nodes.find(|node| !self.nodes[node].is_avoided && takes(*version, *node))
            {
                let step = Move {
                    service: self.service,
                    slot: *slot,
                    task: *task,
                    from,
                    to,
                };
                let uneven = Uneven {
                    level,
                    here: self.total(fullest),
                    there: self.total(branch),
                };
                return Some((step, uneven));
            }
        }
        None
    }

    fn count(&self, node: NodeId) -> usize {
        self.nodes[&node].tasks.len()
    }

    fn total(&self, nodes: &[NodeId]) -> usize {
        nodes.iter().map(|node| self.count(*node)).sum()
    }
}

/// Whether a task has ended by itself not long ago.
fn has_failed(draft: &Draft<'_>, task: &Task) -> bool {
    let recent = draft.now() < task.meta.created_at.after(AFTER_FAILURE);
    recent && policy::ended_by_itself(draft.state_of(task))
}
