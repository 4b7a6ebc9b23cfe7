//! Services and their tasks in networks: who has which address, and what is said where there is none.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::manager::networks;
use crate::model::plane::Published;
use crate::model::{Cluster, Network, NetworkId, NetworkSpec, ServiceId};

const NET: NetworkId = NetworkId::from_bits(70);

impl Leader {
    /// A leader of a cluster, with its ingress network.
    fn of_a_cluster(nodes: u128) -> Self {
        let mut leader = Self::new(nodes);
        let cluster = Box::new(Cluster::default());
        leader.write(Change::PutCluster(Expect::Absent, cluster));
        leader.change();
        leader.rest();
        leader
    }

    /// What was planned came to nothing, and is planned again.
    fn give_back(&mut self) {
        let services = self.state.work.services.keys().copied().collect();
        self.dirt.give_back(Agenda {
            services,
            ..Agenda::default()
        });
    }

    fn network(&mut self, id: NetworkId, name: &str, subnet: &str) {
        let spec = json!({
            "Name": name, "Driver": "overlay", "IPAM": {"Config": [{"Subnet": subnet}]},
        });
        let spec: NetworkSpec = serde_json::from_value(spec).unwrap();
        let change = networks::create(&self.state, id, spec).unwrap();
        self.write(change);
    }

    fn make(&mut self, number: u128, count: u64, on: &[NetworkId], ports: serde_json::Value) {
        let mut web = service(replicas(count), json!({}));
        web.id = ServiceId::from_bits(number);
        web.spec.name = format!("web-{number}");
        let on: Vec<_> = on
            .iter()
            .map(|id| json!({"Target": id.to_string(), "Aliases": ["www"]}))
            .collect();
        web.spec.task_template.networks = serde_json::from_value(on.into()).unwrap();
        web.spec.endpoint_spec = serde_json::from_value(json!({"Ports": ports})).unwrap();
        self.write(Change::PutService(Expect::Absent, Box::new(web)));
    }

    fn service(&self, number: u128) -> &Service {
        &self.state.work.services[&ServiceId::from_bits(number)]
    }

    fn tasks(&self, number: u128) -> Vec<Arc<Task>> {
        let live = self.live().into_iter();
        live.filter(|task| task.service == ServiceId::from_bits(number))
            .collect()
    }

    fn ingress(&self) -> Arc<Network> {
        self.state.objects.network_named("ingress").unwrap().clone()
    }

