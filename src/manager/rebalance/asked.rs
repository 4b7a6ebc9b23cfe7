//! What a user is shown, and what is written, who asks for all services to be made even once.
//!
//! Called by [`term`](crate::manager::term) with the leader's view. [`look`] only looks; [`ask`] gives the change by
//! which the leader's loop begins. Never moves anything itself.

use super::spread::Spread;
use super::{Move, Uneven, is_movable, plan};
use crate::cluster::store::State;
use crate::manager::draft::{Draft, View};
use crate::manager::scheduler::{self, Board};
use crate::model::{Change, Expect, Node, NodeId, Service, ServiceId, ServiceSpec, TaskId};

/// Moves that one answer names; what there is beyond is made all the same.
const SHOWN: usize = 1000;

/// A move, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Which.
    pub step: Move,
    /// The service's name.
    pub name: String,
    /// The name of the node that the task is on.
    pub from: String,
    /// The name of the node that it goes to.
    pub to: String,
    /// What it makes better.
    pub why: String,
}

impl Planned {
    pub(super) fn new(
        draft: &Draft<'_>,
        service: &Service,
        spread: &Spread,
        step: Move,
        uneven: Uneven,
    ) -> Self {
        let placement = service.spec.task_template.placement.as_ref();
        let over = placement.map(scheduler::spread_words).unwrap_or_default();
        let place = |node| match uneven.level {
            None => host(draft, node),
            Some(level) => {
                let over = over.get(level).copied().unwrap_or_default();
                format!("{over}={}", spread.branch(node, level))
            }
        };
        let why = format!(
            "{} has {} of its tasks, {} has {}",
            place(step.from),
            uneven.here,
            place(step.to),
            uneven.there
        );
        Self {
            name: service.spec.name.clone(),
            from: host(draft, step.from),
            to: host(draft, step.to),
            why,
            step,
        }
    }
}

/// A node as its user calls it.
fn host(draft: &Draft<'_>, id: NodeId) -> String {
    let node = draft.view.state.nodes.get(&id);
    let name = node.map(|node| node.description.hostname.clone());
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| id.to_string())
}

/// All that there is to be moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Even {
    /// The moves, service by service, at most a thousand.
    pub moves: Vec<Planned>,
    /// The services that are not even, those whose moves are not shown included.
    pub services: Vec<ServiceId>,
    /// There are more moves than are shown.
    pub is_cut: bool,
}

/// What would be moved, as things are.
pub fn look(view: &View) -> Even {
    let mut board = Board::new(view);
    let mut none = || TaskId::from_bits(0);
    let draft = Draft::new(view, &mut none);
    let fits =
        |node: &Node, spec: &ServiceSpec| scheduler::fits(node, spec, view.nodes.get(&node.id));
    let mut even = Even::default();
    for service in view.state.work.services.keys() {
        let left = SHOWN - even.moves.len();
        let mut takes = |service, version, node| board.takes(service, version, node);
        // One more than is shown tells that there is more.
        let mut moves = plan(&draft, *service, &fits, &mut takes, left + 1);
        if moves.is_empty() {
            continue;
        }
        even.services.push(*service);
        even.is_cut |= moves.len() > left;
        moves.truncate(left);
        even.moves.append(&mut moves);
    }
    even
}

/// The change by which a service is made even once; `None` when that is under way, or it is gone or cannot be moved.
pub fn ask(state: &State, service: ServiceId) -> Option<Change> {
    let current = state.work.services.get(&service)?;
    if current.removed || current.rebalance || !is_movable(current) {
        return None;
    }
    let next = Service {
        rebalance: true,
        ..Service::clone(current)
    };
    let expect = Expect::Version(current.meta.version);
    Some(Change::PutService(expect, Box::new(next)))
}
