//! How the containers of this machine say that they are: what `docker ps` and `docker inspect` show of it.
//!
//! Whoever asks a container for its health tells; the node shows. Remembered while the daemon runs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::task::health::{Answer, Health};
use crate::model::{ContainerId, Timestamp};

/// Answers that are shown, as Docker does.
const SHOWN: usize = 5;

/// How one container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vital {
    /// What it comes to.
    pub health: Health,
    /// Failures in a row.
    pub failures: u32,
    /// The last answers: when it was asked, when it answered, and what.
    pub answers: VecDeque<(Timestamp, Timestamp, Answer)>,
}

/// How all are. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Vitals(Arc<Mutex<BTreeMap<ContainerId, Vital>>>);

impl Vitals {
    /// A container that is asked has begun.
    pub fn begin(&self, id: ContainerId, health: Health) {
        let vital = Vital {
            health,
            failures: 0,
            answers: VecDeque::new(),
        };
        self.all().insert(id, vital);
    }

    /// It has answered, which makes it `health`.
    pub fn answered(
        &self,
        id: ContainerId,
        health: Health,
        (asked, at, answer): (Timestamp, Timestamp, Answer),
    ) {
        let mut all = self.all();
        let vital = all.entry(id).or_insert_with(|| Vital {
            health,
            failures: 0,
            answers: VecDeque::new(),
        });
        vital.health = health;
        vital.failures = match answer {
            Answer::Exited(0) => 0,
            Answer::Exited(_) | Answer::TimedOut | Answer::Failed => vital.failures + 1,
        };
        if vital.answers.len() == SHOWN {
            vital.answers.pop_front();
        }
        vital.answers.push_back((asked, at, answer));
    }

    /// How a container is; `None` when it is not asked.
    pub fn of(&self, id: ContainerId) -> Option<Vital> {
        self.all().get(&id).cloned()
    }

    /// It is gone.
    pub fn forget(&self, id: ContainerId) {
        self.all().remove(&id);
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<ContainerId, Vital>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
