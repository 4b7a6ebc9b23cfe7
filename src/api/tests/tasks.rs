//! `/tasks`: the list, one task, and what filters mean.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fake::{Fake, id, lock};
use super::http::Served;
use super::work::task;
use crate::model::{Change, ContainerId, Expect, Slot, TaskId, TaskState, TaskStatus, Timestamp};

async fn create(served: &Served, name: &str, mode: Value) {
    let spec = json!({"Name": name, "Labels": {"of": name}, "Mode": mode,
        "TaskTemplate": {"ContainerSpec": {"Image": "nginx:1"}}});
    let answer = served.post("/services/create", &spec).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// `web` of two tasks, `agent` on nodes 1 and 2.
async fn two_services() -> (Arc<Fake>, Served) {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    create(&served, "web", json!({"Replicated": {"Replicas": 2}})).await;
    create(&served, "agent", json!({"Global": {}})).await;
    (fake, served)
}

async fn found(served: &Served, filters: &Value) -> Vec<Value> {
    let text = filters.to_string();
    let text: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = served.get(&format!("/tasks?filters={text}")).await.json();
    answer.as_array().unwrap().clone()
}

#[tokio::test]
async fn a_task_looks_as_docker_shows_it() {
    let (fake, served) = two_services().await;
    let service = fake.world.service("web").id.to_string();
    let tasks = found(&served, &json!({"service": ["web"]})).await;
    let container = ContainerId::from_bytes([7; 32]).to_string();
    assert_eq!(
        tasks[0],
        json!({
            "ID": tasks[0]["ID"],
            "Version": {"Index": 22},
            "CreatedAt": "2023-11-14T22:13:20Z",
            "UpdatedAt": "2023-11-14T22:13:20Z",
            "Labels": {},
            "Spec": {
                "ContainerSpec": {"Image": "nginx:1", "Isolation": "default"},
                "ForceUpdate": 0,
                "Runtime": "container",
            },
            "ServiceID": service,
            "Slot": 1,
            "NodeID": id(1).to_string(),
            "Status": {
                "Timestamp": "2023-11-14T22:13:20Z",
                "State": "running",
                "Message": "started",
                "ContainerStatus": {"ContainerID": container, "PID": 4711, "ExitCode": 0},
                "PortStatus": {},
            },
            "DesiredState": "running",
            "Volumes": null,
        })
    );
    let of_nodes = found(&served, &json!({"service": ["agent"]})).await;
    assert!(of_nodes[0].get("Slot").is_none());
    create(&served, "job", json!({"ReplicatedJob": {}})).await;
    let job = found(&served, &json!({"service": ["job"]})).await;
    assert!(job[0].get("Slot").is_none(), "the first slot of a job is 0");
    assert_eq!(job[0]["JobIteration"], json!({"Index": 0}));
    assert_eq!(job[0]["DesiredState"], "complete");
}

#[tokio::test]
async fn tasks_are_found_by_id_name_and_prefix() {
    let (_fake, served) = two_services().await;
    let all = found(&served, &json!({})).await;
    let first = all[0]["ID"].as_str().unwrap();
    let named = format!("web.1.{first}");
    for input in [first, &named] {
        let answer = served.get(&format!("/tasks/{input}")).await.json();
        assert_eq!(answer["ID"], first);
    }
    let answer = served.get("/tasks/0").await;
    answer.refused(400, "task 0 is ambiguous (4 matches found)");
    let answer = served.get("/tasks/web.1").await;
    answer.refused(404, "task web.1 not found");
    let answer = served.get(&format!("/tasks/{first}/logs?stdout=1")).await;
    assert!(
        answer.status == 200 && answer.body.contains("one\n"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn lists_are_filtered() {
    let (fake, served) = two_services().await;
    let web = fake.world.service("web").id.to_string();
    for (filters, count) in [
        (json!({}), 4),
        (json!({"service": ["web"]}), 2),
        (json!({"service": [web]}), 2),
        (json!({"service": ["web", "agent"]}), 4),
        (json!({"node": ["host-1"]}), 3),
        (json!({"node": [id(2).to_string()]}), 1),
        (json!({"node": ["host-2"], "service": ["web"]}), 0),
        (json!({"node": ["host-1"], "service": ["agent"]}), 1),
        (json!({"label": ["of=web"]}), 2),
        (json!({"name": ["web.2"]}), 1),
        (json!({"name": ["web", "agent"]}), 4),
        (json!({"desired-state": ["running"]}), 4),
        (json!({"desired-state": ["Shutdown"]}), 0),
        (json!({"runtime": ["container"]}), 4),
        (json!({"runtime": ["plugin"]}), 0),
        (json!({"_up-to-date": {"true": true}}), 4),
    ] {
        assert_eq!(found(&served, &filters).await.len(), count, "{filters}");
    }
    for (status, filter, words) in [
        (
            404,
            "%7B%22service%22:%5B%22x%22%5D%7D",
            "service x not found",
        ),
        (404, "%7B%22node%22:%5B%22x%22%5D%7D", "node x not found"),
        (
            400,
            "%7B%22slot%22:%5B%22x%22%5D%7D",
            "invalid filter 'slot'",
        ),
        (
            400,
            "%7B%22desired-state%22:%5B%22x%22%5D%7D",
            "Invalid desired-state filter: 'x'",
        ),
    ] {
        let answer = served.get(&format!("/tasks?filters={filter}")).await;
        answer.refused(status, words);
    }
}

#[tokio::test]
async fn what_a_node_says_is_shown_and_counted_before_it_is_written_down() {
    let (fake, served) = two_services().await;
    let all = found(&served, &json!({"service": ["web"]})).await;
    let first: TaskId = all[0]["ID"].as_str().unwrap().parse().unwrap();
    let failed = TaskStatus {
        state: TaskState::Failed,
        at: Timestamp::from_nanos(1_800_000_000_000_000_000),
        message: "started".into(),
        err: "task: non-zero exit (3)".into(),
        exit_code: Some(3),
        ..TaskStatus::default()
    };
    lock(&fake.world.view).observed.insert(first, failed);
    let shown = served.get(&format!("/tasks/{first}")).await.json();
    assert_eq!(shown["Status"]["State"], "failed");
    assert_eq!(shown["Status"]["Err"], "task: non-zero exit (3)");
    assert_eq!(shown["UpdatedAt"], "2027-01-15T08:00:00Z");
    let services = served.get("/services?status=1").await.json();
    assert_eq!(services[0]["ServiceStatus"]["RunningTasks"], 1);
}

#[tokio::test]
async fn tasks_of_an_older_spec_are_not_up_to_date() {
    let (fake, served) = two_services().await;
    let mut service = fake.world.service("web");
    let version = service.meta.version;
    service.spec_version = 2;
    service.spec.labels.insert("new".into(), "1".into());
    let put = |service| {
        vec![Change::PutService(
            Expect::Version(version),
            Box::new(service),
        )]
    };
    fake.world.apply(put(service.clone()));
    let wanted = json!({"_up-to-date": ["true"], "service": ["web"]});
    assert_eq!(
        found(&served, &wanted).await.len(),
        2,
        "labels make no task old"
    );
    let mut service = fake.world.service("web");
    let version = service.meta.version;
    service.spec.task_template.force_update = 1;
    fake.world.apply(vec![
        Change::PutService(Expect::Version(version), Box::new(service.clone())),
        Change::PutTemplate(
            service.id,
            2,
            Box::new(crate::model::Template {
                name: "web".into(),
                task: service.spec.task_template.clone(),
                ..Default::default()
            }),
        ),
        Change::PutTask(
            Expect::Absent,
            Box::new(task(&service, 99, Slot::Number(3), id(2))),
        ),
    ]);
    let new = found(&served, &wanted).await;
    assert_eq!(new.len(), 1);
    assert_eq!(new[0]["ID"], TaskId::from_bits(99).to_string());
}
