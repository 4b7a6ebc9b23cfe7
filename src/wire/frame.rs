//! Frames: a length and that many bytes, the unit of every stream that carries messages.
//!
//! The length is a big-endian `u32`. The reader says how long a frame it takes, and a longer one is
//! an error before a byte of it is buffered.

use bytes::{Buf, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{DecodeError, EncodeError, decode, encode};

/// Bytes of the length in front of a frame.
pub const HEADER_BYTES: usize = 4;

/// Why a stream of frames cannot go on. The stream is to be reset: its position is lost.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer wants to send more at once than this stream takes.
    #[error("a frame of {len} bytes where at most {max} are taken")]
    TooLong {
        /// Announced bytes.
        len: usize,
        /// The reader's limit.
        max: usize,
    },
    /// The frame is whole, its content is not.
    #[error("a frame does not decode")]
    Content(#[source] DecodeError),
    /// The value to be sent cannot be encoded.
    #[error("a message cannot be encoded")]
    Encode(#[source] EncodeError),
}

/// Reads the length of the next frame and refuses one beyond `max`.
pub fn parse_header(header: [u8; HEADER_BYTES], max: usize) -> Result<usize, FrameError> {
    let len = u32::from_be_bytes(header) as usize;
    if len > max {
        return Err(FrameError::TooLong { len, max });
    }
    Ok(len)
}

/// A message as a frame, length in front.
pub fn to_frame<T: Serialize>(message: &T, max: usize) -> Result<Vec<u8>, FrameError> {
    let body = encode(message).map_err(FrameError::Encode)?;
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if body.len() > max {
        return Err(FrameError::TooLong {
            len: body.len(),
            max,
        });
    }
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The message in a frame's body.
pub fn from_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    decode(body).map_err(FrameError::Content)
}

/// Collects bytes as they come and gives out whole frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    max: usize,
}

impl FrameDecoder {
    /// A decoder that takes frames of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            max,
        }
    }

    /// Adds bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether nothing is left over from what was pushed.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes out up to `max` bytes that are in no frame yet, for a stream that goes on without frames.
    pub fn take_buffered(&mut self, max: usize) -> Vec<u8> {
        let count = self.buffer.len().min(max);
        self.buffer.split_to(count).to_vec()
    }

    /// The next whole frame's body; `None` until more bytes arrive.
    pub fn poll_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let len = parse_header(*header, self.max)?;
        if self.buffer.len() < HEADER_BYTES + len {
            return Ok(None);
        }
        // Nothing behind the frame is moved: a flood of small frames costs no more than its length.
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(self.buffer.split_to(len).to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_survive_any_chunking(bodies: Vec<Vec<u8>>, chunk in 1usize..50) {
            let mut wire = Vec::new();
            for body in &bodies {
                wire.extend(to_frame(body, 1 << 20).unwrap());
            }
            let mut decoder = FrameDecoder::new(1 << 20);
            let mut seen = Vec::new();
            for part in wire.chunks(chunk) {
                decoder.push(part);
                while let Some(body) = decoder.poll_frame().unwrap() {
                    seen.push(from_body::<Vec<u8>>(&body).unwrap());
                }
            }
            prop_assert_eq!(seen, bodies);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, max in 0usize..64) {
            let mut decoder = FrameDecoder::new(max);
            decoder.push(&bytes);
            while let Ok(Some(body)) = decoder.poll_frame() {
                prop_assert!(body.len() <= max);
            }
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_by_its_header() {
        let mut decoder = FrameDecoder::new(16);
        decoder.push(&17u32.to_be_bytes());
        assert!(matches!(
            decoder.poll_frame(),
            Err(FrameError::TooLong { len: 17, max: 16 })
        ));
    }

    #[test]
    fn a_flood_of_small_frames_costs_no_more_than_its_length() {
        const FRAMES: usize = 1 << 20;
        let mut decoder = FrameDecoder::new(16);
        decoder.push(&[0, 0, 0, 1, 7].repeat(FRAMES));
        let begun = std::time::Instant::now();
        let mut seen = 0;
        while let Some(body) = decoder.poll_frame().unwrap() {
            assert_eq!(body, [7]);
            seen += 1;
        }
        assert_eq!(seen, FRAMES);
        assert!(decoder.is_empty());
        // Moving the rest for each frame would take minutes.
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }

    #[test]
    fn what_is_in_no_frame_can_be_taken_out() {
        let mut decoder = FrameDecoder::new(16);
        decoder.push(&[0, 0, 0, 1, 7, 1, 2, 3]);
        assert_eq!(decoder.poll_frame().unwrap(), Some(vec![7]));
        assert_eq!(decoder.take_buffered(2), [1, 2]);
        assert_eq!(decoder.take_buffered(2), [3]);
        assert!(decoder.is_empty() && decoder.take_buffered(2).is_empty());
    }
}
