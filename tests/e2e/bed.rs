//! A bed of hosts for one test: `scripts/cluster` under a name of its own, taken down when the test ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::http::{self, Answer};
use crate::run::{Said, bounded, run};
use crate::view::{NodeView, hosts_where};
use crate::wait::{eventually, secs};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cluster");
const BEDS: &str = "/var/tmp/skein-beds";

/// Beds at a time: each has several daemons, and a starved machine proves nothing about time.
const BEDS_AT_ONCE: usize = 2;

/// Longest that one command may take; the script's own deadlines are shorter.
const COMMAND_DEADLINE: Duration = secs(120);

static IN_USE: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// Hosts, numbered from one. Dropping it removes them.
pub(crate) struct Bed {
    name: String,
}

impl Bed {
    /// `count` hosts in one cluster. `None`, with the reason on standard error, where no hosts can be made.
    #[track_caller]
    pub(crate) fn up(count: usize) -> Option<Self> {
        let bed = Self::empty()?;
        bed.script(&["up", &count.to_string()]).ok();
        Some(bed)
    }

    /// `count` hosts with a daemon each, in no cluster. `None` as for [`Bed::up`].
    #[track_caller]
    pub(crate) fn hosts(count: usize) -> Option<Self> {
        let bed = Self::empty()?;
        bed.add_hosts(count);
        Some(bed)
    }

