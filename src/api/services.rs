//! `/services`: list, inspect, create, update, remove. Each runs at the leader.
//!
//! | file | holds |
//! |---|---|
//! | `request` | what a client sends |
//! | `check`, `surroundings`, `problem` | what is refused, and in which words |
//! | `stored` | what is filled in |
//! | `names` | names for services without one |
//! | `count` | how many tasks run |

mod check;
mod count;
mod names;
mod problem;
mod request;
mod stored;
mod surroundings;

use futures_util::future::BoxFuture;

use self::problem::SpecProblem;
use super::backend::{ClusterView, Leader};
use super::call::Call;
use super::dto::service::{Created, ServiceDto, Updated};
use super::error::{Handled, created, done, json};
use super::filters::Filters;
use super::lookup::{self, LookupError};
use crate::model::service_spec::{Mode, ServiceMode};
use crate::model::{Service, ServiceSpec};

/// The service that a request's body describes.
#[cfg(any(test, fuzzing))]
pub(super) fn spec_of(call: &Call) -> Result<ServiceSpec, super::backend::Refusal> {
    let state = crate::cluster::store::State::default();
    request::spec(call, &state, None, || "made-up".into())
}

/// What `GET /services` filters by.
const FILTERS: &[&str] = &["id", "label", "mode", "name", "runtime"];

/// `GET /services`.
pub(super) fn list<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let filters = Filters::parse(call.params.text("filters"), FILTERS)?;
        let with_status = call.params.strict_flag("status")?;
        let view = leader.view().await?;
        let found: Vec<ServiceDto<'_>> = visible(&view)
            .filter(|service| fits(&filters, service))
            .map(|service| {
                let shown = ServiceDto::of(service, None, &view.state.objects);
                match with_status {
                    true => shown.with_status(count::status(&view, service)),
                    false => shown,
                }
            })
            .collect();
        Ok(json(&found))
    })
}

/// `GET /services/{id}`.
pub(super) fn inspect<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let with_defaults = call.params.strict_flag("insertDefaults")?;
        let view = leader.view().await?;
        let service = find(&view, &call.id)?;
        let spec = with_defaults.then(|| stored::with_defaults(service.spec.clone()));
        Ok(json(&ServiceDto::of(service, spec, &view.state.objects)))
    })
}

/// `POST /services/create`.
pub(super) fn create<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let taken = |name: &str| view.state.work.service_named(name).is_some();
        let name = || names::made_up(rand::random(), taken);
        let spec = request::spec(call, &view.state, None, name)?;
        let auth = request::registry_auth(&call.headers)?.unwrap_or_default();
        let id = leader.create_service(spec, auth).await?;
        Ok(created(&Created {
            id: id.to_string(),
            warnings: None,
        }))
    })
}

/// `POST /services/{id}/update`.
pub(super) fn update<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let version = call.params.version("service")?;
        let view = leader.view().await?;
        let service = find(&view, &call.id)?;
        // Docker makes up a name here as well, and then refuses it.
        let name = || names::made_up(0, |name| name == service.spec.name);
        let spec = request::spec(call, &view.state, Some(service.id), name)?;
        may_become(&service.spec, &spec)?;
        let update = request::update(call, spec)?;
        leader.update_service(service.id, version, update).await?;
        Ok(json(&Updated::default()))
    })
}

/// `DELETE /services/{id}`.
pub(super) fn remove<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let service = find(&view, &call.id)?;
        leader.remove_service(service.id).await?;
        Ok(done())
    })
}

/// The services that there are: one that is removed is gone for its users, though its tasks still end.
fn visible(view: &ClusterView) -> impl Iterator<Item = &Service> {
    let services = view.state.work.services.values().map(AsRef::as_ref);
    services.filter(|service: &&Service| !service.removed)
}

/// The service that a user means by an ID, a name or the beginning of an ID.
pub(super) fn find<'a>(view: &'a ClusterView, input: &str) -> Result<&'a Service, LookupError> {
    lookup::find(
        "service",
        input,
        visible(view),
        |service: &Service| service.id.to_string(),
        |service| [service.spec.name.as_str()],
    )
}

fn fits(filters: &Filters, service: &Service) -> bool {
    let spec = &service.spec;
    // Without a wish only containers are shown, and nothing else is let in.
    filters.exact("runtime", &spec.task_template.runtime)
        && filters.exact("mode", mode_word(&spec.mode))
        && filters.prefix("id", &service.id.to_string())
        && filters.prefix("name", &spec.name)
        && filters.labels("label", &spec.labels)
}

fn mode_word(mode: &ServiceMode) -> &'static str {
    match mode.read() {
        Mode::Replicated { .. } => "replicated",
        Mode::Global => "global",
        Mode::ReplicatedJob { .. } => "replicated-job",
        Mode::GlobalJob => "global-job",
    }
}

/// Refuses a change of the networks that an old client named for a service, and not for its tasks.
fn may_become(old: &ServiceSpec, new: &ServiceSpec) -> Result<(), SpecProblem> {
    let template = |spec: &ServiceSpec| spec.task_template.networks.clone();
    match old.networks != new.networks && template(old) == template(new) {
        true => Err(SpecProblem::OldNetworks),
        false => Ok(()),
    }
}
