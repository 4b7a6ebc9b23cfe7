//! From assignment to running and to removed, beside containerd's own tool on the same containerd.
//!
//! The whole way: ledger, image, plan, volumes, container, logger, process. `ctr` does less: it has no log, no limits
//! on system calls and nothing on disk of its own. What the limits cost is below all of that, so `ctr` runs a second
//! time with the very filter that the agent's container has. All are made to do the same to the process: it is killed.

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use skein::agent::runner::Statuses;
use skein::model::{TaskId, TaskState};
use skein::wire::assignment::Assigned;

use crate::agent::{Agent, id, task};
use crate::args::Options;
use crate::bed::{self, Bed, within};
use crate::chart::{Figure, Goal};
use crate::machine::own_cpu;
use crate::report::Report;

/// What the containers run: nothing that costs.
const SCRIPT: &str = "exec sleep 1000000";

/// Of the image, as `ctr` calls it.
const IMAGE: &str = "docker.io/test/busybox:latest";

/// Tasks that are assigned at once.
const MANY: usize = 100;

/// `ctr`s at a time, as many as the agent starts at a time.
const AT_ONCE: usize = 4;

/// Processor time of our own for a task, ms.
const OWN_CPU: f64 = 15.0;

/// Rounds that are not counted: the first container of a machine pays for others.
const WARM: usize = 2;

/// One after another, then many at once.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let runtime = runtime()?;
    let bed = Bed::up().ok_or("no containerd can be had here")?;
    let mut agent = Tasks {
        agent: runtime.block_on(Agent::up(&bed)),
        generation: 0,
    };
    report.note(format!(
        "containerd {}, {}; a task is from its assignment until it is told to run, and from the word that it is to go \
         until it is forgotten; ctr is `ctr run --detach`, and `ctr task rm --force` with `ctr container rm`",
        agent.agent.runtime.version(),
        agent.agent.runtime.runtime_name()
    ));
    let rounds = options.size(10, 40);
    let serial = runtime.block_on(serially(rounds, &bed, &mut agent, report))?;
    runtime.block_on(at_once(&bed, &mut agent, serial, report))?;
    runtime.block_on(agent.agent.down());
    bed.nothing_left();
    Ok(())
}

/// Threads as the daemon has them.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.enable_all().build();
    built.map_err(|error| format!("no threads can be had: {error}"))
}

/// A task whose process ends as soon as it is asked to.
pub(crate) fn sleeper(bed: &Bed, number: u128) -> Assigned {
    let mut task = task(bed, number, SCRIPT);
    if let Some(spec) = &mut task.spec.container_spec {
        spec.stop_signal = "SIGKILL".into();
    }
    task
}

struct Tasks {
    agent: Agent,
    generation: u64,
}

/// Wall time, and processor time of this process.
#[derive(Clone, Copy)]
struct Span {
    wall: Duration,
    own: Duration,
}

async fn span(work: impl Future<Output = ()>) -> Span {
    let (begin, own) = (Instant::now(), own_cpu());
    work.await;
    Span {
        wall: begin.elapsed(),
        own: own_cpu() - own,
    }
}

impl Tasks {
    async fn assign(&mut self, tasks: &[Assigned], removed: &[TaskId]) {
        self.generation += 1;
        self.agent.assign(self.generation, tasks, removed).await;
    }

    /// Returns once all statuses are as wanted.
    async fn until(&self, wanted: impl FnMut(&Statuses) -> bool) {
        let mut statuses = self.agent.runner.statuses();
        within(statuses.wait_for(wanted))
            .await
            .expect("the runner goes on");
    }

    async fn run(&mut self, tasks: &[Assigned]) {
        self.assign(tasks, &[]).await;
        self.until(|all| {
            let running = |task: &Assigned| {
                let status = all.get(&task.task);
                status.is_some_and(|status| status.state == TaskState::Running)
            };
            tasks.iter().all(running)
        })
        .await;
    }

    async fn remove(&mut self, tasks: &[TaskId]) {
        self.assign(&[], tasks).await;
        self.until(|all| tasks.iter().all(|task| !all.contains_key(task)))
            .await;
    }
}

/// Returns the medians of `ctr`, in ms, until running and until removed.
async fn serially(
    rounds: usize,
    bed: &Bed,
    tasks: &mut Tasks,
    report: &mut Report,
) -> Result<[f64; 2], String> {
    let (mut runs, mut goes) = (Vec::new(), Vec::new());
    let (mut ctr_runs, mut ctr_goes) = (Vec::new(), Vec::new());
    let mut filtered_runs = Vec::new();
    for round in 0..rounds + WARM {
        let task = sleeper(bed, round as u128 + 1);
        let name = format!("ctr-{round}");
        let run = span(tasks.run(std::slice::from_ref(&task))).await;
        if round == 0 {
            keep_filter(bed)?;
        }
        let ctr_run = ctr_run(bed, &name)?;
        let filtered_run = ctr_run_filtered(bed, &format!("{name}-filtered"))?;
        let gone = span(tasks.remove(&[task.task])).await;
        let ctr_gone = ctr_remove(bed, &name)?;
        ctr_remove(bed, &format!("{name}-filtered"))?;
        if round >= WARM {
            runs.push(run);
            goes.push(gone);
            ctr_runs.push(ctr_run);
            ctr_goes.push(ctr_gone);
            filtered_runs.push(filtered_run);
        }
    }
    let mut medians = Vec::new();
    for (what, ours, theirs) in [("running", runs, ctr_runs), ("removed", goes, ctr_goes)] {
        let walls: Vec<Duration> = ours.iter().map(|span| span.wall).collect();
        let owns: Vec<Duration> = ours.iter().map(|span| span.own).collect();
        let wall = Figure::times(format!("one task until {what}"), &walls);
        let ctr = Figure::times(format!("one container until {what}, ctr"), &theirs);
        let median = wall.percentile(50);
        let ratio = median / ctr.percentile(50);
        medians.push(ctr.percentile(50));
        report.add(wall);
        report.add(ctr);
        let what_of = format!("one task until {what}: ratio of the medians to ctr's");
        report.add(Figure::value(what_of, "×", ratio).goal(Goal::Median(1.0)));
        let cpu = Figure::times(format!("one task until {what}: our own CPU"), &owns);
        report.add(cpu.goal(Goal::Median(OWN_CPU)));
        if what == "running" {
            let words = "one container until running, ctr with our filter of system calls";
            let filtered = Figure::times(words, &filtered_runs);
            let ratio = median / filtered.percentile(50);
            report.add(filtered);
            let words = "one task until running: ratio of the medians to ctr's with our filter";
            report.add(Figure::value(words, "×", ratio).goal(Goal::Median(1.0)));
        }
    }
    Ok([medians[0], medians[1]])
}

