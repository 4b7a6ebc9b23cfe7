//! In one term one node leads.

use std::collections::BTreeMap;

use super::super::history::{Entry, Record};
use crate::model::NodeId;

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut leaders: BTreeMap<u64, NodeId> = BTreeMap::new();
    let mut broken = Vec::new();
    for record in records {
        if let Entry::Leads(life, term) = &record.entry {
            let first = *leaders.entry(*term).or_insert(life.node);
            if first != life.node {
                broken.push(format!("{first} and {} lead in term {term}", life.node));
            }
        }
    }
    broken
}
