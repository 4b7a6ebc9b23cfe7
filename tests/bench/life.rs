//! Many tasks on one node, through a restart of the daemon: memory, the time until all are adopted, and that none is
//! disturbed.
//!
//! Each life of the daemon is a process of its own: this program, started again in the role of an agent. The first is
//! killed with no chance to say anything.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skein::agent::runtime::Runtime;
use skein::model::TaskState;
use skein::model::container::ContainerState;
use skein::wire::assignment::Assigned;

use crate::agent::{Agent, id};
use crate::args::Options;
use crate::assign::{runtime, sleeper};
use crate::bed::{Bed, within};
use crate::chart::{Figure, Goal};
use crate::machine::{own_cpu, resident_mb};
use crate::report::Report;

/// The first argument that makes this program an agent.
pub(crate) const ROLE: &str = "--agent";

/// What the daemon may grow by, in MB.
const GROWTH: f64 = 5.0;

/// Until all are adopted, in ms.
const ADOPTION: f64 = 1000.0;

/// Tasks that run before memory is looked at: the first ones pay for what is there once.
const WARM: usize = 3;

/// The number of the first of the tasks that are counted.
const FIRST: u128 = 10_000;

/// Lives on one bed.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let bed = Bed::up().ok_or("no containerd can be had here")?;
    let tasks = options.size(50, 200);
    let mut life = Life::start(&bed, tasks)?;
    let before = life.ask("run")?;
    let processes = begun(&before)?;
    if processes.len() != tasks {
        return Err(format!("{} of {tasks} tasks run", processes.len()));
    }
    let [empty, full] = ["resident_before", "resident"].map(|field| before[field].as_f64());
    let (empty, full) = (empty.unwrap_or(f64::NAN), full.unwrap_or(f64::NAN));
    let all = format!("{tasks} tasks");
    report.add(Figure::value(
        format!("{all}: resident memory without them"),
        "MB",
        empty,
    ));
    let grown = Figure::value(format!("{all}: it grows by"), "MB", full - empty);
    report.add(grown.goal(Goal::Most(GROWTH)));
    life.kill();

    for _ in 0..options.size(2, 5) {
        let begin = Instant::now();
        let mut life = Life::start(&bed, tasks)?;
        let after = life.ask("adopt")?;
        let took = begin.elapsed();
        let adopted = Figure::times(format!("{all}: adopted after a restart"), &[took]);
        report.add(adopted.goal(Goal::Most(ADOPTION)));
        let cpu = after["cpu_ms"].as_f64().unwrap_or(f64::NAN);
        report.add(Figure::value(
            format!("{all}: CPU of the adoption"),
            "ms",
            cpu,
        ));
        let resident = after["resident"].as_f64().unwrap_or(f64::NAN);
        let words = format!("{all}: resident memory after it, more than without them");
        report.add(Figure::value(words, "MB", resident - empty).goal(Goal::Most(GROWTH)));
        let now = begun(&after)?;
        let same = processes
            .iter()
            .filter(|(pid, at)| now.get(*pid) == Some(at));
        let disturbed = (tasks - same.count()) as f64;
        let figure = Figure::value(format!("{all}: disturbed by it"), "tasks", disturbed);
        report.add(figure.goal(Goal::Most(0.0)));
        life.kill();
    }
    let mut last = Life::start(&bed, tasks)?;
    last.ask("adopt")?;
    last.ask("remove")?;
    last.kill();
    bed.nothing_left();
    report.note(
        "a restart is from the start of the new process, linked as any program, until every task has an owner that \
         waits for its end; undisturbed is a task whose process has the same number and began at the same moment",
    );
    Ok(())
}

/// When each of the processes that an answer names began, by its number.
fn begun(answer: &Value) -> Result<BTreeMap<u64, u64>, String> {
    let pids = answer["pids"].as_array().ok_or("an agent named no pids")?;
    let began = |pid: u64| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        after_name.split_whitespace().nth(19)?.parse().ok()
    };
    let began = pids.iter().filter_map(Value::as_u64).map(|pid| {
        let began = began(pid).ok_or_else(|| format!("process {pid} is gone"))?;
        Ok((pid, began))
    });
    began.collect()
}

