//! The parameters after the question mark, read as Docker's daemon reads them.

use axum::extract::Query;
use axum::http::Uri;

use super::backend::Refusal;

/// Query parameters; of several with one name the first counts, where not all of them are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// The parameters of `uri`. A query that is not form-encoded is a 400.
    pub(super) fn of(uri: &Uri) -> Result<Self, Refusal> {
        match Query::<Vec<(String, String)>>::try_from_uri(uri) {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(error) => Err(Refusal::invalid(format!("invalid query: {error}"))),
        }
    }

    /// The parameters of a query that this node has written itself, without anything to decode.
    pub(super) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// The value of `name`; empty when it is missing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// Every name and its value, as they came.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Every value of `name`.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.0.iter().filter(move |(key, _)| key == name);
        values.map(|(_, value)| value.as_str())
    }

    /// Docker's generous reading: anything but empty, `0`, `no`, `false` and `none` is true.
    pub(super) fn flag(&self, name: &str) -> bool {
        let value = self.text(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// Docker's strict reading: what Go's `ParseBool` takes, everything else is a 400.
    pub(super) fn strict_flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name) {
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            other => Err(Refusal::invalid(format!(
                "invalid value for {name}: {other}"
            ))),
        }
    }

    /// The object version that an update was made from. `object` is its kind, for the error.
    pub(super) fn version(&self, object: &str) -> Result<u64, Refusal> {
        let raw = self.text("version");
        let digits = !raw.is_empty() && raw.bytes().all(|byte| byte.is_ascii_digit());
        match raw.parse() {
            Ok(version) if digits => Ok(version),
            _ => Err(Refusal::invalid(format!(
                "invalid {object} version '{raw}': it must be the number that an inspect shows as Version.Index"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of(&format!("/x?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn flags_are_read_generously_and_strictly() {
        for (text, flag, strict) in [
            ("", false, Some(false)),
            ("0", false, Some(false)),
            ("false", false, Some(false)),
            ("none", false, None),
            ("1", true, Some(true)),
            ("True", true, Some(true)),
            ("yes", true, None),
        ] {
            let params = params(&format!("force={text}"));
            assert_eq!(params.flag("force"), flag, "{text}");
            assert_eq!(params.strict_flag("force").ok(), strict, "{text}");
        }
        assert!(!params("other=1").flag("force"));
    }

    #[test]
    fn a_version_is_a_plain_number() {
        assert_eq!(params("version=12&version=13").version("node"), Ok(12));
        for bad in ["", "x", "-1", "+1", "1.0", "99999999999999999999"] {
            let refusal = params(&format!("version={bad}"))
                .version("node")
                .unwrap_err();
            assert!(refusal.message.starts_with("invalid node version '"));
        }
    }
}
