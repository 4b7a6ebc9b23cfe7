//! Waits until a service has converged, and shows how far it is.
//!
//! Docker's rule: the tasks of the current spec run, all of them, and go on running for the time in which an update is
//! watched. Whatever interrupts the waiting, the service goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::cli::board::{Board, Line};
use crate::cli::client::{Client, encode};
use crate::cli::human::{cut, short};
use crate::cli::output::note;
use crate::cli::rows::{number, query};
use crate::cli::swarm::text;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long tasks are watched where the service does not say.
const MONITOR: Duration = Duration::from_secs(5);

/// More tasks than these have no line each.
const LINES: usize = 20;

/// States in the order in which a task goes through them, from one on.
const STATES: [&str; 13] = [
    "new",
    "allocated",
    "pending",
    "assigned",
    "accepted",
    "preparing",
    "ready",
    "starting",
    "running",
    "complete",
    "shutdown",
    "failed",
    "rejected",
];

const RUNNING: usize = 9;
const COMPLETE: usize = 10;

/// How a service is.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    lines: Vec<Line>,
    converged: bool,
}

/// What its update has come to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Going,
    Over,
    Failed(String),
    RolledBack(String),
}

/// Waits. An update that was paused is an error; an interruption from the keyboard is none.
pub(in crate::cli) async fn until_converged(
    client: &Client,
    id: &str,
    quiet: bool,
) -> anyhow::Result<()> {
    let mut board = Board::new(quiet);
    let mut since: Option<Instant> = None;
    let mut earlier: Option<String> = None;
    loop {
        let service: Value = client.get(&format!("/services/{}", encode(id))).await?;
        let id = text(&service, "/ID");
        let mut told = None;
        let began = text(&service, "/UpdateStatus/StartedAt");
        match verdict(&service) {
            Verdict::Failed(why) => anyhow::bail!(why),
            // One that was over before we came says nothing of this change.
            Verdict::Over if earlier.is_none() => earlier = Some(began.to_owned()),
            Verdict::Over if earlier.as_deref() != Some(began) && since.is_none() => return Ok(()),
            Verdict::RolledBack(words) => told = Some(words),
            Verdict::Going | Verdict::Over => {}
        }
        earlier.get_or_insert_default();
        if since.is_some_and(|since| since.elapsed() >= monitor(&service)) {
            board.show([Line::new("verify", format!("Service {id} converged"))]);
            board.show(told.map(|words| Line::new("rollback", words)));
            return Ok(());
        }
        let look = see(client, &service, told.is_some()).await?;
        board.show(look.lines);
        match (look.converged, since) {
            (true, _) if is_job(&service) => {
                board.show([Line::new("", "job complete")]);
                return Ok(());
            }
            (true, None) => {
                since = Some(Instant::now());
                let words = format!(
                    "Waiting {} seconds to verify that tasks are stable...",
                    monitor(&service).as_secs()
                );
                board.show([Line::new("verify", words)]);
            }
            (true, Some(_)) | (false, None) => {}
            (false, Some(_)) => {
                since = None;
                board.show([Line::new("verify", "Detected task failure")]);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => {
                note(format!("\nIt goes on in the background: `skein service ps {id}` shows how."));
                return Ok(());
            }
        }
    }
}

async fn see(client: &Client, service: &Value, rollback: bool) -> anyhow::Result<Look> {
    let filters = [
        ("service".to_owned(), text(service, "/ID").to_owned()),
        ("_up-to-date".to_owned(), "true".to_owned()),
    ];
    let tasks: Vec<Value> = client.get(&format!("/tasks?{}", query(&filters))).await?;
    let nodes: Vec<Value> = client.get("/nodes").await?;
    let active: BTreeSet<&str> = nodes
        .iter()
        .filter(|node| text(node, "/Status/State") != "down")
        .map(|node| text(node, "/ID"))
        .collect();
    Ok(look(service, &tasks, &active, rollback))
}

fn is_job(service: &Value) -> bool {
    let mode = &service["Spec"]["Mode"];
    mode["ReplicatedJob"].is_object() || mode["GlobalJob"].is_object()
}

fn monitor(service: &Value) -> Duration {
    match number(service, "/Spec/UpdateConfig/Monitor") {
        1.. => Duration::from_nanos(number(service, "/Spec/UpdateConfig/Monitor").unsigned_abs()),
        _ => MONITOR,
    }
}

fn verdict(service: &Value) -> Verdict {
    let words = text(service, "/UpdateStatus/Message");
    match text(service, "/UpdateStatus/State") {
        "completed" => Verdict::Over,
        "paused" => Verdict::Failed(format!("service update paused: {words}")),
        "rollback_paused" => Verdict::Failed(format!("service rollback paused: {words}")),
        "rollback_started" | "rollback_completed" => Verdict::RolledBack(words.to_owned()),
        _ => Verdict::Going,
    }
}

/// A state's place among all; zero for one that is not known.
fn rank(state: &str) -> usize {
    STATES
        .iter()
        .position(|known| *known == state)
        .map_or(0, |at| at + 1)
}

fn is_state(task: &Value) -> usize {
    rank(text(task, "/Status/State"))
}

fn wanted(task: &Value) -> usize {
    rank(text(task, "/DesiredState"))
}

fn look(service: &Value, tasks: &[Value], active: &BTreeSet<&str>, rollback: bool) -> Look {
    let mode = &service["Spec"]["Mode"];
    if is_job(service) {
        return look_at_job(service, tasks);
    }
    let global = mode["Global"].is_object();
    let chosen = chosen(tasks, active, global);
    let count = match global {
        true => chosen.len(),
        false => usize::try_from(number(mode, "/Replicated/Replicas")).unwrap_or_default(),
    };
    let heading = match rollback {
        true => "rolling back update",
        false => "overall progress",
    };
    if global && count == 0 {
        let lines = vec![Line::new(heading, "waiting for new tasks")];
        let converged = false;
        return Look { lines, converged };
    }
    let runs = |task: &&Value| wanted(task) <= RUNNING && is_state(task) == RUNNING;
    let running = chosen.values().copied().filter(runs).count();
    let overall = format!("{running} out of {count} tasks");
    let mut lines = vec![Line::new(heading, overall)];
    if count <= LINES {
        for (at, task) in chosen.values().enumerate().take(count) {
            let about = match global {
                true => short(text(task, "/NodeID")).to_owned(),
                false => format!("{}/{count}", at + 1),
            };
            lines.extend(task_line(about, task, RUNNING));
        }
    }
    let converged = running == count;
    Look { lines, converged }
}

/// One task for each slot, or for each node of a global service: the one that is to go on, the younger of two.
fn chosen<'a>(
    tasks: &'a [Value],
    active: &BTreeSet<&str>,
    global: bool,
) -> BTreeMap<(i64, &'a str), &'a Value> {
    let mut chosen: BTreeMap<(i64, &str), &Value> = BTreeMap::new();
    for task in tasks {
        let node = text(task, "/NodeID");
        let lost = !node.is_empty() && !active.contains(node);
        if wanted(task) == 0 || is_state(task) == 0 || lost {
            continue;
        }
        let place = match global {
            true => (0, node),
            false => (number(task, "/Slot"), ""),
        };
        let order = |task: &Value| (wanted(task), is_state(task));
        let other = chosen.get(&place);
        if other.is_none_or(|other| order(task) < order(other)) {
            chosen.insert(place, task);
        }
    }
    chosen
}

fn task_line(about: String, task: &Value, whole: usize) -> Option<Line> {
    let error = text(task, "/Status/Err");
    if !error.is_empty() {
        return Some(Line::new(about, cut(&error.replace('\n', " "), 60)));
    }
    let goes = wanted(task) <= RUNNING.max(whole) && is_state(task) <= whole;
    let line = Line::new(about, text(task, "/Status/State"));
    goes.then(|| line.of(is_state(task) as u64, whole as u64))
}

fn look_at_job(service: &Value, tasks: &[Value]) -> Look {
    let iteration = number(service, "/JobStatus/JobIteration/Index");
    let global = service["Spec"]["Mode"]["GlobalJob"].is_object();
    let mut chosen: BTreeMap<(i64, &str), &Value> = BTreeMap::new();
    for task in tasks {
        if number(task, "/JobIteration/Index") != iteration || is_state(task) == 0 {
            continue;
        }
        let place = match global {
            true => (0, text(task, "/NodeID")),
            false => (number(task, "/Slot"), ""),
        };
        let other = chosen.get(&place);
        if other.is_none_or(|other| is_state(task) < is_state(other)) {
            chosen.insert(place, task);
        }
    }
    let total = match global {
        true => chosen.len(),
        false => usize::try_from(number(service, "/Spec/Mode/ReplicatedJob/TotalCompletions"))
            .unwrap_or_default(),
    };
    let complete = chosen
        .values()
        .filter(|task| is_state(task) == COMPLETE)
        .count();
    if global && total == 0 {
        let lines = vec![Line::new("job progress", "waiting for tasks")];
        let converged = false;
        return Look { lines, converged };
    }
    let overall = Line::new(
        "job progress",
        format!("{complete} out of {total} complete"),
    );
    let mut lines = vec![overall.of(complete as u64, total as u64)];
    if total <= LINES {
        for ((slot, node), task) in &chosen {
            let about = match global {
                true => short(node).to_owned(),
                false => format!("{}/{total}", slot + 1),
            };
            lines.extend(task_line(about, task, COMPLETE));
        }
    }
    let converged = complete == total;
    Look { lines, converged }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(slot: i64, node: &str, wanted: &str, state: &str) -> Value {
        json!({
            "Slot": slot, "NodeID": node, "DesiredState": wanted, "Status": {"State": state},
            "JobIteration": {"Index": 7},
        })
    }

    fn texts(look: &Look) -> Vec<String> {
        let text = |line: &Line| format!("{}: {}", line.about, line.text);
        look.lines.iter().map(text).collect()
    }

    #[test]
    fn a_service_has_converged_when_all_its_slots_run() {
        let service = json!({"Spec": {"Mode": {"Replicated": {"Replicas": 2}}}});
        let active = BTreeSet::from(["a", "b"]);
        let mut tasks = vec![
            task(1, "a", "running", "running"),
            task(2, "b", "running", "starting"),
            task(2, "b", "shutdown", "running"),
            task(3, "gone", "running", "running"),
        ];
        let seen = look(&service, &tasks, &active, false);
        assert!(!seen.converged);
        assert_eq!(
            texts(&seen),
            [
                "overall progress: 1 out of 2 tasks",
                "1/2: running",
                "2/2: starting"
            ]
        );
        tasks[1] = task(2, "b", "running", "running");
        assert!(look(&service, &tasks, &active, false).converged);
        tasks[1]["Status"] = json!({"State": "rejected", "Err": "no such image"});
        let seen = look(&service, &tasks, &active, true);
        assert_eq!(texts(&seen)[0], "rolling back update: 1 out of 2 tasks");
        assert_eq!(texts(&seen)[2], "2/2: no such image");
    }

    #[test]
    fn a_global_service_waits_for_its_first_task() {
        let service = json!({"Spec": {"Mode": {"Global": {}}}});
        let active = BTreeSet::from(["a"]);
        assert!(!look(&service, &[], &active, false).converged);
        let tasks = [
            task(0, "a", "running", "running"),
            task(0, "down", "running", "running"),
        ];
        assert!(look(&service, &tasks, &active, false).converged);
    }

    #[test]
    fn a_job_is_through_when_all_have_completed() {
        let service = json!({
            "Spec": {"Mode": {"ReplicatedJob": {"TotalCompletions": 2, "MaxConcurrent": 1}}},
            "JobStatus": {"JobIteration": {"Index": 7}},
        });
        let active = BTreeSet::new();
        let mut tasks = vec![task(0, "a", "complete", "complete")];
        let seen = look(&service, &tasks, &active, false);
        assert!(!seen.converged);
        assert_eq!(
            texts(&seen),
            ["job progress: 1 out of 2 complete", "1/2: complete"]
        );
        tasks.push(task(1, "a", "complete", "complete"));
        assert!(look(&service, &tasks, &active, false).converged);
        tasks[1]["JobIteration"]["Index"] = 6.into();
        assert!(
            !look(&service, &tasks, &active, false).converged,
            "that was another time"
        );
    }

    #[test]
    fn a_paused_update_is_an_error() {
        let with = |state: &str| json!({"UpdateStatus": {"State": state, "Message": "why"}});
        assert_eq!(
            verdict(&with("paused")),
            Verdict::Failed("service update paused: why".into())
        );
        assert_eq!(verdict(&with("completed")), Verdict::Over);
        assert_eq!(verdict(&json!({})), Verdict::Going);
    }
}
