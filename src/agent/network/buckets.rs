//! This node's endpoints as a bounded number of gossip values, so that one that comes or goes changes one of them.
//!
//! Pure. A value has to fit one message of gossip; an endpoint stays in the value that it was put into.

use std::collections::BTreeMap;

use crate::model::facts::key::ENDPOINTS;
use crate::model::plane::Endpoint;

/// Bytes of a value, the brackets of its list included.
const ROOM: usize = 4000;

/// Which endpoints are in which value.
#[derive(Debug, Default)]
pub struct Buckets {
    /// By its name: where it is, and its JSON.
    held: BTreeMap<String, (usize, String)>,
    said: BTreeMap<usize, String>,
}

impl Buckets {
    /// The values that change when these are the endpoints: key and value. Says every value the first time. Endpoints for
    /// which there is no room are returned by name.
    pub fn say(&mut self, endpoints: &[Endpoint]) -> (Vec<(&'static str, String)>, Vec<String>) {
        let wanted: BTreeMap<&str, String> = endpoints
            .iter()
            .filter_map(|one| Some((one.name.as_str(), serde_json::to_string(one).ok()?)))
            .collect();
        self.held.retain(|name, (_, text)| {
            let same = wanted.get(name.as_str());
            same.is_some_and(|wanted| wanted == text)
        });
        let mut used = vec![2; ENDPOINTS.len()];
        for (at, text) in self.held.values() {
            used[*at] += text.len() + 1;
        }
        let mut homeless = Vec::new();
        for (name, text) in wanted {
            if self.held.contains_key(name) {
                continue;
            }
            match used.iter().position(|used| used + text.len() < ROOM) {
                Some(at) => {
                    used[at] += text.len() + 1;
                    self.held.insert(name.to_owned(), (at, text));
                }
                None => homeless.push(name.to_owned()),
            }
        }
        let mut values: Vec<Vec<&str>> = vec![Vec::new(); ENDPOINTS.len()];
        for (at, text) in self.held.values() {
            values[*at].push(text);
        }
        let mut changed = Vec::new();
        for (at, parts) in values.into_iter().enumerate() {
            let value = format!("[{}]", parts.join(","));
            // The first is always said: so it is known that there are none.
            let said = self.said.get(&at).map_or("", String::as_str);
            let is_nothing = said.is_empty() && parts.is_empty() && at > 0;
            if said != value && !is_nothing {
                self.said.insert(at, value.clone());
                changed.push((ENDPOINTS[at], value));
            }
        }
        (changed, homeless)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(names: std::ops::Range<usize>) -> Vec<Endpoint> {
        let of = |number| Endpoint {
            name: format!("web.{number}.0123456789012345678901234"),
            ..Endpoint::default()
        };
        names.map(of).collect()
    }

    fn read(values: &BTreeMap<&str, String>) -> Vec<String> {
        let all = values.values();
        let parts = all.flat_map(|text| serde_json::from_str::<Vec<Endpoint>>(text).unwrap());
        let mut names: Vec<String> = parts.map(|one| one.name).collect();
        names.sort();
        names
    }

    #[test]
    fn what_changes_is_said_and_nothing_else() {
        let mut buckets = Buckets::default();
        let mut values = BTreeMap::new();
        let (changed, _) = buckets.say(&[]);
        assert_eq!(changed, [(ENDPOINTS[0], "[]".to_owned())]);
        let (changed, homeless) = buckets.say(&endpoints(0..300));
        assert!(homeless.is_empty());
        assert!(changed.iter().all(|(_, value)| value.len() <= 4096));
        values.extend(changed);
        assert_eq!(read(&values).len(), 300);
        let (changed, _) = buckets.say(&endpoints(1..300));
        assert_eq!(changed.len(), 1);
        values.extend(changed);
        assert_eq!(read(&values).len(), 299);
        assert_eq!(buckets.say(&endpoints(1..300)).0, []);
    }

    #[test]
    fn who_finds_no_room_is_named() {
        let many = endpoints(0..100_000);
        let (_, homeless) = Buckets::default().say(&many);
        assert!(!homeless.is_empty() && homeless.len() < many.len());
    }
}
