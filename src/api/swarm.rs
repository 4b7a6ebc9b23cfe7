//! `/swarm`: init, join, leave and unlock on this node; inspect, update and the unlock key at the leader.

mod request;

use axum::extract::{Request, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::backend::{ClusterUpdate, Leader, LocalState, Refusal};
use super::call::Call;
use super::dto::cluster::SwarmDto;
use super::dto::spec::SwarmSpec;
use super::error::{Handled, done, json};
use super::router::Api;
use super::words;
use request::{InitBody, JoinBody};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct UnlockBody {
    unlock_key: String,
}

/// `POST /swarm/init`.
pub(super) async fn init(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let body: InitBody = call.json()?;
    let local = api.backend.local();
    if local.state != LocalState::Inactive {
        if !body.force_new_cluster {
            return Err(Refusal::unavailable(words::ALREADY_MEMBER));
        }
        if !local.control {
            return Err(Refusal::unavailable(words::WORKER));
        }
    }
    let request = body.checked(call.version)?;
    let node = call
        .to_the_end(async move { api.backend.init(request).await })
        .await?;
    Ok(json(&node.to_string()))
}

/// `POST /swarm/join`.
pub(super) async fn join(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let body: JoinBody = call.json()?;
    if api.backend.local().state != LocalState::Inactive {
        return Err(Refusal::unavailable(words::ALREADY_MEMBER));
    }
    let request = body.checked()?;
    call.to_the_end(async move { api.backend.join(request).await })
        .await?;
    Ok(done())
}

/// `POST /swarm/leave`.
pub(super) async fn leave(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let force = call.params.flag("force");
    match api.backend.local().state {
        LocalState::Inactive => return Err(Refusal::unavailable(words::NOT_A_MEMBER)),
        LocalState::Locked if !force => return Err(Refusal::unavailable(words::LOCKED_LEAVE)),
        LocalState::Locked | LocalState::Pending | LocalState::Active | LocalState::Error => {}
    }
    call.to_the_end(async move { api.backend.leave(force).await })
        .await?;
    Ok(done())
}

/// `POST /swarm/unlock`.
pub(super) async fn unlock(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let body: UnlockBody = call.json()?;
    let local = api.backend.local();
    if local.state != LocalState::Locked {
        return Err(match words::refuse_cluster_command(&local) {
            Some(refusal) => refusal,
            None => Refusal::conflict(words::NOT_LOCKED),
        });
    }
    let key = body.unlock_key.trim();
    if !is_unlock_key(key) {
        return Err(Refusal::invalid(
            "invalid unlock key: it has the form SWMKEY-1- and 43 characters",
        ));
    }
    let key = key.to_owned();
    call.to_the_end(async move { api.backend.unlock(key).await })
        .await?;
    Ok(done())
}

/// `GET /swarm`.
pub(super) fn inspect<'a>(leader: &'a dyn Leader, _call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        match &view.state.cluster {
            Some(cluster) => Ok(json(&SwarmDto::with_tokens(cluster))),
            None => Err(Refusal::not_found(words::NOT_A_MEMBER)),
        }
    })
}

/// `POST /swarm/update`.
pub(super) fn update<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let spec: SwarmSpec = call.json()?;
        let version = call.params.version("swarm")?;
        let update = ClusterUpdate {
            spec: spec.checked()?,
            rotate_worker: call.params.strict_flag("rotateWorkerToken")?,
            rotate_manager: call.params.strict_flag("rotateManagerToken")?,
            rotate_peer: call.params.strict_flag("rotatePeerToken")?,
            rotate_unlock_key: call.params.strict_flag("rotateManagerUnlockKey")?,
            own_root: spec.own_root()?,
        };
        leader.update_cluster(version, update).await?;
        Ok(done())
    })
}

/// `GET /swarm/unlockkey`.
pub(super) fn unlock_key<'a>(leader: &'a dyn Leader, _call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let unlock_key = leader.unlock_key().await?;
        Ok(json(&UnlockBody { unlock_key }))
    })
}

fn is_unlock_key(key: &str) -> bool {
    key.strip_prefix("SWMKEY-1-")
        .and_then(|text| STANDARD_NO_PAD.decode(text).ok())
        .is_some_and(|bytes| bytes.len() == 32)
}

/// Reads a request's body as each of those that there are.
#[cfg(any(test, fuzzing))]
pub(super) fn check_bodies(call: &Call) -> [Result<(), Refusal>; 4] {
    let init = || call.json::<InitBody>()?.checked(call.version);
    let join = || call.json::<JoinBody>()?.checked();
    let spec = call.json::<SwarmSpec>().map_err(Refusal::from);
    let spec = spec.and_then(|spec| spec.checked().map_err(Refusal::from));
    let unlock = call.json::<UnlockBody>().map_err(Refusal::from);
    [
        init().map(drop),
        join().map(drop),
        spec.map(drop),
        unlock.map(drop),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlock_keys_have_one_form() {
        assert!(is_unlock_key(
            "SWMKEY-1-7c37Cc8654o6p38HnroywCi19pllOnGtbdZEgtKxZu8"
        ));
        for bad in [
            "",
            "SWMKEY-1-",
            "SWMKEY-1-abc",
            "7c37Cc8654o6p38HnroywCi19pllOnGtbdZEgtKxZu8",
        ] {
            assert!(!is_unlock_key(bad), "{bad}");
        }
    }
}
