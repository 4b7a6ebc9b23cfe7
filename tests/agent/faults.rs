//! Everything may be killed at any time; what runs goes on, what ended is known, and nothing is left.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skein::agent::runtime::Runtime;
use skein::model::container::ContainerState;
use skein::model::{ContainerId, TaskState};

use crate::agent::{Agent, id, task, to};
use crate::bed::{Bed, eventually, processes, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_daemon_finds_all_as_it_is() {
    let Some(bed) = Bed::up() else { return };
    let first = bed.runtime().await;
    let made = bed.script("exit 1");
    let runs = bed.script("echo ready; while :; do sleep 0.1; done");
    let ended = bed.script("exit 5");
    for config in [&made, &runs, &ended] {
        first.create(config).await.unwrap();
    }
    let pid = first.start(runs.id).await.unwrap().pid;
    first.start(ended.id).await.unwrap();
    bed.until_said(runs.id, "ready");
    drop(first);

    let second = bed.runtime().await;
    let state = async |id| second.inspect(id).await.unwrap().unwrap().state;
    assert_eq!(state(made.id).await, Some(ContainerState::Created));
    let running = ContainerState::Running { pid, paused: false };
    assert_eq!(state(runs.id).await, Some(running));
    assert_eq!(within(second.wait(ended.id)).await.unwrap().code, 5);
    assert_eq!(second.start(runs.id).await.unwrap().pid, pid);
    assert_eq!(second.list().await.unwrap().len(), 3);
    for config in [&made, &runs, &ended] {
        second.remove(config.id).await.unwrap();
    }
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_a_killed_containerd() {
    let Some(mut bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let runs = bed.script("while :; do date +%s.%N; sleep 0.1; done");
    let ends = bed.script("echo ready; read line < /go/fifo; exit 42");
    let go = bed.directory.join("go");
    std::fs::create_dir(&go).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(go.join("fifo"))
        .status();
    assert!(made.unwrap().success());
    let mut ends = ends;
    ends.mounts = vec![skein::model::container::Mount {
        target: "/go".into(),
        read_only: false,
        source: skein::model::container::MountSource::Bind {
            path: go.clone(),
            propagation: String::new(),
            non_recursive: false,
            depth: Default::default(),
        },
    }];
    for config in [&runs, &ends] {
        runtime.create(config).await.unwrap();
        runtime.start(config.id).await.unwrap();
    }
    bed.until_said(ends.id, "ready");
    let pid = runtime.start(runs.id).await.unwrap().pid;
    let waiting = {
        let (runtime, id) = (runtime.clone(), ends.id);
        let tracker = tokio_util::task::TaskTracker::new();
        tracker.spawn(async move { runtime.wait(id).await })
    };
    bed.kill_daemon();
    let away = runtime.list().await.unwrap_err();
    assert_eq!(
        away.failure,
        skein::agent::runtime::Failure::Retry,
        "{away}"
    );
    std::fs::write(go.join("fifo"), "go\n").unwrap();
    let lines = bed.output(runs.id).lines().count();
    eventually("it writes on", || {
        let more = bed.output(runs.id).lines().count() > lines + 3;
        more.then_some(())
            .ok_or_else(|| "it stands still".to_owned())
    });
    bed.start_daemon();
    assert_eq!(within(waiting).await.unwrap().unwrap().code, 42);
    let found = runtime.inspect(runs.id).await.unwrap().unwrap();
    assert_eq!(
        found.state,
        Some(ContainerState::Running { pid, paused: false })
    );
    for config in [&runs, &ends] {
        runtime.remove(config.id).await.unwrap();
    }
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_is_the_end_of_its_container() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let config = bed.script("echo ready; while :; do sleep 1; done");
    runtime.create(&config).await.unwrap();
    let pid = runtime.start(config.id).await.unwrap().pid;
    bed.until_said(config.id, "ready");
    for shim in processes(&format!("-id {}", config.id)) {
        kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    }
    let exit = within(runtime.wait(config.id)).await.unwrap();
    assert_eq!(exit.code, 137);
    assert!(!std::path::Path::new(&format!("/proc/{pid}/root/bin")).exists());
    let found = runtime.inspect(config.id).await.unwrap().unwrap();
    assert_eq!(found.state, Some(ContainerState::Exited(exit)));
    runtime.remove(config.id).await.unwrap();
    bed.nothing_left();
}

/// The processes that log for a container.
fn loggers(bed: &Bed, id: ContainerId) -> Vec<Pid> {
    let folder = bed.state().join(id.to_string());
    let pids = processes(&format!("logger {}", folder.display()));
    pids.into_iter().map(Pid::from_raw).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_logger_is_replaced_and_its_container_notices_nothing() {
    let Some(bed) = Bed::up() else { return };
    let agent = Agent::up(&bed).await;
    // Dies of the first word that nobody takes.
    let script = "n=0; while :; do n=$((n+1)); echo line $n || exit 9; sleep 0.02; done";
    agent.assign(1, &[task(&bed, 1, script)], &[]).await;
    let status = agent.until(id(1), TaskState::Running).await;
    let container = status.container.unwrap();
    bed.until_said(container, "line 3\n");
    for round in 0..4 {
        let both = eventually("there are two of them", || {
            let found = loggers(&bed, container);
            if found.len() == 2 {
                Ok(found)
            } else {
                Err(format!("{found:?}"))
            }
        });
        // Now one, now the other.
        let killed = both[round % 2];
        kill(killed, Signal::SIGKILL).unwrap();
        eventually("another has its place", || {
            let found = loggers(&bed, container);
            if found.len() == 2 && !found.contains(&killed) {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        });
        let lines = bed.output(container).lines().count();
        eventually("the log goes on", || {
            let more = bed.output(container).lines().count();
            if more > lines + 3 {
                Ok(())
            } else {
                Err(format!("{more} lines"))
            }
        });
    }
    let said = bed.output(container);
    assert!(
        said.contains("skein: lines may be missing here, the logger was replaced"),
        "{said}"
    );
    let status = agent.runner.statuses().borrow()[&id(1)].clone();
    assert_eq!(status.state, TaskState::Running, "{status:?}");
    agent.assign(2, &[], &[id(1)]).await;
    agent.until_forgotten(id(1)).await;
    agent.down().await;
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_loggers_die_together_ends_by_itself_and_can_be_removed() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let config =
        bed.script("trap '' PIPE; echo ready; while :; do sleep 0.1; echo more || exit 9; done");
    runtime.create(&config).await.unwrap();
    runtime.start(config.id).await.unwrap();
    bed.until_said(config.id, "ready");
    let both = loggers(&bed, config.id);
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for logger in &both {
            kill(*logger, signal).unwrap();
        }
    }
    assert_eq!(within(runtime.wait(config.id)).await.unwrap().code, 9);
    runtime.remove(config.id).await.unwrap();
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_shim_is_killed_has_failed_and_leaves_nothing() {
    let Some(bed) = Bed::up() else { return };
    let agent = Agent::up(&bed).await;
    let scripts = [
        "while :; do sleep 1; done",
        "trap '' TERM; while :; do sleep 1; done",
    ];
    let tasks: Vec<_> = (1..)
        .zip(scripts)
        .map(|(number, script)| task(&bed, number, script))
        .collect();
    agent.assign(1, &tasks, &[]).await;
    let mut containers = Vec::new();
    for number in [1, 2] {
        containers.push(
            agent
                .until(id(number), TaskState::Running)
                .await
                .container
                .unwrap(),
        );
    }
    // The second is being stopped, and does not want to.
    agent
        .assign(2, &[to(tasks[1].clone(), TaskState::Shutdown)], &[])
        .await;
    for container in containers {
        for shim in processes(&format!("-id {container}")) {
            kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
        }
    }
    let failed = agent.until_ended(id(1)).await;
    assert_eq!(failed.state, TaskState::Failed);
    assert_eq!(failed.err, "task: non-zero exit (137)");
    let stopped = agent.until_ended(id(2)).await;
    assert_eq!(
        (stopped.state, stopped.exit_code),
        (TaskState::Shutdown, Some(137))
    );
    agent.assign(3, &[], &[id(1), id(2)]).await;
    for number in [1, 2] {
        agent.until_forgotten(id(number)).await;
    }
    agent.down().await;
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ruin_is_seen_and_made_anew() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let config = bed.script("exit 0");
    runtime.create(&config).await.unwrap();
    std::fs::remove_file(runtime.folder(config.id).join("created")).unwrap();
    let found = runtime.inspect(config.id).await.unwrap().unwrap();
    assert_eq!(found.state, None);
    runtime.create(&config).await.unwrap();
    let (exit, _) = bed.run(&runtime, &config).await;
    assert_eq!(exit.code, 0);
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_its_maker_did_not_live_to_start_is_started() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let config = bed.script("exit 6");
    runtime.create(&config).await.unwrap();
    // As if killed between the two: a task of the same record, made and not started.
    bed.ctr(&[
        "tasks",
        "start",
        "--null-io",
        "--detach",
        &config.id.to_string(),
    ]);
    let found = runtime.inspect(config.id).await.unwrap().unwrap();
    assert!(found.state.is_some());
    runtime.remove(config.id).await.unwrap();
    bed.nothing_left();
}
