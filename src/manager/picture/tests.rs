//! What is believed of what nodes say.

use super::*;
use crate::model::{Change, Expect, Node, Proposal, ServiceId, Slot, Task, Template, Timestamp};
use crate::wire::Json;

const NODE: NodeId = NodeId::from_bits(1);
const OTHER: NodeId = NodeId::from_bits(2);
const TASK: TaskId = TaskId::from_bits(9);

/// Two members, one of which has a task that runs.
fn state() -> State {
    let service = ServiceId::from_bits(7);
    let member = |id| Node {
        id,
        ..Node::default()
    };
    let task = Task {
        id: TASK,
        meta: Default::default(),
        service,
        slot: Slot::Number(1),
        spec_version: 1,
        iteration: None,
        node: Some(NODE),
        desired: TaskState::Running,
        status: status(TaskState::Running, 5),
        start: None,
        generic_resources: Vec::new(),
        attachments: Vec::new(),
    };
    let changes = vec![
        Change::PutNode(Expect::Absent, Box::new(member(NODE))),
        Change::PutNode(Expect::Absent, Box::new(member(OTHER))),
        Change::PutTemplate(service, 1, Box::<Template>::default()),
        Change::PutTask(Expect::Absent, Box::new(task)),
    ];
    let at = Timestamp::from_nanos(1);
    let mut state = State::default();
    state
        .apply(Proposal { at, changes }, &mut Vec::new())
        .unwrap();
    state
}

fn status(state: TaskState, at: i128) -> TaskStatus {
    TaskStatus {
        state,
        at: Timestamp::from_nanos(at),
        ..TaskStatus::default()
    }
}

fn says(task: TaskId, status: TaskStatus) -> Report {
    Report {
        complete: false,
        statuses: vec![(task, Json(status))],
    }
}

#[test]
fn only_what_is_later_than_all_that_is_known_is_news() {
    let state = state();
    let mut picture = Picture::default();
    assert!(!picture.hear(&state, NODE, says(TASK, status(TaskState::Ready, 9))));
    assert!(!picture.hear(&state, NODE, says(TASK, status(TaskState::Running, 5))));
    assert!(picture.hear(&state, NODE, says(TASK, status(TaskState::Running, 6))));
    assert!(picture.hear(&state, NODE, says(TASK, status(TaskState::Failed, 1))));
    assert!(!picture.hear(&state, NODE, says(TASK, status(TaskState::Running, 7))));
    assert_eq!(picture.observed[&TASK].state, TaskState::Failed);
}

#[test]
fn a_node_speaks_for_its_own_tasks_and_only_of_what_can_be() {
    let state = state();
    let mut picture = Picture::default();
    let failed = || status(TaskState::Failed, 9);
    assert!(!picture.hear(&state, OTHER, says(TASK, failed())));
    assert!(!picture.hear(&state, NODE, says(TaskId::from_bits(8), failed())));
    for never in [TaskState::Remove, TaskState::Orphaned] {
        assert!(!picture.hear(&state, NODE, says(TASK, status(never, 9))));
    }
    let long = TaskStatus {
        err: "ü".repeat(WORDS),
        ..failed()
    };
    assert!(picture.hear(&state, NODE, says(TASK, long)));
    assert!(picture.observed[&TASK].err.len() <= WORDS);
}

#[test]
fn a_node_is_heard_with_the_last_part_of_its_first_word() {
    let state = state();
    let mut picture = Picture::default();
    let word = |complete| Report {
        complete,
        statuses: Vec::new(),
    };
    assert!(!picture.hear(&state, NODE, word(false)));
    assert!(picture.hear(&state, NODE, word(true)));
    assert!(!picture.hear(&state, NODE, word(true)));
    let stranger = NodeId::from_bits(3);
    assert!(!picture.hear(&state, stranger, word(true)));
    assert_eq!(picture.heard, OrdSet::unit(NODE));
}

#[test]
fn what_is_written_down_or_forgotten_is_not_kept_twice() {
    let mut state = state();
    let mut picture = Picture::default();
    picture.hear(&state, NODE, says(TASK, status(TaskState::Failed, 9)));
    picture.forget(&state, [TASK]);
    assert_eq!(picture.observed.len(), 1, "it is not written down yet");
    let mut task = Task::clone(&state.work.tasks[&TASK]);
    task.status = picture.observed[&TASK].clone();
    let version = task.meta.version;
    let put = |change| Proposal {
        at: Timestamp::from_nanos(2),
        changes: vec![change],
    };
    let written = Change::PutTask(Expect::Version(version), Box::new(task));
    state.apply(put(written), &mut Vec::new()).unwrap();
    picture.forget(&state, [TASK]);
    assert!(picture.observed.is_empty());

    picture.hear(&state, NODE, says(TASK, status(TaskState::Failed, 10)));
    assert_eq!(picture.observed.len(), 1);
    let version = state.work.tasks[&TASK].meta.version;
    let removed = Change::RemoveTask(Expect::Version(version), TASK);
    state.apply(put(removed), &mut Vec::new()).unwrap();
    picture.forget(&state, [TASK]);
    assert!(picture.observed.is_empty());
}
