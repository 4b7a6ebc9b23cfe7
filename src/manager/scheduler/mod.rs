//! Chooses a node for every task that waits for one, and says why where there is none.
//!
//! [`schedule`] is the last stage of a pass of the leader's loop; the loop keeps the [`Board`] and tells it what
//! changes. The same view, draft and seed give the same placements. A task that has its node never moves, and nothing
//! that runs is stopped for another.
//!
//! ```text
//!   pending tasks, by (service, version)
//!      ├─ with a node: filters on that node alone
//!      └─ without:     spread ─► filters ─► node     (explain: which filter refused how many nodes)
//! ```

mod board;
mod explain;
mod filters;
mod needs;
mod resources;
mod seats;
mod spread;

pub mod measure;

#[cfg(test)]
mod tests;

pub use board::Board;
pub use seats::{branch, spread_words};

pub use crate::model::constraints;

use std::sync::Arc;

use self::board::GroupKey;
use self::explain::{Explanation, Refusal};
use self::filters::Class;
use self::spread::{Chooser, mix};
use super::allocator::{self, Lack, Needs as Places};
use super::draft::Draft;
use crate::model::plane::Attachment;
use crate::model::task_spec::GenericResource;
use crate::model::{Node, NodeId, NodeStatus, ServiceSpec, TaskId, TaskState};

/// What a task is told whose node was chosen before.
const CONFIRMED: &str = "scheduler confirmed task can run on preassigned node";

/// Gives every pending task of the draft a node, or says in its status why there is none.
pub fn schedule(draft: &mut Draft<'_>, board: &mut Board, seed: u64) {
    board.look_at(draft);
    for key in board.waiting() {
        let class = board.class(&board.needs(key).place.clone());
        let places = allocator::needs(draft, &board.addresses, key.0, key.1);
        confirm(draft, board, key, class.as_deref(), &places);
        place(draft, board, key, class, &places, seed);
    }
}

/// Lets tasks onto the nodes that they already have.
fn confirm(
    draft: &mut Draft<'_>,
    board: &mut Board,
    key: GroupKey,
    class: Option<&Class>,
    places: &Places,
) {
    let needs = board.needs(key);
    for id in board.preassigned(key) {
        let Some(node) = draft.task(id).and_then(|task| task.node) else {
            continue;
        };
        let refusal = match board.find(node) {
            Some(index) => board.refusal(index, key.0, &needs, class),
            None => Some(Refusal::Unavailable),
        };
        if let Some(refusal) = refusal {
            let mut explanation = Explanation::default();
            explanation.count(refusal);
            refuse(draft, key, id, &explanation.words());
            continue;
        }
        let attachments = match attach(draft, board, id, node, places) {
            Ok(attachments) => attachments,
            Err(lack) => {
                refuse(draft, key, id, &lack.to_string());
                continue;
            }
        };
        let index = board.find(node);
        let claimed = index.and_then(|index| board.spot(index).room.stock.claim(&needs.demand));
        let given = Given {
            claimed: claimed.unwrap_or_default(),
            attachments,
        };
        assign(draft, id, node, given, CONFIRMED);
        board.see_draft(draft, id);
    }
}

/// Gives the tasks of a group nodes, until none fits.
fn place(
    draft: &mut Draft<'_>,
    board: &mut Board,
    key: GroupKey,
    class: Option<Arc<Class>>,
    places: &Places,
    seed: u64,
) {
    let mut pending = board.pending(key).into_iter().peekable();
    if pending.peek().is_none() {
        return;
    }
    let mut words = board.blocked(key);
    if words.is_none() {
        let needs = board.needs(key);
        let failing = board.failing(key, draft.now());
        let pivot = mix(seed ^ key.0.bits() as u64);
        let mut chooser = Chooser::new(board, key, class.clone(), failing, pivot);
        while let Some(id) = pending.peek().copied() {
            words = board.addresses.lacking(places).map(|lack| lack.to_string());
            if words.is_some() {
                break;
            }
            let Some(node) = chooser.next(board) else {
                words = Some(board.block(key, class.as_deref()));
                break;
            };
            let (spot, to) = (board.spot(node), board.spot(node).id);
            let claimed = spot.room.stock.claim(&needs.demand).unwrap_or_default();
            let attachments = match attach(draft, board, id, to, places) {
                Ok(attachments) => attachments,
                Err(lack) => {
                    words = Some(lack.to_string());
                    break;
                }
            };
            pending.next();
            let given = Given {
                claimed,
                attachments,
            };
            assign(draft, id, to, given, TaskState::Assigned.message());
            board.see_draft(draft, id);
        }
    }
    if let Some(words) = words {
        for id in pending {
            refuse(draft, key, id, &words);
        }
    }
}

/// Whether a node is one that a service may run on, by what both *are*: constraints and platforms alone.
pub fn fits(node: &Node, spec: &ServiceSpec, status: Option<&NodeStatus>) -> bool {
    let Some(placement) = &spec.task_template.placement else {
        return true;
    };
    let platforms: Vec<_> = placement.platforms.iter().map(needs::short).collect();
    constraints::matches_node(&placement.constraints, node, status)
        && filters::is_one_of(&platforms, &node.description.platform)
}

/// Gives a task its addresses on a node, or says what it lacks.
fn attach(
    draft: &Draft<'_>,
    board: &mut Board,
    id: TaskId,
    node: NodeId,
    places: &Places,
) -> Result<Vec<Attachment>, Lack> {
    let addresses = &mut board.addresses;
    if let Some(lack) = addresses.lacking(places) {
        return Err(lack);
    }
    let given = addresses.attach(id, node, places, draft.now());
    given.ok_or(Lack::Unseen)
}

/// What a task gets with its node.
struct Given {
    claimed: Vec<GenericResource>,
    attachments: Vec<Attachment>,
}

fn assign(draft: &mut Draft<'_>, id: TaskId, node: NodeId, given: Given, message: &str) {
    let now = draft.now();
    draft.edit_task(id, |task| {
        task.node = Some(node);
        task.generic_resources = given.claimed;
        task.attachments = given.attachments;
        task.status.state = TaskState::Assigned;
        task.status.at = now;
        task.status.message = message.into();
        task.status.err.clear();
    });
}

/// Leaves a task where it is, and says why; written only when it is something new.
fn refuse(draft: &mut Draft<'_>, key: GroupKey, id: TaskId, words: &str) {
    let now = draft.now();
    draft.edit_task(id, |task| {
        if task.status.err != words {
            task.status.err = words.into();
            task.status.at = now;
        }
    });
    draft.wait(key.0, None, words);
}
