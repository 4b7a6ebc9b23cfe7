//! The daemon, and containerd, killed at every call between them, over the whole life of a task.
//!
//! The agent is a process of its own: this test, run again. What passes between it and containerd is counted, and at
//! the n-th call one of them is killed with no chance to say anything, for each n until a life passes without. Then it
//! is started again. What is asked about images is not counted: it changes nothing. The task must come to where it was to go, its program must have begun exactly once, and nothing
//! may be left of it.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

use skein::agent::runner::Statuses;
use skein::model::TaskState;
use skein::model::task_spec::{MountKind, MountSpec};
use skein::wire::Json;
use skein::wire::assignment::{Assigned, Assignments};
use tokio::sync::watch;

use crate::agent::{Agent, id, task_of, to};
use crate::bed::{Bed, DEADLINE, Place, eventually};
use crate::proxy::{Moment, Proxy};

/// Says to a process that it is an agent: where, and on which image.
const ROLE: &str = "SKEIN_TEST_AGENT";

/// Begins each line that an agent says.
const SAYS: &str = "agent: ";

/// What the task does: says that it began, and ends when it is asked to.
const SCRIPT: &str =
    "echo $HOSTNAME >> /srv/site/began; trap 'exit 0' TERM; while :; do sleep 0.05; done";

/// Not a test: the agent that the tests below kill.
#[tokio::test(flavor = "multi_thread")]
async fn the_agent_that_is_killed() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let [name, directory, socket, images, image] = role.splitn(5, '|').collect::<Vec<_>>()[..]
    else {
        panic!("{ROLE}: {role}");
    };
    let place = Place {
        name: name.into(),
        directory: directory.into(),
        socket: socket.into(),
        images: images.into(),
    };
    let agent = Agent::at(&place).await;
    let mut statuses = agent.runner.statuses();
    say_all(&statuses.borrow_and_update());
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(async move {
        while statuses.changed().await.is_ok() {
            say_all(&statuses.borrow_and_update());
        }
    });
    say("up");
    let mut commands =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(tokio::io::stdin()));
    while let Ok(Some(command)) = commands.next_line().await {
        let words: Vec<&str> = command.split(' ').collect();
        let (generation, number) = (words[1].parse().unwrap(), words[2].parse().unwrap());
        let task = steps(image, number);
        let tasks = match words[0] {
            "run" => vec![task],
            "fill" => vec![fills(image, number)],
            "stop" => vec![to(task, TaskState::Shutdown)],
            _ => Vec::new(),
        };
        let assignments = Assignments {
            term: 1,
            generation,
            complete: true,
            tasks: tasks.into_iter().map(Json).collect(),
            removed: Vec::new(),
        };
        agent.runner.assign(assignments).await.unwrap();
        say(&format!("took {generation}"));
    }
    // Whoever started it is gone, or kills it.
    std::process::abort();
}

fn say_all(statuses: &Statuses) {
    let words = statuses
        .iter()
        .map(|(task, status)| format!("{task} {} {}", status.state, status.err));
    say(&words.collect::<Vec<_>>().join(";"));
}

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{SAYS}{words}");
}

/// The task whose life is cut. Its volume is filled with what the image has.
fn steps(image: &str, number: u128) -> Assigned {
    with_volume(
        task_of(image, number, SCRIPT),
        &volume_of(number),
        "/srv/site",
    )
}

fn volume_of(number: u128) -> String {
    format!("steps-{number}")
}

/// A task whose volume is filled with the programs of the image.
fn fills(image: &str, number: u128) -> Assigned {
    let task = task_of(image, number, "while :; do sleep 0.1; done");
    with_volume(task, &format!("fill-{number}"), "/bin")
}

fn with_volume(mut task: Assigned, name: &str, target: &str) -> Assigned {
    if let Some(spec) = &mut task.spec.container_spec {
        spec.mounts = vec![MountSpec {
            kind: Some(MountKind::Volume),
            source: name.into(),
            target: target.into(),
            ..MountSpec::default()
        }];
    }
    task
}

/// What an agent has said last.
#[derive(Clone, Debug, Default)]
struct Said {
    is_up: bool,
    /// The assignments that it has taken.
    took: u64,
    tasks: String,
}

/// An agent in a process of its own.
pub(crate) struct Process {
    child: Child,
    commands: ChildStdin,
    told: u64,
    said: watch::Receiver<Said>,
}

impl Process {
    pub(crate) async fn start(place: &Place, image: &str) -> Self {
        let (name, directory) = (&place.name, place.directory.display());
        let (socket, images) = (place.socket.display(), place.images.display());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::the_agent_that_is_killed", "--nocapture"])
            .env(
                ROLE,
                format!("{name}|{directory}|{socket}|{images}|{image}"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (commands, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (hear, said) = watch::channel(Said::default());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // The test runner's own words may stand before.
                let Some((_, words)) = line.split_once(SAYS) else {
                    continue;
                };
                hear.send_modify(|said| match words.strip_prefix("took ") {
                    Some(generation) => said.took = generation.parse().unwrap(),
                    None if words == "up" => said.is_up = true,
                    None => said.tasks = words.to_owned(),
                });
            }
        });
        let process = Self {
            child,
            commands,
            told: 0,
            said,
        };
        process.until("it is up", |said| said.is_up).await;
        process
    }

    async fn until(&self, what: &str, is_it: impl Fn(&Said) -> bool) {
        let mut said = self.said.clone();
        let heard = tokio::time::timeout(DEADLINE, said.wait_for(|said| is_it(said)));
        if heard.await.is_ok_and(|heard| heard.is_ok()) {
            return;
        }
        panic!("not {what}: {:?}", self.said.borrow());
    }

