//! Scenes for the orchestrators, and a world in which everything happens and which comes to rest.

pub(crate) mod world;

use serde_json::{Value, json};

use self::world::{WEB, World, node, replicas, service};
use crate::model::{Availability, NodeState, Slot, TaskState};

fn numbers(slots: impl IntoIterator<Item = u64>) -> Vec<Slot> {
    slots.into_iter().map(Slot::Number).collect()
}

fn scale(world: &mut World, mode: Value) {
    world.edit(|service| {
        service.spec.mode = serde_json::from_value(mode).unwrap();
        service.spec_version += 1;
    });
}

/// A world at rest with a service on it.
fn running(nodes: u128, mode: Value, policy: Value) -> World {
    let mut world = World::new(nodes);
    world.create(service(mode, policy));
    world.rest();
    world
}

#[test]
fn slots_are_numbered_from_one_and_the_lowest_free_comes_first() {
    let mut world = running(2, replicas(3), json!({}));
    assert_eq!(world.live_slots(), numbers(1..=3));
    for task in world.live() {
        assert_eq!((task.desired, task.start), (TaskState::Running, None));
    }
    scale(&mut world, replicas(1));
    world.rest();
    assert_eq!(world.live().len(), 1);
    scale(&mut world, replicas(4));
    world.rest();
    assert_eq!(world.live_slots(), numbers(1..=4));
    scale(&mut world, replicas(0));
    world.rest();
    assert_eq!(
        world.state.work.tasks.len(),
        0,
        "nothing is left of a slot that is gone"
    );
}

#[test]
fn what_does_not_run_goes_first_and_then_what_shares_its_node() {
    let mut world = running(1, replicas(3), json!({}));
    // Slots 1 to 3 are on one node; the fourth comes to another, and the fifth is not running yet.
    let second = World::new(2).state.nodes[&node(2)].clone();
    let second = Box::new(crate::model::Node::clone(&second));
    world.write([crate::model::Change::PutNode(
        crate::model::Expect::Absent,
        second,
    )]);
    world.see(2, NodeState::Ready);
    scale(&mut world, replicas(4));
    world.rest();
    scale(&mut world, replicas(5));
    world.settle();
    for (count, left) in [(4, vec![1, 2, 3, 4]), (3, vec![1, 2, 4]), (2, vec![1, 4])] {
        scale(&mut world, replicas(count));
        world.rest();
        assert_eq!(world.live_slots(), numbers(left));
    }
}

#[test]
fn a_global_service_is_on_each_node_that_takes_it() {
    let mut world = World::new(4);
    world.set(2, Availability::Pause);
    world.edit_node(3, |node| {
        drop(node.spec.labels.insert("no".into(), "web".into()))
    });
    world.create(service(json!({"Global": {}}), json!({})));
    world.rest();
    assert_eq!(
        world.live_slots(),
        [1, 4].map(|number| Slot::Node(node(number)))
    );
    for task in world.live() {
        assert_eq!(Slot::Node(task.node.unwrap()), task.slot);
    }
    // A label leaves, a node is drained, another paused: what is there stays only on the paused one.
    world.edit_node(3, |node| node.spec.labels.clear());
    world.set(4, Availability::Drain);
    world.set(1, Availability::Pause);
    world.rest();
    assert_eq!(
        world.live_slots(),
        [1, 3].map(|number| Slot::Node(node(number)))
    );
    for number in [1, 2, 4] {
        world.set(number, Availability::Active);
    }
    world.see(3, NodeState::Down);
    world.rest();
    assert_eq!(
        world.live_slots(),
        [1, 2, 4].map(|number| Slot::Node(node(number)))
    );
    world.see(3, NodeState::Ready);
    world.rest();
    assert_eq!(world.live().len(), 4);
}

#[test]
fn a_job_completes_each_slot_once_and_only_so_many_at_a_time() {
    let job = json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 5}});
    let mut world = running(2, job, json!({}));
    assert_eq!(world.live_slots(), numbers(0..=1));
    for left in [3, 2, 1, 0] {
        let first = world.live().remove(0);
        assert_eq!(
            (first.desired, first.iteration),
            (TaskState::Complete, Some(0))
        );
        world.report(first.id, TaskState::Complete);
        world.rest();
        assert_eq!(world.live().len(), 2.min(1 + left));
    }
    let last = world.live().remove(0);
    world.report(last.id, TaskState::Complete);
    world.rest();
    let done: Vec<Slot> = world.tasks().iter().map(|task| task.slot).collect();
    assert_eq!(done, numbers(0..5));
    // The next run begins with the first slot, and what the one before did is forgotten.
    world.edit(|service| {
        service.spec_version += 1;
        service.job.as_mut().unwrap().iteration = 1;
    });
    world.rest();
    assert_eq!(world.live_slots(), numbers(0..=1));
    assert_eq!(world.tasks().len(), 2);
}

