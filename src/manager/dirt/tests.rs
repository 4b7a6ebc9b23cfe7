//! What has to be looked at after what.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::cluster::store::State;
use crate::manager::orchestrator::tests::world::{WEB, node, replicas, service};
use crate::model::{
    Change, Expect, NodeStatus, Observed, Proposal, Slot, TaskState, TaskStatus, Template,
};

const LONE: ServiceId = ServiceId::from_bits(8);
const TASK: TaskId = TaskId::from_bits(9);

fn apply(state: &mut State, change: Change) {
    let at = Timestamp::from_nanos(1);
    let changes = vec![change];
    let proposal = Proposal { at, changes };
    state.apply(proposal, &mut Vec::new()).unwrap();
}

fn view(state: &State) -> View {
    let ready = NodeStatus {
        state: NodeState::Ready,
        ..NodeStatus::default()
    };
    let nodes = state.nodes.keys().map(|id| (*id, ready.clone()));
    View {
        state: Arc::new(state.clone()),
        observed: Observed::new(),
        nodes: Nodes::new(nodes.collect()),
        now: Timestamp::from_nanos(1_000_000_000),
    }
}

/// Two nodes; a service of one task, which is on the first, and a global one without any.
fn state() -> State {
    let mut state = State::default();
    for number in [1, 2] {
        let id = node(number);
        let new = Node {
            id,
            ..Node::default()
        };
        apply(&mut state, Change::PutNode(Expect::Absent, Box::new(new)));
    }
    let web = service(replicas(1), json!({}));
    let mut lone = service(json!({"Global": {}}), json!({}));
    lone.id = LONE;
    lone.spec.name = "lone".into();
    for service in [web, lone] {
        apply(
            &mut state,
            Change::PutService(Expect::Absent, Box::new(service)),
        );
    }
    let template = Box::new(Template::default());
    apply(&mut state, Change::PutTemplate(WEB, 1, template));
    let task = Task {
        id: TASK,
        meta: Default::default(),
        service: WEB,
        slot: Slot::Number(1),
        spec_version: 1,
        iteration: None,
        node: Some(node(1)),
        desired: TaskState::Running,
        status: TaskStatus {
            state: TaskState::Assigned,
            ..TaskStatus::default()
        },
        start: None,
        generic_resources: Vec::new(),
        attachments: Vec::new(),
    };
    apply(&mut state, Change::PutTask(Expect::Absent, Box::new(task)));
    state
}

/// A loop that has dealt with everything.
fn clean(state: &State) -> Dirt {
    let mut dirt = Dirt::new(view(state));
    dirt.take();
    assert!(dirt.is_clean());
    dirt
}

fn services(agenda: &Agenda) -> Vec<ServiceId> {
    agenda.services.iter().copied().collect()
}

#[test]
fn a_new_leader_looks_at_everything() {
    let mut state = state();
    let gone = node(1);
    let version = state.nodes[&gone].meta.version;
    apply(
        &mut state,
        Change::RemoveNode(Expect::Version(version), gone),
    );
    let agenda = Dirt::new(view(&state)).take();
    assert_eq!(services(&agenda), [WEB, LONE]);
    assert!(agenda.nodes.contains(&gone), "its tasks are still there");
}

#[test]
fn nothing_is_looked_at_when_nothing_has_changed() {
    let state = state();
    let mut dirt = clean(&state);
    assert!(dirt.follow(view(&state)).is_empty());
    assert!(dirt.is_clean());
}

#[test]
fn a_task_concerns_its_service_and_a_node_what_is_there_and_what_is_everywhere() {
    let mut state = state();
    let mut dirt = clean(&state);
    let mut task = Task::clone(&state.work.tasks[&TASK]);
    let version = task.meta.version;
    task.desired = TaskState::Shutdown;
    apply(
        &mut state,
        Change::PutTask(Expect::Version(version), Box::new(task)),
    );
    assert_eq!(dirt.follow(view(&state)), [TASK].into());
    let agenda = dirt.take();
    assert_eq!(services(&agenda), [WEB]);
    assert!(agenda.nodes.is_empty());

    for (number, concerned) in [(1, vec![WEB, LONE]), (2, vec![LONE])] {
        let mut next = view(&state);
        let nodes = Arc::make_mut(&mut next.nodes);
        nodes.get_mut(&node(number)).unwrap().state = NodeState::Down;
        dirt.follow(next);
        let agenda = dirt.take();
        assert_eq!(services(&agenda), concerned);
        assert_eq!(agenda.nodes, [node(number)].into());
        dirt.follow(view(&state));
        dirt.take();
    }
}

