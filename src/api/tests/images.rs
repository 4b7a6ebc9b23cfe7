//! `/images/…`, `/auth` and `/system/df`.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::disks::{self, digest};
use super::fake::Fake;
use super::http::{DEADLINE, Served};
use super::world::lock;

#[tokio::test]
async fn a_list_is_dockers() {
    let served = Served::start(Fake::leader());
    let listed = served.get("/v1.50/images/json").await.json();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert_eq!(
        listed[1],
        json!({
            "Containers": -1, "Created": 2000, "Id": digest(2), "Labels": {"tier": "2"}, "ParentId": "",
            "Descriptor": {
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(52), "size": 500,
            },
            "RepoDigests": [], "RepoTags": ["busybox:latest", "busybox:1"], "SharedSize": -1, "Size": 3000,
        })
    );
    let old = served.get("/v1.41/images/json?shared-size=1").await.json();
    assert_eq!(old[2]["RepoTags"], json!(["<none>:<none>"]));
    assert_eq!(old[2]["RepoDigests"], json!(["<none>@<none>"]));
    assert_eq!(old[1]["VirtualSize"], 3000);
    assert_eq!(old[1]["SharedSize"], 1000);
    assert!(old[1].get("Descriptor").is_none());
}

#[tokio::test]
async fn filters_choose() {
    let served = Served::start(Fake::leader());
    for (filters, found) in [
        (json!({"dangling": ["true"]}), vec![1]),
        (json!({"dangling": ["0"]}), vec![3, 2]),
        (json!({"reference": ["busybox"]}), vec![2]),
        (json!({"reference": ["*/*/*"]}), vec![3]),
        (json!({"label": ["tier=3"]}), vec![3]),
        (json!({"label!": ["tier=3"]}), vec![2, 1]),
        (json!({"before": ["busybox"]}), vec![1]),
        (json!({"since": ["busybox:1"]}), vec![3]),
        (json!({"until": ["2000"]}), vec![1]),
    ] {
        let target = format!(
            "/images/json?filters={}",
            filters.to_string().replace('"', "%22")
        );
        let listed = served.get(&target).await.json();
        let listed = listed.as_array().unwrap().iter();
        let listed: Vec<String> = listed.map(|image| image["Id"].to_string()).collect();
        let wanted: Vec<String> = found
            .iter()
            .map(|n| format!("\"{}\"", digest(*n)))
            .collect();
        assert_eq!(listed, wanted, "{filters}");
    }
    let one = served
        .get("/images/json?filters={%22reference%22:[%22busybox:1%22]}")
        .await
        .json();
    assert_eq!(one[0]["RepoTags"], json!(["busybox:1"]));
    for (filters, status, words) in [
        ("{%22nmae%22:[%22x%22]}", 400, "invalid filter 'nmae'"),
        (
            "{%22dangling%22:[%22x%22]}",
            400,
            "invalid filter 'dangling=[x]'",
        ),
        (
            "{%22reference%22:[%22[%22]}",
            400,
            "invalid filter 'reference=[[]'",
        ),
        ("{%22before%22:[%22gone%22]}", 404, "No such image: gone"),
        ("{%22until%22:[%22soon%22]}", 400, "invalid until time"),
    ] {
        let answer = served.get(&format!("/images/json?filters={filters}")).await;
        answer.refused(status, words);
    }
}

#[tokio::test]
async fn an_inspect_is_dockers_for_each_version() {
    let served = Served::start(Fake::leader());
    for name in [
        "registry.test:5000/team/app:2",
        "registry.test:5000%2Fteam%2Fapp:2",
    ] {
        let image = served.get(&format!("/images/{name}/json")).await.json();
        assert_eq!(image["Id"], json!(digest(3)));
    }
    let image = served.get("/v1.50/images/busybox/json").await.json();
    assert_eq!(image["Created"], "1970-01-01T00:33:20Z");
    assert_eq!(image["Author"], "somebody");
    assert_eq!(image["Comment"], "last");
    assert_eq!(
        image["Config"],
        json!({
            "Cmd": ["sh"], "Entrypoint": null, "Env": null, "Labels": {"a": "b"}, "OnBuild": null, "User": "",
            "Volumes": null, "WorkingDir": "",
        })
    );
    assert_eq!(
        image["RootFS"],
        json!({"Type": "layers", "Layers": [digest(101), digest(102)]})
    );
    assert_eq!(
        image["GraphDriver"],
        json!({"Data": null, "Name": "overlayfs"})
    );
    assert!(image.get("VirtualSize").is_none());
    let old = served.get("/v1.40/images/busybox/json").await.json();
    assert_eq!(old["Config"]["Hostname"], "");
    assert_eq!(old["Config"]["Tty"], false);
    assert_eq!(old["VirtualSize"], 3000);
    served
        .get("/images/gone/json")
        .await
        .refused(404, "No such image: gone");
    let other = "{%22os%22:%22linux%22,%22architecture%22:%22arm64%22}";
    let target = format!("/images/busybox/json?platform={other}");
    let answer = served.get(&target).await;
    answer.refused(404, "its platform (linux/amd64) does not match");
}

