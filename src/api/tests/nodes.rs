//! `/nodes`: the list, one node, changes and removals.

use serde_json::{Value, json};

use super::fake::{Fake, id, lock};
use super::http::Served;
use crate::model::{Availability, Role};

#[tokio::test]
async fn a_node_looks_as_docker_shows_it() {
    let served = Served::start(Fake::leader());
    let answer = served.get(&format!("/v1.50/nodes/{}", id(1))).await;
    let node = answer.json();
    let tls = node["Description"]["TLSInfo"].clone();
    assert!(tls["TrustRoot"].as_str().unwrap().starts_with("-----BEGIN"));
    assert_eq!(
        node,
        json!({
            "ID": id(1).to_string(),
            "Version": {"Index": 11},
            "CreatedAt": "2023-11-14T22:13:20Z",
            "UpdatedAt": "2023-11-14T22:13:20Z",
            "Spec": {"Labels": {}, "Role": "manager", "Availability": "active"},
            "Description": {
                "Hostname": "host-1",
                "Platform": {"Architecture": "x86_64", "OS": "linux"},
                "Resources": {"NanoCPUs": 4_000_000_000_i64, "MemoryBytes": 8_i64 << 30},
                "Engine": {"EngineVersion": "0.1.0", "Labels": {"disk": "ssd"}},
                "TLSInfo": tls,
            },
            "Status": {"State": "ready", "Addr": "10.0.0.1"},
            "ManagerStatus": {"Leader": true, "Reachability": "reachable", "Addr": "10.0.0.1:2377"},
        })
    );
    assert!(answer.body.ends_with("}\n"));

    let worker = served.get("/nodes/host-9").await.json();
    assert_eq!(worker["Spec"]["Role"], "worker");
    assert_eq!(
        worker["Status"],
        json!({"State": "down", "Message": "no answer for 16 s", "Addr": "10.0.0.9"})
    );
    assert!(worker.get("ManagerStatus").is_none());
    let other = served.get("/nodes/host-3").await.json();
    assert_eq!(
        other["ManagerStatus"],
        json!({"Reachability": "unreachable", "Addr": "10.0.0.3:2377"})
    );
}

#[tokio::test]
async fn nodes_are_found_by_id_name_and_prefix() {
    let served = Served::start(Fake::leader());
    let id1 = id(1).to_string();
    for name in [id1.as_str(), "host-1"] {
        assert_eq!(
            served.get(&format!("/nodes/{name}")).await.json()["ID"],
            id1
        );
    }
    served.get(&format!("/nodes/{}", &id1[..4])).await.refused(
        400,
        &format!("node {} is ambiguous (4 matches found)", &id1[..4]),
    );
    served
        .get("/nodes/nobody")
        .await
        .refused(404, "node nobody not found");
    served
        .get("/nodes/a%20b%2Fc")
        .await
        .refused(404, "node a b/c not found");
    served
        .get("/nodes/%ff")
        .await
        .refused(400, "invalid path: it is not UTF-8");
}