#[test]
fn a_slot_of_a_job_that_cannot_be_done_stays_closed() {
    let job = json!({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 2}});
    let mut world = running(1, job, json!({"Condition": "none"}));
    world.report(world.of(0).id, TaskState::Failed);
    world.rest();
    assert_eq!(world.live_slots(), numbers([1]));
    world.report(world.of(1).id, TaskState::Complete);
    world.rest();
    assert_eq!(world.live().len(), 0);
}

/// Swarm subtracts what runs from what may run, without a look at which is more.
#[test]
fn a_job_of_which_more_run_than_may_begins_nothing() {
    let job =
        |concurrent| json!({"ReplicatedJob": {"MaxConcurrent": concurrent, "TotalCompletions": 5}});
    let mut world = running(2, job(4), json!({}));
    world.edit(|service| service.spec.mode = serde_json::from_value(job(1)).unwrap());
    world.rest();
    assert_eq!(world.live_slots(), numbers(0..4));
    for left in [3, 2, 1, 1, 0] {
        world.report(world.live().remove(0).id, TaskState::Complete);
        world.rest();
        assert_eq!(world.live().len(), left);
    }
    // Fewer are to complete than have.
    let none = json!({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 0}});
    world.edit(|service| service.spec.mode = serde_json::from_value(none).unwrap());
    world.rest();
    assert_eq!(world.live().len(), 0);
}

/// Swarm looks the attempts of global jobs up where it never wrote them.
#[test]
fn the_attempts_of_a_global_job_are_counted() {
    let policy = json!({"MaxAttempts": 2, "Delay": 1_000_000_000});
    let mut world = running(1, json!({"GlobalJob": {}}), policy);
    for _ in 0..3 {
        let task = world.live().remove(0);
        world.report(task.id, TaskState::Failed);
        world.rest();
    }
    assert_eq!(world.live().len(), 0);
    assert_eq!(world.tasks().len(), 3);
}

#[test]
fn a_global_job_runs_once_on_each_node_and_on_those_that_come_later() {
    let mut world = World::new(2);
    world.see(2, NodeState::Unknown);
    world.create(service(json!({"GlobalJob": {}}), json!({})));
    world.rest();
    let first = world.live().remove(0);
    assert_eq!(first.slot, Slot::Node(node(1)));
    world.report(first.id, TaskState::Complete);
    world.see(2, NodeState::Ready);
    world.rest();
    assert_eq!(world.live_slots(), [Slot::Node(node(2))]);
    world.set(1, Availability::Drain);
    world.rest();
    world.set(1, Availability::Active);
    world.rest();
    assert_eq!(
        world.live_slots(),
        [Slot::Node(node(2))],
        "what is done is done"
    );
}

#[test]
fn a_removed_service_goes_with_the_last_of_its_tasks() {
    let mut world = running(2, replicas(3), json!({}));
    world.edit(|service| service.removed = true);
    world.settle();
    assert_eq!(
        world.state.work.tasks.len(),
        3,
        "they are not seen to have stopped yet"
    );
    assert!(world.state.work.services.contains_key(&WEB));
    world.rest();
    assert_eq!(world.state.work, Default::default());
}

mod storm;

/// The last task of a version goes in the same pass in which the next one of that version is made.
#[test]
fn a_template_stays_when_the_next_task_is_made_as_the_last_one_goes() {
    let mut world = World::new(3);
    world.see(1, NodeState::Down);
    world.create(service(json!({"Global": {}}), json!({})));
    world.pass();
    for number in [2, 3] {
        world.remove_node(number);
    }
    world.pass();
    for task in world.tasks() {
        world.report(task.id, TaskState::Shutdown);
    }
    world.see(1, NodeState::Ready);
    world.rest();
    assert_eq!(world.live_slots(), [Slot::Node(node(1))]);
}
