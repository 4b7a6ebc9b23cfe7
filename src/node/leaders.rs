//! Who leads, as far as this node can tell: its own replica's word and gossip's, the higher term first.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::membership::Peers;
use crate::cluster::store::Leadership;
use crate::model::facts::LeaderHint;

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
