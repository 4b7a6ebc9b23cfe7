//! The invariants of services and tasks.

use super::super::super::customer::Kind;
use super::*;
use crate::cluster::store::Work;
use crate::model::plane::{Attachment, Published, Vip};
use crate::model::service::{Previous, UpdateState, UpdateStatus};
use crate::model::{
    Change, Expect, NetworkId, NodeState, Proposal, Service, ServiceId, ServiceSpec, Slot, TaskId,
    TaskState, TaskStatus, Template,
};

const WEB: ServiceId = ServiceId::from_bits(7);

fn task(number: u128, version: u64, state: TaskState, desired: TaskState) -> Task {
    Task {
        id: TaskId::from_bits(number),
        meta: Meta {
            version,
            ..Meta::default()
        },
        service: WEB,
        slot: Slot::Number(1),
        spec_version: 1,
        iteration: None,
        node: (state > Pending).then(|| id(7)),
        desired,
        status: TaskStatus {
            state,
            err: "why".into(),
            ..TaskStatus::default()
        },
        start: None,
        generic_resources: Vec::new(),
        attachments: Vec::new(),
    }
}

fn put(task: Task) -> Entry {
    let version = task.meta.version;
    let changed = Changed::Task {
        id: task.id,
        old: None,
        new: Some(Arc::new(task)),
    };
    Entry::Applied(life(1), StateEvent { version, changed })
}

fn told(number: u128, state: TaskState) -> Entry {
    let status = TaskStatus {
        state,
        ..TaskStatus::default()
    };
    Entry::Told(life(7), TaskId::from_bits(number), status)
}

fn service(name: &str, removed: bool, version: u64) -> Entry {
    let mut new = Service {
        id: WEB,
        removed,
        ..Service::default()
    };
    new.spec.name = name.into();
    let changed = Changed::Service {
        id: WEB,
        old: None,
        new: Some(Arc::new(new)),
    };
    Entry::Applied(life(1), StateEvent { version, changed })
}

fn processes(node: u128, begun: u32) -> Entry {
    let task = TaskId::from_bits(1);
    let node = id(node);
    Entry::Processes { node, task, begun }
}

use TaskState::{Assigned, Failed, Pending, Ready, Running, Shutdown};

#[test]
fn a_task_that_runs_and_ends_breaks_nothing() {
    holds([
        put(task(1, 1, Pending, Running)),
        put(task(1, 2, Assigned, Running)),
        told(1, Ready),
        told(1, Running),
        put(task(1, 3, Running, Running)),
        told(1, Failed),
        put(task(1, 4, Failed, Shutdown)),
        processes(7, 1),
    ]);
}

#[test]
fn a_task_that_goes_back_is_found() {
    let words = "task states only rise";
    breaks(
        words,
        [
            put(task(1, 1, Running, Running)),
            put(task(1, 2, Assigned, Running)),
        ],
    );
    breaks(
        words,
        [
            put(task(1, 1, Assigned, Shutdown)),
            put(task(1, 2, Assigned, Running)),
        ],
    );
    breaks(words, [told(1, Running), told(1, Ready)]);
}

#[test]
fn what_nobody_said_is_found() {
    breaks(
        "one writer per step",
        [
            put(task(1, 1, Assigned, Running)),
            put(task(1, 2, Running, Running)),
        ],
    );
}

#[test]
fn a_second_start_is_found() {
    let here = || put(task(1, 1, Assigned, Running));
    breaks("tasks begin once", [here(), processes(7, 2)]);
    breaks("tasks begin once", [here(), processes(8, 1)]);
}

#[test]
fn two_tasks_in_one_slot_are_found() {
    let mut state = State {
        work: Work::default(),
        ..State::default()
    };
    let changes = vec![
        Change::PutTemplate(WEB, 1, Box::<Template>::default()),
        Change::PutTask(Expect::Absent, Box::new(task(1, 0, Assigned, Running))),
        Change::PutTask(Expect::Absent, Box::new(task(2, 0, Assigned, Running))),
    ];
    let at = Timestamp::default();
    state
        .apply(Proposal { at, changes }, &mut Vec::new())
        .unwrap();
    let shows = Entry::Shows(life(1), Arc::new(state));
    breaks("slots have one task", [shows]);
}

