//! Docker's own words for refusals that users know and tools match on.
//!
//! Used by the handlers and by the node's implementation of [`Backend`](super::Backend). Only texts: who says
//! them and when is decided elsewhere.

use super::backend::{Local, LocalState, Refusal, RefusalClass};

/// To `init` and `join` on a member.
pub const ALREADY_MEMBER: &str = "This node is already part of a swarm. Use \"docker swarm leave\" to leave this \
     swarm and join another one.";

/// To `leave` on a node that is in no cluster.
pub const NOT_A_MEMBER: &str = "This node is not part of a swarm";

/// To everything on a replica that waits for its unlock key.
pub const LOCKED: &str = "Swarm is encrypted and needs to be unlocked before it can be used. Please use \
     \"docker swarm unlock\" to unlock it.";

/// To `leave` without force on a locked replica.
pub const LOCKED_LEAVE: &str = "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.";

/// To `unlock` when nothing is locked.
pub const NOT_LOCKED: &str = "swarm is not locked";

/// To `unlock` with a key that has the right form and does not fit.
pub const WRONG_KEY: &str = "swarm could not be unlocked: invalid key provided";

/// To cluster commands on a node that is in no cluster.
pub const INACTIVE: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
     connect this node to swarm and try again.";

/// To cluster commands on a worker.
pub const WORKER: &str = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster \
     state. Please run this command on a manager node or promote the current node to a manager.";

/// To cluster commands on an eligible node that has not found its cluster again.
pub const PENDING: &str = "This node is not a swarm manager. Manager is being prepared or has trouble connecting to \
     the cluster.";

/// To a join that is not through after 20 s and goes on.
pub const JOIN_TIMEOUT: &str = "Timeout was reached before node joined. The attempt to join the swarm will continue \
     in the background. Use the \"docker info\" command to see the current swarm status of your node.";

/// To an update that would leave no manager.
pub const LAST_MANAGER: &str = "attempting to demote the last manager of the swarm";

/// To an update or removal that would leave too few managers.
pub const LOSES_QUORUM: &str =
    "can't remove member from the raft: this would result in a loss of quorum";

/// Below `docker info` when two managers vote.
pub const TWO_MANAGERS: &str = "WARNING: Running Swarm in a two-manager configuration. This configuration provides\n         \
     no fault tolerance, and poses a high risk to lose control over the cluster.\n         \
     Refer to https://docs.docker.com/engine/swarm/admin_guide/ to configure the\n         \
     Swarm for fault-tolerance.";

/// Why a node does not answer for the cluster, if it does not.
pub fn refuse_cluster_command(local: &Local) -> Option<Refusal> {
    let message = match local.state {
        LocalState::Active if local.control => return None,
        LocalState::Active => WORKER,
        LocalState::Inactive => INACTIVE,
        LocalState::Locked => LOCKED,
        LocalState::Error if !local.error.is_empty() => local.error.as_str(),
        LocalState::Pending | LocalState::Error => PENDING,
    };
    Some(Refusal::unavailable(message))
}

/// What a manager is told that wants to leave without force. `reachable` counts the managers that answer, the one
/// that leaves included; `unreachable` the others.
pub fn warn_leaving_manager(reachable: usize, unreachable: usize) -> Refusal {
    let mut message = String::from(
        "You are attempting to leave the swarm on a node that is participating as a manager. ",
    );
    let all = reachable + unreachable;
    if all <= 1 {
        message.push_str(
            "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. ",
        );
        return Refusal::unavailable(message);
    }
    let left = reachable.saturating_sub(1);
    if left < (all - 1) / 2 + 1 {
        message.push_str(&format!(
            "Removing this node leaves {left} managers out of {all}. Without a Raft quorum your swarm will be \
             inaccessible. "
        ));
    }
    message.push_str(
        "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. \
         Use `--force` to suppress this message.",
    );
    Refusal::unavailable(message)
}

/// To the removal of a node that answers, without force.
pub fn not_down(node: impl std::fmt::Display) -> Refusal {
    Refusal::invalid(format!("node {node} is not down and can't be removed"))
}

/// To the removal of a node that votes.
pub fn is_manager(node: impl std::fmt::Display) -> Refusal {
    Refusal::invalid(format!(
        "node {node} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before \
         removal"
    ))
}

/// To an unlock with the wrong key.
pub fn wrong_key() -> Refusal {
    Refusal::new(RefusalClass::Unauthorized, WRONG_KEY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(state: LocalState, control: bool) -> Local {
        Local {
            state,
            control,
            ..Local::default()
        }
    }

    #[test]
    fn each_state_has_its_refusal() {
        for (state, control, words) in [
            (LocalState::Active, true, None),
            (LocalState::Active, false, Some(WORKER)),
            (LocalState::Inactive, false, Some(INACTIVE)),
            (LocalState::Pending, true, Some(PENDING)),
            (LocalState::Locked, true, Some(LOCKED)),
            (LocalState::Error, true, Some(PENDING)),
        ] {
            let refusal = refuse_cluster_command(&local(state, control));
            assert_eq!(refusal.as_ref().map(|r| r.message.as_str()), words);
            assert!(refusal.is_none_or(|r| r.class == RefusalClass::Unavailable));
        }
        let mut broken = local(LocalState::Error, true);
        broken.error = "certificates have expired".into();
        assert_eq!(
            refuse_cluster_command(&broken).unwrap().message,
            "certificates have expired"
        );
    }

    #[test]
    fn leaving_says_what_it_would_do() {
        assert!(
            warn_leaving_manager(1, 0)
                .message
                .contains("Removing the last manager erases")
        );
        assert!(
            warn_leaving_manager(2, 1)
                .message
                .contains("leaves 1 managers out of 3")
        );
        let safe = warn_leaving_manager(3, 0).message;
        assert!(!safe.contains("leaves"), "{safe}");
        assert!(safe.contains("--force-new-cluster"));
    }
}
