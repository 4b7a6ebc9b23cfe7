//! What is replaced, and what is not.

use super::*;
use crate::model::cluster::Secret;
use crate::model::task_spec::Placement;

/// Whether the tasks are others after this change of the service.
fn replaces(edit: impl FnOnce(&mut ServiceSpec)) -> bool {
    let mut world = world(2, replicas(2), json!(null));
    let before: Vec<_> = world.live().iter().map(|task| task.id).collect();
    change(&mut world, edit);
    world.rest();
    let after: Vec<_> = world.live().iter().map(|task| task.id).collect();
    let replaced = before.iter().all(|id| !after.contains(id));
    assert!(replaced || before.iter().all(|id| after.contains(id)));
    assert_eq!(
        replaced,
        web(&world).update.is_some(),
        "and the user is told"
    );
    replaced
}

fn constrained(spec: &mut ServiceSpec) {
    spec.task_template.placement = Some(Placement {
        constraints: vec!["node.labels.no!=web".into()],
        ..Placement::default()
    });
}

#[test]
fn what_concerns_no_task_replaces_none() {
    assert!(!replaces(|spec| drop(
        spec.labels.insert("a".into(), "b".into())
    )));
    assert!(!replaces(
        |spec| spec.update_config = Some(Default::default())
    ));
    assert!(!replaces(|spec| spec.rollback_config = None));
    assert!(!replaces(|spec| {
        spec.mode = serde_json::from_value(replicas(3)).unwrap();
    }));
    assert!(!replaces(constrained), "the tasks are where they may be");
}

#[test]
fn what_tasks_are_made_of_replaces_them() {
    assert!(replaces(|spec| spec.task_template.force_update += 1));
    assert!(replaces(
        |spec| spec.endpoint_spec = Some(Default::default())
    ));
    assert!(replaces(|spec| {
        spec.task_template.restart_policy = None;
    }));
    assert!(replaces(|spec| {
        constrained(spec);
        spec.task_template.placement.as_mut().unwrap().max_replicas = 9;
    }));
}

#[test]
fn only_tasks_that_may_not_stay_where_they_are_are_moved() {
    let mut world = world(3, replicas(3), json!(null));
    let on = |world: &World| {
        let live = world.live();
        live.iter()
            .filter(|task| task.node == Some(node(2)))
            .count()
    };
    assert_eq!(on(&world), 1);
    let label = ("no".to_owned(), "web".to_owned());
    world.edit_node(2, |node| drop(node.spec.labels.insert(label.0, label.1)));
    change(&mut world, constrained);
    world.settle();
    assert_eq!(status(&world).dirty, 1);
    world.rest();
    assert_eq!((world.live().len(), on(&world)), (3, 0));
    assert_eq!(status(&world).state, UpdateState::Completed);
}

#[test]
fn credentials_concern_what_has_not_pulled_its_image() {
    let mut world = world(2, replicas(1), json!(null));
    let give = |world: &mut World, secret: &str| {
        change(world, |_| {});
        world.edit(|service| service.registry_auth = Secret(secret.into()));
    };
    give(&mut world, "one");
    assert!(!world.pass());
    image(&mut world, "web:2");
    world.settle();
    world.report(world.of(1).id, TaskState::Preparing);
    world.settle();
    let stuck = world.of(1).id;
    give(&mut world, "two");
    world.settle();
    assert_ne!(world.of(1).id, stuck);
}
