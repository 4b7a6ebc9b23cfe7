//! What users and machines do wrong, through the whole agent: the task ends in the right state with Docker's words,
//! and nothing is left of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use skein::agent::images::chain::digest_of;
use skein::agent::logs::{Driver, ReadOptions, read};
use skein::model::task_spec::{
    ContainerSpec, Driver as LogDriver, DriverConfig, Limit, MountKind, MountSpec,
    ResourceRequirements, VolumeOptions,
};
use skein::model::{ContainerId, TaskState};
use skein::wire::assignment::Assigned;

use crate::agent::{Agent, id, task, to};
use crate::bed::{Bed, within};
use crate::fake::{Answers, Fake};

/// What is wrong with a task, where it ends, what it says then, and with which exit code.
struct Case {
    task: Assigned,
    ends: TaskState,
    words: &'static str,
    code: Option<i32>,
}

fn spec(task: &mut Assigned) -> &mut ContainerSpec {
    task.spec.container_spec.as_mut().unwrap()
}

fn limit(task: &mut Assigned) -> &mut Limit {
    let resources = task.spec.resources.get_or_insert_default();
    let ResourceRequirements { limits, .. } = resources;
    limits.get_or_insert_default()
}

fn bind(source: &str) -> MountSpec {
    MountSpec {
        kind: Some(MountKind::Bind),
        source: source.into(),
        target: "/mounted".into(),
        ..MountSpec::default()
    }
}

fn volume(target: &str, driver: &str) -> MountSpec {
    MountSpec {
        kind: Some(MountKind::Volume),
        source: "unmade".into(),
        target: target.into(),
        volume_options: Some(VolumeOptions {
            driver_config: Some(DriverConfig {
                name: driver.into(),
                ..DriverConfig::default()
            }),
            ..VolumeOptions::default()
        }),
        ..MountSpec::default()
    }
}

/// Tasks that cannot be made: rejected.
fn impossible(bed: &Bed) -> Vec<Case> {
    let made = |words, change: fn(&mut Assigned)| {
        let mut task = task(bed, 0, "exit 0");
        change(&mut task);
        Case {
            task,
            ends: TaskState::Rejected,
            words,
            code: None,
        }
    };
    vec![
        made(
            "unable to find user nobody-here: no matching entries in passwd file",
            |task| {
                spec(task).user = "nobody-here".into();
            },
        ),
        made(
            "invalid mount config for type \"bind\": bind source path does not exist: /no/such/path",
            |task| spec(task).mounts = vec![bind("/no/such/path")],
        ),
        made("destination can't be '/'", |task| {
            spec(task).mounts = vec![volume("/", "local")];
        }),
        made(
            "error looking up volume plugin no-driver: plugin \"no-driver\" not found",
            |task| spec(task).mounts = vec![volume("/mounted", "no-driver")],
        ),
        made("Minimum memory limit allowed is 6MB", |task| {
            limit(task).memory_bytes = 1 << 20;
        }),
        made("range of CPUs is from 0.01 to", |task| {
            limit(task).nano_cpus = 100_000 * 1_000_000_000;
        }),
        made("invalid capability: \"CAP_NOTHING\"", |task| {
            spec(task).capability_add = vec!["CAP_NOTHING".into()];
        }),
        made("no log driver named 'no-log' is registered", |task| {
            task.spec.log_driver = Some(LogDriver {
                name: "no-log".into(),
                ..LogDriver::default()
            });
        }),
        made(
            "unknown log opt 'no-option' for json-file log driver",
            |task| {
                task.spec.log_driver = Some(LogDriver {
                    name: "json-file".into(),
                    options: [("no-option".to_owned(), "1".to_owned())].into(),
                });
            },
        ),
        made("No such image: 127.0.0.1:1/no/such:image", |task| {
            spec(task).image = "127.0.0.1:1/no/such:image".into();
        }),
        made("invalid reference format", |task| {
            spec(task).image = "A:b:c".into()
        }),
        made("No such image: 127.0.0.1:1/x@sha256:", |task| {
            spec(task).image = format!("127.0.0.1:1/x@sha256:{}", "12".repeat(32));
        }),
    ]
}

