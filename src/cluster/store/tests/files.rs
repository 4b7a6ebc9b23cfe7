//! Files that were written by other builds, damaged, cut, copied, moved, or that have no room.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::disk::Directory;
use super::super::fixtures::{
    PATIENCE, Stores, eventually, first, id, mesh, proposal, put, secret,
};
use super::super::log_file::Contents;
use super::super::memory::MemoryNetwork;
use super::super::open::Files;
use super::super::recover::replay;
use super::super::types::LogRef;
use super::super::{FileFault, OpenError, ProposeError, State, Store, StoreConfig};
use crate::model::cluster::Secret;
use crate::model::dependency::Payload;
use crate::model::{Change, Expect, NodeId, RootCa};

/// Stands where a secret would, in objects of every kind.
const CANARY: &str = "canary-that-must-not-be-on-disk";

/// The same as the bytes of a secret are written.
const CANARY_BASE64: &str = "Y2FuYXJ5LXRoYXQtbXVzdC1ub3QtYmUtb24tZGlzaw";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store")
}

async fn open_as(dir: &Path, node: NodeId, every: u64) -> Result<Store, OpenError> {
    let config = StoreConfig {
        snapshot_every: every,
        ..StoreConfig::new(dir.into(), node)
    };
    let link = MemoryNetwork::default().link(node);
    let stop = CancellationToken::new();
    Store::open(config, link, &TaskTracker::new(), stop).await
}

async fn open(dir: &Path) -> Result<Store, OpenError> {
    open_as(dir, id(1), StoreConfig::SNAPSHOT_EVERY).await
}

async fn leads(store: &Store) {
    let mut leadership = store.leadership();
    let leads = timeout(PATIENCE, leadership.wait_for(|seen| seen.me)).await;
    leads.unwrap().unwrap();
}

fn secretive() -> crate::model::Cluster {
    let mut cluster = super::super::fixtures::cluster();
    cluster.unlock_key = Secret(CANARY.into());
    cluster.root = RootCa {
        key_pem: Secret(CANARY.into()),
        ..RootCa::default()
    };
    cluster
}

/// A store with a snapshot, some entries after it, a vote, and secrets in all of them.
async fn fill(dir: &Path) {
    let store = open_as(dir, id(1), 4).await.unwrap();
    let begin = Change::PutCluster(Expect::Absent, Box::new(secretive()));
    store.bootstrap(proposal([begin])).await.unwrap();
    let mut secret = secret(30);
    secret.spec.data = Payload::new(CANARY.into());
    let secret = Change::PutDependency(Expect::Absent, Box::new(secret));
    let network = Change::PutNetwork(Expect::Absent, Box::new(mesh(31)));
    for change in [secret, network] {
        store.propose(proposal([change])).await.unwrap();
    }
    for number in 10..20 {
        let mut named = super::super::fixtures::node(number);
        named.spec.name = CANARY.into();
        let put = Change::PutNode(Expect::Absent, Box::new(named));
        store.propose(proposal([put])).await.unwrap();
    }
    eventually("there is a snapshot", async || {
        let mut names = fs::read_dir(dir).unwrap();
        names.any(|name| {
            name.unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("snapshot-")
        })
    })
    .await;
    for number in 20..24 {
        store.propose(put(number)).await.unwrap();
    }
    store.shutdown().await;
}

/// Everything that the files of a replica hold.
fn contents(dir: &Path) -> Result<(State, Vec<LogRef>, Contents), FileFault> {
    let config = StoreConfig::new(dir.into(), id(1));
    let files = Files::open(Arc::new(Directory::new(dir)), &config)?;
    let load = || {
        let mut image = files.snapshots.newest_image(files.contents.epoch)?;
        let image = image.get_or_insert_default();
        replay(&files, image)?;
        let entries = files.log.read(0, u64::MAX, usize::MAX)?;
        let entries = entries.iter().map(|entry| entry.log_id.into()).collect();
        Ok((image.state.clone(), entries, files.contents))
    };
    let loaded = load();
    files.log.close();
    loaded
}

