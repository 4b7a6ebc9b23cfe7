//! Tasks from assignment to removal, by the runner on a real containerd: they run, say what they say, end as they end,
//! and survive the daemon.

use std::time::Duration;

use skein::agent::runtime::Runtime;
use skein::agent::runtime::containerd::ExecSpec;
use skein::model::TaskState;
use skein::model::container::ProcessConfig;
use skein::model::task_spec::{MountKind, MountSpec};
use skein::wire::Json;
use skein::wire::assignment::Assignments;

use crate::agent::{Agent, id, pid, task, to};
use crate::bed::{Bed, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_tasks_runs_ends_and_leaves_nothing() {
    let Some(bed) = Bed::up() else { return };
    let agent = Agent::up(&bed).await;
    let runs = task(
        &bed,
        1,
        "echo it runs; trap 'exit 0' TERM; while :; do sleep 0.1; done",
    );
    let ends = task(&bed, 2, "echo done");
    let fails = task(&bed, 3, "exit 3");
    let mut missing = task(&bed, 4, "");
    let mut nowhere = task(&bed, 5, "");
    if let Some(spec) = &mut missing.spec.container_spec {
        spec.command = vec!["no-such-program".into()];
    }
    if let Some(spec) = &mut nowhere.spec.container_spec {
        spec.image = "127.0.0.1:1/no/such:image".into();
    }
    let all = [runs.clone(), ends, fails, missing, nowhere];
    agent.assign(1, &all, &[]).await;

    let status = agent.until(id(1), TaskState::Running).await;
    let container = status.container.expect("what runs has a container");
    bed.until_said(container, "it runs");
    let wanted = ExecSpec {
        process: ProcessConfig {
            args: ["sh", "-c", "exit 7"].map(str::to_owned).to_vec(),
            ..ProcessConfig::default()
        },
        privileged: false,
        stdin: false,
        stdout: false,
        stderr: false,
    };
    let exec = agent.runtime.exec(container, wanted).await.unwrap();
    assert_eq!(within(exec.wait()).await.unwrap(), 7);
    drop(exec);

    assert_eq!(
        agent.until(id(2), TaskState::Complete).await.exit_code,
        Some(0)
    );
    let failed = agent.until(id(3), TaskState::Failed).await;
    assert_eq!(failed.err, "task: non-zero exit (3)");
    let missing = agent.until(id(4), TaskState::Failed).await;
    assert!(missing.err.contains("no-such-program"), "{}", missing.err);
    let nowhere = agent.until(id(5), TaskState::Rejected).await;
    assert_eq!(nowhere.err, "No such image: 127.0.0.1:1/no/such:image");

    agent.assign(2, &[to(runs, TaskState::Shutdown)], &[]).await;
    agent.until(id(1), TaskState::Shutdown).await;
    let removed = [1, 2, 3, 4, 5].map(id);
    agent.assign(3, &[], &removed).await;
    for task in removed {
        agent.until_forgotten(task).await;
    }
    agent.down().await;
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_outlive_the_daemon_and_their_ends_are_known_after_it() {
    let Some(bed) = Bed::up() else { return };
    let agent = Agent::up(&bed).await;
    let runs = task(&bed, 1, "while :; do sleep 0.1; done");
    let mut ends = task(
        &bed,
        2,
        "while [ ! -e /data/go ]; do sleep 0.05; done; exit 6",
    );
    if let Some(spec) = &mut ends.spec.container_spec {
        spec.mounts = vec![MountSpec {
            kind: Some(MountKind::Volume),
            source: "shared".into(),
            target: "/data".into(),
            ..MountSpec::default()
        }];
    }
    agent.assign(1, &[runs.clone(), ends], &[]).await;
    let before = agent.until(id(1), TaskState::Running).await;
    agent.until(id(2), TaskState::Running).await;
    let container = before.container.expect("what runs has a container");
    let process = pid(&agent.runtime, container).await;
    let volume = agent.stock.volumes.inspect("shared").unwrap();
    agent.down().await;
    std::fs::write(volume.mountpoint.join("go"), "").unwrap();

    let agent = Agent::up(&bed).await;
    let failed = agent.until(id(2), TaskState::Failed).await;
    assert_eq!(failed.exit_code, Some(6));
    let after = agent.until(id(1), TaskState::Running).await;
    assert_eq!(after.container, Some(container));
    assert_eq!(pid(&agent.runtime, container).await, process);
    agent.assign(2, &[], &[id(1), id(2)]).await;
    for task in [id(1), id(2)] {
        agent.until_forgotten(task).await;
    }
    assert!(
        agent
            .stock
            .volumes
            .inspect("shared")
            .unwrap()
            .users
            .is_empty()
    );
    agent.down().await;
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_in_the_middle_of_work_lose_nothing() {
    let Some(bed) = Bed::up() else { return };
    let mut tasks = Vec::new();
    for round in 0..8_u128 {
        let agent = Agent::up(&bed).await;
        tasks.push(task(&bed, round + 1, "while :; do sleep 0.1; done"));
        let assignments = Assignments {
            term: 1,
            generation: round as u64 + 1,
            complete: true,
            tasks: tasks.iter().cloned().map(Json).collect(),
            removed: Vec::new(),
        };
        within(agent.runner.assign(assignments)).await.unwrap();
        // Sooner or later in the life of the newest task.
        let _ = tokio::time::timeout(
            Duration::from_millis(round as u64 * 40),
            agent.until(id(round + 1), TaskState::Running),
        )
        .await;
        agent.down().await;
    }
    let agent = Agent::up(&bed).await;
    for task in &tasks {
        agent.until(task.task, TaskState::Running).await;
    }
    assert_eq!(agent.runtime.list().await.unwrap().len(), tasks.len());
    let all: Vec<_> = tasks.iter().map(|task| task.task).collect();
    agent.assign(100, &[], &all).await;
    for task in all {
        agent.until_forgotten(task).await;
    }
    agent.down().await;
    bed.nothing_left();
}
