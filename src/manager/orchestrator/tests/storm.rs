//! Everything happens to a service in any order; when that is over, the service is what was asked for.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{World, node, replicas, service};
use super::{WEB, scale};
use crate::model::{Availability, NodeState, Slot, TaskState};

const NODES: u128 = 4;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Pass,
    Obey,
    Fail(usize),
    See(u128, NodeState),
    Set(u128, Availability),
    RemoveNode(u128),
    Scale(u64),
    Time(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let seen = prop_oneof![
        Just(NodeState::Ready),
        Just(NodeState::Down),
        Just(NodeState::Unknown),
        Just(NodeState::Disconnected),
    ];
    let availability = prop_oneof![
        Just(Availability::Active),
        Just(Availability::Pause),
        Just(Availability::Drain),
    ];
    prop_oneof![
        6 => Just(Event::Pass),
        5 => Just(Event::Obey),
        3 => (0..20_usize).prop_map(Event::Fail),
        2 => (1..=NODES, seen).prop_map(|(node, state)| Event::See(node, state)),
        2 => (1..=NODES, availability).prop_map(|(node, to)| Event::Set(node, to)),
        1 => (2..=NODES).prop_map(Event::RemoveNode),
        1 => (0..6_u64).prop_map(Event::Scale),
        3 => (1..40_u64).prop_map(Event::Time),
    ]
}

fn happen(world: &mut World, event: Event, is_replicated: bool) {
    match event {
        Event::Pass => {
            world.pass();
        }
        Event::Obey => world.obey(),
        Event::Fail(which) => {
            let live = world.live();
            let task = live.get(which % live.len().max(1));
            let task = task.filter(|task| world.state_of(task) >= TaskState::Assigned);
            if let Some(task) = task.filter(|task| task.node.is_some_and(|node| world.is_up(node)))
            {
                world.report(task.id, TaskState::Failed);
            }
        }
        Event::See(number, state) if world.state.nodes.contains_key(&node(number)) => {
            world.see(number, state);
        }
        Event::Set(number, to) if world.state.nodes.contains_key(&node(number)) => {
            world.set(number, to);
        }
        Event::RemoveNode(number) if world.state.nodes.contains_key(&node(number)) => {
            world.remove_node(number);
        }
        Event::Scale(count) if is_replicated => scale(world, replicas(count)),
        Event::Time(secs) => world.pass_time(secs),
        Event::See(..) | Event::Set(..) | Event::RemoveNode(_) | Event::Scale(_) => {}
    }
    one_wanted_in_each_slot(world);
}

/// Nothing here makes a second task while the first is wanted.
fn one_wanted_in_each_slot(world: &World) {
    let mut wanted: BTreeMap<Slot, usize> = BTreeMap::new();
    for task in world.live() {
        *wanted.entry(task.slot).or_default() += 1;
    }
    assert!(wanted.values().all(|count| *count == 1), "{wanted:?}");
}

/// The operator mends all that is broken.
fn mend(world: &mut World) {
    let nodes: Vec<u128> = world.state.nodes.keys().map(|id| id.bits()).collect();
    for number in nodes {
        world.see(number, NodeState::Ready);
        world.set(number, Availability::Active);
    }
}

fn check(mode: Value, is_replicated: bool, events: Vec<Event>) {
    let mut world = World::new(NODES);
    world.create(service(mode, json!({})));
    for event in events {
        happen(&mut world, event, is_replicated);
    }
    mend(&mut world);
    // What runs on nodes that were removed is given up.
    let gone: Vec<_> = world.tasks();
    world.run(|draft| {
        for node in gone.iter().filter_map(|task| task.node) {
            crate::manager::enforcer::orphan(draft, node, None);
        }
    });
    world.rest();
    one_wanted_in_each_slot(&world);
    let expected: Vec<Slot> = match world.state.work.services[&WEB].spec.mode.read() {
        crate::model::service_spec::Mode::Replicated { replicas } => {
            (1..=replicas).map(Slot::Number).collect()
        }
        _ => world.state.nodes.keys().copied().map(Slot::Node).collect(),
    };
    let live = world.live();
    assert_eq!(live.len(), expected.len());
    if !is_replicated {
        assert_eq!(world.live_slots(), expected);
    }
    for task in live {
        assert_eq!(world.state_of(&task), TaskState::Running);
    }
    let mut kept: BTreeMap<Slot, usize> = BTreeMap::new();
    for task in world.tasks() {
        *kept.entry(task.slot).or_default() += 1;
    }
    assert!(kept.values().all(|count| *count <= 5), "{kept:?}");
    world.edit(|service| service.removed = true);
    world.rest();
    assert_eq!(world.state.work, Default::default(), "nothing is left");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_replicated_service_comes_to_rest(events in prop::collection::vec(event(), 0..60)) {
        check(replicas(3), true, events);
    }

    #[test]
    fn a_global_service_comes_to_rest(events in prop::collection::vec(event(), 0..60)) {
        check(json!({"Global": {}}), false, events);
    }
}
