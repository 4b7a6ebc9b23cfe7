//! One list of many: what nodes have said of containers, images and volumes. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::ask::Peer;

/// Tells in the labels of what is listed which node it is on.
pub(super) const NODE_LABEL: &str = "skein.node";

/// What nodes said, each a list at `key`, or the answer itself.
fn items<'a>(
    answers: &'a mut [(Peer, Value)],
    key: Option<&str>,
) -> Vec<(&'a Peer, Map<String, Value>)> {
    let mut all = Vec::new();
    for (peer, answer) in answers {
        let list = match key {
            Some(key) => &mut answer[key],
            None => answer,
        };
        if let Value::Array(list) = list.take() {
            for item in list {
                if let Value::Object(item) = item {
                    all.push((&*peer, item));
                }
            }
        }
    }
    all
}

/// Says of an object where it is.
fn mark(item: &mut Map<String, Value>, peer: &Peer) {
    let Some(node) = peer.node else { return };
    item.insert(
        "Node".into(),
        json!({ "ID": node.to_string(), "Name": peer.name }),
    );
    let labels = item.entry("Labels").or_insert(Value::Null);
    if !labels.is_object() {
        *labels = json!({});
    }
    labels[NODE_LABEL] = peer.name.clone().into();
}

/// The names that more than one of these have.
fn clashes(names: impl Iterator<Item = String>) -> BTreeSet<String> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        *count.entry(name).or_default() += 1;
    }
    let several = count.into_iter().filter(|(_, count)| *count > 1);
    several.map(|(name, _)| name).collect()
}

