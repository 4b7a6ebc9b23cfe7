//! The mounts of snapshots that were just prepared, until their containers are started: a question less for each start.
//!
//! Only what spares a question. Whoever finds nothing here asks containerd, which says the same.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use containerd_client::types::Mount;

use crate::model::ContainerId;

/// Containers that are remembered: as many as are likely to be between their making and their start.
const MOST: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Prepared(Mutex<BTreeMap<ContainerId, Vec<Mount>>>);

impl Prepared {
    /// Remembers them, unless there are too many already.
    pub(super) fn keep(&self, id: ContainerId, mounts: Vec<Mount>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MOST {
            all.insert(id, mounts);
        }
    }

    /// What is remembered, which is then forgotten.
    pub(super) fn take(&self, id: ContainerId) -> Option<Vec<Mount>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_remembered_once() {
        let prepared = Prepared::default();
        let id = |number: usize| ContainerId::from_bytes([u8::try_from(number).unwrap(); 32]);
        for number in 0..=MOST {
            prepared.keep(id(number), vec![Mount::default()]);
        }
        assert_eq!(prepared.take(id(0)), Some(vec![Mount::default()]));
        assert_eq!(prepared.take(id(0)), None);
        assert_eq!(prepared.take(id(MOST)), None);
    }
}
