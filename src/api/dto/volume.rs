//! Docker's volume object, in and out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::image::bytes;
use crate::api::backend::volumes::{NewVolume, Volume};
use crate::model::Timestamp;

/// `Volume`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct VolumeDto {
    created_at: Timestamp,
    driver: String,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_data: Option<Usage>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    ref_count: i64,
    size: i64,
}

impl VolumeDto {
    /// With how much it takes, where that was asked for; a size that cannot be told is `-1`.
    pub(in crate::api) fn with_usage(volume: Volume, size: Option<u64>) -> Self {
        let usage = Usage {
            ref_count: i64::try_from(volume.users).unwrap_or(i64::MAX),
            size: size.map_or(-1, bytes),
        };
        Self {
            usage_data: Some(usage),
            ..Self::from(volume)
        }
    }
}

impl From<Volume> for VolumeDto {
    fn from(volume: Volume) -> Self {
        let given = |map: BTreeMap<String, String>| Some(map).filter(|map| !map.is_empty());
        let created = i128::from(volume.created.secs()) * 1_000_000_000;
        Self {
            created_at: Timestamp::from_nanos(created),
            driver: volume.driver,
            labels: given(volume.labels),
            mountpoint: volume.mountpoint,
            name: volume.name,
            options: given(volume.options),
            scope: "local",
            usage_data: None,
        }
    }
}

/// `VolumeListResponse`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct VolumeList {
    pub(in crate::api) volumes: Vec<VolumeDto>,
    pub(in crate::api) warnings: Option<Vec<String>>,
}

/// `VolumeCreateOptions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct VolumeCreate {
    name: String,
    driver: String,
    driver_opts: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    pub(in crate::api) cluster_volume_spec: Option<Value>,
}

impl From<VolumeCreate> for NewVolume {
    fn from(create: VolumeCreate) -> Self {
        Self {
            name: create.name,
            driver: create.driver,
            options: create.driver_opts,
            labels: create.labels,
        }
    }
}

/// `VolumePruneResponse`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct VolumesPruned {
    pub(in crate::api) volumes_deleted: Option<Vec<String>>,
    pub(in crate::api) space_reclaimed: u64,
}
