//! A bed whose hosts have an image, and services of it, in the words of the tests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::bed::Bed;
use crate::image;
use crate::run::{Said, bounded, run};
use crate::wait::{eventually, secs};

/// The image that each host has, by its digest: no registry is asked for it.
pub(crate) fn pinned() -> String {
    static PINNED: OnceLock<String> = OnceLock::new();
    let pinned = PINNED.get_or_init(|| {
        let archive = std::env::temp_dir().join(format!("skein-e2e-{}.tar", std::process::id()));
        let digest = image::write(&archive);
        let _ = std::fs::remove_file(archive);
        format!("test/busybox@{digest}")
    });
    pinned.clone()
}

/// A program that runs until it is asked to end.
pub(crate) const RUNS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// One task as `GET /tasks` shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TaskView(pub(crate) Value);

impl TaskView {
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.0
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(crate) fn id(&self) -> &str {
        self.text("/ID")
    }

    pub(crate) fn node(&self) -> &str {
        self.text("/NodeID")
    }

    pub(crate) fn state(&self) -> &str {
        self.text("/Status/State")
    }

    pub(crate) fn container(&self) -> &str {
        self.text("/Status/ContainerStatus/ContainerID")
    }

    pub(crate) fn slot(&self) -> u64 {
        self.0["Slot"].as_u64().unwrap_or_default()
    }

    /// Whether it is to run, and does.
    pub(crate) fn runs(&self) -> bool {
        self.is_wanted() && self.state() == "running"
    }

    pub(crate) fn is_wanted(&self) -> bool {
        ["running", "ready", "complete"].contains(&self.text("/DesiredState"))
    }
}

/// `count` hosts in one cluster, each of which can run containers of the image. `None` as for [`Bed::up`].
#[track_caller]
pub(crate) fn up(count: usize) -> Option<Bed> {
    let bed = Bed::up(count)?;
    for host in 1..=count {
        give_image(&bed, host);
    }
    Some(bed)
}

/// Gives a host the image.
#[track_caller]
pub(crate) fn give_image(bed: &Bed, host: usize) {
    let archive = bed.folder(host).join("busybox.tar");
    image::write(&archive);
    let archive = archive.display().to_string();
    eventually(secs(40), "the host has the image", || {
        ctr(bed, host, &["images", "import", &archive]).result()
    });
}

/// Calls the host's private containerd, in the daemon's namespace.
pub(crate) fn ctr(bed: &Bed, host: usize, args: &[&str]) -> Said {
    let namespace = std::fs::read_to_string(bed.folder(host).join("data/instance"));
    let namespace = namespace.unwrap_or_default();
    run(bounded(secs(30), "ctr")
        .arg("--address")
        .arg(socket(bed, host))
        .args(["--namespace", namespace.trim()])
        .args(args))
}

/// The socket of a host's private containerd, from outside.
pub(crate) fn socket(bed: &Bed, host: usize) -> PathBuf {
    bed.folder(host).join("run/containerd/containerd.sock")
}

/// `docker service create` of the image with these options and this script; gives the service's ID.
#[track_caller]
pub(crate) fn create(bed: &Bed, host: usize, options: &[&str], script: &str) -> String {
    try_create(bed, host, options, script).ok()
}

pub(crate) fn try_create(bed: &Bed, host: usize, options: &[&str], script: &str) -> Said {
    let mut all = vec!["service", "create", "--detach", "--no-resolve-image"];
    all.extend(options);
    let image = pinned();
    all.extend([&image, "sh", "-c", script]);
    bed.docker(host, &all)
}

/// All tasks of a service.
pub(crate) fn tasks(bed: &Bed, host: usize, service: &str) -> Result<Vec<TaskView>, String> {
    let filters = format!("%7B%22service%22%3A%7B%22{service}%22%3Atrue%7D%7D");
    match bed.get(host, &format!("/tasks?filters={filters}"))? {
        Value::Array(tasks) => Ok(tasks.into_iter().map(TaskView).collect()),
        other => Err(format!("no list: {other}")),
    }
}

/// Waits until exactly `count` tasks of a service are to run, and all of them do.
#[track_caller]
pub(crate) fn until_runs(
    bed: &Bed,
    host: usize,
    service: &str,
    count: usize,
    deadline: Duration,
) -> Vec<TaskView> {
    eventually(deadline, &format!("{count} of {service} run"), || {
        let all = tasks(bed, host, service)?;
        let wanted: Vec<TaskView> = all.iter().filter(|t| t.is_wanted()).cloned().collect();
        let run = wanted.iter().filter(|task| task.runs()).count();
        if wanted.len() == count && run == count {
            return Ok(wanted);
        }
        Err(told(&all))
    })
}

/// Waits until a task of a service satisfies `test`, and gives it.
#[track_caller]
pub(crate) fn until_some(
    bed: &Bed,
    host: usize,
    service: &str,
    what: &str,
    test: impl Fn(&TaskView) -> bool,
) -> TaskView {
    eventually(secs(30), what, || {
        let all = tasks(bed, host, service)?;
        let found = all.iter().find(|task| test(task)).cloned();
        found.ok_or_else(|| told(&all))
    })
}

fn told(tasks: &[TaskView]) -> String {
    let lines = tasks.iter().map(|task| {
        format!(
            "{} slot {} on {}: {} → {} {} {}",
            task.id(),
            task.slot(),
            task.node(),
            task.state(),
            task.text("/DesiredState"),
            task.text("/Status/Message"),
            task.text("/Status/Err")
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// How many of these tasks each node has.
pub(crate) fn by_node(tasks: &[TaskView]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for task in tasks {
        *counts.entry(task.node().to_owned()).or_default() += 1;
    }
    counts
}

/// The IDs of these tasks, in order.
pub(crate) fn ids(tasks: &[TaskView]) -> Vec<String> {
    let mut ids: Vec<String> = tasks.iter().map(|task| task.id().to_owned()).collect();
    ids.sort();
    ids
}

/// The containers that a host has.
pub(crate) fn containers(bed: &Bed, host: usize) -> Result<Vec<String>, String> {
    let listed = ctr(bed, host, &["containers", "ls", "-q"]).result()?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Waits until exactly these many containers run on a host.
#[track_caller]
pub(crate) fn until_running(bed: &Bed, host: usize, count: usize) {
    let what = format!("{count} containers run on host {host}");
    eventually(secs(40), &what, || {
        let all = ctr(bed, host, &["tasks", "ls"]).result()?;
        let run = all.lines().filter(|line| line.contains("RUNNING")).count();
        (run == count).then_some(()).ok_or(all)
    });
}

/// Waits until a host has exactly these many containers.
#[track_caller]
pub(crate) fn until_containers(bed: &Bed, host: usize, count: usize) {
    let what = format!("host {host} has {count} containers");
    eventually(secs(40), &what, || {
        let all = containers(bed, host)?;
        (all.len() == count)
            .then_some(())
            .ok_or_else(|| format!("{all:?}"))
    });
}