#[test]
fn of_what_nodes_say_only_a_start_and_an_end_is_to_be_looked_at() {
    let state = state();
    let mut dirt = clean(&state);
    let said = |said: TaskState| {
        let mut next = view(&state);
        let status = TaskStatus {
            state: said,
            ..TaskStatus::default()
        };
        next.observed.insert(TASK, status);
        next
    };
    for quiet in [TaskState::Accepted, TaskState::Ready, TaskState::Starting] {
        dirt.follow(said(quiet));
        assert!(dirt.is_clean(), "{quiet}");
    }
    for loud in [TaskState::Running, TaskState::Failed] {
        dirt.follow(said(loud));
        let agenda = dirt.take();
        assert_eq!(services(&agenda), [WEB]);
        assert_eq!(agenda.said, [TASK].into());
    }
}

#[test]
fn a_node_is_given_up_a_day_after_it_went_down_and_once() {
    let state = state();
    let mut dirt = clean(&state);
    let mut next = view(&state);
    let nodes = Arc::make_mut(&mut next.nodes);
    nodes.get_mut(&node(1)).unwrap().state = NodeState::Down;
    let went = next.now;
    dirt.follow(next.clone());
    dirt.take();
    assert_eq!(dirt.alarm(), Some(went.after(GIVE_UP)));
    next.now = went.after(GIVE_UP);
    dirt.follow(next.clone());
    assert_eq!(dirt.take().nodes, [node(1)].into());
    dirt.follow(next);
    assert!(dirt.is_clean());
    assert_eq!(dirt.alarm(), None);
}

#[test]
fn what_waits_is_looked_at_again_in_time() {
    let state = state();
    let mut dirt = clean(&state);
    let now = view(&state).now;
    let wait = |secs| Wait {
        until: Some(now.after(Duration::from_secs(secs))),
        service: WEB,
        what: "a while".into(),
    };
    dirt.wait(&[WEB].into(), &[wait(5), wait(2)].into());
    assert_eq!(dirt.alarm(), wait(2).until);
    let mut next = view(&state);
    next.now = now.after(Duration::from_secs(2));
    dirt.follow(next);
    assert_eq!(services(&dirt.take()), [WEB]);
    assert_eq!(dirt.alarm(), None);
    dirt.wait(&[WEB].into(), &[wait(5)].into());
    dirt.wait(&[WEB].into(), &BTreeSet::new());
    assert_eq!(dirt.alarm(), None, "the last look says what is waited for");
}

#[test]
fn no_service_keeps_others_waiting() {
    let mut state = State::default();
    for number in 0..2 * SERVICES_A_PASS as u128 {
        let mut one = service(replicas(1), json!({}));
        one.id = ServiceId::from_bits(number);
        one.spec.name = format!("web-{number}");
        apply(
            &mut state,
            Change::PutService(Expect::Absent, Box::new(one)),
        );
    }
    let mut dirt = Dirt::new(view(&state));
    let first = dirt.take();
    assert_eq!(first.services.len(), SERVICES_A_PASS);
    // What was just looked at is dirty again, and comes after the others.
    dirt.give_back(first.clone());
    let second = dirt.take();
    assert!(first.services.is_disjoint(&second.services));
    assert_eq!(services(&dirt.take()), services(&first));
}

#[test]
fn a_node_that_has_said_nothing_yet_is_not_known() {
    let state = state();
    let statuses = view(&state).nodes;
    let heard = OrdSet::unit(node(1));
    let seen = as_heard(&statuses, &heard);
    assert_eq!(seen[&node(1)].state, NodeState::Ready);
    assert_eq!(seen[&node(2)].state, NodeState::Unknown);
}

/// An alarm that was set by the clock as it was would ring as much later as the clock was set back.
#[test]
fn a_clock_that_is_set_back_has_all_that_waits_looked_at() {
    let state = state();
    let mut dirt = Dirt::new(view(&state));
    while !dirt.is_clean() {
        dirt.take();
    }
    let wait = Wait {
        until: Some(view(&state).now.after(Duration::from_secs(5))),
        service: WEB,
        what: "a delay".into(),
    };
    dirt.wait(&BTreeSet::from([WEB]), &BTreeSet::from([wait]));
    dirt.follow(view(&state));
    assert!(dirt.is_clean());
    let earlier = View {
        now: Timestamp::from_nanos(1),
        ..view(&state)
    };
    dirt.follow(earlier);
    assert_eq!(dirt.take().services, BTreeSet::from([WEB]));
}
