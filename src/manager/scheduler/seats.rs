//! What others ask the scheduler of single nodes: whether one would take a task, and which branch it is on.

use super::board::Board;
use super::constraints::{Facts, Subject};
use crate::model::task_spec::Placement;
use crate::model::{Node, NodeId, NodeStatus, ServiceId};

impl Board {
    /// Whether a node could take one more task of a version of a service, of which there is one already.
    pub fn takes(&mut self, service: ServiceId, version: u64, node: NodeId) -> bool {
        let needs = self.needs((service, version));
        let class = self.class(&needs.place.clone());
        let refusal = self.find(node).map(|node| {
            let class = class.as_deref();
            self.refusal(node, service, &needs, class)
        });
        matches!(refusal, Some(None))
    }
}

/// What a node is in each thing that tasks are to be spread over, the most important first.
pub fn branch(node: &Node, status: Option<&NodeStatus>, placement: &Placement) -> Vec<String> {
    let facts = Facts::of(node, status);
    let subjects = subjects(placement);
    subjects
        .map(|(_, subject)| facts.text(&subject).to_owned())
        .collect()
}

/// What tasks are to be spread over, in the user's words, the most important first.
pub fn spread_words(placement: &Placement) -> Vec<&str> {
    subjects(placement).map(|(words, _)| words).collect()
}

fn subjects(placement: &Placement) -> impl Iterator<Item = (&str, Subject)> {
    let spread = placement.preferences.iter();
    let spread = spread.filter_map(|preference| preference.spread.as_ref());
    let words = spread.map(|over| over.spread_descriptor.trim());
    words
        .filter_map(|words| Some((words, Subject::of(words)?)))
        .filter(|(_, subject)| *subject != Subject::Ip)
}
