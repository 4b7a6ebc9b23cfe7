//! `/services`: what is created, shown, changed and removed, and what is refused.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fake::{Fake, lock};
use super::http::{Answer, Served};
use crate::model::cluster::Secret;

/// A service that there can be.
fn web() -> Value {
    json!({
        "Name": "web",
        "Labels": {"tier": "front"},
        "TaskTemplate": {"ContainerSpec": {"Image": "nginx:1"}},
        "Mode": {"Replicated": {"Replicas": 2}},
    })
}

/// A service of which much is said.
pub(super) fn whole() -> Value {
    json!({
        "Name": "web",
        "Labels": {"a": "b"},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "nginx:1", "Command": ["a"], "Env": ["A=1"], "Labels": {"a": "b"}, "Init": true,
                "StopGracePeriod": 5, "Mounts": [{"Type": "tmpfs", "Target": "/a", "TmpfsOptions": {"SizeBytes": 1}}],
                "Healthcheck": {"Test": ["NONE"], "Interval": 0, "Retries": 1},
                "Privileges": {"Seccomp": {"Mode": "default"}, "CredentialSpec": null},
                "Secrets": [], "Configs": [], "Ulimits": [{"Name": "nofile", "Hard": 1, "Soft": 1}],
            },
            "Resources": {"Limits": {"NanoCPUs": 0}, "Reservations": {"GenericResources": []}},
            "RestartPolicy": {"Condition": "any", "Delay": 0, "MaxAttempts": 0, "Window": 0},
            "Placement": {"Constraints": [], "Preferences": [], "MaxReplicas": 1, "Platforms": []},
            "Networks": [], "LogDriver": {"Name": "local", "Options": {}}, "ForceUpdate": 0, "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": 2}},
        "UpdateConfig": {"Parallelism": 1, "Delay": 0, "MaxFailureRatio": 0.5, "Order": ""},
        "RollbackConfig": {"FailureAction": "", "Monitor": 0},
        "Networks": [],
        "EndpointSpec": {"Mode": "vip", "Ports": []},
    })
}

