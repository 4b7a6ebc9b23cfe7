//! Each filter in a whole pass, and its words.

use super::world::*;
use crate::model::task_spec::{DiscreteResource, GenericResource, PlatformSpec, Reservation};
use crate::model::{Availability, NodeState, TaskState, Template};

#[test]
fn only_ready_active_nodes_with_a_runtime_are_used() {
    let mut world = World::new(5);
    world.see(1, NodeState::Down);
    world.see(2, NodeState::Unknown);
    world.edit_node(3, |node| node.spec.availability = Availability::Drain);
    world.edit_node(4, |node| node.spec.availability = Availability::Pause);
    world.edit_node(5, |node| node.description.runtime.clear());
    let id = world.task(1, Template::default());
    world.pass(1);
    let why = "no suitable node (5 nodes not available for new tasks)";
    assert_eq!(world.err(id), why);
    world.see(1, NodeState::Ready);
    world.pass(1);
    assert_eq!(world.placed(id), Some(1));
}

#[test]
fn reasons_are_joined_with_the_most_frequent_first() {
    let mut world = World::new(4);
    world.see(1, NodeState::Down);
    for number in [2, 3] {
        world.edit_node(number, |node| {
            node.spec.labels.insert("a".into(), "c".into());
        });
    }
    world.edit_node(4, |node| node.description.resources.nano_cpus = 1);
    let mut template = constrained("node.labels.a==b");
    template.task.resources = reserving(2, 0).task.resources;
    let id = world.task(1, template);
    world.pass(1);
    assert_eq!(
        world.err(id),
        "no suitable node (scheduling constraints not satisfied on 2 nodes; \
         1 node not available for new tasks; insufficient resources on 1 node)"
    );
    let nowhere = World::new(0);
    let mut nowhere = nowhere;
    let id = nowhere.task(1, Template::default());
    nowhere.pass(1);
    assert_eq!(nowhere.err(id), "no suitable node");
}

#[test]
fn platforms_have_two_names() {
    let on = |architecture: &str, os: &str| {
        placement(|placement| {
            placement.platforms = vec![PlatformSpec {
                architecture: architecture.into(),
                os: os.into(),
            }];
        })
    };
    let mut world = World::new(1);
    let fit = [
        on("amd64", "linux"),
        on("x86_64", ""),
        on("", "linux"),
        on("", ""),
    ];
    for (number, template) in fit.into_iter().enumerate() {
        let id = world.task(number as u64 + 1, template);
        world.pass(1);
        assert_eq!(world.placed(id), Some(1));
    }
    let unfit = [on("arm64", "linux"), on("amd64", "windows")];
    for (number, template) in unfit.into_iter().enumerate() {
        let id = world.task(number as u64 + 9, template);
        world.pass(1);
        assert_eq!(
            world.err(id),
            "no suitable node (unsupported platform on 1 node)"
        );
    }
}

#[test]
fn a_host_port_is_used_once_on_each_node_until_its_task_has_ended() {
    let mut world = World::new(2);
    world.publish();
    let ids: Vec<_> = (0..3)
        .map(|_| world.task(1, publishing(80, "tcp", "host")))
        .collect();
    let other = world.task(2, publishing(80, "", "host"));
    let udp = world.task(3, publishing(80, "udp", "host"));
    let ingress = world.task(4, publishing(80, "tcp", "ingress"));
    let chosen = world.task(5, publishing(0, "tcp", "host"));
    world.pass(1);
    let placed: Vec<_> = ids.iter().filter_map(|id| world.placed(*id)).collect();
    assert_eq!(placed.len(), 2);
    assert_ne!(placed[0], placed[1]);
    let why = "no suitable node (host-mode port already in use on 2 nodes)";
    assert_eq!(world.err(ids[2]), why);
    assert_eq!(world.err(other), why);
    for id in [udp, ingress, chosen] {
        assert!(world.placed(id).is_some());
    }
    world.end(ids[0], TaskState::Failed);
    world.pass(1);
    assert_eq!(world.placed(ids[2]), world.placed(ids[0]));
}

#[test]
fn a_node_takes_no_more_than_max_replicas_of_a_service() {
    let mut world = World::new(2);
    let at_most = |max| placement(|placement| placement.max_replicas = max);
    for _ in 0..5 {
        world.task(1, at_most(2));
    }
    let another = world.task(2, at_most(1));
    world.pass(1);
    assert_eq!(world.counts(1), [(1, 2), (2, 2)].into());
    assert!(world.placed(another).is_some());
    assert_eq!(
        world.waits,
        ["no suitable node (max replicas per node limit exceed)"]
    );
}

#[test]
fn what_is_counted_is_told_to_its_task() {
    let kind = |value| GenericResource {
        discrete_resource_spec: Some(DiscreteResource {
            kind: "gpu".into(),
            value,
        }),
        ..GenericResource::default()
    };
    let mut world = World::new(2);
    world.edit_node(2, |node| node.description.generic_resources = vec![kind(3)]);
    let template = asking(Reservation {
        generic_resources: vec![kind(2)],
        ..Reservation::default()
    });
    let [first, second] = [template.clone(), template].map(|template| world.task(1, template));
    world.pass(1);
    assert_eq!(world.placed(first), Some(2));
    assert_eq!(
        world.view.state.work.tasks[&first].generic_resources,
        [kind(2)]
    );
    assert_eq!(
        world.err(second),
        "no suitable node (insufficient resources on 2 nodes)"
    );
    world.end(first, TaskState::Complete);
    world.pass(1);
    assert_eq!(world.placed(second), Some(2));
}
