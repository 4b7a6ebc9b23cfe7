//! Docker's event message, in and out: a leader sends events to other nodes in the same shape as to clients.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::backend::Event;
use crate::model::Timestamp;

/// What is a machine's, and not the cluster's.
const LOCAL: [&str; 4] = ["container", "daemon", "image", "volume"];

/// Whose a kind of object is, as Docker has it.
pub(in crate::api) fn scope(kind: &str) -> &'static str {
    if LOCAL.contains(&kind) {
        "local"
    } else {
        "swarm"
    }
}

/// `EventMessage`. The first three fields are those of old clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::api) struct EventDto {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    status: String,
    #[serde(rename = "id", default, skip_serializing_if = "String::is_empty")]
    old_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    from: String,
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
        let is_old = matches!(&*event.kind, "container" | "image");
        let old = |text: &String| if is_old { text.clone() } else { String::new() };
        Self {
            status: old(&event.action),
            old_id: old(&event.actor),
            from: event.attributes.get("image").map(old).unwrap_or_default(),
            scope: scope(&event.kind).into(),
            kind: event.kind,
            action: event.action,
            actor: Actor {
                id: event.actor,
                attributes: event.attributes,
            },
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
