//! Starts the daemon for `init` and `join` when none answers: as a systemd service where systemd is process 1, else
//! detached in the background.
//!
//! Waits until the socket answers. A daemon that dies meanwhile is reported with its own last words.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::time::{Instant, sleep};

use super::client::{Client, ClientError};
use crate::config::{DEFAULT_DATA_ROOT, DEFAULT_RUN_DIR, SOCKET_NAME};

/// How long a new daemon may take until it answers.
const READY_DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks at a daemon that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(1);

/// As much of the log's end as may hold a daemon's last words, in bytes.
const LAST_WORDS: u64 = 16 << 10;

/// The name of the systemd service.
const SERVICE: &str = "skein.service";

/// The first line of a unit file that may be written again.
const OURS: &str =
    "# Written by `skein init` and `skein join`, which write it again unless this line is removed.";

/// Options for the daemon, when one is started.
#[derive(Clone, Debug, Args)]
pub(super) struct StartArgs {
    /// Where a daemon that is started by this command keeps its state
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_ROOT)]
    data_root: PathBuf,
}

/// Where and how to start a daemon; the machine's own places, but for tests.
struct Starter {
    program: PathBuf,
    data_root: PathBuf,
    run_dir: PathBuf,
    systemd: Option<Systemd>,
    deadline: Duration,
}

struct Systemd {
    units: PathBuf,
    systemctl: PathBuf,
    journalctl: PathBuf,
}

/// Returns when a daemon answers at the client's socket, started if need be.
pub(super) async fn ensure_daemon(client: &Client, args: &StartArgs) -> anyhow::Result<()> {
    match client.answers(LOOK).await {
        Err(ClientError::NoDaemon(_)) => {}
        Err(ClientError::TooSlow(_)) | Ok(()) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "no daemon answers at {}, and starting one needs root: run it with sudo",
        client.path().display()
    );
    let run_dir = match (client.path().parent(), client.path().file_name()) {
        (Some(dir), Some(name)) if name == SOCKET_NAME => dir.to_owned(),
        _ => anyhow::bail!(
            "no daemon answers at {}, and one that is started makes its socket as {SOCKET_NAME}: name such a path \
             with --host",
            client.path().display()
        ),
    };
    let systemd = Path::new("/run/systemd/system").exists();
    let starter = Starter {
        program: std::env::current_exe().context("this program's own path")?,
        data_root: args.data_root.clone(),
        run_dir,
        systemd: systemd.then(Systemd::of_machine),
        deadline: READY_DEADLINE,
    };
    starter.start(client).await
}

impl Systemd {
    fn of_machine() -> Self {
        Self {
            units: "/etc/systemd/system".into(),
            systemctl: "systemctl".into(),
            journalctl: "journalctl".into(),
        }
    }
}

impl Starter {
    async fn start(&self, client: &Client) -> anyhow::Result<()> {
        match &self.systemd {
            Some(systemd) => self.start_service(systemd, client).await,
            None => self.start_detached(client).await,
        }
    }

