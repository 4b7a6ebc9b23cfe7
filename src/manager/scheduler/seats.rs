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
    let spread = placement.preferences.iter();
    let spread = spread.filter_map(|preference| preference.spread.as_ref());
    spread
        .filter_map(|over| Subject::of(over.spread_descriptor.trim()))
        .filter(|subject| *subject != Subject::Ip)
        .map(|subject| facts.text(&subject).to_owned())
        .collect()
}
