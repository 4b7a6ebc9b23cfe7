//! Inputs that are right in every part, so that a fuzzer begins where the parsers end.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use skein::identity::pem::certificates as read;
use skein::identity::{JoinToken, NodeKey, RootDigest};
use skein::model::cluster::Secret;
use skein::model::dependency::Payload;
use skein::model::plane::PlaneUpdate;
use skein::model::task::ServiceRef;
use skein::model::{
    Availability, Change, Cluster, ClusterId, ClusterSpec, Dependency, DependencyId,
    DependencySpec, Expect, JoinSecrets, Meta, NetworkId, Node, NodeDescription, NodeId, Proposal,
    Role, RootCa, RootRotation, Slot, Standing, TaskId, TaskSpec, TaskState, TaskStatus, Timestamp,
};
use skein::wire::Json;
use skein::wire::assignment::{Assigned, Assignments, Dependencies, Report};
use skein::wire::control::{ControlReply, ControlRequest};
use skein::wire::frame::to_frame;
use skein::wire::hello::Hello;
use skein::wire::join::{Admission, JoinBody, JoinReply, JoinRequest};
use skein::wire::session::{Downward, Upward};

use super::certificate::{NODE, NODE_KEY, ROOT};
use super::gossip::{self, CONVERSATION};

const NODE_ID: NodeId = NodeId::from_bits(7);
const TASK: TaskId = TaskId::from_bits(9);
const CLUSTER: ClusterId = ClusterId::from_bits(8);
const NOW: Timestamp = Timestamp::from_nanos(1_907_755_200 * 1_000_000_000);

/// Every message in a frame, and some frames one after another, behind the knobs of the frame check.
pub fn frames() -> Vec<Vec<u8>> {
    let mut streams: Vec<Vec<u8>> = [
        messages_of_peers(),
        messages_of_joins(),
        messages_of_leaders(),
        proposals(),
    ]
    .concat();
    // A body without its frame is tried as a message, too.
    let bare = streams
        .iter()
        .map(|stream| [&[0, 0, 0], &stream[4..]].concat());
    let mut samples: Vec<Vec<u8>> = bare.collect();
    streams.push(streams[..4].concat());
    let knobs = [0xff, 0x07, 0x3f];
    samples.extend(streams.iter().map(|stream| [&knobs, &stream[..]].concat()));
    samples
}

/// Questions about names, known here and not, with an answer from outside and an extension; and a `resolv.conf`.
pub fn names() -> Vec<Vec<u8>> {
    const IN: [u8; 2] = [0, 1];
    let message = |counts: [u8; 2], name: &str, kind: u8, more: &[u8]| {
        let [answers, further] = counts;
        let header = [0x12, 0x34, 1, 0, 0, 1, 0, answers, 0, 0, 0, further];
        let labels = name.split('.').flat_map(|label| {
            let length = u8::try_from(label.len()).unwrap_or(0);
            [&[length], label.as_bytes()].concat()
        });
        let name: Vec<u8> = labels.collect();
        [&header, &name[..], &[0, 0, kind], &IN, more].concat()
    };
    // The extension says that 1232 bytes are taken.
    let extended = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let mut samples = Vec::new();
    for via in [0, 1] {
        let mut add = |message: Vec<u8>| samples.push([&[via, 0], &message[..]].concat());
        add(message([0, 0], "web", 1, &[]));
        add(message([0, 0], "tasks.web.alpha", 28, &[]));
        add(message([0, 0], "tasks.web", 1, &[]));
        add(message([0, 1], "Tasks.Web", 1, &extended));
        add(message([0, 0], "2.0.0.10.in-addr.arpa", 12, &[]));
        add(message([0, 1], "example.org", 1, &extended));
    }
    let asked = message([0, 0], "example.org", 1, &[]);
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
    let mut answer = message([1, 0], "example.org", 1, &record);
    answer[..4].copy_from_slice(&[0xbe, 0xef, 0x81, 0x80]);
    let length = u8::try_from(asked.len()).unwrap_or(0);
    samples.push([&[0, length], &asked[..], &answer].concat());
    samples.push(b"nameserver 10.0.0.1\nsearch lan\noptions ndots:2 edns0\n".to_vec());
    samples
}

