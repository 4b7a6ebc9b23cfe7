//! Whole passes, each applied as the store applies it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::cluster::store::State;
use crate::manager::dirt::Dirt;
use crate::manager::draft::Nodes;
use crate::manager::orchestrator::tests::world::{WEB, node, replicas, service};
use crate::model::{
    Change, Expect, NodeState, NodeStatus, Observed, Service, Slot, Task, Timestamp,
};

/// A leader and what it sees; agents do what they are told.
struct Leader {
    state: State,
    observed: Observed,
    nodes: BTreeMap<NodeId, NodeStatus>,
    now: Timestamp,
    ids: u128,
    dirt: Dirt,
}

impl Leader {
    fn new(nodes: u128) -> Self {
        let mut leader = Self {
            state: State::default(),
            observed: Observed::new(),
            nodes: BTreeMap::new(),
            now: Timestamp::from_nanos(1_000_000_000_000),
            ids: 0,
            dirt: Dirt::new(View {
                state: Arc::default(),
                observed: Observed::new(),
                nodes: Nodes::default(),
                now: Timestamp::default(),
            }),
        };
        for number in 1..=nodes {
            let mut new = Node {
                id: node(number),
                ..Node::default()
            };
            new.description.runtime = "containerd 1.6.20".into();
            leader.write(Change::PutNode(Expect::Absent, Box::new(new)));
            leader.see(number, NodeState::Ready);
        }
        leader
    }

    fn write(&mut self, change: Change) {
        let proposal = Proposal {
            at: self.now,
            changes: vec![change],
        };
        self.state.apply(proposal, &mut Vec::new()).unwrap();
    }

    fn see(&mut self, number: u128, state: NodeState) {
        let status = NodeStatus {
            state,
            ..NodeStatus::default()
        };
        self.nodes.insert(node(number), status);
    }

    fn view(&self) -> View {
        View {
            state: Arc::new(self.state.clone()),
            observed: self.observed.clone(),
            nodes: Nodes::new(self.nodes.clone()),
            now: self.now,
        }
    }

    /// Another leader, who knows nothing but what is there.
    fn change(&mut self) {
        self.observed = Observed::new();
        self.dirt = Dirt::new(self.view());
    }

    /// One pass; what it would propose.
    fn plan(&mut self) -> (Agenda, Outcome) {
        self.dirt.follow(self.view());
        let agenda = self.dirt.take();
        let (view, board, down) = self.dirt.aids();
        let ids = &mut self.ids;
        let mut next = || {
            *ids += 1;
            TaskId::from_bits(ids.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
        };
        let aids = Aids {
            down,
            board,
            ids: &mut next,
            seed: 1,
        };
        let outcome = run(view, &agenda, aids);
        self.dirt.wait(&agenda.services, &outcome.waits);
        (agenda, outcome)
    }

    /// One pass, of which so many parts are written. False when there was nothing to write.
    fn pass(&mut self, parts: usize) -> bool {
        let (_, outcome) = self.plan();
        let some = !outcome.proposals.is_empty();
        for proposal in outcome.proposals.into_iter().take(parts) {
            self.state.apply(proposal, &mut Vec::new()).unwrap();
        }
        some
    }

    fn rest(&mut self) {
        for _ in 0..100 {
            let busy = self.pass(usize::MAX);
            let before = self.observed.clone();
            self.obey();
            if !busy && before == self.observed {
                self.dirt.follow(self.view());
                if self.dirt.is_clean() {
                    return;
                }
            }
        }
        panic!("the loop finds no rest");
    }

    fn obey(&mut self) {
        let tasks: Vec<_> = self.state.work.tasks.values().cloned().collect();
        for task in tasks {
            let seen = self.observed.get(&task.id).map(|seen| seen.state);
            let state = task.status.state.max(seen.unwrap_or_default());
            let up = task
                .node
                .is_some_and(|node| self.nodes[&node].state == NodeState::Ready);
            if !up || state < TaskState::Assigned || state.is_terminal() {
                continue;
            }
            let to = match task.desired {
                TaskState::Ready => TaskState::Ready,
                TaskState::Running | TaskState::Complete => TaskState::Running,
                _ => TaskState::Shutdown,
            };
            if to > state {
                self.say(task.id, to);
            }
        }
    }

    fn say(&mut self, task: TaskId, state: TaskState) {
        let status = TaskStatus {
            state,
            at: self.now,
            ..TaskStatus::default()
        };
        self.observed.insert(task, status);
    }

    fn live(&self) -> Vec<Arc<Task>> {
        let tasks = self.state.work.tasks.values();
        let live = tasks
            .filter(|task| task.desired <= TaskState::Complete && !task.status.state.is_terminal());
        live.cloned().collect()
    }

    fn create(&mut self, count: u64) {
        let web = service(replicas(count), json!({}));
        self.write(Change::PutService(Expect::Absent, Box::new(web)));
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Service)) {
        let mut web = Service::clone(&self.state.work.services[&WEB]);
        let version = web.meta.version;
        edit(&mut web);
        self.write(Change::PutService(Expect::Version(version), Box::new(web)));
    }
}

