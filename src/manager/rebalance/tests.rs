//! Scenes for moves, and services that are uneven in any way: they become even, and then nothing moves.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::manager::orchestrator::orchestrate;
use crate::manager::orchestrator::tests::world::{FITS, WEB, World, node, replicas, service};
use crate::manager::{restart, updater};
use crate::model::task_spec::{Placement, PlacementPreference, SpreadOver};
use crate::model::{Availability, Change, Expect};

/// A service of so many tasks that are all on the first node, and nodes that have come back since.
fn uneven(nodes: u128, count: u64) -> World {
    let mut world = World::new(nodes);
    for number in 2..=nodes {
        world.set(number, Availability::Pause);
    }
    world.create(service(replicas(count), json!({"Delay": 0})));
    world.rest();
    for number in 2..=nodes {
        world.set(number, Availability::Active);
    }
    world
}

fn auto(world: &mut World) {
    world.edit(|service| drop(service.spec.labels.insert(LABEL.into(), AUTO.into())));
}

/// Passes with moves among them; `takes` says which nodes have room.
fn pass(world: &mut World, takes: impl Fn(NodeId) -> bool) -> bool {
    let moved = world.run(|draft| {
        orchestrate(draft, WEB, FITS);
        updater::update(draft, WEB, FITS);
        rebalance(draft, WEB, FITS, &mut |_, _, node| takes(node));
        restart::restart(draft, WEB);
    });
    world.pass() || moved
}

/// Whatever is to be moved is moved, as long as that takes; how many new tasks there were.
fn even_out(world: &mut World, takes: impl Fn(NodeId) -> bool + Copy) -> usize {
    let count = world.live().len();
    let before = world.tasks().len();
    for _ in 0..400 {
        pass(world, takes);
        let live = world.live().len();
        assert!((count..=count + 1).contains(&live), "one at a time: {live}");
        let mut tasks = world.state.work.tasks.values();
        let running = tasks.by_ref();
        let running = running.filter(|task| world.state_of(task) == TaskState::Running);
        assert!(running.count() >= count, "none is missing");
        world.obey();
        world.pass_time(2);
    }
    assert!(!pass(world, takes), "it comes to rest");
    assert_eq!(world.live().len(), count);
    world.tasks().len() - before
}

/// How many tasks of use each node has.
fn counts(world: &World) -> BTreeMap<u128, usize> {
    let mut counts = BTreeMap::new();
    for task in world.live() {
        *counts.entry(task.node.unwrap().bits()).or_default() += 1;
    }
    counts
}

const ANY: fn(NodeId) -> bool = |_| true;

#[test]
fn nothing_moves_unless_somebody_asks() {
    let mut world = uneven(3, 6);
    assert_eq!(even_out(&mut world, ANY), 0);
    world.edit(|service| {
        let label = (LABEL.to_owned(), "never".to_owned());
        service.spec.labels.insert(label.0, label.1);
    });
    assert_eq!(even_out(&mut world, ANY), 0);
}

#[test]
fn a_service_with_the_label_becomes_even_and_stays_so() {
    let mut world = uneven(3, 6);
    auto(&mut world);
    even_out(&mut world, ANY);
    assert_eq!(counts(&world), [(1, 2), (2, 2), (3, 2)].into());
}

#[test]
fn a_service_is_evened_out_once_when_its_user_asks_for_once() {
    let mut world = uneven(2, 4);
    world.edit(|service| service.rebalance = true);
    even_out(&mut world, ANY);
    assert_eq!(counts(&world), [(1, 2), (2, 2)].into());
    assert!(!world.state.work.services[&WEB].rebalance, "that was once");
}

#[test]
fn the_old_task_goes_when_the_new_one_runs() {
    let mut world = uneven(2, 2);
    auto(&mut world);
    world.pass_time(60);
    assert!(pass(&mut world, ANY));
    let moved = world
        .live()
        .into_iter()
        .find(|task| task.node == Some(node(2)));
    let new = moved.unwrap();
    assert_eq!(world.live().len(), 3);
    world.report(new.id, TaskState::Starting);
    assert!(!pass(&mut world, ANY));
    world.report(new.id, TaskState::Running);
    pass(&mut world, ANY);
    assert_eq!(counts(&world), [(1, 1), (2, 1)].into());
}

