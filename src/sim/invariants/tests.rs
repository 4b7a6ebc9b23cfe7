//! Each invariant finds the history that breaks it, and nothing in one that does not.

mod work;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::history::{Answer, Ask, Entry, Life, Record};
use super::*;
use crate::cluster::store::{State, StateEvent};
use crate::model::{Meta, Timestamp};

fn id(number: u128) -> NodeId {
    NodeId::from_bits(number)
}

fn life(number: u128) -> Life {
    Life {
        node: id(number),
        count: 1,
    }
}

/// Node 7 as version `version` left it, with the number of the operation that wrote it.
fn node(version: u64, operation: u64) -> Arc<Node> {
    let mut node = Node {
        id: id(7),
        meta: Meta {
            version,
            ..Meta::default()
        },
        ..Node::default()
    };
    let labels = &mut node.spec.labels;
    labels.insert("c0".into(), operation.to_string());
    Arc::new(node)
}

fn state(version: u64) -> Arc<State> {
    let mut state = State {
        version,
        ..State::default()
    };
    state.nodes.insert(id(7), node(version, version * 10));
    Arc::new(state)
}

fn applied(version: u64, operation: u64) -> Entry {
    let changed = Changed::Node {
        id: id(7),
        old: None,
        new: Some(node(version, operation)),
    };
    Entry::Applied(life(1), StateEvent { version, changed })
}

fn asked(operation: u64) -> Entry {
    let ask = Ask::Label {
        client: 0,
        target: id(7),
    };
    Entry::Asked(operation, ask)
}

fn written(operation: u64) -> Entry {
    Entry::Answered(operation, Answer::Written(None))
}

fn nodes(numbers: &[u128]) -> BTreeSet<NodeId> {
    numbers.iter().copied().map(id).collect()
}

fn replicas(voters: &[u128], learners: &[u128]) -> Entry {
    Entry::Replicas {
        life: life(1),
        voters: nodes(voters),
        learners: nodes(learners),
    }
}

/// Checks a history in which one thing happens each second.
fn broken(entries: impl IntoIterator<Item = Entry>) -> Vec<String> {
    let records: Vec<Record> = entries
        .into_iter()
        .enumerate()
        .map(|(second, entry)| Record {
            at: Duration::from_secs(second as u64),
            entry,
        })
        .collect();
    check(&records)
}

#[track_caller]
fn breaks(expected: &str, entries: impl IntoIterator<Item = Entry>) {
    let broken = broken(entries);
    assert!(
        broken.iter().any(|what| what.starts_with(expected)),
        "expected `{expected}`, found {broken:#?}"
    );
}

#[track_caller]
fn holds(entries: impl IntoIterator<Item = Entry>) {
    assert_eq!(broken(entries), Vec::<String>::new());
}

#[test]
fn a_good_history_breaks_nothing() {
    holds([
        Entry::Began(life(1)),
        Entry::Leads(life(1), 1),
        Entry::TermBegan {
            life: life(1),
            term: 1,
            clean: true,
        },
        asked(10),
        applied(1, 10),
        Entry::Shows(life(1), state(1)),
        written(10),
        Entry::Asked(11, Ask::Read),
        Entry::Answered(11, Answer::Read(state(1))),
        asked(20),
        Entry::Answered(20, Answer::Unknown("slow".into())),
        applied(2, 20),
        Entry::Healed,
        Entry::Shows(life(1), state(2)),
    ]);
}

#[test]
fn a_lost_write_is_found() {
    let what = "acknowledged writes survive";
    breaks(what, [asked(10), written(10)]);
    breaks(
        what,
        [
            asked(10),
            applied(1, 10),
            written(10),
            Entry::Healed,
            Entry::Shows(life(1), Arc::default()),
        ],
    );
    let told = Entry::Answered(10, Answer::Written(Some(9)));
    breaks(what, [asked(10), applied(1, 10), told]);
}

#[test]
fn a_write_that_was_refused_and_done_all_the_same_is_found() {
    let refused = Entry::Answered(10, Answer::Refused("stale".into()));
    let entries = [asked(10), refused, applied(1, 10)];
    breaks("acknowledged writes survive", entries);
}

#[test]
fn a_write_that_took_effect_twice_is_found() {
    let entries = [
        asked(10),
        applied(1, 10),
        applied(2, 11),
        applied(3, 10),
        written(10),
    ];
    breaks("acknowledged writes survive", entries.clone());
    let unanswered = entries.into_iter().take(4);
    breaks("acknowledged writes survive", unanswered);
}

#[test]
fn a_stale_read_is_found() {
    let read = |number, version| {
        [
            Entry::Asked(number, Ask::Read),
            Entry::Answered(number, Answer::Read(state(version))),
        ]
    };
    let write = [asked(10), applied(2, 10), written(10)];
    let stale = write.into_iter().chain(read(11, 1));
    breaks("reads are linearizable", stale);
    breaks(
        "reads are linearizable",
        read(1, 2).into_iter().chain(read(2, 1)),
    );
}

