//! Docker's `Mount`: what is mounted into a container, in the user's words.

use std::collections::BTreeMap;

use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use super::unset;

/// Something to be mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountSpec {
    /// What it is.
    #[serde(
        rename = "Type",
        deserialize_with = "kind",
        skip_serializing_if = "Option::is_none"
    )]
    pub kind: Option<MountKind>,
    /// A path of the machine, or a volume's name. May be a template.
    #[serde(skip_serializing_if = "unset")]
    pub source: String,
    /// Where in the container. May be a template.
    #[serde(skip_serializing_if = "unset")]
    pub target: String,
    /// It cannot be written there.
    #[serde(skip_serializing_if = "unset")]
    pub read_only: bool,
    /// Of other systems; kept.
    #[serde(skip_serializing_if = "unset")]
    pub consistency: String,
    /// For `bind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// For `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// For `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// For `tmpfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// Kinds of mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A file or directory of the machine.
    Bind,
    /// A volume of the node.
    Volume,
    /// Memory.
    Tmpfs,
    /// The content of an image.
    Image,
    /// A pipe of Windows.
    Npipe,
    /// A volume of the cluster.
    Cluster,
}

/// A kind by its name in any case, as Docker reads it; an empty one is none.
fn kind<'de, D: Deserializer<'de>>(from: D) -> Result<Option<MountKind>, D::Error> {
    let text = Option::<String>::deserialize(from)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let text = text.to_ascii_lowercase();
    MountKind::deserialize(text.into_deserializer()).map(Some)
}

/// How a path of the machine is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// `rprivate`, `private`, `rshared`, `shared`, `rslave` or `slave`.
    #[serde(skip_serializing_if = "unset")]
    pub propagation: String,
    /// What is mounted below it does not come along.
    #[serde(skip_serializing_if = "unset")]
    pub non_recursive: bool,
    /// The path is made when it is missing.
    #[serde(skip_serializing_if = "unset")]
    pub create_mountpoint: bool,
    /// Only the mount itself is read-only, not what is mounted below it.
    #[serde(skip_serializing_if = "unset")]
    pub read_only_non_recursive: bool,
    /// An error, if what is below cannot be made read-only.
    #[serde(skip_serializing_if = "unset")]
    pub read_only_force_recursive: bool,
}

/// How a volume is made and mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// What the image has at the target is not copied into it while it is empty.
    #[serde(skip_serializing_if = "unset")]
    pub no_copy: bool,
    /// Its labels when it is made. Values may be templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// A directory below its root.
    #[serde(skip_serializing_if = "unset")]
    pub subpath: String,
    /// What makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<DriverConfig>,
}

/// What makes a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverConfig {
    /// `local` when empty.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// What it is told. Values may be templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Which part of an image is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageOptions {
    /// A directory below its root.
    #[serde(skip_serializing_if = "unset")]
    pub subpath: String,
}

/// How memory is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// Bytes; no bound when zero.
    #[serde(skip_serializing_if = "unset")]
    pub size_bytes: i64,
    /// Permissions of its root.
    #[serde(skip_serializing_if = "unset")]
    pub mode: u32,
    /// Options, each a flag or a key and a value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Vec<String>>,
}