/// Every place in [`whole`], as a JSON pointer.
pub(super) fn places() -> Vec<String> {
    fn walk(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    walk(value, &format!("{at}/{key}"), found);
                }
            }
            Value::Array(items) => {
                for (number, value) in items.iter().enumerate() {
                    walk(value, &format!("{at}/{number}"), found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(&whole(), "", &mut found);
    found
}

fn encoded(value: &Value) -> String {
    let bytes = value.to_string().into_bytes();
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}

/// Creates a service; its ID.
async fn create(served: &Served, spec: &Value) -> String {
    let answer = served.post("/v1.50/services/create", spec).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["Warnings"], Value::Null);
    assert_eq!(body.as_object().unwrap().len(), 2);
    body["ID"].as_str().unwrap().to_owned()
}

async fn names(served: &Served, filters: &Value) -> Vec<String> {
    let target = format!("/services?filters={}", encoded(filters));
    let found = served.get(&target).await.json();
    let found = found.as_array().unwrap().iter();
    found
        .map(|service| service["Spec"]["Name"].as_str().unwrap().to_owned())
        .collect()
}

fn world_with_auth(fake: &Arc<Fake>, name: &str) -> Secret {
    fake.world.service(name).registry_auth
}

/// Sends a body with credentials.
async fn post_with_auth(served: &Served, target: &str, auth: &str, body: &Value) -> Answer {
    let body = body.to_string();
    served
        .send(&format!(
            "POST {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nX-Registry-Auth: {auth}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await
}

#[tokio::test]
async fn a_service_looks_as_docker_shows_it() {
    let (follower, _leader) = Fake::follower();
    let served = Served::start(follower);
    let id = create(&served, &web()).await;
    let answer = served.get("/services/web").await;
    assert_eq!(
        answer.json(),
        json!({
            "ID": id,
            "Version": {"Index": 21},
            "CreatedAt": "2023-11-14T22:13:20Z",
            "UpdatedAt": "2023-11-14T22:13:20Z",
            "Spec": {
                "Name": "web",
                "Labels": {"tier": "front"},
                "TaskTemplate": {
                    "ContainerSpec": {"Image": "nginx:1", "Isolation": "default"},
                    "ForceUpdate": 0,
                    "Runtime": "container",
                },
                "Mode": {"Replicated": {"Replicas": 2}},
            },
            "Endpoint": {"Spec": {}},
        })
    );
    assert!(answer.body.starts_with("{\"ID\":"), "{}", answer.body);
    let full = served.get("/services/web?insertDefaults=true").await.json();
    assert_eq!(full["Spec"]["UpdateConfig"]["Monitor"], 5_000_000_000_i64);
    assert_eq!(full["Spec"]["RollbackConfig"]["Parallelism"], 1);
    let prefix = &id[..id.len() - 1];
    assert_eq!(
        served.get(&format!("/services/{prefix}")).await.json()["ID"],
        id
    );
    served
        .get("/services/web?insertDefaults=maybe")
        .await
        .refused(400, "invalid value for insertDefaults: maybe");
    served
        .get("/services/nobody")
        .await
        .refused(404, "service nobody not found");
}

#[tokio::test]
async fn lists_are_filtered_and_counted() {
    let served = Served::start(Fake::leader());
    assert_eq!(served.get("/services").await.body, "[]\n");
    let web_id = create(&served, &web()).await;
    let agent = json!({"Name": "agent", "TaskTemplate": {"ContainerSpec": {"Image": "a"}}, "Mode": {"Global": {}}});
    create(&served, &agent).await;
    let job = json!({"Name": "job", "TaskTemplate": {"ContainerSpec": {"Image": "a"}},
        "Mode": {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 5}}});
    create(&served, &job).await;
    for (filters, expected) in [
        (json!({}), &["web", "agent", "job"][..]),
        (json!({"name": ["we"]}), &["web"]),
        (
            json!({"name": {"agent": true, "job": true}}),
            &["agent", "job"],
        ),
        (json!({"id": [web_id]}), &["web"]),
        (json!({"mode": ["global"]}), &["agent"]),
        (
            json!({"mode": ["replicated-job", "replicated"]}),
            &["web", "job"],
        ),
        (json!({"label": ["tier=front"]}), &["web"]),
        (json!({"label": ["tier=back"]}), &[]),
        (json!({"runtime": ["container"]}), &["web", "agent", "job"]),
        (json!({"runtime": ["plugin"]}), &[]),
    ] {
        assert_eq!(names(&served, &filters).await, expected, "{filters}");
    }
    let plain = served.get("/services").await.json();
    assert!(plain[0].get("ServiceStatus").is_none());
    let counted = served.get("/services?status=true").await.json();
    let counts = |number: usize| counted[number]["ServiceStatus"].clone();
    let status = |running: u64, desired: u64, completed: u64| json!({"RunningTasks": running, "DesiredTasks": desired, "CompletedTasks": completed});
    assert_eq!(counts(0), status(2, 2, 0));
    assert_eq!(counts(1), status(2, 2, 0));
    assert_eq!(counts(2), status(0, 2, 5));
    assert_eq!(
        counted[2]["JobStatus"],
        json!({"JobIteration": {"Index": 0}, "LastExecution": "2023-11-14T22:13:20Z"})
    );
    let target = format!("/services?filters={}", encoded(&json!({"node": ["x"]})));
    served
        .get(&target)
        .await
        .refused(400, "invalid filter 'node'");
}

#[tokio::test]
async fn updates_guard_the_version_and_keep_the_spec_before() {
    let served = Served::start(Fake::leader());
    let id = create(&served, &web()).await;
    let mut spec = served.get("/services/web").await.json()["Spec"].clone();
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = "nginx:2".into();
    let target = format!("/services/{id}/update?version=21");
    let answer = served.post(&target, &spec).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "{\"Warnings\":null}\n")
    );
    let shown = served.get("/services/web").await.json();
    assert_eq!(shown["Spec"], spec);
    assert_eq!(
        shown["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"],
        "nginx:1"
    );
    assert_eq!(
        shown["UpdateStatus"],
        json!({"State": "completed", "StartedAt": "2023-11-14T22:13:20Z",
            "CompletedAt": "2023-11-14T22:13:20Z", "Message": "update completed"})
    );
    served
        .post(&target, &spec)
        .await
        .refused(500, "update out of sequence");
    let version = shown["Version"]["Index"].as_u64().unwrap();
    let back = format!("/services/web/update?version={version}&rollback=previous");
    assert_eq!(served.post(&back, &spec).await.status, 200);
    let shown = served.get("/services/web").await.json();
    assert_eq!(
        shown["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"],
        "nginx:1"
    );
    for (query, words) in [
        ("", "invalid service version ''"),
        ("version=x", "invalid service version 'x'"),
        (
            "version=1&rollback=twice",
            "unrecognized rollback option twice",
        ),
        (
            "version=1&registryAuthFrom=there",
            "invalid registryAuthFrom 'there'",
        ),
    ] {
        let target = format!("/services/web/update?{query}");
        served.post(&target, &spec).await.refused(400, words);
    }
    served
        .post("/services/nobody/update?version=1", &spec)
        .await
        .refused(404, "service nobody not found");
    let version = shown["Version"]["Index"].as_u64().unwrap();
    let target = format!("/services/web/update?version={version}");
    spec["Networks"] = json!([{"Target": "host"}]);
    spec["TaskTemplate"]["Networks"] = json!([{"Target": "host"}]);
    assert_eq!(served.post(&target, &spec).await.status, 200);
    spec["Networks"] = json!([{"Target": "none"}]);
    served.post(&target, &spec).await.refused(
        501,
        "networks must be migrated to TaskSpec before being changed",
    );
}

