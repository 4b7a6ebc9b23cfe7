//! A network in memory, for tests, measurements and the simulated cluster.
//!
//! It delivers calls between the stores of one process, as far as its switches allow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};

use super::{LinkError, RaftLink, Store};
use crate::model::NodeId;

/// Connects the stores of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryNetwork(Arc<Mutex<Wires>>);

#[derive(Debug, Default)]
struct Wires {
    stores: BTreeMap<NodeId, Store>,
    /// Nodes that give no answer, as one that was killed.
    silent: BTreeSet<NodeId>,
    /// Directed pairs over which nothing passes.
    cut: BTreeSet<(NodeId, NodeId)>,
    delay: Duration,
    /// One call in so many is lost; none when zero.
    lose_one_in: u64,
    calls: u64,
}

impl MemoryNetwork {
    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link of one node.
    pub(crate) fn link(&self, from: NodeId) -> Arc<dyn RaftLink> {
        Arc::new(MemoryLink {
            network: self.clone(),
            from,
        })
    }

    /// Lets `store` answer for `node`.
    pub(crate) fn attach(&self, node: NodeId, store: Store) {
        self.wires().stores.insert(node, store);
    }

    /// Calls from and to `node` get no answer at all, as if its machine had lost power.
    pub(crate) fn silence(&self, node: NodeId) {
        self.wires().silent.insert(node);
    }

    /// `node` answers again.
    pub(crate) fn unsilence(&self, node: NodeId) {
        self.wires().silent.remove(&node);
    }

    async fn deliver(
        &self,
        from: NodeId,
        to: NodeId,
        request: Vec<u8>,
    ) -> Result<Vec<u8>, LinkError> {
        let (delay, lost) = {
            let mut wires = self.wires();
            wires.calls += 1;
            let lost = wires.lose_one_in > 0 && wires.calls.is_multiple_of(wires.lose_one_in);
            let silent = wires.silent.contains(&from) || wires.silent.contains(&to);
            (wires.delay, lost || silent)
        };
        if lost {
            return std::future::pending().await;
        }
        sleep_for(delay).await;
        let store = {
            let wires = self.wires();
            if wires.cut.contains(&(from, to)) {
                None
            } else {
                wires.stores.get(&to).cloned()
            }
        };
        let store = store.ok_or_else(|| LinkError::Unreachable("no route".into()))?;
        let answer = store
            .handle(from, &request)
            .await
            .map_err(|error| LinkError::Refused(error.to_string()))?;
        sleep_for(delay).await;
        if self.wires().silent.contains(&to) {
            return std::future::pending().await;
        }
        match self.wires().cut.contains(&(to, from)) {
            true => Err(LinkError::Unreachable("the answer was lost".into())),
            false => Ok(answer),
        }
    }
}

#[cfg(test)]
impl MemoryNetwork {
    /// Nobody answers for `node` any more: it is dead.
    pub(crate) fn detach(&self, node: NodeId) {
        self.wires().stores.remove(&node);
    }

    /// Nothing passes between `node` and any other.
    pub(crate) fn isolate(&self, node: NodeId, others: impl IntoIterator<Item = NodeId>) {
        let mut wires = self.wires();
        for other in others {
            wires.cut.extend([(node, other), (other, node)]);
        }
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.wires().cut.clear();
    }

    /// Each call takes this long each way.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.wires().delay = delay;
    }

    /// Loses one call in `calls`; none when zero.
    pub(crate) fn lose_one_in(&self, calls: u64) {
        self.wires().lose_one_in = calls;
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.wires().calls
    }
}

async fn sleep_for(delay: Duration) {
    if !delay.is_zero() {
        sleep(delay).await;
    }
}

struct MemoryLink {
    network: MemoryNetwork,
    from: NodeId,
}

impl RaftLink for MemoryLink {
    fn call(
        &self,
        to: NodeId,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, LinkError>> {
        async move {
            timeout(deadline, self.network.deliver(self.from, to, request))
                .await
                .unwrap_or(Err(LinkError::TimedOut))
        }
        .boxed()
    }
}
