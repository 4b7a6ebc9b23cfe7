//! `/swarm`: what is asked of the node, and what is refused before it is asked.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use super::fake::{Fake, KEY, Lead, id, lock, odd_refusal};
use super::http::{Served, eventually};
use crate::api::backend::LocalState;
use crate::api::words;

const INIT: &str = "init listen=None advertise=None port=4789 force=false autolock=false expiry=7776000000000000 \
    Active pool=[]/24 root=false";

#[tokio::test]
async fn init_has_dockers_defaults() {
    let fake = Fake::outside();
    let served = Served::start(fake.clone());
    let answer = served.post("/v1.50/swarm/init", &json!({})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), id(1).to_string());
    assert_eq!(answer.body, format!("\"{}\"\n", id(1)));
    assert_eq!(fake.take_asked(), [INIT]);
    served
        .post("/swarm/init", &json!({}))
        .await
        .refused(503, words::ALREADY_MEMBER);
}

#[tokio::test]
async fn init_passes_on_what_is_asked() {
    let fake = Fake::outside();
    let served = Served::start(fake.clone());
    let body = json!({
        "ListenAddr": "0.0.0.0:2377", "advertiseaddr": "10.0.0.7", "DataPathPort": 5000, "AutoLockManagers": true,
        "Availability": "drain", "DefaultAddrPool": ["10.20.0.0/16"], "SubnetSize": 26, "Unknown": {"x": 1},
        "Spec": {"CAConfig": {"NodeCertExpiry": 3_600_000_000_000_i64, "SigningCACert": "c", "SigningCAKey": "k"}},
    });
    assert_eq!(served.post("/swarm/init", &body).await.status, 200);
    assert_eq!(
        fake.take_asked(),
        [
            "init listen=Some(\"0.0.0.0:2377\") advertise=Some(\"10.0.0.7\") port=5000 force=false autolock=true \
             expiry=3600000000000 Drain pool=[\"10.20.0.0/16\"]/26 root=true"
        ]
    );
}

#[tokio::test]
async fn init_refuses_what_cannot_be() {
    let fake = Fake::outside();
    let served = Served::start(fake.clone());
    for (body, words) in [
        (
            json!({"ListenAddr": "0.0.0.0:x"}),
            "listen address must be an IP",
        ),
        (
            json!({"AdvertiseAddr": "0.0.0.0"}),
            "advertise address must be a non-zero IP address",
        ),
        (
            json!({"DataPathAddr": "0.0.0.0"}),
            "data path address must be a non-zero IP address",
        ),
        (json!({"DataPathPort": 80}), "between 1024 and 49151"),
        (
            json!({"Spec": {"Name": "other"}}),
            "swarm spec must be named \"default\"",
        ),
        (json!({"SubnetSize": 30}), "subnet size is out of range: 30"),
        (
            json!({"Availability": "sometimes"}),
            "invalid Availability: \"sometimes\"",
        ),
        (
            json!({"Spec": {"CAConfig": {"NodeCertExpiry": 1}}}),
            "minimum certificate expiry time is: 1h0m0s",
        ),
        (
            json!({"ListenAddr": 5}),
            "invalid JSON: ListenAddr: invalid type",
        ),
        (json!([]), "invalid JSON: "),
    ] {
        served.post("/swarm/init", &body).await.refused(400, words);
    }
    served
        .post_as("/swarm/init", "text/plain", "{}")
        .await
        .refused(400, "unsupported Content-Type header (text/plain)");
    served
        .post_as("/swarm/init", "application/json", "{}{}")
        .await
        .refused(400, "unexpected content after JSON");
    assert!(fake.take_asked().is_empty(), "nothing was begun");
}

#[tokio::test]
async fn force_new_cluster_is_for_managers() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let body = json!({"ForceNewCluster": true});
    assert_eq!(served.post("/swarm/init", &body).await.status, 200);
    assert!(fake.take_asked()[0].contains("force=true"));
    fake.edit_local(|local| local.control = false);
    served
        .post("/swarm/init", &body)
        .await
        .refused(503, words::WORKER);
}

#[tokio::test]
async fn join_passes_on_token_and_addresses() {
    let fake = Fake::outside();
    let served = Served::start(fake.clone());
    let body = json!({
        "ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "", "DataPathAddr": "", "RemoteAddrs": ["10.0.0.1:2377", "b"],
        "JoinToken": " SWMTKN-1-x ", "Availability": "pause",
    });
    served.post("/swarm/join", &body).await.done();
    assert_eq!(
        fake.take_asked(),
        ["join SWMTKN-1-x at [\"10.0.0.1:2377\", \"b\"] Pause"]
    );
    served
        .post("/swarm/join", &body)
        .await
        .refused(503, words::ALREADY_MEMBER);
}