#[tokio::test]
async fn credentials_are_kept_and_never_shown() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let answer = post_with_auth(&served, "/services/create", "e30=", &web()).await;
    assert_eq!(answer.status, 201);
    assert_eq!(world_with_auth(&fake, "web"), Secret("e30=".into()));
    let shown = served.get("/services/web").await;
    assert!(!shown.body.contains("e30="), "{}", shown.body);
    let version = |shown: &Answer| shown.json()["Version"]["Index"].as_u64().unwrap();
    let target = format!("/services/web/update?version={}", version(&shown));
    assert_eq!(served.post(&target, &web()).await.status, 200);
    assert_eq!(world_with_auth(&fake, "web"), Secret("e30=".into()));
    let shown = served.get("/services/web").await;
    let target = format!("/services/web/update?version={}", version(&shown));
    assert_eq!(
        post_with_auth(&served, &target, "bmV3", &web())
            .await
            .status,
        200
    );
    assert_eq!(world_with_auth(&fake, "web"), Secret("bmV3".into()));
    let shown = served.get("/services/web").await;
    let before = format!(
        "/services/web/update?version={}&registryAuthFrom=previous-spec",
        version(&shown)
    );
    assert_eq!(served.post(&before, &web()).await.status, 200);
    assert_eq!(world_with_auth(&fake, "web"), Secret("e30=".into()));
    let long = "a".repeat(65 << 10);
    let answer = post_with_auth(&served, "/services/create", &long, &web()).await;
    assert!(answer.status == 400 || answer.status == 431, "{answer:?}");
}

#[tokio::test]
async fn a_removed_service_is_gone_at_once() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let id = create(&served, &web()).await;
    served.ask("DELETE", "/services/web").await.done();
    assert_eq!(lock(&fake.world.view).state.work.services.len(), 1);
    for target in [
        "/services/web".to_owned(),
        format!("/services/{id}"),
        format!("/services/{id}/logs?stdout=1"),
    ] {
        served.get(&target).await.refused(404, " not found");
    }
    assert_eq!(served.get("/services").await.body, "[]\n");
    served
        .ask("DELETE", "/services/web")
        .await
        .refused(404, "service web not found");
}

#[tokio::test]
async fn a_service_without_a_name_is_given_one() {
    let served = Served::start(Fake::leader());
    let mut spec = web();
    spec["Name"] = Value::Null;
    for _ in 0..2 {
        create(&served, &spec).await;
    }
    let names = names(&served, &json!({})).await;
    assert!(names[0] != names[1] && names[0].contains('_'), "{names:?}");
}

/// [`web`] under another name, with `value` at `place`.
fn with(place: &str, value: Value) -> Value {
    let mut spec = web();
    spec["Name"] = "other".into();
    *spec.pointer_mut(place).unwrap() = value;
    spec
}

/// The same, with more said of its container.
fn container(more: Value) -> Value {
    let mut container = json!({"Image": "nginx:1"});
    let more = more.as_object().unwrap().clone();
    container.as_object_mut().unwrap().extend(more);
    with("/TaskTemplate", json!({ "ContainerSpec": container }))
}

