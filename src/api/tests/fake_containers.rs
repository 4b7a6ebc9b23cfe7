//! Containers that are made up: what there is, what they have said, and what was done to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};

use super::world::{NOW, lock};
use crate::api::backend::Refusal;
use crate::api::backend::containers::{
    Container, Containers, ExecView, ExecWanted, Input, LogLines, Output, Streams,
};
use crate::model::container::{
    ContainerState, DnsConfig, Exit, ImageRef, LogConfig, NetworkMode, PathStat, ProcessConfig,
    Security, Sharing,
};
use crate::model::limits::ResourceLimits;
use crate::model::log::{LogLine, Origin, ReadOptions};
use crate::model::standalone::{RestartPolicy, WaitFor, Wanted};
use crate::model::stats::Stats;
use crate::model::{ContainerConfig, ContainerId, Digest, Timestamp};

/// A container that runs for five minutes.
pub(crate) fn container(number: u8, name: &str) -> Container {
    let config = ContainerConfig {
        id: ContainerId::from_bytes([number; 32]),
        name: name.into(),
        image: ImageRef {
            name: "nginx:1".into(),
            manifest: Digest::from_bytes([1; 32]),
        },
        labels: BTreeMap::from([("tier".into(), "front".into())]),
        process: ProcessConfig {
            args: vec!["nginx".into(), "-g".into()],
            ..ProcessConfig::default()
        },
        hostname: String::new(),
        domainname: String::new(),
        hosts: Vec::new(),
        dns: DnsConfig::default(),
        mounts: Vec::new(),
        read_only: false,
        shm_size: 0,
        security: Security::default(),
        limits: ResourceLimits::default(),
        ulimits: Vec::new(),
        sysctls: BTreeMap::new(),
        pid: Sharing::Own,
        ipc: Sharing::Own,
        network: NetworkMode::Host,
        init: false,
        stop_signal: "SIGTERM".into(),
        stop_grace: Duration::from_secs(10),
        log: LogConfig::default(),
    };
    let ago = |seconds: i128| Timestamp::from_nanos(NOW.nanos() - seconds * 1_000_000_000);
    Container {
        config,
        state: ContainerState::Running {
            pid: 100 + u32::from(number),
            paused: false,
        },
        created: ago(301 + i128::from(number)),
        started: Some(ago(300)),
        log_path: None,
        folder: "/data/containers/x".into(),
        health: None,
        places: Vec::new(),
        standalone: None,
    }
}

/// See above.
#[derive(Default)]
pub(crate) struct FakeContainers {
    pub(crate) all: Mutex<Vec<Container>>,
    /// What was done, in words.
    pub(crate) done: Mutex<Vec<String>>,
}

impl FakeContainers {
    fn note(&self, what: String) -> Result<(), Refusal> {
        lock(&self.done).push(what);
        Ok(())
    }
}

fn not_here() -> Refusal {
    Refusal::internal("the made-up machine does not do this")
}

#[async_trait]
impl Containers for FakeContainers {
    async fn list(&self) -> Result<Vec<Container>, Refusal> {
        Ok(lock(&self.all).clone())
    }

    async fn look(&self, id: ContainerId) -> Result<Option<Container>, Refusal> {
        let all = lock(&self.all);
        Ok(all.iter().find(|one| one.config.id == id).cloned())
    }

