//! Runs seeds, each in a process of its own, and tells which failed and how to run that one again.
//!
//! The process is this test program again, asked for the same one test, with the seed in [`CHILD`].

use std::env;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tracing_subscriber::EnvFilter;

use super::clock;
use super::entropy;
use super::invariants;
use super::world::World;

/// Names the seed to a process that runs one.
const CHILD: &str = "SKEIN_SIM_CHILD";

/// Asks for one seed. Those of steps have numbers of their own, which no other run is asked for.
const ONE: &str = "SKEIN_SEED";

/// Asks for so many seeds of each kind.
const MANY: &str = "SKEIN_SEEDS";

/// Begins these with another seed than the first.
const FROM: &str = "SKEIN_FROM";

/// A run that takes longer, in real time, hangs in a place where virtual time stands still.
const HANGS_AFTER: Duration = Duration::from_secs(300);

/// Futures that hold futures that hold futures want room on the stack, in a build without optimisation.
const STACK: usize = 64 << 20;

/// What stands before the number that is the same for two equal histories.
const DIGEST: &str = "HISTORY=";

/// What stands before the number of steps of a script.
const COUNT: &str = "STEPS=";

/// More steps than any script has.
pub(super) const STEPS: u64 = 10_000;

/// Lines of a failed run that are shown, unless it was asked for by itself.
const SHOWN: usize = 400;

/// Runs the seeds that the environment asks for, or `usual` of them; `test` is the calling test's own full name.
pub(super) fn run<F>(
    test: &str,
    usual: u64,
    scenario: impl FnOnce(Arc<World>, u64) -> F + Send + 'static,
) where
    F: Future<Output = ()>,
{
    if let Some(seed) = asked(CHILD) {
        run_here(seed, seed, scenario);
        return;
    }
    let seeds = match asked(ONE) {
        Some(seed) => seed..seed + 1,
        None => {
            let first = asked(FROM).unwrap_or(1);
            first..first + asked(MANY).unwrap_or(usual)
        }
    };
    run_all(test, &seeds.collect::<Vec<_>>());
}

/// Runs each of some scripts over and over, each time with a death at another step, until it has no more steps. What is
/// printed as the seed of a run is the number of its script, times [`STEPS`], and that of its step.
pub(super) fn run_each_step<F>(
    test: &str,
    scripts: u64,
    scenario: impl FnOnce(Arc<World>, u64, u64) -> F + Send + 'static,
) where
    F: Future<Output = ()>,
{
    if let Some(number) = asked(CHILD) {
        let (script, step) = (number / STEPS, number % STEPS);
        run_here(number, script, move |world, _| {
            scenario(world, script, step)
        });
        return;
    }
    let numbers = match asked(ONE) {
        Some(seed) if seed < STEPS => return,
        Some(number) => vec![number],
        None => (1..=scripts)
            .flat_map(|script| {
                let first = script * STEPS;
                first..=first + steps_of(test, first)
            })
            .collect(),
    };
    run_all(test, &numbers);
}

/// How many steps there are in a script without a death.
fn steps_of(test: &str, first: u64) -> u64 {
    let output = text(&run_apart(test, first));
    let told = output.lines().find_map(|line| line.split_once(COUNT));
    let steps = told.and_then(|(_, told)| told.parse().ok()).unwrap_or(0);
    assert!((1..STEPS).contains(&steps), "{steps} steps:\n{output}");
    steps
}

/// Tells whoever counts how many steps there are.
pub(super) fn tell_steps(steps: u64) {
    println!("{COUNT}{steps}");
}

fn run_all(test: &str, seeds: &[u64]) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let workers = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(2);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let output = run_apart(test, *seed);
                    if !output.status.success() {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push(*seed);
                        print!("{}", text(&output));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    for seed in &failed {
        println!("SEED={seed}  to run it again: {ONE}={seed} cargo test --lib {test}");
    }
    assert!(failed.is_empty(), "failed seeds: {failed:?}");
}