async fn refused(served: &Served, status: u16, spec: &Value, words: &str) {
    let answer = served.post("/services/create", spec).await;
    answer.refused(status, words);
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_one_sentence() {
    let served = Served::start(Fake::leader());
    create(&served, &web()).await;
    let replicas = |count: Value| with("/Mode", json!({"Replicated": {"Replicas": count}}));
    for (status, spec, words) in [
        (409, web(), "service web already exists"),
        (400, json!({}), "mismatched Runtime and *Spec fields"),
        (400, json!([]), "invalid JSON: "),
        (
            400,
            with("/Name", json!("a b")),
            "name must be valid as a DNS name component",
        ),
        (400, with("/Name", json!(7)), "invalid JSON: Name: "),
        (
            400,
            replicas(json!(-1)),
            "invalid JSON: Mode: Replicated: Replicas: invalid value",
        ),
        (
            400,
            replicas(json!("two")),
            "invalid JSON: Mode: Replicated: Replicas: invalid type",
        ),
    ] {
        refused(&served, status, &spec, words).await;
    }
    let mut long = web();
    long["Labels"]["long"] = "x".repeat(2 << 20).into();
    let words = "and at most 1048576 bytes are possible";
    refused(&served, 400, &long, words).await;
}

#[tokio::test]
async fn containers_that_cannot_be_are_refused() {
    let served = Served::start(Fake::leader());
    let file = |name: &str| json!({ "Name": name });
    for (change, words) in [
        (
            json!({"Healthcheck": {"Retries": -1}}),
            "ContainerSpec: Retries in HealthConfig cannot be negative",
        ),
        (
            json!({"Healthcheck": {"Interval": 1000}}),
            "ContainerSpec: Interval in HealthConfig cannot be less than 1ms",
        ),
        (
            json!({"Healthcheck": {"Timeout": -5}}),
            "ContainerSpec: Timeout in HealthConfig cannot be less than 1ms",
        ),
        (
            json!({"Mounts": [{"Type": "floppy", "Target": "/a"}]}),
            "invalid MountType: \"floppy\"",
        ),
        (
            json!({"Secrets": [{"SecretID": "i", "SecretName": "key", "File": file("f")}]}),
            "secret not found: key",
        ),
        (
            json!({"Configs": [
                {"ConfigID": "i", "ConfigName": "a", "File": file("f")},
                {"ConfigID": "j", "ConfigName": "b", "File": file("g")}]}),
            "configs not found: a, b",
        ),
    ] {
        refused(&served, 400, &container(change), words).await;
    }
}

#[tokio::test]
async fn networks_that_are_not_there_are_refused_and_ports_have_one_service() {
    let served = Served::start(Fake::leader());
    let mut spec = web();
    for (status, network, words) in [
        (404, "backend", "network backend not found"),
        (404, "ingress", "network ingress not found"),
        (
            501,
            "bridge",
            "skein attaches no task to the network \"bridge\"",
        ),
    ] {
        spec["TaskTemplate"]["Networks"] = json!([{ "Target": network }]);
        refused(&served, status, &spec, words).await;
    }
    spec["TaskTemplate"]["Networks"] = json!([{"Target": "host"}]);
    spec["EndpointSpec"] = json!({"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]});
    let made = served.post("/services/create", &spec).await.json();
    assert_eq!(made["Warnings"], Value::Null);
    spec["Name"] = "other".into();
    let words = "port '8080' is already in use by service 'web' (";
    refused(&served, 400, &spec, words).await;
    spec["EndpointSpec"]["Ports"][0]["PublishMode"] = "host".into();
    refused(&served, 400, &spec, "as an ingress port").await;
    spec["EndpointSpec"]["Ports"][0]["Protocol"] = "udp".into();
    let made = served.post("/services/create", &spec).await.json();
    assert_eq!(made["Warnings"], Value::Null);
}

#[tokio::test]
async fn a_mount_without_a_kind_is_a_bind_and_kinds_have_no_case() {
    let served = Served::start(Fake::leader());
    let mut spec = web();
    spec["TaskTemplate"]["ContainerSpec"]["Mounts"] = json!([
        {"Source": "/a", "Target": "/a"}, {"Type": "", "Source": "/b", "Target": "/b"},
        {"Type": "TMPFS", "Target": "/c"}]);
    create(&served, &spec).await;
    let shown = served.get("/services/web").await.json();
    let mounts = &shown["Spec"]["TaskTemplate"]["ContainerSpec"]["Mounts"];
    let kinds: Vec<&str> = (0..3)
        .map(|n| mounts[n]["Type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["bind", "bind", "tmpfs"]);
}
