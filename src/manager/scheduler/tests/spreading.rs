//! How tasks are spread: evenly over nodes, and evenly over what a service prefers.

use super::world::*;
use crate::model::{Availability, TaskState, Template};

fn over_ssd() -> Template {
    placement(|placement| placement.preferences = spread_over(&["node.labels.ssd"]))
}

/// One node with `ssd=a`, two with `ssd=b`.
fn disks() -> World {
    let mut world = World::new(3);
    for (number, value) in [(1, "a"), (2, "b"), (3, "b")] {
        world.edit_node(number, |node| {
            node.spec.labels.insert("ssd".into(), value.into());
        });
    }
    world
}

#[test]
fn replicas_are_spread_evenly_and_an_empty_node_does_not_get_them_all() {
    let mut world = World::new(3);
    for _ in 0..7 {
        world.task(1, Template::default());
    }
    world.pass(1);
    let mut counts: Vec<_> = world.counts(1).into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 3]);
    world.task(2, Template::default());
    world.task(2, Template::default());
    world.pass(1);
    let busiest = world.counts(1).into_iter().max_by_key(|(_, count)| *count);
    let busiest = busiest.map(|(node, _)| node).unwrap();
    assert!(
        !world.counts(2).contains_key(&busiest),
        "the least loaded come first"
    );
}

#[test]
fn four_replicas_over_two_branches_are_two_one_one() {
    for seed in 0..20 {
        let mut world = disks();
        for _ in 0..4 {
            world.task(1, over_ssd());
        }
        world.pass(seed);
        assert_eq!(
            world.counts(1),
            [(1, 2), (2, 1), (3, 1)].into(),
            "seed {seed}"
        );
    }
}

#[test]
fn what_a_full_branch_cannot_take_goes_to_the_others() {
    let mut world = disks();
    for _ in 0..6 {
        let mut template = over_ssd();
        template.task.resources = reserving(3, 0).task.resources;
        world.task(1, template);
    }
    world.edit_node(2, |node| node.description.resources.nano_cpus = 9);
    world.pass(1);
    assert_eq!(world.counts(1), [(1, 1), (2, 3), (3, 1)].into());
    assert_eq!(
        world.waits,
        ["no suitable node (insufficient resources on 3 nodes)"]
    );
}

#[test]
fn tasks_that_are_there_count_for_their_branch() {
    let mut world = disks();
    world.edit_node(1, |node| node.spec.availability = Availability::Pause);
    for _ in 0..2 {
        world.task(1, over_ssd());
    }
    world.pass(1);
    assert_eq!(world.counts(1), [(2, 1), (3, 1)].into());
    world.edit_node(1, |node| node.spec.availability = Availability::Active);
    for _ in 0..2 {
        world.task(1, over_ssd());
    }
    world.pass(1);
    assert_eq!(world.counts(1), [(1, 2), (2, 1), (3, 1)].into());
}

#[test]
fn a_node_without_the_label_is_a_branch_and_a_second_preference_divides_the_first() {
    let mut world = World::new(4);
    for (number, zone, rack) in [(1, "x", "1"), (2, "x", "2"), (3, "x", "2")] {
        world.edit_node(number, |node| {
            node.spec.labels.insert("zone".into(), zone.into());
            node.spec.labels.insert("rack".into(), rack.into());
        });
    }
    for _ in 0..8 {
        world.task(
            1,
            placement(|placement| {
                placement.preferences =
                    spread_over(&["node.labels.zone", "nonsense", "node.labels.rack"]);
            }),
        );
    }
    world.pass(5);
    assert_eq!(world.counts(1), [(1, 2), (2, 1), (3, 1), (4, 4)].into());
}

#[test]
fn a_task_that_has_ended_does_not_count() {
    let mut world = World::new(2);
    let ids: Vec<_> = (0..4).map(|_| world.task(1, Template::default())).collect();
    world.pass(1);
    let on_one: Vec<_> = ids
        .into_iter()
        .filter(|id| world.placed(*id) == Some(1))
        .collect();
    on_one
        .iter()
        .for_each(|id| world.end(*id, TaskState::Failed));
    let new: Vec<_> = (0..2).map(|_| world.task(1, Template::default())).collect();
    world.pass(1);
    assert!(new.iter().all(|id| world.placed(*id) == Some(1)));
}
