//! What proposals change, and what they may not.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::cluster::store::fixtures::{at, cluster, id, mesh, node, proposal, secret};
use crate::model::{DependencyKind, ServiceSpec, Slot, TaskState, TaskStatus, Template};

fn put(number: u64, expect: Expect) -> Change {
    Change::PutNode(expect, Box::new(node(number)))
}

fn remove(number: u64, version: u64) -> Change {
    Change::RemoveNode(Expect::Version(version), id(number))
}

/// Applies changes to a state and returns what came of it.
fn apply(state: &mut State, changes: Vec<Change>) -> (Result<u64, Rejection>, Vec<StateEvent>) {
    let mut events = Vec::new();
    let result = state.apply(proposal(changes), &mut events);
    (result, events)
}

#[test]
fn each_guard_is_checked() {
    let mut state = State::default();
    let cases = [
        (vec![put(1, Expect::Version(1))], Err(Rejection::NotFound)),
        (vec![put(1, Expect::Absent)], Ok(1)),
        (vec![put(1, Expect::Absent)], Err(Rejection::Exists)),
        (
            vec![put(1, Expect::Version(7))],
            Err(Rejection::OutOfSequence),
        ),
        (vec![put(1, Expect::Version(1))], Ok(2)),
        (vec![remove(2, 1)], Err(Rejection::NotFound)),
        (vec![remove(1, 1)], Err(Rejection::OutOfSequence)),
        (
            vec![Change::RemoveNode(Expect::Absent, id(1))],
            Err(Rejection::Exists),
        ),
        (vec![remove(1, 2)], Ok(3)),
        (vec![put(1, Expect::Absent)], Err(Rejection::Removed(id(1)))),
        (vec![remove(1, 3)], Err(Rejection::NotFound)),
        (vec![], Ok(3)),
    ];
    for (changes, expected) in cases {
        let what = format!("{changes:?}");
        assert_eq!(apply(&mut state, changes).0, expected, "{what}");
    }
    assert_eq!(state.removed.get(&id(1)), Some(&at(1)));
}

#[test]
fn a_proposal_is_applied_whole_or_not_at_all() {
    let mut state = State::default();
    let before = state.clone();
    let (result, events) = apply(
        &mut state,
        vec![put(1, Expect::Absent), put(1, Expect::Absent)],
    );
    assert_eq!(result, Err(Rejection::Exists));
    assert_eq!((state, events), (before, Vec::new()));
}

#[test]
fn the_store_sets_versions_and_times() {
    let mut state = State::default();
    let mut made = node(1);
    made.meta.version = 99;
    let put = Change::PutNode(Expect::Absent, Box::new(made));
    apply(&mut state, vec![put]).0.unwrap();
    let mut events = Vec::new();
    let again = Proposal {
        at: at(5),
        changes: vec![
            Change::PutCluster(Expect::Absent, Box::new(cluster())),
            Change::PutNode(Expect::Version(1), Box::new(node(1))),
        ],
    };
    assert_eq!(state.apply(again, &mut events), Ok(3));
    let meta = state.nodes[&id(1)].meta;
    assert_eq!(meta.version, 3);
    assert_eq!((meta.created_at, meta.updated_at), (at(1), at(5)));
    assert_eq!(state.cluster.as_ref().unwrap().meta.version, 2);
    let versions: Vec<_> = events.iter().map(|event| event.version).collect();
    assert_eq!(versions, [2, 3]);
    let actions: Vec<_> = events.iter().map(StateEvent::action).collect();
    assert_eq!(actions, [Action::Created, Action::Updated]);
}

/// Changes that often, but not always, hold.
fn any_change() -> impl Strategy<Value = Change> {
    let expect = prop_oneof![Just(Expect::Absent), (0u64..40).prop_map(Expect::Version)];
    (0..11, 1u64..5, expect).prop_map(|(kind, number, expect)| match kind {
        0 => Change::PutCluster(expect, Box::new(cluster())),
        1 => put(number, expect),
        2 => Change::RemoveNode(expect, id(number)),
        3 => Change::PutService(expect, Box::new(service(number))),
        4 => Change::RemoveService(expect, service(number).id),
        5 => Change::PutTask(expect, Box::new(task(number))),
        6 => Change::RemoveTask(expect, task(number).id),
        7 => Change::PutDependency(expect, Box::new(secret(number))),
        8 => Change::RemoveDependency(expect, secret(number).id),
        9 => Change::PutNetwork(expect, Box::new(mesh(number))),
        _ => Change::RemoveNetwork(expect, mesh(number).id),
    })
}

fn service(number: u64) -> Service {
    Service {
        id: ServiceId::from_bits(number.into()),
        spec: ServiceSpec {
            name: format!("service-{number}"),
            ..ServiceSpec::default()
        },
        spec_version: 1,
        ..Service::default()
    }
}