    /// Every address that is held, each of which has one holder.
    fn held(&self) -> BTreeSet<IpAddr> {
        let mut held = BTreeSet::new();
        let services = self.state.work.services.values();
        let vips = services.flat_map(|service| service.vips.iter().map(|vip| vip.addr));
        let tasks = self.state.work.tasks.values();
        let tasks = tasks.filter(|task| task.node.is_some() && !task.status.state.is_terminal());
        let places = tasks.flat_map(|task| &task.attachments);
        let addresses = places.flat_map(|place| place.addresses.iter().copied());
        for addr in vips.chain(addresses) {
            assert!(held.insert(addr), "{addr} is held twice");
        }
        held
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn addresses(task: &Task) -> Vec<String> {
    let places = task.attachments.iter();
    let addresses = places.flat_map(|place| place.addresses.iter().map(ToString::to_string));
    addresses.collect()
}

#[test]
fn a_cluster_has_a_network_for_published_ports() {
    let mut leader = Leader::of_a_cluster(1);
    let ingress = leader.ingress();
    assert!(ingress.spec.ingress);
    assert_eq!(
        (&*ingress.pools[0].subnet, &*ingress.pools[0].gateway),
        ("10.0.0.0/24", "10.0.0.1")
    );
    let version = leader.state.version;
    leader.change();
    leader.rest();
    assert_eq!(leader.state.version, version);
}

#[test]
fn one_pass_gives_a_service_all_that_it_asks_for() {
    let mut leader = Leader::of_a_cluster(2);
    leader.network(NET, "back", "10.7.0.0/24");
    leader.make(
        7,
        4,
        &[NET],
        json!([{"TargetPort": 80, "PublishedPort": 8080}]),
    );
    assert!(leader.pass(usize::MAX));
    let ingress = leader.ingress().id;
    let vips = leader.service(7).vips.iter();
    let vips: Vec<_> = vips
        .map(|vip| (vip.network, vip.addr.to_string()))
        .collect();
    assert_eq!(
        vips,
        [(ingress, "10.0.0.2".to_owned()), (NET, "10.7.0.2".into())]
    );
    let published = Published {
        target: 80,
        published: 8080,
        ..Published::default()
    };
    assert_eq!(leader.service(7).ports, [published]);
    let tasks = leader.tasks(7);
    assert_eq!(tasks.len(), 4);
    for task in &tasks {
        assert_eq!(task.status.state, TaskState::Assigned);
        let networks: Vec<_> = task.attachments.iter().map(|it| it.network).collect();
        assert_eq!(networks, [ingress, NET]);
        assert_eq!(task.attachments[0].aliases, [""; 0]);
        assert_eq!(task.attachments[1].aliases, ["www"]);
        // Tasks of a node have a block in common.
        let here = tasks.iter().filter(|other| other.node == task.node);
        let blocks: BTreeSet<u8> = here
            .map(|task| match task.attachments[1].addresses[0] {
                IpAddr::V4(addr) => addr.octets()[3] >> 4,
                IpAddr::V6(_) => 0,
            })
            .collect();
        assert_eq!(blocks.len(), 1);
    }
    assert_eq!(leader.held().len(), 10);
    leader.rest();
    assert_eq!(leader.held().len(), 10);
}

#[test]
fn what_is_not_written_is_given_to_others() {
    let mut leader = Leader::of_a_cluster(2);
    leader.network(NET, "back", "10.7.0.0/29");
    leader.make(7, 2, &[NET], json!([]));
    for _ in 0..20 {
        assert!(leader.pass(0));
        leader.give_back();
    }
    leader.rest();
    assert_eq!(leader.tasks(7).len(), 2);
    assert_eq!(leader.held().len(), 3);
}

#[test]
fn a_task_waits_for_an_address_and_says_so() {
    let mut leader = Leader::of_a_cluster(2);
    // Six, of which one is the gateway's and one the service's.
    leader.network(NET, "back", "10.7.0.0/29");
    leader.make(7, 6, &[NET], json!([]));
    leader.rest();
    let waits = |leader: &Leader| {
        let tasks = leader.tasks(7).into_iter();
        let waiting = tasks.filter(|task| task.node.is_none());
        let words: Vec<_> = waiting.map(|task| task.status.err.clone()).collect();
        words
    };
    let words = "could not find an available IP on network back";
    assert_eq!(waits(&leader), [words, words]);
    assert_eq!(leader.held().len(), 5);
    // Another service has none to stand for it.
    leader.make(8, 1, &[NET], json!([]));
    leader.rest();
    let other = leader.tasks(8);
    let none = "could not find an available IP while allocating VIP on network back";
    assert_eq!((other.len(), &*other[0].status.err), (1, none));
    let running = leader.tasks(7).into_iter().find(|task| task.node.is_some());
    leader.say(running.unwrap().id, TaskState::Failed);
    leader.now = leader.now.after(seconds(100));
    leader.rest();
    leader.now = leader.now.after(seconds(100));
    leader.rest();
    assert_eq!(leader.held().len(), 5);
}

#[test]
fn who_comes_next_has_another_address_and_another_leader_knows_who_has_which() {
    let mut leader = Leader::of_a_cluster(1);
    leader.network(NET, "back", "10.7.0.0/24");
    leader.make(7, 1, &[NET], json!([]));
    leader.rest();
    let mut seen = BTreeSet::new();
    for round in 0..10 {
        let task = leader.tasks(7).remove(0);
        assert!(seen.insert(addresses(&task)), "{seen:?} in round {round}");
        leader.say(task.id, TaskState::Failed);
        leader.now = leader.now.after(seconds(5));
        leader.rest();
        leader.now = leader.now.after(seconds(1));
        if round % 2 == 0 {
            leader.change();
        }
        leader.rest();
        assert_eq!(leader.held().len(), 2);
    }
}

#[test]
fn ports_have_one_service_and_are_kept_and_given_back() {
    let mut leader = Leader::of_a_cluster(1);
    let any = json!([{"TargetPort": 80}, {"TargetPort": 81, "Protocol": "udp"}]);
    leader.make(7, 1, &[], any.clone());
    leader.make(8, 1, &[], any);
    leader.make(
        9,
        1,
        &[],
        json!([{"TargetPort": 80, "PublishedPort": 8080}]),
    );
    leader.rest();
    let numbers = |leader: &Leader, number| -> Vec<u16> {
        let ports = leader.service(number).ports.iter();
        ports.map(|port| port.published).collect()
    };
    assert_eq!(numbers(&leader, 7), [30000, 30001]);
    assert_eq!(numbers(&leader, 8), [30002, 30003]);
    // Two that were asked for at once: the first has it.
    leader.make(
        10,
        1,
        &[],
        json!([{"TargetPort": 81, "PublishedPort": 8080}]),
    );
    leader.rest();
    assert_eq!(numbers(&leader, 10), [0; 0]);
    let words = "port '8080' is already in use by service web-9";
    assert_eq!(leader.tasks(10)[0].status.err, words);
    assert!(leader.tasks(10)[0].node.is_none());
    let mut first = Service::clone(leader.service(9));
    let version = first.meta.version;
    first.removed = true;
    leader.write(Change::PutService(
        Expect::Version(version),
        Box::new(first),
    ));
    leader.rest();
    assert_eq!(numbers(&leader, 10), [8080]);
    assert!(leader.tasks(10)[0].node.is_some());
    // What was chosen stays, whatever else changes.
    let mut web = Service::clone(leader.service(8));
    let version = web.meta.version;
    let endpoint = json!({"Ports": [
        {"TargetPort": 82}, {"TargetPort": 80}, {"TargetPort": 90, "PublishedPort": 90, "PublishMode": "host"},
    ]});
    web.spec.endpoint_spec = serde_json::from_value(endpoint).unwrap();
    web.spec_version += 1;
    leader.write(Change::PutService(Expect::Version(version), Box::new(web)));
    leader.rest();
    assert_eq!(numbers(&leader, 8), [30004, 30002, 90]);
    assert_eq!(leader.service(8).vips.len(), 1);
    leader.held();
}

#[test]
fn names_alone_and_the_hosts_network_need_no_address_for_all() {
    let mut leader = Leader::of_a_cluster(1);
    leader.network(NET, "back", "10.7.0.0/24");
    leader.make(7, 1, &[NET], json!([]));
    let mut by_name = Service::clone(leader.service(7));
    by_name.id = ServiceId::from_bits(8);
    by_name.spec.name = "names".into();
    by_name.spec.endpoint_spec = serde_json::from_value(json!({"Mode": "dnsrr"})).unwrap();
    leader.write(Change::PutService(Expect::Absent, Box::new(by_name)));
    let mut on_host = Service::clone(leader.service(7));
    on_host.id = ServiceId::from_bits(9);
    on_host.spec.name = "host".into();
    on_host.spec.task_template.networks[0].target = "host".into();
    let ports = json!({"Ports": [{"TargetPort": 80, "PublishedPort": 80}]});
    on_host.spec.endpoint_spec = serde_json::from_value(ports).unwrap();
    leader.write(Change::PutService(Expect::Absent, Box::new(on_host)));
    leader.rest();
    let has = |number| {
        let tasks = leader.tasks(number);
        (
            leader.service(number).vips.len(),
            addresses(&tasks[0]).len(),
        )
    };
    assert_eq!((has(7), has(8), has(9)), ((1, 1), (0, 1), (0, 0)));
}

#[test]
fn a_service_of_a_network_that_is_not_there_waits_until_it_is() {
    let mut leader = Leader::of_a_cluster(1);
    let ingress = leader.ingress();
    leader.write(Change::RemoveNetwork(
        Expect::Version(ingress.meta.version),
        ingress.id,
    ));
    leader.make(7, 1, &[], json!([{"TargetPort": 80, "PublishedPort": 80}]));
    leader.rest();
    let words = "service needs ingress network, but no ingress network is present";
    assert_eq!(leader.tasks(7)[0].status.err, words);
    let spec = json!({"Name": "mine", "Driver": "overlay", "Ingress": true});
    let spec: NetworkSpec = serde_json::from_value(spec).unwrap();
    let change = networks::create(&leader.state, NET, spec.clone()).unwrap();
    leader.write(change);
    leader.rest();
    assert_eq!(leader.tasks(7)[0].attachments[0].network, NET);
    let twice = networks::create(
        &leader.state,
        NetworkId::from_bits(71),
        NetworkSpec {
            name: "other".into(),
            ..spec
        },
    );
    let words = twice.unwrap_err().to_string();
    assert_eq!(words, format!("ingress network ({NET}) is already present"));
    let words = networks::remove(&leader.state, NET)
        .unwrap_err()
        .to_string();
    let by = leader.service(7).id;
    assert_eq!(
        words,
        format!("ingress network cannot be removed because service {by} depends on it")
    );
}

#[test]
fn a_new_network_has_no_address_that_a_task_still_holds() {
    let mut leader = Leader::of_a_cluster(1);
    let made = |leader: &mut Leader, number, name: &str| {
        let spec = json!({"Name": name, "Driver": "overlay"});
        let id = NetworkId::from_bits(number);
        let change = networks::create(&leader.state, id, serde_json::from_value(spec).unwrap());
        leader.write(change.unwrap());
        leader.state.objects.networks[&id].pools[0].subnet.clone()
    };
    assert_eq!(made(&mut leader, 70, "a"), "10.0.1.0/24");
    leader.make(7, 1, &[NET], json!([]));
    leader.rest();
    let mut gone = Service::clone(leader.service(7));
    let version = gone.meta.version;
    gone.removed = true;
    leader.write(Change::PutService(Expect::Version(version), Box::new(gone)));
    leader.pass(usize::MAX);
    let change = networks::remove(&leader.state, NET).unwrap();
    leader.write(change);
    assert_eq!(made(&mut leader, 71, "b"), "10.0.2.0/24");
    leader.rest();
    assert_eq!(made(&mut leader, 72, "c"), "10.0.1.0/24");
}