#[test]
fn an_address_that_two_hold_and_a_port_that_two_publish_are_found() {
    let words = "addresses have one holder";
    let held = |number, state| {
        let mut task = task(number, 0, state, Running);
        task.slot = Slot::Number(u64::try_from(number).unwrap());
        task.attachments = vec![Attachment {
            addresses: vec!["10.0.1.16".parse().unwrap()],
            ..Attachment::default()
        }];
        Change::PutTask(Expect::Absent, Box::new(task))
    };
    let service = |number, addr: &str, port| {
        let mut service = Service {
            id: ServiceId::from_bits(number),
            ..Service::default()
        };
        service.spec.name = format!("web-{number}");
        let (network, addr) = (NetworkId::from_bits(1), addr.parse().unwrap());
        service.vips = vec![Vip { network, addr }];
        service.ports = vec![Published {
            published: port,
            ..Published::default()
        }];
        Change::PutService(Expect::Absent, Box::new(service))
    };
    let template = || Change::PutTemplate(WEB, 1, Box::<Template>::default());
    let shows = |changes| [then(&mut State::default(), changes)];
    for two in [
        vec![template(), held(1, Assigned), held(2, Running)],
        vec![template(), held(1, Running), service(1, "10.0.1.16", 80)],
        vec![service(1, "10.0.1.2", 80), service(2, "10.0.1.2", 81)],
        vec![service(1, "10.0.1.2", 80), service(2, "10.0.1.3", 80)],
    ] {
        breaks(words, shows(two));
    }
    holds(shows(vec![
        template(),
        held(1, Failed),
        held(2, Running),
        service(1, "10.0.1.2", 80),
        service(2, "10.0.1.3", 81),
    ]));
}

#[test]
fn a_service_that_is_forgotten_is_found() {
    let words = "services are not forgotten";
    let create = || Entry::Asked(1, Ask::Create("web".into(), Kind::Global));
    breaks(words, [create(), written(1)]);
    let refused = Entry::Answered(1, Answer::Refused("no".into()));
    breaks(words, [create(), refused, service("web", false, 1)]);
    let made = [create(), service("web", false, 1), written(1)];
    breaks(
        words,
        made.clone().into_iter().chain([service("web", true, 2)]),
    );
    holds(
        made.into_iter()
            .chain([Entry::Asked(2, Ask::Forget(WEB)), service("web", true, 2)]),
    );
}

/// A version of a service: what its spec is of, its label, and what it was before.
fn version(number: u64, spec_version: u64, label: &str, update: Option<UpdateStatus>) -> Entry {
    let labelled = |label: &str| {
        let mut spec = ServiceSpec::default();
        spec.labels.insert("a".into(), label.into());
        spec
    };
    let new = Service {
        id: WEB,
        meta: Meta {
            version: number,
            ..Meta::default()
        },
        spec: labelled(label),
        spec_version,
        previous: Some(Box::new(Previous {
            spec: labelled("before"),
            ..Previous::default()
        })),
        update,
        ..Service::default()
    };
    let changed = Changed::Service {
        id: WEB,
        old: None,
        new: Some(Arc::new(new)),
    };
    let event = StateEvent {
        version: number,
        changed,
    };
    Entry::Applied(life(1), event)
}

fn wants(label: &str) -> Entry {
    let mut spec = ServiceSpec::default();
    spec.labels.insert("a".into(), label.into());
    Entry::Asked(1, Ask::Update(WEB, 3, Some(Box::new(spec))))
}

#[test]
fn an_update_that_is_forgotten_is_found() {
    let words = "updates are not forgotten";
    let old = || version(3, 1, "old", None);
    let new = || version(5, 2, "new", None);
    holds([old(), wants("new"), new(), written(1)]);
    breaks(words, [old(), wants("new"), written(1)]);
    let other = version(5, 2, "other", None);
    breaks(words, [old(), wants("new"), other, written(1)]);
    let refused = Entry::Answered(1, Answer::Refused("no".into()));
    breaks(words, [old(), wants("new"), new(), refused]);
    // It is there, and then it is not.
    let done = [old(), wants("new"), new(), written(1)];
    for (spec_version, label) in [(1, "old"), (2, "old"), (3, "old")] {
        let lost = version(7, spec_version, label, None);
        breaks(words, done.clone().into_iter().chain([lost]));
    }
}

