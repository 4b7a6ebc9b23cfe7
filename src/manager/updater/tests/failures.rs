//! New tasks that fail.

use super::*;

/// The newest task of use fails; which it was.
fn fail(world: &mut World, slot: u64, of: &str) -> crate::model::TaskId {
    let task = made_of(world, slot, of).id;
    world.report(task, TaskState::Failed);
    world.settle();
    task
}

#[test]
fn too_many_failures_pause_an_update_until_the_user_says_something() {
    let mut world = world(2, replicas(3), json!({"Parallelism": 1}));
    image(&mut world, "web:2");
    world.settle();
    let task = fail(&mut world, 1, "web:2");
    let paused = said(
        UpdateState::Paused,
        format!("update paused due to failure or early termination of task {task}"),
    );
    assert_eq!(words(&world), paused);
    world.rest();
    world.pass_time(1000);
    world.rest();
    assert_eq!(images(&world), ["web:2", "web:1", "web:1"]);
    assert_eq!(words(&world), paused);
    image(&mut world, "web:3");
    world.rest();
    assert_eq!(images(&world), ["web:3"; 3]);
    assert_eq!(status(&world).state, UpdateState::Completed);
}

#[test]
fn a_task_that_ends_while_it_is_watched_has_failed_and_later_it_has_not() {
    for (secs, end, state) in [
        (4, TaskState::Failed, UpdateState::Paused),
        (4, TaskState::Complete, UpdateState::Paused),
        (4, TaskState::Rejected, UpdateState::Paused),
        (6, TaskState::Failed, UpdateState::Updating),
    ] {
        let config = json!({"Parallelism": 1, "Delay": 4 * SECOND});
        let mut world = world(2, replicas(3), config);
        image(&mut world, "web:2");
        for _ in 0..3 {
            world.settle();
            world.obey();
        }
        world.settle();
        world.pass_time(secs);
        world.report(made_of(&world, 1, "web:2").id, end);
        world.settle();
        assert_eq!(status(&world).state, state, "{secs} {end}");
    }
}

#[test]
fn so_many_may_fail_and_each_slot_counts_once() {
    let config = json!({"Parallelism": 1, "MaxFailureRatio": 0.5});
    let mut world = world(2, replicas(4), config);
    image(&mut world, "web:2");
    world.settle();
    for _ in 0..5 {
        fail(&mut world, 1, "web:2");
        // What fails before its time is not followed before it.
        world.pass_time(61);
        world.settle();
    }
    fail(&mut world, 2, "web:2");
    assert_eq!(
        status(&world).failed.len(),
        2,
        "half of four is not more than half"
    );
    assert_eq!(status(&world).state, UpdateState::Updating);
    fail(&mut world, 3, "web:2");
    assert_eq!(status(&world).state, UpdateState::Paused);
}

#[test]
fn a_task_that_is_lost_with_its_node_has_not_failed() {
    let mut world = world(3, replicas(3), json!({"Parallelism": 1}));
    image(&mut world, "web:2");
    world.settle();
    world.obey();
    world.settle();
    let new = made_of(&world, 1, "web:2");
    world.see(new.node.unwrap().bits(), NodeState::Down);
    world.settle();
    assert_ne!(made_of(&world, 1, "web:2").id, new.id);
    world.rest();
    assert_eq!(images(&world), ["web:2"; 3]);
    assert_eq!(status(&world).state, UpdateState::Completed);
}

#[test]
fn continue_goes_on_whatever_happens() {
    for order in ["stop-first", "start-first"] {
        let config = json!({"Parallelism": 1, "FailureAction": "continue", "Order": order});
        let mut world = world(2, replicas(3), config);
        image(&mut world, "web:2");
        world.settle();
        for slot in 1..=3 {
            fail(&mut world, slot, "web:2");
        }
        assert_eq!(status(&world).state, UpdateState::Completed, "{order}");
        world.rest();
        assert_eq!(
            images(&world),
            ["web:2"; 3],
            "the restart policy sees to it"
        );
    }
}

/// Where nothing follows a failed task, the old one stays, and no other is tried.
#[test]
fn start_first_leaves_a_slot_to_its_old_task_when_the_new_one_fails_for_good() {
    let config = json!({"Parallelism": 1, "FailureAction": "continue", "Order": "start-first"});
    let policy = json!({"Condition": "none"});
    let mut world = with_policy(2, replicas(2), config, policy);
    image(&mut world, "web:2");
    world.settle();
    fail(&mut world, 1, "web:2");
    world.rest();
    assert_eq!(images(&world), ["web:1", "web:2"]);
    assert_eq!(status(&world).state, UpdateState::Completed);
    assert_eq!(world.tasks().len(), 4);
}

#[test]
fn start_first_keeps_the_old_task_and_no_other_when_it_pauses() {
    let config = json!({"Parallelism": 2, "Order": "start-first"});
    let mut world = world(2, replicas(3), config);
    image(&mut world, "web:2");
    world.settle();
    fail(&mut world, 1, "web:2");
    assert_eq!(status(&world).state, UpdateState::Paused);
    world.rest();
    assert_eq!(images(&world), ["web:1"; 3]);
    assert_eq!(running(&world), 3);
}

