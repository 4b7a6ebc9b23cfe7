//! Where a container goes that belongs to no service: the scheduler is asked as if it were the only task of one.
//!
//! Pure, a function of values. What such containers take on nodes already is no part of the state, so whoever asks says
//! it, and it is laid over a copy of the state as tasks. Nothing is kept or proposed.

use std::sync::Arc;

use crate::api::backend::{Load, Wish};
use crate::manager::draft::{Draft, View};
use crate::manager::scheduler::{Board, schedule};
use crate::model::task_spec::{Placement, Reservation, ResourceRequirements, TaskSpec};
use crate::model::{
    Change, Expect, Meta, NodeId, Proposal, Rejection, Service, ServiceId, ServiceSpec, Slot, Task,
    TaskId, TaskState, TaskStatus, Template,
};

/// Containers of one node beyond which more make no difference.
const MOST_COUNTED: u64 = 1000;

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    /// None fits, in the scheduler's words.
    #[error("{0}")]
    NoNode(String),
    /// What was asked or said cannot be.
    #[error("a place for the container cannot be thought of")]
    Impossible(#[source] Rejection),
}

/// A node for one container. `seed` decides between equals.
pub(super) fn choose(mut view: View, wish: &Wish, seed: u64) -> Result<NodeId, PlaceError> {
    let at = view.now;
    let mut ids = (1..=u128::MAX).rev();
    let mut next = || ids.next().unwrap_or_default();
    let mut changes = Vec::new();
    for (node, load) in &wish.load {
        changes.extend(taken(*node, load, &mut next));
    }
    let wanted = TaskId::from_bits(next());
    let service = ServiceId::from_bits(next());
    let spec = TaskSpec {
        resources: reserved(wish.nano_cpus, wish.memory_bytes),
        placement: Some(Placement {
            constraints: wish.constraints.clone(),
            ..Placement::default()
        }),
        ..TaskSpec::default()
    };
    changes.extend(group(service, spec));
    changes.push(task(wanted, service, None));
    let mut state = (*view.state).clone();
    state
        .apply(Proposal { at, changes }, &mut Vec::new())
        .map_err(PlaceError::Impossible)?;
    view.state = Arc::new(state);

    let mut board = Board::new(&view);
    let mut none = TaskId::default;
    let mut draft = Draft::new(&view, &mut none);
    schedule(&mut draft, &mut board, seed);
    let chosen = draft.task(wanted);
    let words = || {
        let task = chosen.as_ref();
        task.map(|task| task.status.err.clone()).unwrap_or_default()
    };
    let node = chosen.as_ref().and_then(|task| task.node);
    node.ok_or_else(|| PlaceError::NoNode(words()))
}

/// What runs on a node and is no task: the first of these takes what all of them do.
fn taken(node: NodeId, load: &Load, next: &mut impl FnMut() -> u128) -> Vec<Change> {
    let mut changes = Vec::new();
    for number in 0..load.containers.min(MOST_COUNTED) {
        let service = ServiceId::from_bits(next());
        let resources = (number == 0).then(|| reserved(load.nano_cpus, load.memory_bytes));
        let spec = TaskSpec {
            resources: resources.flatten(),
            ..TaskSpec::default()
        };
        changes.extend(group(service, spec));
        changes.push(task(TaskId::from_bits(next()), service, Some(node)));
    }
    changes
}

fn reserved(nano_cpus: i64, memory_bytes: i64) -> Option<ResourceRequirements> {
    let reservations = Reservation {
        nano_cpus: nano_cpus.max(0),
        memory_bytes: memory_bytes.max(0),
        ..Reservation::default()
    };
    Some(ResourceRequirements {
        reservations: Some(reservations),
        ..ResourceRequirements::default()
    })
}

fn group(id: ServiceId, task: TaskSpec) -> [Change; 2] {
    let service = Service {
        id,
        spec: ServiceSpec {
            name: format!("standalone-{id}"),
            ..ServiceSpec::default()
        },
        spec_version: 1,
        ..Service::default()
    };
    let template = Template {
        task,
        ..Template::default()
    };
    [
        Change::PutService(Expect::Absent, Box::new(service)),
        Change::PutTemplate(id, 1, Box::new(template)),
    ]
}