#[test]
fn what_the_leader_takes_back_is_not_forgotten() {
    let done = [
        version(3, 1, "old", None),
        wants("new"),
        version(5, 2, "new", None),
        written(1),
    ];
    let back = |state| {
        let status = UpdateStatus {
            state,
            message: "update rolled back due to failure".into(),
            ..UpdateStatus::default()
        };
        version(7, 3, "before", Some(status))
    };
    let back_then = |state| done.clone().into_iter().chain([back(state)]);
    holds(back_then(UpdateState::RollbackStarted));
    breaks("updates are not forgotten", back_then(UpdateState::Paused));
}

#[test]
fn a_task_that_waits_in_silence_is_found() {
    let mut silent = task(1, 1, Pending, Running);
    silent.status.err.clear();
    breaks("who waits knows why", [put(silent)]);
}

/// What a state shows when some changes were made to one.
fn then(state: &mut State, changes: Vec<Change>) -> Entry {
    let at = Timestamp::default();
    state
        .apply(Proposal { at, changes }, &mut Vec::new())
        .unwrap();
    Entry::Shows(life(1), Arc::new(state.clone()))
}

/// A service of three tasks that run, of which one may be replaced at a time.
fn running() -> (State, Vec<Entry>) {
    let mut state = State::default();
    let node = Node {
        id: id(7),
        ..Node::default()
    };
    let web = |spec_version| Service {
        id: WEB,
        spec_version,
        ..Service::default()
    };
    let mut changes = vec![
        Change::PutNode(Expect::Absent, Box::new(node)),
        Change::PutService(Expect::Absent, Box::new(web(1))),
        Change::PutTemplate(WEB, 1, Box::<Template>::default()),
    ];
    changes.extend((1..=3).map(|number| {
        let mut task = task(number, 0, Running, Running);
        task.slot = Slot::Number(number as u64);
        Change::PutTask(Expect::Absent, Box::new(task))
    }));
    let mut entries = vec![then(&mut state, changes)];
    let version = state.work.services[&WEB].meta.version;
    let renewed = Change::PutService(Expect::Version(version), Box::new(web(2)));
    let template = Change::PutTemplate(WEB, 2, Box::<Template>::default());
    entries.push(then(&mut state, vec![renewed, template]));
    (state, entries)
}

/// The old task of a slot is told to go, if it is to, and a new one is made.
fn replace(state: &mut State, number: u128, goes: bool) -> Entry {
    let old = state.work.tasks[&TaskId::from_bits(number)].clone();
    let mut gone = Task::clone(&old);
    gone.desired = Shutdown;
    let mut new = task(10 + number, 0, Assigned, Running);
    (new.slot, new.spec_version) = (old.slot, 2);
    let mut changes = vec![Change::PutTask(Expect::Absent, Box::new(new))];
    if goes {
        let expect = Expect::Version(old.meta.version);
        changes.push(Change::PutTask(expect, Box::new(gone)));
    }
    then(state, changes)
}

#[test]
fn an_update_that_takes_too_many_is_found() {
    for goes in [true, false] {
        let (mut state, mut entries) = running();
        entries.push(replace(&mut state, 1, goes));
        holds(entries.clone());
        let (mut careful, mut others) = (state.clone(), entries.clone());
        entries.push(replace(&mut state, 2, goes));
        breaks("updates keep their bounds: in version", entries);
        // What was replaced runs, and what it was has gone.
        let done = careful.work.tasks[&TaskId::from_bits(1)].clone();
        let mut gone = Task::clone(&done);
        (gone.desired, gone.status.state) = (Shutdown, Shutdown);
        others.extend([told(1, Shutdown), told(11, Running)]);
        let expect = Expect::Version(done.meta.version);
        others.push(then(
            &mut careful,
            vec![Change::PutTask(expect, Box::new(gone))],
        ));
        others.push(replace(&mut careful, 2, goes));
        holds(others);
    }
}

/// A node that is lost takes what it will, and no update is to blame.
#[test]
fn what_a_lost_node_takes_is_no_updates() {
    let (mut state, mut entries) = running();
    let down = Entry::Shown {
        life: life(1),
        node: id(7),
        state: NodeState::Down,
    };
    entries.push(down);
    entries.extend((1..=3).map(|number| replace(&mut state, number, true)));
    holds(entries);
}
