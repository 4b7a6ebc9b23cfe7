//! Names of images that are here: what is found by them, and what goes with the last one.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use skein::agent::images::{Disk, Images, InUse, NoPeers, Progress, PruneFilters, Removed, User};
use skein::model::{Digest, NodeId};
use tempfile::TempDir;

use crate::make::{Layout, noise, sample};
use crate::wait::until;
use crate::world::{World, unique};

async fn load(world: &World, images: &Images, layout: &Layout, name: &str) {
    let path = world.path(&unique("load"));
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    tar.append_dir_all(".", layout.dir()).unwrap();
    tar.finish().unwrap();
    let file = tokio::fs::File::open(&path).await.unwrap();
    let loaded = images.load(file, &Progress::none()).await.unwrap();
    assert!(
        loaded.contains(&format!("Loaded image: {name}")),
        "{loaded:?}"
    );
}

/// A world with the images `base:1` and `top:1`; the latter has the former's layer and one more.
async fn two_images(world: &World) -> (Images, Digest, Digest) {
    let layout = Layout::new(&world.path("layout"));
    let base = || layout.layer(&[("base", &noise(1, 400_000))]);
    layout.name(&layout.image("amd64", &[base()]), "base:1");
    let top = layout.layer(&[("top", &noise(2, 900_000))]);
    layout.name(&layout.image("amd64", &[base(), top]), "top:1");
    let images = world.node().await;
    load(world, &images, &layout, "base:1").await;
    let id = |image: &'static str| async { images.resolve(image).await.unwrap().unwrap().id };
    let (base, top) = (id("base:1").await, id("top:1").await);
    (images, base, top)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_found_by_name_by_digest_and_by_the_beginning_of_its_id() {
    let Some(world) = World::new() else { return };
    let (images, base, top) = two_images(&world).await;
    let find = |text: String| {
        let images = images.clone();
        async move { images.resolve(&text).await.unwrap().map(|image| image.id) }
    };
    assert_eq!(find("docker.io/library/base:1".into()).await, Some(base));
    assert_eq!(find(top.to_string()).await, Some(top));
    assert_eq!(find(top.hex()[..12].into()).await, Some(top));
    let manifest = images.resolve("top:1").await.unwrap().unwrap().manifest;
    assert_eq!(find(format!("top@{manifest}")).await, Some(top));
    assert_eq!(
        find(format!("base@{manifest}")).await,
        None,
        "another repository"
    );
    assert_eq!(find("base".into()).await, None, "latest is no other tag");
    assert_eq!(find("12".repeat(32)).await, None);
    assert_eq!(
        images.resolve("a b").await.unwrap_err().to_string(),
        "invalid reference format"
    );

    let inspected = images.inspect("top:1").await.unwrap();
    assert_eq!(inspected.json["config"]["Labels"]["made"], "here");
    let history = images.history("top:1").await.unwrap();
    assert_eq!(history.len(), 2);
    assert!(
        history[0].size > 900_000 && history[0].image == Some((top, vec!["top:1".into()])),
        "{history:?}"
    );
    assert_eq!(
        images.inspect("nothing").await.unwrap_err().to_string(),
        "No such image: nothing:latest"
    );
    let listed: Vec<Vec<String>> = images
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|image| image.tags)
        .collect();
    assert!(
        listed.contains(&vec!["base:1".to_string()]) && listed.len() == 2,
        "{listed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_name_takes_the_image_and_what_no_other_shares() {
    let Some(world) = World::new() else { return };
    let (images, base, top) = two_images(&world).await;
    let none = InUse::default();
    images.tag("top:1", "other/name").await.unwrap();
    let refused = images
        .tag("top:1", &format!("x@{base}"))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(refused, "refusing to create a tag with a digest reference");
    let refused = images
        .remove(&top.hex(), false, &none)
        .await
        .unwrap_err()
        .to_string();
    let short = &top.hex()[..12];
    assert_eq!(
        refused,
        format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
    );
    let removed = images.remove("top:1", false, &none).await.unwrap();
    assert_eq!(removed, [Removed::Untagged("top:1".into())]);
    assert_eq!(world.snapshots(), 2);

    let before = world.content_bytes();
    let removed = images.remove("other/name", false, &none).await.unwrap();
    assert!(
        removed.contains(&Removed::Untagged("other/name:latest".into())),
        "{removed:?}"
    );
    let layers = removed
        .iter()
        .filter(|step| matches!(step, Removed::Deleted(_)))
        .count();
    assert_eq!(layers, 2, "the image and its own layer: {removed:?}");
    assert!(removed.contains(&Removed::Deleted(top)));
    let freed = || async { before - world.content_bytes() > 900_000 && world.snapshots() == 1 };
    until(
        Duration::from_secs(20),
        "what is not shared is collected",
        freed,
    )
    .await;
    assert!(world.content_bytes() > 400_000, "what is shared stays");
    assert_eq!(
        images
            .remove("other/name", false, &none)
            .await
            .unwrap_err()
            .to_string(),
        "No such image: other/name:latest"
    );
    assert_eq!(images.resolve("base:1").await.unwrap().unwrap().id, base);
    images.remove(&base.hex(), false, &none).await.unwrap();
    let empty = || async { world.content_bytes() == 0 && world.snapshots() == 0 };
    until(Duration::from_secs(20), "nothing is left", empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_stays() {
    let Some(world) = World::new() else { return };
    let (images, _, top) = two_images(&world).await;
    let manifest = images.resolve("top:1").await.unwrap().unwrap().manifest;
    let user = |running| {
        let container = "0123456789ab".to_string();
        InUse([(manifest, vec![User { container, running }])].into())
    };
    let short = &top.hex()[..12];
    let error = images
        .remove("top:1", false, &user(false))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        format!(
            "conflict: unable to remove repository reference \"top:1\" (must force) - container 0123456789ab is using its referenced image {short}"
        )
    );
    let error = images
        .remove(&top.hex(), true, &user(true))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error
            .contains("(cannot be forced) - image is being used by running container 0123456789ab"),
        "{error}"
    );
    let all = PruneFilters {
        dangling: false,
        ..PruneFilters::default()
    };
    images.prune(&all, &user(false)).await.unwrap();
    assert!(images.resolve("top:1").await.unwrap().is_some());
    assert!(images.resolve("base:1").await.unwrap().is_none());
    images.remove("top:1", true, &user(false)).await.unwrap();
    assert!(images.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_name_moves_on_dangles_until_it_is_pruned() {
    let Some(world) = World::new() else { return };
    let (images, base, top) = two_images(&world).await;
    images.tag("base:1", "top:1").await.unwrap();
    let dangling = images.resolve(&top.hex()).await.unwrap().unwrap();
    assert!(dangling.tags.is_empty() && dangling.digests.is_empty());
    let pruned = images
        .prune(&PruneFilters::default(), &InUse::default())
        .await
        .unwrap();
    assert!(
        pruned.removed.contains(&Removed::Deleted(top)),
        "{pruned:?}"
    );
    assert!(pruned.reclaimed > 900_000);
    assert!(
        !pruned
            .removed
            .iter()
            .any(|step| matches!(step, Removed::Untagged(_))),
        "{pruned:?}"
    );
    assert_eq!(images.resolve("top:1").await.unwrap().unwrap().id, base);
    let full = Disk {
        total: 100,
        free: 0,
    };
    assert!(
        images
            .relieve(&InUse::default(), full)
            .await
            .unwrap()
            .removed
            .is_empty(),
        "young images stay"
    );
}

/// A file system in memory, unmounted when it is dropped.
struct Small(TempDir);

impl Small {
    fn mount(size: &str) -> Self {
        let at = tempfile::tempdir_in("/var/tmp").unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", size, "tmpfs"]);
        assert!(command.arg(at.path()).status().unwrap().success());
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_what_had_come_is_freed() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("not run: this needs root");
        return;
    }
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let small = Small::mount("size=16m");
    let state = small.0.path().join("root");
    let Some(world) = World::in_state(dir, state, "shared") else {
        return;
    };
    let registry = world.registry(false);
    let large = sample(&world.path("large"), "one", 1, 12 << 20);
    let modest = sample(&world.path("modest"), "one", 1, 1000);
    registry.push(&large, "one", "large:1");
    registry.push(&modest, "one", "modest:1");
    let images = world
        .node_in(&unique("full"), Arc::new(NoPeers(NodeId::from_bits(1))))
        .await;
    let pull = |name: &'static str| {
        let (images, name) = (images.clone(), format!("{}/{name}:1", registry.address));
        async move { images.pull(&name, None, None, &Progress::none()).await }
    };
    let error = pull("large").await.unwrap_err().to_string();
    assert!(error.ends_with("no space left on device"), "{error}");
    let freed = || async { world.content_bytes() < 3 << 20 };
    until(Duration::from_secs(20), "what had come is freed", freed).await;
    pull("modest").await.unwrap();
}
