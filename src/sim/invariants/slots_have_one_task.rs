//! In each place of a service at most one task of a version is asked for, in every state that any replica shows: the
//! bound on how many tasks a service has at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{Entry, Record};
use crate::cluster::store::State;
use crate::model::TaskState;

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut broken = Vec::new();
    for record in records {
        if let Entry::Shows(_, state) = &record.entry
            && seen.insert(state.version)
        {
            broken.extend(doubles(state));
        }
    }
    broken
}

fn doubles(state: &State) -> Vec<String> {
    let mut places = BTreeMap::new();
    let wanted = state
        .work
        .tasks
        .values()
        .filter(|task| task.desired <= TaskState::Complete && !task.status.state.is_terminal());
    let mut broken = Vec::new();
    for task in wanted {
        let place = (task.service, task.slot, task.spec_version);
        if let Some(other) = places.insert(place, task.id) {
            broken.push(format!(
                "in version {} tasks {other} and {} are both to be in slot {}",
                state.version, task.id, task.slot
            ));
        }
    }
    broken
}
