//! Reads and writes that are confirmed are in one order that agrees with real time: a read shows everything that was
//! confirmed before it began, and a write comes after all of it.
//!
//! The store's versions are that order, so it is enough that each operation's version fits between its beginning and
//! its end, and that a read shows what that version is.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::history::{Answer, Ask, Entry, Record};
use super::effects;
use crate::cluster::store::State;

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let effects = effects(records);
    let states = states(records);
    let mut broken = Vec::new();
    // The highest version that any finished operation has seen or made.
    let mut floor = 0;
    let mut began: BTreeMap<u64, u64> = BTreeMap::new();
    for record in records {
        match &record.entry {
            Entry::Asked(number, ask) => {
                began.insert(*number, floor);
                let writes = matches!(ask, Ask::Label { .. } | Ask::Propose { .. });
                let early = effects.get(number).and_then(|versions| versions.first());
                if let Some(version) = early.filter(|version| writes && **version <= floor) {
                    broken.push(format!(
                        "write #{number} is version {version}, and version {floor} was confirmed before it began"
                    ));
                }
            }
            Entry::Answered(number, Answer::Read(state)) => {
                let least = began.get(number).copied().unwrap_or(0);
                if state.version < least {
                    broken.push(format!(
                        "read #{number} shows version {}, and version {least} was confirmed before it began",
                        state.version
                    ));
                }
                if states
                    .get(&state.version)
                    .is_some_and(|shown| *shown != *state)
                {
                    broken.push(format!(
                        "read #{number} shows another version {} than the replicas",
                        state.version
                    ));
                }
                floor = floor.max(state.version);
            }
            Entry::Answered(number, Answer::Written(_)) => {
                let version = effects.get(number).and_then(|versions| versions.first());
                floor = floor.max(version.copied().unwrap_or(0));
            }
            _ => {}
        }
    }
    broken
}

fn states(records: &[Record]) -> BTreeMap<u64, Arc<State>> {
    let mut states = BTreeMap::new();
    for record in records {
        if let Entry::Shows(_, state) = &record.entry {
            states.entry(state.version).or_insert_with(|| state.clone());
        }
    }
    states
}
