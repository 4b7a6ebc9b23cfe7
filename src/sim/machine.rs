//! A machine: what outlives its daemon. Its key, its disk, and the certificate that it was given.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use super::host::Host;
use super::node::Node;
use crate::agent::session::Orders;
use crate::cluster::store::memory_disk::MemoryDisk;
use crate::identity::credentials::Credentials;
use crate::identity::key::NodeKey;
use crate::model::{NodeId, Standing};

/// Why a machine's daemon is not started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Out {
    /// It was never a member.
    Stranger,
    /// It left.
    Left,
    /// It was told that it was removed.
    Expelled,
}

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) slot: usize,
    pub(super) id: NodeId,
    pub(super) disk: MemoryDisk,
    pub(super) host: Host,
    /// Held while its daemon is started or stopped.
    pub(super) change: AsyncMutex<()>,
    key: NodeKey,
    state: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    papers: Option<Credentials>,
    out: Option<Out>,
    lives: u64,
    /// The disk is about to fail, so that a store that does not open proves nothing.
    failing: bool,
    running: Option<Arc<Node>>,
}

impl Machine {
    pub(super) fn new(slot: usize, key: NodeKey) -> Self {
        Self {
            slot,
            id: key.node_id(),
            disk: MemoryDisk::default(),
            host: Host::default(),
            change: AsyncMutex::default(),
            key,
            state: Mutex::new(Kept {
                papers: None,
                out: Some(Out::Stranger),
                lives: 0,
                failing: false,
                running: None,
            }),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn address(&self) -> SocketAddr {
        let slot = u8::try_from(self.slot).unwrap_or(u8::MAX);
        SocketAddr::from(([10, 0, 0, slot], 2377))
    }

    /// A request for a certificate for its key.
    pub(super) fn csr(&self) -> Vec<u8> {
        self.key.csr_der().expect("the key signs")
    }

    /// Keeps a certificate: the machine is a member.
    pub(super) fn file(&self, chain_pem: &str, roots_pem: &str) {
        let papers = Credentials::from_pem(&self.key.to_pem(), chain_pem, roots_pem)
            .expect("the leader issues certificates that fit");
        let mut kept = self.kept();
        kept.papers = Some(papers);
        kept.out = None;
    }

    /// Whether the leader's words and the certificate differ.
    pub(super) fn wants_renewal(&self, orders: &Orders) -> bool {
        self.kept().papers.as_ref().is_some_and(|papers| {
            papers.issuer() != orders.issuer
                || papers.standing() != orders.standing
                || papers.roots_pem() != orders.roots_pem
        })
    }

    pub(super) fn issuer(&self) -> String {
        let kept = self.kept();
        let papers = kept.papers.as_ref();
        papers.map_or_else(String::new, |papers| papers.issuer().to_owned())
    }

    /// What its certificate makes it.
    pub(super) fn standing(&self) -> Standing {
        let kept = self.kept();
        let papers = kept.papers.as_ref();
        papers.map_or(Standing::Worker, Credentials::standing)
    }

    /// It is no member any more, and nothing of its tasks stays.
    pub(super) fn set_out(&self, out: Out) {
        self.host.clear();
        self.kept().out = Some(out);
    }

    pub(super) fn out(&self) -> Option<Out> {
        self.kept().out
    }

    /// A member, whether or not its daemon runs.
    pub(super) fn is_member(&self) -> bool {
        self.kept().out.is_none()
    }

    pub(super) fn running(&self) -> Option<Arc<Node>> {
        self.kept().running.clone()
    }

    pub(super) fn set_running(&self, node: Arc<Node>) {
        self.kept().running = Some(node);
    }

    pub(super) fn take_running(&self) -> Option<Arc<Node>> {
        self.kept().running.take()
    }

    /// The number of the next life.
    pub(super) fn next_life(&self) -> u64 {
        let mut kept = self.kept();
        kept.lives += 1;
        kept.lives
    }

    /// The disk fails after so many more writes, or works again.
    pub(super) fn set_failing(&self, writes: Option<u64>) {
        self.kept().failing = writes.is_some();
        self.disk.fail_log_after(writes);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.kept().failing
    }
}
