//! One task at a time, on a daemon that lives.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::{AssignError, REPORT, Statuses, reports};
use super::world::{ENDLESS, World, asked, spec};
use crate::agent::runtime::Runtime;
use crate::agent::runtime::conformance::{MISSING, OBEDIENT, STUBBORN};
use crate::agent::task::health::Answer;
use crate::agent::task::plan::TASK_LABEL;
use crate::model::container::{ContainerState, MountSource};
use crate::model::{TaskId, TaskState, TaskStatus};
use crate::testing::let_pass;
use crate::wire::assignment::Assignments;

#[tokio::test(start_paused = true)]
async fn a_task_runs_and_stops_and_is_forgotten() {
    let mut world = World::new();
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Running)
        .await;
    let status = world.reaches(1, TaskState::Running).await;
    assert_eq!(
        (status.message.as_str(), status.err.as_str()),
        ("started", "")
    );
    assert!(status.pid > 0);
    let config = world.runtime.config(world.container(1)).unwrap();
    assert_eq!(config.labels[TASK_LABEL], TaskId::from_bits(1).to_string());
    assert!(config.name.starts_with("web.1."), "{}", config.name);
    let MountSource::Bind { path, .. } = &config.mounts[0].source else {
        panic!("{:?}", config.mounts);
    };
    assert_eq!(path.to_str(), Some("/volumes/data"));
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Shutdown)
        .await;
    let status = world.reaches(1, TaskState::Shutdown).await;
    assert_eq!(status.exit_code, Some(143));
    // History: the container stays for its logs until the leader forgets the task.
    let there = world.runtime.inspect(world.container(1)).await.unwrap();
    assert!(matches!(
        there.unwrap().state,
        Some(ContainerState::Exited(_))
    ));
    world.forget_all().await;
}

#[tokio::test(start_paused = true)]
async fn ends_and_refusals_are_told_in_dockers_words() {
    let mut world = World::new();
    for (task, image, script, state, err, code) in [
        (1, "busybox", "exit 0", TaskState::Complete, "", Some(0)),
        (
            2,
            "busybox",
            "exit 3",
            TaskState::Failed,
            "task: non-zero exit (3)",
            Some(3),
        ),
        (
            3,
            "nothing",
            "exit 0",
            TaskState::Rejected,
            "No such image: nothing",
            None,
        ),
    ] {
        world
            .want(task, &spec(image, script), TaskState::Running)
            .await;
        let status = world.reaches(task, state).await;
        assert_eq!(
            (status.err.as_str(), status.exit_code),
            (err, code),
            "{script}"
        );
    }
    world
        .want(4, &spec("busybox", MISSING), TaskState::Running)
        .await;
    let status = world.reaches(4, TaskState::Failed).await;
    assert!(status.err.contains(MISSING), "{}", status.err);
    let mut impossible = spec("busybox", OBEDIENT);
    impossible.container_spec = None;
    world.want(5, &impossible, TaskState::Running).await;
    world.reaches(5, TaskState::Rejected).await;
    world.forget_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_prepared_task_waits_until_it_is_to_run() {
    let mut world = World::new();
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Ready)
        .await;
    world.reaches(1, TaskState::Ready).await;
    let_pass(Duration::from_secs(60)).await;
    assert_eq!(world.reaches(1, TaskState::Ready).await.message, "prepared");
    let states: Vec<_> = world.runtime.containers().into_values().collect();
    assert_eq!(states, [Some(ContainerState::Created)]);
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Running)
        .await;
    world.reaches(1, TaskState::Running).await;
    world.forget_all().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_obey_is_killed_when_its_time_is_over() {
    let mut world = World::new();
    world
        .want(1, &spec("busybox", STUBBORN), TaskState::Running)
        .await;
    world.reaches(1, TaskState::Running).await;
    let asked = Instant::now();
    world
        .want(1, &spec("busybox", STUBBORN), TaskState::Shutdown)
        .await;
    let status = world.reaches(1, TaskState::Shutdown).await;
    assert_eq!(status.exit_code, Some(137));
    let took = asked.elapsed();
    let usual = Duration::from_secs(10)..Duration::from_secs(11);
    assert!(usual.contains(&took), "{took:?}");
    world.forget_all().await;
}

