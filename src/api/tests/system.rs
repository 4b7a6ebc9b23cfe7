//! Ping, version, info, paths and methods.

use serde_json::{Value, json};

use super::fake::{Fake, Lead, id, lock, odd_refusal};
use super::http::Served;
use crate::api::backend::LocalState;
use crate::api::words;

const EVERYWHERE: [(&str, &str); 4] = [
    ("api-version", "1.50"),
    ("ostype", "linux"),
    ("server", "Docker/28.2.2 (linux)"),
    ("docker-experimental", "false"),
];

#[tokio::test]
async fn every_response_carries_dockers_headers() {
    let served = Served::start(Fake::leader());
    for (method, target, status) in [
        ("GET", "/_ping", 200),
        ("HEAD", "/_ping", 200),
        ("GET", "/v1.24/version", 200),
        ("OPTIONS", "/anything", 200),
        ("GET", "/nothing", 404),
        ("GET", "/v1.9/info", 400),
        ("GET", "/containers/json", 200),
        ("GET", "/nodes/x", 404),
    ] {
        let answer = served.ask(method, target).await;
        assert_eq!(answer.status, status, "{method} {target}");
        for (name, value) in EVERYWHERE {
            assert_eq!(answer.header(name), value, "{method} {target}");
        }
    }
}

#[tokio::test]
async fn ping_says_what_this_node_is() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    for (state, control, word) in [
        (LocalState::Active, true, "active/manager"),
        (LocalState::Active, false, "active/worker"),
        (LocalState::Inactive, false, "inactive"),
        (LocalState::Pending, false, "pending"),
        (LocalState::Error, false, "error"),
        (LocalState::Locked, true, "locked"),
    ] {
        fake.edit_local(|local| (local.state, local.control) = (state, control));
        let answer = served.get("/_ping").await;
        assert_eq!(answer.body, "OK");
        assert_eq!(answer.header("swarm"), word);
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(
            answer.header("cache-control"),
            "no-cache, no-store, must-revalidate"
        );
        assert_eq!(answer.header("pragma"), "no-cache");
        assert_eq!(answer.header("builder-version"), "1");
        let head = served.ask("HEAD", "/_ping").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(head.header("content-length"), "0");
        assert_eq!(head.header("swarm"), word);
    }
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_dockers_404() {
    let served = Served::start(Fake::leader());
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/v1.50"),
        ("GET", "/v1.50/"),
        ("GET", "/v1.50/nope"),
        ("POST", "/version"),
        ("DELETE", "/swarm"),
        ("GET", "/nodes/x/update"),
        ("GET", "/nodes/"),
        ("PATCH", "/info"),
        ("GET", "/skein/summary"),
        ("GET", "/skein/events"),
    ] {
        let answer = served.ask(method, target).await;
        answer.refused(404, "page not found");
    }
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let served = Served::start(Fake::leader());
    for (method, target, first) in [
        ("POST", "/v1.50/commit", "/commit"),
        ("POST", "/v1.41/build", "/build"),
        ("GET", "/plugins/x/json", "/plugins"),
    ] {
        let answer = served.ask(method, target).await;
        answer.refused(
            501,
            &format!("skein does not serve {first} in this version"),
        );
    }
}

#[tokio::test]
async fn versions_outside_the_range_are_refused() {
    let served = Served::start(Fake::leader());
    served.get("/v1.23/info").await.refused(
        400,
        "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer \
         version",
    );
    served.get("/v1.51/info").await.refused(
        400,
        "client version 1.51 is too new. Maximum supported API version is 1.50",
    );
    assert_eq!(served.get("/v1.24/_ping").await.status, 200);
}

#[tokio::test]
async fn version_has_what_docker_version_shows() {
    let served = Served::start(Fake::leader());
    let version = served.get("/v1.43/version").await.json();
    assert_eq!(version["Version"], "28.2.2");
    assert_eq!(version["ApiVersion"], "1.50");
    assert_eq!(version["MinAPIVersion"], "1.24");
    assert_eq!(version["Os"], "linux");
    assert_eq!(version["Platform"]["Name"], "Skein 0.1.0");
    assert_eq!(version["Components"][0]["Name"], "Engine");
    assert_eq!(version["Components"][1]["Version"], "0.1.0");
}

fn swarm_of(info: &Value) -> &Value {
    &info["Swarm"]
}

