//! Scenes for restarts: what follows an end, and when it may start.

use serde_json::json;

use crate::manager::orchestrator::tests::world::{World, node, replicas, service};
use crate::model::{Availability, NodeState, TaskState};

const SECOND: u64 = 1_000_000_000;

fn one(policy: serde_json::Value) -> World {
    let mut world = World::new(2);
    world.create(service(replicas(1), policy));
    world.rest();
    world
}

#[test]
fn the_next_task_is_made_at_once_and_starts_after_the_delay() {
    let mut world = one(json!({"Delay": 10 * SECOND}));
    let first = world.of(1);
    world.report(first.id, TaskState::Failed);
    world.settle();
    let second = world.of(1);
    let rule = second.start.unwrap();
    assert_eq!((second.desired, rule.after), (TaskState::Ready, None));
    assert_eq!(rule.not_before.since(world.now).as_secs(), 10);
    assert!(second.node.is_some(), "it is prepared meanwhile");
    assert_eq!(
        world.state.work.tasks[&first.id].desired,
        TaskState::Shutdown
    );
    world.pass_time(9);
    assert!(!world.pass());
    world.pass_time(1);
    world.settle();
    assert_eq!(
        (world.of(1).desired, world.of(1).start),
        (TaskState::Running, None)
    );
}

#[test]
fn one_that_fails_while_it_waits_is_not_followed_any_sooner() {
    let mut world = one(json!({"Delay": 10 * SECOND}));
    world.report(world.of(1).id, TaskState::Failed);
    world.settle();
    let begun = world.now;
    world.report(world.of(1).id, TaskState::Rejected);
    world.settle();
    assert_eq!(
        world.live().len(),
        0,
        "it would fail at once, again and again"
    );
    world.pass_time(10);
    world.settle();
    let rule = world.of(1).start.unwrap();
    assert_eq!(rule.not_before.since(begun).as_secs(), 20);
}

#[test]
fn what_follows_depends_on_condition_and_end() {
    for (condition, end, follows) in [
        ("any", TaskState::Complete, true),
        ("", TaskState::Failed, true),
        ("on-failure", TaskState::Complete, false),
        ("on-failure", TaskState::Failed, true),
        ("on-failure", TaskState::Rejected, true),
        ("none", TaskState::Failed, false),
        ("none", TaskState::Complete, false),
    ] {
        let mut world = one(json!({"Condition": condition}));
        world.report(world.of(1).id, end);
        world.rest();
        assert_eq!(world.live().len() == 1, follows, "{condition} {end}");
        assert_eq!(world.tasks().len() == 2, follows, "{condition} {end}");
    }
}

#[test]
fn attempts_are_counted_in_what_is_kept_and_anew_for_a_new_version() {
    let mut world = one(json!({"MaxAttempts": 2, "Delay": 0}));
    for follows in [true, true, false] {
        world.report(world.of(1).id, TaskState::Failed);
        world.rest();
        assert_eq!(world.live().len() == 1, follows);
    }
    assert_eq!(world.tasks().len(), 3);
}

#[test]
fn attempts_outside_the_window_do_not_count() {
    let mut world = one(json!({"MaxAttempts": 1, "Delay": 0, "Window": 30 * SECOND}));
    for _ in 0..3 {
        world.pass_time(60);
        world.report(world.of(1).id, TaskState::Failed);
        world.rest();
        assert_eq!(world.live().len(), 1);
    }
    world.report(world.of(1).id, TaskState::Failed);
    world.rest();
    assert_eq!(world.live().len(), 0);
}

#[test]
fn a_drained_node_hands_over_without_delay_once_the_old_one_has_stopped() {
    let mut world = one(json!({}));
    let first = world.of(1);
    world.set(first.node.unwrap().bits(), Availability::Drain);
    world.settle();
    let second = world.of(1);
    assert_ne!(second.node, first.node);
    assert_eq!(second.start.unwrap().after, Some(first.id));
    world.pass_time(59);
    assert!(!world.pass(), "the old one stops");
    world.report(first.id, TaskState::Shutdown);
    world.settle();
    assert_eq!(world.of(1).desired, TaskState::Running);
}

#[test]
fn nothing_waits_for_ever_for_the_old_one() {
    let mut world = one(json!({}));
    let first = world.of(1);
    world.set(first.node.unwrap().bits(), Availability::Drain);
    world.settle();
    world.pass_time(60);
    world.settle();
    assert_eq!(world.of(1).desired, TaskState::Running);
}

#[test]
fn a_node_that_is_down_or_gone_is_replaced_at_once() {
    let down = |world: &mut World, number| world.see(number, NodeState::Down);
    let gone = |world: &mut World, number| world.remove_node(number);
    for lose in [down as fn(&mut World, u128), gone] {
        let mut world = one(json!({}));
        let first = world.of(1);
        lose(&mut world, first.node.unwrap().bits());
        world.pass();
        let second = world.of(1);
        assert_eq!((second.desired, second.start), (TaskState::Running, None));
        assert_ne!(second.node, first.node);
    }
}

#[test]
fn a_node_that_will_be_back_keeps_its_tasks() {
    for state in [NodeState::Unknown, NodeState::Disconnected] {
        let mut world = one(json!({}));
        let number = world.of(1).node.unwrap().bits();
        world.see(number, state);
        assert!(!world.pass());
    }
    let mut world = one(json!({}));
    world.nodes.clear();
    assert!(!world.pass(), "a new leader has heard of none yet");
}

/// What a node had comes to an end there when it is back, and nothing moves back.
#[test]
fn a_node_that_comes_back_gets_nothing_back() {
    let mut world = one(json!({}));
    let first = world.of(1);
    world.see(first.node.unwrap().bits(), NodeState::Down);
    world.rest();
    let second = world.of(1);
    world.see(first.node.unwrap().bits(), NodeState::Ready);
    world.rest();
    assert_eq!(world.of(1).id, second.id);
    let old = &world.state.work.tasks[&first.id];
    assert_eq!(world.state_of(old), TaskState::Shutdown);
}

#[test]
fn a_task_that_was_never_placed_holds_nobody_up() {
    let mut world = one(json!({"Delay": 0}));
    let first = world.of(1);
    // The only other node is paused, so the next task stays without a node.
    let other = if first.node == Some(node(1)) { 2 } else { 1 };
    world.set(other, Availability::Pause);
    world.set(first.node.unwrap().bits(), Availability::Drain);
    world.rest();
    assert_eq!(world.of(1).node, None);
    world.set(other, Availability::Active);
    world.rest();
    assert_eq!(world.of(1).node, Some(node(other)));
}
