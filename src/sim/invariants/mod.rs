//! What must hold in every run, one file each: a function from the history to what breaks it.

mod acknowledged_writes_survive;
mod addresses_have_one_holder;
mod old_terms_are_over;
mod one_leader_per_term;
mod one_writer_per_step;
mod quorum_heals;
mod reads_are_linearizable;
mod removed_stays_out;
mod replicas_agree;
mod services_are_not_forgotten;
mod slots_have_one_task;
mod stores_open;
mod task_states_only_rise;
mod tasks_begin_once;
mod updates_are_not_forgotten;
mod updates_keep_bounds;
mod versions_only_rise;
mod who_waits_knows_why;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::history::{Entry, Record};
use crate::cluster::store::Changed;
use crate::model::{Node, NodeId, Task};

/// What breaks an invariant in a history.
type Check = fn(&[Record]) -> Vec<String>;

/// Everything in this history that must not be, each with the name of what it breaks.
pub(super) fn check(records: &[Record]) -> Vec<String> {
    let all: [(&str, Check); 18] = [
        (
            "acknowledged writes survive",
            acknowledged_writes_survive::check,
        ),
        (
            "addresses have one holder",
            addresses_have_one_holder::check,
        ),
        ("old terms are over", old_terms_are_over::check),
        ("one leader per term", one_leader_per_term::check),
        ("one writer per step", one_writer_per_step::check),
        ("the quorum heals", quorum_heals::check),
        ("reads are linearizable", reads_are_linearizable::check),
        ("removed stays out", removed_stays_out::check),
        ("replicas agree", replicas_agree::check),
        (
            "services are not forgotten",
            services_are_not_forgotten::check,
        ),
        ("slots have one task", slots_have_one_task::check),
        ("stores open", stores_open::check),
        ("task states only rise", task_states_only_rise::check),
        ("tasks begin once", tasks_begin_once::check),
        (
            "updates are not forgotten",
            updates_are_not_forgotten::check,
        ),
        ("updates keep their bounds", updates_keep_bounds::check),
        ("versions only rise", versions_only_rise::check),
        ("who waits knows why", who_waits_knows_why::check),
    ];
    all.iter()
        .flat_map(|(name, check)| {
            let broken = check(records);
            broken
                .into_iter()
                .map(move |what| format!("{name}: {what}"))
        })
        .collect()
}

/// Every version of every node that any replica applied.
fn nodes_by_version(records: &[Record]) -> BTreeMap<u64, Arc<Node>> {
    let mut versions = BTreeMap::new();
    for record in records {
        if let Entry::Applied(_, event) = &record.entry
            && let Changed::Node {
                new: Some(node), ..
            } = &event.changed
        {
            versions
                .entry(node.meta.version)
                .or_insert_with(|| node.clone());
        }
    }
    versions
}

/// Every version of every task that any replica applied.
fn tasks_by_version(records: &[Record]) -> BTreeMap<u64, Arc<Task>> {
    let mut versions = BTreeMap::new();
    for record in records {
        if let Entry::Applied(_, event) = &record.entry
            && let Changed::Task {
                new: Some(task), ..
            } = &event.changed
        {
            versions
                .entry(task.meta.version)
                .or_insert_with(|| task.clone());
        }
    }
    versions
}

/// The versions with which each client operation took effect: the one that first shows its number in a label.
fn effects(records: &[Record]) -> BTreeMap<u64, Vec<u64>> {
    let mut effects: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut last: BTreeMap<NodeId, Arc<Node>> = BTreeMap::new();
    for (version, node) in nodes_by_version(records) {
        let before = last.insert(node.id, node.clone());
        for (key, value) in &node.spec.labels {
            let known = before.as_ref().and_then(|node| node.spec.labels.get(key));
            if known != Some(value)
                && let Ok(operation) = value.parse()
            {
                effects.entry(operation).or_default().push(version);
            }
        }
    }
    effects
}

mod tests;
