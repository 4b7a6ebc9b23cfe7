//! What an image says of itself: its config, in Docker's and OCI's JSON.
//!
//! Pure. Written by others, so every field may be missing or null.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::platform::Platform;
use crate::model::image::Healthcheck;
use crate::model::{Digest, ImageConfig, Timestamp};

/// A config that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// What it says about containers.
    pub config: ImageConfig,
    /// What it is built for.
    pub platform: Platform,
    /// When it was built.
    pub created: Option<Timestamp>,
    /// What its layers are when unpacked, lowest first.
    pub diff_ids: Vec<Digest>,
    /// The steps that made it, first one first.
    pub history: Vec<Step>,
}

/// A step that made an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// When.
    pub created: Option<Timestamp>,
    /// By which command.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// By whom.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// A note.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// It made no layer.
    #[serde(
        deserialize_with = "lenient",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
}

/// Why content is no config that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no JSON of the form.
    #[error("the image's config cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// It does not match its manifest.
    #[error("the image's config names {diffs} layers and its manifest {layers}")]
    Layers {
        /// In the config.
        diffs: usize,
        /// In the manifest.
        layers: usize,
    },
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default, deserialize_with = "lenient")]
    os: String,
    #[serde(default, deserialize_with = "lenient")]
    architecture: String,
    #[serde(default, deserialize_with = "lenient")]
    variant: String,
    #[serde(default)]
    created: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient")]
    config: RawConfig,
    #[serde(default, deserialize_with = "lenient")]
    rootfs: RawRoot,
    #[serde(default, deserialize_with = "lenient")]
    history: Vec<Step>,
}

#[derive(Default, Deserialize)]
struct RawRoot {
    #[serde(default, deserialize_with = "lenient")]
    diff_ids: Vec<Digest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    #[serde(deserialize_with = "words")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "words")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    env: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    user: String,
    #[serde(deserialize_with = "lenient")]
    working_dir: String,
    #[serde(deserialize_with = "lenient")]
    volumes: BTreeMap<String, Value>,
    #[serde(deserialize_with = "lenient")]
    exposed_ports: BTreeMap<String, Value>,
    #[serde(deserialize_with = "lenient")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    stop_signal: String,
    healthcheck: Option<Healthcheck>,
}

/// Null is nothing, as Go has it.
fn lenient<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// A list of words, or one word alone, as old configs have it.
fn words<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }
    Ok(match Option::<Words>::deserialize(from)? {
        None => Vec::new(),
        Some(Words::Many(words)) => words,
        Some(Words::One(word)) => vec![word],
    })
}

impl ConfigFile {
    /// Reads the config `bytes`, whose digest is `id`.
    pub fn parse(id: Digest, bytes: &[u8]) -> Result<Self, ConfigError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(ConfigError::Malformed)?;
        let config = ImageConfig {
            id: Some(id),
            entrypoint: raw.config.entrypoint,
            cmd: raw.config.cmd,
            env: raw.config.env,
            user: raw.config.user,
            working_dir: raw.config.working_dir,
            volumes: raw.config.volumes.into_keys().collect(),
            exposed_ports: raw.config.exposed_ports.into_keys().collect(),
            labels: raw.config.labels,
            stop_signal: raw.config.stop_signal,
            healthcheck: raw.config.healthcheck,
        };
        Ok(Self {
            config,
            platform: Platform {
                os: raw.os,
                architecture: raw.architecture,
                variant: raw.variant,
            },
            created: raw.created,
            diff_ids: raw.rootfs.diff_ids,
            history: raw.history,
        })
    }

    /// Refuses a config that does not match a manifest with so many layers.
    pub const fn check_layers(&self, layers: usize) -> Result<(), ConfigError> {
        let diffs = self.diff_ids.len();
        match diffs == layers {
            true => Ok(()),
            false => Err(ConfigError::Layers { diffs, layers }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_config_of_docker_is_read() {
        let id = Digest::from_bytes([1; 32]);
        let text = format!(
            r#"{{"os":"linux","architecture":"amd64","created":"2024-01-02T03:04:05.5Z","config":{{
            "Entrypoint":["/a"],"Cmd":"sh","Env":null,"User":"u:g","WorkingDir":"/w","Volumes":{{"/v":{{}}}},
            "ExposedPorts":{{"80/tcp":{{}}}},"Labels":{{"a":"b"}},"StopSignal":"SIGINT","OnBuild":null,
            "Healthcheck":{{"Test":["CMD","x"],"Interval":1000000000}}}},
            "rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}},
            "history":[{{"created_by":"ADD","comment":null}},{{"empty_layer":true}}]}}"#,
            "0a".repeat(32)
        );
        let file = ConfigFile::parse(id, text.as_bytes()).unwrap();
        assert_eq!(file.config.id, Some(id));
        assert_eq!(file.config.entrypoint, ["/a"]);
        assert_eq!(file.config.cmd, ["sh"]);
        assert_eq!(file.config.volumes, ["/v"]);
        assert_eq!(file.config.exposed_ports, ["80/tcp"]);
        assert_eq!(
            file.config.healthcheck.unwrap().interval,
            Duration::from_secs(1)
        );
        assert_eq!(file.platform.to_string(), "linux/amd64");
        assert_eq!(file.created.unwrap().to_string(), "2024-01-02T03:04:05.5Z");
        assert!(file.history[1].empty_layer);
        assert!(file.diff_ids.len() == 1);
    }

    #[test]
    fn nothing_is_missing_that_must_be_there() {
        let file = ConfigFile::parse(Digest::from_bytes([1; 32]), br#"{"config":null}"#).unwrap();
        assert!(file.config.cmd.is_empty());
        assert!(file.check_layers(0).is_ok());
        let error = file.check_layers(2).unwrap_err().to_string();
        assert_eq!(
            error,
            "the image's config names 0 layers and its manifest 2"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = ConfigFile::parse(Digest::from_bytes([1; 32]), &bytes);
        }
    }
}
