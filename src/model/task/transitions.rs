//! Who moves a task from which state to which, as data: each pair of states has exactly one writer.
//!
//! The agent's table is what its own machine obeys and what simulations check each step against.

use super::TaskState::{self, *};

/// Who may take a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writer {
    /// Gives addresses and ports.
    Allocator,
    /// Chooses the node.
    Scheduler,
    /// Runs the container.
    Agent,
    /// Rejects what may no longer run where it is, before the agent has begun.
    Enforcer,
    /// Gives up what is on a node that is gone for good.
    Dispatcher,
}

/// Every step that there is.
pub const TRANSITIONS: &[(Writer, TaskState, TaskState)] = &[
    (Writer::Allocator, New, Pending),
    (Writer::Scheduler, Pending, Assigned),
    (Writer::Agent, Assigned, Accepted),
    (Writer::Agent, Accepted, Preparing),
    (Writer::Agent, Preparing, Ready),
    (Writer::Agent, Ready, Starting),
    (Writer::Agent, Starting, Running),
    (Writer::Agent, Running, Complete),
    (Writer::Agent, Assigned, Rejected),
    (Writer::Agent, Accepted, Rejected),
    (Writer::Agent, Preparing, Rejected),
    (Writer::Agent, Ready, Rejected),
    (Writer::Agent, Starting, Failed),
    (Writer::Agent, Running, Failed),
    (Writer::Agent, Starting, Complete),
    (Writer::Agent, Assigned, Shutdown),
    (Writer::Agent, Accepted, Shutdown),
    (Writer::Agent, Preparing, Shutdown),
    (Writer::Agent, Ready, Shutdown),
    (Writer::Agent, Starting, Shutdown),
    (Writer::Agent, Running, Shutdown),
    (Writer::Enforcer, Pending, Rejected),
    (Writer::Dispatcher, Assigned, Orphaned),
    (Writer::Dispatcher, Accepted, Orphaned),
    (Writer::Dispatcher, Preparing, Orphaned),
    (Writer::Dispatcher, Ready, Orphaned),
    (Writer::Dispatcher, Starting, Orphaned),
    (Writer::Dispatcher, Running, Orphaned),
];

/// Who may take a step, if anybody may.
pub fn writer_of(from: TaskState, to: TaskState) -> Option<Writer> {
    let mut steps = TRANSITIONS.iter();
    let step = steps.find(|(_, a, b)| (*a, *b) == (from, to));
    step.map(|(writer, ..)| *writer)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_step_rises_and_has_one_writer() {
        let mut seen = BTreeSet::new();
        for (writer, from, to) in TRANSITIONS {
            assert!(from < to, "{from} → {to}");
            assert!(seen.insert((from, to)), "{from} → {to} has two writers");
            assert_eq!(writer_of(*from, *to), Some(*writer));
        }
    }

    #[test]
    fn nothing_leaves_an_end_and_nothing_is_observed_as_removed() {
        for (_, from, to) in TRANSITIONS {
            assert!(!from.is_terminal(), "{from} → {to}");
            assert_ne!(*to, Remove);
        }
    }
}
