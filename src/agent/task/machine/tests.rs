//! The machine, decision by decision, and under every combination of what it may see.

use super::*;
use crate::model::task::ServiceRef;
use crate::model::{ContainerId, Slot, TaskId, TaskSpec, TaskStatus, Timestamp};
use crate::wire::assignment::Assigned;

const EVERY_WANT: [(TaskState, bool); 6] = [
    (TaskState::Ready, false),
    (TaskState::Running, false),
    (TaskState::Complete, false),
    (TaskState::Shutdown, false),
    (TaskState::Remove, false),
    (TaskState::Running, true),
];

fn order(desired: TaskState, gone: bool) -> Order {
    Order {
        gone,
        fenced: false,
        assigned: Assigned {
            task: TaskId::from_bits(1),
            service: ServiceRef::default(),
            service_labels: Default::default(),
            slot: Slot::Number(1),
            desired,
            observed: TaskState::Assigned,
            spec: TaskSpec::default(),
            generic_resources: Vec::new(),
            attachments: Vec::new(),
            log_driver: None,
            registry_auth: Default::default(),
        },
    }
}

fn at(state: TaskState) -> Progress {
    Progress {
        status: TaskStatus {
            state,
            ..TaskStatus::default()
        },
        container: Some(ContainerId::from_bytes([7; 32])),
        ..Progress::default()
    }
}

fn sees(container: Sight) -> Seen {
    Seen {
        container,
        ..Seen::default()
    }
}

fn exited(code: i32) -> Sight {
    Sight::Exited(Exit {
        code,
        at: Timestamp::default(),
        oom: false,
    })
}

fn step(to: TaskState, err: &str, exit_code: Option<i32>) -> Action {
    Action::Rise(Step {
        to,
        err: err.into(),
        exit_code,
    })
}

#[track_caller]
fn check(desired: TaskState, state: TaskState, container: Sight, expected: Action) {
    let action = next(&order(desired, false), &at(state), &sees(container));
    assert_eq!(action, expected);
}

#[test]
fn a_task_goes_up_one_action_at_a_time() {
    use TaskState::*;
    let running = Sight::Running { pid: 5 };
    check(Running, Accepted, Sight::Unknown, Action::Look);
    check(Running, Accepted, Sight::Absent, step(Preparing, "", None));
    check(Running, Preparing, Sight::Absent, Action::Gather);
    check(Running, Preparing, Sight::Ruin, Action::Gather);
    check(Running, Preparing, Sight::Created, step(Ready, "", None));
    check(Ready, Ready, Sight::Created, Action::Rest);
    check(Running, Ready, Sight::Created, step(Starting, "", None));
    check(Running, Starting, Sight::Created, Action::Start);
    check(Running, Starting, running, step(Running, "", None));
    check(Running, Running, running, Action::Watch);
    let gathered = Seen {
        gathered: true,
        ..sees(Sight::Absent)
    };
    let action = next(&order(Running, false), &at(Preparing), &gathered);
    assert_eq!(action, Action::Create);
}

#[test]
fn ends_are_told_in_dockers_words() {
    use TaskState::*;
    check(Running, Running, exited(0), step(Complete, "", Some(0)));
    check(Complete, Starting, exited(0), step(Complete, "", Some(0)));
    let words = "task: non-zero exit (3)";
    check(Running, Running, exited(3), step(Failed, words, Some(3)));
    check(
        Shutdown,
        Running,
        exited(143),
        step(Shutdown, "", Some(143)),
    );
    let words = "task: non-zero exit (255)";
    check(
        Running,
        Running,
        Sight::Absent,
        step(Failed, words, Some(255)),
    );
    check(
        Running,
        Running,
        Sight::Created,
        step(Failed, words, Some(255)),
    );
    check(
        Running,
        Starting,
        Sight::Ruin,
        step(Failed, words, Some(255)),
    );
    let condemned = Progress {
        doom: Some(Doom::Unhealthy),
        ..at(Running)
    };
    let action = next(&order(Running, false), &condemned, &sees(exited(137)));
    let words = "task: non-zero exit (137): dockerexec: unhealthy container";
    assert_eq!(action, step(Failed, words, Some(137)));
    assert_eq!(refused(Preparing, "x"), step(Rejected, "x", None));
    assert_eq!(refused(Starting, "x"), step(Failed, "x", None));
}

