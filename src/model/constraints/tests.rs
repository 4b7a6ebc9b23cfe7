//! The grammar, as a table: what parses, and what then holds on one node.

use super::*;
use crate::model::{NodeDescription, NodeId, NodeSpec};

fn node() -> Node {
    let labels = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        pairs.collect::<BTreeMap<String, String>>()
    };
    Node {
        id: NodeId::from_bits(7),
        spec: NodeSpec {
            labels: labels(&[("Zone", "East"), ("disk", "ssd")]),
            ..NodeSpec::default()
        },
        role: Role::Manager,
        description: NodeDescription {
            hostname: "Alpha-1".into(),
            platform: Platform {
                architecture: "x86_64".into(),
                os: "linux".into(),
            },
            engine_labels: labels(&[("gpu", "2")]),
            ..NodeDescription::default()
        },
        addresses: vec!["10.1.2.3:2377".parse().unwrap()],
        ..Node::default()
    }
}

#[test]
fn holds_as_swarm_says() {
    let node = node();
    let id = node.id.to_string();
    let yes = [
        &*format!("node.id=={id}"),
        &*format!("NODE.ID == {}", id.to_uppercase()),
        "node.id!=other",
        "node.hostname==alpha-1",
        " Node.HostName  ==  ALPHA-1 ",
        "node.hostname!=beta",
        "node.ip==10.1.2.3",
        "node.ip!=10.1.2.4",
        "node.ip==10.0.0.0/8",
        "node.ip==0.0.0.0/0",
        "node.ip==10.1.2.3/32",
        "node.ip!=192.168.0.0/16",
        "node.ip!=fd00::/8",
        "node.ip!=::/0",
        "node.role==manager",
        "node.role==Manager",
        "node.role!=worker",
        "node.platform.os==Linux",
        "node.platform.arch==X86_64",
        "node.labels.Zone==east",
        "NODE.LABELS.Zone==EAST",
        "node.labels.zone!=east",
        "node.labels.none!=x",
        "engine.labels.gpu==2",
        "Engine.Labels.gpu!=3",
        "engine.labels.disk!=ssd",
    ];
    for text in yes {
        assert!(matches_node(&[text.into()], &node, None), "{text}");
    }
    let no = [
        "node.id!=0000000000000000000000007",
        "node.hostname==alpha",
        "node.hostname==alpha*",
        "node.ip==10.1.2.4",
        "node.ip==10.1.2.0/30x",
        "node.ip==10.1.2.0/33",
        "node.ip!=10.1.2.0/33",
        "node.ip!=nonsense",
        "node.ip==::/0",
        "node.ip!=10.0.0.0/8",
        "node.role==worker",
        "node.labels.zone==east",
        "node.labels.none==x",
        "node.labels.==x",
        "node.labels.!=x",
        "node.platform.arch==amd64",
        "engine.labels.gpu!=2",
        "node.unknown==x",
        "node.unknown!=x",
        "service==x",
        "not a constraint",
    ];
    for text in no {
        assert!(!matches_node(&[text.into()], &node, None), "{text}");
    }
}

#[test]
fn all_must_hold_and_none_is_met_by_every_node() {
    let node = node();
    let both = |a: &str, b: &str| matches_node(&[a.into(), b.into()], &node, None);
    assert!(both("node.labels.disk==ssd", "node.role==manager"));
    assert!(!both("node.labels.disk==ssd", "node.role==worker"));
    assert!(matches_node(&[], &node, None));
}

#[test]
fn the_address_is_the_one_that_the_node_is_seen_at() {
    let status = NodeStatus {
        addr: Some("[::ffff:192.168.7.7]:4000".parse().unwrap()),
        ..NodeStatus::default()
    };
    let within = |text: &str| matches_node(&[text.into()], &node(), Some(&status));
    assert!(within("node.ip==192.168.7.0/24"));
    assert!(!within("node.ip==10.1.2.3"));
    let nowhere = Node {
        addresses: Vec::new(),
        ..node()
    };
    assert!(!matches_node(
        &["node.ip==0.0.0.0/0".into()],
        &nowhere,
        None
    ));
    assert!(matches_node(&["node.ip!=10.0.0.1".into()], &nowhere, None));
}

#[test]
fn errors_have_dockers_words() {
    let operator = "constraint expected one operator from ==, !=";
    let table = [
        ("", operator),
        ("node.id", operator),
        ("node.id=x", operator),
        ("node.id<5", operator),
        ("node.id~=5", operator),
        ("==x", "key '' is invalid"),
        ("a==x", "key 'a' is invalid"),
        ("1a==x", "key '1a' is invalid"),
        ("no de==x", "key 'no de' is invalid"),
        ("node.labels.a!=b==c", "key 'node.labels.a!=b' is invalid"),
        ("né==x", "key 'né' is invalid"),
        ("node.id==", "value '' is invalid"),
        ("node.id== ", "value '' is invalid"),
        ("node.id==a,b", "value 'a,b' is invalid"),
        ("node.id==a==b", "value 'a==b' is invalid"),
        ("node.id==<5", "value '<5' is invalid"),
        ("node.id==é", "value 'é' is invalid"),
    ];
    for (text, words) in table {
        let error = Constraint::parse(text).unwrap_err();
        assert_eq!(error.to_string(), words, "{text}");
    }
    for text in ["_a==b c", "x.y-z_1!=(a|b)*[^c]$?+\\/", "node.ip==fd00::/8"] {
        Constraint::parse(text).unwrap();
    }
}
