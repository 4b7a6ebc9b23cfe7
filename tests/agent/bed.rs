//! A containerd of its own for one test, taken down with all that it started when the test ends.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use skein::agent::runtime::Runtime;
use skein::agent::runtime::containerd::{Containerd, ContainerdSettings};
use skein::model::container::{
    DnsConfig, Exit, ImageRef, LogConfig, NetworkMode, ProcessConfig, Security, Sharing,
};
use skein::model::image::Digest;
use skein::model::limits::ResourceLimits;
use skein::model::{ContainerConfig, ContainerId, NodeId, Timestamp};

use crate::image;

/// Beds at a time: a starved machine proves nothing.
const BEDS_AT_ONCE: usize = 2;

/// Longest that anything may take here.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

static IN_USE: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// A containerd with the image, and a runtime on it.
pub(crate) struct Bed {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    /// `None` when the containerd is another process's, which takes it down.
    daemon: Option<Child>,
    pub(crate) image: Digest,
}

/// Where a daemon finds its containerd and has its files.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    pub(crate) socket: PathBuf,
    /// The same containerd, for images.
    pub(crate) images: PathBuf,
}

impl Place {
    /// What a daemon connects with.
    pub(crate) fn settings(&self) -> ContainerdSettings {
        ContainerdSettings {
            address: self.socket.clone(),
            namespace: self.name.clone(),
            node: node(),
            snapshotter: "overlayfs".into(),
            helper: program(),
            state_dir: self.directory.join("containers"),
            cgroup_parent: self.name.clone(),
            starts_at_once: 4,
            now,
        }
    }
}

/// Looks again and again until `look` gives something. Fails with the last reason when that takes too long.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(reason) if Instant::now() > deadline => panic!("{what}: {reason}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn why_not() -> Option<String> {
    if !geteuid().is_root() {
        return Some("they need root".to_owned());
    }
    let missing: Vec<&str> = ["containerd", "ctr", "runc", "busybox"]
        .into_iter()
        .filter(|program| {
            let found = command("which").arg(program).output();
            !found.is_ok_and(|found| found.status.success())
        })
        .collect();
    (!missing.is_empty()).then(|| format!("not installed: {}", missing.join(", ")))
}

impl Bed {
    /// `None`, with the reason on standard error, where there can be none.
    pub(crate) fn up() -> Option<Self> {
        Self::up_among(BEDS_AT_ONCE)
    }

    /// One of so many at a time, which is for one who needs several at once.
    pub(crate) fn up_among(at_once: usize) -> Option<Self> {
        if let Some(reason) = why_not() {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                // Past the test runner, which hides what a passing test prints.
                let _ = writeln!(std::io::stderr(), "containerd tests are skipped: {reason}");
            });
            return None;
        }
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        while *in_use >= at_once {
            in_use = FREED.wait(in_use).unwrap_or_else(PoisonError::into_inner);
        }
        *in_use += 1;
        drop(in_use);
        let name = format!("skt-{:012x}", rand::random::<u64>() >> 16);
        let directory = Path::new("/var/tmp/skein-agent").join(&name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("containerd.toml"), configuration(&directory)).unwrap();
        let archive = directory.join("image.tar");
        let image = image::write(&archive);
        let bed = Self {
            daemon: Some(spawn(&directory)),
            name,
            directory,
            image,
        };
        bed.until_up();
        bed.ctr(&["images", "import", archive.to_str().unwrap()]);
        Some(bed)
    }

    /// A bed that another process has made, and takes down.
    #[allow(dead_code, reason = "only the benchmark has such processes")]
    pub(crate) fn of_another(name: String, directory: PathBuf, image: Digest) -> Self {
        Self {
            name,
            directory,
            daemon: None,
            image,
        }
    }

    fn until_up(&self) {
        let socket = self.socket();
        eventually("containerd answers", || {
            UnixStream::connect(&socket).map_err(|error| error.to_string())?;
            let version = self.try_ctr(&["version"]);
            version.map(drop)
        });
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("run.sock")
    }

    /// Kills containerd with no chance to say anything.
    pub(crate) fn kill_daemon(&mut self) {
        let daemon = self.daemon.as_mut().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    pub(crate) fn start_daemon(&mut self) {
        self.daemon = Some(spawn(&self.directory));
        self.until_up();
    }

    /// What containerd's own tool says.
    #[track_caller]
    pub(crate) fn ctr(&self, args: &[&str]) -> String {
        self.try_ctr(args).unwrap()
    }

    fn try_ctr(&self, args: &[&str]) -> Result<String, String> {
        let mut command = command("timeout");
        command.args(["60", "ctr", "-n", &self.name, "-a"]);
        let said = command.arg(self.socket()).args(args).output();
        let said = said.map_err(|error| error.to_string())?;
        if said.status.success() {
            Ok(String::from_utf8_lossy(&said.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&said.stderr).into_owned())
        }
    }

    /// A runtime as a daemon has it; a second one is a daemon that was restarted.
    pub(crate) async fn runtime(&self) -> Containerd {
        Containerd::connect(self.place().settings()).await.unwrap()
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            name: self.name.clone(),
            directory: self.directory.clone(),
            socket: self.socket(),
            images: self.socket(),
        }
    }

    /// Where the runtime has its directories.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join("containers")
    }

    /// A container of the image that runs `args`.
    pub(crate) fn config(&self, args: &[&str]) -> ContainerConfig {
        ContainerConfig {
            id: ContainerId::from_bytes(rand::random()),
            name: "test".into(),
            image: ImageRef {
                name: "test/busybox".into(),
                manifest: self.image,
            },
            labels: BTreeMap::from([("a.label".to_owned(), "its value".to_owned())]),
            process: ProcessConfig {
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                ..ProcessConfig::default()
            },
            hostname: String::new(),
            domainname: String::new(),
            hosts: vec![("10.9.8.7".parse::<IpAddr>().unwrap(), vec!["far".into()])],
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
            network: NetworkMode::None,
            init: false,
            stop_signal: String::new(),
            stop_grace: Duration::from_secs(10),
            log: LogConfig::default(),
        }
    }

    /// A shell that runs `script`.
    pub(crate) fn script(&self, script: &str) -> ContainerConfig {
        self.config(&["sh", "-c", script])
    }

    /// All that a container has written.
    pub(crate) fn output(&self, id: ContainerId) -> String {
        let folder = self.state().join(id.to_string());
        let log = fs::read_to_string(folder.join(format!("{id}-json.log")));
        let lines = log.unwrap_or_default();
        let texts = lines.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("a line of json-file");
            line["log"].as_str().unwrap_or_default().to_owned()
        });
        texts.collect()
    }

    /// Waits until a container has written `words`.
    #[track_caller]
    pub(crate) fn until_said(&self, id: ContainerId, words: &str) -> String {
        eventually(&format!("it says {words:?}"), || {
            let said = self.output(id);
            if said.contains(words) {
                Ok(said)
            } else {
                Err(said)
            }
        })
    }

    /// Runs a container to its end and removes it: how it ended, and what it said.
    pub(crate) async fn run(
        &self,
        runtime: &Containerd,
        config: &ContainerConfig,
    ) -> (Exit, String) {
        runtime.create(config).await.unwrap();
        runtime.start(config.id).await.unwrap();
        let exit = within(runtime.wait(config.id)).await.unwrap();
        runtime.remove(config.id).await.unwrap();
        // The logger has drained when the task is deleted.
        (exit, self.output(config.id))
    }
}

