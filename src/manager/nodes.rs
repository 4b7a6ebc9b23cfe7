//! Changes that operators make to nodes: labels, availability, role, removal.

use super::AdminError;
use crate::cluster::quorum::{self, QuorumRefusal, QuorumView};
use crate::cluster::store::State;
use crate::model::{Change, Expect, Node, NodeId, NodeSpec, NodeState, Role, Standing};

/// The change that gives a node this spec and role.
///
/// A role other than the one that it is shown with pins the node: the cluster no longer chooses for it. A demoted node loses its
/// standing once it has lost its vote; a promoted one gains it at once.
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
    // What the client has read at this version, whether the cluster moves the vote at this moment or not: only what differs
    // from it is a wish.
    match (current.shown_role(), role) {
        (Role::Worker, Role::Manager) => {
            next.pinned = Some(Role::Manager);
            next.standing = Standing::Eligible;
        }
        (Role::Manager, Role::Worker) => {
            if quorum.voters.contains(&id) {
                quorum::may_demote(quorum, id).map_err(refusal)?;
            }
            // Its standing follows when its vote is gone: it must not lose its replica before.
            next.pinned = Some(Role::Worker);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::cluster::quorum::Candidate;

    const ME: NodeId = NodeId::from_bits(1);
    const NODE: NodeId = NodeId::from_bits(2);

    /// What `node` becomes when a client that read it wants `role`; [`NODE`] votes or does not.
    fn updated(node: Node, votes: bool, role: Role) -> Result<Node, AdminError> {
        let node = Node { id: NODE, ..node };
        let (version, spec) = (node.meta.version, node.spec.clone());
        let mut state = State::default();
        state.nodes.insert(NODE, Arc::new(node));
        let candidate = Candidate {
            alive: true,
            unseen_for: Duration::ZERO,
            pinned: None,
            zone: String::new(),
            available_for: Duration::from_secs(60),
        };
        let voters = if votes {
            [ME, NODE].into()
        } else {
            [ME].into()
        };
        let quorum = QuorumView {
            me: ME,
            voters,
            learners: [].into(),
            caught_up: [ME, NODE].into(),
            candidates: [(ME, candidate.clone()), (NODE, candidate)].into(),
        };
        match update(&state, &quorum, NODE, version, spec, role)? {
            Change::PutNode(_, node) => Ok(*node),
            other => panic!("{other:?}"),
        }
    }

    fn node(role: Role, standing: Standing) -> Node {
        Node {
            role,
            standing,
            ..Node::default()
        }
    }

    #[test]
    fn a_role_that_is_no_wish_pins_nothing() {
        for (role, votes) in [(Role::Manager, true), (Role::Worker, false)] {
            let after = updated(node(role, Standing::Eligible), votes, role).unwrap();
            assert_eq!(after.pinned, None);
        }
    }

    #[test]
    fn while_the_cluster_moves_a_vote_the_role_that_is_shown_says_what_is_a_wish() {
        for (read, now) in [(Role::Worker, Role::Manager), (Role::Manager, Role::Worker)] {
            let votes = now == Role::Manager;
            let same = updated(node(read, Standing::Eligible), votes, read).unwrap();
            assert_eq!(same.pinned, None, "a label was changed");
            let wish = updated(node(read, Standing::Eligible), votes, now).unwrap();
            assert_eq!(wish.pinned, Some(now), "promoted or demoted");
        }
    }

    #[test]
    fn a_wish_stands_until_there_is_another() {
        let pinned = |role| Node {
            pinned: Some(role),
            ..node(Role::Manager, Standing::Eligible)
        };
        let kept = updated(pinned(Role::Worker), true, Role::Worker).unwrap();
        assert_eq!(kept.pinned, Some(Role::Worker));
        let again = updated(pinned(Role::Worker), true, Role::Manager).unwrap();
        assert_eq!(again.pinned, Some(Role::Manager));
    }

    #[test]
    fn a_wish_pins_and_only_a_promotion_changes_the_standing_at_once() {
        let demoted = updated(node(Role::Manager, Standing::Eligible), true, Role::Worker).unwrap();
        assert_eq!(demoted.pinned, Some(Role::Worker));
        assert_eq!(demoted.standing, Standing::Eligible);
        let promoted = updated(node(Role::Worker, Standing::Worker), false, Role::Manager).unwrap();
        assert_eq!(promoted.pinned, Some(Role::Manager));
        assert_eq!(promoted.standing, Standing::Eligible);
    }
}
