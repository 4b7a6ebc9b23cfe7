//! Who is made a voter held a replica before, has caught up, and was not dead for so long that the leader knew it.
//!
//! That a cluster whose voters die one by one goes on writing is shown by [`super::super::one_by_one`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::history::{Entry, Life, Record};
use crate::model::NodeId;

/// A node that is gone for so long is known dead to every leader: detection, and a change that was under way.
const KNOWN_DEAD: Duration = Duration::from_secs(15);

/// A replica so many versions behind the leader has caught up: what the leader allows in entries, and what was
/// written since it looked.
const CAUGHT_UP: u64 = 300;

#[derive(Default)]
struct Seen {
    /// What each leading life knew of voters and learners.
    replicas: BTreeMap<Life, (BTreeSet<NodeId>, BTreeSet<NodeId>)>,
    leads: BTreeSet<Life>,
    running: BTreeSet<NodeId>,
    ended: BTreeMap<NodeId, Duration>,
    /// The newest version that each node has shown in any life.
    versions: BTreeMap<NodeId, u64>,
}

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut seen = Seen::default();
    let mut broken = Vec::new();
    for Record { at, entry } in records {
        match entry {
            Entry::Began(life) => {
                seen.running.insert(life.node);
            }
            Entry::Ended(life) => {
                seen.running.remove(&life.node);
                seen.leads.remove(life);
                seen.ended.insert(life.node, *at);
            }
            Entry::Leads(life, _) => {
                seen.leads.insert(*life);
            }
            Entry::Ceased(life, _) => {
                seen.leads.remove(life);
            }
            Entry::Shows(life, state) => {
                let newest = seen.versions.entry(life.node).or_insert(0);
                *newest = state.version.max(*newest);
            }
            Entry::Replicas {
                life,
                voters,
                learners,
            } => {
                broken.extend(seen.judge(*at, *life, voters));
                let known = (voters.clone(), learners.clone());
                seen.replicas.insert(*life, known);
            }
            _ => {}
        }
    }
    broken
}

impl Seen {
    /// What is wrong with the voters that a leader has just made.
    fn judge(&self, at: Duration, life: Life, voters: &BTreeSet<NodeId>) -> Vec<String> {
        let Some((before, learners)) = self.replicas.get(&life) else {
            return Vec::new();
        };
        if !self.leads.contains(&life) {
            return Vec::new();
        }
        let leader = self.versions.get(&life.node).copied().unwrap_or(0);
        let mut broken = Vec::new();
        for node in voters.difference(before) {
            if !learners.contains(node) {
                broken.push(format!(
                    "{life:?} makes {node} a voter, which held no replica"
                ));
            }
            let version = self.versions.get(node).copied().unwrap_or(0);
            if version + CAUGHT_UP < leader {
                broken.push(format!(
                    "{life:?} makes {node} a voter at version {version}, and is at {leader} itself"
                ));
            }
            let gone = self.ended.get(node).map(|ended| at.saturating_sub(*ended));
            if !self.running.contains(node) && gone.is_none_or(|gone| gone > KNOWN_DEAD) {
                broken.push(format!("{life:?} makes {node} a voter, which is dead"));
            }
        }
        broken
    }
}
