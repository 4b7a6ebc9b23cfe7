//! How long it takes from `skein join` to a node that is Ready, and to the command's return.
//!
//! The same is measured of Docker Swarm in the same minutes where it can run. Both are asked by their own command
//! from outside the host, and watched through the first manager's socket.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::args::Options;
use crate::bed;
use crate::chart::{Figure, Goal};
use crate::fleet::{self, Fleet};
use crate::machine;
use crate::report::Report;
use crate::swarm::Swarm;
use crate::wait::secs;
use crate::watch;

/// Managers before anyone joins, as many as Swarm has in its measurement.
const MANAGERS: usize = 3;

/// Hosts that join and leave in turn.
const JOINERS: usize = 3;

/// Between two looks at the list of nodes.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// A join that takes longer is a fault.
const DEADLINE: Duration = secs(30);

/// The command is back within this, in milliseconds.
const BACK: f64 = 500.0;

/// One join.
struct Joined {
    ready: Duration,
    back: Duration,
    /// What it cost the daemon that joined.
    cpu: Duration,
}

/// Measures joins of workers and of peers, then of machines without a daemon.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let swarm = Swarm::measure(options.size(1, 3));
    let mut fleet = Fleet::up(MANAGERS)?;
    fleet.bed.add_hosts(MANAGERS + JOINERS);
    for kind in ["--worker", "--peer"] {
        let token = fleet.bed.token(1, kind);
        let mut joins = Vec::new();
        for number in 0..options.size(6, 30) {
            let host = MANAGERS + 1 + number % JOINERS;
            joins.push(join_and_leave(&mut fleet, host, &token)?);
        }
        add(report, &format!("skein join, {}", &kind[2..]), &joins);
        compare(report, &swarm, kind, &joins);
    }
    let token = fleet.bed.token(1, "--peer");
    let mut bare = Vec::new();
    for host in MANAGERS + 1..=MANAGERS + JOINERS {
        fleet.bed.act("stop", host);
        bare.push(join_bare(&fleet, host, &token)?);
    }
    add(report, "skein join, peer, the daemon started too", &bare);
    match swarm {
        Ok(swarm) => swarm.add_to(report),
        Err(reason) => report.note(format!("without Docker Swarm beside it: {reason}")),
    }
    Ok(())
}

fn add(report: &mut Report, what: &str, joins: &[Joined]) {
    let of = |part: fn(&Joined) -> Duration| joins.iter().map(part).collect::<Vec<_>>();
    report.add(Figure::times(
        format!("{what}: Ready"),
        &of(|join| join.ready),
    ));
    let back = Figure::times(format!("{what}: command back"), &of(|join| join.back));
    report.add(back.goal(Goal::Most(BACK)));
    let cpu: Duration = joins.iter().map(|join| join.cpu).sum();
    if cpu > Duration::ZERO {
        let mean = cpu.as_secs_f64() * 1e3 / joins.len() as f64;
        report.add(Figure::value(
            format!("{what}: CPU of the joiner, mean"),
            "ms",
            mean,
        ));
    }
}

fn compare(report: &mut Report, swarm: &Result<Swarm, String>, kind: &str, joins: &[Joined]) {
    let Ok(swarm) = swarm else { return };
    let ready: Vec<Duration> = joins.iter().map(|join| join.ready).collect();
    let ours = Figure::times("", &ready).percentile(50);
    let theirs = swarm.workers().percentile(50);
    let what = format!("Ready, median: skein {} ÷ Swarm worker", &kind[2..]);
    report.add(Figure::value(what, "×", ours / theirs).goal(Goal::Median(1.0)));
}

fn join_and_leave(fleet: &mut Fleet, host: usize, token: &str) -> Result<Joined, String> {
    let pid = fleet.bed.script(&["pid", &host.to_string()]).ok();
    let pid: i32 = pid
        .parse()
        .map_err(|error| format!("no process ID: {error}"))?;
    let mut command = Command::new(bed::program());
    let socket = fleet.bed.socket(host);
    command.env("SKEIN_HOST", format!("unix://{}", socket.display()));
    let before = machine::cpu_of(pid);
    let (node, mut joined) = fleet.runtime.block_on(join(fleet, host, command, token))?;
    joined.cpu = machine::cpu_of(pid) - before;
    fleet.runtime.block_on(leave(fleet, host, &node))?;
    fleet.settle()?;
    Ok(joined)
}

/// Joins by a command that has to start the daemon first.
fn join_bare(fleet: &Fleet, host: usize, token: &str) -> Result<Joined, String> {
    let folder = fleet.bed.folder(host);
    let init = std::fs::read_to_string(folder.join("init"));
    let init = init.map_err(|error| format!("host {host} has no process 1: {error}"))?;
    let mut command = Command::new("nsenter");
    command
        .args([
            "--target",
            init.trim(),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--",
        ])
        .arg(bed::program())
        .env_remove("SKEIN_HOST");
    let mut arguments = vec![token.to_owned(), "--data-root".into()];
    arguments.push(folder.join("bare").display().to_string());
    let run = join_by(fleet, host, command, &arguments);
    fleet.runtime.block_on(run).map(|(_, joined)| joined)
}

async fn join(
    fleet: &Fleet,
    host: usize,
    command: Command,
    token: &str,
) -> Result<(String, Joined), String> {
    join_by(fleet, host, command, &[token.to_owned()]).await
}

/// Runs `skein join` and watches for the node. Returns the node's ID too.
async fn join_by(
    fleet: &Fleet,
    host: usize,
    mut command: Command,
    arguments: &[String],
) -> Result<(String, Joined), String> {
    command.arg("join").args(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut leader = fleet.client(1);
    // So that the connection is there already.
    fleet::nodes(&mut leader).await?;
    let begin = Instant::now();
    let child = command
        .spawn()
        .map_err(|error| format!("skein join: {error}"))?;
    let back = async {
        let output = child
            .wait_with_output()
            .await
            .map_err(|error| error.to_string())?;
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        output
            .status
            .success()
            .then(|| begin.elapsed())
            .ok_or(words)
    };
    let look = async || {
        let nodes = fleet::nodes(&mut leader).await?;
        let mut nodes = nodes.iter();
        let found = nodes.find(|node| node.host() == host && node.is_ready());
        let node = found.ok_or("it is not Ready")?.id().to_owned();
        Ok((node, begin.elapsed()))
    };
    let what = format!("host {host} is Ready after its join");
    let ready = watch::eventually(DEADLINE, LOOK_EVERY, &what, look);
    let (back, ready) = tokio::join!(back, ready);
    // Why the command failed says more than that nobody came.
    let back = back?;
    let (node, ready) = ready?;
    let joined = Joined {
        ready,
        back,
        cpu: Duration::ZERO,
    };
    Ok((node, joined))
}

/// Takes the node out again, so that its host can join anew.
async fn leave(fleet: &Fleet, host: usize, node: &str) -> Result<(), String> {
    let (mut joiner, mut leader) = (fleet.client(host), fleet.client(1));
    let left = joiner.ask("POST", "/swarm/leave?force=true", None).await?;
    left.content()?;
    let path = format!("/nodes/{node}?force=true");
    leader.ask("DELETE", &path, None).await?.content()
}
