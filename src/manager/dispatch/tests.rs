//! What a node is sent, message by message.

use serde_json::json;

use super::*;
use crate::model::{
    Change, Expect, Proposal, Service, ServiceId, Slot, TaskSpec, TaskStatus, Template, Timestamp,
};

const NODE: NodeId = NodeId::from_bits(1);
const OTHER: NodeId = NodeId::from_bits(2);
const WEB: ServiceId = ServiceId::from_bits(7);

struct World {
    state: State,
    observed: Observed,
    dispatch: Dispatch,
}

fn image(name: &str) -> TaskSpec {
    serde_json::from_value(json!({"ContainerSpec": {"Image": name}})).unwrap()
}

fn task(number: u128, node: Option<NodeId>, state: TaskState) -> Task {
    Task {
        id: TaskId::from_bits(number),
        meta: Default::default(),
        service: WEB,
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
    }
}

impl World {
    fn new() -> Self {
        Self::with(image("web:1"))
    }

    fn with(spec: TaskSpec) -> Self {
        let mut world = Self {
            state: State::default(),
            observed: Observed::new(),
            dispatch: Dispatch::new(3, NODE),
        };
        let service = Service {
            id: WEB,
            ..Service::default()
        };
        let template = Template {
            name: "web".into(),
            task: spec,
            ..Template::default()
        };
        world.apply(Change::PutService(Expect::Absent, Box::new(service)));
        world.apply(Change::PutTemplate(WEB, 1, Box::new(template)));
        world
    }

    fn apply(&mut self, change: Change) {
        let at = Timestamp::from_nanos(1);
        let changes = vec![change];
        let proposal = Proposal { at, changes };
        self.state.apply(proposal, &mut Vec::new()).unwrap();
    }

    fn put(&mut self, task: Task) {
        let old = self.state.work.tasks.get(&task.id);
        let expect = old.map_or(Expect::Absent, |old| Expect::Version(old.meta.version));
        self.apply(Change::PutTask(expect, Box::new(task)));
    }

    fn forget(&mut self, number: u128) {
        let id = TaskId::from_bits(number);
        let version = self.state.work.tasks[&id].meta.version;
        self.apply(Change::RemoveTask(Expect::Version(version), id));
    }

    fn next(&mut self) -> Vec<Downward> {
        self.dispatch.next(&self.state, &self.observed)
    }

    /// The only message.
    fn only(&mut self) -> Assignments {
        let mut messages = self.next();
        assert_eq!(messages.len(), 1);
        match messages.remove(0) {
            Downward::Assignments(assignments) => assignments,
            other => panic!("{other:?}"),
        }
    }
}

fn names(assignments: &Assignments) -> Vec<u128> {
    let tasks = assignments.tasks.iter();
    tasks.map(|task| task.0.task.bits()).collect()
}

#[test]
fn all_of_a_nodes_tasks_come_first_and_nothing_of_others() {
    let mut world = World::new();
    world.put(task(1, Some(NODE), TaskState::Assigned));
    world.put(task(2, Some(OTHER), TaskState::Assigned));
    world.put(task(3, None, TaskState::Pending));
    // A global service's: nobody has said yet that it fits.
    world.put(task(4, Some(NODE), TaskState::Pending));
    world.put(task(5, Some(NODE), TaskState::Running));
    let seen = TaskStatus {
        state: TaskState::Failed,
        ..TaskStatus::default()
    };
    world.observed.insert(TaskId::from_bits(5), seen);
    let first = world.only();
    assert!(first.complete);
    assert_eq!((first.term, first.generation), (3, world.state.version));
    assert_eq!(names(&first), [1, 5]);
    assert_eq!(first.tasks[0].0.service.name, "web");
    assert_eq!(first.tasks[0].0.spec, image("web:1"));
    assert_eq!(first.tasks[1].0.observed, TaskState::Failed);
    assert_eq!(world.next(), []);
}

#[test]
fn a_node_without_tasks_is_told_that_it_has_none() {
    let mut world = World::new();
    let first = world.only();
    assert!(first.complete && first.tasks.is_empty() && first.removed.is_empty());
    assert_eq!(world.next(), []);
}

#[test]
fn then_come_changes_alone() {
    let mut world = World::new();
    world.put(task(1, Some(NODE), TaskState::Assigned));
    world.put(task(2, Some(NODE), TaskState::Assigned));
    let first = world.only();
    // What the leader writes down of what the node itself has said is no news to it.
    world.put(task(1, Some(NODE), TaskState::Running));
    assert_eq!(world.next(), []);
    world.put(Task {
        desired: TaskState::Shutdown,
        ..task(1, Some(NODE), TaskState::Running)
    });
    world.put(task(3, Some(NODE), TaskState::Assigned));
    world.forget(2);
    let second = world.only();
    assert!(!second.complete && second.generation > first.generation);
    assert_eq!(names(&second), [1, 3]);
    assert_eq!(second.tasks[0].0.desired, TaskState::Shutdown);
    assert_eq!(second.removed, [TaskId::from_bits(2)]);
    assert_eq!(world.next(), []);
}

