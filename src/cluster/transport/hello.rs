//! The introduction on a connection, and the same exchange later as a question whether the other side lives.
//!
//! [`check`] decides, the rest carries bytes. A connection is in no pool and carries no other stream before both
//! sides have greeted: a TLS 1.3 client learns only by the answer that its certificate was taken.

use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use tokio::time::timeout;

use super::codes::CloseCode;
use super::error::{StreamError, words};
use super::stream::{read_body, write_body};
use crate::model::NodeId;
use crate::wire::frame::{FrameDecoder, FrameError, from_body};
use crate::wire::hello::{Hello, common_version};
use crate::wire::{StreamKind, encode};

/// Why a hello is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HelloProblem {
    /// It names another node than the certificate.
    #[error("its hello names node {claimed}, its certificate node {certified}")]
    OtherNode { claimed: NodeId, certified: NodeId },
    /// No protocol version in common.
    #[error(
        "it speaks protocol versions {} to {}, this node {} to {}: upgrade Skein on the older of the two",
        .theirs.0, .theirs.1, .ours.0, .ours.1
    )]
    Version {
        ours: (u16, u16),
        theirs: (u16, u16),
    },
    /// This process dialled itself.
    #[error("the address leads back to this node itself")]
    Oneself,
    /// Another process with this node's key.
    #[error(
        "another machine runs with a copy of this node's data directory (node {0}): stop one of the two, remove its data directory, and let it join as a new node"
    )]
    OurTwin(NodeId),
}

impl HelloProblem {
    /// The code and the words with which the connection is closed; the words are the other side's view.
    pub(super) fn farewell(&self) -> (CloseCode, String) {
        match self {
            Self::OtherNode { .. } => (
                CloseCode::Hello,
                "the hello names another node than the certificate".to_owned(),
            ),
            Self::Version { ours, theirs } => (
                CloseCode::Hello,
                Self::Version {
                    ours: *theirs,
                    theirs: *ours,
                }
                .to_string(),
            ),
            Self::Oneself => (CloseCode::Oneself, self.to_string()),
            Self::OurTwin(_) => (CloseCode::Twin, self.to_string()),
        }
    }
}

/// Whether `theirs` is what the node in the certificate may say to us.
pub(super) fn check(theirs: &Hello, certified: NodeId, ours: &Hello) -> Result<(), HelloProblem> {
    if theirs.node != certified {
        return Err(HelloProblem::OtherNode {
            claimed: theirs.node,
            certified,
        });
    }
    if certified == ours.node {
        return Err(if theirs.instance == ours.instance {
            HelloProblem::Oneself
        } else {
            HelloProblem::OurTwin(certified)
        });
    }
    match common_version(ours.protocol, theirs.protocol) {
        Some(_) => Ok(()),
        None => Err(HelloProblem::Version {
            ours: ours.protocol,
            theirs: theirs.protocol,
        }),
    }
}

/// Why there was no answer to a hello.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetError {
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("{}", lost_words(.0))]
    Stream(StreamError),
}

fn lost_words(error: &StreamError) -> String {
    match error {
        StreamError::Lost(lost) => words(lost),
        other => other.to_string(),
    }
}

/// Says hello and waits for the answer, on a stream of its own.
pub(super) async fn greet(
    conn: &Connection,
    ours: &Hello,
    deadline: Duration,
) -> Result<Hello, GreetError> {
    let exchange = async {
        let (mut send, mut recv) = conn.open_bi().await.map_err(StreamError::Lost)?;
        let first = Some(StreamKind::Hello as u8);
        write_body(&mut send, StreamKind::Hello, body(ours)?, first).await?;
        // It fails only on a stream that has ended, which the read then reports.
        let _ = send.finish();
        read_hello(&mut recv).await
    };
    match timeout(deadline, exchange).await {
        Ok(answer) => answer.map_err(GreetError::Stream),
        Err(_) => Err(GreetError::Silent(deadline)),
    }
}

/// Reads a hello whose kind byte was read already.
pub(super) async fn read_hello(recv: &mut RecvStream) -> Result<Hello, StreamError> {
    let mut decoder = FrameDecoder::new(StreamKind::Hello.max_frame());
    let body = read_body(recv, &mut decoder).await?;
    from_body(&body).map_err(StreamError::Frame)
}

/// Answers a hello.
pub(super) async fn answer(send: &mut SendStream, ours: &Hello) -> Result<(), StreamError> {
    write_body(send, StreamKind::Hello, body(ours)?, None).await?;
    let _ = send.finish();
    Ok(())
}

fn body(hello: &Hello) -> Result<bytes::Bytes, StreamError> {
    let body = encode(hello).map_err(|error| StreamError::Frame(FrameError::Encode(error)))?;
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: u128, instance: u64, protocol: (u16, u16)) -> Hello {
        Hello {
            node: NodeId::from_bits(node),
            instance,
            protocol,
            addresses: Vec::new(),
            observed: None,
        }
    }

    #[test]
    fn a_hello_must_be_the_certificates_and_of_a_common_version() {
        let ours = hello(1, 10, (1, 2));
        let certified = NodeId::from_bits(2);
        assert_eq!(check(&hello(2, 20, (2, 3)), certified, &ours), Ok(()));
        assert!(matches!(
            check(&hello(3, 20, (1, 1)), certified, &ours),
            Err(HelloProblem::OtherNode { .. })
        ));
        let problem = check(&hello(2, 20, (3, 4)), certified, &ours).unwrap_err();
        assert!(problem.to_string().contains("3 to 4, this node 1 to 2"));
        let (code, told) = problem.farewell();
        assert_eq!(code, CloseCode::Hello);
        assert!(
            told.contains("1 to 2, this node 3 to 4"),
            "the other side reads it from its own view"
        );
    }

    #[test]
    fn oneself_and_ones_twin_are_told_apart_by_the_instance() {
        let ours = hello(1, 10, (1, 1));
        let own = NodeId::from_bits(1);
        assert_eq!(
            check(&hello(1, 10, (1, 1)), own, &ours),
            Err(HelloProblem::Oneself)
        );
        assert_eq!(
            check(&hello(1, 11, (1, 1)), own, &ours),
            Err(HelloProblem::OurTwin(own))
        );
    }
}
