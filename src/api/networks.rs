//! `/networks`: those of the cluster, which the leader knows, and those that every machine has by itself.
//!
//! A machine of ours has `host` and `none`. What a dockerd makes beside them on each of its machines, `bridge` and
//! `docker_gwbridge`, is not listed, because it is not there.

mod check;

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::backend::{ClusterView, Leader, Refusal, RefusalClass};
use super::call::Call;
use super::dto::network::{NetworkCreate, NetworkCreated, NetworkDto, NetworksPruned, Peer};
use super::error::{Handled, created, json};
use super::events::time::parse_until;
use super::filters::Filters;
use super::lookup::{self, LookupError};
use crate::cluster::store::State;
use crate::model::network::HOST;
use crate::model::plane::Vip;
use crate::model::task::record::holds;
use crate::model::{NetworkId, NodeId};

/// What `GET /networks` filters by.
const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// What a prune filters by.
const PRUNE_FILTERS: &[&str] = &["label", "label!", "until"];

/// `GET /networks`.
pub(super) fn list<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        listed(call, &view.state)
    })
}

/// `GET /networks` on a machine that does not answer for a cluster.
pub(super) fn list_own(call: &Call) -> Handled {
    listed(call, &State::default())
}

fn listed(call: &Call, state: &State) -> Handled {
    let filters = Filters::parse(call.params.text("filters"), FILTERS)?;
    let dangling = filters.flag("dangling")?;
    let fits = |network: &NetworkDto| {
        let kind = if network.is_builtin() {
            "builtin"
        } else {
            "custom"
        };
        let is_free = || !network.is_builtin() && !network.ingress && !is_used(state, &network.id);
        filters.contained("name", &network.name)
            && filters.prefix("id", &network.id)
            && filters.exact("driver", &network.driver)
            && filters.exact("scope", network.scope)
            && filters.exact("type", kind)
            && filters.labels("label", &network.labels)
            && dangling.is_none_or(|wanted| wanted == is_free())
    };
    let found = all(state, "");
    let found: Vec<NetworkDto> = found.into_iter().filter(fits).collect();
    Ok(json(&found))
}

/// The networks of a scope: `swarm`, `local`, or both when it is empty.
fn all(state: &State, scope: &str) -> Vec<NetworkDto> {
    let mut found = Vec::from(NetworkDto::of_machines(scope == "swarm"));
    if scope != "local" {
        let networks = state.objects.networks.values();
        found.extend(networks.map(|network| NetworkDto::of(network)));
    }
    found
}

fn find(state: &State, scope: &str, input: &str) -> Result<NetworkDto, LookupError> {
    let all = all(state, scope);
    let found = lookup::find(
        "network",
        input,
        all.iter(),
        |network: &NetworkDto| network.id.clone(),
        |network| [network.name.as_str()],
    );
    found.cloned()
}

/// Whether a service is attached.
fn is_used(state: &State, network: &str) -> bool {
    let services = state.work.services.values();
    let mut there = services.filter(|service| !service.removed);
    there.any(|service| {
        let networks = &service.spec.task_template.networks;
        let has_vip = |vip: &Vip| vip.network.to_string() == network;
        networks.iter().any(|on| on.target == network) || service.vips.iter().any(has_vip)
    })
}

/// `GET /networks/{id}`.
pub(super) fn inspect<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let scope = call.params.text("scope");
        let found = find(&view.state, scope, &call.id)?;
        let peers = peers(&view.state, &found);
        Ok(json(&found.with_peers(peers)))
    })
}

/// The nodes on which tasks are attached to a network, with an address of each.
fn peers(state: &State, network: &NetworkDto) -> Vec<Peer> {
    let Ok(id) = network.id.parse::<NetworkId>() else {
        return Vec::new();
    };
    let tasks = state.work.tasks.values().filter(|task| holds(task));
    let here = tasks.filter(|task| task.attachments.iter().any(|place| place.network == id));
    let nodes: BTreeSet<NodeId> = here.filter_map(|task| task.node).collect();
    let nodes = nodes.into_iter().filter_map(|id| state.nodes.get(&id));
    nodes.map(|node| Peer::of(node)).collect()
}

