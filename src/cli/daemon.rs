//! `skein daemon`: the arguments of the daemon, its log, its runtime.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;

use super::values::Host;
use crate::config::doors::{DoorOptions, StandIn};
use crate::config::{Config, DEFAULT_DATA_ROOT, DEFAULT_LISTEN, DEFAULT_RUN_DIR, Options};
use crate::footprint;

/// Libraries that tell each of their steps, and warn at each heartbeat; who wants to read them names them.
const QUIET: [&str; 2] = ["openraft", "chitchat"];

/// Open files that the daemon wants to be allowed. Not all that the machine would give: what it starts inherits the
/// bound, and some programs take a very high one for work to do.
const OPEN_FILES: u64 = 1 << 16;

/// Run the daemon in the foreground
///
/// `skein init` and `skein join` start it by themselves. It tells systemd when it is ready and stops on SIGTERM or
/// SIGINT; containers run on.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sudo skein daemon --listen-addr eth0:2377 --label zone=a --log-level debug"
)]
pub(super) struct DaemonArgs {
    /// Where the state is kept
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_ROOT)]
    data_root: PathBuf,
    /// Where the socket is made
    #[arg(long, value_name = "DIR", default_value = DEFAULT_RUN_DIR)]
    run_dir: PathBuf,
    /// Where to listen for other machines, UDP
    #[arg(long, value_name = "IP|INTERFACE[:PORT]", default_value = DEFAULT_LISTEN)]
    listen_addr: String,
    /// What to tell other machines of where this one is
    #[arg(long, value_name = "IP|INTERFACE[:PORT]")]
    advertise_addr: Option<String>,
    /// A label of this machine for placement; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Something of this machine that tasks may reserve: a number of a kind, or one by its name; may be given several times
    #[arg(long, value_name = "KIND=VALUE")]
    node_generic_resource: Vec<String>,
    /// Use the containerd with this socket, rather than the system's or one of our own
    #[arg(long, value_name = "SOCKET")]
    containerd: Option<PathBuf>,
    /// Talk to this registry in plain HTTP, or whatever its certificate; may be given several times
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    /// Let this group of the machine use the sockets [default: skein, where there is one]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Whether to be at /var/run/docker.sock too: where Docker's daemon is not installed, always, or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = DockerSocket::Auto)]
    docker_socket: DockerSocket,
    /// For --host tcp://ADDRESS:PORT: the roots of the clients' certificates, PEM
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// For --host tcp://ADDRESS:PORT: the daemon's own certificate, PEM
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// For --host tcp://ADDRESS:PORT: its key, PEM
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    /// Ask clients on TCP for a certificate, which is done in any case
    #[arg(long)]
    tlsverify: bool,
    /// Serve --host tcp://LOOPBACK:PORT without TLS: to whoever is on this machine
    #[arg(long)]
    plain_on_loopback: bool,
    /// What to log: error, warn, info, debug, trace, or directives such as `info,skein::api=debug`
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// How to write the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Leave the terminal's session; for the commands that start the daemon
    #[arg(long, hide = true)]
    detached: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DockerSocket {
    /// Where Docker's daemon is not installed
    Auto,
    /// Unless somebody else is there
    Always,
    /// No
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// Runs the daemon. Returns when it has stopped.
pub(super) fn run(args: DaemonArgs, host: Host) -> anyhow::Result<()> {
    if args.detached {
        nix::unistd::setsid().context("the terminal's session cannot be left")?;
    }
    log(&args)?;
    let config = Config::parse(args.options(host))?;
    // Containers, addresses and firewalls are root's alone; better said at once than at the first of them.
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "the daemon needs root: run it with sudo"
    );
    raise_open_files();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be made")?
        .block_on(async {
            tokio::select! {
                ended = crate::node::run(config) => ended,
                never = footprint::keep_small() => match never {},
            }
        })
}

/// Has as many files open as are needed: each container that runs holds one or two.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(
            Resource::RLIMIT_NOFILE,
            soft.max(hard.min(OPEN_FILES)),
            hard,
        )
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "no more files can be open at once than usual");
    }
}

fn log(args: &DaemonArgs) -> anyhow::Result<()> {
    let filter = filter(&args.log_level)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let set = match args.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("the log cannot be set up: {error}"))
}

/// Reads levels and `target=level`. A bare word that is no level would silently turn everything else off.
fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or_default();
        LEVELS.contains(&level.trim().to_ascii_lowercase().as_str())
    };
    anyhow::ensure!(
        text.split(',').all(known),
        "--log-level {text}: give error, warn, info, debug or trace, alone or after `target=`"
    );
    let quiet = QUIET
        .iter()
        .filter(|library| !text.contains(*library))
        .map(|library| format!("{library}=error,"));
    EnvFilter::builder()
        .parse(quiet.collect::<String>() + text)
        .with_context(|| format!("--log-level {text}"))
}

impl DaemonArgs {
    fn options(self, host: Host) -> Options {
        let doors = DoorOptions {
            group: self.group,
            docker_socket: match self.docker_socket {
                DockerSocket::Auto => StandIn::Auto,
                DockerSocket::Always => StandIn::Always,
                DockerSocket::Never => StandIn::Never,
            },
            tcp: host.tcp(),
            tls_ca: self.tlscacert,
            tls_cert: self.tlscert,
            tls_key: self.tlskey,
            plain_on_loopback: self.plain_on_loopback,
        };
        Options {
            data_root: self.data_root,
            run_dir: self.run_dir,
            listen_addr: self.listen_addr,
            advertise_addr: self.advertise_addr,
            labels: self.label,
            generic_resources: self.node_generic_resource,
            containerd: self.containerd,
            insecure_registries: self.insecure_registry,
            doors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_levels_are_checked() {
        for good in ["info", "DEBUG", "info,skein::api=debug", "off"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "verbose", "info,loud", "skein=", "skein=very"] {
            let error = filter(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--log-level {bad}: give error")));
        }
    }
}
