//! Three nodes, a network, a service of two tasks, and what the first node makes of it.

use super::*;
use crate::model::plane::{Attachment, Block, PlaneNetwork, Protocol, Vip};

const INGRESS: NetworkId = NetworkId::from_bits(1);
const FRONT: NetworkId = NetworkId::from_bits(2);
const WEB: ServiceId = ServiceId::from_bits(7);

fn node(number: u128) -> NodeId {
    NodeId::from_bits(number)
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn place(network: NetworkId, at: &str) -> Attachment {
    Attachment {
        network,
        addresses: vec![addr(at)],
        aliases: Vec::new(),
    }
}

fn intent() -> Intent {
    let network = |id, name: &str, subnet: &str| PlaneNetwork {
        id,
        name: name.into(),
        subnets: vec![subnet.parse().unwrap()],
        ingress: id == INGRESS,
        ..PlaneNetwork::default()
    };
    let block = |network, prefix: &str, on| Block {
        network,
        prefix: prefix.parse().unwrap(),
        node: node(on),
    };
    let networks = [
        network(INGRESS, "ingress", "10.0.0.0/24"),
        network(FRONT, "front", "10.0.1.0/24"),
    ];
    let service = PlaneService {
        id: WEB,
        name: "web".into(),
        networks: vec![(FRONT, vec!["site".into()])],
        vips: vec![Vip {
            network: FRONT,
            addr: addr("10.0.1.2"),
        }],
        ports: vec![Published {
            protocol: Protocol::Tcp,
            target: 80,
            published: 8080,
            host: false,
        }],
        mesh: Mesh::Keep,
    };
    let mut intent = Intent {
        networks: networks.map(|network| (network.id, network)).into(),
        services: [(WEB, service)].into(),
        blocks: [
            (
                INGRESS,
                vec![
                    block(INGRESS, "10.0.0.16/28", 1),
                    block(INGRESS, "10.0.0.32/28", 2),
                ],
            ),
            (
                FRONT,
                vec![
                    block(FRONT, "10.0.1.16/28", 1),
                    block(FRONT, "10.0.1.32/28", 2),
                ],
            ),
        ]
        .into(),
        ..Intent::default()
    };
    intent.number(&[node(2), node(3)].into());
    intent
}

fn here() -> BTreeMap<ContainerId, Record> {
    let record = Record {
        name: "web.1.x".into(),
        service: Some(WEB),
        attachments: vec![place(INGRESS, "10.0.0.17"), place(FRONT, "10.0.1.17")],
        serving: true,
        ..Record::default()
    };
    [(ContainerId::from_bytes([9; 32]), record)].into()
}

fn there(alive: bool) -> BTreeMap<NodeId, Sight> {
    let endpoint = Endpoint {
        service: Some(WEB),
        name: "web.2.y".into(),
        attachments: vec![place(INGRESS, "10.0.0.33"), place(FRONT, "10.0.1.33")],
    };
    let sight = |number: u8, endpoints| Sight {
        addr: [192, 0, 2, number].into(),
        alive,
        endpoints,
    };
    let silent = sight(3, Vec::new());
    [(node(2), sight(2, vec![endpoint])), (node(3), silent)].into()
}

fn drawn(intent: &Intent, sights: &BTreeMap<NodeId, Sight>) -> Picture {
    draw(&Known {
        me: node(1),
        own: addr("192.0.2.1"),
        port: 4789,
        intent,
        sights,
        records: &here(),
        local: "172.17.0.0/16".parse().unwrap(),
    })
}

#[test]
fn tasks_of_all_nodes_take_traffic() {
    let picture = drawn(&intent(), &there(true));
    let rules = &picture.rules;
    assert_eq!(
        rules.balancers[&addr("10.0.1.2")],
        [addr("10.0.1.17"), addr("10.0.1.33")]
    );
    let target = &rules.ports[&(Protocol::Tcp, 8080)];
    assert_eq!(
        target.backends,
        [(addr("10.0.0.17"), 80), (addr("10.0.0.33"), 80)]
    );
    assert!(!target.snat);
    let hairpin = [addr("10.0.0.17"), addr("10.0.1.17")];
    assert_eq!(rules.hairpin, hairpin.into());
    assert_eq!(rules.peers.len(), 3);
    assert_eq!(rules.marks[&mac_of(node(3))], 2);
    assert_eq!(behind(rules).len(), 4);
}

#[test]
fn packets_go_to_the_node_that_has_the_block() {
    let picture = drawn(&intent(), &there(true));
    let routes: Vec<(String, IpAddr)> = picture
        .links
        .routes
        .iter()
        .map(|(prefix, via)| (prefix.to_string(), *via))
        .collect();
    let second = addr("192.0.2.2");
    assert_eq!(
        routes,
        [
            ("10.0.0.32/28".into(), second),
            ("10.0.1.32/28".into(), second)
        ]
    );
    assert_eq!(picture.links.peers.len(), 2);
    assert_eq!(picture.links.pools.len(), 2);
}

#[test]
fn a_dead_node_takes_no_traffic() {
    let picture = drawn(&intent(), &there(false));
    assert_eq!(
        picture.rules.balancers[&addr("10.0.1.2")],
        [addr("10.0.1.17")]
    );
    let target = &picture.rules.ports[&(Protocol::Tcp, 8080)];
    assert_eq!(target.backends, [(addr("10.0.0.17"), 80)]);
}

#[test]
fn nobody_speaks_for_the_addresses_of_others() {
    let mut sights = there(true);
    let liar = sights.get_mut(&node(3)).unwrap();
    liar.endpoints = vec![Endpoint {
        service: Some(WEB),
        name: "web.3.z".into(),
        attachments: vec![place(FRONT, "10.0.1.18")],
    }];
    let picture = drawn(&intent(), &sights);
    assert_eq!(picture.rules.balancers[&addr("10.0.1.2")].len(), 2);
}

#[test]
fn the_label_says_how_a_port_leads_to_tasks() {
    let mut intent = intent();
    let with = |intent: &mut Intent, mesh| {
        intent.services.get_mut(&WEB).unwrap().mesh = mesh;
        drawn(intent, &there(true)).rules.ports[&(Protocol::Tcp, 8080)].clone()
    };
    assert!(with(&mut intent, Mesh::Snat).snat);
    let local = with(&mut intent, Mesh::Local);
    assert_eq!(local.backends, [(addr("10.0.0.17"), 80)]);
    let service = intent.services.get_mut(&WEB).unwrap();
    service.ports[0].host = true;
    let host = drawn(&intent, &there(true)).rules.ports[&(Protocol::Tcp, 8080)].clone();
    assert_eq!(host.backends, [(addr("10.0.0.17"), 80)]);
}
