//! `GET /info`: this node, and in short its cluster. Many commands begin with it, so it never waits long.
//!
//! When the leader cannot be asked, the rest is answered and `Swarm.Error` says why.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Limited};

use super::backend::{Leader, Local, LocalState, Refusal};
use super::call::Call;
use super::dto::cluster::SwarmDto;
use super::dto::info::{Commit, InfoDto, Plugins, RemoteManager, Summary, SwarmInfo};
use super::error::{Handled, json};
use super::headers::ENGINE_VERSION;
use super::router::Api;
use super::version::SKEIN_VERSION;
use super::words;
use crate::model::NodeId;

/// How long the leader may take before the answer is given without the cluster.
const SUMMARY_DEADLINE: Duration = Duration::from_secs(5);

/// How long containerd may take to list the images.
const IMAGES_DEADLINE: Duration = Duration::from_secs(2);

/// Longest summary: one cluster object, with labels.
const SUMMARY_LIMIT: usize = 4 << 20;

/// `GET /info`.
pub(super) async fn show(State(api): State<Api>) -> Response {
    let local = api.backend.local();
    let (swarm, images) = tokio::join!(swarm_info(&api, &local), images(&api));
    json(&InfoDto {
        images,
        ..info(&api, local, swarm)
    })
}

/// `GET /skein/summary`, asked by other nodes for their own `/info`.
pub(super) fn summary<'a>(leader: &'a dyn Leader, _call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let Some(cluster) = &view.state.cluster else {
            return Err(Refusal::no_leader());
        };
        Ok(json(&Summary {
            nodes: view.state.nodes.len(),
            managers: view.managers.len(),
            cluster: SwarmDto::info(cluster),
        }))
    })
}

/// How many images are here; none while that cannot be told.
async fn images(api: &Api) -> usize {
    let Ok(images) = api.backend.images() else {
        return 0;
    };
    let listed = tokio::time::timeout(IMAGES_DEADLINE, images.list()).await;
    listed.map_or(0, |listed| listed.map_or(0, |images| images.len()))
}

async fn swarm_info(api: &Api, local: &Local) -> SwarmInfo {
    let member = local.state != LocalState::Inactive;
    let addr = local.addr.map(|addr| addr.ip().to_string());
    let managers = &local.remote_managers;
    let mut info = SwarmInfo {
        node_id: match local.node {
            Some(node) if member => node.to_string(),
            _ => String::new(),
        },
        node_addr: addr.filter(|_| member).unwrap_or_default(),
        local_node_state: local.state,
        control_available: local.state == LocalState::Active && local.control,
        error: local.error.clone(),
        remote_managers: (member && !managers.is_empty())
            .then(|| managers.iter().map(remote_manager).collect()),
        ..SwarmInfo::default()
    };
    if !info.control_available {
        return info;
    }
    match ask_leader(api).await {
        Ok(summary) => {
            info.nodes = summary.nodes;
            info.managers = summary.managers;
            info.cluster = Some(summary.cluster);
        }
        Err(refusal) => info.error = refusal.message,
    }
    if info.managers == 2 {
        info.warnings.push(words::TWO_MANAGERS.into());
    }
    info
}

fn remote_manager((node, addr): &(NodeId, std::net::SocketAddr)) -> RemoteManager {
    RemoteManager {
        node_id: node.to_string(),
        addr: addr.to_string(),
    }
}

async fn ask_leader(api: &Api) -> Result<Summary, Refusal> {
    let call = Call::internal("/skein/summary");
    let asked = async {
        let response = api.at_leader(&call, summary).await;
        read_summary(response.unwrap_or_else(IntoResponse::into_response)).await
    };
    match tokio::time::timeout(SUMMARY_DEADLINE, asked).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(Refusal::no_leader()),
    }
}

async fn read_summary(response: Response) -> Result<Summary, Refusal> {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let status = response.status();
    let body = Limited::new(response.into_body(), SUMMARY_LIMIT)
        .collect()
        .await
        .map_err(|error| Refusal::unavailable(format!("the leader's answer broke off: {error}")))?
        .to_bytes();
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|error| {
            Refusal::internal(format!("the leader's answer is not understood: {error}"))
        });
    }
    let message = serde_json::from_slice(&body).map(|body: Message| body.message);
    Err(Refusal::unavailable(message.unwrap_or_else(|_none| {
        format!("the leader answered {status}")
    })))
}

fn info(api: &Api, local: Local, swarm: SwarmInfo) -> InfoDto {
    let machine = &api.machine;
    let described = &local.description;
    let labels = &described.engine_labels;
    let mut warnings = local.warnings;
    warnings.extend(swarm.warnings.iter().cloned());
    InfoDto {
        id: local.node.map(|node| node.to_string()).unwrap_or_default(),
        memory_limit: machine.controls("memory"),
        swap_limit: machine.controls("memory"),
        cpu_cfs_period: machine.controls("cpu"),
        cpu_cfs_quota: machine.controls("cpu"),
        cpu_shares: machine.controls("cpu"),
        cpu_set: machine.controls("cpuset"),
        pids_limit: machine.controls("pids"),
        ipv4_forwarding: machine.ipv4_forwarding,
        driver: "overlayfs".into(),
        driver_status: vec![["driver-type".into(), "io.containerd.snapshotter.v1".into()]],
        plugins: Plugins {
            volume: vec!["local".into()],
            ..Plugins::default()
        },
        debug: local.debug,
        open_files: open_files(),
        system_time: api.backend.now().to_string(),
        cgroup_driver: "cgroupfs".into(),
        cgroup_version: machine.cgroup_version.into(),
        kernel_version: machine.kernel.clone(),
        operating_system: machine.operating_system.clone(),
        os_version: machine.os_version.clone(),
        os_type: "linux".into(),
        architecture: machine.architecture.clone(),
        index_server_address: "https://index.docker.io/v1/".into(),
        cpus: described.resources.nano_cpus / 1_000_000_000,
        mem_total: described.resources.memory_bytes,
        generic_resources: Some(described.generic_resources.clone())
            .filter(|resources| !resources.is_empty()),
        docker_root_dir: local.data_root.display().to_string(),
        name: described.hostname.clone(),
        labels: labels.iter().map(|(k, v)| format!("{k}={v}")).collect(),
        server_version: ENGINE_VERSION.into(),
        live_restore_enabled: true,
        containerd_commit: Commit {
            id: described.runtime.clone(),
        },
        product_license: format!("Skein {SKEIN_VERSION}, Apache-2.0"),
        swarm,
        warnings,
        ..InfoDto::default()
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
