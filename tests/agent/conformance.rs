//! What every runtime must do, as tests that are given one: run on the one in memory by its unit tests, and on
//! containerd by `tests/agent`.
//!
//! Needs an image with a POSIX shell and nothing else. Each function makes its own containers and removes them; a
//! breach panics with what was expected.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skein::agent::runtime::{Failure, Found, Runtime, RuntimeError};
use skein::model::container::{
    ContainerState, DnsConfig, Exit, ImageRef, LogConfig, NetworkMode, ProcessConfig, Security,
    Sharing,
};
use skein::model::limits::ResourceLimits;
use skein::model::{ContainerConfig, ContainerId};
use tokio::time::timeout;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with 143 when it is asked to end; runs until then.
pub(crate) const OBEDIENT: &str = "trap 'exit 143' TERM; while :; do sleep 0.1; done";

/// Ends only when it is killed.
pub(crate) const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.1; done";

/// Ends at once, with 7.
pub(crate) const SEVEN: &str = "exit 7";

/// A program that no image has.
pub(crate) const MISSING: &str = "/no/such/program";

/// What the suite needs to know of the machine.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// An image with a shell, unpacked.
    pub(crate) image: ImageRef,
    /// The shell and what makes it run the next argument, as in `["/bin/busybox", "sh", "-c"]`.
    pub(crate) shell: Vec<String>,
    /// Tells runs of the suite apart: containers of different seeds have different IDs.
    pub(crate) seed: u64,
}

/// All of it.
pub(crate) async fn all<R: Runtime>(runtime: &R, facts: &Facts) {
    what_is_not_there_is_absent(runtime, facts).await;
    a_container_lives_and_ends(runtime, facts).await;
    an_exit_is_kept_until_the_removal(runtime, facts).await;
    making_and_beginning_may_be_repeated(runtime, facts).await;
    a_stubborn_process_is_killed(runtime, facts).await;
    what_runs_can_be_removed(runtime, facts).await;
    an_impossible_program_is_refused_and_leaves_nothing(runtime, facts).await;
    many_at_once_do_not_disturb_each_other(runtime, facts).await;
}