#[tokio::test(start_paused = true)]
async fn the_time_to_end_is_not_given_twice() {
    let mut world = World::new();
    world
        .want(1, &spec("busybox", STUBBORN), TaskState::Running)
        .await;
    world.reaches(1, TaskState::Running).await;
    let asked = Instant::now();
    world
        .want(1, &spec("busybox", STUBBORN), TaskState::Shutdown)
        .await;
    let_pass(Duration::from_secs(6)).await;
    world.end().await;
    world.reaches(1, TaskState::Shutdown).await;
    let took = asked.elapsed();
    let usual = Duration::from_secs(10)..Duration::from_secs(11);
    assert!(usual.contains(&took), "{took:?}");
    world.forget_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_once_it_is_healthy_and_fails_once_it_is_not() {
    let mut world = World::new();
    *world.health.0.lock().unwrap() = Answer::Exited(1);
    let task = asked(spec("busybox", OBEDIENT));
    world.want(1, &task, TaskState::Running).await;
    world.reaches(1, TaskState::Starting).await;
    let_pass(Duration::from_millis(1500)).await;
    world.reaches(1, TaskState::Starting).await;
    *world.health.0.lock().unwrap() = Answer::Exited(0);
    world.reaches(1, TaskState::Running).await;
    let_pass(Duration::from_secs(60)).await;
    *world.health.0.lock().unwrap() = Answer::TimedOut;
    let status = world.reaches(1, TaskState::Failed).await;
    let words = "task: non-zero exit (143): dockerexec: unhealthy container";
    assert_eq!(status.err, words);
    *world.health.0.lock().unwrap() = Answer::Failed;
    let stubborn = asked(spec("busybox", STUBBORN));
    world.want(2, &stubborn, TaskState::Running).await;
    let status = world.reaches(2, TaskState::Failed).await;
    let words = "task: non-zero exit (137): dockerexec: unhealthy container";
    assert_eq!(status.err, words);
    world.forget_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_is_given_up_when_its_task_is_not_wanted() {
    let mut world = World::new();
    world
        .want(1, &spec(ENDLESS, OBEDIENT), TaskState::Running)
        .await;
    world.reaches(1, TaskState::Preparing).await;
    world
        .want(1, &spec(ENDLESS, OBEDIENT), TaskState::Shutdown)
        .await;
    world.reaches(1, TaskState::Shutdown).await;
    world.forget_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_running_task_is_adopted_and_not_disturbed() {
    let mut world = World::new();
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Running)
        .await;
    world.reaches(1, TaskState::Running).await;
    let before = world.runtime.containers();
    for _ in 0..3 {
        world.end().await;
        world.reaches(1, TaskState::Running).await;
        let_pass(Duration::from_secs(60)).await;
    }
    assert_eq!(world.runtime.containers(), before);
    // It ends while nobody looks.
    world.end().await;
    world.runtime.exits(world.container(1), 4);
    let status = world.reaches(1, TaskState::Failed).await;
    assert_eq!(status.err, "task: non-zero exit (4)");
    world.forget_all().await;
}

#[tokio::test(start_paused = true)]
async fn after_the_machine_was_off_what_ran_has_failed_and_what_waited_is_made_again() {
    let mut world = World::new();
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Running)
        .await;
    world
        .want(2, &spec("busybox", OBEDIENT), TaskState::Ready)
        .await;
    world.reaches(1, TaskState::Running).await;
    world.reaches(2, TaskState::Ready).await;
    world.end().await;
    world.runtime.reboot();
    let status = world.reaches(1, TaskState::Failed).await;
    assert_eq!(status.err, "task: non-zero exit (255)");
    world
        .want(2, &spec("busybox", OBEDIENT), TaskState::Running)
        .await;
    world.reaches(2, TaskState::Running).await;
    assert_eq!(world.runtime.begun(&TaskId::from_bits(2).to_string()), 1);
    world.forget_all().await;
}

#[tokio::test(start_paused = true)]
async fn older_assignments_and_those_without_a_ground_are_refused() {
    let mut world = World::new();
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Running)
        .await;
    let now = world.assignments();
    let runner = world.life().await.runner.clone();
    let other = |term, generation, complete| Assignments {
        term,
        generation,
        complete,
        ..Assignments::default()
    };
    for old in [
        other(0, 99, true),
        other(now.term, now.generation - 1, true),
    ] {
        let outcome = runner.assign(old).await;
        assert!(matches!(outcome, Err(AssignError::Older(_))), "{outcome:?}");
    }
    let outcome = runner.assign(other(now.term + 1, 1, false)).await;
    assert!(matches!(outcome, Err(AssignError::Gap(_))), "{outcome:?}");
    runner.assign(now.clone()).await.unwrap();
    world.reaches(1, TaskState::Running).await;
    // A restart forgets neither.
    world.end().await;
    let runner = world.life().await.runner.clone();
    let outcome = runner
        .assign(other(now.term, now.generation - 1, true))
        .await;
    assert!(matches!(outcome, Err(AssignError::Older(_))), "{outcome:?}");
    let more = Assignments {
        removed: vec![TaskId::from_bits(1)],
        ..other(now.term, now.generation + 1, false)
    };
    runner.assign(more).await.unwrap();
    drop(runner);
    world.is_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_task_leaves_nothing_but_its_last_word() {
    let mut world = World::new();
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Running)
        .await;
    world.reaches(1, TaskState::Running).await;
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Remove)
        .await;
    world.reaches(1, TaskState::Shutdown).await;
    let_pass(Duration::from_secs(60)).await;
    assert_eq!(world.runtime.containers(), BTreeMap::new());
    world.reaches(1, TaskState::Shutdown).await;
    world.forget(1).await;
    world.is_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_ledger_loses_no_container() {
    let mut world = World::new();
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Running)
        .await;
    world
        .want(2, &spec("busybox", OBEDIENT), TaskState::Running)
        .await;
    world.reaches(1, TaskState::Running).await;
    world.reaches(2, TaskState::Running).await;
    let before = world.container(1);
    world.end().await;
    std::fs::remove_file(world.ledger()).unwrap();
    // Without a leader both run on.
    world.life().await;
    let_pass(Duration::from_secs(60)).await;
    assert_eq!(world.runtime.containers().len(), 2);
    // The leader knows one of them.
    world.leader.remove(&TaskId::from_bits(2));
    for assigned in world.leader.values_mut() {
        assigned.observed = TaskState::Running;
    }
    world.say().await;
    world.reaches(1, TaskState::Running).await;
    let_pass(Duration::from_secs(60)).await;
    assert_eq!(
        world.runtime.containers().into_keys().collect::<Vec<_>>(),
        [before]
    );
    assert_eq!(world.runtime.begun(&TaskId::from_bits(1).to_string()), 1);
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Shutdown)
        .await;
    world.reaches(1, TaskState::Shutdown).await;
    world.forget_all().await;
}