/// A copy of a directory.
fn copy(from: &Path) -> TempDir {
    // Many are opened, and each syncs: in memory where there is such a place.
    let shm = Path::new("/dev/shm");
    let to = match shm.is_dir() {
        true => TempDir::new_in(shm).unwrap(),
        false => TempDir::new().unwrap(),
    };
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

fn file_of(dir: &Path, prefix: &str) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let named = |file: &PathBuf| {
        file.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(prefix)
    };
    files.filter(named).min().unwrap()
}

/// Opens a directory in which `file` was changed: it must hold all, or name the file and what helps.
fn check_changed(
    dir: &Path,
    file: &Path,
    what: &str,
    all: &(State, Vec<LogRef>, Contents),
) -> bool {
    let opened = catch_unwind(|| contents(dir));
    match opened.unwrap_or_else(|_| panic!("{what} of {}: it panics", file.display())) {
        Ok(found) => {
            assert_eq!(&found, all, "{what} of {}", file.display());
            true
        }
        Err(fault) => {
            let words = fault.to_string();
            assert!(words.contains(dir.to_str().unwrap()), "{what}: {words}");
            assert!(
                words.contains("restore") || words.contains("build"),
                "{what}: {words}"
            );
            false
        }
    }
}

fn sweep_flips(prefix: &str, step: usize) {
    let all = contents(copy(&golden()).path()).unwrap();
    let good = fs::read(file_of(&golden(), prefix)).unwrap();
    let dir = copy(&golden());
    let file = file_of(dir.path(), prefix);
    let mut harmless = 0;
    let places = (0..good.len()).filter(|at| *at < 512 || at.is_multiple_of(step));
    for at in places.clone() {
        // Whatever opening changed is put back.
        for original in fs::read_dir(golden()).unwrap() {
            let original = original.unwrap();
            fs::copy(original.path(), dir.path().join(original.file_name())).unwrap();
        }
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&file, &flipped).unwrap();
        let what = format!("bit {} of byte {at}", at % 8);
        harmless += usize::from(check_changed(dir.path(), &file, &what, &all));
    }
    println!(
        "{prefix}: {harmless} of {} flips were harmless",
        places.count()
    );
}

fn sweep_cuts(prefix: &str, step: usize) {
    let good = fs::read(file_of(&golden(), prefix)).unwrap();
    let all = contents(copy(&golden()).path()).unwrap();
    for len in (0..good.len()).step_by(step) {
        let dir = copy(&golden());
        let file = file_of(dir.path(), prefix);
        fs::write(&file, &good[..len]).unwrap();
        let opened = check_changed(dir.path(), &file, &format!("the first {len} bytes"), &all);
        assert!(
            !opened || prefix == "mark",
            "the first {len} bytes of {prefix} opened"
        );
    }
}

#[test]
fn no_flipped_bit_of_the_log_passes_unseen() {
    sweep_flips("log", 61);
}

#[test]
fn no_flipped_bit_of_a_snapshot_passes_unseen() {
    sweep_flips("snapshot", 7);
}

#[test]
fn no_flipped_bit_of_the_key_passes_unseen() {
    sweep_flips("key", 1);
}

#[test]
fn a_flipped_bit_of_the_mark_is_harmless_or_seen() {
    sweep_flips("mark", 1);
}

#[test]
fn no_file_that_was_cut_opens() {
    for (prefix, step) in [("log", 1021), ("snapshot", 97), ("key", 1), ("mark", 1)] {
        sweep_cuts(prefix, step);
    }
}

/// What was written before there were secrets, configs and networks.
#[tokio::test]
async fn files_of_an_older_format_open() {
    let older = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store-2");
    let dir = copy(&older);
    let store = open(dir.path()).await.unwrap();
    leads(&store).await;
    let state = store.read().await.unwrap();
    let numbers: Vec<u64> = state.nodes.keys().map(|id| id.bits() as u64).collect();
    assert_eq!(numbers, (10..24).collect::<Vec<_>>());
    assert_eq!(state.version, 15);
    assert_eq!(
        state.cluster.as_ref().unwrap().unlock_key,
        Secret(CANARY.into())
    );
    assert_eq!(state.nodes[&id(12)].spec.name, CANARY);
    assert_eq!(state.objects, Default::default());
    assert_eq!(store.propose(put(30)).await.unwrap(), 16);
    store.shutdown().await;
}

