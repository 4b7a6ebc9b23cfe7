//! Ledgers that were cut off, written by other builds, or damaged.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::agent::task::kept::Doom;
use crate::model::task::ServiceRef;
use crate::model::{
    ContainerId, ContainerSpec, ServiceId, Slot, TaskSpec, TaskState, TaskStatus, Timestamp,
};
use crate::wire::assignment::Assigned;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ledger")
}

fn order(task: u128) -> Order {
    Order {
        assigned: Assigned {
            task: TaskId::from_bits(task),
            service: ServiceRef {
                id: ServiceId::from_bits(2),
                name: "web".into(),
            },
            service_labels: BTreeMap::from([("tier".into(), "front".into())]),
            slot: Slot::Number(3),
            desired: TaskState::Running,
            observed: TaskState::Assigned,
            spec: TaskSpec {
                container_spec: Some(ContainerSpec {
                    image: "busybox".into(),
                    args: vec!["sleep".into(), "9".into()],
                    stop_grace_period: Some(5),
                    ..ContainerSpec::default()
                }),
                ..TaskSpec::default()
            },
            generic_resources: Vec::new(),
            attachments: Vec::new(),
            log_driver: None,
            registry_auth: Default::default(),
        },
        gone: false,
        fenced: false,
    }
}

fn progress() -> Progress {
    Progress {
        status: TaskStatus {
            state: TaskState::Running,
            at: Timestamp::from_nanos(1_700_000_000_000_000_007),
            message: "started".into(),
            container: Some(ContainerId::from_bytes([8; 32])),
            pid: 77,
            ..TaskStatus::default()
        },
        container: Some(ContainerId::from_bytes([8; 32])),
        started: Some(Timestamp::from_nanos(1_700_000_000_000_000_001)),
        stopping: None,
        doom: Some(Doom::Unhealthy),
        cleared: false,
    }
}

fn made() -> Made {
    use crate::agent::task::plan::{NodeSelf, container};
    use crate::model::container::ImageRef;
    use crate::model::image::Healthcheck;
    use crate::model::{Digest, ImageConfig};
    let image = ImageRef {
        name: "busybox".into(),
        manifest: Digest::from_bytes([6; 32]),
    };
    let config = ImageConfig {
        healthcheck: Some(Healthcheck {
            test: vec!["CMD".into(), "true".into()],
            ..Healthcheck::default()
        }),
        ..ImageConfig::default()
    };
    let id = ContainerId::from_bytes([8; 32]);
    let planned = container(
        &order(1).assigned,
        &image,
        &config,
        &NodeSelf::default(),
        id,
    );
    let planned = planned.unwrap();
    Made {
        container: planned.container,
        health: planned.health,
    }
}

/// What the golden file holds.
fn expected() -> Contents {
    let kept = |task, made| Kept {
        order: order(task),
        progress: progress(),
        made,
    };
    Contents {
        mark: Mark {
            term: 4,
            generation: 12,
        },
        tasks: BTreeMap::from([
            (TaskId::from_bits(1), kept(1, Some(made()))),
            (TaskId::from_bits(2), kept(2, None)),
        ]),
    }
}

async fn open(path: &Path) -> Result<(Ledger, Contents), LedgerError> {
    Ledger::open(path, &TaskTracker::new()).await
}

/// Opens, and waits until the file is closed again.
async fn contents(path: &Path) -> Result<Contents, LedgerError> {
    let tasks = TaskTracker::new();
    let opened = Ledger::open(path, &tasks).await;
    let contents = opened.map(|(_, contents)| contents);
    tasks.close();
    tasks.wait().await;
    contents
}