#[tokio::test]
async fn join_refuses_what_cannot_be_and_passes_on_the_nodes_refusal() {
    let fake = Fake::outside();
    let served = Served::start(fake.clone());
    for (body, words) in [
        (json!({}), "invalid join token"),
        (
            json!({"JoinToken": "t", "RemoteAddrs": ["a b"]}),
            "invalid remoteAddr \"a b\"",
        ),
        (
            json!({"JoinToken": "t", "RemoteAddrs": [""]}),
            "invalid remoteAddr \"\"",
        ),
        (
            json!({"JoinToken": "t", "AdvertiseAddr": "::"}),
            "advertise address must be",
        ),
    ] {
        served.post("/swarm/join", &body).await.refused(400, words);
    }
    assert!(fake.take_asked().is_empty());
    *lock(&fake.refusal) = Some(odd_refusal());
    served
        .post("/swarm/join", &json!({"JoinToken": "t"}))
        .await
        .refused(403, "because of a test");
}

#[tokio::test]
async fn leave_knows_force_and_states() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    served.ask("POST", "/swarm/leave?force=1").await.done();
    assert_eq!(fake.take_asked(), ["leave force=true"]);
    served
        .ask("POST", "/swarm/leave")
        .await
        .refused(503, words::NOT_A_MEMBER);
    fake.edit_local(|local| local.state = LocalState::Locked);
    served
        .ask("POST", "/swarm/leave?force=0")
        .await
        .refused(503, words::LOCKED_LEAVE);
    served
        .ask("POST", "/v1.40/swarm/leave?force=true")
        .await
        .done();
}

#[tokio::test]
async fn what_was_begun_is_carried_through_when_the_client_goes_away() {
    let fake = Fake::leader();
    let release = Arc::new(Notify::new());
    *lock(&fake.leave_held) = Some(release.clone());
    let served = Served::start(fake.clone());
    let mut client = served.connect().await;
    let request = b"POST /swarm/leave?force=1 HTTP/1.1\r\nHost: d\r\n\r\n";
    client.write_all(request).await.unwrap();
    eventually("leaving has begun", || !lock(&fake.asked).is_empty()).await;
    // The server's connection task, the accepting one, and the work.
    assert_eq!(served.tasks.len(), 3);
    drop(client);
    eventually("the connection is gone", || served.tasks.len() == 2).await;
    release.notify_one();
    let left = || lock(&fake.local).state == LocalState::Inactive;
    eventually("the node has left", left).await;
}

#[tokio::test]
async fn unlock_knows_keys_and_states() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let unlock = |key: &str| json!({ "UnlockKey": key });
    served
        .post("/swarm/unlock", &unlock(KEY))
        .await
        .refused(409, "swarm is not locked");
    fake.edit_local(|local| local.state = LocalState::Locked);
    served
        .post("/swarm/unlock", &unlock("nonsense"))
        .await
        .refused(400, "invalid unlock key");
    let other = KEY.replace("7c37", "8d48");
    served
        .post("/swarm/unlock", &unlock(&other))
        .await
        .refused(401, "swarm could not be unlocked: invalid key provided");
    served.post("/swarm/unlock", &unlock(KEY)).await.done();
    fake.edit_local(|local| local.state = LocalState::Inactive);
    served
        .post("/swarm/unlock", &unlock(KEY))
        .await
        .refused(503, words::INACTIVE);
}

