//! Which events a client wants to see. Pure.

use crate::api::backend::Event;
use crate::api::dto::event::scope;
use crate::api::filters::Filters;

/// What events are filtered by.
pub(super) const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Whether an event passes; the rules are those of Docker's daemon.
pub(super) fn fits(filters: &Filters, event: &Event) -> bool {
    const NAMED: [&str; 9] = [
        "config",
        "container",
        "daemon",
        "network",
        "node",
        "plugin",
        "secret",
        "service",
        "volume",
    ];
    let name = event.attributes.get("name").map_or("", String::as_str);
    let named = |key: &&str| filters.prefix(key, &event.actor) || filters.prefix(key, name);
    // `health_status: healthy` and `exec_start: ls` are also asked for by what stands before the colon.
    let action = event.action.split(':').next().unwrap_or_default();
    let image = match event.attributes.get("image") {
        Some(image) => image,
        None => name,
    };
    let repository = |image: &str| image.split(['@', ':']).next().map(str::to_owned);
    filters.exact("type", &event.kind)
        && (filters.exact("event", &event.action) || filters.exact("event", action))
        && filters.exact("scope", scope(&event.kind))
        && (filters.exact("image", &event.actor)
            || filters.exact("image", image)
            || repository(image).is_some_and(|image| filters.exact("image", &image)))
        && filters.labels("label", &event.attributes)
        && NAMED.iter().all(named)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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

    #[test]
    fn filters_choose_events_as_docker_does() {
        for (text, passes) in [
            (r#"{"type":["node"]}"#, true),
            (r#"{"type":["service","node"],"scope":["swarm"]}"#, true),
            (r#"{"type":["container"]}"#, false),
            (r#"{"event":["create"]}"#, false),
            (r#"{"node":["0ab"]}"#, true),
            (r#"{"node":["host-1"]}"#, true),
            (r#"{"node":["host-2"]}"#, false),
            (r#"{"container":["x"]}"#, false),
            (r#"{"label":["name=host-1"]}"#, true),
            (r#"{"image":["alpine"]}"#, false),
        ] {
            let filters = Filters::parse(text, FILTERS).unwrap();
            assert_eq!(fits(&filters, &event()), passes, "{text}");
        }
        let of_container = Event {
            kind: "container".into(),
            action: "health_status: healthy".into(),
            attributes: BTreeMap::from([
                ("image".into(), "nginx:1".into()),
                ("name".into(), "web".into()),
            ]),
            ..event()
        };
        for (text, passes) in [
            (r#"{"event":["health_status"]}"#, true),
            (r#"{"event":["health"]}"#, false),
            (r#"{"scope":["local"]}"#, true),
            (r#"{"image":["nginx"],"container":["web"]}"#, true),
            (r#"{"image":["nginx:2"]}"#, false),
        ] {
            let filters = Filters::parse(text, FILTERS).unwrap();
            assert_eq!(fits(&filters, &of_container), passes, "{text}");
        }
    }
}
