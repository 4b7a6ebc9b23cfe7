//! The frame decoder and every message that frames carry.
//!
//! An input is three bytes of knobs and then a stream. The decoder is compared with a plain reading of the same stream,
//! and must not care how the stream was cut into pieces. Each frame's body, and the stream itself as one body, is then
//! tried as each kind of message: what decodes must be fit for use, and must survive being sent on.

use std::fmt::Debug;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use skein::identity::{admits, node_of_csr};
use skein::model::{Change, JoinSecrets, NodeId, Proposal, Timestamp};
use skein::wire::control::{ControlReply, ControlRequest};
use skein::wire::frame::{FrameDecoder, FrameError, HEADER_BYTES, from_body, to_frame};
use skein::wire::hello::{Hello, common_version};
use skein::wire::join::{JoinBody, JoinReply, JoinRequest};
use skein::wire::session::{Downward, Upward};
use skein::wire::{PROTOCOL_MAX, PROTOCOL_MIN, StreamKind};

/// The longest frame that an input may ask the decoder to take: inputs are far shorter.
const MAX_FRAME: usize = 1 << 12;

/// Panics when frames or messages break a promise on this input.
pub fn check(data: &[u8]) {
    understood(data);
}

/// The same; tells how many messages there were.
pub fn understood(data: &[u8]) -> usize {
    let Some((&[low, high, sizes], stream)) = data.split_first_chunk::<3>() else {
        return 0;
    };
    let max = usize::from(u16::from_le_bytes([low, high])) % (MAX_FRAME + 1);
    let (frames, end) = by_the_book(stream, max);
    let small = [usize::from(sizes & 15) + 1, usize::from(sizes >> 4) + 1];
    assert_eq!(decoded(stream, max, small), (frames.clone(), end));
    assert_eq!(
        decoded(stream, max, [stream.len().max(1); 2]),
        (frames.clone(), end)
    );
    let kind = StreamKind::from_byte(sizes);
    assert!(kind.is_none_or(|kind| kind as u8 == sizes));
    messages(stream) + frames.iter().map(|body| messages(body)).sum::<usize>()
}

/// The frames in a stream, and the announced length of the one that is too long.
type Reading = (Vec<Vec<u8>>, Option<usize>);

/// What the words of the format say, without a thought for speed.
fn by_the_book(mut stream: &[u8], max: usize) -> Reading {
    let mut frames = Vec::new();
    while let Some((header, rest)) = stream.split_first_chunk::<HEADER_BYTES>() {
        let len = u32::from_be_bytes(*header) as usize;
        if len > max {
            return (frames, Some(len));
        }
        let Some((body, rest)) = rest.split_at_checked(len) else {
            break;
        };
        frames.push(body.to_vec());
        stream = rest;
    }
    (frames, None)
}

/// What the decoder says when the stream comes in pieces of these lengths, in turns.
fn decoded(mut stream: &[u8], max: usize, pieces: [usize; 2]) -> Reading {
    let mut decoder = FrameDecoder::new(max);
    let mut frames = Vec::new();
    for piece in pieces.into_iter().cycle() {
        loop {
            match decoder.poll_frame() {
                Ok(Some(body)) => frames.push(body),
                Ok(None) => break,
                Err(FrameError::TooLong { len, max: told }) => {
                    assert_eq!(told, max);
                    decoder.push(stream);
                    assert!(decoder.poll_frame().is_err(), "a broken stream goes on");
                    return (frames, Some(len));
                }
                Err(other) => panic!("{other}"),
            }
        }
        if stream.is_empty() {
            return (frames, None);
        }
        let (now, later) = stream.split_at(piece.min(stream.len()));
        decoder.push(now);
        stream = later;
    }
    unreachable!("a cycle has no end")
}

