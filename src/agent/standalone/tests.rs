//! Lives of standalone containers on a runtime in memory, with a daemon that dies at every step of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::agent::runtime::fake::{FakeRuntime, Fate};
use crate::agent::task::health::Answer;
use crate::agent::task::plan::VolumeRequest;
use crate::model::container::{ImageRef, ProcessConfig};
use crate::model::standalone::{RestartKind, RestartPolicy, WaitFor, Wanted};
use crate::model::task_spec::{MountKind, MountSpec};
use crate::model::{ContainerConfig, ImageConfig, Timestamp};

impl Machine for FakeRuntime {
    async fn again(&self, id: ContainerId) -> Result<(), RuntimeError> {
        self.rewind(id).await
    }

    async fn resume(&self, _id: ContainerId) -> Result<(), RuntimeError> {
        Err(RuntimeError {
            failure: crate::agent::runtime::Failure::Refused,
            message: "it is not paused".into(),
            source: None,
        })
    }

    async fn reconfigure(&self, _config: &ContainerConfig) -> Result<(), RuntimeError> {
        Ok(())
    }

    fn rename(&self, _config: &ContainerConfig) -> Result<(), RuntimeError> {
        Ok(())
    }
}

/// Volumes that are made up: who holds which.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<BTreeMap<String, BTreeSet<ContainerId>>>>, Fate);

impl Supplies for Store {
    async fn image(&self, reference: &str) -> Result<Option<(ImageRef, ImageConfig)>, StockError> {
        let image = ImageRef {
            name: reference.to_owned(),
            manifest: Digest::from_bytes([1; 32]),
        };
        Ok((reference == "app").then(|| (image, ImageConfig::default())))
    }

    async fn volume(
        &self,
        container: ContainerId,
        _image: &ImageRef,
        wanted: &VolumeRequest,
    ) -> Result<PathBuf, StockError> {
        self.1.pass().await;
        let mut all = lock(&self.0);
        all.entry(wanted.name.clone())
            .or_default()
            .insert(container);
        Ok(PathBuf::from("/volumes").join(&wanted.name))
    }

    async fn hold(&self, container: ContainerId, volume: &str) -> Result<(), StockError> {
        let mut all = lock(&self.0);
        all.entry(volume.into()).or_default().insert(container);
        Ok(())
    }

    async fn bind(&self, _path: &Path, _make: bool) -> Result<(), StockError> {
        Ok(())
    }

    async fn release(&self, container: ContainerId, remove: &[String]) -> Result<(), StockError> {
        self.1.pass().await;
        {
            let mut all = lock(&self.0);
            all.values_mut().for_each(|users| {
                users.remove(&container);
            });
            all.retain(|name, _| !remove.contains(name));
        }
        self.1.pass().await;
        Ok(())
    }
}

#[derive(Clone)]
struct Well;

impl HealthExec for Well {
    async fn exec(&self, _: ContainerId, _: ProcessConfig, _: Duration) -> Answer {
        Answer::Exited(0)
    }
}

/// A machine, over the lives of its daemon.
struct World {
    dir: tempfile::TempDir,
    fate: Fate,
    runtime: FakeRuntime,
    store: Store,
}

type Own = Standalone<FakeRuntime, Store, Well>;

impl World {
    fn new() -> Self {
        let fate = Fate::default();
        Self {
            dir: tempfile::tempdir().unwrap(),
            runtime: FakeRuntime::new(fate.clone()),
            store: Store(Arc::default(), fate.clone()),
            fate,
        }
    }

    /// A daemon that dies at its step `ends_at`.
    fn live(&self, ends_at: Option<u64>) -> (Own, CancellationToken, TaskTracker) {
        let life = self.fate.reborn(ends_at);
        let clock: Clock = Arc::new(Timestamp::default);
        let tools = Tools {
            runtime: self.runtime.clone(),
            supplies: self.store.clone(),
            health: Well,
            happenings: Happenings::new(clock.clone()),
            vitals: Vitals::default(),
            clock,
            init: false,
        };
        let tracker = TaskTracker::new();
        let own = Standalone::open(tools, self.dir.path().into(), &tracker, life.clone());
        (own.unwrap(), life, tracker)
    }

