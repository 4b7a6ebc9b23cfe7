//! Scenes for updates: what is replaced, in which order, how it is watched, and how it ends.

mod dirt;
mod failures;
mod lessons;
mod storm;

use serde_json::{Value, json};

use crate::manager::orchestrator::tests::world::{WEB, World, node, replicas, service};
use crate::model::service::{Previous, UpdateState, UpdateStatus};
use crate::model::{Availability, NodeState, Service, ServiceSpec, Slot, TaskState};

const SECOND: u64 = 1_000_000_000;

/// A world at rest with a service of this mode, which is updated as `config` says, and back as well.
fn world(nodes: u128, mode: Value, config: Value) -> World {
    with_policy(nodes, mode, config, json!({"Delay": 0}))
}

fn with_policy(nodes: u128, mode: Value, config: Value, policy: Value) -> World {
    let mut world = World::new(nodes);
    let mut web = service(mode, policy);
    web.spec.update_config = serde_json::from_value(config.clone()).unwrap();
    web.spec.rollback_config = serde_json::from_value(config).unwrap();
    world.create(web);
    world.rest();
    world
}

/// A user changes the service.
fn change(world: &mut World, edit: impl FnOnce(&mut ServiceSpec)) {
    world.edit(|service| {
        service.previous = Some(Box::new(Previous {
            spec: service.spec.clone(),
            spec_version: service.spec_version,
            registry_auth: service.registry_auth.clone(),
        }));
        edit(&mut service.spec);
        service.spec_version += 1;
        service.update = None;
    });
}

/// A user asks for another image.
fn image(world: &mut World, image: &str) {
    change(world, |spec| {
        let container = spec.task_template.container_spec.as_mut().unwrap();
        container.image = image.into();
    });
}

/// A user asks for what was before.
fn roll_back(world: &mut World) {
    world.edit(|service| {
        let previous = *service.previous.take().unwrap();
        service.previous = Some(Box::new(Previous {
            spec: std::mem::replace(&mut service.spec, previous.spec),
            spec_version: service.spec_version,
            ..Previous::default()
        }));
        service.spec_version += 1;
        service.update = Some(UpdateStatus {
            state: UpdateState::RollbackStarted,
            message: "manually requested rollback".into(),
            ..UpdateStatus::default()
        });
    });
}

fn web(world: &World) -> &Service {
    &world.state.work.services[&WEB]
}

fn status(world: &World) -> UpdateStatus {
    web(world).update.clone().unwrap()
}

/// State and message of the update.
fn words(world: &World) -> (UpdateState, String) {
    let status = status(world);
    (status.state, status.message)
}

fn said(state: UpdateState, message: impl Into<String>) -> (UpdateState, String) {
    (state, message.into())
}

/// The images of the tasks of use, by slot.
fn images(world: &World) -> Vec<String> {
    let live = world.live();
    let images = live.iter().map(|task| {
        let template = world.state.work.template(WEB, task.spec_version).unwrap();
        template.task.container_spec.clone().unwrap().image
    });
    images.collect()
}

/// The task of use in a slot that was made of this image.
fn made_of(world: &World, slot: u64, image: &str) -> std::sync::Arc<crate::model::Task> {
    let all = world.live().into_iter().zip(images(world));
    let mut found = all.filter(|(task, of)| task.slot == Slot::Number(slot) && of == image);
    found.next().expect("there is one").0
}

fn running(world: &World) -> usize {
    let tasks = world.tasks();
    let running = tasks
        .iter()
        .filter(|task| world.state_of(task) == TaskState::Running);
    running.count()
}

