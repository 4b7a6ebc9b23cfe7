//! `/nodes`: list, inspect, update, remove. Each runs at the leader.

use futures_util::future::BoxFuture;

use super::backend::{ClusterView, Leader, Refusal};
use super::call::Call;
use super::dto::node::{NodeDto, NodeSpecDto, NodeSpecError};
use super::dto::tls::Issuers;
use super::error::{Handled, done, json};
use super::filters::Filters;
use super::lookup::{self, LookupError};
use crate::model::{Node, Role};

/// What `GET /nodes` filters by.
const FILTERS: &[&str] = &["id", "label", "membership", "name", "node.label", "role"];

impl From<NodeSpecError> for Refusal {
    fn from(error: NodeSpecError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// `GET /nodes`.
pub(super) fn list<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let filters = Filters::parse(call.params.text("filters"), FILTERS)?;
        filters.check("role", &["worker", "manager"])?;
        filters.check("membership", &["accepted", "pending"])?;
        let view = leader.view().await?;
        let issuers = issuers(&view);
        let nodes: Vec<NodeDto> = view
            .state
            .nodes
            .values()
            .filter(|node| fits(&filters, node))
            .map(|node| NodeDto::of(&view, &issuers, node))
            .collect();
        Ok(json(&nodes))
    })
}

/// `GET /nodes/{id}`.
pub(super) fn inspect<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let node = find(&view, &call.id)?;
        Ok(json(&NodeDto::of(&view, &issuers(&view), node)))
    })
}

/// `POST /nodes/{id}/update`.
pub(super) fn update<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let (spec, role) = call.json::<NodeSpecDto>()?.checked()?;
        let version = call.params.version("node")?;
        let view = leader.view().await?;
        let node = find(&view, &call.id)?;
        leader.update_node(node.id, version, spec, role).await?;
        Ok(done())
    })
}

/// `DELETE /nodes/{id}`.
pub(super) fn remove<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let node = find(&view, &call.id)?;
        leader
            .remove_node(node.id, call.params.flag("force"))
            .await?;
        Ok(done())
    })
}

fn issuers(view: &ClusterView) -> Issuers {
    view.state
        .cluster
        .as_ref()
        .map(|cluster| Issuers::of(cluster))
        .unwrap_or_default()
}

/// The node that a user means by an ID, a hostname, a name or the beginning of an ID.
pub(super) fn find<'a>(view: &'a ClusterView, input: &str) -> Result<&'a Node, LookupError> {
    lookup::find(
        "node",
        input,
        view.state.nodes.values().map(AsRef::as_ref),
        |node: &Node| node.id.to_string(),
        |node| [node.description.hostname.as_str(), node.spec.name.as_str()],
    )
}

fn fits(filters: &Filters, node: &Node) -> bool {
    let role = match node.shown_role() {
        Role::Worker => "worker",
        Role::Manager => "manager",
    };
    let is = |key: &str, word: &str| {
        let mut values = filters.values(key).filter(|v| !v.is_empty()).peekable();
        values.peek().is_none() || values.any(|value| value.eq_ignore_ascii_case(word))
    };
    is("role", role)
        && is("membership", "accepted")
        && filters.prefix("id", &node.id.to_string())
        && filters.prefix("name", &node.description.hostname)
        && filters.labels("label", &node.description.engine_labels)
        && filters.labels("node.label", &node.spec.labels)
}
