//! Messages over any byte stream: what [`wire::frame`](crate::wire::frame) decides, read and written.
//!
//! Sessions use it, so that a leader's own agent talks to it through a pipe in memory as any other does by QUIC.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::wire::frame::{FrameError, HEADER_BYTES, from_body, parse_header, to_frame};

/// A byte stream to another node, or to another room of this one.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A stream of messages has broken; it cannot be used further.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The stream ended or failed.
    #[error("the stream broke")]
    Broken(#[source] io::Error),
    /// What was sent is not a frame that is taken here.
    #[error("the stream carries what it should not")]
    Frame(#[source] FrameError),
}

/// Reads the next message; `None` when the other side ended the stream between two.
pub async fn read_message<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin + ?Sized),
    max: usize,
) -> Result<Option<T>, MessageError> {
    let mut header = [0; HEADER_BYTES];
    match from.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(MessageError::Broken(error)),
    }
    let len = parse_header(header, max).map_err(MessageError::Frame)?;
    let mut body = vec![0; len];
    from.read_exact(&mut body)
        .await
        .map_err(MessageError::Broken)?;
    from_body(&body).map(Some).map_err(MessageError::Frame)
}

/// Writes one message and flushes it.
pub async fn write_message<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin + ?Sized),
    message: &T,
    max: usize,
) -> Result<(), MessageError> {
    let frame = to_frame(message, max).map_err(MessageError::Frame)?;
    to.write_all(&frame).await.map_err(MessageError::Broken)?;
    to.flush().await.map_err(MessageError::Broken)
}
