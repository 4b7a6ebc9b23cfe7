//! What users ask of secrets and configs: a new one, other labels, an end.
//!
//! Called by [`term`](super::term) with a linearizable state; each gives the one change to commit. What the spec alone
//! tells was judged by the API.

use super::AdminError;
use crate::cluster::store::State;
use crate::model::{
    Change, Dependency, DependencyId, DependencyKind, DependencySpec, Expect, Rejection,
};

/// Most bytes that all secrets and configs may hold together: they are part of each snapshot, which has an end.
pub const ALL_BYTES: usize = 24 << 20;

/// The change that makes a secret or a config.
pub fn create(
    state: &State,
    id: DependencyId,
    kind: DependencyKind,
    spec: DependencySpec,
) -> Result<Change, AdminError> {
    if state.objects.dependency_named(kind, &spec.name).is_some() {
        return Err(Rejection::Taken(kind.name().into(), spec.name).into());
    }
    let all = state.objects.dependencies.values();
    let held: usize = all.map(|one| one.spec.data.len()).sum();
    if held + spec.data.len() > ALL_BYTES {
        return Err(AdminError::Invalid(format!(
            "all secrets and configs together hold at most {} MiB, and {held} bytes are in use: remove some that no \
             service needs",
            ALL_BYTES >> 20
        )));
    }
    let dependency = Dependency {
        id,
        kind,
        spec,
        ..Dependency::default()
    };
    Ok(Change::PutDependency(Expect::Absent, Box::new(dependency)))
}

/// The change that gives it other labels. Its name and its bytes are for ever; bytes that are left out stay.
pub fn update(
    state: &State,
    id: DependencyId,
    version: u64,
    wanted: DependencySpec,
) -> Result<Change, AdminError> {
    let current = find(state, id)?;
    let data = &wanted.data;
    let is_same = current.spec.name == wanted.name
        && (data.is_empty()
            || subtle::ConstantTimeEq::ct_eq(data.bytes(), current.spec.data.bytes()).into());
    if !is_same {
        return Err(AdminError::Invalid(
            "only updates to Labels are allowed".into(),
        ));
    }
    if current.meta.version != version {
        return Err(AdminError::OutOfSequence);
    }
    let mut next = current.clone();
    next.spec.labels = wanted.labels;
    Ok(Change::PutDependency(
        Expect::Version(version),
        Box::new(next),
    ))
}

/// The change that removes it; refused while a service names it.
pub fn remove(state: &State, id: DependencyId) -> Result<Change, AdminError> {
    let current = find(state, id)?;
    let text = id.to_string();
    let services = state.work.services.values();
    let mut users: Vec<&str> = services
        .filter(|service| !service.removed)
        .filter(|service| {
            let container = service.spec.task_template.container_spec.as_ref();
            let mut named = container.into_iter().flat_map(|spec| spec.dependencies());
            named.any(|one| one.kind == current.kind && one.id == text)
        })
        .map(|service| service.spec.name.as_str())
        .collect();
    users.sort_unstable();
    if users.is_empty() {
        return Ok(Change::RemoveDependency(
            Expect::Version(current.meta.version),
            id,
        ));
    }
    let plural = if users.len() == 1 { "" } else { "s" };
    Err(AdminError::Invalid(format!(
        "{} '{}' is in use by the following service{plural}: {}",
        current.kind.name(),
        current.spec.name,
        users.join(", ")
    )))
}

fn find(state: &State, id: DependencyId) -> Result<&Dependency, AdminError> {
    let found = state.objects.dependencies.get(&id).map(AsRef::as_ref);
    found.ok_or_else(|| AdminError::NotFound(format!("{id} not found")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::dependency::Payload;
    use crate::model::{Proposal, Service, ServiceId, Timestamp};

    const KEY: DependencyId = DependencyId::from_bits(7);

    fn apply(state: &mut State, change: Change) {
        let proposal = Proposal {
            at: Timestamp::from_nanos(5),
            changes: vec![change],
        };
        state.apply(proposal, &mut Vec::new()).unwrap();
    }

    fn spec(name: &str, data: &[u8]) -> DependencySpec {
        DependencySpec {
            name: name.into(),
            data: Payload::new(data.into()),
            ..DependencySpec::default()
        }
    }

    fn with_key() -> State {
        let mut state = State::default();
        let made = create(&state, KEY, DependencyKind::Secret, spec("key", b"x"));
        apply(&mut state, made.unwrap());
        state
    }

    /// A service that names the secret of [`with_key`].
    fn service(number: u128, name: &str) -> Service {
        let task = json!({"ContainerSpec": {"Secrets": [
            {"SecretID": KEY.to_string(), "SecretName": "key", "File": {"Name": "key"}}]}});
        let mut service = Service {
            id: ServiceId::from_bits(number),
            ..Service::default()
        };
        service.spec.name = name.into();
        service.spec.task_template = serde_json::from_value(task).unwrap();
        service
    }

    #[test]
    fn only_labels_change_and_only_of_what_was_read() {
        let mut state = with_key();
        let version = state.objects.dependencies[&KEY].meta.version;
        for (wanted, version, words) in [
            (
                spec("key", b"y"),
                version,
                "only updates to Labels are allowed",
            ),
            (
                spec("other", b"x"),
                version,
                "only updates to Labels are allowed",
            ),
            (spec("key", b"x"), version + 1, "update out of sequence"),
        ] {
            let refused = update(&state, KEY, version, wanted).unwrap_err();
            assert_eq!(refused.to_string(), words);
        }
        for data in [&b"x"[..], b""] {
            let mut wanted = spec("key", data);
            wanted.labels.insert("a".into(), "b".into());
            let version = state.objects.dependencies[&KEY].meta.version;
            let change = update(&state, KEY, version, wanted).unwrap();
            apply(&mut state, change);
            let now = &state.objects.dependencies[&KEY].spec;
            assert_eq!((now.data.bytes(), &*now.labels["a"]), (&b"x"[..], "b"));
        }
    }

    #[test]
    fn what_a_service_names_stays() {
        let mut state = with_key();
        for (number, name) in [(1, "web"), (2, "api")] {
            let put = Change::PutService(Expect::Absent, Box::new(service(number, name)));
            apply(&mut state, put);
        }
        let words = "secret 'key' is in use by the following services: api, web";
        assert_eq!(remove(&state, KEY).unwrap_err().to_string(), words);
        for number in [1, 2] {
            let old = state.work.services[&ServiceId::from_bits(number)].clone();
            let gone = Service {
                removed: true,
                ..Service::clone(&old)
            };
            apply(
                &mut state,
                Change::PutService(Expect::Version(old.meta.version), Box::new(gone)),
            );
        }
        let change = remove(&state, KEY).unwrap();
        apply(&mut state, change);
        assert!(state.objects.dependencies.is_empty());
    }

    #[test]
    fn there_is_an_end_to_what_all_of_them_hold() {
        let mut state = State::default();
        let big = vec![0; 1 << 20];
        let make = |state: &State, number: usize| {
            let id = DependencyId::from_bits(number as u128);
            create(
                state,
                id,
                DependencyKind::Config,
                spec(&format!("c{number}"), &big),
            )
        };
        for number in 0..ALL_BYTES >> 20 {
            let change = make(&state, number).unwrap();
            apply(&mut state, change);
        }
        let words = make(&state, 99).unwrap_err().to_string();
        assert!(words.contains("together hold at most 24 MiB"), "{words}");
        let again = create(&state, KEY, DependencyKind::Config, spec("c1", b"x"));
        assert_eq!(again.unwrap_err().to_string(), "config c1 already exists");
    }
}
