//! The leader of a large cluster: its memory, its processor time, and how soon it has decided.
//!
//! It is a process of its own, this program started again in that role, so that its figures are its own; the nodes are
//! here ([`crowd`](crate::crowd)) and talk to it over sockets, in the codec of sessions.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skein::cluster::membership::Liveness;
use skein::manager::measure::{Leader, MeasureError, Progress, node_id};
use skein::node::clock;
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use crate::allocator::in_use;
use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::crowd::{Crowd, name_of};
use crate::fleet;
use crate::machine::{highest_mb, own_cpu, resident_mb};
use crate::report::Report;
use crate::watch;

/// The first argument that makes this program a leader.
pub(crate) const ROLE: &str = "--leader";

/// The leader's resident memory at its highest, in MB.
const MEMORY: f64 = 250.0;

/// From an election until all nodes have told of all their tasks, in milliseconds.
const PICTURE: f64 = 1000.0;

/// Nothing is decided for this long before the leader's rest is measured.
const REST: Duration = Duration::from_secs(3);

/// Nodes of the cluster.
const NODES: u64 = 1_000;

/// Tasks of all services.
const TASKS: u64 = 30_000;

/// One service and many, each in a cluster of its own.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    for (what, services) in [("one service", 1), ("300 services", 300)] {
        cluster(what, services, options.size(3, 10), report)?;
    }
    report.note(format!(
        "{NODES} nodes and {TASKS} tasks; the leader is one process with the one voter's store on the disk, its nodes are \
         in another, on the same cores, and say of each task that it is prepared and that it runs; sessions are unix \
         sockets, so what QUIC costs is not in it; death is from gossip's verdict and the end of the session",
    ));
    Ok(())
}

fn cluster(what: &str, services: u64, rounds: u64, report: &mut Report) -> Result<(), String> {
    let runtime = fleet::runtime()?;
    let mut leader = Life::start(NODES)?;
    let crowd = {
        let _inside = runtime.enter();
        Crowd::gather(&leader.socket, NODES)
    };
    let add = |report: &mut Report, name: &str, unit, value: &Value| {
        let value = value.as_f64().unwrap_or(f64::NAN);
        report.add(Figure::value(format!("{what}: {name}"), unit, value));
    };
    let ready = leader.ask("ready")?;
    add(report, "all nodes in session", "ms", &ready["ms"]);
    add(
        report,
        "memory with all nodes in session",
        "MB",
        &ready["resident"],
    );
    let made = leader.ask(&format!("create {services} {}", TASKS / services))?;
    add(
        report,
        "services created → all assigned",
        "ms",
        &made["assigned_ms"],
    );
    add(
        report,
        "services created → all running, written down",
        "ms",
        &made["ms"],
    );
    let cpu = "CPU of the leader until all run";
    add(report, cpu, "ms", &made["cpu_ms"]);
    let (mut times, mut cpus) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let victim = 1 + round * 37 % NODES;
        crowd.set_alive(victim, false);
        let moved = leader.ask(&format!("bury {victim}"))?;
        times.push(moved["assigned_ms"].as_f64().unwrap_or(f64::NAN));
        cpus.push(moved["cpu_ms"].as_f64().unwrap_or(f64::NAN));
        crowd.set_alive(victim, true);
        leader.ask(&format!("raise {victim}"))?;
    }
    let dead = format!("{what}: a node dies → all replacements assigned");
    report.add(Figure::samples(dead, "ms", times));
    let cpu = format!("{what}: CPU of the leader for it, until they run");
    report.add(Figure::samples(cpu, "ms", cpus));
    let (mut times, mut cpus) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let elected = leader.ask("elect")?;
        times.push(elected["ms"].as_f64().unwrap_or(f64::NAN));
        cpus.push(elected["cpu_ms"].as_f64().unwrap_or(f64::NAN));
    }
    let full = format!("{what}: a new term → all nodes have told of all tasks");
    report.add(Figure::samples(full, "ms", times).goal(Goal::P99(PICTURE)));
    let cpu = format!("{what}: CPU of the leader for it");
    report.add(Figure::samples(cpu, "ms", cpus));
    at_rest(what, &leader.ask("rest")?, report);
    Ok(())
}

/// What the leader costs when nothing happens, and what it cost at most.
fn at_rest(what: &str, rest: &Value, report: &mut Report) {
    let figure = |name: &str, unit, field: &str| {
        let value = rest[field].as_f64().unwrap_or(f64::NAN);
        Figure::value(format!("{what}: {name}"), unit, value)
    };
    report.add(figure("CPU at rest", "% of a core", "cpu_percent"));
    report.add(figure("memory in use at rest", "MB", "in_use"));
    report.add(figure("resident memory at rest", "MB", "resident"));
    let highest = figure("resident memory, highest", "MB", "highest");
    report.add(highest.goal(Goal::Most(MEMORY)));
}

/// The leader's process, from outside.
struct Life {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
    socket: PathBuf,
}

