//! A cluster in a value: nodes, services and tasks, and a board that is told of each change.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::*;
use crate::cluster::store::State;
use crate::manager::draft::View;
use crate::manager::networks;
use crate::model::service_spec::{EndpointSpec, PortConfig};
use crate::model::task_spec::{
    Placement, PlacementPreference, Reservation, ResourceRequirements, SpreadOver,
};
use crate::model::{
    Change, Expect, Meta, NetworkId, Node, NodeDescription, NodeState, NodeStatus, Platform,
    Proposal, Resources, Service, ServiceId, ServiceSpec, Slot, Task, TaskSpec, TaskStatus,
    Template, Timestamp,
};

pub(super) struct World {
    pub(super) view: View,
    pub(super) board: Board,
    /// What the last pass had to wait for.
    pub(super) waits: Vec<String>,
    made: u128,
}

pub(super) fn node(number: u64) -> NodeId {
    NodeId::from_bits(number.into())
}

pub(super) fn service(number: u64) -> ServiceId {
    ServiceId::from_bits(number.into())
}

impl World {
    /// So many nodes of four processors and a hundred bytes.
    pub(super) fn new(nodes: u64) -> Self {
        let view = View {
            state: Arc::new(State::default()),
            observed: Default::default(),
            nodes: Arc::default(),
            now: Timestamp::from_nanos(1_000_000_000_000),
        };
        let mut world = Self {
            board: Board::new(&view),
            view,
            waits: Vec::new(),
            made: 0,
        };
        for number in 1..=nodes {
            let node = Node {
                id: node(number),
                description: NodeDescription {
                    platform: Platform {
                        architecture: "x86_64".into(),
                        os: "linux".into(),
                    },
                    resources: Resources {
                        nano_cpus: 4,
                        memory_bytes: 100,
                    },
                    runtime: "containerd".into(),
                    ..NodeDescription::default()
                },
                ..Node::default()
            };
            world.apply(vec![Change::PutNode(Expect::Absent, Box::new(node))]);
            world.see(number, NodeState::Ready);
        }
        world
    }