/// One that runs on a node, or one that waits for a node.
fn task(id: TaskId, service: ServiceId, node: Option<NodeId>) -> Change {
    let state = match node {
        Some(_) => TaskState::Running,
        None => TaskState::Pending,
    };
    Change::PutTask(
        Expect::Absent,
        Box::new(Task {
            id,
            meta: Meta::default(),
            service,
            slot: Slot::Number(1),
            spec_version: 1,
            iteration: None,
            node,
            desired: TaskState::Running,
            status: TaskStatus {
                state,
                ..TaskStatus::default()
            },
            start: None,
            generic_resources: Vec::new(),
            attachments: Vec::new(),
        }),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster::store::State;
    use crate::model::{
        Node, NodeDescription, NodeSpec, NodeState, NodeStatus, Resources, Timestamp,
    };

    const GIB: i64 = 1 << 30;

    /// Three nodes with four processors and 8 GiB each; the third has the label `disk=fast`.
    fn view() -> View {
        let mut state = State::default();
        let mut statuses = BTreeMap::new();
        for number in 1..=3 {
            let id = NodeId::from_bits(number);
            let mut spec = NodeSpec::default();
            if number == 3 {
                spec.labels.insert("disk".into(), "fast".into());
            }
            let node = Node {
                id,
                spec,
                description: NodeDescription {
                    runtime: "containerd".into(),
                    resources: Resources {
                        nano_cpus: 4_000_000_000,
                        memory_bytes: 8 * GIB,
                    },
                    ..NodeDescription::default()
                },
                ..Node::default()
            };
            state.nodes.insert(id, Arc::new(node));
            let ready = NodeStatus {
                state: NodeState::Ready,
                ..NodeStatus::default()
            };
            statuses.insert(id, ready);
        }
        View {
            state: Arc::new(state),
            observed: Default::default(),
            nodes: Arc::new(statuses),
            now: Timestamp::from_nanos(1),
        }
    }

    fn load(containers: u64, gib: i64) -> Load {
        Load {
            containers,
            nano_cpus: 0,
            memory_bytes: gib * GIB,
        }
    }

    fn chosen(wish: Wish) -> Result<u128, String> {
        let chosen = choose(view(), &wish, 7).map(NodeId::bits);
        chosen.map_err(|error| error.to_string())
    }

    #[test]
    fn a_container_goes_where_the_fewest_are() {
        for emptiest in 1..=3 {
            let others = (1..=3).filter(|number| *number != emptiest);
            let load = others.map(|number| (NodeId::from_bits(number), load(3, 0)));
            let wish = Wish {
                load: load.collect(),
                ..Wish::default()
            };
            assert_eq!(chosen(wish), Ok(emptiest));
        }
    }

    #[test]
    fn a_container_goes_where_there_is_room_for_it() {
        let full = |number| (NodeId::from_bits(number), load(1, 6));
        let wish = Wish {
            memory_bytes: 4 * GIB,
            load: [full(1), full(3), (NodeId::from_bits(2), load(9, 1))].into(),
            ..Wish::default()
        };
        assert_eq!(chosen(wish.clone()), Ok(2));
        let wish = Wish {
            memory_bytes: 64 * GIB,
            ..wish
        };
        let words = chosen(wish).unwrap_err();
        assert!(words.contains("insufficient resources"), "{words}");
    }

    #[test]
    fn a_container_goes_where_it_is_told_to() {
        let constraint = |text: &str| Wish {
            constraints: vec![text.into()],
            ..Wish::default()
        };
        assert_eq!(chosen(constraint("node.labels.disk==fast")), Ok(3));
        let words = chosen(constraint("node.labels.disk==none")).unwrap_err();
        assert!(words.contains("constraints not satisfied"), "{words}");
    }
}
