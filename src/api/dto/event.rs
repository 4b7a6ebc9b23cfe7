//! Docker's event message, in and out: a leader sends events to other nodes in the same shape as to clients.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::backend::Event;
use crate::model::Timestamp;

/// `EventMessage` of an object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::api) struct EventDto {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    scope: String,
    time: i64,
    #[serde(rename = "timeNano")]
    time_nano: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

impl From<Event> for EventDto {
    fn from(event: Event) -> Self {
        Self {
            kind: event.kind,
            action: event.action,
            actor: Actor {
                id: event.actor,
                attributes: event.attributes,
            },
            scope: "swarm".into(),
            time: event.time.secs(),
            time_nano: i64::try_from(event.time.nanos()).unwrap_or_default(),
        }
    }
}

impl From<EventDto> for Event {
    fn from(dto: EventDto) -> Self {
        Self {
            kind: dto.kind,
            action: dto.action,
            actor: dto.actor.id,
            attributes: dto.actor.attributes,
            time: Timestamp::from_nanos(dto.time_nano.into()),
        }
    }
}