    async fn image_ids(&self) -> HashMap<Digest, Digest> {
        HashMap::from([(Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]))])
    }

    async fn size(&self, _id: ContainerId) -> Result<u64, Refusal> {
        Ok(4096)
    }

    async fn logs(&self, id: ContainerId, options: ReadOptions) -> Result<LogLines, Refusal> {
        self.note(format!("logs {} {options:?}", id.short()))?;
        let line = |stream, text: &'static str| LogLine {
            at: NOW,
            stream,
            line: Bytes::from_static(text.as_bytes()),
            partial: false,
            details: Vec::new(),
        };
        let lines = [line(Origin::Stdout, "one\n"), line(Origin::Stderr, "two\n")];
        Ok(stream::iter(lines.map(Ok)).boxed())
    }

    async fn attach(&self, _id: ContainerId) -> Result<Option<Input>, Refusal> {
        Ok(None)
    }

    async fn resize(&self, id: ContainerId, height: u32, width: u32) -> Result<(), Refusal> {
        self.note(format!("resize {} {height} {width}", id.short()))
    }

    async fn kill(&self, id: ContainerId, signal: i32) -> Result<(), Refusal> {
        self.note(format!("kill {} {signal}", id.short()))
    }

    async fn stop(
        &self,
        id: ContainerId,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<(), Refusal> {
        self.note(format!("stop {} {signal:?} {grace:?}", id.short()))
    }

    async fn pause(&self, id: ContainerId) -> Result<(), Refusal> {
        self.note(format!("pause {}", id.short()))
    }

    async fn resume(&self, id: ContainerId) -> Result<(), Refusal> {
        self.note(format!("resume {}", id.short()))
    }

    async fn create(&self, wanted: Wanted) -> Result<ContainerId, Refusal> {
        self.note(format!("create {} {:?}", wanted.image, wanted.command))?;
        Ok(ContainerId::from_bytes([0xc; 32]))
    }

    async fn start(&self, id: ContainerId) -> Result<bool, Refusal> {
        self.note(format!("start {}", id.short()))?;
        Ok(true)
    }

    async fn restart(
        &self,
        id: ContainerId,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<(), Refusal> {
        self.note(format!("restart {} {signal:?} {grace:?}", id.short()))
    }

    async fn remove(&self, id: ContainerId, volumes: bool) -> Result<(), Refusal> {
        self.note(format!("remove {} {volumes}", id.short()))
    }

    async fn rename(&self, id: ContainerId, name: &str) -> Result<(), Refusal> {
        self.note(format!("rename {} {name}", id.short()))
    }

    async fn set_restart(&self, id: ContainerId, restart: RestartPolicy) -> Result<(), Refusal> {
        self.note(format!("restart policy {} {:?}", id.short(), restart.kind))
    }

    async fn export(&self, _id: ContainerId) -> Result<Output, Refusal> {
        Err(not_here())
    }

    async fn listen(&self, id: ContainerId, options: ReadOptions) -> Result<LogLines, Refusal> {
        self.logs(id, options).await
    }

    async fn wait(
        &self,
        _id: ContainerId,
        _what: WaitFor,
    ) -> Result<BoxFuture<'static, Result<Exit, Refusal>>, Refusal> {
        let exit = Exit {
            code: 3,
            at: NOW,
            oom: false,
        };
        Ok(Box::pin(std::future::ready(Ok(exit))))
    }

    async fn update(&self, id: ContainerId, limits: ResourceLimits) -> Result<(), Refusal> {
        self.note(format!("update {} {}", id.short(), limits.memory))
    }

    async fn processes(&self, _id: ContainerId) -> Result<Vec<u32>, Refusal> {
        Ok(vec![std::process::id()])
    }

    async fn stats(&self, _id: ContainerId) -> Result<Stats, Refusal> {
        Ok(Stats::default())
    }

    async fn stat_path(&self, _id: ContainerId, _path: &str) -> Result<PathStat, Refusal> {
        Err(not_here())
    }

    async fn archive_out(
        &self,
        _id: ContainerId,
        _path: &str,
    ) -> Result<(PathStat, Output), Refusal> {
        Err(not_here())
    }

    async fn archive_in(&self, _id: ContainerId, _path: &str, _tar: Output) -> Result<(), Refusal> {
        Err(not_here())
    }

    async fn create_exec(&self, id: ContainerId, wanted: ExecWanted) -> Result<String, Refusal> {
        self.note(format!("exec {} {:?}", id.short(), wanted.process.args))?;
        Ok("e".repeat(64))
    }

    fn exec(&self, exec: &str) -> Result<ExecView, Refusal> {
        Err(Refusal::not_found(format!("No such exec instance: {exec}")))
    }

    async fn start_exec(&self, _exec: &str, _streams: bool) -> Result<Streams, Refusal> {
        Err(not_here())
    }

    async fn wait_exec(&self, _exec: &str) {}

    async fn resize_exec(&self, _exec: &str, _height: u32, _width: u32) -> Result<(), Refusal> {
        Err(not_here())
    }
}