/// `GET /networks/{id}` on a machine that does not answer for a cluster.
pub(super) fn inspect_own(call: &Call) -> Handled {
    let scope = call.params.text("scope");
    Ok(json(&find(&State::default(), scope, &call.id)?))
}

/// `POST /networks/create`.
pub(super) fn create<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let order: NetworkCreate = call.json()?;
        check::check(&order)?;
        let id = leader.create_network(order.into()).await?;
        Ok(created(&NetworkCreated {
            id: id.to_string(),
            warning: String::new(),
        }))
    })
}

/// `DELETE /networks/{id}`.
pub(super) fn remove<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let (found, id) = of_cluster(&view, &call.id)?;
        let id = id.ok_or_else(|| {
            let name = &found.name;
            let words = format!("{name} is a pre-defined network and cannot be removed");
            Refusal::new(RefusalClass::Forbidden, words)
        })?;
        leader.remove_network(id).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}

/// The network that a user means, with its ID when it is the cluster's.
fn of_cluster(
    view: &ClusterView,
    input: &str,
) -> Result<(NetworkDto, Option<NetworkId>), LookupError> {
    let found = find(&view.state, "", input)?;
    let id = found.id.parse().ok().filter(|_| !found.is_builtin());
    Ok((found, id))
}

/// What is asked of a network and a container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Attachment {
    container: String,
}

/// `POST /networks/{id}/connect` and `…/disconnect`.
pub(super) fn attach<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let asked: Attachment = call.json()?;
        let view = leader.view().await?;
        let (found, id) = of_cluster(&view, &call.id)?;
        let forbidden = |words: String| Err(Refusal::new(RefusalClass::Forbidden, words));
        if asked.container.is_empty() {
            return Err(Refusal::invalid("a container must be named: set Container"));
        }
        if id.is_none() {
            return forbidden(match found.name == HOST {
                true => "container cannot be disconnected from host network or connected to host network".into(),
                false => "container cannot be connected to multiple networks with one of the networks in private (none) mode".into(),
            });
        }
        let name = &found.name;
        if !found.attachable {
            return forbidden(format!(
                "Could not attach to network {name}: rpc error: code = PermissionDenied desc = network {name} not \
                 manually attachable"
            ));
        }
        Err(Refusal::new(
            RefusalClass::NotImplemented,
            format!(
                "skein attaches no containers to networks in this version: {name} is kept and not wired"
            ),
        ))
    })
}

/// `POST /networks/prune`: those to which no service is attached go.
pub(super) fn prune<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let filters = Filters::parse(call.params.text("filters"), PRUNE_FILTERS)?;
        let view = leader.view().await?;
        let mut until = None;
        for text in filters.values("until") {
            until = parse_until("until", text, leader.now())?;
        }
        let mut names = Vec::new();
        for network in view.state.objects.networks.values() {
            if network.spec.ingress {
                // It goes when somebody says so, and names it.
                continue;
            }
            let labels = &network.spec.labels;
            let fits = filters.labels("label", labels)
                && !filters.has_unwanted("label!", labels)
                && until.is_none_or(|until| network.meta.created_at < until);
            if !fits {
                continue;
            }
            match leader.remove_network(network.id).await {
                Ok(()) => names.push(network.spec.name.clone()),
                // It is in use, or somebody else has removed it meanwhile.
                Err(refusal)
                    if matches!(
                        refusal.class,
                        RefusalClass::Invalid | RefusalClass::NotFound
                    ) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(json(&NetworksPruned {
            networks_deleted: Some(names).filter(|names| !names.is_empty()),
        }))
    })
}
