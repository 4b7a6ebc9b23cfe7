//! What nodes have said of their tasks in one term of leadership.
//!
//! Sessions feed it, the leader's loop and the API read it. A node speaks of the tasks that it was given and of no
//! others; what it says is merged as a maximum, so that what comes twice, late or out of order does no harm. What is
//! durable and no less is not kept here a second time.

use imbl::OrdSet;

use crate::cluster::store::State;
use crate::model::{NodeId, Observed, TaskId, TaskState, TaskStatus};
use crate::wire::assignment::Report;

/// Longest message or error of a task, in bytes: all of them are in memory, and their last is written down.
const WORDS: usize = 4096;

/// What was said.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// How tasks are, where a node has said more than what is written down.
    pub observed: Observed,
    /// The nodes that have told of all their tasks at least once in this term.
    pub heard: OrdSet<NodeId>,
}

impl Picture {
    /// Takes in what `node` says. True when that is anything new.
    pub fn hear(&mut self, state: &State, node: NodeId, report: Report) -> bool {
        let mut news = false;
        for (task, status) in report.statuses {
            news |= self.hear_of(state, node, task, status.0);
        }
        if report.complete && state.nodes.contains_key(&node) {
            news |= self.heard.insert(node).is_none();
        }
        news
    }

    fn hear_of(&mut self, state: &State, node: NodeId, task: TaskId, status: TaskStatus) -> bool {
        let own = state.work.tasks.get(&task);
        let Some(own) = own.filter(|task| task.node == Some(node)) else {
            return false;
        };
        if status.state >= TaskState::Remove {
            // The one is never observed, the other is the leader's own word.
            return false;
        }
        let status = TaskStatus {
            message: shortened(status.message),
            err: shortened(status.err),
            ..status
        };
        let known = self.observed.get(&task).unwrap_or(&own.status);
        let rank = |status: &TaskStatus| (status.state, status.at);
        if rank(&status) <= rank(known) || rank(&status) <= rank(&own.status) {
            return false;
        }
        self.observed.insert(task, status);
        true
    }

    /// Drops what is as well written down by now, and what was said of a task that is forgotten.
    pub fn forget(&mut self, state: &State, tasks: impl IntoIterator<Item = TaskId>) {
        for task in tasks {
            let Some(seen) = self.observed.get(&task) else {
                continue;
            };
            let kept = state.work.tasks.get(&task);
            let told = kept
                .is_none_or(|kept| (seen.state, seen.at) <= (kept.status.state, kept.status.at));
            if told {
                self.observed.remove(&task);
            }
        }
    }
}

fn shortened(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(WORDS));
    words
}

#[cfg(test)]
mod tests;
