//! Docker's secret and config objects, out. Of a secret the bytes are never shown.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ObjectVersion;
use crate::model::dependency::Payload;
use crate::model::task_spec::Driver;
use crate::model::{Dependency, DependencyKind, Timestamp};

/// `Secret` and `Config`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct DependencyDto<'a> {
    #[serde(rename = "ID")]
    id: String,
    version: ObjectVersion,
    created_at: Timestamp,
    updated_at: Timestamp,
    spec: SpecDto<'a>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SpecDto<'a> {
    name: &'a str,
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<&'a Driver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    templating: Option<&'a Driver>,
}

impl<'a> DependencyDto<'a> {
    /// `dependency` as Docker shows it.
    pub(in crate::api) fn of(dependency: &'a Dependency) -> Self {
        let (meta, spec) = (dependency.meta, &dependency.spec);
        Self {
            id: dependency.id.to_string(),
            version: ObjectVersion {
                index: meta.version,
            },
            created_at: meta.created_at,
            updated_at: meta.updated_at,
            spec: SpecDto {
                name: &spec.name,
                labels: &spec.labels,
                data: match dependency.kind {
                    DependencyKind::Secret => None,
                    DependencyKind::Config => Some(&spec.data),
                },
                driver: spec.driver.as_ref(),
                templating: spec.templating.as_ref(),
            },
        }
    }
}

/// The answer to a creation.
#[derive(Clone, Debug, Serialize)]
pub(in crate::api) struct Created {
    #[serde(rename = "ID")]
    pub(in crate::api) id: String,
}
