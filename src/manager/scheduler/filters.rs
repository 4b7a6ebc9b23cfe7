//! Whether a node can take a task, and which filter says no.
//!
//! What a node *is* (labels, address, platform) changes seldom and is asked for by many services alike, so the answer
//! is kept per [`Place`] in a [`Class`]; what is *left* on it is asked each time.

use std::collections::BTreeMap;

use super::constraints::{Constraint, Facts};
use super::explain::Refusal;
use super::needs::{HostPort, Needs, Place, short_architecture};
use super::resources::Stock;
use crate::model::Platform;

/// What of a node changes with its tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    /// Whether it takes new tasks at all.
    pub(super) usable: bool,
    pub(super) stock: Stock,
    /// How many tasks have each port: two only where they were placed otherwise than here.
    pub(super) ports: BTreeMap<HostPort, u32>,
}

/// Why a node cannot take one more task, `active` of whose service it has; the first filter that it does not pass.
pub(super) fn refusal(
    room: &Room,
    needs: &Needs,
    place: Option<Refusal>,
    active: u32,
) -> Option<Refusal> {
    if !room.usable {
        return Some(Refusal::Unavailable);
    }
    if !room.stock.fits(&needs.demand) {
        return Some(Refusal::Resources);
    }
    if place.is_some() {
        return place;
    }
    if needs.ports.iter().any(|port| room.ports.contains_key(port)) {
        return Some(Refusal::HostPort);
    }
    let full = needs
        .max_replicas
        .is_some_and(|max| u64::from(active) >= max);
    full.then_some(Refusal::MaxReplicas)
}

/// Nodes sorted by whether they are in a place.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// `None` when one of them is no constraint, which no node meets.
    constraints: Option<Vec<Constraint>>,
    platforms: Vec<(String, String)>,
    verdicts: Vec<Option<Refusal>>,
    fitting: usize,
}

impl Class {
    /// For this place, with no nodes in it yet.
    pub(super) fn new(place: &Place) -> Self {
        let constraints = place.constraints.iter();
        let constraints = constraints.map(|text| Constraint::parse(text));
        Self {
            constraints: constraints.collect::<Result<_, _>>().ok(),
            platforms: place.platforms.clone(),
            verdicts: Vec::new(),
            fitting: 0,
        }
    }

    /// Says anew whether the node with this number fits.
    pub(super) fn judge(&mut self, node: usize, facts: &Facts) {
        let verdict = self.verdict(facts);
        if self.verdicts.len() <= node {
            self.verdicts.resize(node + 1, Some(Refusal::Constraints));
        }
        self.fitting += usize::from(verdict.is_none());
        self.fitting -= usize::from(self.verdicts[node].is_none());
        self.verdicts[node] = verdict;
    }

    /// Why the node with this number does not fit.
    pub(super) fn refusal(&self, node: usize) -> Option<Refusal> {
        let verdict = self.verdicts.get(node).copied();
        verdict.unwrap_or(Some(Refusal::Constraints))
    }

    /// How many nodes fit.
    pub(super) fn len(&self) -> usize {
        self.fitting
    }

    /// The nodes that fit, by number.
    pub(super) fn fitting(&self) -> impl Iterator<Item = usize> + '_ {
        let verdicts = self.verdicts.iter().enumerate();
        let fitting = verdicts.filter(|(_, verdict)| verdict.is_none());
        fitting.map(|(node, _)| node)
    }

    fn verdict(&self, facts: &Facts) -> Option<Refusal> {
        let met = self.constraints.as_ref();
        let met = met.is_some_and(|all| all.iter().all(|one| one.holds(facts)));
        if !met {
            return Some(Refusal::Constraints);
        }
        (!is_one_of(&self.platforms, &facts.platform)).then_some(Refusal::Platform)
    }
}

/// Whether a node of this platform runs what is made for these; for none in particular, it does.
pub(super) fn is_one_of(platforms: &[(String, String)], here: &Platform) -> bool {
    let machine = short_architecture(&here.architecture);
    let mut all = platforms.iter();
    platforms.is_empty()
        || all.any(|(architecture, os)| {
            (architecture.is_empty() || architecture == machine)
                && (os.is_empty() || *os == here.os)
        })
}
