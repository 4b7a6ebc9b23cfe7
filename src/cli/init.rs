//! `skein init`: makes a cluster of this machine, starting the daemon when none runs, and says how others join.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::output::say;
use super::start::{StartArgs, ensure_daemon};
use super::swarm::{node, text, with_addresses};
use super::values::GoDuration;

/// Longest certificate or key file that is read, in bytes.
const PEM_MAX: u64 = 64 << 10;

/// Make a cluster of this machine
///
/// Starts the daemon when none runs: as a systemd service where systemd is, else in the background. Prints the
/// line that joins the next machine.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo skein init\n  sudo skein init --advertise-addr eth0\n  \
    sudo skein init --ca-cert root.crt --ca-key root.key\n  sudo skein init --force-new-cluster"
)]
pub(super) struct InitArgs {
    /// What to tell other machines of where this one is
    #[arg(long, value_name = "IP|INTERFACE[:PORT]")]
    advertise_addr: Option<String>,
    /// Where to listen for other machines, UDP
    #[arg(long, value_name = "IP|INTERFACE[:PORT]")]
    listen_addr: Option<String>,
    /// The address of the containers' traffic, when it is another
    #[arg(long, value_name = "IP|INTERFACE")]
    data_path_addr: Option<String>,
    /// The UDP port of the containers' traffic, 1024 to 49151
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    data_path_port: u32,
    /// A pool that networks are cut from; may be given several times
    #[arg(long, value_name = "CIDR")]
    default_addr_pool: Vec<String>,
    /// The prefix length of those networks
    #[arg(long, default_value_t = 24)]
    default_addr_pool_mask_length: u32,
    /// Whether this machine takes tasks
    #[arg(long, default_value = "active", value_parser = ["active", "pause", "drain"])]
    availability: String,
    /// Managers need an unlock key after a restart
    #[arg(long)]
    autolock: bool,
    /// How long certificates of nodes are valid, at least 1h
    #[arg(long, value_name = "DURATION")]
    cert_expiry: Option<GoDuration>,
    /// Upper bound of the time between two signs of life of a node
    #[arg(long, value_name = "DURATION")]
    dispatcher_heartbeat: Option<GoDuration>,
    /// Finished tasks kept for each slot
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    task_history_limit: Option<i64>,
    /// A root certificate of your own, PEM
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
    /// Keep this machine's state and make it the only manager, when the others are lost
    #[arg(long)]
    force_new_cluster: bool,
    #[command(flatten)]
    start: StartArgs,
}

/// Does it.
pub(super) async fn run(client: &Client, args: InitArgs) -> anyhow::Result<()> {
    let body = args.body()?;
    ensure_daemon(client, &args.start).await?;
    let answer = client.post("/swarm/init", Some(&body)).await?;
    let id: String = serde_json::from_slice(&answer).context("the new node's ID")?;
    let made = node(client, &id).await?;
    let swarm: Value = client.get("/swarm").await?;
    let token = with_addresses(client, text(&swarm, "/JoinTokens/Peer")).await?;
    say(format!(
        "This machine is a cluster of its own: node {} ({id}).\n\n\
         To add another machine, run on it:\n\n    sudo skein join {token}\n\n\
         A machine added so may become a manager when the cluster needs one. `skein token --worker` prints the line \
         for\nmachines that only run tasks, `skein token --manager` the one for machines that always manage.",
        text(&made, "/Description/Hostname"),
    ));
    if args.autolock {
        let key: Value = client.get("/swarm/unlockkey").await?;
        say(format!(
            "\nManagers need this key after a restart (`skein unlock`). Keep it where it is safe:\n\n    {}",
            text(&key, "/UnlockKey")
        ));
    }
    Ok(())
}

impl InitArgs {
    fn body(&self) -> anyhow::Result<Value> {
        let mut spec = json!({});
        if let Some(GoDuration(nanos)) = self.cert_expiry {
            spec["CAConfig"]["NodeCertExpiry"] = nanos.into();
        }
        if let (Some(cert), Some(key)) = (&self.ca_cert, &self.ca_key) {
            spec["CAConfig"]["SigningCACert"] = read(cert)?.into();
            spec["CAConfig"]["SigningCAKey"] = read(key)?.into();
        }
        if let Some(GoDuration(nanos)) = self.dispatcher_heartbeat {
            spec["Dispatcher"]["HeartbeatPeriod"] = nanos.into();
        }
        if let Some(limit) = self.task_history_limit {
            spec["Orchestration"]["TaskHistoryRetentionLimit"] = limit.into();
        }
        Ok(json!({
            "ListenAddr": self.listen_addr,
            "AdvertiseAddr": self.advertise_addr,
            "DataPathAddr": self.data_path_addr,
            "DataPathPort": self.data_path_port,
            "ForceNewCluster": self.force_new_cluster,
            "Spec": spec,
            "AutoLockManagers": self.autolock,
            "Availability": self.availability,
            "DefaultAddrPool": self.default_addr_pool,
            "SubnetSize": self.default_addr_pool_mask_length,
        }))
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let size = std::fs::metadata(path)
        .with_context(|| format!("{} cannot be read", path.display()))?
        .len();
    anyhow::ensure!(
        size <= PEM_MAX,
        "{} has {size} bytes, which is no certificate or key",
        path.display()
    );
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