/// A task of service 1 on a node of its own.
fn task(number: u64) -> Task {
    Task {
        id: TaskId::from_bits(number.into()),
        meta: Meta::default(),
        service: service(1).id,
        slot: Slot::Number(number),
        spec_version: 1,
        iteration: None,
        node: Some(id(number)),
        desired: TaskState::Running,
        status: TaskStatus::default(),
        start: None,
        generic_resources: Vec::new(),
        attachments: Vec::new(),
    }
}

/// A change, after what it needs to hold.
fn with_its_template(change: Change) -> Vec<Change> {
    let template = match &change {
        Change::PutTask(_, task) => {
            let template = Box::<Template>::default();
            Some(Change::PutTemplate(
                task.service,
                task.spec_version,
                template,
            ))
        }
        _ => None,
    };
    template.into_iter().chain([change]).collect()
}

/// Guards that hold, so that states grow.
fn with_true_guard(state: &State, change: Change) -> Change {
    let of = |version: Option<u64>| version.map_or(Expect::Absent, Expect::Version);
    let stands = |id| of(state.nodes.get(id).map(|node| node.meta.version));
    match change {
        Change::PutCluster(_, cluster) => {
            let version = state.cluster.as_ref().map(|cluster| cluster.meta.version);
            Change::PutCluster(of(version), cluster)
        }
        Change::PutNode(_, node) => Change::PutNode(stands(&node.id), node),
        Change::RemoveNode(_, id) => Change::RemoveNode(stands(&id), id),
        Change::PutService(_, service) => {
            let old = state.work.services.get(&service.id);
            Change::PutService(of(old.map(|old| old.meta.version)), service)
        }
        Change::RemoveService(_, id) => {
            let old = state.work.services.get(&id);
            Change::RemoveService(of(old.map(|old| old.meta.version)), id)
        }
        Change::PutTask(_, task) => {
            let old = state.work.tasks.get(&task.id);
            Change::PutTask(of(old.map(|old| old.meta.version)), task)
        }
        Change::RemoveTask(_, id) => {
            let old = state.work.tasks.get(&id);
            Change::RemoveTask(of(old.map(|old| old.meta.version)), id)
        }
        Change::PutDependency(_, one) => {
            let old = state.objects.dependencies.get(&one.id);
            Change::PutDependency(of(old.map(|old| old.meta.version)), one)
        }
        Change::RemoveDependency(_, id) => {
            let old = state.objects.dependencies.get(&id);
            Change::RemoveDependency(of(old.map(|old| old.meta.version)), id)
        }
        Change::PutNetwork(_, one) => {
            let old = state.objects.networks.get(&one.id);
            Change::PutNetwork(of(old.map(|old| old.meta.version)), one)
        }
        Change::RemoveNetwork(_, id) => {
            let old = state.objects.networks.get(&id);
            Change::RemoveNetwork(of(old.map(|old| old.meta.version)), id)
        }
        other @ Change::PutTemplate(..) => other,
    }
}

/// What a state's indices must be, made anew of its objects.
fn indices_hold(state: &State) {
    let work = &state.work;
    let mut by_service = BTreeMap::<_, BTreeSet<_>>::new();
    let mut by_node = BTreeMap::<_, BTreeSet<_>>::new();
    for task in work.tasks.values() {
        by_service.entry(task.service).or_default().insert(task.id);
        by_node
            .entry(task.node.unwrap())
            .or_default()
            .insert(task.id);
        assert!(work.template(task.service, task.spec_version).is_some());
    }
    for number in 1..5 {
        let of = |tasks: &mut dyn Iterator<Item = &Arc<Task>>| {
            tasks.map(|task| task.id).collect::<BTreeSet<_>>()
        };
        let (service, node) = (service(number), id(number));
        let wanted = by_service.remove(&service.id).unwrap_or_default();
        assert_eq!(of(&mut work.tasks_of(service.id)), wanted);
        let wanted = by_node.remove(&node).unwrap_or_default();
        assert_eq!(of(&mut work.tasks_on(node)), wanted);
        let named = work.service_named(&service.spec.name).map(|found| found.id);
        assert_eq!(named, work.services.get(&service.id).map(|found| found.id));
        let (objects, one, net) = (&state.objects, secret(number), mesh(number));
        let named = objects.dependency_named(one.kind, &one.spec.name);
        assert_eq!(named, objects.dependencies.get(&one.id));
        let named = objects.network_named(&net.spec.name);
        assert_eq!(named, objects.networks.get(&net.id));
    }
}

