//! What users may ask of services, and what they are told when they may not.

use super::*;

const ID: ServiceId = ServiceId::from_bits(7);
const NOW: Timestamp = Timestamp::from_nanos(5);

fn spec(name: &str, image: &str) -> ServiceSpec {
    let spec = serde_json::json!({
        "Name": name,
        "TaskTemplate": {"ContainerSpec": {"Image": image}},
        "Mode": {"Replicated": {"Replicas": 2}},
    });
    serde_json::from_value(spec).unwrap()
}

fn apply(state: &mut State, change: Change) {
    let proposal = crate::model::Proposal {
        at: NOW,
        changes: vec![change],
    };
    state.apply(proposal, &mut Vec::new()).unwrap();
}

/// A cluster with one service, `web`.
fn with_web() -> State {
    let mut state = State::default();
    let auth = Secret("first".into());
    let change = create(&state, ID, spec("web", "web:1"), auth, NOW).unwrap();
    apply(&mut state, change);
    state
}

fn web(state: &State) -> &Service {
    &state.work.services[&ID]
}

fn change(state: &mut State, wanted: ServiceUpdate) {
    let version = web(state).meta.version;
    let change = update(state, ID, version, wanted, NOW).unwrap();
    apply(state, change);
}

fn to(image: &str, registry_auth: AuthFrom) -> ServiceUpdate {
    ServiceUpdate {
        spec: spec("web", image),
        rollback: false,
        registry_auth,
    }
}

fn back() -> ServiceUpdate {
    ServiceUpdate {
        rollback: true,
        ..ServiceUpdate::default()
    }
}

fn refusal(state: &State, wanted: ServiceUpdate) -> String {
    let version = web(state).meta.version;
    let refused = update(state, ID, version, wanted, NOW);
    refused.unwrap_err().to_string()
}

#[test]
fn a_name_is_taken_until_its_service_is_removed_and_no_longer() {
    let mut state = with_web();
    let other = ServiceId::from_bits(8);
    let again = |state: &State| create(state, other, spec("web", "web:1"), Secret::default(), NOW);
    assert_eq!(
        again(&state).unwrap_err().to_string(),
        "name conflicts with an existing object: service web already exists"
    );
    let gone = remove(&state, ID).unwrap();
    apply(&mut state, gone);
    assert!(web(&state).removed);
    assert_eq!(
        remove(&state, ID).unwrap_err(),
        AdminError::NoSuchService(ID)
    );
    let change = again(&state).unwrap();
    apply(&mut state, change);
    assert_eq!(state.work.service_named("web").unwrap().id, other);
    // The old one changes once more, and goes: the name stays with the new one.
    let old = web(&state).clone();
    let version = old.meta.version;
    apply(
        &mut state,
        Change::PutService(Expect::Version(version), Box::new(old)),
    );
    let version = web(&state).meta.version;
    apply(
        &mut state,
        Change::RemoveService(Expect::Version(version), ID),
    );
    assert_eq!(state.work.service_named("web").unwrap().id, other);
}

#[test]
fn a_change_keeps_what_was_and_a_rollback_goes_back_and_forth() {
    let mut state = with_web();
    change(
        &mut state,
        to("web:2", AuthFrom::Given(Secret("second".into()))),
    );
    assert_eq!(web(&state).spec, spec("web", "web:2"));
    assert_eq!(web(&state).spec_version, 2);
    assert_eq!(web(&state).registry_auth, Secret("second".into()));
    assert_eq!(web(&state).update, None);

    for (image, auth, version) in [("web:1", "first", 3), ("web:2", "second", 4)] {
        change(&mut state, back());
        let now = web(&state);
        assert_eq!(now.spec, spec("web", image));
        assert_eq!(now.registry_auth, Secret(auth.into()));
        assert_eq!(now.spec_version, version);
        let status = now.update.as_ref().unwrap();
        assert_eq!(status.state, UpdateState::RollbackStarted);
        assert_eq!(status.message, "manually requested rollback");
    }
    change(&mut state, to("web:3", AuthFrom::PreviousSpec));
    assert_eq!(web(&state).registry_auth, Secret("first".into()));
    assert_eq!(web(&state).update, None);
}

/// Nobody updates a job, so a rollback of one that is said to have begun would never end.
#[test]
fn a_job_that_goes_back_runs_again_and_is_not_said_to_be_updated() {
    let mut state = State::default();
    let job = |image| {
        let mode = serde_json::json!({"ReplicatedJob": {"MaxConcurrent": 1}});
        ServiceSpec {
            mode: serde_json::from_value(mode).unwrap(),
            ..spec("web", image)
        }
    };
    let made = create(&state, ID, job("web:1"), Secret::default(), NOW).unwrap();
    apply(&mut state, made);
    let another = ServiceUpdate {
        spec: job("web:2"),
        ..ServiceUpdate::default()
    };
    change(&mut state, another);
    change(&mut state, back());
    let now = web(&state);
    assert_eq!((&now.spec, &now.update), (&job("web:1"), &None));
    assert_eq!(now.job.unwrap().iteration, 2);
}

#[test]
fn what_may_not_be_is_said_in_dockers_words() {
    let state = with_web();
    assert_eq!(
        refusal(&state, back()),
        "service web does not have a previous spec"
    );
    let renamed = ServiceUpdate {
        spec: spec("other", "web:1"),
        ..ServiceUpdate::default()
    };
    assert_eq!(
        refusal(&state, renamed),
        "renaming services is not supported"
    );
    let mut global = spec("web", "web:1");
    global.mode = serde_json::from_str(r#"{"Global": {}}"#).unwrap();
    let global = ServiceUpdate {
        spec: global,
        ..ServiceUpdate::default()
    };
    assert_eq!(
        refusal(&state, global),
        "service mode change is not allowed"
    );
    let stale = update(&state, ID, 0, to("web:2", AuthFrom::Spec), NOW);
    assert_eq!(stale.unwrap_err(), AdminError::OutOfSequence);
    let unknown = ServiceId::from_bits(9);
    let missing = update(&state, unknown, 1, to("web:2", AuthFrom::Spec), NOW);
    let words = missing.unwrap_err().to_string();
    assert_eq!(words, format!("service {unknown} not found"));
}

#[test]
fn each_change_of_a_job_is_another_run() {
    let mut state = State::default();
    let mut job = spec("job", "job:1");
    job.mode = serde_json::from_str(r#"{"ReplicatedJob": {"MaxConcurrent": 2}}"#).unwrap();
    let change = create(&state, ID, job.clone(), Secret::default(), NOW).unwrap();
    apply(&mut state, change);
    assert_eq!(web(&state).job.unwrap().iteration, 0);
    let wanted = ServiceUpdate {
        spec: job,
        ..ServiceUpdate::default()
    };
    let later = Timestamp::from_nanos(9);
    let version = web(&state).meta.version;
    let change = update(&state, ID, version, wanted, later).unwrap();
    apply(&mut state, change);
    let run = web(&state).job.unwrap();
    assert_eq!((run.iteration, run.last_execution), (1, later));
}
