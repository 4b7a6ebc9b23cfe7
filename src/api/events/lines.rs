//! A feed as bytes: one event a line, written by a leader and read by another node.

use axum::body::BodyDataStream;
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;

use crate::api::backend::Event;
use crate::api::dto::event::EventDto;

/// Longest line of a feed; an event names one object and what changed of it.
const LINE_LIMIT: usize = 1 << 20;

/// The line of an event, as clients and other nodes get it.
pub(super) fn line(event: Event) -> Bytes {
    let mut text = serde_json::to_vec(&EventDto::from(event)).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// The events in a response body, one JSON object a line.
pub(super) struct Lines {
    body: BodyDataStream,
    buffer: BytesMut,
}

impl Lines {
    /// Those of a feed's response.
    pub(super) fn of(response: Response) -> Self {
        Self {
            body: response.into_body().into_data_stream(),
            buffer: BytesMut::new(),
        }
    }

    /// The next event; `None` when the body ends, breaks off or is not a feed. Loses nothing when dropped midway.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return serde_json::from_slice::<EventDto>(&line)
                    .ok()
                    .map(Event::from);
            }
            if self.buffer.len() > LINE_LIMIT {
                return None;
            }
            self.buffer.extend(self.body.next().await?.ok()?);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use axum::body::Body;
    use futures_util::stream;

    use super::*;
    use crate::model::Timestamp;

    fn event() -> Event {
        Event {
            kind: "node".into(),
            action: "update".into(),
            actor: "0abc".into(),
            attributes: BTreeMap::from([("name".into(), "host-1".into())]),
            time: Timestamp::from_nanos(1),
        }
    }

    #[tokio::test]
    async fn lines_survive_any_chunking_and_end_at_garbage() {
        let bytes = [line(event()), line(event()), "nonsense\n".into()].concat();
        let chunks: Vec<_> = bytes
            .chunks(7)
            .map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk)))
            .collect();
        let body = Body::from_stream(stream::iter(chunks));
        let mut lines = Lines::of(Response::new(body));
        assert_eq!(lines.next().await, Some(event()));
        assert_eq!(lines.next().await, Some(event()));
        assert_eq!(lines.next().await, None);
    }
}
