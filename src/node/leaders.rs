//! Who leads, as far as this node can tell: its own replica's word and gossip's, the higher term first.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cluster::membership::{Liveness, Peers};
use crate::cluster::store::Leadership;
use crate::model::facts::LeaderHint;
use crate::model::{NodeId, Standing};

/// A leader that answers although gossip takes it for dead is asked again after this.
const PROBE_AGAIN: Duration = Duration::from_secs(1);

/// Publishes the best hint into `out` until `stop`. A node without a replica has no `leadership` of its own to go by.
pub async fn follow(
    leadership: Option<watch::Receiver<Leadership>>,
    mut peers: watch::Receiver<Arc<Peers>>,
    out: watch::Sender<Option<LeaderHint>>,
    stop: CancellationToken,
) {
    let (_kept, never) = watch::channel(Leadership::default());
    let mut leadership = leadership.unwrap_or(never);
    let follow = async {
        loop {
            let own = *leadership.borrow_and_update();
            let own = own.leader.map(|leader| LeaderHint {
                term: own.term,
                leader,
            });
            let heard = peers.borrow_and_update().leader();
            let best = own.max(heard);
            out.send_if_modified(|hint| {
                let changed = *hint != best;
                *hint = best;
                changed
            });
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                changed = peers.changed() => if changed.is_err() { return },
            }
        }
    };
    let _ = stop.run_until_cancelled(follow).await;
}

/// Comes true when gossip takes `leader` for dead and it does not answer a `probe` either.
///
/// Gossip finds that out within seconds, where a stream over a cable that was cut stands for half a minute. Whoever waits
/// for it pays nothing while all is well.
pub async fn silent<F: Future<Output = bool>>(
    leader: NodeId,
    mut peers: watch::Receiver<Arc<Peers>>,
    probe: impl Fn() -> F,
) {
    let is_dead = |peers: &Arc<Peers>| {
        let view = peers.nodes.get(&leader);
        view.is_some_and(|view| view.liveness == Liveness::Dead)
    };
    loop {
        if peers.wait_for(is_dead).await.is_err() {
            return std::future::pending().await;
        }
        if !probe().await {
            return;
        }
        sleep(PROBE_AGAIN).await;
    }
}

/// Whether this node takes the word of `by`, of this standing as far as it is known, that it was removed.
///
/// The leader's word counts. While none lives that this node knows of, that of any member counts which may vote: the
/// leader may have died just after the removal, and a node that is shut out hears of no other.
pub fn believes_removal(
    leader: Option<NodeId>,
    peers: &Peers,
    by: NodeId,
    standing: Option<Standing>,
) -> bool {
    match leader.filter(|leader| *leader == by || peers.is_alive(*leader)) {
        Some(leader) => leader == by,
        None => standing != Some(Standing::Worker),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::cluster::membership::PeerView;

    const LEADER: NodeId = NodeId::from_bits(1);
    const OTHER: NodeId = NodeId::from_bits(2);

    fn peers(leader: Liveness) -> Peers {
        let view = PeerView {
            facts: Arc::default(),
            generation: 1,
            liveness: leader,
            since: Instant::now(),
        };
        Peers {
            nodes: [(LEADER, view)].into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_is_silent_when_gossip_and_a_probe_say_so() {
        let (peers_in, out) = watch::channel(Arc::new(peers(Liveness::Alive)));
        let (answers_in, answers) = watch::channel(true);
        let mut silent = std::pin::pin!(silent(LEADER, out, || async { *answers.borrow() }));
        let mut within = async |secs| {
            let span = Duration::from_secs(secs);
            tokio::time::timeout(span, &mut silent).await.is_ok()
        };
        assert!(!within(60).await, "it is alive");
        peers_in.send_replace(Arc::new(peers(Liveness::Dead)));
        assert!(!within(60).await, "it answers");
        answers_in.send_replace(false);
        assert!(within(2).await);
    }

    #[test]
    fn a_removal_is_believed_of_the_leader_and_of_others_when_none_lives() {
        let (eligible, worker) = (Some(Standing::Eligible), Some(Standing::Worker));
        let (alive, dead) = (peers(Liveness::Alive), peers(Liveness::Dead));
        for peers in [&alive, &dead] {
            assert!(believes_removal(Some(LEADER), peers, LEADER, eligible));
            assert!(believes_removal(None, peers, OTHER, eligible));
            assert!(!believes_removal(None, peers, OTHER, worker));
        }
        assert!(!believes_removal(Some(LEADER), &alive, OTHER, eligible));
        assert!(believes_removal(Some(LEADER), &dead, OTHER, eligible));
        assert!(!believes_removal(Some(LEADER), &dead, OTHER, worker));
    }
}