#[test]
fn a_container_that_has_to_end_gets_a_signal_and_some_time() {
    for desired in [TaskState::Shutdown, TaskState::Remove] {
        for (stopping, expected) in [
            (Stopping::No, Action::Stop),
            (Stopping::Signalled, Action::Watch),
            (Stopping::Overdue, Action::Kill),
            (Stopping::Killed, Action::Watch),
        ] {
            let seen = Seen {
                stopping,
                ..sees(Sight::Running { pid: 5 })
            };
            let action = next(&order(desired, false), &at(TaskState::Running), &seen);
            assert_eq!(action, expected);
        }
    }
}

#[test]
fn an_unhealthy_container_is_condemned_and_a_starting_one_is_not_running_yet() {
    let running = sees(Sight::Running { pid: 5 });
    let with = |health| Seen {
        health: Some(health),
        ..running
    };
    let order = order(TaskState::Running, false);
    for (state, health, expected) in [
        (TaskState::Starting, Health::Starting, Action::Watch),
        (
            TaskState::Starting,
            Health::Healthy,
            step(TaskState::Running, "", None),
        ),
        (
            TaskState::Starting,
            Health::Unhealthy,
            Action::Condemn(Doom::Unhealthy),
        ),
        (
            TaskState::Running,
            Health::Unhealthy,
            Action::Condemn(Doom::Unhealthy),
        ),
        (TaskState::Running, Health::Healthy, Action::Watch),
    ] {
        assert_eq!(next(&order, &at(state), &with(health)), expected);
    }
}

#[test]
fn only_the_leaders_word_removes() {
    for (desired, gone, cleared, expected) in [
        (TaskState::Shutdown, false, false, Action::Rest),
        (TaskState::Remove, false, false, Action::Clear),
        (TaskState::Remove, false, true, Action::Rest),
        (TaskState::Running, true, false, Action::Clear),
        (TaskState::Running, true, true, Action::Forget),
    ] {
        let progress = Progress {
            cleared,
            ..at(TaskState::Failed)
        };
        let action = next(&order(desired, gone), &progress, &Seen::default());
        assert_eq!(action, expected);
    }
}

/// Everything that may be seen.
fn every_sight() -> Vec<Seen> {
    let mut all = Vec::new();
    for container in [
        Sight::Unknown,
        Sight::Absent,
        Sight::Ruin,
        Sight::Created,
        Sight::Running { pid: 1 },
        exited(0),
        exited(9),
    ] {
        for gathered in [false, true] {
            for health in [
                None,
                Some(Health::Starting),
                Some(Health::Healthy),
                Some(Health::Unhealthy),
            ] {
                for stopping in [
                    Stopping::No,
                    Stopping::Signalled,
                    Stopping::Overdue,
                    Stopping::Killed,
                ] {
                    all.push(Seen {
                        container,
                        gathered,
                        health,
                        stopping,
                    });
                }
            }
        }
    }
    all
}

#[test]
fn whatever_is_seen_the_step_is_the_agents_and_something_is_done() {
    let mut looked = 0;
    for (desired, gone) in EVERY_WANT {
        let order = order(desired, gone);
        for state in TaskState::ALL
            .into_iter()
            .filter(|state| *state >= TaskState::Assigned)
        {
            for doom in [None, Some(Doom::Unhealthy)] {
                for seen in every_sight() {
                    let progress = Progress { doom, ..at(state) };
                    looked += 1;
                    // A step that is not the agent's would stop the test by itself.
                    let action = next(&order, &progress, &seen);
                    let rests = action == Action::Rest;
                    let done = state.is_terminal() && order.want() <= Want::Stop;
                    let waits = order.want() == Want::Prepare
                        && state == TaskState::Ready
                        && seen.container == Sight::Created;
                    assert_eq!(
                        rests,
                        done || waits,
                        "{state} {desired} {seen:?}: {action:?}"
                    );
                }
            }
        }
    }
    assert!(looked > 10_000);
}

#[test]
fn wishes_only_rise() {
    let mut order = order(TaskState::Ready, false);
    for (desired, rises) in [
        (TaskState::Ready, false),
        (TaskState::Running, true),
        (TaskState::Ready, false),
        (TaskState::Shutdown, true),
        (TaskState::Running, false),
        (TaskState::Remove, true),
        (TaskState::Shutdown, false),
    ] {
        assert_eq!(order.raise(desired), rises, "{desired}");
    }
    assert_eq!(order.want(), Want::Remove);
}