#[test]
fn one_slot_after_the_other_is_replaced_and_watched() {
    let mut world = world(2, replicas(3), json!(null));
    image(&mut world, "web:2");
    let begun = world.now;
    world.settle();
    assert_eq!(
        words(&world),
        said(UpdateState::Updating, "update in progress")
    );
    assert_eq!(status(&world).started_at, begun);
    assert_eq!(images(&world), ["web:2", "web:1", "web:1"]);
    for _ in 0..10 {
        world.obey();
        world.settle();
        assert!(running(&world) >= 2);
    }
    assert_eq!(images(&world), ["web:2"; 3]);
    assert_eq!(status(&world).state, UpdateState::Updating);
    world.pass_time(4);
    world.settle();
    assert_eq!(status(&world).state, UpdateState::Updating, "it is watched");
    world.pass_time(1);
    world.settle();
    assert_eq!(
        words(&world),
        said(UpdateState::Completed, "update completed")
    );
    assert_eq!(status(&world).completed_at, Some(world.now));
    assert_eq!(status(&world).watched, []);
    assert!(!world.pass());
}

#[test]
fn a_parallelism_of_zero_is_all_at_once() {
    let mut world = world(2, replicas(5), json!({"Parallelism": 0}));
    image(&mut world, "web:2");
    world.settle();
    assert_eq!(images(&world), ["web:2"; 5]);
    world.rest();
    assert_eq!(status(&world).state, UpdateState::Completed);
}

#[test]
fn the_delay_lies_between_two() {
    let config = json!({"Parallelism": 2, "Delay": 20 * SECOND});
    let mut world = world(2, replicas(4), config);
    image(&mut world, "web:2");
    let go_on = |world: &mut World| {
        for _ in 0..5 {
            world.settle();
            world.obey();
        }
        world.settle();
        images(world).iter().filter(|of| *of == "web:2").count()
    };
    assert_eq!(go_on(&mut world), 2);
    world.pass_time(19);
    assert_eq!(go_on(&mut world), 2);
    world.pass_time(1);
    assert_eq!(go_on(&mut world), 4);
    world.pass_time(20);
    world.settle();
    assert_eq!(status(&world).state, UpdateState::Updating);
    world.pass_time(1);
    world.settle();
    assert_eq!(
        status(&world).state,
        UpdateState::Completed,
        "a delay longer than the monitor is watched for a second more"
    );
}

#[test]
fn stop_first_starts_when_the_old_task_has_stopped() {
    let mut world = world(2, replicas(1), json!({"Parallelism": 1}));
    let old = world.of(1).id;
    image(&mut world, "web:2");
    world.settle();
    let new = world.of(1);
    assert_eq!(new.desired, TaskState::Ready);
    assert_eq!(new.start.unwrap().after, Some(old));
    assert!(new.node.is_some(), "it is prepared meanwhile");
    world.report(new.id, TaskState::Ready);
    world.settle();
    assert_eq!(world.of(1).desired, TaskState::Ready);
    world.report(old, TaskState::Shutdown);
    world.settle();
    assert_eq!(world.of(1).desired, TaskState::Running);
}

#[test]
fn start_first_stops_the_old_task_only_when_the_new_one_runs() {
    let config = json!({"Parallelism": 1, "Order": "start-first"});
    let mut world = world(2, replicas(2), config);
    image(&mut world, "web:2");
    world.settle();
    let old = made_of(&world, 1, "web:1").id;
    let new = made_of(&world, 1, "web:2");
    assert_eq!((new.desired, new.start), (TaskState::Running, None));
    // One that is not found healthy yet is not running.
    world.report(new.id, TaskState::Starting);
    world.settle();
    assert_eq!(
        world.state.work.tasks[&old].desired,
        TaskState::Running,
        "nobody takes its place yet"
    );
    assert_eq!(images(&world), ["web:1", "web:2", "web:1"]);
    world.report(new.id, TaskState::Running);
    world.settle();
    assert_eq!(world.state.work.tasks[&old].desired, TaskState::Shutdown);
    world.rest();
    assert_eq!(images(&world), ["web:2"; 2]);
    assert_eq!(status(&world).state, UpdateState::Completed);
}