/// Tries a body as each kind of message. How many of them it is.
fn messages(body: &[u8]) -> usize {
    let found = [
        message::<Hello>(body).map(|hello| of_hello(&hello)),
        message::<JoinRequest>(body).map(|request| of_join(&request)),
        message::<JoinReply>(body).map(drop),
        message::<ControlRequest>(body).map(|request| of_control(&request)),
        message::<ControlReply>(body).map(drop),
        message::<Upward>(body).map(drop),
        message::<Downward>(body).map(drop),
        message::<Proposal>(body).map(|proposal| of_proposal(&proposal)),
    ];
    found.into_iter().flatten().count()
}

/// The message, if it is one of this kind.
fn message<T: Serialize + DeserializeOwned + Debug>(body: &[u8]) -> Option<T> {
    let message: T = from_body(body).ok()?;
    let frame = to_frame(&message, usize::MAX).expect("what was received can be sent on");
    let sent = &frame[HEADER_BYTES..];
    let again: T = from_body(sent).expect("what was sent on can be received");
    let frame_again = to_frame(&again, usize::MAX).expect("what was received can be sent on");
    assert_eq!(frame, frame_again, "{message:?}");
    assert_eq!(format!("{message:?}"), format!("{again:?}"));
    Some(message)
}

fn of_hello(hello: &Hello) {
    of_node(hello.node);
    let ours = (PROTOCOL_MIN, PROTOCOL_MAX);
    if let Some(version) = common_version(ours, hello.protocol) {
        assert!((ours.0..=ours.1).contains(&version));
        assert!((hello.protocol.0..=hello.protocol.1).contains(&version));
    }
}

fn of_join(request: &JoinRequest) {
    match request {
        JoinRequest::Join(body) => of_join_body(body),
        JoinRequest::Renew { csr_der } => of_csr(csr_der),
    }
}

fn of_control(request: &ControlRequest) {
    match request {
        ControlRequest::Join { body, .. } => of_join_body(body),
        ControlRequest::Certificate { csr_der } => of_csr(csr_der),
        ControlRequest::Leave { node } => of_node(*node),
    }
}

fn of_join_body(body: &JoinBody) {
    assert_eq!(admits(&JoinSecrets::default(), &body.secret), None);
    of_csr(&body.csr_der);
    of_time(body.clock);
}

fn of_csr(csr_der: &[u8]) {
    if let Ok(node) = node_of_csr(csr_der) {
        of_node(node);
    }
}

fn of_proposal(proposal: &Proposal) {
    of_time(proposal.at);
    for change in &proposal.changes {
        match change {
            Change::PutCluster(_, cluster) => of_time(cluster.meta.updated_at),
            Change::PutNode(_, node) => {
                of_node(node.id);
                of_time(node.meta.created_at);
                of_time(node.certificate.not_after);
            }
            Change::RemoveNode(_, node) => of_node(*node),
            Change::PutService(_, service) => of_time(service.meta.updated_at),
            Change::PutTask(_, task) => of_time(task.status.at),
            Change::PutDependency(_, dependency) => of_time(dependency.meta.updated_at),
            Change::PutNetwork(_, network) => of_time(network.meta.updated_at),
            Change::RemoveService(..)
            | Change::PutTemplate(..)
            | Change::RemoveTask(..)
            | Change::RemoveDependency(..)
            | Change::RemoveNetwork(..) => {}
        }
    }
}

fn of_node(node: NodeId) {
    assert_eq!(node.to_string().parse(), Ok(node));
    assert_eq!(NodeId::from_gossip_addr(node.gossip_addr()), Some(node));
}

/// A time that a peer names, however far from ours.
fn of_time(time: Timestamp) {
    let now = Timestamp::from_nanos(1_907_755_200 * 1_000_000_000);
    assert_eq!(now.since(time).is_zero(), time >= now);
    assert_eq!(time.since(now).is_zero(), now >= time);
    assert!(time.after(Duration::MAX) >= time);
    assert!((time <= now) == (time.secs() <= now.secs()) || time.secs() == now.secs());
    assert!(!time.to_string().is_empty());
}
