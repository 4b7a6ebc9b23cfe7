//! One stream between two members: frames of its kind's size, or plain bytes.
//!
//! Rooms that talk in messages use `read_frame` and `write_frame`; those that proxy HTTP use [`Stream::into_io`].
//! While a stream lives its connection is kept alive. Nothing here has a deadline: who waits, bounds it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use quinn::{RecvStream, SendStream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::codes::StreamCode;
use super::error::StreamError;
use super::link::InUse;
use crate::wire::StreamKind;
use crate::wire::frame::{FrameDecoder, FrameError, HEADER_BYTES, from_body, to_frame};

/// Bytes taken from QUIC at a time.
const READ_AT_ONCE: usize = 64 << 10;

/// What keeps the connection of a stream alive and counts it, on both sides.
#[derive(Debug)]
pub(super) struct Held {
    _in_use: InUse,
    _place: Option<OwnedSemaphorePermit>,
}

impl Held {
    pub(super) const fn new(in_use: InUse, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            _in_use: in_use,
            _place: place,
        }
    }
}

/// A stream in both directions.
pub struct Stream {
    /// Towards the peer.
    pub send: SendStream,
    /// From the peer. Mixing reads here with [`Self::read_frame`] loses what the latter has buffered.
    pub recv: RecvStream,
    kind: StreamKind,
    decoder: FrameDecoder,
    held: Arc<Held>,
}

/// The half of a stream that reads frames.
pub struct FrameReader {
    recv: RecvStream,
    decoder: FrameDecoder,
    _held: Arc<Held>,
}

/// The half of a stream that writes frames.
pub struct FrameWriter {
    send: SendStream,
    kind: StreamKind,
    _held: Arc<Held>,
}

impl Stream {
    pub(super) fn new(send: SendStream, recv: RecvStream, kind: StreamKind, held: Held) -> Self {
        Self {
            send,
            recv,
            kind,
            decoder: FrameDecoder::new(kind.max_frame()),
            held: Arc::new(held),
        }
    }

    /// What the stream carries.
    pub const fn kind(&self) -> StreamKind {
        self.kind
    }

    /// The next message. Cancel safe: a frame that has come in part stays buffered.
    pub async fn read_frame<T: DeserializeOwned>(&mut self) -> Result<T, StreamError> {
        read_message(&mut self.recv, &mut self.decoder).await
    }

    /// The next frame's body, undecoded. Cancel safe.
    pub async fn read_bytes(&mut self) -> Result<Vec<u8>, StreamError> {
        read_body(&mut self.recv, &mut self.decoder).await
    }

    /// Sends a message. Not cancel safe: a frame written in part cannot be taken back.
    pub async fn write_frame<T: Serialize>(&mut self, message: &T) -> Result<(), StreamError> {
        write_message(&mut self.send, self.kind, message).await
    }

    /// Sends bytes as one frame, without encoding them again. Not cancel safe.
    pub async fn write_bytes(&mut self, body: Vec<u8>) -> Result<(), StreamError> {
        write_body(&mut self.send, self.kind, body.into(), None).await
    }

    /// Says that nothing more is sent. What was sent is still delivered when the stream is dropped.
    pub fn finish(&mut self) {
        // It fails only on a stream that is finished or reset, which is what was wanted.
        let _ = self.send.finish();
    }

    /// Gives the stream up in both directions, and tells the peer why.
    pub fn reset(&mut self, why: StreamCode) {
        let _ = self.send.reset(why.on_wire());
        let _ = self.recv.stop(why.on_wire());
    }

    /// One half for each direction, for tasks of their own.
    pub fn split(self) -> (FrameReader, FrameWriter) {
        let reader = FrameReader {
            recv: self.recv,
            decoder: self.decoder,
            _held: Arc::clone(&self.held),
        };
        let writer = FrameWriter {
            send: self.send,
            kind: self.kind,
            _held: self.held,
        };
        (reader, writer)
    }

    /// The stream as plain bytes both ways; shutting it down finishes it.
    pub const fn into_io(self) -> StreamIo {
        StreamIo { stream: self }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({:?}, {})", self.kind, self.send.id())
    }
}

impl FrameReader {
    /// As [`Stream::read_frame`].
    pub async fn read_frame<T: DeserializeOwned>(&mut self) -> Result<T, StreamError> {
        read_message(&mut self.recv, &mut self.decoder).await
    }
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameReader({})", self.recv.id())
    }
}

