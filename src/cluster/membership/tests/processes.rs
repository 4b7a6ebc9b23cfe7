//! Real processes over real QUIC on a busy machine: killed ones are known dead in time, stopped ones are not.
//!
//! The test starts its own binary again as the nodes, each with credentials and a port of its own. They print what
//! they believe, and the parent kills, stops and reads.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;

use super::quic::QuicLink;
use super::*;
use crate::cluster::membership::bench::Spans;
use crate::cluster::transport::{Transport as Quic, TransportConfig};
use crate::identity::{Authority, Credentials, Grant, NodeKey};
use crate::model::{Standing, Timestamp};

const CHILD: &str = "SKEIN_TEST_CHILD";

fn now() -> Timestamp {
    Timestamp::from_nanos(jiff::Timestamp::now().as_nanosecond())
}

/// A node as a process of its own. Does nothing unless its parent started it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: started by the tests beside it"]
async fn child() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let dir = Path::new(&dir);
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let credentials = Credentials::from_pem(&read("key"), &read("chain"), &read("root")).unwrap();
    let peers: BTreeMap<NodeId, SocketAddr> = serde_json::from_str(&read("peers")).unwrap();
    let node = credentials.node();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let generation: u64 = read("generation").parse().unwrap();
    let config = TransportConfig {
        listen: peers[&node],
        instance: generation,
        advertise: Vec::new(),
    };
    let (_, credentials) = watch::channel(Arc::new(credentials));
    let (quic, inbound) = Quic::start(
        config,
        credentials,
        Arc::new(|_| false),
        &tasks,
        stop.clone(),
    )
    .unwrap();
    for (peer, addr) in &peers {
        quic.learn(*peer, &[*addr]);
    }
    let seeds: Vec<NodeId> = peers.keys().copied().collect();
    let node = Node::start_on(
        QuicLink(quic),
        inbound.gossip,
        node,
        CLUSTER,
        generation,
        &seeds,
    )
    .await;
    let mut watched = node.membership.peers();
    let mut shown = BTreeMap::new();
    loop {
        let peers = watched.borrow_and_update().clone();
        for (peer, view) in &peers.nodes {
            let line = format!("{peer} {} {:?}", view.generation, view.liveness);
            if shown.insert(*peer, line.clone()).as_ref() != Some(&line) {
                println!("@ {line}");
            }
        }
        watched.changed().await.unwrap();
    }
}

/// What a child has said: who, of whom, of which life of it, and whether that is alive.
struct Line {
    teller: usize,
    of: NodeId,
    generation: u64,
    alive: bool,
    at: Timestamp,
}

struct Processes {
    dir: tempfile::TempDir,
    nodes: Vec<NodeId>,
    running: Vec<Child>,
    generations: Vec<u64>,
    lines: Receiver<Line>,
    tell: Sender<Line>,
    /// What each believes of each.
    beliefs: BTreeMap<(usize, NodeId), (u64, bool)>,
}

impl Processes {
    fn start(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::generate(now()).unwrap();
        let keys: Vec<NodeKey> = (0..count).map(|_| NodeKey::generate().unwrap()).collect();
        let nodes: Vec<NodeId> = keys.iter().map(NodeKey::node_id).collect();
        let ports = (0..count).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let addrs = ports
            .collect::<Vec<_>>()
            .into_iter()
            .map(|port| port.local_addr().unwrap());
        let peers: BTreeMap<NodeId, SocketAddr> = nodes.iter().copied().zip(addrs).collect();
        let (tell, lines) = channel();
        let mut processes = Self {
            dir,
            nodes,
            running: Vec::new(),
            generations: vec![0; count],
            lines,
            tell,
            beliefs: BTreeMap::new(),
        };
        for (index, key) in keys.iter().enumerate() {
            let grant = Grant {
                cluster: CLUSTER,
                standing: Standing::Eligible,
                now: now(),
                validity: Duration::from_secs(36_000),
            };
            let issued = authority.issue(&key.csr_der().unwrap(), &grant).unwrap();
            let write = |name: &str, text: &str| {
                fs::create_dir_all(processes.dir_of(index)).unwrap();
                fs::write(processes.dir_of(index).join(name), text).unwrap();
            };
            write("key", &key.to_pem());
            write("chain", &issued.chain_pem);
            write("root", &authority.root().cert_pem);
            write("peers", &serde_json::to_string(&peers).unwrap());
        }
        for index in 0..count {
            let child = processes.spawn(index);
            processes.running.push(child);
        }
        processes
    }

    fn dir_of(&self, index: usize) -> PathBuf {
        self.dir.path().join(index.to_string())
    }

