//! An image: what it is called, what it is, and what it says about the containers made of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The SHA-256 of some content, written `sha256:` and 64 hexadecimal digits. The only algorithm that registries use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is \"sha256:\" and 64 hexadecimal digits in lower case")]
pub struct ParseDigestError;

impl Digest {
    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 digits alone.
    pub fn hex(&self) -> String {
        super::ContainerId::from_bytes(self.0).to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.strip_prefix("sha256:").ok_or(ParseDigestError)?;
        match hex.parse::<super::ContainerId>() {
            Ok(id) => Ok(Self(id.bytes())),
            Err(_) => Err(ParseDigestError),
        }
    }
}

super::as_text!(Digest);

/// What an image says about containers made of it; the user's own words come before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The digest of the config itself: what Docker calls the image's ID.
    pub id: Option<Digest>,
    /// What is put before the arguments.
    pub entrypoint: Vec<String>,
    /// The arguments when none are given.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `user[:group]`.
    pub user: String,
    /// Where the program starts.
    pub working_dir: String,
    /// Paths that are to be volumes.
    pub volumes: Vec<String>,
    /// Ports that it listens on, as in `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What asks its program to end.
    pub stop_signal: String,
    /// How its health is asked.
    pub healthcheck: Option<Healthcheck>,
}

/// How a container's health is asked. Durations of zero are "as usual".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", program, …]` or `["CMD-SHELL", line]`; inherited when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two questions.
    #[serde(with = "nanos", skip_serializing_if = "Duration::is_zero")]
    pub interval: Duration,
    /// How long an answer may take.
    #[serde(with = "nanos", skip_serializing_if = "Duration::is_zero")]
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// How long failures do not count after its start.
    #[serde(with = "nanos", skip_serializing_if = "Duration::is_zero")]
    pub start_period: Duration,
    /// Between two questions in that time.
    #[serde(with = "nanos", skip_serializing_if = "Duration::is_zero")]
    pub start_interval: Duration,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Durations as whole nanoseconds, as Docker's JSON has them; negative ones are read as zero.
pub(crate) mod nanos {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let nanos = i64::deserialize(from)?;
        Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_round_trip_and_others_are_refused() {
        let text = format!("sha256:{}", "0a".repeat(32));
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest.to_string(), text);
        for bad in [
            "",
            "sha256:",
            &text[7..],
            &text.replace("256", "512"),
            &text.to_uppercase(),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(ParseDigestError), "{bad}");
        }
    }
}