async fn at_once(
    bed: &Bed,
    tasks: &mut Tasks,
    serial: [f64; 2],
    report: &mut Report,
) -> Result<(), String> {
    let all: Vec<Assigned> = (0..MANY)
        .map(|number| sleeper(bed, 1000 + number as u128))
        .collect();
    let ids: Vec<TaskId> = (0..MANY).map(|number| id(1000 + number as u128)).collect();
    let run = span(tasks.run(&all)).await;
    let gone = span(tasks.remove(&ids)).await;
    let ctr_run = ctr_many(|name| ctr_run(bed, name))?;
    let ctr_gone = ctr_many(|name| ctr_remove(bed, name))?;
    let both = [("running", run, ctr_run), ("removed", gone, ctr_gone)];
    for ((what, ours, theirs), serial) in both.into_iter().zip(serial) {
        let each = |span: Duration| span.as_secs_f64() * 1e3 / MANY as f64;
        let named = |what_of: &str| format!("{MANY} tasks until {what}{what_of}");
        let wall = Figure::value(named(": wall for each"), "ms", each(ours.wall));
        report.add(wall);
        let words = named(&format!(", ctr, {AT_ONCE} at a time: wall for each"));
        report.add(Figure::value(words, "ms", each(theirs)));
        let ratio = each(ours.wall) / serial;
        let words = named(": ratio to ctr's, one after another");
        report.add(Figure::value(words, "×", ratio).goal(Goal::Median(1.0)));
        let ratio = each(ours.wall) / each(theirs);
        let words = named(&format!(": ratio to ctr's, {AT_ONCE} at a time"));
        report.add(Figure::value(words, "×", ratio));
        let own = Figure::value(named(": our own CPU for each"), "ms", each(ours.own));
        report.add(own.goal(Goal::Median(OWN_CPU)));
    }
    Ok(())
}

/// As many as are assigned at once, some at a time.
fn ctr_many(one: impl Fn(&str) -> Result<Duration, String> + Sync) -> Result<Duration, String> {
    let (begin, next) = (Instant::now(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let worker = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= MANY {
                    return Ok(());
                }
                one(&format!("ctr-many-{number}"))?;
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        let ended = workers.into_iter().map(|worker| worker.join());
        ended
            .map(|ended| ended.unwrap_or_else(|_| Err("a thread ended early".into())))
            .collect::<Result<Vec<()>, String>>()
    })?;
    Ok(begin.elapsed())
}

fn ctr(bed: &Bed, args: &[&str]) -> Result<String, String> {
    let mut command = bed::command("ctr");
    command.args(["-n", &bed.name, "-a"]).arg(bed.socket());
    let said = command.args(args).stdin(Stdio::null()).output();
    let said = said.map_err(|error| error.to_string())?;
    match said.status.success() {
        true => Ok(String::from_utf8_lossy(&said.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&said.stderr).into_owned()),
    }
}

/// Where the filter of the agent's containers is kept.
fn filter(bed: &Bed) -> String {
    bed.directory.join("filter.json").display().to_string()
}

/// Keeps the filter of the one container that there is.
fn keep_filter(bed: &Bed) -> Result<(), String> {
    let all = ctr(bed, &["containers", "list", "--quiet"])?;
    let id = all.lines().next().ok_or("there is no container")?;
    let info = ctr(bed, &["containers", "info", id])?;
    let info: Value = serde_json::from_str(&info).map_err(|error| error.to_string())?;
    let kept = info["Spec"]["linux"]["seccomp"].to_string();
    fs::write(filter(bed), kept).map_err(|error| error.to_string())
}

fn ctr_run(bed: &Bed, name: &str) -> Result<Duration, String> {
    let begin = Instant::now();
    ctr(bed, &["run", "--detach", IMAGE, name, "sh", "-c", SCRIPT])?;
    Ok(begin.elapsed())
}

fn ctr_run_filtered(bed: &Bed, name: &str) -> Result<Duration, String> {
    let (begin, filter) = (Instant::now(), filter(bed));
    let with = ["--seccomp", "--seccomp-profile", &filter];
    let run = [IMAGE, name, "sh", "-c", SCRIPT];
    ctr(bed, &[&["run", "--detach"], &with[..], &run[..]].concat())?;
    Ok(begin.elapsed())
}

fn ctr_remove(bed: &Bed, name: &str) -> Result<Duration, String> {
    let begin = Instant::now();
    ctr(bed, &["task", "rm", "--force", name])?;
    ctr(bed, &["container", "rm", name])?;
    Ok(begin.elapsed())
}