#[tokio::test]
async fn info_of_a_manager_shows_the_cluster() {
    let (follower, leader) = Fake::follower();
    for fake in [leader, follower] {
        let node = crate::api::Backend::local(fake.as_ref()).node.unwrap();
        let served = Served::start(fake);
        let info = served.get("/info").await.json();
        let swarm = swarm_of(&info);
        assert_eq!(swarm["NodeID"], node.to_string());
        assert_eq!(swarm["LocalNodeState"], "active");
        assert_eq!(swarm["ControlAvailable"], true);
        assert_eq!(
            (&swarm["Nodes"], &swarm["Managers"]),
            (&json!(4), &json!(3))
        );
        assert_eq!(swarm["Error"], "");
        assert_eq!(swarm["Cluster"]["Version"]["Index"], 7);
        assert_eq!(swarm["Cluster"]["DefaultAddrPool"], json!(["10.0.0.0/8"]));
        assert!(swarm["Cluster"].get("JoinTokens").is_none());
        assert_eq!(swarm["RemoteManagers"][0]["Addr"], "10.0.0.1:2377");
        assert_eq!(info["NCPU"], 4);
        assert_eq!(info["MemTotal"], 8_i64 << 30);
        assert_eq!(info["DockerRootDir"], "/var/lib/skein");
        assert_eq!(info["OSType"], "linux");
        assert_eq!(info["ServerVersion"], "28.2.2");
        assert_eq!(info["SystemTime"], "2023-11-14T22:13:20Z");
        assert_eq!(info["Labels"], json!(["disk=ssd"]));
        assert!(!info["KernelVersion"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn info_without_a_leader_is_answered_and_says_why() {
    let fake = Fake::leader();
    fake.set_lead(Lead::Nobody);
    let info = Served::start(fake).get("/info").await.json();
    let swarm = swarm_of(&info);
    assert_eq!(swarm["LocalNodeState"], "active");
    assert!(
        swarm["Error"]
            .as_str()
            .unwrap()
            .contains("The swarm does not have a leader.")
    );
    assert!(swarm.get("Cluster").is_none());
}

#[tokio::test]
async fn info_outside_of_a_cluster_and_on_a_worker() {
    let info = Served::start(Fake::outside()).get("/info").await.json();
    let swarm = swarm_of(&info);
    assert_eq!(
        (&swarm["NodeID"], &swarm["NodeAddr"]),
        (&json!(""), &json!(""))
    );
    assert_eq!(swarm["LocalNodeState"], "inactive");
    assert_eq!(swarm["ControlAvailable"], false);
    assert_eq!(swarm["RemoteManagers"], Value::Null);

    let worker = Fake::leader();
    worker.edit_local(|local| local.control = false);
    let info = Served::start(worker).get("/info").await.json();
    let swarm = swarm_of(&info);
    assert_eq!(swarm["NodeID"], id(1).to_string());
    assert_eq!(swarm["ControlAvailable"], false);
    assert!(swarm.get("Nodes").is_none());
}

#[tokio::test]
async fn two_managers_are_warned_of() {
    let fake = Fake::leader();
    lock(&fake.world.view).managers.remove(&id(3));
    let info = Served::start(fake).get("/info").await.json();
    assert_eq!(info["Warnings"], json!([words::TWO_MANAGERS]));
    assert_eq!(info["Swarm"]["Warnings"], json!([words::TWO_MANAGERS]));
}

#[tokio::test]
async fn status_tells_what_this_node_knows() {
    let fake = Fake::leader();
    fake.set_lead(Lead::Nobody);
    let status = Served::start(fake).get("/skein/status").await.json();
    assert_eq!(status["Node"]["ID"], id(1).to_string());
    assert_eq!(status["Leader"], id(1).to_string());
    assert_eq!(status["Term"], 4);
    assert_eq!(status["Voters"].as_array().unwrap().len(), 3);
    let dead = &status["Peers"][2];
    assert_eq!(dead["Alive"], false);
    assert_eq!(dead["Since"], 90_000_000_000_u64);
    assert_eq!(dead["LastLog"], json!({"Rank": 4, "Index": 20}));
}

#[tokio::test]
async fn the_name_of_an_image_is_answered_with_its_digest() {
    let fake = Fake::outside();
    let served = Served::start(fake.clone());
    let answer = served
        .get("/v1.50/distribution/r.example:5000/team%2Fapp:v1/json")
        .await;
    let digest = format!("sha256:{}", "a".repeat(64));
    let descriptor = json!({
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": 528,
    });
    let platforms = json!([{"architecture": "amd64", "os": "linux"}]);
    assert_eq!(
        answer.json(),
        json!({"Descriptor": descriptor, "Platforms": platforms})
    );
    assert_eq!(fake.take_asked(), ["describe r.example:5000/team/app:v1 "]);
    for path in [
        "/distribution/json",
        "/distribution/app",
        "/distribution//json",
    ] {
        served.get(path).await.refused(404, "page not found");
    }
    *lock(&fake.refusal) = Some(odd_refusal());
    let refused = served.get("/distribution/app/json").await;
    refused.refused(403, "because of a test");
}