#[test]
fn one_pass_makes_and_places_and_the_next_has_nothing_to_do() {
    let mut leader = Leader::new(3);
    leader.create(6);
    assert!(leader.pass(usize::MAX));
    let live = leader.live();
    for number in 1..=3 {
        let here = live.iter().filter(|task| task.node == Some(node(number)));
        assert_eq!(here.count(), 2);
    }
    assert!(!leader.pass(usize::MAX));
    leader.obey();
    assert!(leader.pass(usize::MAX));
    let states = leader.live().into_iter().map(|task| task.status.state);
    assert!(states.into_iter().all(|state| state == TaskState::Running));
    assert!(!leader.pass(usize::MAX));
    assert!(leader.dirt.is_clean());
}

#[test]
fn what_is_between_assigned_and_running_is_not_written_down() {
    let mut leader = Leader::new(1);
    leader.create(1);
    leader.rest();
    leader.edit(|web| web.spec.mode = serde_json::from_value(replicas(2)).unwrap());
    leader.pass(usize::MAX);
    let live = leader.live();
    let new = live
        .iter()
        .find(|task| task.status.state == TaskState::Assigned);
    leader.say(new.unwrap().id, TaskState::Preparing);
    leader.dirt.follow(leader.view());
    let (agenda, outcome) = leader.plan();
    assert_eq!(agenda.said, BTreeSet::new());
    assert_eq!(outcome.proposals, []);
}

#[test]
fn ten_thousand_replicas_are_no_giant_proposal() {
    let mut leader = Leader::new(4);
    leader.create(10_000);
    let (_, outcome) = leader.plan();
    assert!(outcome.proposals.len() > 10);
    for proposal in &outcome.proposals {
        assert!(proposal.changes.len() <= PROPOSAL + 1);
    }
    // Any number of the parts may come to be: the rest is thought of again.
    let mut leader = Leader::new(4);
    leader.create(10_000);
    assert!(leader.pass(5));
    leader.change();
    leader.rest();
    let mut slots: Vec<Slot> = leader.live().iter().map(|task| task.slot).collect();
    slots.sort();
    assert_eq!(slots, (1..=10_000).map(Slot::Number).collect::<Vec<_>>());
}

#[test]
fn a_node_that_dies_is_replaced_and_a_new_leader_does_nothing_twice() {
    let mut leader = Leader::new(3);
    leader.create(6);
    leader.rest();
    let before = leader.live();
    leader.change();
    leader.rest();
    assert_eq!(leader.live(), before);
    leader.see(3, NodeState::Down);
    leader.rest();
    let after = leader.live();
    assert_eq!(after.len(), 6);
    assert!(after.iter().all(|task| task.node != Some(node(3))));
    let kept = before.iter().filter(|task| task.node != Some(node(3)));
    for task in kept {
        assert!(after.contains(task), "{} was left alone", task.id);
    }
    leader.change();
    leader.rest();
    assert_eq!(leader.live(), after);
}

