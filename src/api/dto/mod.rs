//! Docker's JSON shapes and what they mean in the model: translation only, no decisions.
//!
//! Fields stand in the order in which Docker's daemon writes them, and are left out when it leaves them out.

pub(in crate::api) mod cluster;
pub(in crate::api) mod container;
pub(in crate::api) mod create;
pub(in crate::api) mod dependency;
pub(in crate::api) mod event;
pub(in crate::api) mod human;
pub(in crate::api) mod image;
pub(in crate::api) mod info;
pub(in crate::api) mod network;
pub(in crate::api) mod node;
pub(in crate::api) mod progress;
pub(in crate::api) mod service;
pub(in crate::api) mod spec;
pub(in crate::api) mod status;
pub(in crate::api) mod task;
pub(in crate::api) mod tls;
pub(in crate::api) mod token;
pub(in crate::api) mod volume;

use serde::{Deserialize, Serialize};

/// `Version` of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct ObjectVersion {
    pub(in crate::api) index: u64,
}

/// Whether a number is left out as Go's `omitempty` does.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(value: &i64) -> bool {
    *value == 0
}
