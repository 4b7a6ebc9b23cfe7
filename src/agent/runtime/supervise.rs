//! Finds a containerd: the system's where one answers, else a private one that is kept running as a child.
//!
//! Called by the node before the runtime connects. A private containerd has directories of its own, is started again
//! when it ends, with growing pauses, and is only ever asked to end itself: its shims, and so the containers, go on
//! without it. One that a killed daemon left behind is taken over as it runs, and ended like our own.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use containerd_client::services::v1::version_client::VersionClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Where the system's containerd listens.
pub const SYSTEM_ADDRESS: &str = "/run/containerd/containerd.sock";

/// How long a containerd may take to answer whether it is there.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// How long a private one may take to come up.
const UP_DEADLINE: Duration = Duration::from_secs(30);

/// How long a private one may take to end when it is asked to.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// The first pause before it is started again, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(10);

/// Once it ran for this long, the pauses begin anew.
const STEADY: Duration = Duration::from_secs(60);

/// Between two looks at one that is not our child.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Between two looks at one that is coming up.
const UP_AGAIN: Duration = Duration::from_millis(20);

/// Where containerd is looked for, and where a private one has its directories.
#[derive(Clone, Debug)]
pub struct SuperviseSettings {
    /// The socket that is tried first; usually [`SYSTEM_ADDRESS`].
    pub system: PathBuf,
    /// Whether a private one is started when nobody answers there.
    pub may_start: bool,
    /// Content and snapshots of a private one: stays.
    pub data: PathBuf,
    /// State and socket of a private one: goes with a reboot. Short, for a socket's path has at most 107 bytes.
    pub run: PathBuf,
}

/// A containerd that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supervised {
    /// Its socket.
    pub address: PathBuf,
    /// It is ours.
    pub private: bool,
    /// Its version, `1.6.20`.
    pub version: String,
}

/// Why there is no containerd.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// None answers, and there is none to start.
    #[error(
        "no containerd answers on {}, and `{program}` is not installed: install the package {program} \
         (Debian, Ubuntu: `apt install {program}`; Fedora: `dnf install {program}`)", .address.display()
    )]
    NotInstalled {
        /// Where the system's was looked for.
        address: PathBuf,
        /// What is missing.
        program: &'static str,
    },
    /// Nobody answers where one was said to be.
    #[error("no containerd answers on {}: start it, or run the daemon without --containerd", .0.display())]
    Silent(PathBuf),
    /// The directories of a private one cannot be made.
    #[error("cannot prepare {} for a private containerd", .path.display())]
    Prepare {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A private one did not come up.
    #[error("the private containerd does not come up: see {}", .log.display())]
    NotUp {
        /// What it said.
        log: PathBuf,
    },
}

