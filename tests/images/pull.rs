//! Pulling: from a registry that is there, is not, lies, breaks off or does not let everybody in.

use std::time::Duration;

use serde_json::json;
use skein::agent::images::chain::digest_of;
use skein::agent::images::manifest::OCI_MANIFEST;
use skein::agent::images::{Images, Platform, Progress, PullError, RegistryAuth};
use zeroize::Zeroizing;

use crate::fake::{Answers, Fake};
use crate::make::{Layout, noise, sample};
use crate::proxy::Proxy;
use crate::world::{Told, World, free_port};

pub(crate) fn password(username: &str, password: &str) -> RegistryAuth {
    RegistryAuth::Password {
        username: username.into(),
        password: Zeroizing::new(password.into()),
    }
}

async fn fails(images: &Images, reference: &str) -> String {
    let pulled = images.pull(reference, None, None, &Progress::none()).await;
    pulled.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_and_is_up_to_date_after_that() {
    let Some(world) = World::new() else { return };
    let registry = world.registry(false);
    let layout = sample(&world.path("layout"), "one", 1, 200_000);
    registry.push(&layout, "one", "team/app:v1");
    let images = world.node().await;
    let name = format!("{}/team/app:v1", registry.address);

    let told = Told::default();
    let first = images
        .pull(&name, None, None, &told.progress())
        .await
        .unwrap();
    assert!(first.newer && first.index.is_none());
    assert_eq!(first.config.cmd, ["/bin/busybox", "sh"]);
    assert_eq!(first.config.labels["made"], "here");
    for words in [
        "v1: Pulling from team/app",
        "Pulling fs layer",
        "Downloading",
        "Verifying Checksum",
        "Download complete",
        "Extracting",
        "Pull complete",
        &format!(": Digest: {}", first.manifest),
        &format!(": Status: Downloaded newer image for {name}"),
    ] {
        assert!(told.says(words), "{words}: {:?}", told.lines());
    }

    let told = Told::default();
    let again = images
        .pull(&name, None, None, &told.progress())
        .await
        .unwrap();
    assert!(!again.newer);
    assert_eq!(
        (again.manifest, again.config),
        (first.manifest, first.config.clone())
    );
    assert!(
        told.says("Already exists")
            && told.says(&format!("Status: Image is up to date for {name}"))
    );
    assert!(
        !told.says("Downloading") && !told.says("Pull complete"),
        "{:?}",
        told.lines()
    );

    let local = images.resolve(&name).await.unwrap().unwrap();
    assert_eq!(Some(local.id), first.config.id);
    assert_eq!(local.tags, std::slice::from_ref(&name));
    assert_eq!(local.chain.len(), 3);
    assert!(local.size > 400_000, "{}", local.size);

    let address = registry.stop();
    let by_digest = format!("{address}/team/app@{}", first.manifest);
    let pinned = images
        .pull(&by_digest, None, None, &Progress::none())
        .await
        .unwrap();
    assert_eq!(
        pinned.manifest, first.manifest,
        "an image that is here by its digest needs no registry"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_is_chosen_from_an_index() {
    let Some(world) = World::new() else { return };
    let registry = world.registry(false);
    let layout = Layout::new(&world.path("layout"));
    let amd = layout.image("amd64", &[layout.layer(&[("arch", b"amd64")])]);
    let arm = layout.image("arm64", &[layout.layer(&[("arch", b"arm64")])]);
    layout.name(&layout.index(&[arm.clone(), amd.clone()]), "both");
    layout.name(&layout.index(std::slice::from_ref(&arm)), "arm");
    layout.name(&arm, "single");
    for name in ["both", "arm", "single"] {
        registry.push(&layout, name, &format!("app:{name}"));
    }
    let images = world.node().await;
    let name = |tag: &str| format!("{}/app:{tag}", registry.address);
    let amd64: Platform = "linux/amd64".parse().unwrap();
    let arm64: Platform = "linux/arm64".parse().unwrap();

    let pulled = images
        .pull(&name("both"), None, Some(&amd64), &Progress::none())
        .await
        .unwrap();
    assert_eq!(json!(pulled.manifest), amd["digest"]);
    assert!(pulled.index.is_some());
    let local = images.resolve(&name("both")).await.unwrap().unwrap();
    assert_eq!(
        (Some(local.target.digest), local.manifest),
        (pulled.index, pulled.manifest)
    );

    let other = images
        .pull(&name("both"), None, Some(&arm64), &Progress::none())
        .await
        .unwrap();
    assert_eq!(json!(other.manifest), arm["digest"]);
    let error = images
        .pull(&name("arm"), None, Some(&amd64), &Progress::none())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no matching manifest for linux/amd64 in the manifest list entries"
    );
    let error = images
        .pull(&name("single"), None, Some(&amd64), &Progress::none())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("(linux/arm64) does not match the specified platform (linux/amd64)"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_told_in_dockers_words() {
    let Some(world) = World::new() else { return };
    let registry = world.registry(false);
    let layout = sample(&world.path("layout"), "one", 1, 1000);
    registry.push(&layout, "one", "app:v1");
    let images = world.node().await;
    let at = &registry.address;

    let name = format!("{at}/app:v2");
    let error = fails(&images, &name).await;
    assert!(
        error.starts_with(&format!("manifest for {name} not found: manifest unknown")),
        "{error}"
    );
    let error = fails(&images, &format!("{at}/app@sha256:{}", "12".repeat(32))).await;
    assert!(error.contains("not found: manifest unknown"), "{error}");
    let closed = free_port();
    let error = fails(&images, &format!("127.0.0.1:{closed}/app")).await;
    let refused = format!("dial tcp 127.0.0.1:{closed}: connect: connection refused");
    assert_eq!(
        error,
        format!("Get \"http://127.0.0.1:{closed}/v2/\": {refused}")
    );
    assert_eq!(fails(&images, "a:b:c").await, "invalid reference format");
    assert!(images.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_a_password_wants_the_right_one() {
    let Some(world) = World::new() else { return };
    let registry = world.registry(true);
    let layout = sample(&world.path("layout"), "one", 1, 1000);
    registry.push(&layout, "one", "app:v1");
    let images = world.node().await;
    let name = format!("{}/app:v1", registry.address);
    let pull = |auth: Option<RegistryAuth>| {
        let (images, name) = (images.clone(), name.clone());
        async move {
            images
                .pull(&name, auth.as_ref(), None, &Progress::none())
                .await
        }
    };
    let error = pull(None).await.unwrap_err().to_string();
    assert!(error.ends_with("no basic auth credentials"), "{error}");
    let error = pull(Some(password("user", "falsch")))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("unauthorized: authentication required"),
        "{error}"
    );
    pull(Some(password("user", "geheim"))).await.unwrap();
    let error = pull(None).await.unwrap_err().to_string();
    assert!(
        error.ends_with("no basic auth credentials"),
        "one user's credentials are not another's: {error}"
    );
}

/// An image whose layer is `layer` and whose registry sends `sent` in its place.
async fn lying(name: &str, layer: &[u8], sent: &[u8]) -> (Fake, String) {
    let config = json!({
        "os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
    })
    .to_string();
    let (config_at, layer_at) = (digest_of(config.as_bytes()), digest_of(layer));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_at, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_at, "size": layer.len()}],
    })
    .to_string();
    let path = |rest: String| format!("/v2/{name}/{rest}");
    let answers = Answers::from([
        (
            path("manifests/latest".into()),
            (200, manifest.clone().into_bytes()),
        ),
        (
            path(format!("manifests/sha256:{}", "ab".repeat(32))),
            (200, manifest.into_bytes()),
        ),
        (
            path(format!("blobs/{config_at}")),
            (200, config.into_bytes()),
        ),
        (path(format!("blobs/{layer_at}")), (200, sent.into())),
    ]);
    (Fake::start(answers).await, layer_at.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_was_asked_for_is_thrown_away() {
    let Some(world) = World::new() else { return };
    let images = world.node().await;
    let layer = crate::make::tar_of(&[("a", &noise(1, 50_000))]);
    let mut other = layer.clone();
    other[2000] ^= 1;
    let longer = [layer.as_slice(), b"more"].concat();
    for sent in [&other, &longer] {
        let (fake, digest) = lying("app", &layer, sent).await;
        let error = fails(&images, &format!("{}/app", fake.address)).await;
        assert_eq!(
            error,
            format!("filesystem layer verification failed for digest {digest}")
        );
        let error = fails(
            &images,
            &format!("{}/app@sha256:{}", fake.address, "ab".repeat(32)),
        )
        .await;
        assert_eq!(
            error,
            format!(
                "manifest verification failed for digest sha256:{}",
                "ab".repeat(32)
            )
        );
    }
    let (honest, _) = lying("app", &layer, &layer).await;
    let name = format!("{}/app", honest.address);
    images
        .pull(&name, None, None, &Progress::none())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    const LAYER: usize = 6 << 20;
    let Some(world) = World::new() else { return };
    let registry = world.registry(false);
    let layout = Layout::new(&world.path("layout"));
    let image = layout.image("amd64", &[layout.layer(&[("noise", &noise(7, LAYER))])]);
    layout.name(&image, "one");
    registry.push(&layout, "one", "app:v1");
    let proxy = Proxy::before(&registry.address).await;
    let images = world.node().await;
    let name = format!("{}/app:v1", proxy.address);

    proxy.allow(4 << 20);
    let error = fails(&images, &name).await;
    assert!(!error.is_empty());
    assert!(
        images.resolve(&name).await.unwrap().is_none(),
        "half an image is none"
    );
    proxy.allow(i64::MAX);
    images
        .pull(&name, None, None, &Progress::none())
        .await
        .unwrap();
    let sent = proxy.sent();
    assert!(
        sent < (LAYER + (LAYER >> 1)) as u64,
        "{sent} bytes for {LAYER}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pulls_at_once_share_one_download() {
    const LAYER: usize = 3 << 20;
    let Some(world) = World::new() else { return };
    let registry = world.registry(false);
    let layout = sample(&world.path("layout"), "one", 9, LAYER);
    registry.push(&layout, "one", "app:v1");
    registry.push(&layout, "one", "other:v1");
    let proxy = Proxy::before(&registry.address).await;
    let images = world.node().await;
    let pull = |name: &str| {
        let (images, name) = (images.clone(), format!("{}/{name}:v1", proxy.address));
        async move {
            images
                .pull(&name, None, None, &Progress::none())
                .await
                .unwrap()
        }
    };
    let (a, b, c) = tokio::join!(pull("app"), pull("other"), pull("app"));
    assert!(a.manifest == b.manifest && b.manifest == c.manifest);
    assert!(proxy.sent() < 3 * LAYER as u64, "{} bytes", proxy.sent());
    assert_eq!(images.list().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_pull_leaves_the_next_one_free() {
    let Some(world) = World::new() else { return };
    let registry = world.registry(false);
    let layout = sample(&world.path("layout"), "one", 3, 2 << 20);
    registry.push(&layout, "one", "app:v1");
    let images = world.node().await;
    let name = format!("{}/app:v1", registry.address);
    for millis in [1, 5, 20, 60, 120] {
        let progress = Progress::none();
        let pull = images.pull(&name, None, None, &progress);
        let _ = tokio::time::timeout(Duration::from_millis(millis), pull).await;
    }
    images
        .pull(&name, None, None, &Progress::none())
        .await
        .unwrap();
    assert_eq!(images.resolve(&name).await.unwrap().unwrap().tags, [name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_described_without_a_pull() {
    let Some(world) = World::new() else { return };
    let registry = world.registry(false);
    let layout = sample(&world.path("layout"), "one", 1, 200_000);
    registry.push(&layout, "one", "team/app:v1");
    let images = world.node().await;
    let name = format!("{}/team/app:v1", registry.address);

    let told = images.describe(&name, None).await.unwrap();
    assert!(
        images.resolve(&name).await.unwrap().is_none(),
        "nothing is written"
    );
    assert_eq!(told.platforms.len(), 1);
    assert_eq!(told.platforms[0].os, "linux");
    let missing = format!("{}/team/app:v9", registry.address);
    let error = images.describe(&missing, None).await.unwrap_err();
    assert!(error.to_string().contains("manifest unknown"), "{error}");
    let error = images.describe("Not Good", None).await.unwrap_err();
    assert!(matches!(error, PullError::Reference(_)), "{error}");

    let pulled = images.pull(&name, None, None, &Progress::none()).await;
    assert_eq!(pulled.unwrap().manifest, told.target.digest);
    drop(registry);
    let again = images.describe(&name, None).await.unwrap();
    assert_eq!(
        again, told,
        "what is here speaks for a registry that is not"
    );
    let pinned = format!("{name}@{}", told.target.digest);
    assert_eq!(images.describe(&pinned, None).await.unwrap(), told);
    let error = images.describe(&missing, None).await.unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
}