#[test]
fn a_global_service_is_updated_where_its_nodes_take_tasks() {
    let mut world = world(4, json!({"Global": {}}), json!({"Parallelism": 1}));
    world.set(2, Availability::Pause);
    world.set(3, Availability::Drain);
    world.rest();
    image(&mut world, "web:2");
    world.rest();
    assert_eq!(images(&world), ["web:2", "web:1", "web:2"]);
    assert_eq!(status(&world).state, UpdateState::Completed);
    // What was missed follows without much ado.
    let completed = words(&world);
    world.set(2, Availability::Active);
    world.set(3, Availability::Active);
    world.rest();
    assert_eq!(images(&world), ["web:2"; 4]);
    assert_eq!(words(&world), completed);
}

#[test]
fn a_leader_that_has_heard_of_no_node_stops_nothing_and_completes_nothing() {
    for mode in [replicas(2), json!({"Global": {}})] {
        let mut world = world(2, mode, json!({"Parallelism": 0}));
        let nodes = std::mem::take(&mut world.nodes);
        image(&mut world, "web:2");
        world.settle();
        world.pass_time(60);
        world.settle();
        assert_eq!(images(&world), ["web:1"; 2]);
        assert_eq!(status(&world).state, UpdateState::Updating);
        world.nodes = nodes;
        world.rest();
        assert_eq!(images(&world), ["web:2"; 2]);
        assert_eq!(status(&world).state, UpdateState::Completed);
    }
}

#[test]
fn a_job_runs_again_and_is_not_updated() {
    let mode = json!({"ReplicatedJob": {"MaxConcurrent": 2}});
    let mut world = world(2, mode, json!(null));
    let first: Vec<_> = world.live().iter().map(|task| task.id).collect();
    image(&mut world, "web:2");
    world.edit(|service| service.job.as_mut().unwrap().iteration += 1);
    world.rest();
    assert_eq!(images(&world), ["web:2"; 2]);
    assert!(world.live().iter().all(|task| !first.contains(&task.id)));
    assert_eq!(web(&world).update, None);
}

#[test]
fn what_has_ended_for_good_runs_again_when_it_is_something_new() {
    let policy = json!({"Condition": "none"});
    let mut world = with_policy(2, replicas(2), json!({"Parallelism": 1}), policy);
    world.report(world.of(1).id, TaskState::Complete);
    world.rest();
    assert_eq!(images(&world), ["web:1"]);
    image(&mut world, "web:2");
    world.settle();
    assert_eq!(
        images(&world),
        ["web:2", "web:1"],
        "it loses nothing, and so comes first"
    );
    world.rest();
    assert_eq!(images(&world), ["web:2"; 2]);
}

#[test]
fn a_newer_change_takes_the_place_of_the_one_that_is_under_way() {
    for order in ["stop-first", "start-first"] {
        let config = json!({"Parallelism": 1, "Order": order});
        let mut world = world(2, replicas(3), config);
        image(&mut world, "web:2");
        world.settle();
        let second = made_of(&world, 1, "web:2").id;
        world.report(second, TaskState::Ready);
        image(&mut world, "web:3");
        world.settle();
        let third = made_of(&world, 1, "web:3");
        assert_eq!(
            world.state.work.tasks[&second].desired,
            TaskState::Shutdown,
            "{order}"
        );
        let mut all = world.tasks().into_iter();
        let first = all.find(|task| task.slot == Slot::Number(1)).unwrap();
        match order {
            "stop-first" => assert_eq!(third.start.unwrap().after, Some(first.id)),
            _ => assert_eq!(first.desired, TaskState::Running),
        }
        world.rest();
        assert_eq!(images(&world), ["web:3"; 3]);
        assert_eq!(status(&world).state, UpdateState::Completed);
    }
}

/// A change that concerns no task does not let a second slot be taken while the first is under way.
#[test]
fn an_interrupted_update_does_not_take_a_second_slot() {
    let mut world = world(2, replicas(3), json!({"Parallelism": 1}));
    image(&mut world, "web:2");
    world.settle();
    change(&mut world, |spec| {
        drop(spec.labels.insert("a".into(), "b".into()))
    });
    world.settle();
    assert_eq!(images(&world), ["web:2", "web:1", "web:1"]);
    world.rest();
    assert_eq!(images(&world), ["web:2"; 3]);
    assert_eq!(status(&world).state, UpdateState::Completed);
}
