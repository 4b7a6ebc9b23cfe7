//! Pushing to a registry, and pulls that several share.

use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use skein::agent::images::{Images, Progress, Step};
use tokio::fs::File as AsyncFile;
use tokio::task::JoinSet;

use crate::make::{Layout, sample, skopeo};
use crate::pull::password;
use crate::world::{Told, World};

/// What a registry has under a name.
fn raw(name: &str) -> Value {
    let output = std::process::Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false"])
        .args(["--creds", "user:geheim", &format!("docker://{name}")])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {words}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn push_fails(images: &Images, name: &str) -> String {
    let pushed = images.push(name, None, &Progress::none()).await;
    pushed.unwrap_err().to_string()
}

/// Loads `app:1`, an index of two platforms. Gives the digest of the manifest for amd64.
async fn load_index(world: &World, images: &Images) -> String {
    let layout = Layout::new(&world.path("layout"));
    let amd = layout.image("amd64", &[layout.layer(&[("arch", b"amd64")])]);
    let arm = layout.image("arm64", &[layout.layer(&[("arch", b"arm64")])]);
    layout.name(&layout.index(&[amd.clone(), arm]), "both");
    let archive = world.path("both.tar");
    let target = format!("oci-archive:{}:app:1", archive.display());
    skopeo(&["copy", "--all", &layout.source("both"), &target]);
    let file = AsyncFile::open(&archive).await.unwrap();
    images.load(file, &Progress::none()).await.unwrap();
    amd["digest"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_pushed_whole_when_it_is_here_whole() {
    let Some(world) = World::isolated() else {
        return;
    };
    let registry = world.registry(true);
    let full = world.node().await;
    let amd = load_index(&world, &full).await;
    let auth = password("user", "geheim");
    let name = format!("{}/team/app:1", registry.address);
    full.tag("app:1", &name).await.unwrap();

    assert!(
        push_fails(&full, &name)
            .await
            .contains("no basic auth credentials")
    );
    let told = Told::default();
    let pushed = full
        .push(&name, Some(&auth), &told.progress())
        .await
        .unwrap();
    assert_eq!(pushed.tag, "1");
    assert_eq!(raw(&name)["manifests"].as_array().unwrap().len(), 2);
    let local = full.resolve(&name).await.unwrap().unwrap();
    assert_eq!(
        (pushed.digest, pushed.size),
        (local.target.digest, local.target.size)
    );
    for words in [
        &format!(
            ": The push refers to repository [{}/team/app]",
            registry.address
        ),
        "Preparing",
        "Pushing",
        "Pushed",
        &format!(": 1: digest: {} size: {}", pushed.digest, pushed.size),
    ] {
        assert!(told.says(words), "{words}: {:?}", told.lines());
    }
    let told = Told::default();
    full.push(&name, Some(&auth), &told.progress())
        .await
        .unwrap();
    assert!(told.says("Layer already exists") && !told.says("Pushed"));

    // A node that has pulled it has one platform of it, and pushes that.
    let part = world.node().await;
    let pulled = part.pull(&name, Some(&auth), None, &Progress::none()).await;
    assert!(pulled.unwrap().index.is_some());
    let other = format!("{}/team/part:1", registry.address);
    part.tag(&name, &other).await.unwrap();
    let pushed = part
        .push(&other, Some(&auth), &Progress::none())
        .await
        .unwrap();
    assert_eq!(pushed.digest.to_string(), amd);
    assert_eq!(raw(&other)["layers"].as_array().unwrap().len(), 1);

    let none = format!("{}/team/app:9", registry.address);
    assert_eq!(
        push_fails(&part, &none).await,
        format!("tag does not exist: {none}")
    );
    let pinned = format!("{}/team/app@{}", registry.address, pushed.digest);
    assert_eq!(
        push_fails(&part, &pinned).await,
        "cannot push a digest reference"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_tried() {
    let Some(world) = World::new() else { return };
    let (open, locked) = (world.registry(false), world.registry(true));
    let images = world.node().await;
    let (right, wrong) = (password("user", "geheim"), password("user", "nix"));
    let url = format!("http://{}/v2/", locked.address);
    for server in [&locked.address, &url] {
        images.login(server, &right).await.unwrap();
        let refused = images.login(server, &wrong).await.unwrap_err();
        let words = format!("Head \"{url}\": 401 Unauthorized");
        assert_eq!(refused.to_string(), words);
    }
    images.login(&open.address, &wrong).await.unwrap();
    let address = open.stop();
    let gone = images.login(&address, &right).await.unwrap_err();
    assert!(gone.to_string().ends_with("connection refused"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_given_up_goes_on_for_whoever_shares_it() {
    let Some(world) = World::new() else { return };
    let registry = world.registry(false);
    let layout = sample(&world.path("layout"), "one", 1, 6_000_000);
    registry.push(&layout, "one", "app:1");
    let images = world.node().await;
    let name = format!("{}/app:1", registry.address);

    let (begun, has_begun) = sync_channel(1);
    let (release, released) = sync_channel::<()>(1);
    let released = Mutex::new(released);
    let held = Progress::to(move |update| {
        if matches!(update.step, Step::Downloading(..)) && begun.try_send(()).is_ok() {
            let released = released.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = released.recv_timeout(Duration::from_secs(20));
        }
    });
    let pull = |progress: Progress| {
        let (images, name) = (images.clone(), name.clone());
        async move { images.pull(&name, None, None, &progress).await }
    };
    let (mut first, mut second) = (JoinSet::new(), JoinSet::new());
    first.spawn(pull(held));
    let wait = tokio::task::spawn_blocking(move || has_begun.recv_timeout(Duration::from_secs(20)));
    wait.await.unwrap().expect("it downloads");
    second.spawn(pull(Progress::none()));
    first.abort_all();
    drop(release);
    let given_up = first.join_next().await.unwrap();
    assert!(given_up.unwrap_err().is_cancelled());
    let pulled = second.join_next().await.unwrap().unwrap();
    assert!(pulled.unwrap().newer);
    assert!(images.resolve(&name).await.unwrap().is_some());
}