#[test]
fn a_failed_update_goes_back_to_what_was() {
    for order in ["stop-first", "start-first"] {
        let config = json!({"Parallelism": 1, "FailureAction": "rollback", "Order": order});
        let mut world = world(2, replicas(3), config);
        image(&mut world, "web:2");
        for _ in 0..2 {
            world.settle();
            world.obey();
        }
        world.settle();
        let kept = made_of(&world, 3, "web:1").id;
        let task = fail(&mut world, 1, "web:2");
        let back = said(
            UpdateState::RollbackStarted,
            format!("update rolled back due to failure or early termination of task {task}"),
        );
        assert_eq!(words(&world), back, "{order}");
        assert_eq!(web(&world).previous, None);
        world.rest();
        assert_eq!(
            words(&world),
            said(UpdateState::RollbackCompleted, "rollback completed")
        );
        assert_eq!(images(&world), ["web:1"; 3]);
        assert_eq!(made_of(&world, 3, "web:1").id, kept, "what is right stays");
    }
}

#[test]
fn without_anything_to_go_back_to_it_pauses() {
    let config = json!({"Parallelism": 1, "FailureAction": "rollback"});
    let mut world = world(2, replicas(1), config);
    image(&mut world, "web:2");
    world.edit(|service| service.previous = None);
    world.settle();
    fail(&mut world, 1, "web:2");
    assert_eq!(status(&world).state, UpdateState::Paused);
}

#[test]
fn a_user_may_go_back_and_forth() {
    let mut world = world(2, replicas(2), json!({"Parallelism": 1}));
    image(&mut world, "web:2");
    world.rest();
    for expected in ["web:1", "web:2"] {
        roll_back(&mut world);
        world.settle();
        assert_eq!(
            words(&world),
            said(UpdateState::RollbackStarted, "manually requested rollback")
        );
        world.rest();
        assert_eq!(images(&world), [expected; 2]);
        assert_eq!(status(&world).state, UpdateState::RollbackCompleted);
    }
}

#[test]
fn a_rollback_that_concerns_no_task_is_over_at_once() {
    let mut world = world(2, replicas(2), json!(null));
    change(&mut world, |spec| {
        drop(spec.labels.insert("a".into(), "b".into()))
    });
    roll_back(&mut world);
    world.settle();
    assert_eq!(status(&world).state, UpdateState::RollbackCompleted);
}

/// What had come to its end before the update stays so; what the update has brought to its end comes back.
#[test]
fn a_rollback_brings_back_what_the_update_has_ended() {
    let config = json!({"Parallelism": 1, "FailureAction": "rollback"});
    let policy = json!({"Condition": "none"});
    let mut world = with_policy(2, replicas(2), config, policy);
    image(&mut world, "web:2");
    world.settle();
    fail(&mut world, 1, "web:2");
    world.rest();
    assert_eq!(images(&world), ["web:1"; 2]);
    assert_eq!(status(&world).state, UpdateState::RollbackCompleted);
}

/// Two changes that were begun with one after the other have left a slot with two tasks, of which neither is right.
#[test]
fn no_slot_is_left_with_two_tasks_when_it_pauses() {
    let config = json!({"Parallelism": 2, "Order": "start-first"});
    let mut world = world(2, replicas(2), config);
    image(&mut world, "web:2");
    world.settle();
    world.edit(|service| {
        service.spec.update_config.as_mut().unwrap().parallelism = 1;
    });
    image(&mut world, "web:3");
    world.settle();
    assert_eq!(images(&world), ["web:1", "web:3", "web:1", "web:2"]);
    fail(&mut world, 1, "web:3");
    assert_eq!(status(&world).state, UpdateState::Paused);
    assert_eq!(images(&world), ["web:1"; 2]);
}

/// What a new task was there for is done before anybody saw it run: nothing is left for the old one to wait for.
#[test]
fn a_new_task_that_is_done_at_once_takes_the_place_of_the_old_one() {
    let config = json!({"Parallelism": 1, "FailureAction": "continue", "Order": "start-first"});
    let policy = json!({"Condition": "on-failure", "Delay": 0});
    for mode in [replicas(2), json!({"Global": {}})] {
        let mut world = with_policy(2, mode, config.clone(), policy.clone());
        image(&mut world, "web:2");
        world.settle();
        for task in world.live() {
            if task.spec_version == 2 {
                world.report(task.id, TaskState::Complete);
            }
        }
        world.rest();
        assert_eq!(images(&world), ["web:2"], "the other one runs");
        assert_eq!(status(&world).state, UpdateState::Completed);
    }
}

/// One that is done and is followed by another lets the old one run until that runs.
#[test]
fn a_new_task_that_is_done_and_comes_again_is_waited_for() {
    let config = json!({"Parallelism": 1, "FailureAction": "continue", "Order": "start-first"});
    let mut world = world(2, replicas(1), config);
    image(&mut world, "web:2");
    world.settle();
    world.report(made_of(&world, 1, "web:2").id, TaskState::Complete);
    world.settle();
    let old = made_of(&world, 1, "web:1");
    assert_eq!(old.desired, TaskState::Running);
    world.rest();
    assert_eq!(images(&world), ["web:2"]);
}