    fn spawn(&mut self, index: usize) -> Child {
        self.generations[index] += 1;
        let generation = self.generations[index].to_string();
        fs::write(self.dir_of(index).join("generation"), generation).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "cluster::membership::tests::processes::child",
            ])
            .env(CHILD, self.dir_of(index))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let tell = self.tell.clone();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let words: Vec<&str> = line.split_whitespace().collect();
                if let ["@", of, generation, liveness] = words[..] {
                    let line = Line {
                        teller: index,
                        of: of.parse().unwrap(),
                        generation: generation.parse().unwrap(),
                        alive: liveness == "Alive",
                        at: now(),
                    };
                    if tell.send(line).is_err() {
                        return;
                    }
                }
            }
        });
        child
    }

    /// Takes in what is said for so long, or until `done`. Returns the lines.
    fn read(&mut self, span: Duration, done: impl Fn(&Self) -> bool) -> Vec<Line> {
        let end = std::time::Instant::now() + span;
        let mut read = Vec::new();
        while !done(self) {
            let left = end.saturating_duration_since(std::time::Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.beliefs
                        .insert((line.teller, line.of), (line.generation, line.alive));
                    read.push(line);
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => unreachable!("a sender is kept"),
            }
        }
        read
    }

    /// Whether all but `gone` believe this of the life `generation` of `node`.
    fn all_believe(&self, gone: usize, node: usize, alive: bool) -> bool {
        let belief = Some(&(self.generations[node], alive));
        (0..self.nodes.len())
            .filter(|teller| *teller != gone)
            .all(|teller| self.beliefs.get(&(teller, self.nodes[node])) == belief)
    }

    fn until_all_alive(&mut self) {
        self.read(Duration::from_secs(60), |all| {
            (0..all.nodes.len()).all(|node| all.all_believe(usize::MAX, node, true))
        });
        for node in 0..self.nodes.len() {
            assert!(
                self.all_believe(usize::MAX, node, true),
                "{node} is not alive to all: {:?}",
                self.beliefs
            );
        }
    }

    fn signal(&self, index: usize, signal: Signal) {
        let pid = Pid::from_raw(self.running[index].id().cast_signed());
        kill(pid, signal).unwrap();
    }

    /// Kills one with -9, and returns how long until all others held it for dead; it is started again.
    fn kill(&mut self, index: usize) -> Duration {
        self.signal(index, Signal::SIGKILL);
        let begin = now();
        self.running[index].wait().unwrap();
        let lines = self.read(Duration::from_secs(30), |all| {
            all.all_believe(index, index, false)
        });
        assert!(
            self.all_believe(index, index, false),
            "{index} is not dead to all"
        );
        let last = lines.iter().map(|line| line.at).max().unwrap_or(begin);
        self.beliefs.retain(|(teller, _), _| *teller != index);
        self.running[index] = self.spawn(index);
        last.since(begin)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Keeps so many threads busy until dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn new(threads: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let stop = Arc::clone(&stop);
            thread::spawn(move || while !stop.load(Ordering::Relaxed) {});
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Stops random nodes for a second each while all cores are busy, and returns who was wrongly held for dead.
fn false_deaths(processes: &mut Processes, span: Duration) -> Vec<String> {
    let mut rng = rand::rng();
    let end = std::time::Instant::now() + span;
    let mut wrong = Vec::new();
    let mut stops = 0;
    while std::time::Instant::now() < end {
        let index = rng.random_range(0..processes.nodes.len());
        processes.signal(index, Signal::SIGSTOP);
        let mut lines = processes.read(Duration::from_secs(1), |_| false);
        processes.signal(index, Signal::SIGCONT);
        stops += 1;
        let pause = Duration::from_millis(rng.random_range(0..2_000));
        lines.extend(processes.read(pause, |_| false));
        for line in lines.iter().filter(|line| !line.alive) {
            wrong.push(format!(
                "stop {stops} of {index}: {} held {} for dead",
                line.teller, line.of
            ));
        }
    }
    println!("{stops} stops of a second, {} false deaths", wrong.len());
    wrong
}

#[test]
fn a_stopped_process_is_not_dead_and_a_killed_one_is_soon() {
    let mut processes = Processes::start(3);
    processes.until_all_alive();
    let wrong = {
        let _busy = Busy::new(2);
        false_deaths(&mut processes, Duration::from_secs(6))
    };
    assert!(wrong.is_empty(), "{wrong:#?}");
    let span = processes.kill(1);
    println!("known dead by all after {span:?}");
    assert!(span < Duration::from_secs(10), "{span:?}");
    processes.until_all_alive();
}

/// The figures: kills and stops on a busy machine.
#[test]
#[ignore = "a measurement: takes minutes"]
fn measure_processes() {
    let mut processes = Processes::start(number("SKEIN_BENCH_NODES", 5));
    processes.until_all_alive();
    let mut spans = Vec::new();
    for kill in 0..number("SKEIN_BENCH_KILLS", 20) {
        let count = processes.nodes.len();
        let settle = Duration::from_millis(700 + kill as u64 % 9 * 60);
        assert!(
            processes
                .read(settle, |_| false)
                .iter()
                .all(|line| line.alive)
        );
        spans.push(processes.kill(kill % count));
        processes.until_all_alive();
    }
    println!("killed, known dead by all: {:?}", Spans::of(spans));
    let _busy = Busy::new(2);
    let span = Duration::from_secs(number("SKEIN_BENCH_SECONDS", 60) as u64);
    let wrong = false_deaths(&mut processes, span);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
