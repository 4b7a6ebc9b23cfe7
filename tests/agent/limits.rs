//! Limits hold, and what they end is said.

use std::path::Path;

use skein::agent::runtime::Runtime;
use skein::model::limits::{ResourceLimits, Ulimit};

use crate::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_wants_too_much_memory_is_killed_and_says_so() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let mut config = bed.script("x=0123456789abcdef; while :; do x=$x$x; done");
    config.limits.memory = 16 << 20;
    let (exit, _) = bed.run(&runtime, &config).await;
    assert_eq!((exit.code, exit.oom), (137, true));
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_is_held_by_its_limit() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let mut config =
        bed.script("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 60 & done; echo all");
    config.limits.pids = 8;
    runtime.create(&config).await.unwrap();
    runtime.start(config.id).await.unwrap();
    let said = bed.until_said(config.id, "fork");
    assert!(!said.contains("all"), "{said}");
    runtime.remove(config.id).await.unwrap();
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn ulimits_are_set_no_higher_than_ours_and_limits_are_changed() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let mut config = bed.script("ulimit -n; ulimit -c; while :; do sleep 1; done");
    let ulimit = |name: &str, soft, hard| Ulimit {
        name: name.into(),
        soft,
        hard,
    };
    config.ulimits = vec![ulimit("nofile", 123, 1 << 40), ulimit("core", 0, 0)];
    config.limits.memory = 32 << 20;
    runtime.create(&config).await.unwrap();
    runtime.start(config.id).await.unwrap();
    bed.until_said(config.id, "123\n0\n");
    let limits = ResourceLimits {
        memory: 64 << 20,
        memory_swap: -1,
        ..ResourceLimits::default()
    };
    runtime.update(config.id, &limits).await.unwrap();
    assert_eq!(
        runtime.stats(config.id).await.unwrap().memory.limit,
        64 << 20
    );
    assert_eq!(runtime.config(config.id).unwrap().unwrap().limits, limits);
    assert_eq!(runtime.top(config.id).await.unwrap().len(), 2);
    let group = Path::new("/sys/fs/cgroup").join("pids").join(&bed.name);
    assert!(group.join(config.id.to_string()).exists() || !group.exists());
    let stats = runtime.stats(config.id).await.unwrap();
    assert!(
        stats.cpu.total > 0 && stats.memory.usage > 0 && stats.pids >= 2,
        "{stats:?}"
    );
    runtime.remove(config.id).await.unwrap();
    bed.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_container_stands_still_and_can_be_removed() {
    let Some(bed) = Bed::up() else { return };
    let runtime = bed.runtime().await;
    let config = bed.script("while :; do echo on; sleep 0.05; done");
    runtime.create(&config).await.unwrap();
    let refused = runtime.pause(config.id).await.unwrap_err();
    assert!(refused.message.ends_with("is not running"), "{refused}");
    let pid = runtime.start(config.id).await.unwrap().pid;
    bed.until_said(config.id, "on");
    runtime.pause(config.id).await.unwrap();
    use skein::model::container::ContainerState::Running;
    let state = runtime.inspect(config.id).await.unwrap().unwrap().state;
    assert_eq!(state, Some(Running { pid, paused: true }));
    runtime.resume(config.id).await.unwrap();
    let state = runtime.inspect(config.id).await.unwrap().unwrap().state;
    assert_eq!(state, Some(Running { pid, paused: false }));
    runtime.pause(config.id).await.unwrap();
    runtime.remove(config.id).await.unwrap();
    bed.nothing_left();
}
