//! A node that was removed is in no later state, gets no replica, and is not let in again.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{Answer, Ask, Entry, Life, Record};
use crate::model::NodeId;

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut broken = check_states(records);
    broken.extend(check_answers(records));
    broken.extend(check_replicas(records));
    broken
}

fn check_states(records: &[Record]) -> Vec<String> {
    // The lowest version of a state that says that a node was removed.
    let mut removed: BTreeMap<NodeId, u64> = BTreeMap::new();
    for record in records {
        if let Entry::Shows(_, state) = &record.entry {
            for node in state.removed.keys() {
                let since = removed.entry(*node).or_insert(state.version);
                *since = state.version.min(*since);
            }
        }
    }
    let mut broken = Vec::new();
    for record in records {
        let Entry::Shows(life, state) = &record.entry else {
            continue;
        };
        for (node, since) in &removed {
            let out = state.removed.contains_key(node) && !state.nodes.contains_key(node);
            if state.version >= *since && !out {
                broken.push(format!(
                    "{node} was removed in version {since}, and {life:?} shows it in version {}",
                    state.version
                ));
            }
        }
    }
    broken
}

fn check_answers(records: &[Record]) -> Vec<String> {
    let mut asks: BTreeMap<u64, Ask> = BTreeMap::new();
    let mut out: BTreeSet<NodeId> = BTreeSet::new();
    let mut too_late: BTreeSet<u64> = BTreeSet::new();
    let mut broken = Vec::new();
    for record in records {
        match &record.entry {
            Entry::Asked(number, ask) => {
                if matches!(ask, Ask::Join(node) if out.contains(node)) {
                    too_late.insert(*number);
                }
                asks.insert(*number, ask.clone());
            }
            Entry::Answered(number, Answer::Written(_)) => match asks.get(number) {
                Some(Ask::Remove(node)) => {
                    out.insert(*node);
                }
                Some(Ask::Join(node)) if too_late.contains(number) => {
                    broken.push(format!("{node} was removed, and let in again"));
                }
                _ => {}
            },
            _ => {}
        }
    }
    broken
}

/// Who leads and knows of a removal adds no replica for the removed node.
fn check_replicas(records: &[Record]) -> Vec<String> {
    let mut known_out: BTreeMap<Life, BTreeSet<NodeId>> = BTreeMap::new();
    let mut replicas: BTreeMap<Life, BTreeSet<NodeId>> = BTreeMap::new();
    let mut leads: BTreeSet<Life> = BTreeSet::new();
    let mut broken = Vec::new();
    for record in records {
        match &record.entry {
            Entry::Leads(life, _) => {
                leads.insert(*life);
            }
            Entry::Ceased(life, _) | Entry::Ended(life) => {
                leads.remove(life);
            }
            Entry::Shows(life, state) => {
                known_out.insert(*life, state.removed.keys().copied().collect());
            }
            Entry::Replicas {
                life,
                voters,
                learners,
            } => {
                let now: BTreeSet<NodeId> = voters.union(learners).copied().collect();
                let before = replicas.insert(*life, now.clone());
                let out = known_out.get(life).cloned().unwrap_or_default();
                let added = now.difference(before.as_ref().unwrap_or(&now));
                for node in added.filter(|node| leads.contains(life) && out.contains(node)) {
                    broken.push(format!(
                        "{life:?} gives {node} a replica, which was removed"
                    ));
                }
            }
            _ => {}
        }
    }
    broken
}
