//! Docker's system info, out only. What belongs to containers is empty until they are built.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cluster::SwarmDto;
use crate::api::backend::LocalState;
use crate::model::task_spec::GenericResource;

/// `SystemInfo`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct InfoDto {
    #[serde(rename = "ID")]
    pub(in crate::api) id: String,
    pub(in crate::api) containers: u32,
    pub(in crate::api) containers_running: u32,
    pub(in crate::api) containers_paused: u32,
    pub(in crate::api) containers_stopped: u32,
    pub(in crate::api) images: usize,
    pub(in crate::api) driver: String,
    pub(in crate::api) driver_status: Vec<[String; 2]>,
    pub(in crate::api) plugins: Plugins,
    pub(in crate::api) memory_limit: bool,
    pub(in crate::api) swap_limit: bool,
    pub(in crate::api) cpu_cfs_period: bool,
    pub(in crate::api) cpu_cfs_quota: bool,
    #[serde(rename = "CPUShares")]
    pub(in crate::api) cpu_shares: bool,
    #[serde(rename = "CPUSet")]
    pub(in crate::api) cpu_set: bool,
    pub(in crate::api) pids_limit: bool,
    #[serde(rename = "IPv4Forwarding")]
    pub(in crate::api) ipv4_forwarding: bool,
    pub(in crate::api) debug: bool,
    #[serde(rename = "NFd")]
    pub(in crate::api) open_files: usize,
    pub(in crate::api) oom_kill_disable: bool,
    #[serde(rename = "NGoroutines")]
    pub(in crate::api) goroutines: u32,
    pub(in crate::api) system_time: String,
    pub(in crate::api) logging_driver: String,
    pub(in crate::api) cgroup_driver: String,
    pub(in crate::api) cgroup_version: String,
    #[serde(rename = "NEventsListener")]
    pub(in crate::api) event_listeners: u32,
    pub(in crate::api) kernel_version: String,
    pub(in crate::api) operating_system: String,
    #[serde(rename = "OSVersion")]
    pub(in crate::api) os_version: String,
    #[serde(rename = "OSType")]
    pub(in crate::api) os_type: String,
    pub(in crate::api) architecture: String,
    pub(in crate::api) index_server_address: String,
    pub(in crate::api) registry_config: RegistryConfig,
    #[serde(rename = "NCPU")]
    pub(in crate::api) cpus: i64,
    pub(in crate::api) mem_total: i64,
    pub(in crate::api) generic_resources: Option<Vec<GenericResource>>,
    pub(in crate::api) docker_root_dir: String,
    pub(in crate::api) http_proxy: String,
    pub(in crate::api) https_proxy: String,
    pub(in crate::api) no_proxy: String,
    pub(in crate::api) name: String,
    pub(in crate::api) labels: Vec<String>,
    pub(in crate::api) experimental_build: bool,
    pub(in crate::api) server_version: String,
    pub(in crate::api) runtimes: BTreeMap<String, String>,
    pub(in crate::api) default_runtime: String,
    pub(in crate::api) swarm: SwarmInfo,
    pub(in crate::api) live_restore_enabled: bool,
    pub(in crate::api) isolation: String,
    pub(in crate::api) init_binary: String,
    pub(in crate::api) containerd_commit: Commit,
    pub(in crate::api) runc_commit: Commit,
    pub(in crate::api) init_commit: Commit,
    pub(in crate::api) security_options: Vec<String>,
    pub(in crate::api) product_license: String,
    #[serde(rename = "CDISpecDirs")]
    pub(in crate::api) cdi_spec_dirs: Vec<String>,
    pub(in crate::api) warnings: Vec<String>,
}

/// `PluginsInfo`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Plugins {
    pub(in crate::api) volume: Vec<String>,
    pub(in crate::api) network: Vec<String>,
    pub(in crate::api) authorization: Vec<String>,
    pub(in crate::api) log: Vec<String>,
}

/// `RegistryServiceConfig`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct RegistryConfig {
    #[serde(rename = "InsecureRegistryCIDRs")]
    insecure_registry_cidrs: Vec<String>,
    index_configs: BTreeMap<String, IndexInfo>,
    mirrors: Vec<String>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        let hub = IndexInfo {
            name: "docker.io".into(),
            mirrors: Vec::new(),
            secure: true,
            official: true,
        };
        Self {
            insecure_registry_cidrs: vec!["::1/128".into(), "127.0.0.0/8".into()],
            index_configs: BTreeMap::from([("docker.io".into(), hub)]),
            mirrors: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IndexInfo {
    name: String,
    mirrors: Vec<String>,
    secure: bool,
    official: bool,
}

/// `Commit`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Commit {
    #[serde(rename = "ID")]
    pub(in crate::api) id: String,
}

/// `SwarmInfo`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct SwarmInfo {
    #[serde(rename = "NodeID")]
    pub(in crate::api) node_id: String,
    pub(in crate::api) node_addr: String,
    pub(in crate::api) local_node_state: LocalState,
    pub(in crate::api) control_available: bool,
    pub(in crate::api) error: String,
    pub(in crate::api) remote_managers: Option<Vec<RemoteManager>>,
    #[serde(skip_serializing_if = "is_none")]
    pub(in crate::api) nodes: usize,
    #[serde(skip_serializing_if = "is_none")]
    pub(in crate::api) managers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) cluster: Option<SwarmDto>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::api) warnings: Vec<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// `PeerNode`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct RemoteManager {
    #[serde(rename = "NodeID")]
    pub(in crate::api) node_id: String,
    pub(in crate::api) addr: String,
}

/// What a leader tells a node that answers `GET /info`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Summary {
    pub(in crate::api) nodes: usize,
    pub(in crate::api) managers: usize,
    pub(in crate::api) cluster: SwarmDto,
}
