//! Changes that operators make to nodes: labels, availability, role, removal.

use super::AdminError;
use crate::cluster::quorum::{self, QuorumRefusal, QuorumView};
use crate::cluster::store::State;
use crate::model::{Change, Expect, Node, NodeId, NodeSpec, NodeState, Role, Standing};

/// The change that gives a node this spec and role.
///
/// A role other than the present one pins the node: the cluster no longer chooses for it. A demoted node loses its
/// standing with its next certificate; a promoted one gains it.
pub fn update(
    state: &State,
    quorum: &QuorumView,
    id: NodeId,
    version: u64,
    spec: NodeSpec,
    role: Role,
) -> Result<Change, AdminError> {
    let current = state.nodes.get(&id).ok_or(AdminError::NoSuchNode(id))?;
    if current.meta.version != version {
        return Err(AdminError::OutOfSequence);
    }
    let mut next = Node {
        spec,
        ..Node::clone(current)
    };
    let votes = if quorum.voters.contains(&id) {
        Role::Manager
    } else {
        Role::Worker
    };
    match (current.pinned.unwrap_or(votes), role) {
        (Role::Worker, Role::Manager) => {
            next.pinned = Some(Role::Manager);
            next.standing = Standing::Eligible;
        }
        (Role::Manager, Role::Worker) => {
            quorum::may_demote(quorum, id).map_err(refusal)?;
            next.pinned = Some(Role::Worker);
            next.standing = Standing::Worker;
        }
        (Role::Worker, Role::Worker) | (Role::Manager, Role::Manager) => {}
    }
    Ok(Change::PutNode(Expect::Version(version), Box::new(next)))
}

/// The change that removes a node and shuts it out.
pub fn remove(
    state: &State,
    quorum: &QuorumView,
    id: NodeId,
    seen: NodeState,
    force: bool,
) -> Result<Change, AdminError> {
    let node = state.nodes.get(&id).ok_or(AdminError::NoSuchNode(id))?;
    if quorum.voters.contains(&id) {
        return Err(AdminError::Invalid(format!(
            "node {id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"
        )));
    }
    if seen != NodeState::Down && !force {
        return Err(AdminError::Invalid(format!(
            "node {id} is not down and can't be removed"
        )));
    }
    Ok(Change::RemoveNode(Expect::Version(node.meta.version), id))
}

fn refusal(refusal: QuorumRefusal) -> AdminError {
    AdminError::Invalid(refusal.to_string())
}