    pub(super) fn see(&mut self, number: u64, state: NodeState) {
        let status = NodeStatus {
            state,
            ..NodeStatus::default()
        };
        Arc::make_mut(&mut self.view.nodes).insert(node(number), status);
        self.board.see_node(&self.view, node(number));
    }

    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        let mut events = Vec::new();
        let at = self.view.now;
        let state = Arc::make_mut(&mut self.view.state);
        state.apply(Proposal { at, changes }, &mut events).unwrap();
        for event in &events {
            self.board.apply(&self.view, event);
        }
    }

    pub(super) fn edit_node(&mut self, number: u64, edit: impl FnOnce(&mut Node)) {
        let mut node = Node::clone(&self.view.state.nodes[&node(number)]);
        edit(&mut node);
        let expect = Expect::Version(node.meta.version);
        self.apply(vec![Change::PutNode(expect, Box::new(node))]);
    }

    /// There is a network for published ports.
    pub(super) fn publish(&mut self) {
        let ingress = networks::ingress(&self.view.state, NetworkId::from_bits(1)).unwrap();
        self.apply(vec![Change::PutNetwork(Expect::Absent, Box::new(ingress))]);
    }

    /// A pending task of a service, which has this template from its first on.
    pub(super) fn task(&mut self, number: u64, template: Template) -> TaskId {
        self.pend(number, None, template)
    }

    /// As a global service has it.
    pub(super) fn global(&mut self, number: u64, on: u64, template: Template) -> TaskId {
        self.pend(number, Some(node(on)), template)
    }

    fn pend(&mut self, number: u64, on: Option<NodeId>, template: Template) -> TaskId {
        self.made += 1;
        let id = service(number);
        let mut changes = Vec::new();
        if !self.view.state.work.services.contains_key(&id) {
            let service = Service {
                id,
                spec: ServiceSpec {
                    name: format!("s{number}"),
                    ..ServiceSpec::default()
                },
                spec_version: 1,
                ..Service::default()
            };
            changes.push(Change::PutService(Expect::Absent, Box::new(service)));
        }
        changes.push(Change::PutTemplate(id, 1, Box::new(template)));
        let task = Task {
            id: TaskId::from_bits(self.made),
            meta: Meta::default(),
            service: id,
            slot: on.map_or(Slot::Number(self.made as u64), Slot::Node),
            spec_version: 1,
            iteration: None,
            node: on,
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
        let made = task.id;
        changes.push(Change::PutTask(Expect::Absent, Box::new(task)));
        self.apply(changes);
        made
    }

    /// One pass, committed; tells how many changes that were.
    pub(super) fn pass(&mut self, seed: u64) -> usize {
        let view = self.view.clone();
        let mut none = || unreachable!("the scheduler makes no tasks");
        let mut draft = Draft::new(&view, &mut none);
        schedule(&mut draft, &mut self.board, seed);
        self.waits = draft.waits.iter().map(|wait| wait.what.clone()).collect();
        let changes = draft.proposal().map(|proposal| proposal.changes);
        let changes = changes.unwrap_or_default();
        let count = changes.len();
        self.apply(changes);
        count
    }

    /// One pass whose proposal is rejected.
    pub(super) fn pass_in_vain(&mut self, seed: u64) {
        let mut none = || unreachable!("the scheduler makes no tasks");
        let mut draft = Draft::new(&self.view, &mut none);
        schedule(&mut draft, &mut self.board, seed);
        assert!(draft.proposal().is_some());
    }

    /// Its node says that a task has ended.
    pub(super) fn end(&mut self, id: TaskId, state: TaskState) {
        let status = TaskStatus {
            state,
            at: self.view.now,
            ..TaskStatus::default()
        };
        self.view.observed.insert(id, status);
        self.board.see_task(&self.view, id);
    }

    pub(super) fn placed(&self, id: TaskId) -> Option<u64> {
        let node = self.view.state.work.tasks[&id].node;
        node.map(|node| node.bits() as u64)
    }

    pub(super) fn err(&self, id: TaskId) -> &str {
        &self.view.state.work.tasks[&id].status.err
    }

    pub(super) fn tasks_of(&self, number: u64) -> Vec<TaskId> {
        let tasks = self.view.state.work.tasks_of(service(number));
        tasks.map(|task| task.id).collect()
    }

    /// How many tasks of a service are on each node that has any.
    pub(super) fn counts(&self, number: u64) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for id in self.tasks_of(number) {
            if let Some(node) = self.placed(id) {
                *counts.entry(node).or_default() += 1;
            }
        }
        counts
    }
}

fn placed_by(placement: Placement) -> Template {
    Template {
        task: TaskSpec {
            placement: Some(placement),
            ..TaskSpec::default()
        },
        ..Template::default()
    }
}

pub(super) fn constrained(constraint: &str) -> Template {
    placed_by(Placement {
        constraints: vec![constraint.into()],
        ..Placement::default()
    })
}

pub(super) fn placement(edit: impl FnOnce(&mut Placement)) -> Template {
    let mut placement = Placement::default();
    edit(&mut placement);
    placed_by(placement)
}

pub(super) fn spread_over(descriptors: &[&str]) -> Vec<PlacementPreference> {
    let each = descriptors.iter().map(|descriptor| PlacementPreference {
        spread: Some(SpreadOver {
            spread_descriptor: (*descriptor).into(),
        }),
    });
    each.collect()
}

pub(super) fn reserving(nano_cpus: i64, memory_bytes: i64) -> Template {
    asking(Reservation {
        nano_cpus,
        memory_bytes,
        generic_resources: Vec::new(),
    })
}

pub(super) fn asking(reservation: Reservation) -> Template {
    Template {
        task: TaskSpec {
            resources: Some(ResourceRequirements {
                reservations: Some(reservation),
                ..ResourceRequirements::default()
            }),
            ..TaskSpec::default()
        },
        ..Template::default()
    }
}

pub(super) fn publishing(published_port: u16, protocol: &str, mode: &str) -> Template {
    Template {
        endpoint: Some(EndpointSpec {
            ports: vec![PortConfig {
                protocol: protocol.into(),
                target_port: 80,
                published_port,
                publish_mode: mode.into(),
                ..PortConfig::default()
            }],
            ..EndpointSpec::default()
        }),
        ..Template::default()
    }
}
