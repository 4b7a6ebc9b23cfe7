//! Archives: what skopeo writes is loaded, what is saved skopeo and umoci read, and what is broken is refused.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use skein::agent::images::sample::SAMPLE;
use skein::agent::images::{Images, Progress};
use tokio::fs::File as AsyncFile;

use crate::make::{Layout, noise, sample, skopeo, tar_of};
use crate::world::{Told, World};

async fn load(images: &Images, path: &Path) -> Result<Vec<String>, String> {
    let file = AsyncFile::open(path).await.unwrap();
    images
        .load(file, &Progress::none())
        .await
        .map_err(|error| error.to_string())
}

async fn save(images: &Images, names: &[&str], path: &Path) {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    images
        .save(&names, AsyncFile::create(path).await.unwrap())
        .await
        .unwrap();
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_skopeo_writes_is_loaded_in_both_forms() {
    let Some(world) = World::new() else { return };
    let layout = sample(&world.path("layout"), "one", 5, 100_000);
    let (docker, oci) = (world.path("docker.tar"), world.path("oci.tar"));
    skopeo(&[
        "copy",
        &layout.source("one"),
        &format!("docker-archive:{}:busybox:x", text(&docker)),
    ]);
    skopeo(&[
        "copy",
        &layout.source("one"),
        &format!("oci-archive:{}:team/app:v2", text(&oci)),
    ]);
    let images = world.node().await;

    let told = Told::default();
    let file = AsyncFile::open(&docker).await.unwrap();
    let loaded = images.load(file, &told.progress()).await.unwrap();
    assert_eq!(loaded, ["Loaded image: busybox:x"]);
    assert!(
        told.says("Loading layer") && told.says("Loaded image: busybox:x"),
        "{:?}",
        told.lines()
    );
    assert_eq!(
        load(&images, &oci).await.unwrap(),
        ["Loaded image: team/app:v2"]
    );
    run("gzip", &[text(&docker)]);
    assert_eq!(
        load(&images, &world.path("docker.tar.gz")).await.unwrap(),
        ["Loaded image: busybox:x"]
    );

    let one = images.resolve("busybox:x").await.unwrap().unwrap();
    let two = images.resolve("team/app:v2").await.unwrap().unwrap();
    assert_eq!(one.chain, two.chain, "the same layers, in another wrapping");
    assert_eq!(one.config.cmd, ["/bin/busybox", "sh"]);
    assert_eq!(
        fs::read_dir(world.path("scratch")).unwrap().count(),
        0,
        "no scratch file stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_the_same_when_it_is_loaded_and_others_read_it() {
    let Some(world) = World::isolated() else {
        return;
    };
    let layout = sample(&world.path("layout"), "one", 6, 100_000);
    let amd = layout.image("amd64", &[layout.layer(&[("a", b"amd64")])]);
    let arm = layout.image("arm64", &[layout.layer(&[("a", b"arm64")])]);
    layout.name(&layout.index(&[arm, amd]), "both");
    let registry = world.registry(false);
    registry.push(&layout, "one", "one:v1");
    registry.push(&layout, "both", "both:v1");
    let (from, to) = (world.node().await, world.node().await);
    let name = |name: &str| format!("{}/{name}:v1", registry.address);
    for image in ["one", "both"] {
        from.pull(&name(image), None, None, &Progress::none())
            .await
            .unwrap();
    }
    from.tag(&name("one"), "plain:1").await.unwrap();
    let tar = world.path("saved.tar");
    save(&from, &["plain:1", &name("one"), &name("both")], &tar).await;

    let mut loaded = load(&to, &tar).await.unwrap();
    loaded.sort();
    loaded.dedup();
    assert_eq!(loaded.len(), 3, "{loaded:?}");
    for image in ["plain:1", &name("one"), &name("both")] {
        let (before, after) = (
            from.resolve(image).await.unwrap().unwrap(),
            to.resolve(image).await.unwrap().unwrap(),
        );
        assert_eq!(
            (before.id, before.target, before.chain),
            (after.id, after.target, after.chain),
            "{image}"
        );
    }

    save(&from, &["plain:1"], &tar).await;
    skopeo(&[
        "copy",
        &format!("docker-archive:{}", text(&tar)),
        &format!("dir:{}", text(&world.path("dir"))),
    ]);
    let unpacked = world.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    run("tar", &["-xf", text(&tar), "-C", text(&unpacked)]);
    assert_eq!(
        run("umoci", &["ls", "--layout", text(&unpacked)]).trim(),
        "1"
    );
    let root = world.path("root-of-it");
    let image = format!("{}:1", text(&unpacked));
    run(
        "umoci",
        &["unpack", "--rootless", "--image", &image, text(&root)],
    );
    assert_eq!(
        fs::read_to_string(root.join("rootfs/etc/release")).unwrap(),
        "sample\n"
    );
    let error = from
        .save(&["none:1".to_string()], Vec::new())
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(error, "No such image: none:1");
}

fn write(world: &World, name: &str, bytes: &[u8]) -> PathBuf {
    let path = world.path(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_is_refused_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let images = world.node().await;
    let layout = Layout::new(&world.path("layout"));
    let image = layout.image("amd64", &[layout.layer(&[("noise", &noise(1, 100_000))])]);
    layout.name(&image, "app:1");
    let blobs = layout.dir().join("blobs/sha256");
    let largest = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let layer = largest
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let good = fs::read(&layer).unwrap();
    let pack = |name: &str| {
        let path = world.path(name);
        let mut tar = tar::Builder::new(File::create(&path).unwrap());
        tar.append_dir_all(".", layout.dir()).unwrap();
        tar.finish().unwrap();
        path
    };
    let mut bad = good.clone();
    bad[50_000] ^= 1;
    fs::write(&layer, &bad).unwrap();
    let error = load(&images, &pack("wrong.tar")).await.unwrap_err();
    assert!(error.ends_with("is not what its name says"), "{error}");
    fs::remove_file(&layer).unwrap();
    let error = load(&images, &pack("missing.tar")).await.unwrap_err();
    assert!(error.ends_with("no such file or directory"), "{error}");
    let other = tar_of(&[("readme", b"hello")]);
    let error = load(&images, &write(&world, "other.tar", &other))
        .await
        .unwrap_err();
    assert_eq!(error, "invalid archive: does not contain a manifest.json");
    let error = load(&images, &write(&world, "noise.tar", &noise(2, 5000)))
        .await
        .unwrap_err();
    assert_eq!(error, "the archive is no tar file");
    let list = tar_of(&[(
        "manifest.json",
        br#"[{"Config":"../../etc/passwd","Layers":[]}]"#,
    )]);
    let error = load(&images, &write(&world, "outside.tar", &list))
        .await
        .unwrap_err();
    assert!(error.contains("no such file or directory"), "{error}");
    assert!(images.list().await.unwrap().is_empty());

    fs::write(&layer, &good).unwrap();
    let whole = pack("whole.tar");
    let bytes = fs::read(&whole).unwrap();
    let cut = write(&world, "cut.tar", &bytes[..bytes.len() / 2]);
    load(&images, &cut).await.unwrap_err();
    assert_eq!(
        load(&images, &whole).await.unwrap(),
        ["Loaded image: app:1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_image_is_made_of_a_static_program() {
    let Some(world) = World::new() else { return };
    let images = world.node().await;
    assert!(!images.ensure_sample(Path::new("/bin/ls")).await.unwrap());
    assert!(images.list().await.unwrap().is_empty());
    assert!(
        images
            .ensure_sample(Path::new("/bin/busybox"))
            .await
            .unwrap()
    );
    let made = images.resolve(SAMPLE).await.unwrap().unwrap();
    assert_eq!(made.config.entrypoint, ["/skein", "whoami"]);
    assert_eq!(made.tags, [SAMPLE]);
    assert!(
        images
            .ensure_sample(Path::new("/bin/busybox"))
            .await
            .unwrap()
    );
    assert_eq!(images.resolve(SAMPLE).await.unwrap().unwrap(), made);
    let other = world.node().await;
    other
        .ensure_sample(Path::new("/bin/busybox"))
        .await
        .unwrap();
    assert_eq!(
        other.resolve(SAMPLE).await.unwrap().unwrap().manifest,
        made.manifest,
        "the same on every node"
    );
}
