//! `/containers` and the output of services: what is shown, what is refused, and that a request reaches the node that
//! the container is on.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fake::{Fake, id, lock};
use super::fake_containers::container;
use super::http::Served;
use super::world::NOW;
use crate::model::ContainerId;
use crate::model::container::{ContainerState, Exit};

/// A leader with two containers, of which the second has ended.
fn two() -> (Arc<Fake>, Served) {
    let fake = Fake::leader();
    let mut ended = container(2, "db.1.y");
    ended.state = ContainerState::Exited(Exit {
        code: 137,
        at: NOW,
        oom: true,
    });
    *lock(&fake.containers.all) = vec![container(1, "web.1.x"), ended];
    let served = Served::start(fake.clone());
    (fake, served)
}

async fn names(served: &Served, query: &str) -> Vec<String> {
    let answer = served.get(&format!("/containers/json{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let list = answer.json();
    let name = |one: &Value| one["Names"][0].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

#[tokio::test]
async fn the_list_shows_what_runs_and_with_all_what_has_ended() {
    let (_, served) = two();
    assert_eq!(names(&served, "").await, ["/web.1.x"]);
    assert_eq!(names(&served, "?all=1").await, ["/web.1.x", "/db.1.y"]);
    for (filter, found) in [
        (json!({"name": ["web"]}), 1),
        (json!({"name": {"/db.1.y": true}}), 1),
        (json!({"label": ["tier=front"]}), 2),
        (json!({"label": ["tier=back"]}), 0),
        (json!({"status": ["exited"]}), 1),
        (json!({"exited": ["137"]}), 1),
        (json!({"exited": ["0"]}), 0),
        (json!({"ancestor": ["nginx"]}), 2),
        (json!({"since": ["db.1.y"]}), 1),
        (json!({"before": ["db.1.y"]}), 0),
        (json!({"network": ["host"]}), 2),
        (json!({"is-task": ["true"]}), 0),
    ] {
        let text: String = filter
            .to_string()
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        let found_names = names(&served, &format!("?all=1&filters={text}")).await;
        assert_eq!(found_names.len(), found, "{filter}");
    }
    let answer = served
        .get("/containers/json?all=1&limit=1&size=1")
        .await
        .json();
    let line = &answer[0];
    assert_eq!(line["Status"], "Up 5 minutes");
    assert_eq!(line["State"], "running");
    assert_eq!(line["SizeRw"], 4096);
    assert_eq!(line["Command"], "nginx -g");
    assert_eq!(line["ImageID"], format!("sha256:{}", "02".repeat(32)));
    assert_eq!(line["HostConfig"]["NetworkMode"], "host");
    let answer = served
        .get("/containers/json?filters=%7B%22x%22%3A%5B%5D%7D")
        .await;
    assert_eq!(
        (answer.status, answer.json()["message"].as_str()),
        (400, Some("invalid filter 'x'"))
    );
}

#[tokio::test]
async fn a_container_is_found_by_id_by_its_beginning_and_by_name() {
    let (_, served) = two();
    let full = ContainerId::from_bytes([2; 32]).to_string();
    for name in [full.as_str(), "0202", "db.1.y", "%2Fdb.1.y"] {
        let answer = served.get(&format!("/containers/{name}/json")).await.json();
        assert_eq!(answer["Id"], full, "{name}");
        assert_eq!(answer["State"]["ExitCode"], 137);
        assert_eq!(answer["State"]["OOMKilled"], true);
    }
    for (name, status, words) in [
        ("nosuch", 404, "No such container: nosuch"),
        ("0", 400, "multiple IDs found with provided prefix: 0"),
        ("%20", 404, "No such container:  "),
    ] {
        let answer = served.get(&format!("/containers/{name}/json")).await;
        assert_eq!(
            (answer.status, answer.json()["message"].as_str().unwrap()),
            (status, words)
        );
    }
}

#[tokio::test]
async fn what_ends_and_holds_containers_has_dockers_answers() {
    let (fake, served) = two();
    for (target, status) in [
        ("/containers/web.1.x/start", 304),
        ("/containers/db.1.y/stop", 304),
        ("/containers/web.1.x/stop?t=3&signal=INT", 204),
        ("/containers/web.1.x/stop?t=x", 400),
        ("/containers/web.1.x/kill?signal=HUP", 204),
        ("/containers/web.1.x/kill?signal=NOSUCH", 400),
        ("/containers/db.1.y/kill", 409),
        ("/containers/web.1.x/pause", 204),
        ("/containers/web.1.x/unpause", 204),
        ("/containers/web.1.x/restart", 409),
        ("/containers/web.1.x/resize?h=24&w=80", 200),
        ("/containers/web.1.x/wait?condition=never", 400),
    ] {
        assert_eq!(served.ask("POST", target).await.status, status, "{target}");
    }
    assert_eq!(
        served.ask("DELETE", "/containers/web.1.x").await.status,
        409
    );
    assert_eq!(
        served
            .ask("DELETE", "/containers/web.1.x?force=1")
            .await
            .status,
        204
    );
    let short = ContainerId::from_bytes([1; 32]).short();
    assert_eq!(
        *lock(&fake.containers.done),
        [
            format!("stop {short} Some(2) Some(Some(3s))"),
            format!("kill {short} 1"),
            format!("pause {short}"),
            format!("resume {short}"),
            format!("resize {short} 24 80"),
            format!("kill {short} 9"),
        ]
    );
    let ended = served.ask("POST", "/containers/web.1.x/wait").await;
    assert_eq!(ended.json(), json!({"StatusCode": 3}));
}

#[tokio::test]
async fn output_comes_in_frames_and_a_stream_must_be_chosen() {
    let (_, served) = two();
    let answer = served.get("/containers/web.1.x/logs").await;
    assert_eq!(answer.status, 400);
    let answer = served
        .get("/containers/web.1.x/logs?stdout=1&stderr=1")
        .await;
    assert_eq!(
        answer.headers["content-type"],
        "application/vnd.docker.multiplexed-stream"
    );
    assert_eq!(
        answer.body,
        "\u{1}\0\0\0\0\0\0\u{4}one\n\u{2}\0\0\0\0\0\0\u{4}two\n"
    );
    let answer = served.get("/v1.41/containers/web.1.x/logs?stdout=1").await;
    assert_eq!(
        answer.headers["content-type"],
        "application/vnd.docker.raw-stream"
    );
}

#[tokio::test]
async fn a_container_of_another_node_is_reached_through_any() {
    let (follower, leader) = Fake::follower();
    lock(&follower.peers).insert(id(1), leader.clone());
    let spec = json!({"Name": "web", "Mode": {"Replicated": {"Replicas": 1}},
        "TaskTemplate": {"ContainerSpec": {"Image": "nginx:1"}}});
    let served = Served::start(follower.clone());
    let made = served.post("/services/create", &spec).await;
    assert_eq!(made.status, 201, "{made:?}");
    let tasks = served.get("/tasks").await.json();
    let name = format!("web.1.{}", tasks[0]["ID"].as_str().unwrap());
    *lock(&leader.containers.all) = vec![container(7, &name)];

    let found = served.get(&format!("/containers/{name}/json")).await.json();
    assert_eq!(found["Name"], format!("/{name}"));
    let exec = json!({"Cmd": ["id"], "AttachStdout": true});
    let made = served.post("/containers/070707/exec", &exec).await;
    assert_eq!(made.status, 201, "{made:?}");
    let short = ContainerId::from_bytes([7; 32]).short();
    assert_eq!(
        *lock(&leader.containers.done),
        [format!("exec {short} [\"id\"]")]
    );
    let words = "No exec command specified";
    let refused = served.post("/containers/070707/exec", &json!({})).await;
    assert_eq!(
        (refused.status, refused.json()["message"].as_str()),
        (400, Some(words))
    );

    // The list stays this node's own, as that of a daemon of Docker's.
    assert_eq!(served.get("/containers/json").await.json(), json!([]));

    let said = served.get("/services/web/logs?stdout=1&stderr=1").await;
    assert!(
        said.body.contains("one\n") && said.body.ends_with("two\n"),
        "{said:?}"
    );
    lock(&follower.peers).clear();
    let said = served.get("/services/web/logs?stdout=1&stderr=1").await;
    let words = format!(
        "warning: incomplete log stream: node {} cannot be reached\n",
        id(1)
    );
    assert!(said.body.ends_with(&words), "{said:?}");
}