    fn empty() -> Option<Self> {
        if let Some(reason) = why_not() {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                // Past the test runner, which hides what a passing test prints.
                let _ = writeln!(std::io::stderr(), "end-to-end tests are skipped: {reason}");
            });
            return None;
        }
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        while *in_use >= BEDS_AT_ONCE {
            in_use = FREED.wait(in_use).unwrap_or_else(PoisonError::into_inner);
        }
        *in_use += 1;
        drop(in_use);
        static NEXT: Mutex<u32> = Mutex::new(0);
        let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        Some(Self {
            name: format!("t{}-{next}", std::process::id()),
        })
    }

    /// Runs a verb of `scripts/cluster`.
    #[track_caller]
    pub(crate) fn script(&self, args: &[&str]) -> Said {
        run(self.script_command().args(args))
    }

    /// A call of `scripts/cluster`, to be completed.
    pub(crate) fn script_command(&self) -> Command {
        let mut command = bounded(COMMAND_DEADLINE, SCRIPT);
        command
            .env("SKEIN_BED", &self.name)
            .env("SKEIN_BEDS", BEDS)
            .env("SKEIN_BIN", program());
        command
    }

    /// Makes the hosts up to `count`, each with a running daemon.
    #[track_caller]
    pub(crate) fn add_hosts(&self, count: usize) {
        self.script(&["hosts", &count.to_string()]).ok();
    }

    /// One verb for one host; fails when it does.
    #[track_caller]
    pub(crate) fn act(&self, verb: &str, host: usize) {
        self.script(&[verb, &host.to_string()]).ok();
    }

    /// Runs a program on a host.
    #[track_caller]
    pub(crate) fn exec(&self, host: usize, args: &[&str]) -> Said {
        run(self
            .script_command()
            .arg("exec")
            .arg(host.to_string())
            .args(args))
    }

    /// Runs `skein` on a host.
    #[track_caller]
    pub(crate) fn skein(&self, host: usize, args: &[&str]) -> Said {
        let program = program();
        let mut all = vec![program.to_str().expect("the path is text")];
        all.extend(args);
        self.exec(host, &all)
    }

    /// Runs `docker` outside, against a host's socket.
    #[track_caller]
    pub(crate) fn docker(&self, host: usize, args: &[&str]) -> Said {
        let mut command = bounded(secs(60), "docker");
        command.env(
            "DOCKER_HOST",
            format!("unix://{}", self.socket(host).display()),
        );
        command
            .env("DOCKER_CONFIG", self.folder(host))
            .env_remove("DOCKER_CONTEXT")
            .args(args);
        run(&mut command)
    }

    /// A host's folder: `data`, `run` and `log` are in it.
    pub(crate) fn folder(&self, host: usize) -> PathBuf {
        Path::new(BEDS).join(&self.name).join(host.to_string())
    }

    pub(crate) fn socket(&self, host: usize) -> PathBuf {
        self.folder(host).join("run/skein.sock")
    }

    /// All that a host's daemon has logged.
    pub(crate) fn log(&self, host: usize) -> String {
        std::fs::read_to_string(self.folder(host).join("log")).unwrap_or_default()
    }

    /// Sends a request to a host's API.
    pub(crate) fn ask(
        &self,
        host: usize,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        http::ask(&self.socket(host), method, path, body)
    }

    /// The JSON at `path` of a host's API.
    pub(crate) fn get(&self, host: usize, path: &str) -> Result<Value, String> {
        self.ask(host, "GET", path, None)?.json()
    }

    /// The cluster's nodes as `host` shows them.
    pub(crate) fn nodes(&self, host: usize) -> Result<Vec<NodeView>, String> {
        match self.get(host, "/nodes")? {
            Value::Array(nodes) => Ok(nodes.into_iter().map(NodeView).collect()),
            other => Err(format!("no list: {other}")),
        }
    }

    /// The node of `host`, as itself shows it.
    #[track_caller]
    pub(crate) fn node(&self, host: usize) -> NodeView {
        NodeView(eventually(secs(20), "the node can be read", || {
            let info = self.get(host, "/info")?;
            let id = info["Swarm"]["NodeID"].as_str().unwrap_or_default();
            self.get(host, &format!("/nodes/{id}"))
        }))
    }

    /// Makes a cluster of `host` and returns the token line that `skein init` prints.
    #[track_caller]
    pub(crate) fn init(&self, host: usize) -> String {
        token_in(&self.skein(host, &["init"]).ok())
    }

    /// A join token of a kind: `--worker`, `--manager` or `--peer`.
    #[track_caller]
    pub(crate) fn token(&self, host: usize, kind: &str) -> String {
        token_in(&self.skein(host, &["token", kind]).ok())
    }

    /// Waits until `host` shows exactly these hosts as Ready.
    #[track_caller]
    pub(crate) fn until_ready(&self, host: usize, expected: &[usize]) {
        eventually(secs(20), &format!("hosts {expected:?} are Ready"), || {
            let ready = hosts_where(&self.nodes(host)?, NodeView::is_ready);
            (ready == expected)
                .then_some(())
                .ok_or_else(|| format!("Ready are {ready:?}"))
        });
    }

    /// Waits until `host` shows exactly these hosts as managers that answer, by vote and by role, and no others as
    /// managers.
    #[track_caller]
    pub(crate) fn until_managers(&self, host: usize, expected: &[usize]) {
        eventually(
            secs(40),
            &format!("hosts {expected:?} are the managers"),
            || {
                let nodes = self.nodes(host)?;
                let managers = hosts_where(&nodes, NodeView::is_manager);
                let reachable = hosts_where(&nodes, NodeView::is_reachable_manager);
                let by_role = hosts_where(&nodes, |node| node.text("/Spec/Role") == "manager");
                let settled = managers == expected && reachable == expected && by_role == expected;
                settled.then_some(()).ok_or_else(|| {
                    format!(
                        "managers are {managers:?}, by role {by_role:?}, reachable {reachable:?}"
                    )
                })
            },
        );
    }

    /// The host of the leader that one of `asked` names. Waits for one.
    #[track_caller]
    pub(crate) fn leader(&self, asked: &[usize]) -> usize {
        let mut turn = asked.iter().cycle();
        eventually(secs(20), "there is one leader", || {
            let host = turn.next().ok_or("no host is left")?;
            match hosts_where(&self.nodes(*host)?, NodeView::leads)[..] {
                [leader] => Ok(leader),
                ref leaders => Err(format!("host {host} names {leaders:?}")),
            }
        })
    }

    /// A host's `Swarm` part of `/info`, which each node has even alone.
    #[track_caller]
    pub(crate) fn local(&self, host: usize) -> Value {
        let mut info = eventually(secs(10), "the node answers", || self.get(host, "/info"));
        info["Swarm"].take()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        let down = bounded(COMMAND_DEADLINE, SCRIPT)
            .env("SKEIN_BED", &self.name)
            .env("SKEIN_BEDS", BEDS)
            .arg("down")
            .output();
        if !down.as_ref().is_ok_and(|output| output.status.success()) {
            let _ = writeln!(
                std::io::stderr(),
                "bed {} was not taken down: {down:?}",
                self.name
            );
        }
        *IN_USE.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

impl Bed {
    /// Shows the end of each daemon's log, for a test that failed.
    fn tell(&self) {
        let mut text = String::new();
        for host in (1..).take_while(|host| self.folder(*host).exists()) {
            let log = self.log(host);
            let lines: Vec<&str> = log.lines().collect();
            let end = &lines[lines.len().saturating_sub(40)..];
            text.push_str(&format!(
                "---- log of host {host} of bed {}\n{}\n",
                self.name,
                end.join("\n")
            ));
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// The program under test: the one that `SKEIN_BIN` names, else the one that cargo built beside this.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("SKEIN_BIN").map_or_else(|| env!("CARGO_BIN_EXE_skein").into(), PathBuf::from)
}

/// The first join token in a text.
#[track_caller]
pub(crate) fn token_in(text: &str) -> String {
    let token = text
        .split([' ', '\n', '"'])
        .find(|word| word.starts_with("SWMTKN-"));
    token
        .unwrap_or_else(|| panic!("no token in: {text}"))
        .to_string()
}

/// Why no hosts can be made here. Looks once, and then removes the beds of test runs that were killed.
fn why_not() -> Option<&'static str> {
    static REASON: OnceLock<Option<&str>> = OnceLock::new();
    *REASON.get_or_init(|| {
        if !nix::unistd::geteuid().is_root() {
            return Some("hosts are network namespaces, which need root");
        }
        let has =
            |program: &str, argument: &str| Command::new(program).arg(argument).output().is_ok();
        if !has("ip", "-V") || !has("nsenter", "-V") {
            return Some("ip or nsenter is missing: apt-get install iproute2 util-linux");
        }
        if !has("docker", "--version") {
            return Some("the docker command is missing: apt-get install docker-cli");
        }
        let namespaces = [
            "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "true",
        ];
        match Command::new("unshare").args(namespaces).output() {
            Ok(output) if output.status.success() => sweep(),
            _ => return Some("this machine does not allow new namespaces"),
        }
        None
    })
}

fn sweep() {
    for entry in std::fs::read_dir(BEDS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix('t')
            .and_then(|rest| rest.split_once('-'))
            .map(|(pid, _)| pid);
        let is_left_over = pid.is_some_and(|pid| {
            pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()
        });
        if is_left_over {
            run(bounded(COMMAND_DEADLINE, SCRIPT)
                .env("SKEIN_BED", name)
                .env("SKEIN_BEDS", BEDS)
                .arg("down"))
            .ok();
        }
    }
}