#[test]
fn a_move_that_fails_is_not_tried_again_at_once() {
    let mut world = uneven(2, 2);
    auto(&mut world);
    world.pass_time(60);
    pass(&mut world, ANY);
    let moved = world
        .live()
        .into_iter()
        .find(|task| task.node == Some(node(2)));
    world.report(moved.unwrap().id, TaskState::Failed);
    for _ in 0..20 {
        pass(&mut world, ANY);
        world.pass_time(60);
    }
    assert_eq!(counts(&world), [(1, 2)].into());
    world.pass_time(3600);
    even_out(&mut world, ANY);
    assert_eq!(counts(&world), [(1, 1), (2, 1)].into());
}

#[test]
fn a_move_to_a_node_that_goes_is_given_up() {
    let mut world = uneven(2, 2);
    auto(&mut world);
    world.pass_time(60);
    pass(&mut world, ANY);
    assert_eq!(world.live().len(), 3);
    world.see(2, crate::model::NodeState::Down);
    pass(&mut world, ANY);
    assert_eq!(counts(&world), [(1, 2)].into());
}

#[test]
fn the_plan_says_what_would_be_done() {
    let mut world = uneven(3, 4);
    let mut moves = Vec::new();
    world.run(|draft| moves = plan(draft, WEB, FITS, &mut |_, _, _| true, 9));
    let to: Vec<u128> = moves.iter().map(|planned| planned.step.to.bits()).collect();
    assert_eq!(to, [2, 3]);
    assert!(moves.iter().all(|planned| planned.step.from == node(1)));
    let why: Vec<&str> = moves.iter().map(|planned| planned.why.as_str()).collect();
    let (first, second, third) = (node(1), node(2), node(3));
    assert_eq!(
        why,
        [
            format!("{first} has 4 of its tasks, {second} has 0"),
            format!("{first} has 3 of its tasks, {third} has 0"),
        ]
    );
    world.run(|draft| moves = plan(draft, WEB, FITS, &mut |_, _, _| true, 1));
    assert_eq!(moves.len(), 1, "no more than asked for");
    assert_eq!(counts(&world), [(1, 4)].into(), "and does nothing");
}

#[test]
fn asking_for_once_touches_only_what_is_uneven_and_is_asked_again_only_when_it_is() {
    let mut world = uneven(2, 4);
    let view = world.view();
    let even = look(&view);
    assert_eq!((even.moves.len(), even.is_cut), (2, false));
    let change = ask(&view.state, WEB).expect("it can be asked for");
    let Change::PutService(Expect::Version(_), service) = &change else {
        panic!("{change:?}");
    };
    assert!(service.rebalance);
    world.edit(|service| service.rebalance = true);
    assert!(
        ask(&world.view().state, WEB).is_none(),
        "it is asked for already"
    );
    even_out(&mut world, ANY);
    assert!(look(&world.view()).moves.is_empty());
}

#[test]
fn what_it_is_spread_over_comes_first() {
    let mut world = uneven(3, 8);
    for (number, zone) in [(1, "a"), (2, "b"), (3, "b")] {
        world.edit_node(number, |node| {
            node.spec.labels.insert("zone".into(), zone.into());
        });
    }
    world.edit(|service| {
        let over = SpreadOver {
            spread_descriptor: "node.labels.zone".into(),
        };
        service.spec.task_template.placement = Some(Placement {
            preferences: vec![PlacementPreference { spread: Some(over) }],
            ..Placement::default()
        });
    });
    let mut moves = Vec::new();
    world.run(|draft| moves = plan(draft, WEB, FITS, &mut |_, _, _| true, 1));
    assert_eq!(
        moves[0].why,
        "node.labels.zone=a has 8 of its tasks, node.labels.zone=b has 0"
    );
    auto(&mut world);
    even_out(&mut world, ANY);
    assert_eq!(counts(&world), [(1, 4), (2, 2), (3, 2)].into());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// However tasks lie, and wherever there is room: no more moves than tasks, and none after that.
    #[test]
    fn moves_come_to_an_end(
        nodes in 1..6_u128,
        count in 1..12_u64,
        full in prop::collection::btree_set(2..6_u128, 0..3),
        paused in prop::collection::btree_set(2..6_u128, 0..2),
    ) {
        let mut world = uneven(nodes, count);
        for number in paused.iter().filter(|number| **number <= nodes) {
            world.set(*number, Availability::Pause);
        }
        auto(&mut world);
        let has_room = |node: NodeId| !full.contains(&node.bits());
        let made = even_out(&mut world, has_room);
        prop_assert!(made as u64 <= count, "{made} moves of {count} tasks");
        let open = (1..=nodes).filter(|number| !paused.contains(number) && !full.contains(number));
        let counts = counts(&world);
        let open: Vec<usize> = open.map(|number| counts.get(&number).copied().unwrap_or(0)).collect();
        let (least, most) = (open.iter().min().unwrap(), open.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{counts:?}");
    }
}
