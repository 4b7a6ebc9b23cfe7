//! The `filters` parameter of lists and events.
//!
//! Two forms are in use: `{"label":{"a=b":true}}` (docker) and `{"label":["a=b"]}` (docker-py). Values of one key
//! are alternatives, keys are conditions. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::backend::Refusal;

/// Why a filter is not accepted; Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FilterError {
    /// Not JSON of one of the two forms.
    #[error("invalid filter")]
    Malformed,
    /// Not a key of this list.
    #[error("invalid filter '{0}'")]
    UnknownKey(String),
    /// Not a value of this key.
    #[error("invalid filter '{0}=[{1}]'")]
    BadValue(String, String),
}

impl From<FilterError> for Refusal {
    fn from(error: FilterError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Conditions by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads the parameter; an empty one filters nothing. Keys outside of `known` are refused.
    pub(super) fn parse(text: &str, known: &[&str]) -> Result<Self, FilterError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            Set(BTreeMap<String, bool>),
            List(Vec<String>),
            Null(()),
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let raw: Option<BTreeMap<String, Values>> =
            serde_json::from_str(text).map_err(|_detail| FilterError::Malformed)?;
        let mut filters = BTreeMap::new();
        for (key, values) in raw.unwrap_or_default() {
            if !known.contains(&key.as_str()) {
                return Err(FilterError::UnknownKey(key));
            }
            let values = match values {
                Values::Set(set) => set.into_keys().collect(),
                Values::List(list) => list.into_iter().collect(),
                Values::Null(()) => BTreeSet::new(),
            };
            filters.insert(key, values);
        }
        Ok(Self(filters))
    }

    /// One more value of `key`.
    pub(super) fn add(&mut self, key: &str, value: &str) {
        self.0.entry(key.into()).or_default().insert(value.into());
    }

    /// The values of `key`, none when it is not given.
    pub(super) fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    fn any(&self, key: &str, matches: impl FnMut(&str) -> bool) -> bool {
        let mut values = self.values(key).peekable();
        values.peek().is_none() || values.any(matches)
    }

    /// Whether `text` is one of the values of `key`, or there are none.
    pub(super) fn exact(&self, key: &str, text: &str) -> bool {
        self.any(key, |value| value == text)
    }

    /// Whether `text` begins with one of the values of `key`, or there are none.
    pub(super) fn prefix(&self, key: &str, text: &str) -> bool {
        self.any(key, |value| text.starts_with(value))
    }

    /// Whether one of the values of `key` occurs in `text`, or there are none.
    pub(super) fn contained(&self, key: &str, text: &str) -> bool {
        self.any(key, |value| text.contains(value))
    }

    /// Whether `labels` has all the values of `key`: `k` asks for a label, `k=v` for its value too.
    pub(super) fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|is| is == value),
            None => labels.contains_key(wanted),
        })
    }

    /// Whether some labels are asked to be missing by `key`, and `labels` has all of them.
    pub(super) fn has_unwanted(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(key).next().is_some() && self.labels(key, labels)
    }

    /// The one truth value of `key`; `None` when it is not given.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, FilterError> {
        let mut truth = None;
        for value in self.values(key) {
            let read = match value {
                "1" | "true" => true,
                "0" | "false" => false,
                _ => return Err(FilterError::BadValue(key.into(), value.into())),
            };
            if truth.is_some_and(|before| before != read) {
                return Err(FilterError::BadValue(key.into(), value.into()));
            }
            truth = Some(read);
        }
        Ok(truth)
    }

    /// Refuses values of `key` outside of `allowed`, compared without case; empty ones pass.
    pub(super) fn check(&self, key: &str, allowed: &[&str]) -> Result<(), FilterError> {
        for value in self.values(key) {
            let known = allowed.iter().any(|one| one.eq_ignore_ascii_case(value));
            if !known && !value.is_empty() {
                return Err(FilterError::BadValue(key.into(), value.into()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: &[&str] = &["name", "label", "role"];

    #[test]
    fn both_forms_mean_the_same() {
        let set = Filters::parse(r#"{"name":{"a":true,"b":true}}"#, KNOWN).unwrap();
        let list = Filters::parse(r#"{"name":["a","b"]}"#, KNOWN).unwrap();
        assert_eq!(set, list);
        assert!(set.exact("name", "b") && !set.exact("name", "bc"));
        assert!(set.prefix("name", "bc") && !set.prefix("name", "c"));
        assert!(set.exact("role", "anything"), "no condition on roles");
    }

    #[test]
    fn nothing_filters_nothing() {
        for text in ["", "{}", "null", r#"{"name":null}"#, r#"{"name":[]}"#] {
            let filters = Filters::parse(text, KNOWN).unwrap();
            assert!(filters.exact("name", "x"), "{text}");
        }
    }

    #[test]
    fn labels_must_all_match() {
        let labels = BTreeMap::from([("zone".into(), "a".into()), ("ssd".into(), String::new())]);
        for (text, matches) in [
            (r#"{"label":["zone"]}"#, true),
            (r#"{"label":["zone=a","ssd"]}"#, true),
            (r#"{"label":["zone=a","gpu"]}"#, false),
            (r#"{"label":["zone=b"]}"#, false),
            (r#"{"label":["ssd="]}"#, true),
        ] {
            let filters = Filters::parse(text, KNOWN).unwrap();
            assert_eq!(filters.labels("label", &labels), matches, "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused_in_dockers_words() {
        for (text, words) in [
            (r#"{"nmae":["a"]}"#, "invalid filter 'nmae'"),
            ("{", "invalid filter"),
            ("[]", "invalid filter"),
            (r#"{"name":"a"}"#, "invalid filter"),
            (r#"{"name":{"a":1}}"#, "invalid filter"),
        ] {
            let error = Filters::parse(text, KNOWN).unwrap_err();
            assert_eq!(error.to_string(), words);
        }
        let filters = Filters::parse(r#"{"role":["Manager","boss"]}"#, KNOWN).unwrap();
        let error = filters.check("role", &["worker", "manager"]).unwrap_err();
        assert_eq!(error.to_string(), "invalid filter 'role=[boss]'");
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = Filters::parse(&text, KNOWN);
        }

        #[test]
        fn a_value_filters_for_itself(values in prop::collection::btree_set(".{0,8}", 1..5), other: String) {
            let text = serde_json::json!({"name": values}).to_string();
            let filters = Filters::parse(&text, KNOWN).unwrap();
            for value in &values {
                prop_assert!(filters.exact("name", value));
                let longer = format!("{value}{other}");
                prop_assert!(filters.prefix("name", &longer));
            }
            prop_assert_eq!(filters.exact("name", &other), values.contains(&other));
        }
    }
}
