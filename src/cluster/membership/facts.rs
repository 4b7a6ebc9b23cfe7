//! A node's facts as gossip keys and values, and back.
//!
//! Each field of [`NodeFacts`] is one key with JSON as its value, so that a change of one field travels
//! alone. Reading never fails: who reads is not who wrote, so a value that makes no sense is left out.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::facts::key;
use crate::model::plane::Endpoint;
use crate::model::{NodeFacts, NodeId};

/// Addresses of one node that are taken from gossip; more are ignored.
pub const MAX_ADDRESSES: usize = 16;

/// Bytes of a value that this node gossips: one that is longer than a message could never be sent.
pub const MAX_VALUE: usize = 4096;

/// Keys that change often and that nobody waits for: they spread with the ordinary rounds.
const LAZY: [&str; 1] = [key::LAST_LOG];

/// This room's own key: members that this node doubts, as a JSON list. When one member doubts another, all look.
pub(super) const DOUBTS: &str = "doubts";

/// The value of [`DOUBTS`] when there are none.
pub(super) const NO_DOUBTS: &str = "[]";

/// Members that one node doubts at a time, as far as others take notice.
pub(super) const MAX_DOUBTS: usize = 16;

/// Whether a change of this key is to be passed on at once.
pub(super) fn is_urgent(key: &str, value: &str) -> bool {
    !LAZY.contains(&key) && (key != DOUBTS || value != NO_DOUBTS)
}

/// Whom a node doubts, by the value of its [`DOUBTS`].
pub(super) fn doubts(value: Option<&str>) -> BTreeSet<NodeId> {
    let doubts: Vec<NodeId> = value.and_then(parse).unwrap_or_default();
    doubts.into_iter().take(MAX_DOUBTS).collect()
}

/// The keys and values that say `facts`; a field that says nothing has no key. Endpoints are in parts, of which others
/// decide: see [`buckets`](crate::agent::network::buckets).
pub fn encode(facts: &NodeFacts) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    let mut put = |key, value: Option<String>| out.extend(value.map(|value| (key, value)));
    put(
        key::ADDRESSES,
        (!facts.addresses.is_empty()).then(|| json(&facts.addresses)),
    );
    put(key::DESCRIPTION, facts.description.as_ref().map(json));
    put(key::STANDING, Some(json(&facts.standing)));
    put(key::LEADER, facts.leader.as_ref().map(json));
    put(key::LAST_LOG, facts.last_log.as_ref().map(json));
    put(key::PHASE, Some(json(&facts.phase)));
    out
}

/// The facts that these keys and values say. Unknown keys are a later version's business.
pub fn decode<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> NodeFacts {
    let mut facts = NodeFacts::default();
    for (name, value) in pairs {
        match name {
            key::ADDRESSES => facts.addresses = addresses(value),
            key::DESCRIPTION => facts.description = parse(value),
            key::STANDING => facts.standing = parse(value).unwrap_or_default(),
            key::LEADER => facts.leader = parse(value),
            key::LAST_LOG => facts.last_log = parse(value),
            key::PHASE => facts.phase = parse(value).unwrap_or_default(),
            name if key::ENDPOINTS.contains(&name) => {
                let part: Vec<Endpoint> = parse(value).unwrap_or_default();
                facts.endpoints.get_or_insert_default().extend(part);
            }
            _ => {}
        }
    }
    facts
}

fn addresses(value: &str) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = parse(value).unwrap_or_default();
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

/// The value of one key.
pub fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("facts hold no map with keys other than text")
}

fn parse<T: DeserializeOwned>(value: &str) -> Option<T> {
    serde_json::from_str(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::facts::{LeaderHint, Phase};
    use crate::model::{NodeDescription, Standing};

    fn facts() -> NodeFacts {
        NodeFacts {
            addresses: vec![
                "192.0.2.7:2377".parse().unwrap(),
                "[2001:db8::1]:2377".parse().unwrap(),
            ],
            description: Some(NodeDescription {
                hostname: "gänse".into(),
                ..NodeDescription::default()
            }),
            standing: Standing::Eligible,
            leader: Some(LeaderHint {
                term: 3,
                leader: NodeId::from_bits(5),
            }),
            last_log: Some((3, 99)),
            phase: Phase::Restarting,
            endpoints: None,
        }
    }

    fn read(pairs: &[(&'static str, String)]) -> NodeFacts {
        decode(pairs.iter().map(|(key, value)| (*key, value.as_str())))
    }

    #[test]
    fn facts_round_trip() {
        assert_eq!(read(&encode(&facts())), facts());
        assert_eq!(read(&encode(&NodeFacts::default())), NodeFacts::default());
    }

    #[test]
    fn a_value_that_makes_no_sense_is_left_out_alone() {
        let mut pairs = encode(&facts());
        for pair in &mut pairs {
            if pair.0 == key::STANDING || pair.0 == key::ADDRESSES {
                pair.1 = "{".into();
            }
        }
        let read = read(&pairs);
        assert_eq!(read.standing, Standing::default());
        assert!(read.addresses.is_empty());
        assert_eq!(read.leader, facts().leader);
        assert_eq!(read.phase, Phase::Restarting);
    }

    #[test]
    fn endpoints_come_in_parts() {
        let one = |name: &str| Endpoint {
            name: name.into(),
            ..Endpoint::default()
        };
        let part = |at: usize, names: &[&str]| {
            let part: Vec<Endpoint> = names.iter().map(|name| one(name)).collect();
            (key::ENDPOINTS[at], json(&part))
        };
        let said = read(&[part(0, &[]), part(7, &["a", "b"]), part(9, &["c"])]);
        assert_eq!(said.endpoints, Some(vec![one("a"), one("b"), one("c")]));
        assert_eq!(read(&[part(0, &[])]).endpoints, Some(Vec::new()));
        assert_eq!(read(&[]).endpoints, None);
    }

    #[test]
    fn addresses_are_bounded() {
        let many = NodeFacts {
            addresses: (0..200)
                .map(|port| SocketAddr::from(([192, 0, 2, 1], port)))
                .collect(),
            ..NodeFacts::default()
        };
        let pairs = encode(&many);
        assert_eq!(read(&pairs).addresses, many.addresses[..MAX_ADDRESSES]);
    }

    proptest! {
        #[test]
        fn no_text_panics(pairs: Vec<(String, String)>, value: String) {
            decode(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
            for (name, _) in encode(&facts()) {
                decode(std::iter::once((name, value.as_str())));
            }
        }
    }
}