    /// Waits until a task is where `verb` leads, which it was told last.
    pub(crate) async fn until_done(&self, verb: &str, number: u128) {
        let (task, told) = (id(number), self.told);
        let words = match verb {
            "run" => format!("{task} {} ", TaskState::Running),
            "stop" => format!("{task} {} ", TaskState::Shutdown),
            _ => {
                let words = task.to_string();
                let gone = |said: &Said| said.took == told && !said.tasks.contains(&words);
                return self.until("forgotten", gone).await;
            }
        };
        self.until(&words, |said| said.tasks.contains(&words)).await;
    }

    /// Says what the leader wants.
    pub(crate) fn tell(&mut self, verb: &str, generation: u64, number: u128) {
        self.told = generation;
        writeln!(self.commands, "{verb} {generation} {number}").unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says where a test was when it failed.
struct Told<'a>(&'a str);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "---- {}", self.0);
        }
    }
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Daemon,
    Containerd,
}

/// Which part of a life is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Start,
    End,
}

/// A bed with a proxy before its containerd, and agents behind the proxy.
struct Sweep {
    bed: Bed,
    proxy: Proxy,
    place: Place,
    image: String,
    generation: u64,
}

impl Sweep {
    fn up() -> Option<Self> {
        let bed = Bed::up()?;
        let socket = bed.directory.join("counted.sock");
        Some(Self {
            proxy: Proxy::start(&socket, bed.socket()),
            place: Place {
                socket,
                ..bed.place()
            },
            image: format!("test/busybox@{}", bed.image),
            bed,
            generation: 0,
        })
    }

    /// Cuts one part of lives at each call, until one comes through. How many were cut.
    async fn all(&mut self, victim: Victim, part: Part, moment: Moment) -> usize {
        for at in 0.. {
            if !self.life(victim, part, moment, at).await {
                return at;
            }
        }
        unreachable!("a life has an end");
    }

    /// One life of a task; whether it was cut.
    async fn life(&mut self, victim: Victim, part: Part, moment: Moment, at: usize) -> bool {
        let context = format!("{victim:?} killed {moment:?} call {at} of the {part:?}");
        let _told = Told(&context);
        let number = u128::from(self.generation) + 1;
        let volumes = self.bed.directory.join("volumes");
        let data = volumes.join(volume_of(number)).join("_data");
        let read = |name: &str| fs::read_to_string(data.join(name)).unwrap_or_default();
        let mut agent = Process::start(&self.place, &self.image).await;
        let mut cut = false;
        for (verb, its) in [
            ("run", Part::Start),
            ("stop", Part::End),
            ("forget", Part::End),
        ] {
            if verb == "run" && part == Part::Start || verb == "stop" && part == Part::End {
                self.proxy.choose(moment, at);
            }
            self.tell(&mut agent, verb, number);
            while its == part && !cut {
                tokio::select! {
                    // It may have come at the same moment. A stop goes on with what is chosen.
                    () = agent.until_done(verb, number) => cut = verb != "stop" && self.proxy.forget(),
                    () = self.proxy.reached() => cut = true,
                }
                if !cut {
                    break;
                }
                if victim == Victim::Daemon {
                    agent.kill();
                    self.proxy.hang_up();
                    agent = Process::start(&self.place, &self.image).await;
                    self.tell(&mut agent, verb, number);
                } else {
                    self.bed.kill_daemon();
                    self.proxy.hang_up();
                    self.bed.start_daemon();
                }
            }
            agent.until_done(verb, number).await;
            if verb == "run" {
                // Its process has begun; what it does first takes a moment more.
                eventually("it says that it began", || match read("began").is_empty() {
                    true => Err(context.clone()),
                    false => Ok(()),
                });
            }
        }
        drop(agent);
        let began = read("began");
        assert_eq!(began.lines().count(), 1, "{context}: it began as {began:?}");
        assert_eq!(read("index"), "hello\n", "{context}: the volume is filled");
        self.bed.nothing_left();
        cut
    }

    fn tell(&mut self, agent: &mut Process, verb: &str, number: u128) {
        self.generation += 1;
        agent.tell(verb, self.generation, number);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_at_any_call_of_a_start_loses_and_doubles_nothing() {
    let Some(mut sweep) = Sweep::up() else { return };
    for moment in [Moment::Before, Moment::During, Moment::After] {
        let cuts = sweep.all(Victim::Daemon, Part::Start, moment).await;
        assert!(cuts > 5, "{moment:?}: {cuts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_at_any_call_of_an_end_leaves_nothing() {
    let Some(mut sweep) = Sweep::up() else { return };
    for moment in [Moment::Before, Moment::During, Moment::After] {
        let cuts = sweep.all(Victim::Daemon, Part::End, moment).await;
        assert!(cuts > 5, "{moment:?}: {cuts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_killed_at_any_call_of_a_start_loses_and_doubles_nothing() {
    let Some(mut sweep) = Sweep::up() else { return };
    let cuts = sweep
        .all(Victim::Containerd, Part::Start, Moment::During)
        .await;
    assert!(cuts > 5, "{cuts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_killed_at_any_call_of_an_end_leaves_nothing() {
    let Some(mut sweep) = Sweep::up() else { return };
    let cuts = sweep
        .all(Victim::Containerd, Part::End, Moment::During)
        .await;
    assert!(cuts > 5, "{cuts}");
}