#[tokio::test]
async fn history_tag_and_removal() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    assert_eq!(
        served.get("/images/busybox/history").await.json(),
        json!([
            {"Comment": "", "Created": 7, "CreatedBy": "CMD", "Id": digest(2),
                "Size": 10, "Tags": ["busybox:latest", "busybox:1"]},
            {"Comment": "", "Created": 7, "CreatedBy": "ADD", "Id": "<missing>", "Size": 10, "Tags": null},
        ])
    );
    let tagged = served
        .ask("POST", "/images/busybox/tag?repo=r.test/b&tag=2")
        .await;
    assert_eq!((tagged.status, tagged.body.as_str()), (201, ""));
    assert_eq!(disks::of(&fake).take_asked(), ["tag busybox r.test/b:2"]);
    let bad = served.ask("POST", "/images/busybox/tag?repo=R&tag=2").await;
    bad.refused(400, "must be lowercase");
    let kept = served.ask("DELETE", "/images/busybox:latest").await;
    kept.refused(409, "conflict: ");
    let gone = served.ask("DELETE", "/images/busybox:latest?force=1").await;
    assert_eq!(
        gone.json(),
        json!([{"Untagged": "busybox:latest"}, {"Deleted": digest(2)}])
    );
    let pruned = served
        .ask(
            "POST",
            "/images/prune?filters={%22dangling%22:[%22false%22],%22label!%22:[%22x%22]}",
        )
        .await;
    assert_eq!(
        pruned.json(),
        json!({"ImagesDeleted": null, "SpaceReclaimed": 0})
    );
    let asked = disks::of(&fake).take_asked();
    assert!(
        asked[0].contains("all: true") && asked[0].contains("not_labels: [\"x\"]"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_pull_tells_lines_and_how_it_ends() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let request = "POST /v1.50/images/create?fromImage=busybox&tag=1&platform=linux/arm64 HTTP/1.1\r\nHost: d\r\n\
                   Connection: close\r\nX-Registry-Auth: e30=\r\nContent-Length: 0\r\n\r\n";
    let answer = served.send(request).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let lines: Vec<&str> = answer.body.split("\r\n").collect();
    assert_eq!(lines[0], r#"{"status":"Pulling from library/x"}"#);
    assert!(lines[1].starts_with(r#"{"status":"Downloading","progressDetail":{"#));
    assert!(lines.len() < 5000, "what is outdated is not told");
    assert_eq!(
        &lines[lines.len() - 2..],
        [r#"{"status":"Status: done"}"#, ""]
    );
    assert_eq!(
        disks::of(&fake).take_asked(),
        ["pull busybox:1 auth=e30= platform=linux/arm64"]
    );

    let create = async |query: &str| served.ask("POST", &format!("/images/create?{query}")).await;
    let none = create("fromImage=none&tag=1").await;
    none.refused(404, "pull access denied for none:1");
    let broken = create("fromImage=broken&tag=1").await;
    assert_eq!(broken.status, 200);
    let last =
        "{\"errorDetail\":{\"message\":\"unexpected EOF\"},\"error\":\"unexpected EOF\"}\r\n";
    assert!(broken.body.ends_with(last), "{broken:?}");
    let target = "/images/create?fromSrc=-&repo=a";
    let archive = "x".repeat(10 << 20);
    let import = served.post_as(target, "text/plain", &archive).await;
    import.refused(501, "does not import");
    create("fromImage=busybox")
        .await
        .refused(501, "name one of them");
    create("fromImage=Busybox&tag=1")
        .await
        .refused(400, "must be lowercase");
    let search = served.get("/images/search?term=x").await;
    search.refused(501, "does not search");
}

#[tokio::test]
async fn a_pull_ends_with_its_client_and_with_the_server() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let mut under_way = disks::of(&fake).under_way.subscribe();
    let request = "POST /images/create?fromImage=endless&tag=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n";
    for leaves in [true, false] {
        let mut client = served.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200", "what is told comes at once");
        if leaves {
            drop(client);
        } else {
            served.stop.cancel();
            let mut rest = String::new();
            client.read_to_string(&mut rest).await.unwrap();
            assert!(rest.contains("the daemon stops"), "{rest}");
        }
        let ended = tokio::time::timeout(DEADLINE, under_way.wait_for(|count| *count == 0));
        ended.await.expect("it ends").unwrap();
    }
}

#[tokio::test]
async fn a_load_whose_client_vanishes_ends() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let mut under_way = disks::of(&fake).under_way.subscribe();
    let mut client = served.connect().await;
    let request = "POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\nbegun";
    client.write_all(request.as_bytes()).await.unwrap();
    let begun = tokio::time::timeout(DEADLINE, under_way.wait_for(|count| *count == 1));
    drop(begun.await.expect("it begins").unwrap());
    drop(client);
    let ended = tokio::time::timeout(DEADLINE, under_way.wait_for(|count| *count == 0));
    ended.await.expect("it ends").unwrap();
}

#[tokio::test]
async fn archives_stream_both_ways() {
    let served = Served::start(Fake::leader());
    let archive = "x".repeat(10 << 20);
    let load = async |query: &str, body: &str| {
        let target = format!("/images/load?{query}");
        served.post_as(&target, "application/x-tar", body).await
    };
    let loaded = load("quiet=0", &archive).await;
    assert_eq!(loaded.header("content-type"), "application/json");
    assert!(loaded.body.contains("Loading layer"), "{loaded:?}");
    assert!(
        loaded
            .body
            .contains(r#"{"stream":"Loaded 10485760 bytes\n"}"#)
    );
    for query in ["quiet=1", ""] {
        let loaded = load(query, "abc").await;
        assert_eq!(loaded.body, "{\"stream\":\"Loaded 3 bytes\\n\"}\r\n");
    }
    // A client that goes on sending reads the answer when it has done so.
    let bad = load("", &format!("bad{archive}")).await;
    assert_eq!(
        bad.status, 200,
        "its client knows only failures in the stream"
    );
    assert!(bad.body.starts_with("{\"errorDetail\""), "{bad:?}");
    load("platform=x", &archive)
        .await
        .refused(501, "does not load one platform");

    let saved = served
        .get("/images/get?names=busybox&names=registry.test:5000/team/app:2")
        .await;
    assert_eq!(saved.header("content-type"), "application/x-tar");
    assert_eq!(saved.body.len(), 6_000_000);
    let one = served
        .get("/images/registry.test:5000/team/app:2/get")
        .await;
    assert_eq!(one.body.len(), 3_000_000);
    let missing = served.get("/images/get?names=busybox&names=gone").await;
    missing.refused(404, "No such image: gone");
    served
        .get("/images/get")
        .await
        .refused(400, "no image is named");
}

#[tokio::test]
async fn push_and_login() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let push = async |target: &str| served.ask("POST", &format!("/images/{target}")).await;
    let pushed = push("registry.test:5000/team/app/push?tag=2").await;
    assert!(
        pushed.body.ends_with("{\"aux\":{\"Tag\":\"1\"}}\r\n"),
        "{pushed:?}"
    );
    push("busybox/push").await;
    assert_eq!(
        disks::of(&fake).take_asked(),
        [
            "push registry.test:5000/team/app:2 auth=",
            "push busybox:latest auth=",
            "push busybox:1 auth="
        ]
    );
    let none = push("nothing/push").await;
    none.refused(404, "An image does not exist locally with the tag: nothing");

    let login = async |password: &str| {
        let body = json!({"username": "u", "password": password, "serveraddress": "r.test"});
        served.post("/auth", &body).await
    };
    assert_eq!(
        login("right").await.json(),
        json!({"Status": "Login Succeeded", "IdentityToken": ""})
    );
    login("wrong")
        .await
        .refused(401, "login attempt to r.test failed");
}

#[tokio::test]
async fn disk_usage_counts_what_is_shared_once() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let usage = served.get("/system/df").await.json();
    assert_eq!(usage["LayersSize"], 6000);
    assert_eq!(usage["Images"][1]["Containers"], 3);
    assert_eq!(usage["Images"][1]["SharedSize"], 1000);
    assert_eq!(
        usage["Volumes"][0]["UsageData"],
        json!({"RefCount": 1, "Size": 4096})
    );
    assert_eq!(usage["Volumes"][1]["UsageData"]["Size"], -1);
    assert_eq!(usage["BuildCache"], json!([]));
    let some = served
        .get("/system/df?type=volume&type=build-cache")
        .await
        .json();
    assert_eq!(some["Images"], json!([]));
    assert_eq!(some["Volumes"].as_array().unwrap().len(), 2);
    let odd = served.get("/system/df?type=moon").await;
    odd.refused(400, "unknown object type: moon");

    *lock(&fake.disks) = None;
    for target in ["/images/json", "/volumes", "/system/df", "/images/x/json"] {
        let answer = served.get(target).await;
        answer.refused(503, "no containerd answers: start it");
    }
    assert_eq!(served.get("/plugins").await.json(), json!([]));
}