#[test]
fn what_is_too_long_for_one_message_comes_in_several() {
    let mut spec = image("web:1");
    let container = spec.container_spec.as_mut().unwrap();
    container.env = vec!["x".repeat(MESSAGE / 5)];
    let mut world = World::with(spec);
    for number in 1..=10 {
        world.put(task(number, Some(NODE), TaskState::Assigned));
    }
    let messages = world.next();
    let mut tasks = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let length = crate::wire::encode(message).unwrap().len();
        assert!(length <= SESSION_FRAME, "{length}");
        match message {
            Downward::More(more) if at + 1 < messages.len() => tasks.extend(more),
            Downward::Assignments(last) if at + 1 == messages.len() => {
                assert!(last.complete);
                tasks.extend(&last.tasks);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(messages.len() >= 3);
    let numbers: Vec<u128> = tasks.iter().map(|task| task.0.task.bits()).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_change_wakes_the_nodes_that_it_concerns() {
    let mut world = World::new();
    world.put(task(1, Some(NODE), TaskState::Assigned));
    world.put(task(2, Some(OTHER), TaskState::Assigned));
    let old = world.state.clone();
    assert_eq!(concerned(&old, &world.state), []);
    world.put(Task {
        desired: TaskState::Shutdown,
        ..task(2, Some(OTHER), TaskState::Assigned)
    });
    assert_eq!(concerned(&old, &world.state), [OTHER]);
    world.forget(1);
    assert_eq!(concerned(&old, &world.state), [NODE, OTHER]);
}

/// A secret, a config, or whichever of both a number stands for.
fn kept(number: u128, bytes: usize) -> Dependency {
    Dependency {
        id: DependencyId::from_bits(number),
        spec: DependencySpec {
            name: format!("key-{number}"),
            labels: BTreeMap::from([("a".into(), "b".into())]),
            data: crate::model::dependency::Payload::new(vec![b'x'; bytes]),
            ..DependencySpec::default()
        },
        ..Dependency::default()
    }
}

/// A world whose tasks name these secrets.
fn with_secrets(numbers: &[u128], bytes: usize) -> World {
    let named: Vec<_> = numbers
        .iter()
        .map(|number| {
            let id = DependencyId::from_bits(*number).to_string();
            json!({"SecretID": id, "SecretName": format!("key-{number}"), "File": {"Name": id}})
        })
        .collect();
    let spec = json!({"ContainerSpec": {"Image": "web:1", "Secrets": named}});
    let mut world = World::with(serde_json::from_value(spec).unwrap());
    for number in numbers.iter().chain(&[99]) {
        let put = Change::PutDependency(Expect::Absent, Box::new(kept(*number, bytes)));
        world.apply(put);
    }
    world
}

/// What messages bring and take of secrets and configs, in order, and where the tasks come between them.
fn told(messages: &[Downward]) -> Vec<String> {
    let ids = |ids: &mut dyn Iterator<Item = DependencyId>| {
        let bits: Vec<String> = ids.map(|id| id.bits().to_string()).collect();
        bits.join(",")
    };
    let tell = |message: &Downward| match message {
        Downward::Dependencies(news) => format!(
            "{}+{} -{}",
            if news.complete { "all " } else { "" },
            ids(&mut news.kept.iter().map(|one| one.0.id)),
            ids(&mut news.removed.iter().copied())
        ),
        Downward::Assignments(_) => "tasks".into(),
        other => panic!("{other:?}"),
    };
    messages.iter().map(tell).collect()
}

#[test]
fn secrets_come_before_the_tasks_that_name_them_and_go_with_the_last() {
    let mut world = with_secrets(&[4, 5], 3);
    world.put(task(1, Some(OTHER), TaskState::Assigned));
    assert_eq!(told(&world.next()), ["tasks"], "they are for others");
    world.put(task(2, Some(NODE), TaskState::Assigned));
    let messages = world.next();
    assert_eq!(told(&messages), ["+4,5 -", "tasks"]);
    let Downward::Dependencies(news) = &messages[0] else {
        panic!("{messages:?}");
    };
    let first = &news.kept[0].0.spec;
    assert_eq!((first.data.bytes(), first.labels.len()), (&b"xxx"[..], 0));
    world.put(task(3, Some(NODE), TaskState::Assigned));
    assert_eq!(told(&world.next()), ["tasks"], "once is enough");
    let over = |number| Task {
        desired: TaskState::Shutdown,
        ..task(number, Some(NODE), TaskState::Running)
    };
    world.put(over(2));
    assert_eq!(told(&world.next()), ["tasks"]);
    world.put(over(3));
    assert_eq!(told(&world.next()), ["tasks", "+ -4,5"]);
    assert_eq!(told(&world.next()), [] as [&str; 0]);
}

#[test]
fn a_new_session_has_all_of_them_again_and_long_ones_come_in_parts() {
    let mut world = with_secrets(&[4, 5, 6], 500_000);
    world.put(task(1, Some(NODE), TaskState::Running));
    let parts = ["all +4,5,6 -", "tasks"];
    assert_eq!(told(&world.next()), parts);
    world.dispatch = Dispatch::new(4, NODE);
    assert_eq!(told(&world.next()), parts);
    let mut world = with_secrets(&[4, 5, 6], 1_000_000);
    world.put(task(1, Some(NODE), TaskState::Running));
    let parts = ["all +4 -", "+5 -", "+6 -", "tasks"];
    assert_eq!(told(&world.next()), parts);
}