impl Life {
    fn start(nodes: u64) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let folder = PathBuf::from(format!("/var/tmp/skein-leader-{}", std::process::id()));
        let made = std::fs::create_dir_all(&folder);
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut process = Command::new(program)
            .arg(ROLE)
            .arg(&folder)
            .arg(nodes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("a leader cannot be started: {error}"))?;
        let orders = process.stdin.take().ok_or("it has no input")?;
        let answers = process.stdout.take().ok_or("it has no output")?;
        let mut life = Self {
            process,
            orders,
            answers: BufReader::new(answers),
            socket: folder.join("socket"),
            folder,
        };
        life.answer()?;
        Ok(life)
    }

    fn answer(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        read.map_err(|error| error.to_string())?;
        let said: Value = serde_json::from_str(&line)
            .map_err(|error| format!("the leader said {line:?}: {error}"))?;
        match said["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(said),
        }
    }

    /// Tells it what to do, and returns what it says then.
    fn ask(&mut self, order: &str) -> Result<Value, String> {
        writeln!(self.orders, "{order}").map_err(|error| format!("the leader ended: {error}"))?;
        self.answer()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Is a leader: does what each line of standard input says, and answers each with a line.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    let [folder, nodes] = &arguments[..] else {
        return ExitCode::from(2);
    };
    let (Ok(nodes), Ok(runtime)) = (nodes.parse(), fleet::runtime()) else {
        return ExitCode::from(2);
    };
    match runtime.block_on(lead(Path::new(folder), nodes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            tell(&json!({ "error": words }));
            ExitCode::FAILURE
        }
    }
}

fn tell(answer: &Value) {
    let mut out = std::io::stdout();
    // Who no longer listens has ended.
    let _ = writeln!(out, "{answer}").and_then(|()| out.flush());
}

async fn lead(folder: &Path, nodes: u64) -> Result<(), String> {
    let leader = Leader::up(&folder.join("store"), nodes, clock::now).await;
    let leader = Arc::new(leader.map_err(told)?);
    let listener = UnixListener::bind(folder.join("socket")).map_err(|error| error.to_string())?;
    let _door = serve(leader.clone(), listener);
    tell(&json!({}));
    let (orders, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if orders.blocking_send(line).is_err() {
                break;
            }
        }
    });
    let mut made = 0;
    while let Some(order) = lines.recv().await {
        tell(&match obey(&order, &leader, nodes, &mut made).await {
            Ok(answer) => answer,
            Err(words) => json!({ "error": words }),
        });
    }
    Ok(())
}

/// Lets nodes in, each for as long as its session lasts.
fn serve(leader: Arc<Leader>, listener: UnixListener) -> JoinSet<()> {
    let mut door = JoinSet::new();
    door.spawn(async move {
        let mut sessions = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            while sessions.try_join_next().is_some() {}
            let leader = leader.clone();
            sessions.spawn(async move {
                if let Ok(node) = name_of(&mut stream).await {
                    // The other end sees that it has ended, and that is all there is to know.
                    let _ = leader.serve(node, Box::new(stream)).await;
                }
            });
        }
    });
    door
}

async fn obey(order: &str, leader: &Leader, nodes: u64, tasks: &mut u64) -> Result<Value, String> {
    let mut words = order.split(' ');
    let verb = words.next().unwrap_or_default();
    let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    let (begin, cpu) = (Instant::now(), own_cpu());
    let mut assigned = None;
    let wanted = match (verb, &numbers[..]) {
        ("create", [services, replicas]) => {
            for service in 0..*services {
                let name = format!("service-{service}");
                leader.create(name, *replicas).await.map_err(told)?;
            }
            *tasks += services * replicas;
            nodes
        }
        ("bury", [number]) => {
            leader.hears_of(node_id(*number), Liveness::Dead);
            nodes - 1
        }
        ("raise", [number]) => {
            leader.hears_of(node_id(*number), Liveness::Alive);
            nodes
        }
        ("elect", []) => {
            leader.elect_again().await;
            nodes
        }
        ("ready", []) => nodes,
        ("rest", []) => return Ok(rest().await),
        _ => return Err(format!("`{order}` is no order")),
    };
    let all = *tasks;
    let far_enough = |now: &Progress| {
        let there = now.assigned == all && now.ready == wanted;
        if there {
            assigned.get_or_insert_with(|| begin.elapsed());
        }
        // The dead have spoken in this term.
        there && now.running == all && now.heard >= wanted
    };
    leader.until(far_enough).await.map_err(told)?;
    Ok(json!({
        "ms": begin.elapsed().as_secs_f64() * 1e3,
        "assigned_ms": assigned.map(|span| span.as_secs_f64() * 1e3),
        "cpu_ms": (own_cpu() - cpu).as_secs_f64() * 1e3,
        "resident": resident(),
    }))
}

async fn rest() -> Value {
    watch::until(Instant::now() + REST).await;
    let cpu = own_cpu();
    watch::until(Instant::now() + REST).await;
    let share = (own_cpu() - cpu).as_secs_f64() / REST.as_secs_f64() * 100.0;
    json!({
        "cpu_percent": share, "resident": resident(), "highest": highest_mb(own_pid()),
        "in_use": in_use() as f64 / 1e6,
    })
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

fn resident() -> f64 {
    resident_mb(own_pid())
}

/// An error with what is behind it.
fn told(error: MeasureError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}