/// One life of the agent, in a process of its own.
struct Life {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Life {
    fn start(bed: &Bed, tasks: usize) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut process = Command::new(program)
            .args([ROLE, &bed.name])
            .arg(&bed.directory)
            .args([bed.image.to_string(), tasks.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("an agent cannot be started: {error}"))?;
        let orders = process.stdin.take().ok_or("it has no input")?;
        let answers = process.stdout.take().ok_or("it has no output")?;
        Ok(Self {
            process,
            orders,
            answers: BufReader::new(answers),
        })
    }

    /// Tells it what to do, and returns what it says then.
    fn ask(&mut self, order: &str) -> Result<Value, String> {
        writeln!(self.orders, "{order}").map_err(|error| format!("the agent ended: {error}"))?;
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        read.map_err(|error| error.to_string())?;
        serde_json::from_str(&line).map_err(|error| format!("it said {line:?}: {error}"))
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Is an agent: does what each line of standard input says, and answers each with a line.
pub(crate) fn main(begun: Instant, arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    let [name, directory, image, tasks] = &arguments[..] else {
        return ExitCode::from(2);
    };
    let (Ok(image), Ok(tasks), Ok(runtime)) = (image.parse(), tasks.parse(), runtime()) else {
        return ExitCode::from(2);
    };
    let bed = Bed::of_another(name.clone(), PathBuf::from(directory), image);
    let agent = runtime.block_on(Agent::up(&bed));
    for order in std::io::stdin().lines().map_while(Result::ok) {
        let answer = runtime.block_on(obey(&order, &bed, &agent, tasks, begun));
        let mut out = std::io::stdout();
        if writeln!(out, "{answer}")
            .and_then(|()| out.flush())
            .is_err()
        {
            break;
        }
    }
    ExitCode::SUCCESS
}

async fn obey(order: &str, bed: &Bed, agent: &Agent, tasks: usize, begun: Instant) -> Value {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let ids = (0..tasks).map(|number| id(FIRST + number as u128));
    match order {
        "run" => {
            let warm: Vec<Assigned> = (0..WARM)
                .map(|number| sleeper(bed, 1 + number as u128))
                .collect();
            let warm_ids: Vec<_> = warm.iter().map(|task| task.task).collect();
            agent.assign(1, &warm, &[]).await;
            until_running(agent, WARM).await;
            agent.assign(2, &[], &warm_ids).await;
            until_running(agent, 0).await;
            let before = resident_mb(own);
            let all: Vec<Assigned> = (0..tasks)
                .map(|number| sleeper(bed, FIRST + number as u128))
                .collect();
            agent.assign(3, &all, &[]).await;
            drop(all);
            until_running(agent, tasks).await;
            json!({"resident_before": before, "resident": resident_mb(own), "pids": pids(agent).await})
        }
        "adopt" => {
            until_running(agent, tasks).await;
            let (took, cpu) = (begun.elapsed(), own_cpu());
            json!({
                "took_ms": took.as_secs_f64() * 1e3, "cpu_ms": cpu.as_secs_f64() * 1e3,
                "resident": resident_mb(own), "pids": pids(agent).await,
            })
        }
        _ => {
            agent.assign(4, &[], &ids.collect::<Vec<_>>()).await;
            until_running(agent, 0).await;
            json!({})
        }
    }
}

/// Returns once there are so many tasks, and all of them run.
async fn until_running(agent: &Agent, count: usize) {
    let mut statuses = agent.runner.statuses();
    // Most of them begin one after another.
    let patience = Duration::from_secs(300);
    let wanted = statuses.wait_for(|all| {
        all.len() == count
            && all
                .values()
                .all(|status| status.state == TaskState::Running)
    });
    let outcome = tokio::time::timeout(patience, wanted).await;
    assert!(
        outcome.is_ok_and(|outcome| outcome.is_ok()),
        "they do not run"
    );
}

/// The processes of the tasks.
async fn pids(agent: &Agent) -> Vec<u32> {
    let found = within(agent.runtime.list()).await;
    let found = found.expect("containerd answers").into_iter();
    found
        .filter_map(|found| match found.state {
            Some(ContainerState::Running { pid, .. }) => Some(pid),
            Some(ContainerState::Created | ContainerState::Exited(_)) | None => None,
        })
        .collect()
}