/// A container that runs `script`.
pub(crate) fn config(facts: &Facts, script: &str) -> ContainerConfig {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&facts.seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&number.to_be_bytes());
    bytes[16..20].copy_from_slice(&std::process::id().to_be_bytes());
    let id = ContainerId::from_bytes(bytes);
    let mut args = facts.shell.clone();
    args.push(script.into());
    ContainerConfig {
        id,
        name: format!("conformance.{number}"),
        image: facts.image.clone(),
        labels: BTreeMap::from([("conformance".into(), number.to_string())]),
        process: ProcessConfig {
            args,
            env: vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".into()],
            ..ProcessConfig::default()
        },
        hostname: String::new(),
        domainname: String::new(),
        hosts: Vec::new(),
        dns: DnsConfig::default(),
        mounts: Vec::new(),
        read_only: false,
        shm_size: 64 << 20,
        security: Security::default(),
        limits: ResourceLimits::default(),
        ulimits: Vec::new(),
        sysctls: BTreeMap::new(),
        pid: Sharing::Own,
        ipc: Sharing::Own,
        network: NetworkMode::None,
        init: false,
        stop_signal: "SIGTERM".into(),
        stop_grace: Duration::from_secs(10),
        log: LogConfig {
            driver: "none".into(),
            options: BTreeMap::new(),
        },
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

async fn begun<R: Runtime>(runtime: &R, config: &ContainerConfig) -> u32 {
    within("create", runtime.create(config))
        .await
        .expect("it can be made");
    let started = within("start", runtime.start(config.id)).await;
    let pid = started.expect("it can begin").pid;
    if config.process.args.concat().contains("trap ") {
        within("trap", minds(pid)).await;
    }
    pid
}

/// Waits until a process has said what becomes of SIGTERM. Before, it is another program, or none of its own mind.
/// What is no process of this machine has no mind to wait for.
async fn minds(pid: u32) {
    const TERM: u64 = 1 << (15 - 1);
    loop {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
            return;
        };
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let mask = |name: &str| u64::from_str_radix(line(name)?.trim(), 16).ok();
        let said = mask("SigCgt:").unwrap_or(0) | mask("SigIgn:").unwrap_or(0);
        let is_shell = line("Name:").is_some_and(|name| name.trim() != "runc:[2:INIT]");
        if is_shell && said & TERM != 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn ended<R: Runtime>(runtime: &R, id: ContainerId) -> Exit {
    within("wait", runtime.wait(id)).await.expect("it ends")
}

async fn found<R: Runtime>(runtime: &R, id: ContainerId) -> Option<Found> {
    within("inspect", runtime.inspect(id))
        .await
        .expect("it can be looked at")
}

async fn removed<R: Runtime>(runtime: &R, id: ContainerId) {
    within("remove", runtime.remove(id))
        .await
        .expect("it can be removed");
    assert_eq!(found(runtime, id).await, None, "it is removed");
    let all = within("list", runtime.list())
        .await
        .expect("they can be listed");
    assert!(
        all.iter().all(|found| found.id != id),
        "it is listed and removed"
    );
}

#[track_caller]
fn is_gone<T: std::fmt::Debug>(outcome: Result<T, RuntimeError>) {
    let error = outcome.expect_err("there is no such container");
    assert_eq!(error.failure, Failure::Gone, "{error}");
}

/// Nothing is known of a container that was never made, and its removal is good.
pub(crate) async fn what_is_not_there_is_absent<R: Runtime>(runtime: &R, facts: &Facts) {
    let id = config(facts, SEVEN).id;
    assert_eq!(found(runtime, id).await, None);
    is_gone(within("start", runtime.start(id)).await);
    is_gone(within("wait", runtime.wait(id)).await);
    removed(runtime, id).await;
    removed(runtime, id).await;
}

/// Made, begun, asked to end, ended, removed; and found in each of these states.
pub(crate) async fn a_container_lives_and_ends<R: Runtime>(runtime: &R, facts: &Facts) {
    let config = config(facts, OBEDIENT);
    let id = config.id;
    within("create", runtime.create(&config))
        .await
        .expect("it can be made");
    let created = found(runtime, id).await.expect("it is made");
    assert_eq!(created.state, Some(ContainerState::Created));
    let label = created.labels.get("conformance");
    assert_eq!(label, config.labels.get("conformance"));
    let started = within("start", runtime.start(id))
        .await
        .expect("it can begin");
    assert!(started.pid > 0, "its process has a number");
    let all = within("list", runtime.list())
        .await
        .expect("they can be listed");
    let listed = all
        .iter()
        .find(|found| found.id == id)
        .expect("it is listed");
    let running = Some(ContainerState::Running {
        pid: started.pid,
        paused: false,
    });
    assert_eq!(listed.state, running);
    assert_eq!(found(runtime, id).await.expect("it runs").state, running);
    let (exit, ()) = tokio::join!(ended(runtime, id), async {
        // A shell may be asked before it has said what it does then.
        while !matches!(
            found(runtime, id).await.and_then(|found| found.state),
            Some(ContainerState::Exited(_))
        ) {
            within("signal", runtime.signal(id, 15))
                .await
                .expect("it can be asked");
            let _ = timeout(Duration::from_millis(200), runtime.wait(id)).await;
        }
    });
    assert_eq!(exit.code, 143);
    let state = found(runtime, id).await.expect("it is kept").state;
    assert_eq!(state, Some(ContainerState::Exited(exit)));
    removed(runtime, id).await;
    is_gone(within("wait", runtime.wait(id)).await);
}

/// How a process ended can be asked again and again, and late, and by several at once.
pub(crate) async fn an_exit_is_kept_until_the_removal<R: Runtime>(runtime: &R, facts: &Facts) {
    let config = config(facts, SEVEN);
    begun(runtime, &config).await;
    let (one, other) = tokio::join!(ended(runtime, config.id), ended(runtime, config.id));
    assert_eq!(one.code, 7);
    assert_eq!(one, other);
    assert_eq!(ended(runtime, config.id).await, one);
    within("signal", runtime.signal(config.id, 15))
        .await
        .expect("good when it has ended");
    removed(runtime, config.id).await;
}

/// What was done by an attempt that nobody remembers is found done.
pub(crate) async fn making_and_beginning_may_be_repeated<R: Runtime>(runtime: &R, facts: &Facts) {
    let config = config(facts, OBEDIENT);
    for _ in 0..2 {
        within("create", runtime.create(&config))
            .await
            .expect("it can be made again");
        let state = found(runtime, config.id).await.expect("it is made").state;
        assert_eq!(state, Some(ContainerState::Created));
    }
    let first = within("start", runtime.start(config.id))
        .await
        .expect("it can begin");
    let again = within("start", runtime.start(config.id))
        .await
        .expect("it has begun");
    assert_eq!(first.pid, again.pid, "it has begun once");
    within("signal", runtime.signal(config.id, 9))
        .await
        .expect("it can be killed");
    assert_eq!(ended(runtime, config.id).await.code, 137);
    within("start", runtime.start(config.id))
        .await
        .expect("it had begun");
    assert_eq!(
        ended(runtime, config.id).await.code,
        137,
        "it does not begin twice"
    );
    removed(runtime, config.id).await;
}

/// A process that does not want to end can be made to.
pub(crate) async fn a_stubborn_process_is_killed<R: Runtime>(runtime: &R, facts: &Facts) {
    let config = config(facts, STUBBORN);
    begun(runtime, &config).await;
    within("signal", runtime.signal(config.id, 15))
        .await
        .expect("it can be asked");
    let early = timeout(Duration::from_millis(300), runtime.wait(config.id)).await;
    assert!(early.is_err(), "it does not obey: {early:?}");
    within("signal", runtime.signal(config.id, 9))
        .await
        .expect("it can be killed");
    assert_eq!(ended(runtime, config.id).await.code, 137);
    removed(runtime, config.id).await;
}

/// Removal ends what runs, and who waits for it is told.
pub(crate) async fn what_runs_can_be_removed<R: Runtime>(runtime: &R, facts: &Facts) {
    let config = config(facts, STUBBORN);
    begun(runtime, &config).await;
    let (outcome, ()) = tokio::join!(
        within("wait", runtime.wait(config.id)),
        removed(runtime, config.id)
    );
    match outcome {
        Ok(exit) => assert_eq!(exit.code, 137),
        gone => is_gone(gone),
    }
}

/// A program that is not there is refused when the container is made or begun, and nothing of it stays after removal.
pub(crate) async fn an_impossible_program_is_refused_and_leaves_nothing<R: Runtime>(
    runtime: &R,
    facts: &Facts,
) {
    let mut config = config(facts, "");
    config.process.args = vec![MISSING.into()];
    let outcome = match within("create", runtime.create(&config)).await {
        Ok(()) => within("start", runtime.start(config.id)).await.map(drop),
        refused => refused,
    };
    let error = outcome.expect_err("there is no such program");
    assert_eq!(error.failure, Failure::Refused, "{error}");
    assert!(error.to_string().contains(MISSING), "{error}");
    removed(runtime, config.id).await;
}

/// Ten at the same time: each has its own end.
pub(crate) async fn many_at_once_do_not_disturb_each_other<R: Runtime>(runtime: &R, facts: &Facts) {
    let lives = (0..10).map(|code| async move {
        let config = config(facts, &format!("exit {code}"));
        begun(runtime, &config).await;
        assert_eq!(ended(runtime, config.id).await.code, code);
        removed(runtime, config.id).await;
    });
    let lives: Vec<_> = lives.collect();
    futures_util::future::join_all(lives).await;
}
