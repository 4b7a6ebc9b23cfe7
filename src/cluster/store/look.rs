//! Whether this replica may take part in elections: it looks around first.
//!
//! A replica that was off may belong to a past that was given up: `recover` on another node has begun a new epoch
//! meanwhile. Two such replicas that come back together can be a majority of the old voters, and would go on with the
//! old past, and acknowledge writes to it, until the new leader reaches them. So one that has just started neither stands
//! nor votes before each other voter has said in which epoch it lives, or had time enough to; and one that has heard of
//! a newer epoch takes part in nothing of its own any more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::rpc::{Answer, Ask, Request};
use super::{Inner, Running};
use crate::model::NodeId;

/// How long the other voters have to answer. More than one takes to start that was switched on at the same time; what a
/// cluster without a leader waits at most for those that stay away.
const DEADLINE: Duration = Duration::from_secs(1);

/// Between two attempts to reach one.
const AGAIN: Duration = Duration::from_millis(50);

/// What a replica knows of the epoch that it lives in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sight {
    /// It has not looked around yet.
    #[default]
    Blind,
    /// Nobody knows of a newer one.
    Clear,
    /// It has passed.
    Outdated,
}

/// A newer epoch was heard of.
pub(super) fn outdated(sight: &watch::Sender<Sight>) {
    if sight.send_replace(Sight::Outdated) != Sight::Outdated {
        tracing::warn!(
            "the cluster was recovered without this node: what it holds counts no more, and it waits for the leader"
        );
    }
}

/// Looks around, once. A leader of this replica's own epoch that is heard meanwhile says enough.
pub(super) async fn around(inner: Arc<Inner>, running: Running) {
    let me = inner.config.node;
    let others: Vec<NodeId> = {
        let metrics = running.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.voter_ids();
        voters.filter(|voter| *voter != me).collect()
    };
    let mut heard = running.heard.subscribe();
    let asked = join_all(others.iter().map(|other| ask(&inner, &running, *other)));
    tokio::select! {
        () = running.stop.cancelled() => return,
        _ = heard.wait_for(Option::is_some) => {}
        _ = timeout(DEADLINE, asked) => {}
    }
    running.sight.send_if_modified(|sight| {
        let was_blind = *sight == Sight::Blind;
        if was_blind {
            *sight = Sight::Clear;
        }
        was_blind
    });
}

/// Asks until there is an answer.
async fn ask(inner: &Inner, running: &Running, other: NodeId) {
    let request = Request {
        epoch: running.shared.epoch(),
        ask: Ask::Epoch(inner.config.node),
    };
    let Ok(bytes) = request.encode() else { return };
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = inner.link.call(other, bytes.clone(), left).await;
        match answer.as_deref().map(Answer::decode) {
            Ok(Ok(Answer::Outdated(_))) => return outdated(&running.sight),
            Ok(_) => return,
            Err(_) => sleep(AGAIN).await,
        }
    }
}
