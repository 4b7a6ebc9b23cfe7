//! What a node is told, message by message, and what it then knows.

use serde_json::{Value, json};

use super::*;
use crate::model::plane::{Attachment, Published, Vip};
use crate::model::{Change, Expect, Proposal, Slot, TaskId, TaskState, TaskStatus, Timestamp};
use crate::wire::encode;

const NET: NetworkId = NetworkId::from_bits(70);
const WEB: ServiceId = ServiceId::from_bits(7);

fn node(number: u128) -> NodeId {
    NodeId::from_bits(number)
}

#[derive(Default)]
struct World {
    state: State,
    planner: Planner,
    told: Told,
    /// As a node keeps it.
    known: PlaneUpdate,
}

impl World {
    fn write(&mut self, changes: Vec<Change>) {
        let at = Timestamp::from_nanos(5);
        let proposal = Proposal { at, changes };
        self.state.apply(proposal, &mut Vec::new()).unwrap();
    }

    fn network(&mut self, id: NetworkId, subnet: &str) {
        let network = json!({
            "id": id, "meta": {"version": 0, "created_at": Timestamp::default(), "updated_at": Timestamp::default()},
            "spec": {"Name": format!("net-{id}"), "Driver": "overlay"},
            "pools": [{"Subnet": subnet}],
        });
        let network: Network = serde_json::from_value(network).unwrap();
        self.write(vec![Change::PutNetwork(Expect::Absent, Box::new(network))]);
    }

    fn service(&mut self, id: ServiceId, edit: impl FnOnce(&mut Service)) {
        let old = self.state.work.services.get(&id);
        let expect = old.map_or(Expect::Absent, |old| Expect::Version(old.meta.version));
        let mut service = old.map_or_else(
            || Service {
                id,
                spec_version: 1,
                ..Service::default()
            },
            |old| Service::clone(old),
        );
        service.spec.name = format!("web-{id}");
        edit(&mut service);
        self.write(vec![
            Change::PutService(expect, Box::new(service)),
            Change::PutTemplate(id, 1, Box::default()),
        ]);
    }

    fn task(&mut self, number: u128, on: NodeId, addr: &str, state: TaskState) {
        let id = TaskId::from_bits(number);
        let old = self.state.work.tasks.get(&id);
        let task = Task {
            id,
            meta: Default::default(),
            service: WEB,
            slot: Slot::Number(1),
            spec_version: 1,
            iteration: None,
            node: Some(on),
            desired: TaskState::Running,
            status: TaskStatus {
                state,
                ..TaskStatus::default()
            },
            start: None,
            generic_resources: Vec::new(),
            attachments: vec![Attachment {
                network: NET,
                addresses: vec![addr.parse().unwrap()],
                aliases: Vec::new(),
            }],
        };
        let expect = old.map_or(Expect::Absent, |old| Expect::Version(old.meta.version));
        self.write(vec![Change::PutTask(expect, Box::new(task))]);
    }

