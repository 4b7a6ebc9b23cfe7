//! A store opens again after whatever crashes left of it, as long as its disk works.

use super::super::history::{Entry, Record};

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let unopened = records.iter().filter_map(|record| match &record.entry {
        Entry::Unopened(life, why) => Some(format!("{life:?} does not open: {why}")),
        _ => None,
    });
    unopened.collect()
}
