//! A service whose creation was acknowledged is there, in every later state of it, until somebody asks for its removal;
//! one whose creation was refused never is.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{Answer, Ask, Entry, Record};
use crate::cluster::store::Changed;
use crate::model::ServiceId;

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let (mut asked, mut answers) = (BTreeMap::new(), BTreeMap::new());
    let mut named: BTreeMap<String, ServiceId> = BTreeMap::new();
    let (mut doomed, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for record in records {
        match &record.entry {
            Entry::Asked(number, Ask::Create(name, _)) => {
                asked.insert(*number, name.clone());
            }
            Entry::Asked(_, Ask::Forget(id)) => {
                doomed.insert(*id);
            }
            Entry::Answered(number, answer) => {
                answers.insert(*number, answer.clone());
            }
            Entry::Applied(_, event) => {
                if let Changed::Service { id, new, .. } = &event.changed {
                    if let Some(new) = new {
                        named.insert(new.spec.name.clone(), *id);
                    }
                    if new.as_ref().is_none_or(|new| new.removed) {
                        gone.insert(*id);
                    }
                }
            }
            _ => {}
        }
    }
    let mut broken: Vec<String> = gone
        .difference(&doomed)
        .map(|id| format!("service {id} went, and nobody had asked for that"))
        .collect();
    let mut times: BTreeMap<&String, usize> = BTreeMap::new();
    for name in asked.values() {
        *times.entry(name).or_default() += 1;
    }
    for (number, name) in &asked {
        // What is asked for again after a refusal may be there by the other request.
        let once = times.get(name) == Some(&1);
        match (answers.get(number), named.contains_key(name)) {
            (Some(Answer::Written(_)), false) => {
                broken.push(format!(
                    "#{number}: service {name} was acknowledged, and never was"
                ));
            }
            (Some(Answer::Refused(why)), true) if once => {
                broken.push(format!(
                    "#{number}: service {name} was refused ({why}), and is"
                ));
            }
            _ => {}
        }
    }
    broken
}
