//! Manifests and indexes: what an image consists of, read from JSON that others wrote.
//!
//! Pure. Both Docker's and OCI's forms. Bytes are never written again from what was read: their digest is their name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::platform::Platform;
use crate::model::Digest;

/// Docker's list of manifests.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// OCI's list of manifests.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// OCI's manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Docker's config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// A layer of Docker's that is not compressed.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// A compressed layer of Docker's.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Everything that may be asked for under a name, as an `Accept` header has it.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

/// Longest manifest or index, bytes: Docker's own limit.
pub const MANIFEST_LIMIT: u64 = 4 << 20;

/// Longest config, bytes.
pub const CONFIG_LIMIT: u64 = 8 << 20;

/// Most layers; overlayfs mounts no more.
const LAYERS: usize = 500;

/// What some content is, and where it is found: by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content it is.
    pub media_type: String,
    /// Its SHA-256.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// In an index, what the image is built for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Whatever was noted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Default for Descriptor {
    fn default() -> Self {
        Self {
            media_type: String::new(),
            digest: Digest::from_bytes([0; 32]),
            size: 0,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl Descriptor {
    /// A descriptor without notes.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            ..Self::default()
        }
    }

    /// Whether it is a list of manifests.
    pub fn is_index(&self) -> bool {
        self.media_type == OCI_INDEX || self.media_type == DOCKER_LIST
    }

    /// Whether it is a manifest.
    pub fn is_manifest(&self) -> bool {
        self.media_type == OCI_MANIFEST || self.media_type == DOCKER_MANIFEST
    }
}

/// What stands under a name: several images, or one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image for each of several platforms.
    Index(Index),
    /// One image.
    Manifest(Manifest),
}

/// A list of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its kind.
    pub media_type: String,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its kind.
    pub media_type: String,
    /// What it says of itself.
    pub config: Descriptor,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// Why content is no manifest that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is no JSON of the form.
    #[error("the manifest cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// It is one of another kind, such as those of Docker before 1.10.
    #[error("unsupported manifest media type and no default available: {0}")]
    Unsupported(String),
    /// It is none that images have.
    #[error("the manifest {0}")]
    Absurd(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads a manifest or an index.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
        let kind = raw.media_type.unwrap_or_default();
        if raw.schema_version != 2 {
            let old = format!("manifest schema {}", raw.schema_version);
            return Err(ManifestError::Unsupported(old));
        }
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None)
                if matches!(kind.as_str(), "" | OCI_INDEX | DOCKER_LIST) =>
            {
                Ok(Self::Index(Index {
                    media_type: or(kind, OCI_INDEX),
                    manifests,
                }))
            }
            (None, Some(config), Some(layers))
                if matches!(kind.as_str(), "" | OCI_MANIFEST | DOCKER_MANIFEST) =>
            {
                if layers.len() > LAYERS {
                    return Err(ManifestError::Absurd(
                        "names more layers than can be mounted",
                    ));
                }
                if config.size > CONFIG_LIMIT {
                    return Err(ManifestError::Absurd("names a config of more than 8 MiB"));
                }
                let total = layers
                    .iter()
                    .try_fold(0u64, |sum, layer| sum.checked_add(layer.size));
                if total.is_none_or(|total| total > i64::MAX as u64) {
                    return Err(ManifestError::Absurd("names layers of an impossible size"));
                }
                Ok(Self::Manifest(Manifest {
                    media_type: or(kind, OCI_MANIFEST),
                    config,
                    layers,
                }))
            }
            (Some(_), _, _) => Err(ManifestError::Absurd("is an index and an image at once")),
            _ if kind.is_empty() => Err(ManifestError::Absurd("names neither layers nor images")),
            _ => Err(ManifestError::Unsupported(kind)),
        }
    }

    /// Its media type.
    pub fn media_type(&self) -> &str {
        match self {
            Self::Index(index) => &index.media_type,
            Self::Manifest(manifest) => &manifest.media_type,
        }
    }
}

fn or(kind: String, usual: &str) -> String {
    match kind.is_empty() {
        true => usual.into(),
        false => kind,
    }
}

impl Manifest {
    /// The bytes of a manifest in Docker's form that says this.
    pub fn to_bytes(&self) -> Vec<u8> {
        let value = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config,
            "layers": self.layers,
        });
        value.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read_with_and_without_a_media_type() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let part = format!(r#"{{"mediaType":"m","digest":"{digest}","size":7,"urls":[]}}"#);
        for kind in [String::new(), format!(r#""mediaType":"{OCI_MANIFEST}","#)] {
            let text = format!(r#"{{"schemaVersion":2,{kind}"config":{part},"layers":[{part}]}}"#);
            let Document::Manifest(manifest) = Document::parse(text.as_bytes()).unwrap() else {
                panic!("not a manifest");
            };
            assert_eq!(manifest.media_type, OCI_MANIFEST);
            assert_eq!(manifest.layers[0].size, 7);
            assert_eq!(
                Document::parse(&manifest.to_bytes()).unwrap(),
                Document::Manifest(manifest)
            );
        }
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}","manifests":[{{"mediaType":"m","digest":"{digest}",
            "size":1,"platform":{{"os":"linux","architecture":"arm","variant":"v7","features":[]}}}}]}}"#
        );
        let Document::Index(index) = Document::parse(text.as_bytes()).unwrap() else {
            panic!("not an index");
        };
        assert_eq!(index.manifests[0].platform, "linux/arm/v7".parse().ok());
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let layer =
            |size: &str| format!(r#"{{"mediaType":"m","digest":"{digest}","size":{size}}}"#);
        let manifest = |config: &str, layers: &str| {
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#)
        };
        let many = vec![layer("1"); 501].join(",");
        let half = u64::MAX / 2 + 1;
        let huge = [layer(&half.to_string()), layer(&half.to_string())].join(",");
        for (text, why) in [
            ("".into(), "cannot be read"),
            ("{}".into(), "cannot be read"),
            (
                r#"{"schemaVersion":1,"name":"x"}"#.into(),
                "manifest schema 1",
            ),
            (r#"{"schemaVersion":2}"#.into(), "neither layers nor images"),
            (
                r#"{"schemaVersion":2,"mediaType":"x/y","config":null}"#.into(),
                "x/y",
            ),
            (manifest(&layer("-1"), ""), "cannot be read"),
            (manifest(&layer("9000000"), ""), "more than 8 MiB"),
            (manifest(&layer("1"), &many), "more layers than"),
            (manifest(&layer("1"), &huge), "impossible size"),
            (
                manifest(&layer("1"), "").replace("\"layers\"", "\"manifests\""),
                "at once",
            ),
        ] {
            let error = Document::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Document::parse(&bytes);
        }
    }
}
