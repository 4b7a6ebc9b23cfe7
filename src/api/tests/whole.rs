//! `cluster.sock`: all nodes as one Docker host, also when one of them is away.

use std::sync::Arc;

use serde_json::{Value, json};

use super::disks;
use super::fake::{Fake, id, lock};
use super::fake_containers::container;
use super::http::Served;
use crate::model::ContainerId;

/// A leader and another node that know each other, and the cluster's socket on the leader. Node 3 is down.
fn two() -> (Arc<Fake>, Arc<Fake>, Served) {
    let (other, leader) = Fake::follower();
    lock(&leader.peers).insert(id(2), other.clone());
    *lock(&leader.containers.all) = vec![container(1, "web"), container(2, "db")];
    *lock(&other.containers.all) = vec![container(3, "web")];
    let served = Served::whole(leader.clone());
    (leader, other, served)
}

fn names(list: &Value) -> Vec<&str> {
    let items = list.as_array().unwrap().iter();
    let mut names: Vec<&str> = items.map(|one| one["Names"][0].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn containers_of_all_nodes_are_listed_and_found() {
    let (leader, other, served) = two();
    let answer = served.get("/v1.43/containers/json?all=1").await;
    let list = answer.json();
    assert_eq!(names(&list), ["/db", "/web@host-1", "/web@host-2"]);
    let warning = answer.header("warning");
    assert_eq!(warning, "199 skein \"node host-3: it is down\"");
    let filter = "%7B%22node%22%3A%5B%22host-2%22%5D%7D";
    let there = served
        .get(&format!("/containers/json?filters={filter}"))
        .await;
    assert_eq!(names(&there.json()), ["/web"]);
    let unknown = filter.replace("host-2", "host-7");
    let unknown = served
        .get(&format!("/containers/json?filters={unknown}"))
        .await;
    unknown.refused(404, "node host-7 not found");

    let third = ContainerId::from_bytes([3; 32]).to_string();
    for name in [&third, &third[..12], "web@host-2", "%2Fweb%40host-2"] {
        let found = served.get(&format!("/containers/{name}/json")).await.json();
        assert_eq!(found["Id"], third, "{name}");
    }
    assert_eq!(
        served.get("/containers/db/json").await.json()["Name"],
        "/db"
    );
    let both = served.get("/containers/web/json").await;
    both.refused(
        400,
        "web is on several nodes: say which, web@host-1 or web@host-2",
    );
    served
        .get("/containers/none/json")
        .await
        .refused(404, "No such container: none");
    let wrong = served
        .get("/containers/json?filters=%7B%22x%22%3A%5B%5D%7D")
        .await;
    wrong.refused(400, "invalid filter 'x'");
    let since = served
        .get("/containers/json?filters=%7B%22since%22%3A%5B%22a%22%5D%7D")
        .await;
    since.refused(501, "compares containers of one node");

    // What the node's own socket lists is its own, and an ID is found from there too.
    let own = Served::start(leader);
    assert_eq!(
        names(&own.get("/containers/json").await.json()),
        ["/db", "/web"]
    );
    assert_eq!(
        own.get(&format!("/containers/{third}/json")).await.status,
        200
    );
    drop(other);
}

#[tokio::test]
async fn a_machine_alone_is_all_there_is_and_a_worker_is_refused() {
    let outside = Fake::outside();
    *lock(&outside.containers.all) = vec![container(1, "web")];
    let served = Served::whole(outside);
    let answer = served.get("/containers/json").await;
    assert_eq!(
        (names(&answer.json()), answer.header("warning")),
        (vec!["/web"], "")
    );
    assert_eq!(served.get("/info").await.json()["ContainersRunning"], 1);
    let worker = Fake::leader();
    worker.edit_local(|local| local.control = false);
    let refused = Served::whole(worker).get("/containers/json").await;
    refused.refused(503, "Worker nodes can't be used");
}

#[tokio::test]
async fn images_are_one_list_and_are_looked_at_where_they_are() {
    let (leader, other, served) = two();
    let here = served.get("/images/json").await.json();
    let count = here.as_array().unwrap().len();
    assert!(count > 0);
    let nodes = here[0]["Nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 2, "{here}");
    let known = here[0]["RepoTags"][0].as_str().unwrap().to_owned();
    lock(&disks::of(&leader).images).clear();
    let there = served.get(&format!("/images/{known}/json")).await;
    assert_eq!(there.status, 200, "{there:?}");
    let gone = served.ask("DELETE", &format!("/images/{known}")).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    assert_eq!(gone.json()[0]["Untagged"], known);
    drop(other);
    served.get("/images/nosuch:1/json").await.refused(404, "");
}

#[tokio::test]
async fn volumes_of_one_name_are_told_apart() {
    let (leader, _other, served) = two();
    let list = served.get("/volumes").await.json();
    let mut names: Vec<&str> = list["Volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| volume["Name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert!(
        names.contains(&"data@host-1") && names.contains(&"data@host-2"),
        "{names:?}"
    );
    assert_eq!(list["Warnings"], json!(["node host-3: it is down"]));
    served
        .get("/volumes/data")
        .await
        .refused(400, "data@host-1 or data@host-2");
    let one = served.get("/volumes/data@host-2").await.json();
    assert_eq!(
        (&one["Name"], &one["Node"]["Name"]),
        (&json!("data"), &json!("host-2"))
    );
    lock(&disks::of(&leader).volumes).clear();
    let one = served.get("/volumes/old").await.json();
    assert_eq!(one["Node"]["Name"], "host-2");
    let removed = served.ask("DELETE", "/volumes/old").await;
    assert_eq!(removed.status, 204, "{removed:?}");
    served
        .get("/volumes/old")
        .await
        .refused(404, "get old: no such volume");
    let held = served.ask("DELETE", "/volumes/data").await;
    held.refused(409, "volume is in use");
}

#[tokio::test]
async fn info_and_df_add_up() {
    let (_leader, other, served) = two();
    let info = served.get("/info").await.json();
    assert_eq!((&info["Containers"], &info["NCPU"]), (&json!(3), &json!(8)));
    assert_eq!(info["MemTotal"], json!(16_i64 << 30));
    let warned = info["Warnings"].to_string();
    assert!(
        warned.contains("node host-3: it is down: what it has is not counted"),
        "{warned}"
    );
    let df = served.get("/system/df").await.json();
    assert!(
        df["Images"]
            .as_array()
            .is_some_and(|images| !images.is_empty())
    );
    assert!(
        df["Volumes"]
            .as_array()
            .is_some_and(|volumes| volumes.len() > 1)
    );
    assert_eq!(df["BuildCache"], json!([]));
    // A node that has nothing to say is missed, and nothing else.
    *lock(&other.disks) = None;
    let answer = served.get("/images/json").await;
    assert_eq!(answer.status, 200);
    let pruned = served.ask("POST", "/volumes/prune").await.json();
    assert!(pruned["SpaceReclaimed"].is_i64(), "{pruned}");
}

#[tokio::test]
async fn a_container_is_made_where_the_scheduler_says() {
    let (_leader, other, served) = two();
    let taken = served
        .post("/containers/create?name=web", &json!({"Image": "busybox"}))
        .await;
    taken.refused(
        409,
        "The container name \"/web\" is already in use by container",
    );
    let wrong = json!({"Image": "busybox", "Labels": {"skein.constraints": "zone"}});
    served
        .post("/containers/create", &wrong)
        .await
        .refused(400, "label skein.constraints: ");
    let made = served
        .post("/containers/create?name=new", &json!({"Image": "busybox"}))
        .await;
    // Whichever node it is, it says what it thinks of it.
    assert!([201, 404, 501].contains(&made.status), "{made:?}");
    drop(other);
}
