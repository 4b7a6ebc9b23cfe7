//! What users ask of services: a new one, another spec, the one from before, an end.
//!
//! Called by [`term`](super::term) with a linearizable state; each gives the one change to commit. What the spec alone
//! tells was judged by the API; what needs the state is judged here. Never touches a task: the leader's loop does what
//! follows.

use super::AdminError;
use crate::cluster::store::State;
use crate::model::cluster::Secret;
use crate::model::service::{JobStatus, Previous, UpdateState, UpdateStatus};
use crate::model::service_spec::{Mode, ServiceMode};
use crate::model::{
    AuthFrom, Change, Expect, Rejection, Service, ServiceId, ServiceSpec, ServiceUpdate, Timestamp,
};

/// The change that makes a service.
pub fn create(
    state: &State,
    id: ServiceId,
    spec: ServiceSpec,
    registry_auth: Secret,
    now: Timestamp,
) -> Result<Change, AdminError> {
    if state.work.service_named(&spec.name).is_some() {
        return Err(Rejection::NameTaken(spec.name).into());
    }
    let job = spec.mode.read().is_job().then_some(JobStatus {
        iteration: 0,
        last_execution: now,
    });
    let service = Service {
        id,
        spec,
        spec_version: 1,
        registry_auth,
        job,
        ..Service::default()
    };
    Ok(Change::PutService(Expect::Absent, Box::new(service)))
}

/// The change that gives a service another spec, or the one from before.
pub fn update(
    state: &State,
    id: ServiceId,
    version: u64,
    wanted: ServiceUpdate,
    now: Timestamp,
) -> Result<Change, AdminError> {
    let current = find(state, id)?;
    if current.meta.version != version {
        return Err(AdminError::OutOfSequence);
    }
    let next = match wanted.rollback {
        true => rolled_back(current, now)?,
        false => changed(current, wanted)?,
    };
    let next = Service {
        // Versions name what tasks were made of, so none is used twice.
        spec_version: current.spec_version + 1,
        job: current.job.map(|job| JobStatus {
            iteration: job.iteration + 1,
            last_execution: now,
        }),
        ..next
    };
    Ok(Change::PutService(Expect::Version(version), Box::new(next)))
}

/// The change that ends a service; it goes with the last of its tasks.
pub fn remove(state: &State, id: ServiceId) -> Result<Change, AdminError> {
    let current = find(state, id)?;
    let next = Service {
        removed: true,
        ..Service::clone(current)
    };
    let expect = Expect::Version(current.meta.version);
    Ok(Change::PutService(expect, Box::new(next)))
}

/// To users a service that is removed is not there any more.
fn find(state: &State, id: ServiceId) -> Result<&Service, AdminError> {
    let found = state.work.services.get(&id);
    let found = found.filter(|service| !service.removed);
    found
        .map(AsRef::as_ref)
        .ok_or(AdminError::NoSuchService(id))
}

fn changed(current: &Service, wanted: ServiceUpdate) -> Result<Service, AdminError> {
    if wanted.spec.name != current.spec.name {
        return Err(unsupported("renaming services is not supported"));
    }
    if kind(&wanted.spec.mode) != kind(&current.spec.mode) {
        return Err(unsupported("service mode change is not allowed"));
    }
    let registry_auth = match wanted.registry_auth {
        AuthFrom::Given(secret) => secret,
        AuthFrom::Spec => current.registry_auth.clone(),
        AuthFrom::PreviousSpec => previous(current)?.registry_auth.clone(),
    };
    Ok(Service {
        spec: wanted.spec,
        registry_auth,
        previous: Some(before(current)),
        update: None,
        ..current.clone()
    })
}

/// Back to what it was; what it is becomes what a second rollback goes back to. A job has no update that could go back
/// step by step: it runs once more.
fn rolled_back(current: &Service, now: Timestamp) -> Result<Service, AdminError> {
    let previous = previous(current)?;
    let goes_back = UpdateStatus {
        state: UpdateState::RollbackStarted,
        started_at: now,
        message: "manually requested rollback".into(),
        ..UpdateStatus::default()
    };
    Ok(Service {
        spec: previous.spec.clone(),
        registry_auth: previous.registry_auth.clone(),
        previous: Some(before(current)),
        update: current.job.is_none().then_some(goes_back),
        ..current.clone()
    })
}

fn previous(current: &Service) -> Result<&Previous, AdminError> {
    let none = || {
        let name = &current.spec.name;
        AdminError::Invalid(format!("service {name} does not have a previous spec"))
    };
    current.previous.as_deref().ok_or_else(none)
}

fn before(current: &Service) -> Box<Previous> {
    Box::new(Previous {
        spec: current.spec.clone(),
        spec_version: current.spec_version,
        registry_auth: current.registry_auth.clone(),
    })
}

/// A mode without its numbers.
fn kind(mode: &ServiceMode) -> (bool, bool) {
    let mode: Mode = mode.read();
    (mode.is_job(), mode.is_global())
}

fn unsupported(words: &str) -> AdminError {
    AdminError::Unsupported(words.into())
}

#[cfg(test)]
mod tests;
