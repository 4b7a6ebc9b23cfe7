//! Scenes for tasks that may no longer be where they are.

use serde_json::json;

use super::{GIVE_UP, enforce, orphan};
use crate::manager::orchestrator::tests::world::{FITS, World, node, replicas, service};
use crate::model::{Availability, NodeState, Resources, TaskState};

#[test]
fn a_node_that_does_not_fit_any_more_loses_its_tasks_to_one_that_does() {
    let mut world = World::new(2);
    world.create(service(replicas(2), json!({})));
    world.rest();
    let lost = world
        .live()
        .into_iter()
        .find(|task| task.node == Some(node(1)));
    let lost = lost.unwrap();
    world.set(1, Availability::Pause);
    world.edit_node(1, |node| {
        drop(node.spec.labels.insert("no".into(), "web".into()))
    });
    assert!(
        !world.run(|draft| enforce(draft, node(1), FITS)),
        "a paused node is left alone"
    );
    world.set(1, Availability::Active);
    assert!(world.run(|draft| enforce(draft, node(1), FITS)));
    let rejected = &world.state.work.tasks[&lost.id];
    assert_eq!(rejected.desired, TaskState::Shutdown);
    assert_eq!(
        rejected.status.state,
        TaskState::Running,
        "its agent says when it has ended"
    );
    let words = (&*rejected.status.message, &*rejected.status.err);
    assert_eq!(
        words,
        (
            "task rejected by constraint enforcer",
            "assigned node no longer meets constraints"
        )
    );
    assert!(
        !world.run(|draft| enforce(draft, node(1), FITS)),
        "once is enough"
    );
    world.rest();
    assert_eq!(world.live().len(), 2);
}

#[test]
fn what_has_no_room_any_more_is_rejected_and_what_needs_none_stays() {
    for (memory, left) in [(2048, 2), (1024, 1), (512, 0)] {
        let mut world = World::new(1);
        let mut new = service(replicas(2), json!({"Condition": "none"}));
        new.spec.task_template.resources =
            serde_json::from_value(json!({"Reservations": {"MemoryBytes": 1024}})).unwrap();
        world.create(new);
        world.rest();
        world.edit_node(1, |node| {
            node.description.resources = Resources {
                nano_cpus: 0,
                memory_bytes: memory,
            };
        });
        world.run(|draft| enforce(draft, node(1), FITS));
        assert_eq!(world.live().len(), left);
    }
}

#[test]
fn tasks_are_given_up_after_a_day_or_with_their_node() {
    let mut world = World::new(1);
    world.create(service(replicas(1), json!({})));
    world.rest();
    let task = world.of(1);
    world.see(1, NodeState::Down);
    let since = world.now;
    world.now = since.after(GIVE_UP - std::time::Duration::from_secs(1));
    assert!(!world.run(|draft| orphan(draft, node(1), Some(since))));
    assert!(!world.run(|draft| orphan(draft, node(1), None)));
    world.pass_time(1);
    assert!(world.run(|draft| orphan(draft, node(1), Some(since))));
    assert_eq!(
        world.state.work.tasks[&task.id].status.state,
        TaskState::Orphaned
    );

    let mut world = World::new(2);
    world.create(service(replicas(2), json!({})));
    world.rest();
    world.remove_node(2);
    assert!(world.run(|draft| orphan(draft, node(2), None)));
    let lost = world
        .tasks()
        .into_iter()
        .find(|task| task.node == Some(node(2)));
    let status = &lost.unwrap().status;
    assert_eq!(
        status.message,
        "Task belonged to a node that has been deleted"
    );
}
