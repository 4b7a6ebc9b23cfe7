//! A cluster that runs real containers, and what is looked at in it: tasks by the API, as Docker Swarm's are.
//!
//! Both clusters are looked at every 50 ms, by `GET /tasks`, and both are given work by Docker's own command with the
//! same arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::future::select_ok;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::client::Client;
use crate::crew::{self, TaskView};
use crate::fleet::{Fleet, Peer};
use crate::wait::secs;
use crate::watch;

/// Between two looks, as in Swarm's measurement.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whatever takes longer is a fault.
pub(crate) const DEADLINE: Duration = secs(120);

/// The one service that is looked at.
pub(crate) const SERVICE: &str = "s";

/// What its tasks run.
const COMMAND: [&str; 2] = ["sleep", "100000"];

/// The hosts, each of which has the image.
pub(crate) struct Ground {
    pub(crate) fleet: Fleet,
}

/// What a change of a service took.
pub(crate) struct Took {
    /// Until all was so.
    pub(crate) time: Duration,
    /// Processor time of all hosts, for everything on them.
    pub(crate) cpu: Duration,
}

impl Ground {
    /// So many hosts in one cluster, which have run a container each.
    pub(crate) fn up(hosts: usize) -> Result<Self, String> {
        let fleet = Fleet::up(hosts)?;
        for host in 1..=hosts {
            crew::give_image(&fleet.bed, host);
        }
        let ground = Self { fleet };
        ground.create(2 * hosts, &[])?;
        ground.remove()?;
        Ok(ground)
    }

    /// Calls Docker's command on a host's socket, from outside.
    fn docker(&self, host: usize, arguments: &[&str]) -> Result<Child, String> {
        let socket = self.fleet.bed.socket(host);
        let _inside = self.fleet.runtime.enter();
        Command::new("docker")
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("DOCKER_CONFIG", self.fleet.bed.folder(host))
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("docker cannot be started: {error}"))
    }

    /// Creates the service on the host's network, and waits until all of it runs.
    pub(crate) fn create(&self, replicas: usize, more: &[&str]) -> Result<Took, String> {
        let (image, count) = (crew::pinned(), replicas.to_string());
        let mut arguments = vec!["service", "create", "--detach", "--no-resolve-image"];
        arguments.extend(["--name", SERVICE, "--replicas", &count]);
        arguments.extend(["--network", "host", "--stop-signal", "SIGKILL"]);
        arguments.extend(more);
        arguments.push(&image);
        arguments.extend(COMMAND);
        self.change(&arguments, |tasks| {
            let runs = tasks.iter().filter(|task| task.runs()).count();
            (runs == replicas, format!("{runs} of {replicas} run"))
        })
    }

    /// Has Docker's command do something through the first host, and waits until the tasks are as they should be.
    pub(crate) fn change(
        &self,
        arguments: &[&str],
        is_so: impl Fn(&[TaskView]) -> (bool, String),
    ) -> Result<Took, String> {
        let (cpu, begin) = (self.cpu(), Instant::now());
        let command = self.docker(1, arguments)?;
        let time = self.fleet.runtime.block_on(async {
            let mut client = self.fleet.client(1);
            let look = async || {
                let (so, words) = is_so(&tasks(&mut client).await?);
                so.then(|| begin.elapsed()).ok_or(words)
            };
            let time = watch::eventually(DEADLINE, LOOK_EVERY, arguments[1], look).await?;
            let said = command.wait_with_output().await;
            let said = said.map_err(|error| error.to_string())?;
            let words = String::from_utf8_lossy(&said.stderr).trim().to_owned();
            said.status.success().then_some(time).ok_or(words)
        })?;
        let cpu = self.cpu().saturating_sub(cpu);
        Ok(Took { time, cpu })
    }

    /// Removes all services, and waits until nothing is left of them on any host that is alive.
    pub(crate) fn remove(&self) -> Result<(), String> {
        let first = self.fleet.alive().first().map_or(1, |peer| peer.host);
        self.fleet.runtime.block_on(async {
            let mut client = self.fleet.client(first);
            for service in list(client.get("/services").await?) {
                let id = service["ID"].as_str().unwrap_or_default();
                let gone = client
                    .ask("DELETE", &format!("/services/{id}"), None)
                    .await?;
                gone.content()?;
            }
            let look = async || {
                let left = tasks(&mut client).await?.len();
                (left == 0)
                    .then_some(())
                    .ok_or_else(|| format!("{left} tasks are left"))
            };
            watch::eventually(DEADLINE, LOOK_EVERY, "all tasks are gone", look).await
        })?;
        for peer in self.fleet.alive() {
            crew::until_containers(&self.fleet.bed, peer.host, 0);
        }
        Ok(())
    }

    /// When so many tasks run on other nodes than `dead`, as the first of `asked` sees it.
    pub(crate) async fn until_elsewhere(
        &self,
        asked: &[Peer],
        dead: &str,
        replicas: usize,
        since: Instant,
    ) -> Result<Duration, String> {
        let looks = asked.iter().map(|peer| {
            let mut client = self.fleet.client(peer.host);
            Box::pin(async move {
                let look = async || {
                    let tasks = tasks(&mut client).await?;
                    let there = |task: &&TaskView| task.runs() && task.node() != dead;
                    let runs = tasks.iter().filter(there).count();
                    (runs >= replicas)
                        .then(|| since.elapsed())
                        .ok_or_else(|| format!("{runs} of {replicas} run elsewhere"))
                };
                watch::eventually(DEADLINE, LOOK_EVERY, "all run elsewhere", look).await
            })
        });
        select_ok(looks).await.map(|(took, _)| took)
    }

    /// Where tasks run, by node.
    pub(crate) fn spread(&self) -> Result<BTreeMap<String, usize>, String> {
        let tasks = self.fleet.runtime.block_on(async {
            let mut client = self.fleet.client(1);
            tasks(&mut client).await
        })?;
        let runs: Vec<TaskView> = tasks.into_iter().filter(TaskView::runs).collect();
        Ok(crew::by_node(&runs))
    }

    /// Processor time of all hosts so far: daemons, containerd, shims, and all that they started.
    fn cpu(&self) -> Duration {
        let inits = self.fleet.alive().into_iter().filter_map(|peer| {
            let pid = fs::read_to_string(self.fleet.bed.folder(peer.host).join("init")).ok()?;
            pid.trim().parse().ok()
        });
        crate::machine::cpu_of_trees(&inits.collect::<BTreeSet<i32>>())
    }
}

/// All tasks.
pub(crate) async fn tasks(client: &mut Client) -> Result<Vec<TaskView>, String> {
    let tasks = list(client.get("/tasks").await?);
    Ok(tasks.into_iter().map(TaskView).collect())
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(all) => all,
        _ => Vec::new(),
    }
}
