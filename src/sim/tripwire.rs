//! Counts what one node does that anybody else can notice, and kills it at one of these steps.
//!
//! A step is a message that the node sends, or a write that its log begins. Nobody knows more of a node than what it
//! has sent, and nobody who comes after it more than that and what is on disks: two deaths between the same two steps
//! leave the same world behind. So one death at each step stands for deaths at all points at which the node waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::NodeId;

/// The wire of one run. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Tripwire(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    wire: Mutex<Option<Wire>>,
    tripped: Notify,
}

#[derive(Debug)]
struct Wire {
    node: NodeId,
    steps: u64,
    /// The step that does not come about; every one does when `None`.
    last: Option<u64>,
}

impl Wire {
    fn has_tripped(&self) -> bool {
        self.last.is_some_and(|last| self.steps >= last)
    }
}

impl Tripwire {
    fn wire(&self) -> MutexGuard<'_, Option<Wire>> {
        self.0.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on the steps of `node` are counted, and `last`, from one, is its end.
    pub(super) fn stretch(&self, node: NodeId, last: Option<u64>) {
        *self.wire() = Some(Wire {
            node,
            steps: 0,
            last,
        });
    }

    /// One step of `node`. False when it is dead at it, whether or not it knows.
    pub(super) fn step(&self, node: NodeId) -> bool {
        let mut wire = self.wire();
        let Some(wire) = wire.as_mut().filter(|wire| wire.node == node) else {
            return true;
        };
        wire.steps += 1;
        let alive = !wire.has_tripped();
        if !alive {
            self.0.tripped.notify_one();
        }
        alive
    }

    /// Returns when the step has come that was to be the last.
    pub(super) async fn tripped(&self) {
        self.0.tripped.notified().await;
    }

    /// The node is taken down: what it does in another life is not counted.
    pub(super) fn spent(&self, node: NodeId) {
        let mut wire = self.wire();
        if wire.as_ref().is_some_and(|wire| wire.node == node) {
            *wire = None;
        }
    }

    /// The steps so far.
    pub(super) fn steps(&self) -> u64 {
        self.wire().as_ref().map_or(0, |wire| wire.steps)
    }
}