/// Tasks that begin and fail.
fn doomed(bed: &Bed) -> Vec<Case> {
    let failed = |words, code, script: &str, change: fn(&mut Assigned)| {
        let mut task = task(bed, 0, script);
        change(&mut task);
        Case {
            task,
            ends: if code == Some(0) {
                TaskState::Complete
            } else {
                TaskState::Failed
            },
            words,
            code,
        }
    };
    vec![
        failed(
            "exec: \"no-such-program\": executable file not found in $PATH",
            None,
            "",
            |task| spec(task).command = vec!["no-such-program".into()],
        ),
        failed(
            "exec: \"/etc/unrunnable\": permission denied",
            None,
            "",
            |task| {
                spec(task).command = vec!["/etc/unrunnable".into()];
            },
        ),
        failed("exec: \"/etc\": ", None, "", |task| {
            spec(task).command = vec!["/etc".into()];
        }),
        failed(
            "open /proc/sys/net/no/such/sysctl: no such file or directory",
            None,
            "",
            |task| {
                spec(task).sysctls = [("net.no.such.sysctl".to_owned(), "1".to_owned())].into();
            },
        ),
        failed("task: non-zero exit", Some(1), "exec /etc/garbage", |_| {}),
        failed("", Some(0), "exit 0", |_| {}),
        failed("task: non-zero exit (3)", Some(3), "exit 3", |_| {}),
        failed(
            "task: non-zero exit (139)",
            Some(139),
            "sh -c 'kill -SEGV $$'; exit $?",
            |_| {},
        ),
        failed(
            "task: non-zero exit (137)",
            Some(137),
            "x=0123456789abcdef; while :; do x=$x$x; done",
            |task| limit(task).memory_bytes = 16 << 20,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ends_in_the_right_state_and_leaves_nothing() {
    let Some(bed) = Bed::up() else { return };
    let agent = Agent::up(&bed).await;
    let mut cases = impossible(&bed);
    cases.extend(doomed(&bed));
    for (number, case) in (1..).zip(&mut cases) {
        case.task.task = id(number);
    }
    let tasks: Vec<Assigned> = cases.iter().map(|case| case.task.clone()).collect();
    agent.assign(1, &tasks, &[]).await;
    for case in &cases {
        let status = agent.until_ended(case.task.task).await;
        let (ends, words) = (case.ends, case.words);
        assert_eq!(status.state, ends, "{words}: {status:?}");
        assert!(status.err.contains(words), "{words}: {status:?}");
        if case.code.is_some_and(|code| code != 1) {
            assert_eq!(status.exit_code, case.code, "{words}: {status:?}");
        }
    }
    let all: Vec<_> = cases.iter().map(|case| case.task.task).collect();
    agent.assign(2, &[], &all).await;
    for task in all {
        agent.until_forgotten(task).await;
    }
    agent.down().await;
    bed.nothing_left();
}

/// What a registry answers that refuses, breaks, or lies. `pinned` is not the digest of what it sends for it.
fn lies(pinned: &str) -> Answers {
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}});
    let config = config.to_string();
    let manifest = |kind: &str, content: &str| {
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": kind, "digest": digest_of(content.as_bytes()), "size": content.len()}, "layers": []})
        .to_string()
    };
    let good = manifest("application/vnd.oci.image.config.v1+json", &config);
    let foreign = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest_of(good.as_bytes()),
        "size": good.len(), "platform": {"os": "linux", "architecture": "s390x"},
    }]});
    Answers::from([
        ("/v2/secret/manifests/latest".into(), (401, Vec::new())),
        ("/v2/broken/manifests/latest".into(), (500, Vec::new())),
        (
            "/v2/lying/manifests/latest".into(),
            (200, good.clone().into_bytes()),
        ),
        (
            format!("/v2/lying/blobs/{}", digest_of(config.as_bytes())),
            (200, b"{}".to_vec()),
        ),
        (
            format!("/v2/pinned/manifests/{pinned}"),
            (200, good.into_bytes()),
        ),
        (
            "/v2/foreign/manifests/latest".into(),
            (200, foreign.to_string().into_bytes()),
        ),
        (
            "/v2/nonsense/manifests/latest".into(),
            (200, b"<html>".to_vec()),
        ),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_or_lies_rejects_the_task_and_leaves_nothing() {
    let Some(bed) = Bed::up() else { return };
    let agent = Agent::up(&bed).await;
    let pinned = format!("sha256:{}", "ab".repeat(32));
    let fake = Fake::start(lies(&pinned)).await;
    let names = [
        "missing", "secret", "broken", "lying", "foreign", "nonsense",
    ];
    let mut images: Vec<String> = names
        .iter()
        .map(|name| format!("{}/{name}:latest", fake.address))
        .collect();
    images.push(format!("{}/pinned@{pinned}", fake.address));
    let tasks: Vec<Assigned> = (1..)
        .zip(&images)
        .map(|(number, image)| {
            let mut task = task(&bed, number, "exit 0");
            spec(&mut task).image = image.clone();
            task
        })
        .collect();
    agent.assign(1, &tasks, &[]).await;
    for (task, image) in tasks.iter().zip(&images) {
        let status = agent.until_ended(task.task).await;
        assert_eq!(status.state, TaskState::Rejected, "{image}: {status:?}");
        assert_eq!(status.err, format!("No such image: {image}"));
    }
    let all: Vec<_> = tasks.iter().map(|task| task.task).collect();
    agent.assign(2, &[], &all).await;
    for task in all {
        agent.until_forgotten(task).await;
    }
    agent.down().await;
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_is_held_and_ended() {
    let Some(bed) = Bed::up() else { return };
    let agent = Agent::up(&bed).await;
    let mut bomb = task(
        &bed,
        1,
        "trap '' TERM; mkfifo /tmp/f; b() { b | b & b; }; echo ready; exec 3<>/tmp/f; (b) & while :; do read x <&3; done",
    );
    limit(&mut bomb).pids = 24;
    limit(&mut bomb).nano_cpus = 500_000_000;
    spec(&mut bomb).stop_grace_period = Some(300_000_000);
    agent.assign(1, &[bomb.clone()], &[]).await;
    let status = agent.until(id(1), TaskState::Running).await;
    let container = status.container.unwrap();
    bed.until_said(container, "ready");
    let events = Path::new("/sys/fs/cgroup/pids")
        .join(&bed.name)
        .join(container.to_string());
    crate::bed::eventually("it has gone off", || {
        // Where the old groups are; on others only the end is looked at.
        match fs::read_to_string(events.join("pids.events")) {
            Ok(events) if events.trim() == "max 0" => Err(events),
            _ => Ok(()),
        }
    });
    // Everything else goes on as ever.
    agent
        .assign(2, &[task(&bed, 2, "echo unharmed")], &[])
        .await;
    agent.until(id(2), TaskState::Complete).await;
    agent.assign(3, &[to(bomb, TaskState::Shutdown)], &[]).await;
    let status = agent.until(id(1), TaskState::Shutdown).await;
    assert_eq!(status.exit_code, Some(137));
    agent.assign(4, &[], &[id(1), id(2)]).await;
    agent.until_forgotten(id(1)).await;
    agent.until_forgotten(id(2)).await;
    agent.down().await;
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_and_binary_ones_are_logged_to_the_last_byte() {
    use futures_util::StreamExt as _;
    let Some(bed) = Bed::up() else { return };
    let agent = Agent::up(&bed).await;
    let script =
        "head -c 1048576 /dev/zero | tr '\\0' x; echo; head -c 300000 /bin/busybox; echo; echo end";
    let mut task = task(&bed, 1, script);
    // The driver whose records can hold any byte.
    task.spec.log_driver = Some(LogDriver {
        name: "local".into(),
        ..LogDriver::default()
    });
    agent.assign(1, &[task], &[]).await;
    let status = agent.until(id(1), TaskState::Complete).await;
    let folder = agent.runtime.folder(status.container.unwrap());
    let lines = read(
        &folder,
        Driver::Local,
        ReadOptions::default(),
        Default::default(),
    )
    .unwrap();
    let said: Vec<u8> = within(
        lines
            .map(|line| line.unwrap().line.to_vec())
            .collect::<Vec<_>>(),
    )
    .await
    .concat();
    let busybox = fs::read("/bin/busybox").unwrap();
    let expected = [&[b'x'; 1 << 20][..], b"\n", &busybox[..300_000], b"\nend\n"].concat();
    assert_eq!(said.len(), expected.len());
    assert!(said == expected, "the bytes differ");
    agent.assign(2, &[], &[id(1)]).await;
    agent.until_forgotten(id(1)).await;
    agent.down().await;
    bed.nothing_left();
}

/// A small disk, full at first.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn on(path: &'a Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(path)
            .status();
        assert!(mounted.unwrap().success());
        Self(path)
    }

    fn fill(&self) {
        let _ = fs::write(self.0.join(".ballast"), vec![0; 2 << 20]);
    }

    fn free(&self) {
        fs::remove_file(self.0.join(".ballast")).unwrap();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_a_task_until_there_is_room() {
    let Some(bed) = Bed::up() else { return };
    let state = bed.state();
    let disk = SmallDisk::on(&state);
    let agent = Agent::up(&bed).await;
    disk.fill();
    agent
        .assign(1, &[task(&bed, 1, "while :; do sleep 0.1; done")], &[])
        .await;
    let full = agent
        .until_status(id(1), |status| {
            status.err.contains("No space left on device")
        })
        .await;
    assert!(full.state < TaskState::Starting, "{full:?}");
    disk.free();
    agent.until(id(1), TaskState::Running).await;
    // It can be ended on a full disk as well.
    disk.fill();
    agent.assign(2, &[], &[id(1)]).await;
    agent.until_forgotten(id(1)).await;
    disk.free();
    agent.down().await;
    assert_eq!(
        fs::read_dir(&state)
            .unwrap()
            .flatten()
            .filter(|e| e
                .file_name()
                .to_string_lossy()
                .parse::<ContainerId>()
                .is_ok())
            .count(),
        0
    );
    drop(disk);
    bed.nothing_left();
}
