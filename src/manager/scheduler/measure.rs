//! Measures the scheduler alone: placements a second, in one thread, with no store behind it.
//!
//! The benchmark calls it and reads its own clock; nothing else does.

use std::sync::Arc;

use super::{Board, schedule};
use crate::cluster::store::State;
use crate::manager::draft::{Draft, View};
use crate::model::service_spec::{Replicated, ServiceMode};
use crate::model::{
    Change, Expect, Meta, Node, NodeDescription, NodeId, NodeState, NodeStatus, Proposal,
    Rejection, Resources, Service, ServiceId, ServiceSpec, Slot, Task, TaskId, TaskState,
    TaskStatus, Template, Timestamp,
};

/// A cluster with tasks that all wait for a node.
#[derive(Debug)]
pub struct Crowd {
    view: View,
    board: Board,
}

impl Crowd {
    /// So many nodes, and so many tasks in services of `per_service`.
    ///
    /// # Errors
    ///
    /// When the store refuses what it is given, which is a fault of this function.
    pub fn new(nodes: u64, tasks: u64, per_service: u64) -> Result<Self, Rejection> {
        let mut changes: Vec<Change> = (1..=nodes).map(member).collect();
        for first in (0..tasks).step_by(per_service.max(1) as usize) {
            let count = per_service.max(1).min(tasks - first);
            changes.extend(group(first, count));
        }
        let mut state = State::default();
        let at = Timestamp::from_nanos(1);
        state.apply(Proposal { at, changes }, &mut Vec::new())?;
        let ready = NodeStatus {
            state: NodeState::Ready,
            ..NodeStatus::default()
        };
        let seen = (1..=nodes).map(|number| (node_id(number), ready.clone()));
        let view = View {
            state: Arc::new(state),
            observed: Default::default(),
            nodes: Arc::new(seen.collect()),
            now: Timestamp::from_nanos(2),
        };
        let board = Board::new(&view);
        Ok(Self { view, board })
    }

    /// Places all of them in one pass, and tells how many have a node.
    pub fn place(&mut self, seed: u64) -> usize {
        let mut none = TaskId::default;
        let mut draft = Draft::new(&self.view, &mut none);
        schedule(&mut draft, &mut self.board, seed);
        let changed: Vec<TaskId> = draft.changed_tasks().collect();
        let tasks = changed.into_iter().filter_map(|id| draft.task(id));
        tasks.filter(|task| task.node.is_some()).count()
    }
}

fn node_id(number: u64) -> NodeId {
    NodeId::from_bits(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn member(number: u64) -> Change {
    let node = Node {
        id: node_id(number),
        description: NodeDescription {
            runtime: "containerd".into(),
            resources: Resources {
                nano_cpus: 64_000_000_000,
                memory_bytes: 256 << 30,
            },
            ..NodeDescription::default()
        },
        ..Node::default()
    };
    Change::PutNode(Expect::Absent, Box::new(node))
}

/// One service with its tasks.
fn group(first: u64, count: u64) -> impl Iterator<Item = Change> {
    let id = ServiceId::from_bits(u128::from(first) + 1);
    let service = Service {
        id,
        spec: ServiceSpec {
            name: format!("service-{first}"),
            mode: ServiceMode {
                replicated: Some(Replicated {
                    replicas: Some(count),
                }),
                ..ServiceMode::default()
            },
            ..ServiceSpec::default()
        },
        spec_version: 1,
        ..Service::default()
    };
    let head = [
        Change::PutService(Expect::Absent, Box::new(service)),
        Change::PutTemplate(id, 1, Box::<Template>::default()),
    ];
    let tasks = (1..=count).map(move |slot| {
        let task = Task {
            id: TaskId::from_bits(u128::from(first + slot)),
            meta: Meta::default(),
            service: id,
            slot: Slot::Number(slot),
            spec_version: 1,
            iteration: None,
            node: None,
            desired: TaskState::Running,
            status: TaskStatus {
                state: TaskState::Pending,
                message: TaskState::Pending.message().into(),
                ..TaskStatus::default()
            },
            start: None,
            generic_resources: Vec::new(),
            attachments: Vec::new(),
        };
        Change::PutTask(Expect::Absent, Box::new(task))
    });
    head.into_iter().chain(tasks)
}
