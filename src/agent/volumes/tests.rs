//! Volumes as the runner and the API use them, with real mounts where the tests run as root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;

const NOW: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

/// A root, and on its way out nothing stays mounted.
struct Bed(TempDir);

impl Bed {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/var/tmp").unwrap())
    }

    async fn open(&self) -> Volumes {
        Volumes::open(self.0.path().join("volumes")).await.unwrap()
    }

    fn mounted(&self) -> Vec<PathBuf> {
        mounts::below(&self.0.path().canonicalize().unwrap()).unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for path in self.mounted().iter().rev() {
            mounts::undo(path).unwrap();
        }
    }
}

fn container(number: u8) -> ContainerId {
    ContainerId::from_bytes([number; 32])
}

fn named(name: &str, options: &[(&str, &str)]) -> NewVolume {
    let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    NewVolume {
        name: name.into(),
        options: options.collect(),
        ..NewVolume::default()
    }
}

/// Whether these tests may mount; says so when not.
fn may_mount() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can mount");
    }
    root
}

#[track_caller]
fn words<T: std::fmt::Debug>(refused: Result<T, VolumeError>) -> String {
    refused.unwrap_err().to_string()
}

#[tokio::test]
async fn a_volume_lives_until_it_is_removed() {
    let bed = Bed::new();
    let volumes = bed.open().await;
    let made = volumes.create(named("data", &[]), NOW).await.unwrap();
    assert_eq!(made.created, NOW);
    let again = volumes
        .create(named("data", &[("type", "x")]), Timestamp::default())
        .await;
    assert_eq!(again.unwrap(), made, "by name alone");
    let path = volumes.mount("data", container(1)).await.unwrap();
    assert_eq!(path, made.mountpoint);
    fs::write(path.join("file"), "kept").unwrap();
    volumes.mount("data", container(1)).await.unwrap();
    volumes.mount("data", container(2)).await.unwrap();
    let users = format!("{}, {}", container(1), container(2));
    assert_eq!(
        words(volumes.remove("data", true).await),
        format!("remove data: volume is in use - [{users}]")
    );
    // Another life of the daemon knows the volume, and is told of its users.
    let volumes = bed.open().await;
    let held = [(container(2), ["data".to_string()].into())].into();
    volumes.restore(held).await.unwrap();
    assert_eq!(
        volumes.inspect("data").unwrap().users,
        [container(2)].into()
    );
    assert_eq!(volumes.size("data").await.unwrap(), 4);
    volumes.unmount("data", container(2)).await.unwrap();
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "kept");
    volumes.remove("data", false).await.unwrap();
    assert!(!path.exists());
    assert_eq!(words(volumes.inspect("data")), "get data: no such volume");
    assert_eq!(
        words(volumes.remove("data", false).await),
        "get data: no such volume"
    );
    volumes.remove("data", true).await.unwrap();
    volumes.unmount("data", container(2)).await.unwrap();
    assert_eq!(
        fs::read_dir(bed.0.path().join("volumes")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_refused_in_dockers_words() {
    let bed = Bed::new();
    let volumes = bed.open().await;
    let driver = NewVolume {
        driver: "rexray".into(),
        ..named("data", &[])
    };
    for (new, expected) in [
        (
            driver,
            "create data: error looking up volume plugin rexray: plugin \"rexray\" not found",
        ),
        (
            named("data", &[("colour", "red")]),
            "create data: invalid option: \"colour\"",
        ),
        (
            named("data", &[("o", "ro")]),
            "create data: missing required option: \"device\"",
        ),
        (
            named("x", &[]),
            "create x: volume name is too short, names should be at least two alphanumeric characters",
        ),
    ] {
        assert_eq!(words(volumes.create(new, NOW).await), expected);
    }
    let outside = volumes.create(named("../out", &[]), NOW).await;
    assert!(words(outside).contains("includes invalid characters for a local volume name"));
    assert!(volumes.list().is_empty());
}

#[tokio::test]
async fn what_has_no_name_is_anonymous_and_pruned() {
    let bed = Bed::new();
    let volumes = bed.open().await;
    let anonymous = volumes.create(NewVolume::default(), NOW).await.unwrap();
    assert_eq!(anonymous.name.len(), 64);
    fs::write(anonymous.mountpoint.join("x"), [0; 1000]).unwrap();
    let used = volumes.create(NewVolume::default(), NOW).await.unwrap();
    volumes.mount(&used.name, container(1)).await.unwrap();
    volumes.create(named("kept", &[]), NOW).await.unwrap();
    let pruned = volumes
        .prune(|volume| volume.labels.contains_key(ANONYMOUS))
        .await
        .unwrap();
    assert_eq!(
        pruned,
        Pruned {
            names: vec![anonymous.name],
            bytes: 1000
        }
    );
    let left: BTreeSet<String> = volumes
        .list()
        .into_iter()
        .map(|volume| volume.name)
        .collect();
    assert_eq!(left, [used.name, "kept".into()].into());
}

#[tokio::test]
async fn a_crash_leaves_nothing_half_made_or_half_removed() {
    let bed = Bed::new();
    let root = bed.0.path().join("volumes");
    for dir in ["half/_data", ".removed-0/_data/deep"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let volumes = bed.open().await;
    assert!(volumes.list().is_empty());
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    volumes.create(named("half", &[]), NOW).await.unwrap();
}

#[tokio::test]
async fn an_image_fills_a_volume_that_is_empty() {
    let bed = Bed::new();
    let volumes = bed.open().await;
    let rootfs = bed.0.path().join("rootfs");
    fs::create_dir_all(rootfs.join("srv/www")).unwrap();
    fs::write(rootfs.join("srv/www/index"), "hello").unwrap();
    symlink("/srv/www", rootfs.join("www")).unwrap();
    symlink(bed.0.path(), rootfs.join("out")).unwrap();
    let data = volumes
        .create(named("data", &[]), NOW)
        .await
        .unwrap()
        .mountpoint;
    let fill = |target: &str| volumes.fill("data", container(1), &rootfs, target.as_ref());
    assert!(words(fill("/www")).contains("only who holds it may use it"));
    volumes.mount("data", container(1)).await.unwrap();
    fill("/nothing/there").unwrap();
    fill("/srv/www/index").unwrap();
    fill("/out").unwrap();
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    fill("/www").unwrap();
    assert_eq!(fs::read_to_string(data.join("index")).unwrap(), "hello");
    fs::write(data.join("index"), "changed").unwrap();
    fill("/www").unwrap();
    assert_eq!(fs::read_to_string(data.join("index")).unwrap(), "changed");
}

#[tokio::test]
async fn a_file_system_is_mounted_for_its_first_user_until_its_last() {
    if !may_mount() {
        return;
    }
    let bed = Bed::new();
    let volumes = bed.open().await;
    let tmpfs = [
        ("type", "tmpfs"),
        ("device", "tmpfs"),
        ("o", "size=1m,noexec,mode=0750"),
    ];
    let data = volumes
        .create(named("memory", &tmpfs), NOW)
        .await
        .unwrap()
        .mountpoint;
    volumes.mount("memory", container(1)).await.unwrap();
    volumes.mount("memory", container(2)).await.unwrap();
    assert_eq!(bed.mounted(), std::slice::from_ref(&data));
    fs::write(data.join("x"), "in memory").unwrap();
    volumes.unmount("memory", container(1)).await.unwrap();
    // The daemon dies and comes back, and the mount was in use all along.
    let volumes = bed.open().await;
    volumes
        .restore([(container(2), ["memory".to_string()].into())].into())
        .await
        .unwrap();
    assert_eq!(fs::read_to_string(data.join("x")).unwrap(), "in memory");
    // And again, when its user has gone meanwhile.
    let volumes = bed.open().await;
    volumes.restore(BTreeMap::new()).await.unwrap();
    assert!(bed.mounted().is_empty());
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    volumes.remove("memory", false).await.unwrap();
}

#[tokio::test]
async fn a_directory_of_the_machine_is_shown_and_never_emptied() {
    if !may_mount() {
        return;
    }
    let bed = Bed::new();
    let volumes = bed.open().await;
    let shown = bed.0.path().join("shown");
    fs::create_dir(&shown).unwrap();
    fs::write(shown.join("precious"), "x").unwrap();
    let device = shown.to_str().unwrap();
    let bind = [("type", "none"), ("device", device), ("o", "bind,ro")];
    let data = volumes
        .create(named("bind", &bind), NOW)
        .await
        .unwrap()
        .mountpoint;
    volumes.mount("bind", container(1)).await.unwrap();
    assert!(data.join("precious").exists());
    let written = fs::write(data.join("y"), "");
    assert_eq!(
        written.unwrap_err().kind(),
        std::io::ErrorKind::ReadOnlyFilesystem
    );
    // Mounted though nobody uses it, as after a crash.
    let volumes = bed.open().await;
    volumes.remove("bind", false).await.unwrap();
    assert!(shown.join("precious").exists());
    assert!(bed.mounted().is_empty());
}

#[tokio::test]
async fn what_cannot_be_mounted_says_why() {
    if !may_mount() {
        return;
    }
    let bed = Bed::new();
    let volumes = bed.open().await;
    let missing = [
        ("type", "none"),
        ("device", "/no/such/place"),
        ("o", "bind"),
    ];
    let data = volumes
        .create(named("missing", &missing), NOW)
        .await
        .unwrap()
        .mountpoint;
    let expected = format!(
        "error while mounting volume '{0}': failed to mount local volume: mount /no/such/place:{0}, flags: 0x1000: \
         no such file or directory",
        data.display()
    );
    assert_eq!(
        words(volumes.mount("missing", container(1)).await),
        expected
    );
    assert!(volumes.inspect("missing").unwrap().users.is_empty());
    volumes.remove("missing", false).await.unwrap();
}

#[tokio::test]
async fn a_part_of_a_volume_is_shown_by_itself_and_never_more() {
    if !may_mount() {
        return;
    }
    let bed = Bed::new();
    let volumes = bed.open().await;
    let data = volumes
        .create(named("data", &[]), NOW)
        .await
        .unwrap()
        .mountpoint;
    volumes.mount("data", container(1)).await.unwrap();
    fs::create_dir_all(data.join("a/b")).unwrap();
    fs::write(data.join("a/b/file"), "x").unwrap();
    symlink("/a/b", data.join("inside")).unwrap();
    symlink("../../..", data.join("outside")).unwrap();
    let subpath = |path: &str| volumes.subpath("data", container(1), path.into());
    for path in ["a/b", "inside"] {
        let shown = subpath(path).await.unwrap();
        assert!(shown.join("file").exists(), "{path}");
    }
    // The root of the volume is as far out as it goes.
    let shown = subpath("outside").await.unwrap();
    assert!(shown.join("a").exists() && !shown.join("volumes").exists());
    let missing = words(subpath("missing").await);
    assert!(
        missing.starts_with("cannot access path missing: No such file"),
        "{missing}"
    );
    // What is shown stays what it was, whoever puts a link in its place.
    let shown = subpath("a/b").await.unwrap();
    fs::rename(data.join("a/b"), data.join("a/moved")).unwrap();
    symlink("/etc", data.join("a/b")).unwrap();
    assert!(shown.join("file").exists() && !shown.join("passwd").exists());
    volumes.unmount("data", container(1)).await.unwrap();
    assert!(bed.mounted().is_empty());
    assert!(Path::new(&data.join("a/moved/file")).exists());
    volumes.remove("data", false).await.unwrap();
}