async fn hosts(served: &Served, filters: &Value) -> Vec<String> {
    let text: String = filters
        .to_string()
        .bytes()
        .map(|byte| format!("%{byte:02x}"))
        .collect();
    let nodes = served.get(&format!("/nodes?filters={text}")).await.json();
    let nodes = nodes.as_array().unwrap().iter();
    nodes
        .map(|node| node["Description"]["Hostname"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn lists_are_filtered() {
    let fake = Fake::leader();
    let served = Served::start(fake);
    let mut spec = served.get("/nodes/host-9").await.json()["Spec"].clone();
    spec["Labels"]["zone"] = "a".into();
    served
        .post("/nodes/host-9/update?version=19", &spec)
        .await
        .done();
    let all = ["host-1", "host-2", "host-3", "host-9"];
    for (filters, expected) in [
        (json!({}), &all[..]),
        (json!({"role": {"manager": true}}), &all[..3]),
        (json!({"role": ["WORKER"]}), &all[3..]),
        (json!({"role": ["worker", "manager"]}), &all[..]),
        (json!({"name": ["host-1", "host-9"]}), &["host-1", "host-9"]),
        (json!({"name": ["host"]}), &all[..]),
        (json!({"id": [id(2).to_string()]}), &all[1..2]),
        (json!({"node.label": ["zone=a"]}), &all[3..]),
        (json!({"node.label": ["zone=b"]}), &[]),
        (json!({"label": ["disk"], "role": ["worker"]}), &all[3..]),
        (json!({"label": ["gpu"]}), &[]),
        (json!({"membership": ["accepted"]}), &all[..]),
        (json!({"membership": ["pending"]}), &[]),
    ] {
        assert_eq!(hosts(&served, &filters).await, expected, "{filters}");
    }
    assert_eq!(
        served
            .get("/nodes?filters=%7B%22name%22%3A%5B%22x%22%5D%7D")
            .await
            .body,
        "[]\n"
    );
    for (filters, words) in [
        ("%7B%22nope%22%3A%5B%5D%7D", "invalid filter 'nope'"),
        ("%7B", "invalid filter"),
        (
            "%7B%22role%22%3A%5B%22boss%22%5D%7D",
            "invalid filter 'role=[boss]'",
        ),
    ] {
        let target = format!("/nodes?filters={filters}");
        served.get(&target).await.refused(400, words);
    }
}

#[tokio::test]
async fn updates_change_the_spec_and_guard_the_version() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let spec =
        json!({"name": "n", "LABELS": {"Zone": "a"}, "Role": "Manager", "Availability": "DRAIN"});
    served
        .post("/nodes/host-9/update?version=19", &spec)
        .await
        .done();
    let view = lock(&fake.world.view).clone();
    let node = &view.state.nodes[&id(9)];
    assert_eq!(node.spec.name, "n");
    assert_eq!(node.spec.labels["Zone"], "a");
    assert_eq!(node.spec.availability, Availability::Drain);
    assert_eq!(node.shown_role(), Role::Manager);
    served
        .post("/nodes/host-9/update?version=19", &spec)
        .await
        .refused(500, "update out of sequence");
    for (target, spec, words) in [
        (
            "host-9/update",
            json!({"Role": "worker", "Availability": "active"}),
            "invalid node version ''",
        ),
        ("host-9/update?version=1", json!({}), "invalid Role: \"\""),
        (
            "host-9/update?version=1",
            json!({"Role": "worker", "Availability": "x"}),
            "invalid Availability: \"x\"",
        ),
    ] {
        served
            .post(&format!("/nodes/{target}"), &spec)
            .await
            .refused(400, words);
    }
    served
        .post("/nodes/nobody/update?version=1", &spec)
        .await
        .refused(404, "node nobody not found");
}

#[tokio::test]
async fn the_last_manager_stays_one() {
    let fake = Fake::leader();
    lock(&fake.world.view)
        .managers
        .retain(|node, _| *node == id(1));
    let served = Served::start(fake);
    served
        .post(
            "/nodes/host-1/update?version=11",
            &json!({"Role": "worker", "Availability": "active"}),
        )
        .await
        .refused(400, "attempting to demote the last manager of the swarm");
}

#[tokio::test]
async fn only_nodes_that_are_down_are_removed() {
    let served = Served::start(Fake::leader());
    served.ask("DELETE", "/nodes/host-2").await.refused(
        400,
        "is a cluster manager and is a member of the raft cluster.",
    );
    served.ask("DELETE", "/nodes/host-9").await.done();
    served
        .ask("DELETE", "/nodes/host-9")
        .await
        .refused(404, "node host-9 not found");
}

#[tokio::test]
async fn services_are_made_even_at_the_leader() {
    let (follower, leader) = Fake::follower();
    let served = Served::start(follower.clone());
    let target = "/skein/rebalance?dryRun=1";
    let none = served.ask("POST", target).await.json();
    assert_eq!(none, json!({"Moves": [], "More": false, "DryRun": true}));
    assert_eq!(*leader.world.moved.borrow(), 0);
    let target = "/skein/rebalance?dryRun=maybe";
    let words = "invalid value for dryRun: maybe";
    served.ask("POST", target).await.refused(400, words);
    let done = served.ask("POST", "/skein/rebalance").await.json();
    assert_eq!(done["DryRun"], false);
    assert_eq!(*leader.world.moved.borrow(), 1);
    follower.edit_local(|local| local.control = false);
    served
        .ask("POST", "/skein/rebalance")
        .await
        .refused(503, "This node is not a swarm manager.");
}
