//! A write that was acknowledged took effect exactly once and is in every later state; a write that was refused took
//! none; one of unknown fate took at most one.

use std::collections::BTreeMap;

use super::super::history::{Answer, Ask, Entry, Life, Record};
use super::effects;

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let effects = effects(records);
    let mut writes = BTreeMap::new();
    let mut broken = Vec::new();
    let mut highest = 0;
    for record in records {
        match &record.entry {
            Entry::Asked(number, Ask::Label { .. } | Ask::Propose { .. }) => {
                writes.insert(*number, None);
            }
            Entry::Answered(number, answer) if writes.contains_key(number) => {
                writes.insert(*number, Some(answer.clone()));
            }
            _ => {}
        }
    }
    for (number, answer) in &writes {
        let versions = effects.get(number).map_or(&[][..], Vec::as_slice);
        match (answer, versions) {
            (Some(Answer::Written(told)), [version]) => {
                highest = highest.max(*version);
                if told.is_some_and(|told| told != *version) {
                    broken.push(format!(
                        "#{number} was acknowledged as version {told:?} and is version {version}"
                    ));
                }
            }
            (Some(Answer::Written(_)), _) => broken.push(format!(
                "#{number} was acknowledged and took effect in versions {versions:?}"
            )),
            (Some(Answer::Refused(why)), [_, ..]) => broken.push(format!(
                "#{number} was refused ({why}) and took effect in versions {versions:?}"
            )),
            (_, [_, _, ..]) => {
                broken.push(format!("#{number} took effect in versions {versions:?}"));
            }
            (Some(Answer::Refused(_) | Answer::Unknown(_) | Answer::Read(_)) | None, _) => {}
        }
    }
    broken.extend(check_end(records, highest));
    broken
}

/// At the end, when all replicas run and have caught up, none is behind the last acknowledged write.
fn check_end(records: &[Record], highest: u64) -> Option<String> {
    let healed = records
        .iter()
        .position(|record| matches!(record.entry, Entry::Healed))?;
    let mut last: BTreeMap<Life, u64> = BTreeMap::new();
    for record in &records[healed..] {
        if let Entry::Shows(life, state) = &record.entry {
            last.insert(*life, state.version);
        }
    }
    let newest = last.values().max().copied().unwrap_or(highest);
    (newest < highest).then(|| {
        format!("version {highest} was acknowledged, and in the end the newest is {newest}")
    })
}
