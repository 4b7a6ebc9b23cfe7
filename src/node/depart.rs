//! Leaving without harm, and when a lost quorum may be given up.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::inbound::ask_leader;
use super::join::reason;
use super::member::Member;
use crate::cluster::store::Store;
use crate::model::NodeId;
use crate::wire::control::{ControlReply, ControlRequest};

/// Duties are given up within this, or the user is told why not.
const DEADLINE: Duration = Duration::from_secs(10);

/// A recovery waits this long for a leader to turn out to be lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// A leader that lives answers within this.
const LEADER_PROBE: Duration = Duration::from_millis(500);

/// The pause between two tries while leadership settles.
const PAUSE: Duration = Duration::from_millis(100);

/// Hands leadership and vote to others and tells the leader good-bye. The error says what leaving would cost.
pub async fn give_up_duties(member: &Member) -> Result<(), String> {
    let deadline = Instant::now() + DEADLINE;
    let mut last = String::new();
    while Instant::now() < deadline {
        if member.term.borrow().is_some()
            && let Some(store) = &member.store
        {
            match pass_leadership(member, store).await {
                Ok(()) => {}
                Err(Stay::Last) => {
                    return Err("You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. ".into());
                }
                Err(Stay::NotYet(why)) => last = why,
            }
        } else {
            match ask_leader(member, ControlRequest::Leave { node: member.node }).await {
                ControlReply::Done => return Ok(()),
                ControlReply::Refused(why) => last = why,
                ControlReply::NotLeader(_) => last = "the swarm does not have a leader".into(),
                ControlReply::Join(_) => last = "the leader answered something else".into(),
            }
        }
        sleep(PAUSE).await;
    }
    Err(format!(
        "this node could not say good-bye ({last}). Use `--force` to leave all the same"
    ))
}

enum Stay {
    /// Nobody else could lead.
    Last,
    /// Somebody could, but not at this moment.
    NotYet(String),
}

async fn pass_leadership(member: &Member, store: &Store) -> Result<(), Stay> {
    let peers = member.peers();
    let replicas = store.replicas().borrow().clone();
    let fit = |node: &&NodeId| **node != member.node && peers.is_alive(**node);
    let successor = match replicas.voters.iter().find(fit) {
        Some(voter) => *voter,
        None => {
            let learner = replicas.learners.iter().find(fit).ok_or(Stay::Last)?;
            let voters = [member.node, *learner].into();
            let promoted = store.set_voters(voters, true).await;
            promoted.map_err(|error| Stay::NotYet(reason(&error)))?;
            *learner
        }
    };
    store
        .transfer(successor)
        .await
        .map_err(|error| Stay::NotYet(reason(&error)))
}

/// Refuses a recovery that is not needed, or that another survivor could do without losing anything.
///
/// A leader that was lost a moment ago is still believed to live: it is asked, for up to [`PATIENCE`].
pub async fn check_recoverable(member: &Member) -> Result<(), String> {
    let Some(store) = &member.store else {
        return Err(
            "this node holds no copy of the cluster's state: run \"skein recover\" on a manager"
                .into(),
        );
    };
    let deadline = Instant::now() + PATIENCE;
    while leader_answers(member, store).await {
        if Instant::now() >= deadline {
            return Err("the cluster has a leader: there is nothing to recover".into());
        }
        sleep(PAUSE).await;
    }
    let peers = member.peers();
    let own = store.replicas().borrow().last_log;
    let newer = peers.nodes.iter().find(|(node, view)| {
        **node != member.node && peers.is_alive(**node) && view.facts.last_log > own
    });
    match newer {
        None => Ok(()),
        Some((node, view)) => {
            let host = view
                .facts
                .description
                .as_ref()
                .map_or("", |described| described.hostname.as_str());
            Err(format!(
                "node {node} ({host}) holds a newer copy of the cluster's state: run \"skein recover\" there"
            ))
        }
    }
}

async fn leader_answers(member: &Member, store: &Store) -> bool {
    let leadership = *store.leadership().borrow();
    match leadership.leader {
        None => leadership.me,
        Some(leader) if leader == member.node => true,
        Some(leader) => member.transport.probe(leader, LEADER_PROBE).await,
    }
}
