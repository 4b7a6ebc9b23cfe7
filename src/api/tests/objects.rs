//! `/secrets`, `/configs` and `/networks`: shapes, statuses, words, by hand and with the real docker command.

use serde_json::{Value, json};

use super::docker::both;
use super::fake::Fake;
use super::http::Served;
use crate::api::backend::LocalState;

/// Filters as they stand in a query.
fn encoded(filters: &Value) -> String {
    let text = filters.to_string();
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

async fn names(served: &Served, kind: &str, filters: Value) -> Vec<String> {
    let target = format!("/{kind}?filters={}", encoded(&filters));
    let listed = served.get(&target).await.json();
    let names = listed.as_array().unwrap().iter().map(|one| {
        let name = one.pointer("/Spec/Name").unwrap_or_else(|| &one["Name"]);
        name.as_str().unwrap().to_owned()
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn secrets_and_configs_are_made_shown_relabelled_and_removed() {
    for (kind, one) in [("secrets", "secret"), ("configs", "config")] {
        let served = Served::start(Fake::leader());
        let create = format!("/{kind}/create");
        let body = json!({"Name": "key", "Labels": {"a": "b"}, "Data": "aHVudGVyMg=="});
        let made = served.post(&create, &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let id = made.json()["ID"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 25);
        served
            .post(&create, &body)
            .await
            .refused(409, &format!("{one} key already exists"));
        for input in ["key", &id, &id[..20]] {
            let shown = served.get(&format!("/{kind}/{input}")).await.json();
            assert_eq!(
                (&shown["ID"], &shown["Spec"]["Name"]),
                (&json!(id), &json!("key"))
            );
            let data = match one {
                "config" => json!("aHVudGVyMg=="),
                _ => Value::Null,
            };
            assert_eq!(shown["Spec"]["Data"], data, "a secret is never shown");
            assert_eq!(shown["Spec"]["Labels"], json!({"a": "b"}));
        }
        for (filters, found) in [
            (json!({}), true),
            (json!({"name": ["ke"]}), true),
            (json!({"name": ["x"]}), false),
            (json!({"id": [&id[..20]]}), true),
            (json!({"label": ["a=b"]}), true),
            (json!({"label": ["a=c"]}), false),
        ] {
            let listed = names(&served, kind, filters.clone()).await;
            assert_eq!(listed == ["key"], found, "{filters}");
        }
        let wrong = encoded(&json!({"colour": ["x"]}));
        served
            .get(&format!("/{kind}?filters={wrong}"))
            .await
            .refused(400, "invalid filter 'colour'");
    }
}

#[tokio::test]
async fn of_secrets_and_configs_only_labels_change() {
    for (kind, one) in [("secrets", "secret"), ("configs", "config")] {
        let served = Served::start(Fake::leader());
        let body = json!({"Name": "key", "Labels": {"a": "b"}, "Data": "aHVudGVyMg=="});
        served.post(&format!("/{kind}/create"), &body).await.json();
        let shown = served.get(&format!("/{kind}/key")).await.json();
        let version = &shown["Version"]["Index"];
        let id = shown["ID"].as_str().unwrap();
        let target = format!("/{kind}/{id}/update?version={version}");
        let labels = json!({"Name": "key", "Labels": {"c": "d"}, "Data": "aHVudGVyMg=="});
        served.post(&target, &labels).await.done();
        served
            .post(&target, &labels)
            .await
            .refused(500, "update out of sequence");
        let other = json!({"Name": "key", "Labels": {}, "Data": "b3RoZXI="});
        served
            .post(&target, &other)
            .await
            .refused(400, "only updates to Labels are allowed");
        served
            .post(&format!("/{kind}/none/update?version=1"), &other)
            .await
            .refused(404, &format!("{one} none not found"));
        served
            .post(&format!("/{kind}/key/update"), &other)
            .await
            .refused(400, &format!("invalid {one} version ''"));
        let gone = served.ask("DELETE", &format!("/{kind}/key")).await;
        assert_eq!((gone.status, gone.body.as_str()), (204, ""));
        served
            .ask("DELETE", &format!("/{kind}/key"))
            .await
            .refused(404, &format!("{one} key not found"));
        assert_eq!(served.get(&format!("/{kind}")).await.body, "[]\n");
    }
}

#[tokio::test]
async fn what_no_secret_or_config_can_be_is_refused() {
    use base64::Engine;
    let served = Served::start(Fake::leader());
    let data = |length: usize| {
        let bytes = vec![b'x'; length];
        base64::engine::general_purpose::STANDARD.encode(bytes)
    };
    for (target, body, status, words) in [
        (
            "/secrets/create",
            json!({"Data": "eA=="}),
            400,
            "name must be provided",
        ),
        (
            "/secrets/create",
            json!({"Name": "a b", "Data": "eA=="}),
            400,
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed",
        ),
        (
            "/secrets/create",
            json!({"Name": "a"}),
            400,
            "secret data must be larger than 0 and less than 512000 bytes",
        ),
        (
            "/secrets/create",
            json!({"Name": "a", "Data": data(512_000)}),
            400,
            "secret data must be larger than 0 and less than 512000 bytes",
        ),
        (
            "/configs/create",
            json!({"Name": "a", "Data": data(1_024_000)}),
            400,
            "config data must be larger than 0 and less than 1024000 bytes",
        ),
        (
            "/configs/create",
            json!({"Name": "a", "Data": "eA==", "Templating": {"Name": "jinja"}}),
            400,
            "unrecognized template type: \"jinja\"",
        ),
        (
            "/secrets/create",
            json!({"Name": "a", "Driver": {"Name": "vault"}}),
            501,
            "there is no driver \"vault\" of secrets",
        ),
        (
            "/secrets/create",
            json!({"Name": "a", "Data": "?"}),
            400,
            "invalid JSON: Data",
        ),
    ] {
        served.post(target, &body).await.refused(status, words);
    }
    let largest = json!({"Name": "a", "Data": data(1_023_999)});
    assert_eq!(served.post("/configs/create", &largest).await.status, 201);
}

#[tokio::test]
async fn networks_are_made_found_and_removed() {
    let served = Served::start(Fake::leader());
    let body = json!({"Name": "front", "Driver": "overlay", "Attachable": true, "Labels": {"a": "b"},
        "Options": {"encrypted": ""}, "IPAM": {"Config": [{"Subnet": "10.9.0.0/16"}]}});
    let made = served.post("/networks/create", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json()["Warning"], "");
    let id = made.json()["Id"].as_str().unwrap().to_owned();
    served
        .post("/networks/create", &body)
        .await
        .refused(409, "network with name front already exists");
    let shown = served.get("/networks/front").await.json();
    for (key, value) in [
        ("Name", json!("front")),
        ("Id", json!(id)),
        ("Scope", json!("swarm")),
        ("Driver", json!("overlay")),
        ("EnableIPv6", json!(false)),
        ("Attachable", json!(true)),
        ("Ingress", json!(false)),
        ("Containers", json!({})),
        ("Options", json!({"encrypted": ""})),
        ("Labels", json!({"a": "b"})),
        ("ConfigFrom", json!({"Network": ""})),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    for (filters, found) in [
        (json!({}), vec!["front", "host", "none"]),
        (json!({"driver": ["overlay"]}), vec!["front"]),
        (json!({"scope": ["local"]}), vec!["host", "none"]),
        (json!({"type": ["custom"]}), vec!["front"]),
        (json!({"label": ["a=b"]}), vec!["front"]),
        (json!({"dangling": ["true"]}), vec!["front"]),
        (json!({"dangling": ["false"]}), vec!["host", "none"]),
        (json!({"id": [&id[..20]]}), vec!["front"]),
    ] {
        assert_eq!(
            names(&served, "networks", filters.clone()).await,
            found,
            "{filters}"
        );
    }
}

#[tokio::test]
async fn networks_are_asked_for_by_scope_attached_to_and_removed() {
    let served = Served::start(Fake::leader());
    let body = json!({"Name": "front", "Driver": "overlay", "Attachable": true});
    let made = served.post("/networks/create", &body).await.json();
    let id = made["Id"].as_str().unwrap();
    let host = served.get("/networks/host?scope=swarm").await.json();
    assert_eq!(
        (&host["Id"], &host["Scope"]),
        (&json!("host"), &json!("swarm"))
    );
    served
        .get("/networks/front?scope=local")
        .await
        .refused(404, "network front not found");
    for (target, words, status) in [
        (
            "/networks/front/connect",
            "skein attaches no containers to networks",
            501,
        ),
        (
            "/networks/host/disconnect",
            "container cannot be disconnected from host network",
            403,
        ),
        ("/networks/nil/connect", "network nil not found", 404),
    ] {
        let body = json!({"Container": "c"});
        served.post(target, &body).await.refused(status, words);
    }
    let gone = served.ask("DELETE", &format!("/networks/{id}")).await;
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    for (target, status, words) in [
        ("/networks/front", 404, "network front not found"),
        (
            "/networks/host",
            403,
            "host is a pre-defined network and cannot be removed",
        ),
    ] {
        served.ask("DELETE", target).await.refused(status, words);
    }
}

#[tokio::test]
async fn a_machine_outside_of_a_cluster_shows_its_own_networks() {
    let fake = Fake::outside();
    fake.edit_local(|local| local.state = LocalState::Inactive);
    let served = Served::start(fake);
    assert_eq!(
        names(&served, "networks", json!({})).await,
        ["host", "none"]
    );
    assert_eq!(served.get("/networks/none").await.json()["Driver"], "null");
    let body = json!({"Name": "a", "Driver": "overlay"});
    served
        .post("/networks/create", &body)
        .await
        .refused(503, "This node is not a swarm manager");
    served
        .get("/secrets")
        .await
        .refused(503, "This node is not a swarm manager");
}

#[tokio::test]
async fn docker_makes_lists_inspects_and_removes_them() {
    for docker in both().await {
        let file = docker.file("key", "hunter2");
        for kind in ["secret", "config"] {
            let id = docker
                .says(&[kind, "create", "--label", "a=b", "key", &file])
                .await;
            assert_eq!(id.len(), 25, "{id}");
            let listed = docker
                .says(&[kind, "ls", "--format", "{{.ID}} {{.Name}}"])
                .await;
            assert_eq!(listed, format!("{id} key"));
            let shown = docker.says(&[kind, "inspect", "--pretty", "key"]).await;
            assert!(shown.contains("a=b"), "{shown}");
            assert_eq!(shown.contains("hunter2"), kind == "config", "{shown}");
            let again = [kind, "create", "key", &file];
            docker
                .is_refused(&again, &format!("{kind} key already exists"))
                .await;
            assert_eq!(docker.says(&[kind, "rm", "key"]).await, "key");
            docker.is_refused(&[kind, "inspect", "key"], "key").await;
        }
        let id = docker
            .says(&[
                "network",
                "create",
                "-d",
                "overlay",
                "--subnet",
                "10.9.0.0/16",
                "--attachable",
                "net",
            ])
            .await;
        let format = "{{.ID}} {{.Name}} {{.Driver}} {{.Scope}}";
        let list = [
            "network",
            "ls",
            "--no-trunc",
            "--filter",
            "driver=overlay",
            "--format",
            format,
        ];
        assert_eq!(docker.says(&list).await, format!("{id} net overlay swarm"));
        docker
            .is_refused(&["network", "create", "local"], "add --driver overlay")
            .await;
        docker
            .is_refused(
                &["network", "connect", "net", "c"],
                "skein attaches no containers",
            )
            .await;
        assert!(
            docker
                .says(&["network", "prune", "-f"])
                .await
                .contains("net")
        );
        docker
            .is_refused(&["network", "rm", "net"], "network net not found")
            .await;
    }
}
