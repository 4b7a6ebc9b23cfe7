//! `/images/…` of all nodes: one list, and each image wherever it is.
//!
//! What is pulled or loaded comes to the node that is asked, and all others have it from there. What is looked at is
//! looked at where it is; what is removed is removed everywhere.

use axum::extract::{Path, Request, State};
use axum::http::Method;
use serde_json::Value;

use super::ask::{Gathered, Own, Peer, Question, again, everywhere, nodes, pass_on};
use super::lists::{Wanted, prune};
use super::merge;
use crate::api::backend::{Refusal, RefusalClass};
use crate::api::call::Call;
use crate::api::error::{Handled, json};
use crate::api::gather::encoded;
use crate::api::images;
use crate::api::router::{Api, NamedObject, object_id};

/// This node's own answer, of what comes after `/images/` in the path.
const OWN: Own = |api, request| {
    Box::pin(async move {
        let path = request.uri().path();
        let rest = path.strip_prefix("/images/").unwrap_or(path).to_owned();
        images::serve(State(api), Ok(Path(rest)), request).await
    })
};

/// Everything of `/images`.
pub(super) async fn serve(State(api): State<Api>, named: NamedObject, request: Request) -> Handled {
    let rest = object_id(named)?;
    let (name, verb) = rest.rsplit_once('/').unwrap_or((&rest, ""));
    match (request.method().as_str(), rest.as_str(), verb) {
        ("GET", "json", _) => list(api, request).await,
        ("POST", "prune", _) => prune(api, request, "/images/prune", "ImagesDeleted", OWN).await,
        ("DELETE", name, _) => remove(api, name, request).await,
        ("GET", _, "json" | "history" | "get") | ("POST", _, "tag" | "push")
            if !verb.is_empty() =>
        {
            where_it_is(api, name, &rest, request).await
        }
        _ => images::serve(State(api), Ok(Path(rest.clone())), request).await,
    }
}

async fn list(api: Api, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let wanted = Wanted::read(&call)?;
    let question = Question::of(&call, wanted.target("/images/json", &call));
    let mut gathered = everywhere(&api, wanted.nodes(&api)?, &question, OWN).await;
    gathered.refused()?;
    let all = merge::images(&mut gathered.answers, None);
    Ok(gathered.warn(json(&all)))
}

/// The nodes that have an image of this name.
pub(super) async fn holders(api: &Api, name: &str) -> Result<Vec<Peer>, Refusal> {
    let question = Question::get(format!("/images/{}/json", path_of(name)));
    let gathered = everywhere(api, nodes(api)?, &question, OWN).await;
    Ok(gathered.answers.into_iter().map(|(peer, _)| peer).collect())
}

/// A name of an image as it may stand in a path, with its slashes.
pub(super) fn path_of(name: &str) -> String {
    let parts = name
        .split('/')
        .map(|part| encoded(part).replace("%3A", ":").replace("%40", "@"));
    parts.collect::<Vec<_>>().join("/")
}

/// This node's where it has the image, else another's that has.
async fn where_it_is(api: Api, name: &str, rest: &str, request: Request) -> Handled {
    let known = match api.backend.images() {
        Ok(images) => images.inspect(name).await.is_ok(),
        Err(_nothing_keeps_images) => false,
    };
    let there = match known {
        true => None,
        false => holders(&api, name)
            .await?
            .into_iter()
            .find(|peer| !peer.own),
    };
    match there.and_then(|peer| peer.node) {
        Some(node) => pass_on(&api, node, request).await,
        None => images::serve(State(api), Ok(Path(rest.to_owned())), request).await,
    }
}

/// Removes it wherever it is. What stands in the way on one node is said, and what was removed on others is gone.
async fn remove(api: Api, name: &str, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let holders = holders(&api, name).await?;
    if holders.is_empty() {
        let request = again(&call)?;
        return images::serve(State(api), Ok(Path(name.to_owned())), request).await;
    }
    let query = call.target.query().map(|query| format!("?{query}"));
    let target = format!("/images/{}{}", path_of(name), query.unwrap_or_default());
    let question = Question {
        method: Method::DELETE,
        ..Question::of(&call, target)
    };
    let gathered = everywhere(&api, holders, &question, OWN).await;
    let Gathered {
        answers, refusals, ..
    } = &gathered;
    let missing = |refusal: &Refusal| refusal.class == RefusalClass::NotFound;
    if let Some((peer, refusal)) = refusals.iter().find(|(_, refusal)| !missing(refusal)) {
        let words = format!("node {}: {}", peer.name, refusal.message);
        return Err(Refusal::new(refusal.class, words));
    }
    let mut gone: Vec<&Value> = Vec::new();
    for (_, list) in answers {
        let list = list.as_array().into_iter().flatten();
        for line in list {
            if !gone.contains(&line) {
                gone.push(line);
            }
        }
    }
    Ok(json(&gone))
}
