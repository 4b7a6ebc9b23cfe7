//! `docker service update` and `rollback`, on real containers.

use crate::bed::Bed;
use crate::crew::{RUNS, TaskView, create, ids, tasks, until_containers, until_runs, up};
use crate::wait::{eventually, secs};

/// Where the service's update stands: state and message.
fn update_of(bed: &Bed, service: &str) -> Result<(String, String), String> {
    let service = bed.get(1, &format!("/services/{service}"))?;
    let text = |name: &str| {
        service["UpdateStatus"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    Ok((text("State"), text("Message")))
}

#[track_caller]
fn until_update(bed: &Bed, service: &str, state: &str) -> String {
    eventually(secs(60), &format!("the update is {state}"), || {
        let (now, message) = update_of(bed, service)?;
        if now == state {
            Ok(message)
        } else {
            Err(format!("{now}: {message}"))
        }
    })
}

fn env_of(bed: &Bed, service: &str) -> Vec<String> {
    let mut values: Vec<String> = tasks(bed, 1, service)
        .unwrap_or_default()
        .iter()
        .filter(|task| task.runs())
        .map(|task| task.0["Spec"]["ContainerSpec"]["Env"].to_string())
        .collect();
    values.sort();
    values
}

#[test]
fn an_update_replaces_each_and_a_rollback_brings_it_back() {
    let Some(bed) = up(2) else { return };
    let options = [
        "--name",
        "web",
        "--replicas",
        "4",
        "--env",
        "V=1",
        "--update-monitor",
        "500ms",
        "--update-parallelism",
        "2",
        "--rollback-monitor",
        "500ms",
    ];
    create(&bed, 1, &options, RUNS);
    let first = until_runs(&bed, 1, "web", 4, secs(30));
    bed.docker(
        1,
        &["service", "update", "--detach", "--env-add", "V=2", "web"],
    )
    .ok();
    assert_eq!(until_update(&bed, "web", "completed"), "update completed");
    let second = until_runs(&bed, 1, "web", 4, secs(5));
    assert!(ids(&second).iter().all(|id| !ids(&first).contains(id)));
    assert_eq!(env_of(&bed, "web"), vec!["[\"V=2\"]"; 4]);

    // What concerns no task replaces none.
    bed.docker(
        1,
        &["service", "update", "--detach", "--label-add", "a=b", "web"],
    )
    .ok();
    let same = until_runs(&bed, 1, "web", 4, secs(5));
    assert_eq!(ids(&same), ids(&second));

    bed.docker(
        1,
        &["service", "update", "--detach", "--env-add", "V=3", "web"],
    )
    .ok();
    until_update(&bed, "web", "completed");
    bed.docker(1, &["service", "rollback", "--detach", "web"])
        .ok();
    assert_eq!(
        until_update(&bed, "web", "rollback_completed"),
        "rollback completed"
    );
    until_runs(&bed, 1, "web", 4, secs(5));
    assert_eq!(env_of(&bed, "web"), vec!["[\"V=2\"]"; 4]);
    bed.docker(1, &["service", "update", "--detach", "--force", "web"])
        .ok();
    until_update(&bed, "web", "completed");
}

/// A service of three, whose updates are watched before they go on.
#[track_caller]
fn watched(bed: &Bed, options: &[&str]) -> Vec<TaskView> {
    let mut all = vec![
        "--name",
        "web",
        "--replicas",
        "3",
        "--restart-delay",
        "200ms",
    ];
    all.extend(["--update-monitor", "1s", "--update-delay", "2s"]);
    all.extend(["--rollback-monitor", "500ms"]);
    all.extend(options);
    create(bed, 1, &all, RUNS);
    until_runs(bed, 1, "web", 3, secs(30))
}

/// `docker service update` of the service.
#[track_caller]
fn update(bed: &Bed, options: &[&str]) {
    let mut all = vec!["service", "update", "--detach"];
    all.extend(options);
    all.push("web");
    bed.docker(1, &all).ok();
}

#[test]
fn a_failing_update_is_paused_and_so_is_a_failing_rollback() {
    let Some(bed) = up(1) else { return };
    let first = watched(&bed, &[]);
    update(&bed, &["--args", "sh -c false"]);
    let message = until_update(&bed, "web", "paused");
    let words = "paused due to failure or early termination of task ";
    assert!(message.starts_with(&format!("update {words}")), "{message}");
    let all = tasks(&bed, 1, "web").expect("the tasks can be listed");
    let failed = all.iter().find(|task| message.ends_with(task.id()));
    let failed = failed.expect("the message names the task");
    assert_eq!(failed.text("/Status/Err"), "task: non-zero exit (1)");
    let shown = [
        "service",
        "ps",
        "web",
        "--no-trunc",
        "--format",
        "{{.Error}}",
    ];
    let shown = bed.docker(1, &shown).ok();
    assert!(shown.contains("task: non-zero exit (1)"), "{shown}");
    let kept: Vec<_> = all.into_iter().filter(TaskView::runs).collect();
    assert!(kept.len() >= 2 && ids(&kept).iter().all(|id| ids(&first).contains(id)));

    // What it goes back to is what has failed before.
    let back = [
        "--update-failure-action",
        "rollback",
        "--args",
        "sh -c 'exit 3'",
    ];
    update(&bed, &back);
    let message = until_update(&bed, "web", "rollback_paused");
    assert!(
        message.starts_with(&format!("rollback {words}")),
        "{message}"
    );

    let script = format!("sh -c \"{RUNS}\"");
    update(&bed, &["--args", &script]);
    until_update(&bed, "web", "completed");
    until_runs(&bed, 1, "web", 3, secs(20));
}

#[test]
fn a_failing_update_goes_back_by_itself() {
    let Some(bed) = up(1) else { return };
    watched(&bed, &["--update-failure-action", "rollback"]);
    update(&bed, &["--args", "sh -c 'exit 4'"]);
    let message = until_update(&bed, "web", "rollback_completed");
    assert_eq!(message, "rollback completed");
    let back = until_runs(&bed, 1, "web", 3, secs(20));
    let args = |task: &TaskView| task.0["Spec"]["ContainerSpec"]["Args"][2] == RUNS;
    assert!(back.iter().all(args), "{back:?}");
}

#[test]
fn start_first_never_has_fewer_than_asked_for() {
    let Some(bed) = up(1) else { return };
    let options = [
        "--name",
        "web",
        "--replicas",
        "3",
        "--update-order",
        "start-first",
        "--update-monitor",
        "300ms",
    ];
    create(&bed, 1, &options, RUNS);
    until_runs(&bed, 1, "web", 3, secs(30));
    bed.docker(1, &["service", "update", "--detach", "--force", "web"])
        .ok();
    eventually(secs(60), "the update completes", || {
        let run = tasks(&bed, 1, "web")?
            .iter()
            .filter(|task| task.state() == "running")
            .count();
        assert!(run >= 3, "only {run} run");
        let (state, message) = update_of(&bed, "web")?;
        (state == "completed").then_some(()).ok_or(message)
    });
}

#[test]
fn an_update_takes_over_from_one_that_is_under_way() {
    let Some(bed) = up(1) else { return };
    let options = ["--name", "web", "--replicas", "4", "--env", "V=1"];
    let slow = ["--update-delay", "60s", "--update-monitor", "300ms"];
    create(&bed, 1, &[&options[..], &slow].concat(), RUNS);
    let first = until_runs(&bed, 1, "web", 4, secs(30));
    update(&bed, &["--env-add", "V=2"]);
    let words = until_update(&bed, "web", "updating");
    assert_eq!(words, "update in progress");
    let is_at = |count: usize| {
        let env = env_of(&bed, "web");
        let new = env.iter().filter(|env| env.contains("V=2")).count();
        (env.len() == 4 && new == count)
            .then_some(())
            .ok_or_else(|| format!("{env:?}"))
    };
    eventually(secs(30), "one is of the second version", || is_at(1));

    update(&bed, &["--env-add", "V=3", "--update-delay", "0s"]);
    let message = eventually(secs(60), "the third update completes", || {
        let (state, message) = update_of(&bed, "web")?;
        let env = env_of(&bed, "web");
        let done = state == "completed" && env == vec!["[\"V=3\"]"; 4];
        done.then_some(message)
            .ok_or_else(|| format!("{state}: {env:?}"))
    });
    assert_eq!(message, "update completed");
    let last = until_runs(&bed, 1, "web", 4, secs(5));
    assert!(ids(&last).iter().all(|id| !ids(&first).contains(id)));
    // What a rollback goes back to is what the user had said before, even if little of it ever ran.
    bed.docker(1, &["service", "rollback", "--detach", "web"])
        .ok();
    eventually(secs(20), "it goes back to the second", || {
        env_of(&bed, "web")
            .iter()
            .any(|env| env.contains("V=2"))
            .then_some(())
            .ok_or_else(|| format!("{:?}", env_of(&bed, "web")))
    });

    // And it is removed in the middle of that.
    bed.docker(1, &["service", "rm", "web"]).ok();
    until_containers(&bed, 1, 0);
    eventually(secs(20), "no task is left", || {
        let all = bed.get(1, "/tasks")?;
        let none = all.as_array().is_some_and(Vec::is_empty);
        none.then_some(()).ok_or_else(|| all.to_string())
    });
    bed.docker(1, &["service", "inspect", "web"])
        .refused_with("no such service: web");
}
