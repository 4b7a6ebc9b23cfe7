//! `GET /containers/json`, `GET /volumes`, and what removes what nobody uses, of all nodes.

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json as value};

use super::ask::{Own, Peer, Question, everywhere, nodes};
use super::merge;
use crate::api::backend::{Refusal, RefusalClass};
use crate::api::call::Call;
use crate::api::containers;
use crate::api::error::{Handled, json};
use crate::api::gather::encoded;
use crate::api::router::Api;
use crate::api::volumes as own_volumes;

/// Filters by which node something is on, beside Docker's.
const NODE_FILTER: &str = "node";

/// Filters that name one container and compare all others with it, which one node alone cannot.
const RELATIVE: [&str; 2] = ["before", "since"];

/// `GET /containers/json`.
pub(super) async fn containers(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let wanted = Wanted::read(&call)?;
    if let Some(filter) = RELATIVE
        .iter()
        .find(|key| wanted.filters.get(key).is_some())
    {
        return Err(Refusal::new(
            RefusalClass::NotImplemented,
            format!(
                "the filter '{filter}' compares containers of one node: ask that node's skein.sock"
            ),
        ));
    }
    let limit = call
        .params
        .text("limit")
        .parse()
        .ok()
        .filter(|limit| *limit > 0);
    let question = Question::of(&call, wanted.target("/containers/json", &call));
    let own: Own = |api, request| Box::pin(async { Ok(containers::list_here(api, request).await) });
    let mut gathered = everywhere(&api, wanted.nodes(&api)?, &question, own).await;
    gathered.refused()?;
    let all = merge::containers(&mut gathered.answers, None, limit);
    Ok(gathered.warn(json(&all)))
}

/// `GET /volumes`.
pub(super) async fn volumes(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let wanted = Wanted::read(&call)?;
    let question = Question::of(&call, wanted.target("/volumes", &call));
    let own: Own = |api, request| Box::pin(own_volumes::list(State(api), request));
    let mut gathered = everywhere(&api, wanted.nodes(&api)?, &question, own).await;
    gathered.refused()?;
    let all = merge::volumes(&mut gathered.answers);
    let warnings = Some(&gathered.warnings).filter(|warnings| !warnings.is_empty());
    let answer = json(&value!({ "Volumes": all, "Warnings": warnings }));
    Ok(gathered.warn(answer))
}

/// `POST /containers/prune`.
pub(super) async fn prune_containers(State(api): State<Api>, request: Request) -> Handled {
    let own: Own =
        |api, request| Box::pin(async { Ok(containers::prune_here(api, request).await) });
    prune(api, request, "/containers/prune", "ContainersDeleted", own).await
}

/// `POST /volumes/prune`.
pub(super) async fn prune_volumes(State(api): State<Api>, request: Request) -> Handled {
    let own: Own = |api, request| Box::pin(own_volumes::prune(State(api), request));
    prune(api, request, "/volumes/prune", "VolumesDeleted", own).await
}

/// Removes on all nodes what nobody uses there.
pub(super) async fn prune(
    api: Api,
    request: Request,
    path: &str,
    key: &str,
    own: Own,
) -> Result<Response, Refusal> {
    let call = Call::read(request, String::new()).await?;
    let wanted = Wanted::read(&call)?;
    let question = Question::of(&call, wanted.target(path, &call));
    let mut gathered = everywhere(&api, wanted.nodes(&api)?, &question, own).await;
    gathered.refused()?;
    let answer = json(&merge::pruned(&gathered.answers, key));
    Ok(gathered.warn(answer))
}

/// What of which nodes is wanted.
pub(super) struct Wanted {
    /// As they came, without ours.
    filters: Value,
    /// Names of nodes; all when there are none.
    on: Vec<String>,
}

impl Wanted {
    /// Takes our own filter from among a request's.
    pub(super) fn read(call: &Call) -> Result<Self, Refusal> {
        let text = call.params.text("filters");
        let malformed = |_| Refusal::invalid("invalid filter");
        let mut filters = match text {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(malformed)?,
        };
        let on = filters
            .as_object_mut()
            .and_then(|filters| filters.remove(NODE_FILTER));
        let on = match on {
            None => Vec::new(),
            Some(Value::Object(names)) => names.into_iter().map(|(name, _)| name).collect(),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                names.map(str::to_owned).collect()
            }
            Some(_) => return Err(Refusal::invalid("invalid filter")),
        };
        Ok(Self { filters, on })
    }

    /// The nodes to ask.
    pub(super) fn nodes(&self, api: &Api) -> Result<Vec<Peer>, Refusal> {
        let mut all = nodes(api)?;
        for name in &self.on {
            if !all.iter().any(|peer| peer.is_called(name)) {
                return Err(Refusal::not_found(format!("node {name} not found")));
            }
        }
        all.retain(|peer| self.on.is_empty() || self.on.iter().any(|name| peer.is_called(name)));
        Ok(all)
    }

    /// The path with the request's query as each node is to see it.
    pub(super) fn target(&self, path: &str, call: &Call) -> String {
        let pairs = call.params.pairs().filter(|(key, _)| *key != "filters");
        let pairs = pairs.map(|(key, value)| format!("{}={}", encoded(key), encoded(value)));
        let filters = (!self.filters.is_null())
            .then(|| format!("filters={}", encoded(&self.filters.to_string())));
        let query: Vec<String> = pairs.chain(filters).collect();
        if query.is_empty() {
            return path.to_owned();
        }
        format!("{path}?{}", query.join("&"))
    }
}