proptest! {
    /// Versions rise strictly, no object carries one above the store's, none twice, and the events
    /// lead from each state to the next.
    #[test]
    fn histories_are_consistent(
        script in prop::collection::vec((any_change(), any::<bool>()), 0..60)
    ) {
        let mut state = State::default();
        for (change, honest) in script {
            let change = if honest { with_true_guard(&state, change) } else { change };
            let before = state.clone();
            let (result, events) = apply(&mut state, with_its_template(change));
            indices_hold(&state);
            match result {
                Ok(version) => {
                    prop_assert_eq!(version, before.version + 1);
                    prop_assert_eq!(state.version, version);
                    prop_assert_eq!(events.len(), 1);
                    prop_assert_eq!(events[0].version, version);
                }
                Err(_) => {
                    prop_assert_eq!(&state, &before);
                    prop_assert!(events.is_empty());
                }
            }
            let mut versions: Vec<u64> = state.nodes.values().map(|node| node.meta.version).collect();
            versions.extend(state.cluster.as_ref().map(|cluster| cluster.meta.version));
            versions.extend(state.work.services.values().map(|one| one.meta.version));
            versions.extend(state.work.tasks.values().map(|one| one.meta.version));
            let objects = &state.objects;
            versions.extend(objects.dependencies.values().map(|one| one.meta.version));
            versions.extend(objects.networks.values().map(|one| one.meta.version));
            let count = versions.len();
            versions.sort_unstable();
            versions.dedup();
            prop_assert_eq!(versions.len(), count);
            prop_assert!(versions.last().is_none_or(|last| *last <= state.version));
            prop_assert!(state.removed.keys().all(|id| !state.nodes.contains_key(id)));
        }
    }

    /// A state that comes as a whole tells the same changes as the proposals that made it, but for
    /// what was overwritten in between.
    #[test]
    fn a_whole_state_tells_what_differs(
        first in prop::collection::vec(any_change(), 0..20),
        then in prop::collection::vec(any_change(), 0..20),
    ) {
        let mut old = State::default();
        for change in first {
            let change = with_true_guard(&old, change);
            let _ = apply(&mut old, with_its_template(change));
        }
        let mut new = old.clone();
        for change in then {
            let change = with_true_guard(&new, change);
            let _ = apply(&mut new, with_its_template(change));
        }
        let (mut services, mut tasks) = (old.work.services.clone(), old.work.tasks.clone());
        let mut replayed = (old.cluster.clone(), old.nodes.clone());
        let (mut kept, mut networks) = (old.objects.dependencies.clone(), old.objects.networks.clone());
        for event in new.changes_since(&old) {
            match event.changed {
                Changed::Cluster { old, new } => {
                    prop_assert_eq!(&replayed.0, &old);
                    replayed.0 = Some(new);
                }
                Changed::Node { id, old, new } => {
                    prop_assert_eq!(replayed.1.get(&id), old.as_ref());
                    match new {
                        Some(new) => replayed.1.insert(id, new),
                        None => replayed.1.remove(&id),
                    };
                }
                Changed::Service { id, old, new } => {
                    prop_assert_eq!(services.get(&id), old.as_ref());
                    match new {
                        Some(new) => services.insert(id, new),
                        None => services.remove(&id),
                    };
                }
                Changed::Task { id, old, new } => {
                    prop_assert_eq!(tasks.get(&id), old.as_ref());
                    match new {
                        Some(new) => tasks.insert(id, new),
                        None => tasks.remove(&id),
                    };
                }
                Changed::Dependency { id, old, new } => {
                    prop_assert_eq!(kept.get(&id), old.as_ref());
                    match new {
                        Some(new) => kept.insert(id, new),
                        None => kept.remove(&id),
                    };
                }
                Changed::Network { id, old, new } => {
                    prop_assert_eq!(networks.get(&id), old.as_ref());
                    match new {
                        Some(new) => networks.insert(id, new),
                        None => networks.remove(&id),
                    };
                }
            }
        }
        prop_assert_eq!((services, tasks), (new.work.services.clone(), new.work.tasks.clone()));
        prop_assert_eq!(replayed, (new.cluster.clone(), new.nodes.clone()));
        prop_assert_eq!((&kept, &networks), (&new.objects.dependencies, &new.objects.networks));
    }
}

#[test]
fn a_name_has_one_object_of_its_kind() {
    let mut state = State::default();
    let put = |one: Dependency| Change::PutDependency(Expect::Absent, Box::new(one));
    let named = |number, name: &str| {
        let mut one = secret(number);
        one.spec.name = name.into();
        one
    };
    apply(&mut state, vec![put(named(1, "key"))]).0.unwrap();
    let (refused, _) = apply(&mut state, vec![put(named(2, "key"))]);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "secret key already exists"
    );
    let config = Dependency {
        kind: DependencyKind::Config,
        ..named(3, "key")
    };
    apply(&mut state, vec![put(config)]).0.unwrap();
    let mut other = mesh(2);
    let net = Change::PutNetwork(Expect::Absent, Box::new(mesh(1)));
    apply(&mut state, vec![net]).0.unwrap();
    other.spec.name = mesh(1).spec.name;
    let net = Change::PutNetwork(Expect::Absent, Box::new(other));
    let (refused, _) = apply(&mut state, vec![net]);
    let words = "network with name network-1 already exists";
    assert_eq!(refused.unwrap_err().to_string(), words);
}