/// A containerd that answers. A private one is kept running by a task of `tasks` until `stop`.
pub async fn containerd(
    settings: SuperviseSettings,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<Supervised, SuperviseError> {
    if let Some(version) = version(&settings.system).await {
        info!(address = %settings.system.display(), version, "containerd is used");
        return Ok(Supervised {
            address: settings.system,
            private: false,
            version,
        });
    }
    if !settings.may_start {
        return Err(SuperviseError::Silent(settings.system));
    }
    for program in ["containerd", "runc"] {
        // crun alone serves as well, but the shim looks for runc first.
        if !in_path(program) {
            let address = settings.system;
            return Err(SuperviseError::NotInstalled { address, program });
        }
    }
    let private = Private::prepare(&settings)?;
    let address = private.socket.clone();
    let log = private.log.clone();
    tasks.spawn(private.keep_running(stop));
    let deadline = Instant::now() + UP_DEADLINE;
    let version = loop {
        if let Some(version) = version(&address).await {
            break version;
        }
        if Instant::now() > deadline {
            return Err(SuperviseError::NotUp { log });
        }
        sleep(UP_AGAIN).await;
    };
    info!(address = %address.display(), version, "a private containerd is used");
    Ok(Supervised {
        address,
        private: true,
        version,
    })
}

/// The version of the containerd that answers there: its number, without what a distribution adds to it.
async fn version(address: &Path) -> Option<String> {
    let ask = async {
        let channel = containerd_client::connect(address).await.ok()?;
        VersionClient::new(channel).version(()).await.ok()
    };
    let answer = timeout(ANSWER_DEADLINE, ask).await.ok()??;
    let version = answer.into_inner().version;
    let number = |c: &char| c.is_ascii_digit() || *c == '.';
    let bare = version.trim_start_matches('v');
    Some(bare.chars().take_while(number).collect())
}

async fn answers(address: &Path) -> bool {
    version(address).await.is_some()
}

fn in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

struct Private {
    configuration: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Private {
    fn prepare(settings: &SuperviseSettings) -> Result<Self, SuperviseError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SuperviseError::Prepare { path, source }
        };
        for path in [&settings.data, &settings.run] {
            let made = DirBuilder::new().recursive(true).mode(0o711).create(path);
            made.map_err(failed(path))?;
        }
        let socket = settings.run.join("containerd.sock");
        let configuration = settings.run.join("containerd.toml");
        let text = configuration_text(&settings.data, &settings.run, &socket);
        fs::write(&configuration, text).map_err(failed(&configuration))?;
        Ok(Self {
            log: settings.data.join("containerd.log"),
            configuration,
            socket,
        })
    }

    async fn keep_running(self, stop: CancellationToken) {
        let mut pause = PAUSE_FIRST;
        loop {
            let since = Instant::now();
            let ended = if answers(&self.socket).await {
                self.watch_stranger(&stop).await
            } else {
                self.run_once(&stop).await
            };
            match ended {
                Ok(()) => {}
                Err(error) => warn!(%error, "the private containerd cannot be started"),
            }
            if stop.is_cancelled() {
                return;
            }
            if since.elapsed() > STEADY {
                pause = PAUSE_FIRST;
            }
            warn!(
                pause_ms = pause.as_millis(),
                "the private containerd has ended and is started again"
            );
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    /// Until one that an earlier daemon started has ended, by itself or because we are to stop.
    async fn watch_stranger(&self, stop: &CancellationToken) -> io::Result<()> {
        let stream = UnixStream::connect(&self.socket).await?;
        let Some(pid) = stream.peer_cred()?.pid() else {
            return Err(io::Error::other("its process is not known"));
        };
        drop(stream);
        while self.is_ours(pid) {
            tokio::select! {
                () = stop.cancelled() => {
                    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
                    let ended = async { while self.is_ours(pid) { sleep(UP_AGAIN).await } };
                    drop(timeout(END_DEADLINE, ended).await);
                    return Ok(());
                }
                () = sleep(LOOK_AGAIN) => {}
            }
        }
        Ok(())
    }

    /// Whether this is a process that was started with our configuration.
    fn is_ours(&self, pid: i32) -> bool {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let wanted = self.configuration.as_os_str().as_bytes();
        command.split(|byte| *byte == 0).any(|word| word == wanted)
    }

    /// Until our child has ended, by itself or because we are to stop.
    async fn run_once(&self, stop: &CancellationToken) -> io::Result<()> {
        // Anew each time: what matters is what the last one said.
        let log = File::create(&self.log)?;
        let mut child = Command::new("containerd")
            .arg("--config")
            .arg(&self.configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A signal from our terminal is not for it.
            .process_group(0)
            .kill_on_drop(false)
            .spawn()?;
        tokio::select! {
            ended = child.wait() => ended.map(drop),
            () = stop.cancelled() => end(&mut child).await,
        }
    }
}

/// Asks our child to end; its shims go on. It is left to itself when it does not.
async fn end(child: &mut Child) -> io::Result<()> {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else {
        return Ok(());
    };
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    match timeout(END_DEADLINE, child.wait()).await {
        Ok(ended) => ended.map(drop),
        Err(_) => Ok(()),
    }
}

/// Understood by 1.6 and all later ones. What Kubernetes needs is left out.
fn configuration_text(data: &Path, run: &Path, socket: &Path) -> String {
    let quoted = |path: &Path| {
        let path = path.to_string_lossy();
        format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
    };
    let ttrpc = run.join("containerd.sock.ttrpc");
    format!(
        "version = 2\nroot = {}\nstate = {}\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.restart\"]\n\
         [grpc]\naddress = {}\n[ttrpc]\naddress = {}\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = {}\n",
        quoted(&data.join("root")),
        quoted(&run.join("state")),
        quoted(socket),
        quoted(&ttrpc),
        quoted(&data.join("opt")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_in_the_configuration() {
        let text = configuration_text(Path::new("/a \"b\""), Path::new("/r"), Path::new("/r/s"));
        assert!(text.contains("root = \"/a \\\"b\\\"/root\""), "{text}");
        assert!(text.contains("[grpc]\naddress = \"/r/s\""), "{text}");
    }

    #[test]
    fn what_is_missing_is_named_with_how_to_get_it() {
        let error = SuperviseError::NotInstalled {
            address: SYSTEM_ADDRESS.into(),
            program: "containerd",
        };
        assert!(
            error.to_string().contains("apt install containerd"),
            "{error}"
        );
    }
}