#[tokio::test]
async fn nothing_on_disk_can_be_read_without_the_key() {
    let dir = TempDir::new().unwrap();
    fill(dir.path()).await;
    let mut read = 0;
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        let bytes = fs::read(file.path()).unwrap();
        read += bytes.len();
        for plain in [CANARY, CANARY_BASE64, "host-", "unlock_key", "key_pem"] {
            let found = bytes
                .windows(plain.len())
                .any(|window| window == plain.as_bytes());
            assert!(!found, "{plain} is in {:?}", file.file_name());
        }
        let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap());
        assert_eq!(mode & 0o077, 0, "{:?} is open to others", file.file_name());
    }
    assert!(read > 10_000);
}

#[test]
fn a_missing_file_is_named() {
    for prefix in ["key", "log", "snapshot"] {
        let dir = copy(&golden());
        let file = file_of(dir.path(), prefix);
        fs::remove_file(&file).unwrap();
        match contents(dir.path()) {
            Err(FileFault::Missing { path }) => {
                let named = path.file_name().unwrap().to_string_lossy().into_owned();
                assert!(named.starts_with(prefix), "{named} is not {prefix}");
            }
            other => panic!("without {prefix}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_log_that_went_back_is_refused() {
    let dir = copy(&golden());
    let old = fs::read(dir.path().join("log")).unwrap();
    let store = open(dir.path()).await.unwrap();
    leads(&store).await;
    store.propose(put(30)).await.unwrap();
    store.shutdown().await;
    for log in [old, Vec::new()] {
        fs::write(dir.path().join("log"), &log).unwrap();
        match contents(dir.path()) {
            Err(FileFault::Reverted {
                expected, found, ..
            }) => assert!(expected > found),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_copied_directory_is_told_from_its_owner() {
    let dir = copy(&golden());
    match open_as(dir.path(), id(2), 10).await {
        Err(OpenError::File(FileFault::Foreign { owner, node, .. })) => {
            assert_eq!((owner, node), (id(1), id(2)));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_stores_do_not_share_a_directory_and_it_is_free_at_once() {
    let dir = copy(&golden());
    for _ in 0..5 {
        let store = open(dir.path()).await.unwrap();
        match open(dir.path()).await {
            Err(OpenError::File(FileFault::InUse { path })) => {
                assert_eq!(path, dir.path().join("log"));
            }
            other => panic!("{other:?}"),
        }
        leads(&store).await;
        store.shutdown().await;
    }
}

#[test]
fn newer_formats_are_named() {
    let dir = copy(&golden());
    let snapshot = file_of(dir.path(), "snapshot");
    let mut bytes = fs::read(&snapshot).unwrap();
    bytes[8] = 2;
    fs::write(&snapshot, bytes).unwrap();
    let newer = |dir: &TempDir| match contents(dir.path()) {
        Err(FileFault::NewerFormat {
            path,
            found: 2,
            known: 1,
        }) => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(newer(&dir), snapshot);
    let dir = copy(&golden());
    let log = dir.path().join("log");
    let database = redb::Database::open(&log).unwrap();
    let txn = database.begin_write().unwrap();
    let fields = redb::TableDefinition::<u8, &[u8]>::new("fields");
    let two = 2u32.to_le_bytes();
    txn.open_table(fields).unwrap().insert(0, &two[..]).unwrap();
    txn.commit().unwrap();
    drop(database);
    assert_eq!(newer(&dir), log);
}

#[test]
fn a_place_that_is_no_directory_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for place in [file.clone(), file.join("below")] {
        match contents(&place) {
            Err(FileFault::Io { path, .. }) => assert_eq!(path, place),
            other => panic!("{other:?}"),
        }
    }
    let dir = copy(&golden());
    fs::write(dir.path().join("log"), "this is no database at all").unwrap();
    assert!(matches!(
        contents(dir.path()),
        Err(FileFault::Damaged { .. })
    ));
}

#[test]
fn what_was_left_unfinished_is_removed() {
    let dir = copy(&golden());
    let all = contents(dir.path()).unwrap();
    for name in [
        "snapshot-1-0000000000000000-99.new",
        "key.new",
        "snapshot-7-0000000000000000-99",
    ] {
        fs::write(dir.path().join(name), "half").unwrap();
    }
    assert_eq!(contents(dir.path()).unwrap(), all);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_store_and_loses_nothing() {
    let mut stores = Stores::voters(3).await;
    stores.write(10).await;
    let disk = stores.disks[&id(1)].clone();
    disk.set_capacity(Some(disk.log_len()));
    let mut acknowledged = BTreeSet::from([10]);
    let mut stopped = stores.store(1).stopped();
    for number in 100.. {
        let leader = stores.leader().await;
        let mut big = put(number);
        for change in &mut big.changes {
            if let Change::PutNode(_, node) = change {
                node.spec.name = "x".repeat(100_000);
            }
        }
        match stores.stores[&leader].propose(big).await {
            Ok(_) => acknowledged.insert(number),
            Err(ProposeError::Rejected(_)) => panic!("nothing can be there already"),
            Err(_) => continue,
        };
        if stopped.borrow_and_update().is_some() {
            break;
        }
    }
    let why = stopped.borrow().clone().unwrap().why;
    assert!(
        why.contains("no space left on the disk of memory/log"),
        "{why}"
    );
    assert!(!stores.store(1).leadership().borrow().me);
    let refused = stores.store(1).propose(put(9)).await;
    assert!(
        matches!(refused, Err(ProposeError::Stopped(_))),
        "{refused:?}"
    );
    stores.write_once(11).await;
    acknowledged.insert(11);
    stores.kill(id(1)).await;
    disk.set_capacity(None);
    stores.start(id(1)).await;
    eventually("it has everything again", async || {
        stores.numbers_on(1).is_superset(&acknowledged)
    })
    .await;
    stores.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_stops_the_store_within_a_bound() {
    let mut stores = Stores::voters(1).await;
    stores.write(10).await;
    let disk = stores.disks[&id(1)].clone();
    disk.fail_log_after(Some(2));
    let started = Instant::now();
    let refused = stores.store(1).propose(put(11)).await;
    assert!(
        matches!(refused, Err(ProposeError::Stopped(_))),
        "{refused:?}"
    );
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("memory/log"), "{words}");
    assert!(started.elapsed() < Duration::from_secs(10));
    stores.kill(id(1)).await;
    disk.fail_log_after(None);
    disk.crash(|| false);
    stores.start(id(1)).await;
    stores.write(12).await;
    assert!(stores.numbers_on(1).is_superset(&BTreeSet::from([10, 12])));
    stores.end().await;
}

#[tokio::test]
async fn a_store_goes_on_with_a_new_data_key() {
    let dir = TempDir::new().unwrap();
    let store = open_as(dir.path(), id(1), 8).await.unwrap();
    store.bootstrap(first()).await.unwrap();
    for number in 10..40 {
        if number % 7 == 0 {
            store.rotate_data_key().unwrap();
        }
        store.propose(put(number)).await.unwrap();
    }
    store.shutdown().await;
    let (state, ..) = contents(dir.path()).unwrap();
    assert_eq!(state.nodes.len(), 30);
}

/// Run with `SKEIN_WRITE_GOLDEN=1` it writes the golden files of a new format.
#[tokio::test]
async fn files_of_this_build_open_as_the_golden_ones_do() {
    let dir = TempDir::new().unwrap();
    fill(dir.path()).await;
    let (state, ..) = contents(dir.path()).unwrap();
    if std::env::var_os("SKEIN_WRITE_GOLDEN").is_none() {
        let (golden, ..) = contents(copy(&golden()).path()).unwrap();
        assert_eq!(state, golden);
        return;
    }
    let mut log = redb::Database::open(dir.path().join("log")).unwrap();
    while log.compact().unwrap() {}
    drop(log);
    fs::create_dir_all(golden()).unwrap();
    for file in fs::read_dir(golden()).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), golden().join(file.file_name())).unwrap();
    }
}