    fn is_empty(&self) -> bool {
        let records = std::fs::read_dir(self.dir.path()).unwrap().count();
        let volumes = lock(&self.store.0);
        records == 0
            && self.runtime.containers().is_empty()
            && volumes.keys().all(|name| name == "named")
            && volumes.values().all(BTreeSet::is_empty)
    }
}

fn wanted(script: &str, kind: RestartKind) -> Wanted {
    let volume = |source: &str, target: &str| MountSpec {
        kind: Some(MountKind::Volume),
        source: source.into(),
        target: target.into(),
        ..MountSpec::default()
    };
    Wanted {
        name: "me".into(),
        image: "app".into(),
        command: vec!["sh".into(), "-c".into(), script.into()],
        labels: BTreeMap::from([("of".into(), "me".into())]),
        mounts: vec![volume("named", "/n"), volume("", "/a")],
        restart: RestartPolicy { kind, most: 0 },
        ..Wanted::default()
    }
}

/// What a user does, to its end.
async fn all_of_it(own: &Own) -> Result<(), String> {
    let id = own.create(wanted("sleep", RestartKind::No)).await;
    let id = id.map_err(|error| error.to_string())?;
    let words = |error: ActError| error.to_string();
    own.start(id).await.map_err(words)?;
    own.stop(id, None, None).await.map_err(words)?;
    own.start(id).await.map_err(words)?;
    own.remove(id, true).await.map_err(words)
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_dies_at_any_step_leaves_nothing_and_loses_nothing() {
    for ends_at in 1.. {
        let world = World::new();
        let (own, life, tracker) = world.live(Some(ends_at));
        let done = life.run_until_cancelled(all_of_it(&own)).await;
        if let Some(Err(error)) = &done {
            assert!(life.is_cancelled(), "step {ends_at}: {error}");
        }
        let is_whole = matches!(done, Some(Ok(())));
        life.cancel();
        drop(own);
        tracker.close();
        tracker.wait().await;

        let (own, life, tracker) = world.live(None);
        // What was being made or removed settles; all else is removed as its user would.
        for record in own.list() {
            let id = record.config.id;
            if record.life.phase == Phase::Making {
                own.wait(id, WaitFor::Removed).unwrap().await.unwrap();
            } else {
                let gone = own.remove(id, true).await;
                assert!(gone.is_ok() || !own.has(id), "step {ends_at}: {gone:?}");
            }
        }
        assert!(world.is_empty(), "step {ends_at}");
        let begun = world.runtime.begun("me");
        assert!(
            begun <= 2,
            "step {ends_at}: begun {begun} times for two requests"
        );
        life.cancel();
        tracker.close();
        tracker.wait().await;
        if is_whole {
            assert!(ends_at > 10, "the course has steps");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_always_runs_begins_again_by_itself_and_after_its_daemon() {
    let world = World::new();
    let (own, life, tracker) = world.live(None);
    let id = own
        .create(wanted("sleep", RestartKind::UnlessStopped))
        .await
        .unwrap();
    assert!(own.start(id).await.unwrap());
    assert!(!own.start(id).await.unwrap(), "it runs already");
    let ended = own.wait(id, WaitFor::NextExit).unwrap();
    world.runtime.exits(id, 3);
    assert_eq!(ended.await.unwrap().code, 3);
    assert!(own.until_it_runs(id).await);
    assert_eq!(own.look(id).unwrap().life.restarts, 1);
    let error = own
        .create(wanted("sleep", RestartKind::No))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("Conflict. The container name \"/me\""),
        "{error}"
    );
    // Its daemon goes, and its process ends while nobody looks.
    life.cancel();
    tracker.close();
    tracker.wait().await;
    world.runtime.exits(id, 0);
    let (own, life, tracker) = world.live(None);
    assert!(own.until_it_runs(id).await || own.look(id).unwrap().life.phase == Phase::Running);
    own.stop(id, None, None).await.unwrap();
    assert_eq!(own.look(id).unwrap().life.phase, Phase::Exited);
    life.cancel();
    tracker.close();
    tracker.wait().await;
    // What its user has ended stays so.
    let (own, _life, _tracker) = world.live(None);
    assert_eq!(own.look(id).unwrap().life.phase, Phase::Exited);
    own.rename(id, "other").await.unwrap();
    assert_eq!(own.find("other"), Some(id));
    own.remove(id, true).await.unwrap();
    assert!(world.is_empty());
}