/// Fails when a future takes longer than anything may.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    let done = tokio::time::timeout(DEADLINE, future).await;
    done.expect("it takes longer than anything may here")
}

pub(crate) fn node() -> NodeId {
    NodeId::from_bits(7)
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests run by the machine's clock"
)]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_nanos(i128::try_from(since.unwrap().as_nanos()).unwrap())
}

/// The program whose parts containers get: the one that `SKEIN_BIN` names, else the one that cargo built beside this.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("SKEIN_BIN").map_or_else(|| env!("CARGO_BIN_EXE_skein").into(), PathBuf::from)
}

/// A call of a program of containerd's, of the version whose programs `SKEIN_TEST_CONTAINERD` names the directory of,
/// else of the installed one.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    if let Some(directory) = std::env::var_os("SKEIN_TEST_CONTAINERD") {
        let installed = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(directory.into()).chain(std::env::split_paths(&installed));
        command.env("PATH", std::env::join_paths(all).unwrap());
    }
    command
}

fn configuration(directory: &Path) -> String {
    let d = directory.display();
    format!(
        "version = 2\nroot = \"{d}/root\"\nstate = \"{d}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.restart\"]\n\
         [grpc]\naddress = \"{d}/run.sock\"\n[ttrpc]\naddress = \"{d}/run.sock.ttrpc\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{d}/opt\"\n"
    )
}

fn spawn(directory: &Path) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.join("log"))
        .unwrap();
    command("containerd")
        .arg("--config")
        .arg(directory.join("containerd.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Processes whose command line contains `words`.
pub(crate) fn processes(words: &str) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .replace('\0', " ")
            .contains(words)
    })
    .collect()
}

impl Drop for Bed {
    fn drop(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let _ = daemon.kill();
        let _ = daemon.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            let lines = log.lines().filter(|line| !line.contains("loading plugin"));
            let lines: Vec<&str> = lines.collect();
            let end = lines[lines.len().saturating_sub(30)..].join("\n");
            let _ = writeln!(std::io::stderr(), "---- containerd of {}\n{end}", self.name);
        }
        for pid in processes(&format!("-namespace {}", self.name)) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let parent = Path::new("/sys/fs/cgroup/pids").join(&self.name);
        for group in fs::read_dir(&parent).into_iter().flatten().flatten() {
            let pids = fs::read_to_string(group.path().join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines().filter_map(|pid| pid.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let root = self.directory.to_string_lossy().into_owned();
        for target in ours.filter(|target| target.starts_with(&root)) {
            let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            // The containers' own groups are gone; the one above them is left.
            let _ = fs::remove_dir(hierarchy.path().join(&self.name));
        }
        let _ = fs::remove_dir_all(&self.directory);
        *IN_USE.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
