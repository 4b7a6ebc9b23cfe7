//! Docker's image objects, out, and what clients send for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::backend::images::{Content, Image, ImageStep, Login, RemovedImage};
use crate::api::call::ApiVersion;
use crate::model::{Digest, Timestamp};

/// From here on an image without a name has empty lists, and not `<none>`.
const EMPTY_LISTS: ApiVersion = ApiVersion(1, 43);

/// From here on `VirtualSize` is left out.
const NO_VIRTUAL_SIZE: ApiVersion = ApiVersion(1, 44);

/// From here on the content that a name stands for is shown.
const DESCRIPTOR: ApiVersion = ApiVersion(1, 48);

/// From here on a config has none of the fields of containers.
const SHORT_CONFIG: ApiVersion = ApiVersion(1, 50);

/// What images say of containers, as Docker shows it.
const CONFIG_FIELDS: [&str; 13] = [
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];

/// Of these, what is shown when it is missing: as null, or as an empty text.
const ALWAYS: [(&str, bool); 8] = [
    ("Cmd", false),
    ("Entrypoint", false),
    ("Env", false),
    ("Labels", false),
    ("OnBuild", false),
    ("User", true),
    ("Volumes", false),
    ("WorkingDir", true),
];

/// `ImageSummary`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct ImageSummary {
    pub(in crate::api) containers: i64,
    created: i64,
    id: Digest,
    labels: Option<BTreeMap<String, String>>,
    parent_id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptor: Option<DescriptorDto>,
    pub(in crate::api) repo_digests: Vec<String>,
    pub(in crate::api) repo_tags: Vec<String>,
    pub(in crate::api) shared_size: i64,
    size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<i64>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorDto {
    media_type: String,
    digest: Digest,
    size: u64,
}

impl From<Content> for DescriptorDto {
    fn from(content: Content) -> Self {
        let Content {
            media_type,
            digest,
            size,
        } = content;
        Self {
            media_type,
            digest,
            size,
        }
    }
}

/// A count of bytes as Go has it.
pub(in crate::api) fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl ImageSummary {
    /// An image as clients of this version list it.
    pub(in crate::api) fn of(image: Image, version: ApiVersion) -> Self {
        let size = bytes(image.size());
        let mut summary = Self {
            containers: -1,
            created: image.created.map_or(0, Timestamp::secs),
            id: image.id,
            labels: Some(image.config.labels).filter(|labels| !labels.is_empty()),
            parent_id: "",
            descriptor: (version >= DESCRIPTOR).then(|| image.target.into()),
            repo_digests: image.digests,
            repo_tags: image.tags,
            shared_size: -1,
            size,
            virtual_size: (version < NO_VIRTUAL_SIZE).then_some(size),
        };
        let nameless = summary.repo_tags.is_empty() && summary.repo_digests.is_empty();
        if nameless && version < EMPTY_LISTS {
            summary.repo_tags.push("<none>:<none>".into());
            summary.repo_digests.push("<none>@<none>".into());
        }
        summary
    }
}

/// `ImageInspect`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct ImageInspect {
    id: Digest,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: &'static str,
    comment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    docker_version: String,
    author: String,
    config: Map<String, Value>,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    os_version: String,
    size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<i64>,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptor: Option<DescriptorDto>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: Option<()>,
    name: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Digest>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: Timestamp,
}

impl ImageInspect {
    /// An image and its config as it is written, for clients of this version.
    pub(in crate::api) fn of(image: Image, written: &Value, version: ApiVersion) -> Self {
        let size = bytes(image.size());
        let text = |key: &str| written[key].as_str().unwrap_or_default().to_owned();
        let last = written["history"].as_array().and_then(|steps| steps.last());
        let comment = match text("comment") {
            said if said.is_empty() => last.and_then(|step| step["comment"].as_str()),
            _ => written["comment"].as_str(),
        };
        Self {
            id: image.id,
            repo_tags: image.tags,
            repo_digests: image.digests,
            parent: "",
            comment: comment.unwrap_or_default().to_owned(),
            created: image.created,
            docker_version: text("docker_version"),
            author: text("author"),
            config: config(&written["config"], version),
            architecture: image.platform.architecture,
            variant: image.platform.variant,
            os: image.platform.os,
            os_version: text("os.version"),
            size,
            virtual_size: (version < NO_VIRTUAL_SIZE).then_some(size),
            graph_driver: GraphDriver {
                data: None,
                name: "overlayfs",
            },
            root_fs: RootFs {
                r#type: "layers",
                layers: image.layers.iter().map(|layer| layer.diff_id).collect(),
            },
            metadata: Metadata {
                last_tag_time: image.updated,
            },
            descriptor: (version >= DESCRIPTOR).then(|| image.target.into()),
        }
    }
}

/// What an image says of containers: what is written, without what says nothing.
fn config(written: &Value, version: ApiVersion) -> Map<String, Value> {
    let says_something = |value: &&Value| match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Number(_) => true,
    };
    let mut shown = Map::new();
    for field in CONFIG_FIELDS {
        if let Some(value) = written.get(field).filter(says_something) {
            shown.insert(field.into(), value.clone());
        }
    }
    let empty = |is_text: bool| {
        if is_text {
            Value::from("")
        } else {
            Value::Null
        }
    };
    for (field, is_text) in ALWAYS {
        shown
            .entry(field.to_owned())
            .or_insert_with(|| empty(is_text));
    }
    if version < SHORT_CONFIG {
        for field in [
            "AttachStderr",
            "AttachStdin",
            "AttachStdout",
            "OpenStdin",
            "StdinOnce",
            "Tty",
        ] {
            shown.insert(field.into(), Value::from(false));
        }
        for field in ["Domainname", "Hostname", "Image"] {
            shown.insert(field.into(), Value::from(""));
        }
    }
    shown
}

/// `HistoryResponseItem`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct HistoryItem {
    comment: String,
    created: i64,
    created_by: String,
    id: String,
    size: i64,
    tags: Option<Vec<String>>,
}

impl From<ImageStep> for HistoryItem {
    fn from(step: ImageStep) -> Self {
        let (id, tags) = match step.image {
            Some((id, tags)) => (id.to_string(), Some(tags).filter(|tags| !tags.is_empty())),
            None => ("<missing>".into(), None),
        };
        Self {
            comment: step.comment,
            created: step.created.map_or(0, Timestamp::secs),
            created_by: step.created_by,
            id,
            size: bytes(step.size),
            tags,
        }
    }
}

/// `ImageDeleteResponseItem`.
#[derive(Clone, Debug, Serialize)]
pub(in crate::api) enum Gone {
    Untagged(String),
    Deleted(String),
}

impl From<RemovedImage> for Gone {
    fn from(removed: RemovedImage) -> Self {
        match removed {
            RemovedImage::Untagged(name) => Self::Untagged(name),
            RemovedImage::Deleted(id) => Self::Deleted(id),
        }
    }
}

/// `ImagePruneResponse`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct PruneReport {
    pub(in crate::api) images_deleted: Option<Vec<Gone>>,
    pub(in crate::api) space_reclaimed: u64,
}

/// `AuthConfig`, in.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::api) struct AuthConfig {
    username: String,
    password: String,
    serveraddress: String,
    identitytoken: String,
}

impl From<AuthConfig> for Login {
    fn from(config: AuthConfig) -> Self {
        Self {
            username: config.username,
            password: config.password,
            identity_token: config.identitytoken,
            server: config.serveraddress,
        }
    }
}

/// What a login is answered.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct LoggedIn {
    pub(in crate::api) status: &'static str,
    pub(in crate::api) identity_token: &'static str,
}
