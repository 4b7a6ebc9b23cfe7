//! Waits for a service that another one depends on. The condition is the file's; the deadline the user's.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::cli::client::Client;
use crate::cli::output::{note, say};
use crate::cli::rows::{number, only};
use crate::cli::swarm::text;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// How it is with a condition.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    Yes,
    NotYet(String),
    Never(String),
}

/// Waits until `condition` holds for the service `name`, or `nanos` are over.
pub(super) async fn until(
    client: &Client,
    name: &str,
    id: &str,
    condition: &str,
    nanos: i64,
) -> anyhow::Result<()> {
    let deadline = Duration::from_nanos(nanos.unsigned_abs());
    let (start, mut told) = (Instant::now(), false);
    loop {
        let service: Value = client.get(&format!("/services/{id}")).await?;
        let tasks: Vec<Value> = client
            .get(&format!("/tasks?{}", only("service", id)))
            .await?;
        let why = match met(condition, &service, &tasks) {
            Met::Yes => return Ok(()),
            Met::Never(why) => anyhow::bail!("the service {name} is waited for in vain: {why}"),
            Met::NotYet(why) => why,
        };
        if !told {
            told = true;
            say(format!("Waiting for service {name}: {condition}"));
        }
        if start.elapsed() >= deadline {
            // That it has begun is no more than an order; the others are what the file relies on.
            if condition == "service_started" {
                note(format!(
                    "The service {name} has not started yet, and is not waited for any longer: {why}"
                ));
                return Ok(());
            }
            anyhow::bail!(
                "{condition} of the service {name} has not come within {} s: {why}; look at `skein service ps`, or give \
                 --depends-timeout",
                deadline.as_secs()
            );
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn met(condition: &str, service: &Value, tasks: &[Value]) -> Met {
    let mode = &service["Spec"]["Mode"];
    let state = |task: &Value| text(task, "/Status/State").to_owned();
    let current = tasks.iter().filter(|task| {
        let iteration = number(service, "/JobStatus/JobIteration/Index");
        number(task, "/JobIteration/Index") == iteration
    });
    let current: Vec<&Value> = current.collect();
    let count = |wanted: &str| current.iter().filter(|task| state(task) == wanted).count();
    let (running, complete) = (count("running"), count("complete"));
    let last = current
        .iter()
        .max_by_key(|task| text(task, "/CreatedAt"))
        .map_or_else(|| "it has no task".to_owned(), |task| told(task));
    match condition {
        "service_completed_successfully" => {
            let wanted = match mode["ReplicatedJob"].is_object() {
                true => number(mode, "/ReplicatedJob/TotalCompletions").max(1),
                false => number(mode, "/Replicated/Replicas").max(1),
            };
            let global = mode["Global"].is_object() || mode["GlobalJob"].is_object();
            let all = match global {
                true => current.len(),
                false => usize::try_from(wanted).unwrap_or(usize::MAX),
            };
            let forever = text(service, "/Spec/TaskTemplate/RestartPolicy/Condition");
            let is_job = mode["ReplicatedJob"].is_object() || mode["GlobalJob"].is_object();
            if complete >= all && all > 0 {
                return Met::Yes;
            }
            if !is_job && matches!(forever, "" | "any") {
                return Met::Never(
                    "it is restarted whenever it ends: set deploy.mode to replicated-job, or restart_policy.condition \
                     to on-failure"
                        .into(),
                );
            }
            Met::NotYet(format!(
                "{complete} of {all} have completed; the last task: {last}"
            ))
        }
        // A task with a health check runs once that says healthy.
        "service_healthy" => {
            let wanted = match mode["Replicated"].is_object() {
                true => number(mode, "/Replicated/Replicas"),
                false => 1,
            };
            match i64::try_from(running).unwrap_or(i64::MAX) >= wanted {
                true => Met::Yes,
                false => Met::NotYet(format!("{running} of {wanted} run; the last task: {last}")),
            }
        }
        _ if running + complete > 0
            || number(mode, "/Replicated/Replicas") == 0 && mode["Replicated"].is_object() =>
        {
            Met::Yes
        }
        _ => Met::NotYet(format!("the last task: {last}")),
    }
}

fn told(task: &Value) -> String {
    match (text(task, "/Status/State"), text(task, "/Status/Err")) {
        (state, "") => state.to_owned(),
        (state, error) => format!("{state}, {error}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(state: &str) -> Value {
        json!({"Status": {"State": state, "Err": ""}, "CreatedAt": "2026"})
    }

    #[test]
    fn conditions_are_told_apart() {
        let replicated = json!({"Spec": {"Mode": {"Replicated": {"Replicas": 2}}}});
        let one = [task("running"), task("starting")];
        let two = [task("running"), task("running")];
        assert_eq!(met("service_started", &replicated, &one), Met::Yes);
        assert_eq!(
            met("service_started", &replicated, &[]),
            Met::NotYet("the last task: it has no task".into())
        );
        assert!(matches!(
            met("service_healthy", &replicated, &one),
            Met::NotYet(_)
        ));
        assert_eq!(met("service_healthy", &replicated, &two), Met::Yes);
        let done = "service_completed_successfully";
        assert!(matches!(met(done, &replicated, &two), Met::Never(_)));
        let once = json!({"Spec": {
            "Mode": {"Replicated": {"Replicas": 1}},
            "TaskTemplate": {"RestartPolicy": {"Condition": "on-failure"}},
        }});
        assert!(matches!(
            met(done, &once, &[task("failed")]),
            Met::NotYet(_)
        ));
        assert_eq!(
            met(done, &once, &[task("failed"), task("complete")]),
            Met::Yes
        );
        let job = json!({
            "Spec": {"Mode": {"ReplicatedJob": {"TotalCompletions": 2}}}, "JobStatus": {"JobIteration": {"Index": 4}},
        });
        let of = |iteration: u64| {
            let mut task = task("complete");
            task["JobIteration"] = json!({"Index": iteration});
            task
        };
        assert!(matches!(met(done, &job, &[of(4), of(3)]), Met::NotYet(_)));
        assert_eq!(met(done, &job, &[of(4), of(4)]), Met::Yes);
    }
}
