//! Secrets and configs: what the cluster keeps for containers.
//!
//! Both are the same thing to the store and on the way to a node: a name, labels and bytes that never change. They
//! differ in who may read them, which is the API's and the agent's to see to.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::task_spec::{Driver, unset};
use super::{DependencyId, Meta};

/// Which of the two.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum DependencyKind {
    /// For the containers that name it alone; no client is ever shown its bytes.
    #[default]
    Secret,
    /// For whoever asks.
    Config,
}

impl DependencyKind {
    /// The word for one of them.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    /// So many bytes are too many for one of them, as in Docker.
    pub const fn too_long(self) -> usize {
        match self {
            Self::Secret => 500 << 10,
            Self::Config => 1000 << 10,
        }
    }
}

/// Bytes that no debug print shows, wiped when they are let go. Base64 where text is written.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Payload(Vec<u8>);

impl Payload {
    /// These bytes.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&STANDARD.encode(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            let bytes = STANDARD.decode(text.as_bytes());
            bytes.map(Self).map_err(serde::de::Error::custom)
        } else {
            Vec::<u8>::deserialize(deserializer).map(Self)
        }
    }
}

/// A secret or a config, as it is kept in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Which.
    pub id: DependencyId,
    /// Which of the two.
    pub kind: DependencyKind,
    /// Version and times.
    pub meta: Meta,
    /// What its user made it.
    pub spec: DependencySpec,
}

/// Docker's `SecretSpec` and `ConfigSpec`, in Docker's JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DependencySpec {
    /// Its name; no other of its kind has it.
    pub name: String,
    /// Its labels: all of it that can be changed.
    pub labels: BTreeMap<String, String>,
    /// What it holds.
    #[serde(skip_serializing_if = "Payload::is_empty")]
    pub data: Payload,
    /// Who would hold a secret in the cluster's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// Its bytes are a template, expanded for each task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templating: Option<Driver>,
}

impl DependencySpec {
    /// Whether its bytes are a template.
    pub fn is_template(&self) -> bool {
        self.templating.as_ref().is_some_and(|it| !unset(&it.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_base64_in_text_and_never_printed() {
        let text = r#"{"Name":"key","Labels":{},"Data":"aHVudGVyMg=="}"#;
        let spec: DependencySpec = serde_json::from_str(text).unwrap();
        assert_eq!(spec.data.bytes(), b"hunter2");
        assert_eq!(serde_json::to_string(&spec).unwrap(), text);
        assert!(!format!("{spec:?}").contains("hunter2"));
        let wrong = text.replace("aHVudGVyMg==", "not base64");
        assert!(serde_json::from_str::<DependencySpec>(&wrong).is_err());
    }
}