#[test]
fn nothing_is_given_to_a_node_that_has_not_told_of_its_tasks() {
    let mut leader = Leader::new(2);
    leader.see(2, NodeState::Unknown);
    leader.create(4);
    leader.rest();
    assert!(leader.live().iter().all(|task| task.node == Some(node(1))));
}

#[test]
fn none_is_given_up_while_it_is_not_known_which_of_them_run() {
    let mut leader = Leader::new(2);
    leader.create(4);
    leader.rest();
    leader.change();
    leader.see(2, NodeState::Unknown);
    leader.edit(|web| web.spec.mode = serde_json::from_value(replicas(1)).unwrap());
    leader.rest();
    assert_eq!(leader.live().len(), 4);
    leader.see(2, NodeState::Ready);
    leader.rest();
    assert_eq!(leader.live().len(), 1);
}

#[test]
fn what_waits_says_why_and_is_placed_when_there_is_room() {
    let mut leader = Leader::new(1);
    leader.see(1, NodeState::Down);
    leader.create(2);
    let (_, outcome) = leader.plan();
    let words = "no suitable node (1 node not available for new tasks)";
    assert!(outcome.waits.iter().any(|wait| wait.what == words));
    leader.dirt.give_back(Agenda {
        services: [WEB].into(),
        ..Agenda::default()
    });
    leader.rest();
    for task in leader.live() {
        assert_eq!(task.status.err, words);
    }
    leader.see(1, NodeState::Ready);
    leader.rest();
    let running = leader.live();
    assert!(
        running
            .iter()
            .all(|task| task.status.state == TaskState::Running)
    );
}

#[test]
fn a_removed_service_goes_with_the_last_of_its_tasks() {
    let mut leader = Leader::new(2);
    leader.create(3);
    leader.rest();
    leader.edit(|web| web.removed = true);
    leader.pass(usize::MAX);
    assert_eq!(leader.state.work.tasks.len(), 3);
    leader.rest();
    assert!(leader.state.work.tasks.is_empty());
    assert!(leader.state.work.services.is_empty());
}

#[test]
fn a_delay_wakes_the_loop_when_it_is_over() {
    let mut leader = Leader::new(1);
    leader.create(1);
    leader.rest();
    let first = leader.live().remove(0);
    leader.say(first.id, TaskState::Failed);
    leader.rest();
    let waiting = leader.live().remove(0);
    assert_eq!(waiting.desired, TaskState::Ready);
    let alarm = leader.dirt.alarm().unwrap();
    assert_eq!(alarm, leader.now.after(Duration::from_secs(5)));
    leader.now = alarm;
    leader.rest();
    let runs = leader.live().remove(0);
    assert_eq!(
        (runs.id, runs.status.state),
        (waiting.id, TaskState::Running)
    );
    assert_eq!(leader.dirt.alarm(), None);
}

#[test]
fn a_task_that_the_enforcer_ends_still_says_why_when_it_has_ended() {
    let mut leader = Leader::new(2);
    leader.create(2);
    leader.rest();
    let constraint = json!({"Constraints": ["node.labels.zone==a"]});
    leader.edit(|web| {
        web.spec.task_template.placement = serde_json::from_value(constraint).unwrap();
    });
    let mut other = Node::clone(&leader.state.nodes[&node(1)]);
    let version = other.meta.version;
    other.spec.labels.insert("zone".into(), "b".into());
    leader.write(Change::PutNode(Expect::Version(version), Box::new(other)));
    leader.rest();
    let ended = leader.state.work.tasks.values();
    let mut ended = ended.filter(|task| task.node == Some(node(1)));
    let status = &ended.next().unwrap().status;
    assert_eq!(status.state, TaskState::Shutdown);
    assert_eq!(status.err, "assigned node no longer meets constraints");
}

mod addresses;
mod reference;
