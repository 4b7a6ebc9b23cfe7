//! Lets openraft's clock stand still while it has nothing to do.
//!
//! openraft looks at its timers at each fifth of a heartbeat, on every replica, which is most of what an idle one
//! costs. But a replica without a vote, and a follower that heard its leader a moment ago, have no election to begin, and
//! a leader has nothing but its heartbeats to send. So the ticks are on only while a voter does not hear a leader, from
//! well before an election can be due, and never in one that [`look`](super::look) keeps out of elections; the heartbeats
//! of a leader are asked for from here.

use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, sleep, sleep_until};

use super::Running;
use super::config::Timings;
use super::look::Sight;
use super::network::Voteless;
use crate::model::NodeId;

/// Governs the ticks of one raft instance, that of `node`, until it ends.
pub(super) async fn govern(running: Running, node: NodeId, timings: Timings, voteless: Voteless) {
    let mut server = running.raft.server_metrics();
    let mut heard = running.heard.subscribe();
    let mut sight = running.sight.subscribe();
    loop {
        let clear = *sight.borrow_and_update() == Sight::Clear;
        let (leads, votes, alone) = {
            let server = server.borrow_and_update();
            let members = server.membership_config.membership();
            voteless.set(members.learner_ids().collect());
            let votes = members.voter_ids().any(|voter| voter == node);
            let alone = members.nodes().all(|(member, _)| *member == node);
            (server.state == ServerState::Leader, votes, alone)
        };
        let quiet_until = heard.borrow_and_update().map(|at| at + quiet(&timings));
        let quiet_until = quiet_until.filter(|until| Instant::now() < *until);
        running
            .raft
            .runtime_config()
            .tick(votes && clear && !leads && quiet_until.is_none());
        if leads
            && clear
            && !alone
            && let Err(error) = running.raft.trigger().heartbeat().await
        {
            tracing::debug!(%error, "no heartbeats any more");
            return;
        }
        let wait = async {
            match quiet_until {
                // Nobody is to hear it, until that changes.
                _ if leads && alone => std::future::pending().await,
                _ if leads => sleep(timings.heartbeat).await,
                Some(until) if votes => sleep_until(until).await,
                // It ends with the instance.
                Some(_) => std::future::pending().await,
                None => drop(heard.changed().await),
            }
        };
        tokio::select! {
            biased;
            () = running.stop.cancelled() => return,
            changed = server.changed() => if changed.is_err() { return },
            _ = sight.changed() => {}
            () = wait => {}
        }
    }
}

/// A leader that was heard within this needs no successor yet: one heartbeat may be late, and there is time enough to
/// notice before the election that a silent one causes.
fn quiet(timings: &Timings) -> Duration {
    (timings.heartbeat * 3 / 2).min(timings.election_max)
}
