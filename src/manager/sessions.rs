//! Sessions: each node's long-lived stream to the leader of this term.
//!
//! A node registers and is *ready* from then on; it is told its role, its standing and whom to trust, at once and
//! whenever that changes. It tells how its tasks are, and is then told which it is to have ([`dispatch`](super::dispatch)).
//! The stream's end is news for the status board, not a verdict.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{ReadHalf, WriteHalf};
use tracing::{debug, info};

use super::AdminError;
use super::admission::trusted_roots;
use super::dispatch::{Dispatch, Routed, Session};
use super::plane::Told;
use super::rotation::issuing_root;
use super::status::News;
use super::term::Term;
use crate::cluster::frames::{Io, MessageError, read_message, write_message};
use crate::cluster::store::State;
use crate::identity::ca::issuer_of;
use crate::model::{Change, Expect, Node, NodeDescription, NodeId};
use crate::wire::assignment::Report;
use crate::wire::limits::SESSION_FRAME;
use crate::wire::session::{Downward, Upward};

/// A node that opened a session registers within this, or loses it.
const REGISTER_DEADLINE: Duration = Duration::from_secs(5);

/// A description that loses a race for the node's version is written again this often.
const RECORD_ATTEMPTS: usize = 5;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The stream failed.
    #[error("the session's stream failed")]
    Stream(#[from] MessageError),
    /// It did not register in time, or said something else first.
    #[error("the node did not register")]
    Silent,
    /// The leader could not record it.
    #[error("the node could not be recorded")]
    Record(#[from] AdminError),
}

/// The versions that a node's orders are made of: they are made anew only with other ones, for certificates are read
/// for them.
#[derive(Debug, PartialEq, Eq)]
struct OrdersOf {
    cluster: Option<u64>,
    node: Option<u64>,
    removed: usize,
}

impl OrdersOf {
    fn new(node: NodeId, state: &State) -> Self {
        let cluster = state.cluster.as_ref();
        Self {
            cluster: cluster.map(|cluster| cluster.meta.version),
            node: state.nodes.get(&node).map(|node| node.meta.version),
            removed: state.removed.len(),
        }
    }
}

impl Term {
    /// Serves one node's session until either side ends it.
    pub async fn session(
        self: Arc<Self>,
        node: NodeId,
        addr: Option<SocketAddr>,
        io: Box<dyn Io>,
    ) -> Result<(), SessionError> {
        let token = self.token.clone();
        let Some(outcome) = token.run_until_cancelled(self.serve(node, addr, io)).await else {
            return Ok(());
        };
        outcome
    }

    async fn serve(
        &self,
        node: NodeId,
        addr: Option<SocketAddr>,
        io: Box<dyn Io>,
    ) -> Result<(), SessionError> {
        let (mut reader, mut writer) = tokio::io::split(io);
        let first =
            tokio::time::timeout(REGISTER_DEADLINE, read_message(&mut reader, SESSION_FRAME));
        let Ok(Ok(Some(Upward::Register {
            description,
            addresses,
            issuer: _,
        }))) = first.await
        else {
            return Err(SessionError::Silent);
        };
        if !self.read().await?.nodes.contains_key(&node) {
            info!(%node, "session refused: the node is not a member");
            write_message(&mut writer, &Downward::Removed, SESSION_FRAME).await?;
            return Ok(());
        }
        let session = self.sessions.begin(node);
        self.tell(node, News::SessionBegan(addr)).await;
        info!(%node, term = self.number, "session began");
        let recorded = self.record(node, &description.0, &addresses).await;
        let outcome = match recorded {
            Ok(()) => self.talk(node, &session, &mut reader, &mut writer).await,
            Err(error) => Err(error.into()),
        };
        if self.sessions.end(node, &session) {
            self.tell(node, News::SessionLost).await;
        }
        info!(%node, term = self.number, "session ended");
        outcome
    }

    async fn talk(
        &self,
        node: NodeId,
        session: &Session,
        reader: &mut ReadHalf<Box<dyn Io>>,
        writer: &mut WriteHalf<Box<dyn Io>>,
    ) -> Result<(), SessionError> {
        let downward = self.send(node, session, writer);
        let upward = self.hear(node, session, reader);
        tokio::select! {
            outcome = downward => outcome,
            outcome = upward => outcome,
        }
    }

    async fn hear(
        &self,
        node: NodeId,
        session: &Session,
        reader: &mut ReadHalf<Box<dyn Io>>,
    ) -> Result<(), SessionError> {
        while let Some(message) = read_message(reader, SESSION_FRAME).await? {
            match message {
                Upward::Register {
                    description,
                    addresses,
                    issuer: _,
                } => {
                    self.record(node, &description.0, &addresses).await?;
                }
                Upward::Statuses(report) => {
                    debug!(%node, tasks = report.statuses.len(), "statuses of tasks");
                    self.hear_of_tasks(node, session, report);
                }
                Upward::Restarting => self.tell(node, News::Restarting).await,
                Upward::Leaving => self.tell(node, News::Left).await,
            }
        }
        Ok(())
    }

    fn hear_of_tasks(&self, node: NodeId, session: &Session, report: Report) {
        let complete = report.complete;
        let state = self.context.store.watch().borrow().clone();
        self.picture
            .send_if_modified(|picture| picture.hear(&state, node, report));
        if complete {
            session.heard_all();
        }
    }

    /// Sends what the node is, and what it is to run, as both change. Of tasks it is told once it has told of those that
    /// it has: before, it may not be able to run any, and what it says next may be all that is known of them.
    async fn send(
        &self,
        node: NodeId,
        session: &Session,
        writer: &mut WriteHalf<Box<dyn Io>>,
    ) -> Result<(), SessionError> {
        let mut routed = self.routed.subscribe();
        let known = self.context.store.watch().borrow().version;
        let is_new = |routed: &Option<Routed>| {
            let state = routed.as_ref().map(|routed| &routed.state);
            state.is_some_and(|state| state.version >= known)
        };
        if routed.wait_for(is_new).await.is_err() {
            return Ok(());
        }
        let mut dispatch = Dispatch::new(self.number, node);
        let mut told = Told::default();
        let (mut sent, mut made_of) = (None, None);
        loop {
            let Routed { state, plane } = routed.borrow_and_update().clone().unwrap_or_default();
            let made_now = Some(OrdersOf::new(node, &state));
            if made_now != made_of {
                made_of = made_now;
                let orders = self.orders(node, &state);
                if sent.as_ref() != Some(&orders) {
                    debug!(%node, ?orders, "orders");
                    write_message(writer, &orders, SESSION_FRAME).await?;
                    if orders == Downward::Removed {
                        return Ok(());
                    }
                    sent = Some(orders);
                }
            }
            for message in told.next(&plane) {
                write_message(writer, &message, SESSION_FRAME).await?;
            }
            if session.has_heard() {
                for message in dispatch.next(&state, &self.observed()) {
                    write_message(writer, &message, SESSION_FRAME).await?;
                }
            }
            session.wake.notified().await;
        }
    }

    fn orders(&self, node: NodeId, state: &State) -> Downward {
        let (Some(cluster), Some(known)) = (&state.cluster, state.nodes.get(&node)) else {
            return Downward::Removed;
        };
        Downward::Membership {
            term: self.number,
            role: known.role,
            standing: known.standing,
            roots_pem: trusted_roots(cluster),
            issuer: issuer_of(&issuing_root(cluster).cert_pem).unwrap_or_default(),
            removed: state.removed.keys().copied().collect(),
        }
    }

    /// Writes what a node says of itself into its object, when it differs.
    async fn record(
        &self,
        node: NodeId,
        description: &NodeDescription,
        addresses: &[SocketAddr],
    ) -> Result<(), AdminError> {
        for _ in 0..RECORD_ATTEMPTS {
            let state = self.context.store.watch().borrow().clone();
            let Some(known) = state.nodes.get(&node) else {
                return Err(AdminError::NoSuchNode(node));
            };
            if known.description == *description && known.addresses == addresses {
                return Ok(());
            }
            let next = Node {
                description: description.clone(),
                addresses: addresses.to_vec(),
                ..Node::clone(known)
            };
            let change = Change::PutNode(Expect::Version(known.meta.version), Box::new(next));
            match self.commit(vec![change]).await {
                Ok(_) => return Ok(()),
                Err(AdminError::OutOfSequence) => {}
                Err(error) => return Err(error),
            }
        }
        Err(AdminError::OutOfSequence)
    }
}