fn text(item: &Map<String, Value>, key: &str) -> String {
    item.get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn number(item: &Map<String, Value>, key: &str) -> i64 {
    item.get(key).and_then(Value::as_i64).unwrap_or_default()
}

fn first_name(item: &Map<String, Value>) -> String {
    let name = item.get("Names").and_then(|names| names[0].as_str());
    name.unwrap_or_default().to_owned()
}

/// Containers, the newest first, `limit` at most.
pub(super) fn containers(
    answers: &mut [(Peer, Value)],
    key: Option<&str>,
    limit: Option<usize>,
) -> Vec<Value> {
    let mut all = items(answers, key);
    let several = clashes(all.iter().map(|(_, item)| first_name(item)));
    for (peer, item) in &mut all {
        let name = first_name(item);
        if several.contains(&name) {
            item.insert("Names".into(), json!([format!("{name}@{}", peer.name)]));
        }
        mark(item, peer);
    }
    all.sort_by_key(|(_, item)| std::cmp::Reverse((number(item, "Created"), text(item, "Id"))));
    let all = all.into_iter().map(|(_, item)| Value::Object(item));
    all.take(limit.unwrap_or(usize::MAX)).collect()
}

/// Images: one line for each, however many nodes have it; what is called the same and is not the same are two.
pub(super) fn images(answers: &mut [(Peer, Value)], key: Option<&str>) -> Vec<Value> {
    let mut by_id: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (peer, mut item) in items(answers, key) {
        let node = json!({ "ID": peer.node.map(|node| node.to_string()), "Name": peer.name });
        let id = text(&item, "Id");
        let Some(known) = by_id.get_mut(&id) else {
            if peer.node.is_some() {
                item.insert("Nodes".into(), json!([node]));
            }
            by_id.insert(id, item);
            continue;
        };
        for key in ["RepoTags", "RepoDigests"] {
            let names = [known.get(key), item.get(key)].into_iter().flatten();
            let names = names.filter_map(Value::as_array).flatten();
            let names: BTreeSet<&str> = names.filter_map(Value::as_str).collect();
            let names = json!(names);
            known.insert(key.into(), names);
        }
        let users = [number(known, "Containers"), number(&item, "Containers")];
        let users = if users.iter().all(|count| *count >= 0) {
            users.iter().sum()
        } else {
            users[0].max(users[1])
        };
        known.insert("Containers".into(), users.into());
        if let Some(Value::Array(nodes)) = known.get_mut("Nodes") {
            nodes.push(node);
        }
    }
    let mut all: Vec<_> = by_id.into_values().collect();
    all.sort_by_key(|item| std::cmp::Reverse((number(item, "Created"), text(item, "Id"))));
    all.into_iter().map(Value::Object).collect()
}

/// Volumes, by name.
pub(super) fn volumes(answers: &mut [(Peer, Value)]) -> Vec<Value> {
    let mut all = items(answers, Some("Volumes"));
    let several = clashes(all.iter().map(|(_, item)| text(item, "Name")));
    for (peer, item) in &mut all {
        let name = text(item, "Name");
        if several.contains(&name) {
            item.insert("Name".into(), format!("{name}@{}", peer.name).into());
        }
        mark(item, peer);
    }
    all.sort_by_key(|(_, item)| text(item, "Name"));
    all.into_iter()
        .map(|(_, item)| Value::Object(item))
        .collect()
}

/// What was removed everywhere: the lists at `key` behind one another, and the sum of what was reclaimed.
pub(super) fn pruned(answers: &[(Peer, Value)], key: &str) -> Value {
    let lists = answers.iter().filter_map(|(_, said)| said[key].as_array());
    let gone: Vec<&Value> = lists.flatten().collect();
    let gone = if gone.is_empty() {
        Value::Null
    } else {
        json!(gone)
    };
    json!({ key: gone, "SpaceReclaimed": sum(answers, "SpaceReclaimed") })
}

/// The sum of a number that each node says.
pub(super) fn sum(answers: &[(Peer, Value)], key: &str) -> i64 {
    let numbers = answers.iter().filter_map(|(_, said)| said[key].as_i64());
    numbers.fold(0, i64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeId;

    fn peer(number: u128) -> Peer {
        Peer {
            node: Some(NodeId::from_bits(number)),
            name: format!("node{number}"),
            alive: true,
            own: number == 1,
        }
    }

    #[test]
    fn names_that_clash_carry_their_node() {
        let mut answers = [
            (
                peer(1),
                json!([{"Id": "a", "Names": ["/web"], "Created": 5, "Labels": {"k": "v"}}]),
            ),
            (
                peer(2),
                json!([
                    {"Id": "b", "Names": ["/web"], "Created": 7, "Labels": null},
                    {"Id": "c", "Names": ["/db"], "Created": 6},
                ]),
            ),
        ];
        let all = containers(&mut answers.clone(), None, None);
        let names: Vec<_> = all.iter().map(|item| &item["Names"][0]).collect();
        assert_eq!(names, ["/web@node2", "/db", "/web@node1"]);
        assert_eq!(all[2]["Labels"], json!({"k": "v", "skein.node": "node1"}));
        assert_eq!(all[0]["Labels"], json!({"skein.node": "node2"}));
        assert_eq!(all[0]["Node"]["Name"], "node2");
        let newest = containers(&mut answers, None, Some(1));
        assert_eq!((newest.len(), &newest[0]["Id"]), (1, &json!("b")));
    }

    #[test]
    fn an_image_of_many_nodes_is_one() {
        let image = |id: &str, tag: &str, users: i64| json!({"Id": id, "RepoTags": [tag], "RepoDigests": [], "Created": 1, "Containers": users});
        let mut answers = [
            (peer(1), json!([image("x", "a:1", 2)])),
            (
                peer(2),
                json!([image("x", "a:2", 3), image("y", "a:1", -1)]),
            ),
        ];
        let all = images(&mut answers, None);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1]["RepoTags"], json!(["a:1", "a:2"]));
        assert_eq!(all[1]["Containers"], 5);
        assert_eq!(all[1]["Nodes"][1]["Name"], "node2");
        assert_eq!(all[0]["Containers"], -1);
    }

    #[test]
    fn volumes_of_one_name_are_two_and_say_so() {
        let of = |names: &[&str]| {
            let volumes: Vec<_> = names.iter().map(|name| json!({"Name": name})).collect();
            json!({ "Volumes": volumes })
        };
        let mut answers = [(peer(1), of(&["data", "logs"])), (peer(2), of(&["data"]))];
        let all = volumes(&mut answers);
        let names: Vec<_> = all.iter().map(|item| &item["Name"]).collect();
        assert_eq!(names, ["data@node1", "data@node2", "logs"]);
    }

    #[test]
    fn what_was_removed_is_added_up() {
        let said =
            |names: Value, bytes: i64| json!({"VolumesDeleted": names, "SpaceReclaimed": bytes});
        let answers = [
            (peer(1), said(Value::Null, 0)),
            (peer(2), said(json!(["a"]), 7)),
        ];
        let all = pruned(&answers, "VolumesDeleted");
        assert_eq!(all, json!({"VolumesDeleted": ["a"], "SpaceReclaimed": 7}));
        let none = pruned(&answers[..1], "VolumesDeleted");
        assert_eq!(none["VolumesDeleted"], Value::Null);
    }
}