    async fn start_detached(&self, client: &Client) -> anyhow::Result<()> {
        fs::create_dir_all(&self.data_root)
            .with_context(|| format!("{} cannot be created", self.data_root.display()))?;
        let path = self.data_root.join("skein.log");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(&path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let begins = log.metadata()?.len();
        let mut child = Command::new(&self.program)
            .args(["daemon", "--detached"])
            .args(self.daemon_args())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be run", self.program.display()))?;
        let last_words = || last_words(&tail(&path, begins));
        self.wait(client, || ended(&mut child), last_words)
            .await
            .map_err(|error| anyhow::anyhow!("{error} (its log is {})", path.display()))
    }

    async fn start_service(&self, systemd: &Systemd, client: &Client) -> anyhow::Result<()> {
        let unit = systemd.units.join(SERVICE);
        let current = fs::read_to_string(&unit).unwrap_or_default();
        if current.is_empty() || current.starts_with(OURS) {
            fs::write(&unit, self.unit())
                .with_context(|| format!("{} cannot be written", unit.display()))?;
        }
        systemd.control(&["daemon-reload"])?;
        if let Err(error) = systemd.control(&["enable", "--now", SERVICE]) {
            let words = last_words(&systemd.journal());
            let error = error.context("the service skein does not start");
            return Err(if words.is_empty() {
                error
            } else {
                error.context(words)
            });
        }
        self.wait(client, || None, || last_words(&systemd.journal()))
            .await
            .map_err(|error| anyhow::anyhow!("{error} (`journalctl --unit skein` shows its log)"))
    }

    fn daemon_args(&self) -> Vec<String> {
        let mut args = Vec::new();
        for (option, value, default) in [
            ("--data-root", &self.data_root, DEFAULT_DATA_ROOT),
            ("--run-dir", &self.run_dir, DEFAULT_RUN_DIR),
        ] {
            if value != Path::new(default) {
                args.extend([option.to_owned(), value.display().to_string()]);
            }
        }
        args
    }

    /// The unit file. Only the daemon's own process is killed with the service, so that containers run on, and it may
    /// make control groups of its own below the service's.
    fn unit(&self) -> String {
        let mut command = vec![self.program.display().to_string(), "daemon".into()];
        command.extend(self.daemon_args());
        let command: Vec<String> = command.iter().map(|word| quoted(word)).collect();
        format!(
            "{OURS}\n[Unit]\nDescription=Skein, this machine as part of one \
             Docker host\nWants=network-online.target\nAfter=network-online.target containerd.service\n\n\
             [Service]\nType=notify\nExecStart={}\nRestart=on-failure\nRestartSec=1\nKillMode=process\nDelegate=yes\n\
             LimitNOFILE=1048576\nTasksMax=infinity\nOOMScoreAdjust=-500\n\n[Install]\nWantedBy=multi-user.target\n",
            command.join(" ")
        )
    }

    /// Waits until the daemon answers. `ended` says how it has ended, `last_words` what it said last.
    async fn wait(
        &self,
        client: &Client,
        mut ended: impl FnMut() -> Option<String>,
        last_words: impl Fn() -> String,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.deadline;
        loop {
            let late = Instant::now() >= deadline;
            let end = ended();
            if let Ok(()) = client.answers(LOOK).await {
                return Ok(());
            }
            let what = match end {
                Some(how) => format!("the daemon {how}"),
                None if late => format!(
                    "the daemon does not answer after {} s",
                    self.deadline.as_secs()
                ),
                None => {
                    sleep(LOOK_AGAIN).await;
                    continue;
                }
            };
            match last_words() {
                words if words.is_empty() => anyhow::bail!("{what}"),
                words => anyhow::bail!("{what}: {words}"),
            }
        }
    }
}

impl Systemd {
    fn control(&self, args: &[&str]) -> anyhow::Result<()> {
        let out = Command::new(&self.systemctl)
            .args(args)
            .output()
            .with_context(|| format!("{} cannot be run", self.systemctl.display()))?;
        anyhow::ensure!(
            out.status.success(),
            "systemctl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&out.stderr).trim()
        );
        Ok(())
    }

    fn journal(&self) -> String {
        let out = Command::new(&self.journalctl)
            .args([
                "--unit",
                SERVICE,
                "--lines",
                "20",
                "--output",
                "cat",
                "--no-pager",
            ])
            .output();
        out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
            .unwrap_or_default()
    }
}

fn ended(child: &mut Child) -> Option<String> {
    match child.try_wait() {
        Ok(Some(status)) => Some(format!("ended at once ({status})")),
        Ok(None) => None,
        Err(error) => Some(format!("cannot be watched: {error}")),
    }
}

/// What was written to the log since it had `begins` bytes.
fn tail(path: &Path, begins: u64) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let from = begins.max(file.metadata()?.len().saturating_sub(LAST_WORDS));
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS).read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// The daemon's error line, or the last line that it wrote.
fn last_words(log: &str) -> String {
    let lines = || {
        log.lines()
            .rev()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    let error = lines().find_map(|line| line.strip_prefix("skein: "));
    error.or_else(|| lines().next()).unwrap_or_default().into()
}

/// A word of `ExecStart`, quoted for systemd.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    let escaped = word
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests;