#[test]
fn a_write_that_comes_before_what_was_confirmed_is_found() {
    let entries = [
        applied(2, 20),
        Entry::Asked(1, Ask::Read),
        Entry::Answered(1, Answer::Read(state(3))),
        asked(20),
        written(20),
    ];
    breaks("reads are linearizable: write", entries);
}

#[test]
fn a_read_of_another_state_is_found() {
    let mut other = State::clone(&state(3));
    other.nodes.clear();
    let entries = [
        Entry::Shows(life(1), state(3)),
        Entry::Asked(1, Ask::Read),
        Entry::Answered(1, Answer::Read(Arc::new(other))),
    ];
    breaks("reads are linearizable", entries);
}

#[test]
fn replicas_that_differ_are_found() {
    let mut other = State::clone(&state(3));
    other.nodes.clear();
    let entries = [
        Entry::Shows(life(1), state(3)),
        Entry::Shows(life(2), Arc::new(other)),
    ];
    breaks("replicas agree", entries);
    breaks("replicas agree", [applied(1, 10), applied(1, 11)]);
}

#[test]
fn versions_that_fall_are_found() {
    let entries = [
        Entry::Shows(life(1), state(3)),
        Entry::Shows(life(1), state(2)),
    ];
    breaks("versions only rise", entries);
    let mut ahead = State::clone(&state(3));
    ahead.nodes.insert(id(7), node(4, 40));
    let entries = [Entry::Shows(life(1), Arc::new(ahead))];
    breaks("versions only rise", entries);
}

#[test]
fn an_object_that_was_created_twice_is_found() {
    let mut again = Node::clone(&node(2, 20));
    again.meta.created_at = Timestamp::from_nanos(1);
    let changed = Changed::Node {
        id: id(7),
        old: None,
        new: Some(Arc::new(again)),
    };
    let event = StateEvent {
        version: 2,
        changed,
    };
    let entries = [applied(1, 10), Entry::Applied(life(1), event)];
    breaks("versions only rise", entries);
}

#[test]
fn a_store_that_does_not_open_is_found() {
    let unopened = Entry::Unopened(life(1), "it is damaged".into());
    breaks("stores open", [unopened]);
}

#[test]
fn two_leaders_of_a_term_are_found() {
    let entries = [Entry::Leads(life(1), 4), Entry::Leads(life(2), 4)];
    breaks("one leader per term", entries);
}

#[test]
fn work_of_an_old_term_is_found() {
    let began = |term, clean| Entry::TermBegan {
        life: life(1),
        term,
        clean,
    };
    breaks("old terms are over", [began(4, true), began(5, false)]);
    breaks("old terms are over", [began(5, true), began(4, true)]);
    let used = Entry::OldTermUsed {
        life: life(1),
        term: 4,
        worked: true,
    };
    breaks("old terms are over", [used]);
    let obeys = |term| Entry::Obeys {
        life: life(2),
        term,
        in_session: true,
    };
    breaks("old terms are over", [obeys(5), obeys(4)]);
}

#[test]
fn a_removed_node_that_comes_back_is_found() {
    let mut without = State {
        version: 3,
        ..State::default()
    };
    without.removed.insert(id(7), Timestamp::default());
    let removed = Entry::Shows(life(1), Arc::new(without));
    let back = Entry::Shows(life(2), state(4));
    breaks("removed stays out", [removed.clone(), back]);
    let entries = [
        Entry::Leads(life(1), 1),
        replicas(&[1], &[]),
        removed,
        replicas(&[1], &[7]),
    ];
    breaks("removed stays out", entries);
    let entries = [
        Entry::Asked(1, Ask::Remove(id(7))),
        written(1),
        Entry::Asked(2, Ask::Join(id(7))),
        written(2),
    ];
    breaks("removed stays out", entries);
}

#[test]
fn a_voter_that_was_badly_chosen_is_found() {
    let lead = [Entry::Began(life(2)), Entry::Leads(life(1), 1)];
    let chosen = |entries: Vec<Entry>| lead.clone().into_iter().chain(entries);
    let good = vec![replicas(&[1], &[2]), replicas(&[1, 2], &[])];
    holds(chosen(good));
    let no_replica = vec![replicas(&[1], &[]), replicas(&[1, 2], &[])];
    breaks("the quorum heals", chosen(no_replica));
    let behind = vec![
        Entry::Shows(life(1), state(1000)),
        replicas(&[1], &[2]),
        replicas(&[1, 2], &[]),
    ];
    breaks("the quorum heals", chosen(behind));
    let mut dead = vec![Entry::Ended(life(2)), replicas(&[1], &[2])];
    dead.extend((0..20).map(|_| Entry::Fault("time passes".into())));
    dead.push(replicas(&[1, 2], &[]));
    breaks("the quorum heals", chosen(dead));
}