async fn fill(path: &Path) {
    let tasks = TaskTracker::new();
    let (ledger, before) = Ledger::open(path, &tasks).await.unwrap();
    assert_eq!(before, Contents::default());
    let all = expected();
    for (task, kept) in &all.tasks {
        let mut writes = vec![
            Write::Mark(all.mark),
            Write::Order(*task, &kept.order),
            Write::Progress(*task, &kept.progress),
        ];
        if let Some(made) = &kept.made {
            writes.push(Write::Made(*task, made));
        }
        ledger.write(&writes).await.unwrap();
    }
    drop(ledger);
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn what_is_written_is_there_and_what_is_forgotten_is_not() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("deeper/ledger");
    fill(&path).await;
    assert_eq!(contents(&path).await.unwrap(), expected());
    let (ledger, _) = open(&path).await.unwrap();
    ledger
        .write(&[Write::Forget(TaskId::from_bits(1))])
        .await
        .unwrap();
    let in_use = open(&path).await.map(|(_, contents)| contents);
    assert!(matches!(in_use, Err(LedgerError::InUse(_))), "{in_use:?}");
    drop(ledger);
    let left = loop {
        // The writer closes the file soon after its last handle is gone.
        match contents(&path).await {
            Err(LedgerError::InUse(_)) => tokio::task::yield_now().await,
            outcome => break outcome.unwrap(),
        }
    };
    assert_eq!(
        left.tasks.keys().collect::<Vec<_>>(),
        [&TaskId::from_bits(2)]
    );
}

#[tokio::test]
async fn a_ledger_of_the_first_format_opens() {
    let kept = golden().join("ledger");
    // How it was made, by the build that had this format first.
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        fill(&kept).await;
    }
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join("ledger");
    fs::copy(&kept, &copy).unwrap();
    assert_eq!(contents(&copy).await.unwrap(), expected());
}

#[tokio::test]
async fn a_newer_format_and_damage_are_told_apart() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("ledger");
    file::tests::write_format(&path, 2);
    let error = contents(&path).await.unwrap_err();
    let newer = LedgerError::NewerFormat {
        path: path.clone(),
        found: 2,
        known: 1,
    };
    assert_eq!(error.to_string(), newer.to_string());
    for bytes in [&b"not a database"[..], &[0; 4096]] {
        fs::write(&path, bytes).unwrap();
        let error = contents(&path).await.unwrap_err();
        assert!(matches!(error, LedgerError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("remove the file"), "{error}");
    }
}

#[tokio::test]
async fn no_flipped_bit_passes_unseen() {
    let good = fs::read(golden().join("ledger")).unwrap();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("ledger");
    let (mut seen, mut harmless) = (0, 0);
    for at in (0..good.len()).filter(|at| *at < 320 || at.is_multiple_of(613)) {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, &flipped).unwrap();
        match contents(&path).await {
            Ok(found) => {
                assert_eq!(found, expected(), "bit {} of byte {at}", at % 8);
                harmless += 1;
            }
            Err(_) => seen += 1,
        }
    }
    assert!(seen > 0 && harmless > 0, "{seen} seen, {harmless} harmless");
}

#[tokio::test]
async fn a_writer_that_is_cut_off_leaves_all_of_a_batch_or_nothing() {
    let dir = TempDir::new().unwrap();
    for (moment, there) in [(Moment::BeforeCommit, false), (Moment::AfterCommit, true)] {
        let path = dir.path().join(format!("{moment:?}"));
        let tasks = TaskTracker::new();
        let opened = Ledger::open_with(&path, &tasks, move |now| now != moment).await;
        let (ledger, _) = opened.unwrap();
        let kept = &expected().tasks[&TaskId::from_bits(1)];
        let writes = [
            Write::Order(TaskId::from_bits(1), &kept.order),
            Write::Progress(TaskId::from_bits(1), &kept.progress),
        ];
        let outcome = ledger.write(&writes).await;
        assert!(matches!(outcome, Err(LedgerError::Closed)), "{outcome:?}");
        tasks.close();
        tasks.wait().await;
        let found = contents(&path).await.unwrap();
        assert_eq!(found.tasks.contains_key(&TaskId::from_bits(1)), there);
    }
}
