//! `/tasks`: list and inspect. Each runs at the leader.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;

use super::backend::{ClusterView, Leader, Refusal};
use super::call::Call;
use super::dto::task::TaskDto;
use super::error::{Handled, json};
use super::filters::Filters;
use super::lookup::{self, LookupError};
use super::{nodes, services};
use crate::model::constraints::matches_node;
use crate::model::dirty::is_dirty;
use crate::model::task::container_name;
use crate::model::{ContainerId, NetworkId, NodeId, ServiceId, Task, TaskId, TaskState, Template};

/// What `GET /tasks` filters by. Docker's clients ask with `_up-to-date` for what an update has reached.
const FILTERS: &[&str] = &[
    "_up-to-date",
    "desired-state",
    "id",
    "label",
    "name",
    "node",
    "runtime",
    "service",
];

/// `GET /tasks`.
pub(super) fn list<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let filters = Filters::parse(call.params.text("filters"), FILTERS)?;
        check_states(&filters)?;
        let view = leader.view().await?;
        let wanted = Wanted::of(&view, filters)?;
        let tasks: Vec<TaskDto<'_>> = wanted
            .candidates()
            .filter(|task| wanted.includes(task))
            .map(|task| dto(&view, task))
            .collect();
        Ok(json(&tasks))
    })
}

/// `GET /tasks/{id}`.
pub(super) fn inspect<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let task = find(&view, &call.id)?;
        Ok(json(&dto(&view, task)))
    })
}

fn dto<'a>(view: &'a ClusterView, task: &'a Task) -> TaskDto<'a> {
    let template = template(view, task);
    // Where it is; before it is anywhere, where it is to be.
    let given = task.attachments.iter().map(|place| place.network);
    let named = template.into_iter().flat_map(|it| &it.task.networks);
    let named = named.filter(|_| task.attachments.is_empty());
    let named = named.filter_map(|on| on.target.parse::<NetworkId>().ok());
    let networks = &view.state.objects.networks;
    let found = given.chain(named).filter_map(|id| networks.get(&id));
    TaskDto::of(task, template, view.status_of(task))
        .on(found.map(AsRef::as_ref), &task.attachments)
}

fn template<'a>(view: &'a ClusterView, task: &Task) -> Option<&'a Template> {
    let work = &view.state.work;
    work.template(task.service, task.spec_version)
        .map(AsRef::as_ref)
}

/// What a task is called: `<service>.<slot>.<task>`, by the service's name when it was made.
fn name(view: &ClusterView, task: &Task) -> String {
    let service = template(view, task).map_or("", |template| &template.name);
    container_name(service, task.slot, task.id)
}

/// The task that a user means by an ID, a name or the beginning of an ID.
pub(super) fn find<'a>(view: &'a ClusterView, input: &str) -> Result<&'a Task, LookupError> {
    let tasks = &view.state.work.tasks;
    if let Some(task) = input.parse().ok().and_then(|id: TaskId| tasks.get(&id)) {
        return Ok(task);
    }
    let named: Vec<(&Task, String)> = tasks
        .values()
        .map(|task| (&**task, name(view, task)))
        .collect();
    let found = lookup::find(
        "task",
        input,
        named.iter(),
        |(task, _)| task.id.to_string(),
        |(_, name)| [name.as_str()],
    );
    found.map(|(task, _)| *task)
}

/// Where the container is that a user means by its ID, the beginning of one, or its name, which is its task's.
pub(super) fn of_container(
    view: &ClusterView,
    input: &str,
) -> Result<(NodeId, ContainerId), LookupError> {
    let tasks = view.state.work.tasks.values();
    let known: Vec<(NodeId, ContainerId, String)> = tasks
        .filter_map(|task| {
            let container = view.status_of(task).container?;
            Some((task.node?, container, name(view, task)))
        })
        .collect();
    let found = lookup::find(
        "container",
        input,
        known.iter(),
        |(_, container, _)| container.to_string(),
        |(_, _, name)| [name.as_str()],
    );
    found.map(|(node, container, _)| (*node, *container))
}

fn check_states(filters: &Filters) -> Result<(), Refusal> {
    for value in filters.values("desired-state") {
        let mut states = TaskState::ALL.iter();
        if !value.is_empty() && !states.any(|state| value.eq_ignore_ascii_case(state.name())) {
            let words = format!("Invalid desired-state filter: '{value}'");
            return Err(Refusal::invalid(words));
        }
    }
    Ok(())
}

/// Which tasks are asked for, with the services and nodes that were named found.
struct Wanted<'a> {
    view: &'a ClusterView,
    filters: Filters,
    services: BTreeSet<ServiceId>,
    nodes: BTreeSet<NodeId>,
    up_to_date: bool,
}

impl<'a> Wanted<'a> {
    fn of(view: &'a ClusterView, filters: Filters) -> Result<Self, LookupError> {
        let services = filters.values("service");
        let services = services.map(|input| services::find(view, input).map(|found| found.id));
        let services = services.collect::<Result<_, _>>()?;
        let nodes = filters.values("node");
        let nodes = nodes.map(|input| nodes::find(view, input).map(|found| found.id));
        let nodes = nodes.collect::<Result<_, _>>()?;
        let up_to_date = filters.values("_up-to-date").next().is_some();
        Ok(Self {
            view,
            filters,
            services,
            nodes,
            up_to_date,
        })
    }

    /// The tasks that may be meant, found the shortest way.
    fn candidates(&self) -> Box<dyn Iterator<Item = &'a Task> + '_> {
        let work = &self.view.state.work;
        if !self.services.is_empty() {
            let services = self.services.iter();
            let tasks = services.flat_map(|service| work.tasks_of(*service));
            let here = |task: &&Task| {
                let on = task.node.is_some_and(|node| self.nodes.contains(&node));
                on || self.nodes.is_empty()
            };
            return Box::new(tasks.map(AsRef::as_ref).filter(here));
        }
        if !self.nodes.is_empty() {
            let nodes = self.nodes.iter();
            let tasks = nodes.flat_map(|node| work.tasks_on(*node));
            return Box::new(tasks.map(AsRef::as_ref));
        }
        Box::new(work.tasks.values().map(AsRef::as_ref))
    }

    fn includes(&self, task: &Task) -> bool {
        let filters = &self.filters;
        let template = template(self.view, task);
        let runtime = template.map_or("container", |template| &template.task.runtime);
        let mut states = filters
            .values("desired-state")
            .filter(|one| !one.is_empty())
            .peekable();
        let desired = task.desired.name();
        (states.peek().is_none() || states.any(|one| one.eq_ignore_ascii_case(desired)))
            && filters.exact("runtime", runtime)
            && filters.prefix("id", &task.id.to_string())
            && filters.prefix("name", &name(self.view, task))
            && template.is_none_or(|template| filters.labels("label", &template.labels))
            && (!self.up_to_date || self.is_up_to_date(task, template))
    }

    fn is_up_to_date(&self, task: &Task, template: Option<&Template>) -> bool {
        let state = &self.view.state;
        let Some(service) = state.work.services.get(&task.service) else {
            return false;
        };
        let node = task.node.and_then(|node| state.nodes.get(&node));
        let fits = |constraints: &[String]| {
            node.is_some_and(|node| {
                let status = self.view.statuses.get(&node.id);
                matches_node(constraints, node, status)
            })
        };
        let seen = self.view.status_of(task).state;
        template.is_some_and(|template| !is_dirty(service, task, template, seen, fits))
    }
}