    /// What is sent of the state as it is by now; the node takes it.
    fn sent(&mut self) -> Vec<PlaneUpdate> {
        let plane = self.planner.follow(&Arc::new(self.state.clone()));
        // Another who begins now is told the same.
        let mut anew = Planner::default();
        assert_eq!(anew.follow(&Arc::new(self.state.clone())), plane);
        let messages = self.told.next(&plane);
        assert!(self.told.next(&plane).is_empty());
        let updates: Vec<PlaneUpdate> = messages
            .into_iter()
            .map(|message| {
                assert!(encode(&message).unwrap().len() < SESSION_FRAME);
                match message {
                    Downward::Plane(Json(update)) => update,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        updates.iter().for_each(|update| self.take(update));
        self.check(&plane);
        updates
    }

    fn take(&mut self, update: &PlaneUpdate) {
        let known = &mut self.known;
        for network in &update.networks {
            known.networks.retain(|one| one.id != network.id);
        }
        known.networks.extend(update.networks.iter().cloned());
        for service in &update.services {
            known.services.retain(|one| one.id != service.id);
        }
        known.services.extend(update.services.iter().cloned());
        for (id, _) in &update.blocks {
            known.blocks.retain(|(other, _)| other != id);
        }
        known.blocks.extend(update.blocks.iter().cloned());
        for id in &update.gone_networks {
            known.networks.retain(|one| one.id != *id);
            known.blocks.retain(|(other, _)| other != id);
        }
        for id in &update.gone_services {
            known.services.retain(|one| one.id != *id);
        }
        known.networks.sort_by_key(|one| one.id);
        known.services.sort_by_key(|one| one.id);
        known.blocks.retain(|(_, blocks)| !blocks.is_empty());
        known.blocks.sort_by_key(|(id, _)| *id);
    }

    /// The node knows what it would be told if it came now.
    fn check(&self, plane: &Plane) {
        let networks: Vec<_> = plane.networks.values().map(|it| (**it).clone()).collect();
        assert_eq!(self.known.networks, networks);
        let services: Vec<_> = plane.services.values().map(|it| (**it).clone()).collect();
        assert_eq!(self.known.services, services);
        let blocks: Vec<_> = plane
            .blocks
            .iter()
            .map(|(id, it)| (*id, (**it).clone()))
            .collect();
        assert_eq!(self.known.blocks, blocks);
    }

    fn blocks(&self) -> Vec<String> {
        let all = self.known.blocks.iter().flat_map(|(_, blocks)| blocks);
        all.map(|block| format!("{} {}", block.prefix, block.node.bits()))
            .collect()
    }
}

fn publishes(service: &mut Service) {
    service.ports = vec![Published {
        target: 80,
        published: 8080,
        ..Published::default()
    }];
    service.vips = vec![Vip {
        network: NET,
        addr: "10.7.0.2".parse().unwrap(),
    }];
}

#[test]
fn all_of_it_comes_first_and_then_what_changes() {
    let mut world = World::default();
    let first = world.sent();
    assert_eq!(first.len(), 1);
    assert!(first[0].complete);
    world.network(NET, "10.7.0.0/24");
    world.service(WEB, publishes);
    world.task(1, node(1), "10.7.0.16", TaskState::Assigned);
    let next = world.sent();
    assert_eq!(next.len(), 1);
    assert!(!next[0].complete);
    assert_eq!((next[0].networks.len(), next[0].services.len()), (1, 1));
    assert_eq!(world.blocks(), ["10.7.0.16/28 1"]);
    // Nothing that packets need has changed.
    world.task(1, node(1), "10.7.0.16", TaskState::Running);
    world.task(2, node(1), "10.7.0.17", TaskState::Running);
    world.service(WEB, |service| service.rebalance = true);
    assert!(world.sent().is_empty());
    world.service(WEB, |service| service.removed = true);
    assert_eq!(world.sent()[0].gone_services, [WEB]);
    let version = world.state.objects.networks[&NET].meta.version;
    world.write(vec![Change::RemoveNetwork(Expect::Version(version), NET)]);
    assert_eq!(world.sent()[0].gone_networks, [NET]);
}

#[test]
fn a_block_is_its_nodes_while_an_address_is_held_and_others_have_theirs_one_by_one() {
    let mut world = World::default();
    world.network(NET, "10.7.0.0/24");
    world.service(WEB, |_| {});
    world.task(1, node(1), "10.7.0.16", TaskState::Running);
    world.task(2, node(1), "10.7.0.17", TaskState::Running);
    world.task(3, node(2), "10.7.0.18", TaskState::Running);
    world.task(4, node(2), "10.7.0.40", TaskState::Running);
    world.sent();
    assert_eq!(
        world.blocks(),
        ["10.7.0.16/28 1", "10.7.0.18/32 2", "10.7.0.32/28 2"]
    );
    world.task(1, node(1), "10.7.0.16", TaskState::Shutdown);
    world.task(2, node(1), "10.7.0.17", TaskState::Shutdown);
    world.sent();
    assert_eq!(world.blocks(), ["10.7.0.16/28 2", "10.7.0.32/28 2"]);
    for (task, addr) in [(3, "10.7.0.18"), (4, "10.7.0.40")] {
        world.task(task, node(2), addr, TaskState::Failed);
    }
    world.sent();
    assert_eq!(world.blocks(), [""; 0]);
    assert!(world.planner.held.is_empty());
}

#[test]
fn what_is_long_comes_in_parts_of_which_the_last_says_so() {
    let mut world = World::default();
    world.network(NET, "10.0.0.0/8");
    for number in 0..3000u32 {
        let alias: String = "x".repeat(1000);
        let networks: Value = json!([{"Target": NET.to_string(), "Aliases": [alias]}]);
        world.service(ServiceId::from_bits(number.into()), |service| {
            service.spec.task_template.networks = serde_json::from_value(networks).unwrap();
        });
    }
    let sent = world.sent();
    assert!(sent.len() > 1, "{}", sent.len());
    let last = sent.len() - 1;
    for (place, part) in sent.iter().enumerate() {
        assert_eq!(part.complete, place == last);
    }
}
