//! One pass of the leader's loop: from what is to be looked at to what is to be proposed.
//!
//! ```text
//!   record ─► enforce ─► reap ─► settle ─► orchestrate ─► update ─► rebalance ─► restart ─► schedule ─► proposals, waits
//! ```
//!
//! Each stage sees what those before it have decided. A pass is a function of values: the loop ([`work`](super::work))
//! says what is to be looked at, keeps the scheduler's board, proposes what comes of it, and does the same again when
//! that was refused.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{Draft, View, Wait};
use super::scheduler::{self, Board};
use super::{allocator, enforcer, orchestrator, reaper, rebalance, restart, updater};
use crate::model::{
    Node, NodeId, NodeState, Proposal, ServiceId, ServiceSpec, TaskId, TaskState, TaskStatus,
    Timestamp,
};

/// Tasks in one proposal, about: some hundred KiB, so that no write holds up those behind it for long.
pub const PROPOSAL: usize = 512;

/// What a pass looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agenda {
    /// Services to which something has happened.
    pub services: BTreeSet<ServiceId>,
    /// Nodes that are not what they were, or not seen as they were.
    pub nodes: BTreeSet<NodeId>,
    /// Tasks of which more was said than what is written down.
    pub said: BTreeSet<TaskId>,
    /// Whether there is to be a network for published ports, and is none.
    pub ingress: bool,
}

/// What comes of a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What to propose, one after another.
    pub proposals: Vec<Proposal>,
    /// What had to wait.
    pub waits: BTreeSet<Wait>,
}

/// What the loop knows besides the view.
pub struct Aids<'a> {
    /// Since when nodes are down.
    pub down: &'a BTreeMap<NodeId, Timestamp>,
    /// The scheduler's.
    pub board: &'a mut Board,
    /// Names new tasks.
    pub ids: &'a mut dyn FnMut() -> TaskId,
    /// Breaks ties between nodes.
    pub seed: u64,
}

impl std::fmt::Debug for Aids<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aids").finish_non_exhaustive()
    }
}

/// One pass.
pub fn run(view: &View, agenda: &Agenda, aids: Aids<'_>) -> Outcome {
    let board = aids.board;
    let mut draft = Draft::new(view, aids.ids);
    board.addresses.look_at(view);
    if agenda.ingress {
        allocator::keep_ingress(&mut draft);
    }
    let fits =
        |node: &Node, spec: &ServiceSpec| scheduler::fits(node, spec, view.nodes.get(&node.id));
    for task in &agenda.said {
        record(&mut draft, *task);
    }
    for node in &agenda.nodes {
        // What a node has not told of yet in this term may have ended long ago.
        let seen = view.nodes.get(node);
        if seen.is_some_and(|seen| seen.state == NodeState::Ready) {
            enforcer::enforce(&mut draft, *node, &fits);
        }
        enforcer::orphan(&mut draft, *node, aids.down.get(node).copied());
    }
    for service in &agenda.services {
        reaper::reap(&mut draft, *service);
        allocator::settle(&mut draft, &mut board.addresses, *service);
        orchestrator::orchestrate(&mut draft, *service, &fits);
        updater::update(&mut draft, *service, &fits);
        let mut takes = |service, version, node| board.takes(service, version, node);
        rebalance::rebalance(&mut draft, *service, &fits, &mut takes);
        restart::restart(&mut draft, *service);
    }
    scheduler::schedule(&mut draft, board, aids.seed);
    let waits = std::mem::take(&mut draft.waits);
    Outcome {
        proposals: draft.proposals(PROPOSAL),
        waits,
    }
}

/// Whether a state is written down when a node tells of it; the others live in the leader's memory alone.
pub(super) fn is_kept(state: TaskState) -> bool {
    state >= TaskState::Running
}

/// Writes down a task's first RUNNING, and its end.
fn record(draft: &mut Draft<'_>, task: TaskId) {
    let Some(kept) = draft.task(task) else {
        return;
    };
    let seen = draft.status(&kept);
    if !is_kept(seen.state) || seen.state <= kept.status.state {
        return;
    }
    let explained = enforcer::explains(&kept.status) && seen.err.is_empty();
    draft.edit_task(task, |task| {
        let told = std::mem::take(&mut task.status);
        task.status = match explained && seen.state == TaskState::Shutdown {
            true => TaskStatus {
                message: told.message,
                err: told.err,
                ..seen
            },
            false => seen,
        };
    });
}

#[cfg(test)]
mod tests;
