//! Daemons that are killed: at each step of a task's life, at two of them, and at random with random wishes.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::world::{World, asked, spec};
use crate::agent::runtime::conformance::{MISSING, OBEDIENT, STUBBORN};
use crate::model::{TaskId, TaskSpec, TaskState};

/// More steps than the whole life of a task has.
const STEPS: u64 = 80;

/// A task is run, stopped, removed and forgotten by daemons that die at these steps of their lives. Whether all of
/// these deaths happened.
async fn whole_life(deaths: &[u64], task: &TaskSpec) -> bool {
    let mut world = World::new();
    world.deaths = deaths.iter().rev().copied().collect();
    world.want(1, task, TaskState::Running).await;
    world.reaches(1, TaskState::Running).await;
    assert_eq!(world.runtime.containers().len(), 1, "{deaths:?}");
    world.want(1, task, TaskState::Shutdown).await;
    let status = world.reaches(1, TaskState::Shutdown).await;
    let code = status.exit_code;
    assert!(matches!(code, Some(143 | 137)), "{deaths:?}: {status:?}");
    assert_eq!(world.runtime.containers().len(), 1, "{deaths:?}");
    world.want(1, task, TaskState::Remove).await;
    world.forget(1).await;
    let all_died = world.deaths.is_empty();
    world.is_empty().await;
    let begun = world.runtime.begun(&TaskId::from_bits(1).to_string());
    assert_eq!(begun, 1, "{deaths:?}: it began {begun} times");
    all_died
}

#[tokio::test(start_paused = true)]
async fn a_daemon_may_die_at_each_step() {
    for task in [spec("busybox", OBEDIENT), asked(spec("busybox", STUBBORN))] {
        for step in 1..STEPS {
            whole_life(&[step], &task).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn daemons_may_die_one_after_another() {
    let task = spec("busybox", OBEDIENT);
    for first in (1..40).step_by(3) {
        for second in (1..30).step_by(2) {
            whole_life(&[first, second], &task).await;
        }
    }
    // Each life gets one step further than the last.
    let deaths: Vec<u64> = (1..STEPS).collect();
    whole_life(&deaths, &task).await;
}

/// What a task of this kind ends with when nobody stops it.
const KINDS: [(&str, &str, TaskState); 6] = [
    ("busybox", OBEDIENT, TaskState::Running),
    ("busybox", STUBBORN, TaskState::Running),
    ("busybox", "exit 0", TaskState::Complete),
    ("busybox", "exit 9", TaskState::Failed),
    ("busybox", MISSING, TaskState::Failed),
    ("nothing", OBEDIENT, TaskState::Rejected),
];

async fn random_lives(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    let lives = random.random_range(0..12);
    world.deaths = (0..lives).map(|_| random.random_range(1..120)).collect();
    if random.random_bool(0.5) {
        let one_in = random.random_range(3..30);
        world.fate.fail_one_in(Some(one_in), random.random());
    }
    let mut wishes: BTreeMap<u128, (usize, TaskState)> = BTreeMap::new();
    for _ in 0..random.random_range(1..20) {
        let task = random.random_range(1..6);
        let (kind, desired) = *wishes
            .entry(task)
            .or_insert_with(|| (random.random_range(0..KINDS.len()), TaskState::Accepted));
        let later = [
            TaskState::Ready,
            TaskState::Running,
            TaskState::Running,
            TaskState::Shutdown,
            TaskState::Remove,
        ];
        let desired = desired.max(later[random.random_range(0..later.len())]);
        wishes.insert(task, (kind, desired));
        let (image, script, _) = KINDS[kind];
        world.want(task, &spec(image, script), desired).await;
        if random.random_bool(0.2) {
            world.end().await;
        }
    }
    for (task, (kind, desired)) in &wishes {
        let (_, _, own_end) = KINDS[*kind];
        let id = TaskId::from_bits(*task);
        let settled = |state: TaskState| match desired {
            TaskState::Ready if own_end == TaskState::Rejected => state == own_end,
            TaskState::Ready => state == TaskState::Ready,
            TaskState::Running => state == own_end,
            // It may have come to its own end first.
            _ => state == TaskState::Shutdown || (state == own_end && state.is_terminal()),
        };
        let what = format!("seed {seed}: {id}, {:?}, desired {desired}", KINDS[*kind]);
        world
            .until(&what, |all| {
                all.get(&id).is_some_and(|it| settled(it.state))
            })
            .await;
        let begun = world.runtime.begun(&id.to_string());
        assert!(begun <= 1, "{what}: it began {begun} times");
    }
    world.forget_all().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_is_wanted_and_whenever_they_die_it_ends_well() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..60).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        println!("SEED={seed}");
        random_lives(seed).await;
    }
}
