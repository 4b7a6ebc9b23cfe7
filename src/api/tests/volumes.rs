//! `/volumes…`.

use serde_json::json;

use super::fake::Fake;
use super::http::Served;

#[tokio::test]
async fn volumes_are_dockers() {
    let served = Served::start(Fake::leader());
    let listed = served.get("/volumes").await.json();
    assert_eq!(listed["Warnings"], json!(null));
    assert_eq!(
        listed["Volumes"][0],
        json!({
            "CreatedAt": "2023-11-14T22:13:20Z", "Driver": "local", "Labels": null,
            "Mountpoint": "/var/lib/skein/volumes/data/_data", "Name": "data", "Options": null, "Scope": "local",
        })
    );
    let body = json!({"Name": "new", "Labels": {"a": "b"}, "DriverOpts": {"type": "tmpfs"}});
    let made = served.post("/volumes/create", &body).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.json()["Labels"], json!({"a": "b"}));
    assert_eq!(made.json()["Options"], json!({"type": "tmpfs"}));
    let nameless = served.post("/volumes/create", &json!({})).await;
    assert_eq!(nameless.json()["Name"], "made-up");
    let shown = served.get("/volumes/new").await.json();
    assert_eq!(shown["Name"], "new");
    served
        .get("/volumes/gone")
        .await
        .refused(404, "get gone: no such volume");
    let cluster = json!({"Name": "c", "ClusterVolumeSpec": {}});
    let cluster = served.post("/volumes/create", &cluster).await;
    cluster.refused(501, "no cluster volumes");
    let update = served.ask("PUT", "/volumes/new?version=1").await;
    update.refused(404, "volume new not found");
    let outside = Served::start(Fake::outside());
    let update = outside.ask("PUT", "/volumes/new?version=1").await;
    update.refused(503, "swarm is unavailable");
}

#[tokio::test]
async fn filters_choose() {
    let served = Served::start(Fake::leader());
    served
        .post(
            "/volumes/create",
            &json!({"Name": "web-data", "Labels": {"a": "b"}}),
        )
        .await;
    for (filters, names) in [
        ("{%22name%22:[%22data%22]}", vec!["data", "web-data"]),
        (
            "{%22dangling%22:{%22true%22:true}}",
            vec!["old", "web-data"],
        ),
        ("{%22dangling%22:[%22false%22]}", vec!["data"]),
        ("{%22label%22:[%22a=b%22]}", vec!["web-data"]),
        ("{%22label!%22:[%22a%22]}", vec!["data", "old"]),
        ("{%22driver%22:[%22nfs%22]}", vec![]),
    ] {
        let listed = served
            .get(&format!("/volumes?filters={filters}"))
            .await
            .json();
        let listed: Vec<&str> = listed["Volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|volume| volume["Name"].as_str().unwrap())
            .collect();
        assert_eq!(listed, names, "{filters}");
    }
    let odd = served.get("/volumes?filters={%22scope%22:[%22x%22]}").await;
    odd.refused(400, "invalid filter 'scope'");
}

#[tokio::test]
async fn removal_and_prune() {
    let served = Served::start(Fake::leader());
    let remove = async |target: &str| served.ask("DELETE", &format!("/volumes/{target}")).await;
    let kept = remove("data").await;
    kept.refused(409, "remove data: volume is in use - [c]");
    remove("gone")
        .await
        .refused(404, "get gone: no such volume");
    for target in ["gone?force=1", "old"] {
        let gone = remove(target).await;
        assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    }
    let create = async |body| served.post("/volumes/create", &body).await;
    let prune = async |target: &str| served.ask("POST", target).await.json();
    create(json!({"Name": "named"})).await;
    create(json!({})).await;
    assert_eq!(
        prune("/v1.42/volumes/prune").await,
        json!({"VolumesDeleted": ["made-up"], "SpaceReclaimed": 1})
    );
    assert_eq!(
        prune("/v1.42/volumes/prune").await,
        json!({"VolumesDeleted": null, "SpaceReclaimed": 0})
    );
    assert_eq!(
        prune("/v1.42/volumes/prune?filters={%22all%22:[%221%22]}").await["VolumesDeleted"],
        json!(["named"])
    );
    create(json!({"Name": "named"})).await;
    assert_eq!(
        prune("/v1.41/volumes/prune").await["VolumesDeleted"],
        json!(["named"])
    );
}
