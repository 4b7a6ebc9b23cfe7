//! What went wrong elsewhere, each by its name.

use super::*;

/// *A rollback of a rollback fails*: a rollback beyond its failure ratio was paused, and then completed all the same.
#[test]
fn a_rollback_that_fails_is_paused_and_stays_so() {
    let config = json!({"Parallelism": 1, "FailureAction": "rollback"});
    let mut world = world(2, replicas(2), config);
    image(&mut world, "web:2");
    world.settle();
    world.report(made_of(&world, 1, "web:2").id, TaskState::Failed);
    world.settle();
    let back = made_of(&world, 1, "web:1").id;
    world.report(back, TaskState::Failed);
    world.settle();
    let paused = said(
        UpdateState::RollbackPaused,
        format!("rollback paused due to failure or early termination of task {back}"),
    );
    assert_eq!(words(&world), paused);
    for _ in 0..3 {
        world.rest();
        world.pass_time(100);
        assert_eq!(words(&world), paused);
        assert_eq!(status(&world).completed_at, None);
    }
}

/// *Progress lives in memory*: a new leader began to watch anew.
#[test]
fn a_new_leader_goes_on_in_the_middle() {
    let config = json!({"Parallelism": 1, "Monitor": 60 * SECOND, "MaxFailureRatio": 0.5});
    let mut world = world(2, replicas(3), config);
    image(&mut world, "web:2");
    world.settle();
    world.report(made_of(&world, 1, "web:2").id, TaskState::Failed);
    world.settle();
    for _ in 0..20 {
        world.obey();
        world.settle();
    }
    assert_eq!(images(&world), ["web:2"; 3]);
    world.pass_time(40);
    // All that the next leader has is what is written down, and what nodes say again.
    let nodes = std::mem::take(&mut world.nodes);
    let observed = std::mem::take(&mut world.observed);
    world.settle();
    (world.nodes, world.observed) = (nodes, observed);
    world.settle();
    assert_eq!(status(&world).failed.len(), 1);
    world.pass_time(19);
    world.settle();
    assert_eq!(status(&world).state, UpdateState::Updating);
    world.pass_time(1);
    world.settle();
    assert_eq!(status(&world).state, UpdateState::Completed);
}

/// moby #37493: *stuck at "update in progress"*, when what is waited for is not there any more.
#[test]
fn an_update_is_not_stuck_when_what_it_waits_for_goes() {
    let config = || json!({"Parallelism": 2});
    let scaled = |world: &mut World| {
        world.edit(|service| service.spec.mode = serde_json::from_value(replicas(1)).unwrap());
    };
    let lost = |world: &mut World| {
        world.see(2, NodeState::Down);
        world.remove_node(3);
    };
    let drained = |world: &mut World| world.set(2, Availability::Drain);
    for (what, mode) in [
        (scaled as fn(&mut World), replicas(4)),
        (lost, replicas(4)),
        (drained, replicas(4)),
        (lost, json!({"Global": {}})),
        (drained, json!({"Global": {}})),
    ] {
        let mut world = world(3, mode, config());
        image(&mut world, "web:2");
        world.settle();
        what(&mut world);
        world.rest();
        assert_eq!(status(&world).state, UpdateState::Completed);
        assert!(images(&world).iter().all(|of| of == "web:2"));
    }
}

/// moby #41804: *extra tasks in a rollback*, made by two that look after the same slot.
#[test]
fn no_slot_has_more_tasks_than_it_needs_in_a_rollback() {
    let config = json!({"Parallelism": 0, "FailureAction": "rollback", "Order": "start-first"});
    let mut world = world(3, replicas(6), config);
    image(&mut world, "web:2");
    world.settle();
    for slot in 1..=6 {
        world.report(made_of(&world, slot, "web:2").id, TaskState::Failed);
    }
    world.settle();
    assert_eq!(images(&world), ["web:1"; 6]);
    world.rest();
    assert_eq!(
        (images(&world), running(&world)),
        (vec!["web:1".to_owned(); 6], 6)
    );
    assert_eq!(status(&world).state, UpdateState::RollbackCompleted);
}

/// The same, when both tasks of a slot end before anybody looks.
#[test]
fn one_task_follows_two_that_have_ended_at_once() {
    let config = json!({"Parallelism": 1, "FailureAction": "continue", "Order": "start-first"});
    let mut world = world(2, replicas(2), config);
    image(&mut world, "web:2");
    world.settle();
    for image in ["web:1", "web:2"] {
        world.report(made_of(&world, 1, image).id, TaskState::Failed);
    }
    world.rest();
    assert_eq!(images(&world), ["web:2"; 2]);
}

/// An update that is watched by a clock that is then set back, or by a leader whose clock is ahead of the next one's,
/// was watched for as much longer as the clocks differ.
#[test]
fn an_update_does_not_wait_for_a_clock_that_was_ahead() {
    let mut world = world(2, replicas(2), json!({"Parallelism": 2}));
    image(&mut world, "web:2");
    for _ in 0..10 {
        world.settle();
        world.obey();
    }
    assert_eq!(status(&world).state, UpdateState::Updating);
    let hour = 3600 * i128::from(SECOND);
    world.now = crate::model::Timestamp::from_nanos(world.now.nanos() - hour);
    world.settle();
    world.pass_time(5);
    world.settle();
    assert_eq!(status(&world).state, UpdateState::Completed);
}
