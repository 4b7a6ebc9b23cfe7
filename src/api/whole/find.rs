//! Where something is that a user names: on whichever node, and with `@NODE` behind its name on that one.

use axum::extract::{Path, Request, State};
use axum::http::Method;

use super::ask::{Own, Peer, Question, again, everywhere, nodes, pass_on};
use super::merge;
use crate::api::backend::Refusal;
use crate::api::call::Call;
use crate::api::error::{Handled, json};
use crate::api::gather::encoded;
use crate::api::place::{self, Place, Whereabouts, no_such};
use crate::api::router::{Api, NamedObject, not_found, object_id};
use crate::api::volumes;

/// A name, and the nodes that it may be on.
fn split(peers: Vec<Peer>, name: &str) -> (Vec<Peer>, String) {
    if let Some((short, at)) = name.rsplit_once('@') {
        let named: Vec<Peer> = peers
            .iter()
            .filter(|peer| peer.is_called(at))
            .cloned()
            .collect();
        if !named.is_empty() {
            return (named, short.to_owned());
        }
    }
    (peers, name.to_owned())
}

/// The container of a name, an ID or the beginning of one, on whichever node.
pub(in crate::api) async fn container(api: &Api, name: &str) -> Result<Place, Refusal> {
    let (peers, short) = split(nodes(api)?, name);
    if name.parse::<crate::model::ContainerId>().is_ok()
        && let Some(here) = place::here(api, name).await?
    {
        return Ok(Place::Here(Box::new(here)));
    }
    let found = around(api, peers, &short).await?;
    let at = match &found[..] {
        // A task's whose node is away: the leader knows where it is, and going there says what is wrong.
        [] if api.may_ask_others() => {
            return place::ask_leader(api, &short).await.map(Place::There);
        }
        [] => return Err(no_such(name)),
        [(peer, at)] if !peer.own => return Ok(Place::There(at.clone())),
        [(_, at)] => at,
        several => {
            return Err(ambiguous(
                "container",
                &short,
                several.iter().map(|(peer, _)| peer),
            ));
        }
    };
    let here = place::here(api, &at.container.to_string()).await?;
    here.map(|here| Place::Here(Box::new(here)))
        .ok_or_else(|| no_such(name))
}

/// Asks all other nodes for a container that neither this one nor the leader knows.
pub(in crate::api) async fn elsewhere(api: &Api, name: &str) -> Result<Place, Refusal> {
    let mut peers = nodes(api)?;
    peers.retain(|peer| !peer.own);
    match &around(api, peers, name).await?[..] {
        [] => Err(no_such(name)),
        [(_, at)] => Ok(Place::There(at.clone())),
        several => Err(ambiguous(
            "container",
            name,
            several.iter().map(|(peer, _)| peer),
        )),
    }
}

/// On which of these nodes there is such a container.
pub(super) async fn around(
    api: &Api,
    peers: Vec<Peer>,
    name: &str,
) -> Result<Vec<(Peer, Whereabouts)>, Refusal> {
    let question = Question::get(format!("/skein/have/{}", encoded(name)));
    let own: Own = |api, request| {
        Box::pin(async move {
            let name = request.uri().path().rsplit('/').next().unwrap_or_default();
            let name = decoded(name);
            place::have(State(api), Ok(Path(name)), request).await
        })
    };
    let mut gathered = everywhere(api, peers, &question, own).await;
    if gathered.answers.is_empty() {
        let missing =
            |refusal: &Refusal| refusal.class == crate::api::backend::RefusalClass::Invalid;
        if gathered
            .refusals
            .iter()
            .any(|(_, refusal)| missing(refusal))
        {
            gathered.refused()?;
        }
    }
    let found = gathered.answers.into_iter();
    let found = found.filter_map(|(peer, at)| Some((peer, serde_json::from_value(at).ok()?)));
    Ok(found.collect())
}

/// What [`encoded`] has written.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ambiguous<'a>(kind: &str, name: &str, on: impl Iterator<Item = &'a Peer>) -> Refusal {
    let names: Vec<String> = on.map(|peer| format!("{name}@{}", peer.name)).collect();
    Refusal::invalid(format!(
        "{kind} {name} is on several nodes: say which, {}",
        names.join(" or ")
    ))
}

/// `/volumes/{name}`: looked at, changed and removed where it is.
pub(super) async fn volume(
    State(api): State<Api>,
    named: NamedObject,
    request: Request,
) -> Handled {
    let name = object_id(named)?;
    let call = Call::read(request, name.clone()).await?;
    let (peers, short) = split(nodes(&api)?, &name);
    let look: Own = |api, request| {
        Box::pin(async move {
            let name = decoded(request.uri().path().rsplit('/').next().unwrap_or_default());
            volumes::inspect(State(api), Ok(Path(name)), request).await
        })
    };
    let path = format!("/volumes/{}", encoded(&short));
    let question = Question {
        method: Method::GET,
        ..Question::of(&call, path.clone())
    };
    let mut gathered = everywhere(&api, peers, &question, look).await;
    if let [_, _, ..] = gathered.answers[..] {
        let on = gathered.answers.iter().map(|(peer, _)| peer);
        return Err(ambiguous("volume", &short, on));
    }
    let Some((peer, _)) = gathered.answers.first().cloned() else {
        if call.method == Method::DELETE && call.params.flag("force") {
            return volumes::remove(State(api), Ok(Path(short)), again(&call)?).await;
        }
        gathered.refused()?;
        return Err(Refusal::not_found(format!("get {short}: no such volume")));
    };
    if call.method == Method::GET {
        let mut one = [(
            peer,
            serde_json::json!({ "Volumes": [gathered.answers.swap_remove(0).1] }),
        )];
        return Ok(json(&merge::volumes(&mut one).swap_remove(0)));
    }
    let request = again(&call)?;
    match (peer.node.filter(|_| !peer.own), call.method.as_str()) {
        (None, "DELETE") => volumes::remove(State(api), Ok(Path(short)), request).await,
        (None, "PUT") => volumes::update(State(api), Ok(Path(short)), request).await,
        (Some(node), "DELETE" | "PUT") => {
            let query = call.target.query().map(|query| format!("?{query}"));
            let target = format!("{path}{}", query.unwrap_or_default());
            let mut request = request;
            let target = target.parse().map_err(|_unusable| not_found())?;
            request
                .extensions_mut()
                .insert(crate::api::call::Target(target));
            pass_on(&api, node, request).await
        }
        (None | Some(_), _) => Err(not_found()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeId;

    #[test]
    fn a_name_may_say_its_node() {
        let peer = |number: u128| Peer {
            node: Some(NodeId::from_bits(number)),
            name: format!("node{number}"),
            alive: true,
            own: number == 1,
        };
        let peers = vec![peer(1), peer(2)];
        let (on, name) = split(peers.clone(), "web@node2");
        assert_eq!((on, name.as_str()), (vec![peer(2)], "web"));
        let id = NodeId::from_bits(1).to_string();
        let (on, name) = split(peers.clone(), &format!("web@{id}"));
        assert_eq!((on, name.as_str()), (vec![peer(1)], "web"));
        // Not a node: the name is what it is.
        let (on, name) = split(peers.clone(), "web@elsewhere");
        assert_eq!((on, name.as_str()), (peers, "web@elsewhere"));
    }

    #[test]
    fn what_was_encoded_is_read() {
        for text in ["web", "a b/ü?%", "@", "%41"] {
            assert_eq!(decoded(&encoded(text)), text);
        }
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
