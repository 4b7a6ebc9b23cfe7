//! Scenes for what is kept and what goes.

use serde_json::json;

use crate::manager::orchestrator::tests::world::{World, replicas, service};
use crate::model::{Change, Cluster, Expect, TaskState};

/// How many tasks are kept of a slot that failed ten times.
fn kept(limit: i64, policy: serde_json::Value) -> usize {
    let mut world = World::new(1);
    let mut cluster: Cluster = crate::cluster::store::fixtures::cluster();
    cluster.spec.task_history_limit = limit;
    world.write([Change::PutCluster(Expect::Absent, Box::new(cluster))]);
    world.create(service(replicas(1), policy));
    world.rest();
    for _ in 0..10 {
        if let Some(task) = world.live().first() {
            world.report(task.id, TaskState::Failed);
            world.rest();
        }
    }
    world.tasks().len()
}

#[test]
fn so_many_tasks_of_a_slot_are_kept_as_the_cluster_or_the_policy_needs() {
    let at_once = json!({"Delay": 0});
    assert_eq!(kept(5, at_once.clone()), 5);
    assert_eq!(kept(1, at_once.clone()), 1);
    assert_eq!(kept(0, at_once.clone()), 1, "what runs is no history");
    assert_eq!(kept(-1, at_once), 11);
    assert_eq!(kept(2, json!({"Delay": 0, "MaxAttempts": 7})), 8);
}

#[test]
fn what_has_come_to_its_end_does_not_begin_again_when_no_history_is_kept() {
    assert_eq!(kept(0, json!({"Condition": "none"})), 1);
}

#[test]
fn a_task_is_forgotten_only_when_it_has_stopped() {
    let mut world = World::new(1);
    world.create(service(replicas(1), json!({})));
    world.rest();
    let task = world.of(1);
    world.edit(|service| service.spec.mode = serde_json::from_value(replicas(0)).unwrap());
    world.settle();
    assert_eq!(world.state.work.tasks[&task.id].desired, TaskState::Remove);
    world.report(task.id, TaskState::Shutdown);
    world.settle();
    assert!(world.state.work.tasks.is_empty());
}
