//! Everything happens to an update in any order. At every moment enough runs, and every update comes to an end.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const REPLICAS: u64 = 5;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Pass,
    /// One agent does one thing.
    Step(usize),
    Obey,
    Fail(usize),
    Image(u8),
    Label(u8),
    Back,
    Time(u64),
    /// Another leader takes a look before anybody has told it anything.
    Leader,
}

fn event(failures: bool) -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Pass),
        8 => (0..40_usize).prop_map(Event::Step),
        3 => Just(Event::Obey),
        2 => (0..20_usize).prop_map(move |which| match failures {
            true => Event::Fail(which),
            false => Event::Step(which),
        }),
        1 => (1..4_u8).prop_map(Event::Image),
        1 => (1..4_u8).prop_map(Event::Label),
        1 => Just(Event::Back),
        3 => (1..8_u64).prop_map(Event::Time),
        1 => Just(Event::Leader),
    ]
}

fn config() -> impl Strategy<Value = (Value, u64, bool)> {
    let action = prop_oneof![Just("pause"), Just("continue"), Just("rollback")];
    let ratio = prop_oneof![Just(0.0), Just(0.3), Just(0.7)];
    (0..4_u64, 0..8_u64, any::<bool>(), action, ratio).prop_map(
        |(parallelism, delay, start_first, action, ratio)| {
            let order = match start_first {
                true => "start-first",
                false => "stop-first",
            };
            let config = json!({
                "Parallelism": parallelism, "Delay": delay * SECOND, "Order": order,
                "FailureAction": action, "MaxFailureRatio": ratio,
            });
            (config, parallelism, start_first)
        },
    )
}

/// An agent takes one step of one task.
fn step(world: &mut World, which: usize) {
    let tasks = world.tasks();
    let task = &tasks[which % tasks.len()];
    let state = world.state_of(task);
    let next = match (state, task.desired) {
        (state, _) if state < TaskState::Assigned || state.is_terminal() => return,
        (_, desired) if desired > TaskState::Complete => TaskState::Shutdown,
        (TaskState::Assigned, _) => TaskState::Preparing,
        (TaskState::Preparing, _) => TaskState::Ready,
        (TaskState::Ready, TaskState::Running) => TaskState::Starting,
        (TaskState::Starting, _) => TaskState::Running,
        _ => return,
    };
    world.report(task.id, next);
}

/// All that is to stop stops.
fn stop(world: &mut World) {
    for task in world.tasks() {
        let state = world.state_of(&task);
        let began = state >= TaskState::Assigned && !state.is_terminal();
        if began && task.desired > TaskState::Complete {
            world.report(task.id, TaskState::Shutdown);
        }
    }
}

fn happen(world: &mut World, event: &Event) {
    match event {
        Event::Pass => {
            world.pass();
        }
        Event::Step(which) => step(world, *which),
        Event::Obey => world.obey(),
        Event::Fail(which) => {
            let live = world.live();
            let task = live.get(which % live.len().max(1));
            if let Some(task) = task.filter(|task| world.state_of(task) >= TaskState::Assigned) {
                world.report(task.id, TaskState::Failed);
            }
        }
        Event::Image(number) => image(world, &format!("web:{number}")),
        Event::Label(number) => change(world, |spec| {
            spec.labels.insert("a".into(), number.to_string());
        }),
        Event::Back => {
            if web(world).previous.is_some() {
                roll_back(world);
            }
        }
        // Nothing takes longer to stop than anybody waits for it.
        Event::Time(secs) => {
            stop(world);
            world.pass_time(*secs);
        }
        Event::Leader => {
            let nodes = std::mem::take(&mut world.nodes);
            let observed = std::mem::take(&mut world.observed);
            world.pass();
            (world.nodes, world.observed) = (nodes, observed);
        }
    }
}

/// Whether so many run as may at this moment.
fn enough_runs(world: &World, parallelism: u64, start_first: bool) {
    let most = match parallelism {
        0 => REPLICAS,
        bounded => bounded.min(REPLICAS),
    };
    let least = match start_first {
        true => REPLICAS,
        false => REPLICAS - most,
    };
    let running = running(world) as u64;
    assert!(running >= least, "{running} of {REPLICAS} run");
    assert!(start_first || running <= REPLICAS, "{running} run");
}

/// It has come to an end, and its slots are as that end says.
fn is_over(world: &World) {
    let mut wanted: BTreeMap<Slot, usize> = BTreeMap::new();
    for task in world.live() {
        *wanted.entry(task.slot).or_default() += 1;
        assert_eq!(world.state_of(&task), TaskState::Running);
    }
    assert_eq!(wanted.len() as u64, REPLICAS, "{wanted:?}");
    assert!(wanted.values().all(|count| *count == 1), "{wanted:?}");
    let Some(status) = &web(world).update else {
        return;
    };
    assert!(!status.state.is_active());
    let spec = &web(world).spec.task_template;
    let expected = &spec.container_spec.as_ref().unwrap().image;
    if matches!(
        status.state,
        UpdateState::Completed | UpdateState::RollbackCompleted
    ) {
        assert!(images(world).iter().all(|image| image == expected));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn enough_runs_at_every_moment_and_the_update_ends(
        (config, parallelism, start_first) in config(),
        events in prop::collection::vec(event(false), 0..80),
    ) {
        let mut world = world(3, replicas(REPLICAS), config);
        for event in events {
            happen(&mut world, &event);
            enough_runs(&world, parallelism, start_first);
        }
        for _ in 0..100 {
            world.settle();
            enough_runs(&world, parallelism, start_first);
            world.obey();
            world.pass_time(1);
        }
        world.rest();
        is_over(&world);
        let state = web(&world).update.as_ref().map(|status| status.state);
        let completed = [Some(UpdateState::Completed), Some(UpdateState::RollbackCompleted), None];
        prop_assert!(completed.contains(&state));
    }

    #[test]
    fn whatever_fails_the_update_ends(
        (config, ..) in config(),
        events in prop::collection::vec(event(true), 0..80),
    ) {
        let mut world = world(3, replicas(REPLICAS), config);
        for event in events {
            happen(&mut world, &event);
        }
        world.rest();
        is_over(&world);
    }
}