/// Tokens are shown with the digest of the root's PEM, and nothing secret else.
#[tokio::test]
async fn inspect_shows_the_swarm_as_docker_does() {
    let served = Served::start(Fake::leader());
    let answer = served.get("/v1.50/swarm").await;
    let swarm = answer.json();
    let keys: Vec<&str> = answer
        .body
        .match_indices("\"ID\":")
        .map(|(_, key)| key)
        .collect();
    assert_eq!(keys.len(), 1);
    assert!(answer.body.starts_with("{\"ID\":\""), "{}", answer.body);
    assert_eq!(swarm["Version"], json!({"Index": 7}));
    assert_eq!(swarm["CreatedAt"], "2023-11-14T22:13:20Z");
    assert_eq!(swarm["Spec"]["Raft"]["SnapshotInterval"], 10_000);
    assert_eq!(swarm["Spec"]["Labels"], json!({}));
    assert_eq!(swarm["RootRotationInProgress"], false);
    assert_eq!(
        (&swarm["SubnetSize"], &swarm["DataPathPort"]),
        (&json!(24), &json!(4789))
    );
    let root = swarm["TLSInfo"]["TrustRoot"].as_str().unwrap();
    let digest = crate::identity::RootDigest::of_pem(root);
    for (kind, secret) in [("Worker", "a"), ("Manager", "b"), ("Peer", "c")] {
        let token = format!("SWMTKN-1-{digest}-{}", secret.repeat(25));
        assert_eq!(swarm["JoinTokens"][kind], token);
    }
    assert!(!answer.body.contains("SigningCA"));
    assert!(!answer.body.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn update_is_guarded_by_the_version() {
    let served = Served::start(Fake::leader());
    let swarm = served.get("/swarm").await.json();
    let mut spec = swarm["Spec"].clone();
    spec["Labels"]["team"] = "x".into();
    let old = served
        .post("/swarm/update?version=6&rotateWorkerToken=false", &spec)
        .await;
    old.refused(500, "update out of sequence");
    assert_eq!(
        old.json()["message"],
        "rpc error: code = Unknown desc = update out of sequence"
    );
    served
        .post(
            "/swarm/update?version=7&rotateWorkerToken=true&rotateManagerToken=false&rotateManagerUnlockKey=false\
             &rotatePeerToken=1",
            &spec,
        )
        .await
        .done();
    let new = served.get("/swarm").await.json();
    assert_eq!(new["Spec"]["Labels"], json!({"team": "x"}));
    let changed = |kind: &str| swarm["JoinTokens"][kind] != new["JoinTokens"][kind];
    assert!(changed("Worker") && changed("Peer") && !changed("Manager"));
    for (query, words) in [
        ("", "invalid swarm version ''"),
        ("version=x", "invalid swarm version 'x'"),
        (
            "version=8&rotateWorkerToken=maybe",
            "invalid value for rotateWorkerToken: maybe",
        ),
    ] {
        let target = format!("/swarm/update?{query}");
        served.post(&target, &spec).await.refused(400, words);
    }
}

#[tokio::test]
async fn the_unlock_key_is_shown_when_there_is_one() {
    let served = Served::start(Fake::leader());
    let key = async || served.get("/swarm/unlockkey").await.json();
    assert_eq!(key().await, json!({"UnlockKey": ""}));
    let mut spec = served.get("/swarm").await.json()["Spec"].clone();
    spec["EncryptionConfig"]["AutoLockManagers"] = true.into();
    served.post("/swarm/update?version=7", &spec).await.done();
    assert_eq!(key().await, json!({ "UnlockKey": KEY }));
}

#[tokio::test]
async fn cluster_commands_are_refused_in_dockers_words() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let spec: Value = json!({"Role": "worker", "Availability": "active"});
    for (state, control, words) in [
        (LocalState::Active, false, words::WORKER),
        (LocalState::Inactive, false, words::INACTIVE),
        (LocalState::Locked, true, words::LOCKED),
        (LocalState::Pending, true, words::PENDING),
    ] {
        fake.edit_local(|local| (local.state, local.control) = (state, control));
        for target in ["/swarm", "/swarm/unlockkey", "/nodes", "/nodes/x"] {
            served.get(target).await.refused(503, words);
        }
        for target in ["/swarm/update?version=1", "/nodes/x/update?version=1"] {
            served.post(target, &spec).await.refused(503, words);
        }
        served.ask("DELETE", "/nodes/x").await.refused(503, words);
    }
    fake.edit_local(|local| (local.state, local.control) = (LocalState::Active, true));
    fake.set_lead(Lead::Nobody);
    served.get("/nodes").await.refused(
        503,
        "The swarm does not have a leader. It's possible that too few managers are online.",
    );
}

#[tokio::test]
async fn recover_is_for_members() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let answer = served.ask("POST", "/skein/recover").await.json();
    assert_eq!(
        answer,
        json!({"Message": "This node is the only manager now."})
    );
    fake.edit_local(|local| local.state = LocalState::Inactive);
    served
        .ask("POST", "/skein/recover")
        .await
        .refused(503, words::NOT_A_MEMBER);
}