#[tokio::test(start_paused = true)]
async fn what_ran_and_is_lost_with_the_ledger_has_failed_and_does_not_begin_anew() {
    let mut world = World::new();
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Running)
        .await;
    world.reaches(1, TaskState::Running).await;
    world.end().await;
    std::fs::remove_file(world.ledger()).unwrap();
    world.runtime.reboot();
    for assigned in world.leader.values_mut() {
        assigned.observed = TaskState::Running;
    }
    world.say().await;
    let status = world.reaches(1, TaskState::Failed).await;
    assert_eq!(status.err, "task: non-zero exit (255)");
    assert_eq!(world.runtime.begun(&TaskId::from_bits(1).to_string()), 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_a_while_says_why_and_is_tried_again() {
    let mut world = World::new();
    world.life().await;
    world.fate.fail_one_in(Some(1), 7);
    world
        .want(1, &spec("busybox", OBEDIENT), TaskState::Running)
        .await;
    let task = TaskId::from_bits(1);
    world
        .until("it says why", |all| {
            all.get(&task)
                .is_some_and(|status| status.err == "the disk is busy")
        })
        .await;
    world.fate.fail_one_in(None, 0);
    let status = world.reaches(1, TaskState::Running).await;
    assert_eq!(status.err, "");
    world.forget_all().await;
}

#[test]
fn a_session_hears_everything_once_and_then_what_changes() {
    let [nothing, some] = [0, REPORT as u128 + 1].map(|count| {
        let all = (0..count).map(|bits| (TaskId::from_bits(bits), TaskStatus::default()));
        all.collect::<Statuses>()
    });
    let parts = |told, now| {
        let parts = reports(told, now).into_iter();
        parts
            .map(|part| (part.statuses.len(), part.complete))
            .collect::<Vec<_>>()
    };
    assert_eq!(parts(None, &nothing), [(0, true)]);
    assert_eq!(parts(None, &some), [(REPORT, false), (1, true)]);
    assert_eq!(parts(Some(&some), &some), []);
    let mut later = some.clone();
    let status = TaskStatus {
        state: TaskState::Running,
        ..TaskStatus::default()
    };
    later.insert(TaskId::from_bits(3), status);
    assert_eq!(parts(Some(&some), &later), [(1, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_task_stops_where_nobody_is_heard_of_for_longer_than_it_allows() {
    let mut world = World::new();
    let allowed = Duration::from_secs(30);
    world.allow(1, "stop:30s");
    world
        .want(1, &spec("busybox", "sleep"), TaskState::Running)
        .await;
    world
        .want(2, &spec("busybox", "sleep"), TaskState::Running)
        .await;
    let contact = world.life().await.runner.contact();
    world.reaches(1, TaskState::Running).await;
    world.reaches(2, TaskState::Running).await;
    tokio::time::sleep(10 * allowed).await;
    // A short cut is no reason.
    drop(contact);
    tokio::time::sleep(allowed / 2).await;
    let contact = world.life().await.runner.contact();
    tokio::time::sleep(10 * allowed).await;
    world.reaches(1, TaskState::Running).await;
    drop(contact);
    let cut = Instant::now();
    let ended = world.reaches(1, TaskState::Shutdown).await;
    assert!((allowed..2 * allowed).contains(&cut.elapsed()));
    assert_eq!(
        ended.err,
        "the node was cut off from the cluster for longer than skein.isolation allows"
    );
    world.reaches(2, TaskState::Running).await;
    // A leader who is back wants what it wanted before, and the task stays ended.
    let _contact = world.life().await.runner.contact();
    world.say().await;
    world.reaches(1, TaskState::Shutdown).await;
    world.forget_all().await;
}