/// Runs one seed, in which something is done that no cluster survives, and expects it to fail with these words.
pub(super) fn run_to_fail<F>(
    test: &str,
    seed: u64,
    words: &str,
    scenario: impl FnOnce(Arc<World>, u64) -> F + Send + 'static,
) where
    F: Future<Output = ()>,
{
    if let Some(seed) = asked(CHILD) {
        run_here(seed, seed, scenario);
        return;
    }
    let output = run_apart(test, seed);
    let told = text(&output);
    let found = !output.status.success() && told.contains(words);
    assert!(found, "`{words}` was not found out:\n{told}");
}

/// The number of the history that a seed makes, in a process of its own.
pub(super) fn digest_of(test: &str, seed: u64) -> String {
    let output = text(&run_apart(test, seed));
    let line = output.lines().find_map(|line| line.split_once(DIGEST));
    line.map_or_else(
        || panic!("no history:\n{output}"),
        |(_, digest)| digest.into(),
    )
}

fn asked(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

fn run_apart(test: &str, seed: u64) -> Output {
    let program = env::current_exe().expect("this program has a path");
    Command::new(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, seed.to_string())
        .output()
        .expect("this program can be run again")
}

fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams.map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// Runs one seed on a fresh thread, whose randomness follows from `chance` from its first draw on.
fn run_here<F>(seed: u64, chance: u64, scenario: impl FnOnce(Arc<World>, u64) -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    if env::var_os("RUST_LOG").is_some() {
        let filter = EnvFilter::from_default_env();
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_timer(VirtualTime);
        log.init();
    }
    let (done, watched) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if watched.recv_timeout(HANGS_AFTER) == Err(RecvTimeoutError::Timeout) {
            println!("SEED={seed} does not end: virtual time stands still, or runs on for ever");
            std::process::abort();
        }
    });
    let run = thread::Builder::new().stack_size(STACK).spawn(move || {
        entropy::seed(chance);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let runtime = runtime.expect("a runtime without IO starts");
        let panics = panics();
        let mut problems = runtime.block_on(simulate(seed, chance, scenario));
        problems.extend(
            panics
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .drain(..),
        );
        problems
    });
    let run = run.expect("a thread starts").join();
    drop(done);
    let problems = run.unwrap_or_else(|_| panic!("SEED={seed}: the simulation itself failed"));
    watchdog.join().expect("the watchdog only waits");
    assert!(problems.is_empty(), "SEED={seed}:\n{}", problems.join("\n"));
}

/// Panics of tasks, which the runtime keeps to itself.
fn panics() -> Arc<Mutex<Vec<String>>> {
    let panics: Arc<Mutex<Vec<String>>> = Arc::default();
    let (seen, usual) = (panics.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(format!("a task panicked: {panic}"));
        usual(panic);
    }));
    panics
}

async fn simulate<F>(
    seed: u64,
    chance: u64,
    scenario: impl FnOnce(Arc<World>, u64) -> F,
) -> Vec<String>
where
    F: Future<Output = ()>,
{
    let world = World::new(chance);
    scenario(world.clone(), seed).await;
    world.end().await;
    let records = world.history.records();
    let mut problems = world.troubles();
    problems.extend(invariants::check(&records));
    let problems: Vec<String> = problems
        .iter()
        .map(|problem| world.names.shorten(problem))
        .collect();
    if !problems.is_empty() {
        let shown = match asked(ONE) {
            Some(_) => records.len(),
            None => SHOWN,
        };
        let skipped = records.len().saturating_sub(shown);
        println!("… {skipped} earlier records");
        for record in &records[skipped..] {
            println!("{}", world.names.line(record));
        }
    }
    println!(
        "seed {seed}: {} records in {:?} of virtual time, {DIGEST}{:016x}",
        records.len(),
        clock::elapsed(),
        world.names.digest(&records)
    );
    problems
}

/// Tells the log how much virtual time has passed.
struct VirtualTime;

impl tracing_subscriber::fmt::time::FormatTime for VirtualTime {
    fn format_time(
        &self,
        to: &mut tracing_subscriber::fmt::format::Writer<'_>,
    ) -> std::fmt::Result {
        write!(to, "{:9.4}", clock::elapsed().as_secs_f64())
    }
}