impl FrameWriter {
    /// As [`Stream::write_frame`].
    pub async fn write_frame<T: Serialize>(&mut self, message: &T) -> Result<(), StreamError> {
        write_message(&mut self.send, self.kind, message).await
    }

    /// As [`Stream::finish`].
    pub fn finish(&mut self) {
        let _ = self.send.finish();
    }

    /// Gives this direction up, and tells the peer why.
    pub fn reset(&mut self, why: StreamCode) {
        let _ = self.send.reset(why.on_wire());
    }

    /// Ends when the peer takes no more: it stopped the stream, or the connection ended.
    pub async fn closed(&mut self) {
        let _ = self.send.stopped().await;
    }
}

impl fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameWriter({:?}, {})", self.kind, self.send.id())
    }
}

/// Sends a frame, with `first` in front of it, in as few packets as it takes.
pub(super) async fn write_body(
    send: &mut SendStream,
    kind: StreamKind,
    body: Bytes,
    first: Option<u8>,
) -> Result<(), StreamError> {
    let (len, max) = (body.len(), kind.max_frame());
    let Some(length) = u32::try_from(len).ok().filter(|_| len <= max) else {
        return Err(StreamError::Frame(FrameError::TooLong { len, max }));
    };
    let mut head = Vec::with_capacity(1 + HEADER_BYTES);
    head.extend(first);
    head.extend_from_slice(&length.to_be_bytes());
    let mut chunks = [Bytes::from(head), body];
    Ok(send.write_all_chunks(&mut chunks).await?)
}

async fn write_message<T: Serialize>(
    send: &mut SendStream,
    kind: StreamKind,
    message: &T,
) -> Result<(), StreamError> {
    let frame = to_frame(message, kind.max_frame()).map_err(StreamError::Frame)?;
    Ok(send.write_chunk(frame.into()).await?)
}

async fn read_message<T: DeserializeOwned>(
    recv: &mut RecvStream,
    decoder: &mut FrameDecoder,
) -> Result<T, StreamError> {
    let body = read_body(recv, decoder).await?;
    from_body(&body).map_err(|error| give_up(recv, error))
}

/// The next frame's body. On a bad frame the peer is told to stop.
pub(super) async fn read_body(
    recv: &mut RecvStream,
    decoder: &mut FrameDecoder,
) -> Result<Vec<u8>, StreamError> {
    loop {
        match decoder.poll_frame() {
            Ok(Some(body)) => {
                // With more frames at hand the end is not near, and taking in more for each that is given out would
                // let a peer fill this node's memory.
                if decoder.is_empty() {
                    see_the_end(recv, decoder);
                }
                return Ok(body);
            }
            Ok(None) => {}
            Err(error) => return Err(give_up(recv, error)),
        }
        match recv.read_chunk(READ_AT_ONCE, true).await? {
            Some(chunk) => decoder.push(&chunk.bytes),
            None if decoder.is_empty() => return Err(StreamError::Finished),
            None => return Err(StreamError::Truncated),
        }
    }
}

/// Takes note of the end of the stream when it has come with the frame, as that of most calls has: QUIC otherwise
/// sends a packet that asks the peer to stop sending.
fn see_the_end(recv: &mut RecvStream, decoder: &mut FrameDecoder) {
    if let Some(Ok(Some(chunk))) = recv.read_chunk(READ_AT_ONCE, true).now_or_never() {
        decoder.push(&chunk.bytes);
    }
}

fn give_up(recv: &mut RecvStream, error: FrameError) -> StreamError {
    let code = match error {
        FrameError::TooLong { .. } => StreamCode::TooLong,
        FrameError::Content(_) | FrameError::Encode(_) => StreamCode::Malformed,
    };
    let _ = recv.stop(code.on_wire());
    StreamError::Frame(error)
}

/// A stream as plain bytes.
#[derive(Debug)]
pub struct StreamIo {
    stream: Stream,
}

impl AsyncRead for StreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &mut self.get_mut().stream;
        let buffered = stream.decoder.take_buffered(buf.remaining());
        if !buffered.is_empty() {
            buf.put_slice(&buffered);
            return Poll::Ready(Ok(()));
        }
        AsyncRead::poll_read(Pin::new(&mut stream.recv), cx, buf)
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.get_mut().stream.send), cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.get_mut().stream.send), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.get_mut().stream.send), cx)
    }
}