/// A root, a node's certificate, keys and a request, as DER and as PEM.
pub fn certificates() -> Vec<Vec<u8>> {
    let ders = [ROOT, NODE]
        .into_iter()
        .map(|pem| read(pem).expect("the fixture is PEM")[0].to_vec());
    let pems = [ROOT, NODE, NODE_KEY].map(|pem| pem.as_bytes().to_vec());
    ders.chain(pems).chain([request()]).collect()
}

/// A token with addresses, and an identifier.
pub fn tokens() -> Vec<Vec<u8>> {
    let token = JoinToken {
        digest: RootDigest::of_pem(ROOT),
        secret: Secret("0123456789abcdefghijklmno".to_owned()),
        addresses: [
            "10.0.0.1",
            "node-1.example.com:2400",
            "[fd00::1]:2377",
            "[fd00::2]",
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    let texts = [token.to_string(), NODE_ID.to_string()];
    texts.map(String::into_bytes).to_vec()
}

/// Addresses in every form.
pub fn addresses() -> Vec<Vec<u8>> {
    [
        "10.0.0.1",
        "0.0.0.0:2377",
        "::1",
        "[fe80::1]:2377",
        "[::]",
        "eth0",
        "br-1a2b.100:4567",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A conversation between two members, message by message and as a whole, and the same told without compression.
pub fn gossip() -> Vec<Vec<u8>> {
    let text = |text: &str| [&(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
    let count = |count: u64| count.to_le_bytes().to_vec();
    let identity = |node: u128, generation| {
        let address = [&[6][..], &node.to_be_bytes(), &1u16.to_le_bytes()].concat();
        [text(""), count(generation), address].concat()
    };
    let block = |raw: Vec<u8>| [&[2][..], &(raw.len() as u16).to_le_bytes(), &raw, &[0]].concat();
    let message = |kind: u8, parts: &[Vec<u8>]| {
        gossip::with_length(&[&[0x53, 0xb0, 1, kind][..], &parts.concat()].concat())
    };
    let entry = |node| [identity(node, 1), count(5), count(0), count(2)].concat();
    let digest = block([entry(9), entry(10)].concat());
    let cluster = text(&ClusterId::from_bits(1).to_string());
    let start = |node| [vec![0], identity(node, 1), count(0), count(0)].concat();
    let change =
        |name, value, version| [vec![1], text(name), text(value), count(version), vec![0]].concat();
    let changes = [
        start(9),
        change("phase", "\"up\"", 1),
        change("standing", "\"eligible\"", 2),
        start(10),
        [vec![2], count(3)].concat(),
    ];
    let delta = block(changes.concat());
    let plain = [
        message(0, &[digest.clone(), cluster]),
        message(1, &[digest, delta.clone()]),
        message(2, &[delta]),
        message(3, &[]),
    ];
    let packed = CONVERSATION
        .iter()
        .map(|message| gossip::with_length(message));
    let mut samples: Vec<Vec<u8>> = packed.chain(plain.clone()).collect();
    samples.push(plain.concat());
    samples
}

fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    to_frame(message, 1 << 16).expect("a sample can be sent")
}

fn request() -> Vec<u8> {
    let key = NodeKey::from_pem(NODE_KEY).expect("the fixture is a key");
    key.csr_der().expect("the key signs")
}

fn sockets() -> Vec<SocketAddr> {
    ["10.0.0.1:2377", "[fd00::1]:2377"]
        .map(|text| text.parse().expect("it is an address"))
        .to_vec()
}

fn description() -> NodeDescription {
    NodeDescription {
        hostname: "node-1".to_owned(),
        engine_labels: [("a".to_owned(), "b".to_owned())].into(),
        protocol: (1, 1),
        ..NodeDescription::default()
    }
}

fn join_body() -> Box<JoinBody> {
    Box::new(JoinBody {
        secret: Secret("0123456789abcdefghijklmno".to_owned()),
        csr_der: request(),
        description: Json(description()),
        availability: Availability::Drain,
        addresses: sockets(),
        clock: NOW,
    })
}

fn messages_of_peers() -> Vec<Vec<u8>> {
    let hello = Hello {
        node: NODE_ID,
        instance: 1 << 40,
        protocol: (1, 2),
        addresses: sockets(),
        observed: sockets().pop(),
    };
    let register = Upward::Register {
        description: Box::new(Json(description())),
        addresses: sockets(),
        issuer: "ab".repeat(32),
    };
    let membership = Downward::Membership {
        term: 3,
        role: Role::Manager,
        standing: Standing::Eligible,
        roots_pem: "roots".to_owned(),
        issuer: "ab".repeat(32),
        removed: vec![NODE_ID],
    };
    vec![
        frame(&hello),
        frame(&register),
        frame(&Upward::Statuses(Report {
            complete: true,
            statuses: vec![(TASK, Json(TaskStatus::default()))],
        })),
        frame(&Upward::Restarting),
        frame(&Upward::Leaving),
        frame(&membership),
        frame(&Downward::Assignments(Assignments {
            term: 3,
            generation: 9,
            complete: true,
            tasks: vec![Json(assigned())],
            removed: vec![TASK],
        })),
        frame(&Downward::Removed),
        frame(&Downward::More(vec![Json(assigned())])),
        frame(&Downward::Dependencies(Dependencies {
            complete: true,
            kept: vec![Json(dependency())],
            removed: vec![DependencyId::from_bits(13)],
        })),
        frame(&Downward::Plane(Json(PlaneUpdate {
            complete: true,
            gone_networks: vec![NetworkId::from_bits(14)],
            ..PlaneUpdate::default()
        }))),
    ]
}

fn assigned() -> Assigned {
    Assigned {
        task: TASK,
        service: ServiceRef::default(),
        service_labels: [("a".to_owned(), "b".to_owned())].into(),
        slot: Slot::Number(2),
        desired: TaskState::Running,
        observed: TaskState::Assigned,
        spec: TaskSpec::default(),
        generic_resources: Vec::new(),
        attachments: Vec::new(),
        log_driver: None,
        registry_auth: Secret("e30=".to_owned()),
    }
}

fn messages_of_joins() -> Vec<Vec<u8>> {
    let admission = Admission {
        cluster: CLUSTER,
        node: NODE_ID,
        standing: Standing::Worker,
        chain_pem: "chain".to_owned(),
        roots_pem: "roots".to_owned(),
        peers: vec![
            (NODE_ID, sockets()),
            (NodeId::from_bits(u128::MAX), Vec::new()),
        ],
    };
    vec![
        frame(&JoinRequest::Join(join_body())),
        frame(&JoinRequest::Renew { csr_der: request() }),
        frame(&JoinReply::Admitted(Box::new(admission))),
        frame(&JoinReply::Elsewhere(sockets())),
        frame(&JoinReply::Refused("no".to_owned())),
        frame(&JoinReply::Later("not yet".to_owned())),
    ]
}

fn messages_of_leaders() -> Vec<Vec<u8>> {
    let join = ControlRequest::Join {
        from: sockets().remove(0),
        body: join_body(),
    };
    vec![
        frame(&join),
        frame(&ControlRequest::Certificate { csr_der: request() }),
        frame(&ControlRequest::Leave { node: NODE_ID }),
        frame(&ControlReply::Join(JoinReply::Later(String::new()))),
        frame(&ControlReply::Done),
        frame(&ControlReply::Refused("no".to_owned())),
        frame(&ControlReply::NotLeader(Some(NODE_ID))),
    ]
}

fn dependency() -> Dependency {
    Dependency {
        id: DependencyId::from_bits(11),
        spec: DependencySpec {
            name: "key".to_owned(),
            data: Payload::new(b"value".to_vec()),
            ..DependencySpec::default()
        },
        ..Dependency::default()
    }
}

fn proposals() -> Vec<Vec<u8>> {
    let cluster = Cluster {
        id: CLUSTER,
        meta: Meta {
            version: 3,
            created_at: NOW,
            updated_at: NOW.after(Duration::from_secs(1)),
        },
        spec: ClusterSpec::default(),
        root: RootCa::default(),
        rotation: Some(RootRotation::default()),
        join: JoinSecrets::default(),
        unlock_key: Secret::default(),
        address_pools: vec!["10.0.0.0/8".to_owned()],
        subnet_size: 24,
        data_path_port: 4789,
    };
    let node = Node {
        id: NODE_ID,
        pinned: Some(Role::Manager),
        addresses: sockets(),
        description: description(),
        ..Node::default()
    };
    let proposal = |change| Proposal {
        at: NOW,
        changes: vec![change],
    };
    vec![
        frame(&proposal(Change::PutCluster(
            Expect::Absent,
            Box::new(cluster),
        ))),
        frame(&proposal(Change::PutNode(
            Expect::Version(1),
            Box::new(node),
        ))),
        frame(&proposal(Change::RemoveNode(Expect::Version(2), NODE_ID))),
    ]
}
