//! Whole passes: what gets which node, and what is said where there is none.

mod filters;
mod reference;
mod spreading;
mod world;

use std::time::Duration;

use super::*;
use crate::model::{Availability, Template};
use world::{World, constrained, node, reserving};

#[test]
fn a_placed_task_has_its_node_and_says_so() {
    let mut world = World::new(1);
    let id = world.task(1, Template::default());
    world.pass(7);
    let task = &world.view.state.work.tasks[&id];
    assert_eq!(task.node, Some(node(1)));
    assert_eq!(task.status.state, TaskState::Assigned);
    assert_eq!(task.status.message, "scheduler assigned task to node");
    assert_eq!(task.status.err, "");
}

#[test]
fn a_task_without_a_node_is_told_once_why_and_comes_to_one_later() {
    let mut world = World::new(1);
    let id = world.task(1, constrained("node.labels.a==b"));
    let why = "no suitable node (scheduling constraints not satisfied on 1 node)";
    assert_eq!(world.pass(1), 1);
    assert_eq!(world.err(id), why);
    assert_eq!(
        world.view.state.work.tasks[&id].status.state,
        TaskState::Pending
    );
    let version = world.view.state.version;
    world.view.now = world.view.now.after(Duration::from_secs(9));
    assert_eq!(world.pass(2), 0, "the same words are not written again");
    assert_eq!(world.waits, [why]);
    assert_eq!(world.view.state.version, version);
    world.edit_node(1, |node| {
        drop(node.spec.labels.insert("a".into(), "B".into()))
    });
    world.pass(3);
    assert_eq!(world.placed(id), Some(1));
    assert_eq!(world.err(id), "");
}

#[test]
fn a_preassigned_task_is_confirmed_or_told_why_not() {
    let mut world = World::new(2);
    let here = world.global(1, 1, Template::default());
    let full = world.global(2, 2, reserving(5, 0));
    let gone = world.global(3, 9, Template::default());
    world.pass(1);
    let task = &world.view.state.work.tasks[&here];
    assert_eq!(task.status.state, TaskState::Assigned);
    assert_eq!(
        task.status.message,
        "scheduler confirmed task can run on preassigned node"
    );
    assert_eq!(
        world.err(full),
        "no suitable node (insufficient resources on 1 node)"
    );
    assert_eq!(
        world.err(gone),
        "no suitable node (1 node not available for new tasks)"
    );
    world.edit_node(2, |node| node.description.resources.nano_cpus = 5);
    world.pass(1);
    assert_eq!(
        world.view.state.work.tasks[&full].status.state,
        TaskState::Assigned
    );
}

#[test]
fn five_failures_make_a_node_the_last_choice_for_five_minutes() {
    for (failures, expected) in [(4, 1), (5, 2)] {
        let mut world = World::new(2);
        world.edit_node(2, |node| node.spec.availability = Availability::Pause);
        for _ in 0..failures {
            let id = world.task(1, Template::default());
            world.pass(1);
            assert_eq!(world.placed(id), Some(1));
            world.end(id, TaskState::Failed);
        }
        world.edit_node(2, |node| node.spec.availability = Availability::Active);
        world.task(2, Template::default());
        let other = world.task(2, Template::default());
        world.pass(3);
        world.end(other, TaskState::Complete);
        let left = world
            .tasks_of(2)
            .into_iter()
            .find(|id| *id != other)
            .unwrap();
        if world.placed(left) == Some(1) {
            world.end(left, TaskState::Complete);
            let more = [
                world.task(2, Template::default()),
                world.task(2, Template::default()),
            ];
            world.pass(3);
            let on_one = more
                .into_iter()
                .find(|id| world.placed(*id) == Some(1))
                .unwrap();
            world.end(on_one, TaskState::Complete);
        }
        // Node 1 is the emptier of the two by now.
        let id = world.task(1, Template::default());
        world.pass(3);
        assert_eq!(world.placed(id), Some(expected), "{failures} failures");
        world.end(id, TaskState::Complete);
        world.view.now = world.view.now.after(Duration::from_secs(301));
        let id = world.task(1, Template::default());
        world.pass(3);
        assert_eq!(
            world.placed(id),
            Some(1),
            "later it is as if nothing had been"
        );
    }
}

#[test]
fn a_draft_that_came_to_nothing_leaves_nothing_taken() {
    let mut world = World::new(1);
    let id = world.task(1, reserving(4, 0));
    for _ in 0..3 {
        world.pass_in_vain(1);
        assert_eq!(world.placed(id), None);
    }
    world.pass(1);
    assert_eq!(world.placed(id), Some(1));
}

#[test]
fn a_pass_of_many_services_places_all() {
    let mut crowd = measure::Crowd::new(20, 300, 30).unwrap();
    assert_eq!(crowd.place(1), 300);
}

/// Run by hand in a release build: `cargo test --release --lib scheduler -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn placements_a_second() {
    for (nodes, tasks) in [(1_000, 10_000), (5_000, 100_000)] {
        let mut crowd = measure::Crowd::new(nodes, tasks, 100).unwrap();
        let begun = std::time::Instant::now();
        let placed = crowd.place(1);
        let rate = placed as f64 / begun.elapsed().as_secs_f64();
        println!("{nodes} nodes, {placed} of {tasks} tasks: {rate:.0} placements a second");
    }
}
