//! What arrives from other nodes, given to the room that it is for.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::content;
use super::member::Member;
use crate::cluster::frames::Io;
use crate::cluster::transport::{InboundStream, JoinStream, OpenError};
use crate::model::{NodeId, Standing};
use crate::wire::StreamKind;
use crate::wire::control::{ControlReply, ControlRequest};
use crate::wire::join::{JoinReply, JoinRequest};
use crate::wire::limits::CONTROL_DEADLINE;

/// Bytes in flight between a leader's own agent and its manager.
const PIPE: usize = 64 << 10;

/// Members that a plain worker names to a stranger at its door.
const ELSEWHERE: usize = 16;

/// Serves streams and joins for as long as the membership lasts.
pub fn spawn(
    member: &Arc<Member>,
    mut streams: mpsc::Receiver<InboundStream>,
    mut joins: mpsc::Receiver<JoinStream>,
    api: mpsc::Sender<Box<dyn Io>>,
) {
    let owner = member.clone();
    member.run(async move {
        while let Some(inbound) = streams.recv().await {
            let (member, api) = (owner.clone(), api.clone());
            owner.run(async move { serve(member, inbound, api).await });
        }
    });
    let owner = member.clone();
    member.run(async move {
        while let Some(stream) = joins.recv().await {
            let member = owner.clone();
            owner.run(async move { answer_stranger(member, stream).await });
        }
    });
}

async fn serve(member: Arc<Member>, inbound: InboundStream, api: mpsc::Sender<Box<dyn Io>>) {
    let (peer, kind) = (inbound.peer.node, inbound.kind);
    let eligible = inbound.peer.standing == Standing::Eligible;
    match kind {
        StreamKind::Raft if eligible => serve_raft(&member, inbound).await,
        StreamKind::Session => serve_session(&member, inbound).await,
        StreamKind::Control => serve_control(&member, inbound).await,
        StreamKind::Api if eligible => serve_api(inbound, &api),
        StreamKind::Raft | StreamKind::Api => {
            warn!(%peer, ?kind, "refused: a worker's certificate does not allow this");
        }
        StreamKind::Content => {
            if let Some(images) = member.engine.images() {
                content::serve(&images, inbound).await;
            }
        }
        StreamKind::Hello | StreamKind::Gossip => {
            debug!(%peer, ?kind, "a stream that the transport serves itself");
        }
    }
}

async fn serve_raft(member: &Member, mut inbound: InboundStream) {
    let Some(store) = &member.store else { return };
    let Ok(request) = inbound.stream.read_bytes().await else {
        return;
    };
    match store.handle(inbound.peer.node, &request).await {
        Ok(reply) => {
            if let Err(error) = inbound.stream.write_bytes(reply).await {
                debug!(peer = %inbound.peer.node, %error, "a raft reply was not taken");
            }
            inbound.stream.finish();
        }
        Err(error) => warn!(peer = %inbound.peer.node, %error, "a raft request was refused"),
    }
}

async fn serve_session(member: &Member, inbound: InboundStream) {
    let Some(term) = member.term.borrow().clone() else {
        debug!(peer = %inbound.peer.node, "a session was asked of a node that does not lead");
        return;
    };
    let (peer, addr) = (inbound.peer.node, inbound.addr);
    let io: Box<dyn Io> = Box::new(inbound.stream.into_io());
    if let Err(error) = term.session(peer, Some(addr), io).await {
        debug!(%peer, error = %super::join::reason(&error), "session failed");
    }
}

async fn serve_control(member: &Member, mut inbound: InboundStream) {
    let Ok(request) = inbound.stream.read_frame::<ControlRequest>().await else {
        return;
    };
    let term = member.term.borrow().clone();
    let reply = match term {
        Some(term) => term.control(inbound.peer.node, request).await,
        None => ControlReply::NotLeader(member.leader.borrow().map(|hint| hint.leader)),
    };
    if inbound.stream.write_frame(&reply).await.is_ok() {
        inbound.stream.finish();
    }
}

fn serve_api(inbound: InboundStream, api: &mpsc::Sender<Box<dyn Io>>) {
    let peer = inbound.peer.node;
    if api.try_send(Box::new(inbound.stream.into_io())).is_err() {
        warn!(%peer, "a forwarded request was refused: too many wait");
    }
}

async fn answer_stranger(member: Arc<Member>, stream: JoinStream) {
    let reply = match &member.store {
        None => JoinReply::Elsewhere(doors(&member)),
        Some(_) => {
            let request = match stream.request.clone() {
                JoinRequest::Join(body) => ControlRequest::Join {
                    from: stream.from,
                    body,
                },
                JoinRequest::Renew { csr_der } => ControlRequest::Certificate { csr_der },
            };
            match ask_leader(&member, request).await {
                ControlReply::Join(reply) => reply,
                ControlReply::Refused(why) => JoinReply::Refused(why),
                ControlReply::NotLeader(_) | ControlReply::Done => {
                    JoinReply::Later("the cluster has no leader at the moment".into())
                }
            }
        }
    };
    stream.respond(reply).await;
}

/// Addresses of members that can let a stranger in.
fn doors(member: &Member) -> Vec<std::net::SocketAddr> {
    let peers = member.peers();
    peers
        .nodes
        .iter()
        .filter(|(node, view)| peers.is_alive(**node) && view.facts.standing == Standing::Eligible)
        .flat_map(|(_, view)| view.facts.addresses.first().copied())
        .take(ELSEWHERE)
        .collect()
}

/// Asks the leader, wherever it is.
pub async fn ask_leader(member: &Member, request: ControlRequest) -> ControlReply {
    let (term, hint) = (member.term.borrow().clone(), *member.leader.borrow());
    if let Some(term) = term {
        return term.control(member.node, request).await;
    }
    let Some(hint) = hint else {
        return ControlReply::NotLeader(None);
    };
    let call = member
        .transport
        .call(hint.leader, StreamKind::Control, &request, CONTROL_DEADLINE);
    match call.await {
        Ok(reply) => reply,
        Err(error) => {
            debug!(leader = %hint.leader, error = %super::join::reason(&error), "the leader was not reached");
            ControlReply::NotLeader(None)
        }
    }
}

/// No session could be opened with the leader.
#[derive(Debug, thiserror::Error)]
pub enum SessionOpenError {
    /// It cannot be reached.
    #[error("the leader is not reached")]
    Unreached(#[source] OpenError),
    /// This node itself was named, and does not lead (yet).
    #[error("this node does not lead yet")]
    NotYet,
}

/// Opens the agent's stream to the leader; a pipe when this node leads itself.
pub async fn open_session(
    member: Arc<Member>,
    leader: NodeId,
) -> Result<Box<dyn Io>, SessionOpenError> {
    if leader != member.node {
        let opened = member.transport.open(leader, StreamKind::Session).await;
        let stream = opened.map_err(SessionOpenError::Unreached)?;
        return Ok(Box::new(stream.into_io()));
    }
    let term = member
        .term
        .borrow()
        .clone()
        .ok_or(SessionOpenError::NotYet)?;
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let (node, addr) = (member.node, member.addresses().first().copied());
    member.run(async move {
        if let Err(error) = term.session(node, addr, Box::new(theirs)).await {
            debug!(error = %super::join::reason(&error), "own session failed");
        }
    });
    Ok(Box::new(ours))
}
