//! `GET /info` and `GET /system/df`: all machines as one.

use std::collections::BTreeSet;

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as value};

use super::ask::{Gathered, Own, Peer, Question, everywhere, nodes};
use super::lists::Wanted;
use super::merge;
use crate::api::backend::{Load, Refusal};
use crate::api::call::Call;
use crate::api::error::{Handled, json};
use crate::api::router::Api;
use crate::api::{df as own_df, info as own_info};
use crate::model::NodeId;
use crate::model::container::ContainerState;

/// Marks a container as a task's.
const TASK_LABEL: &str = "com.docker.swarm.task.id";

/// What a node counts of itself, for the whole.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::api) struct Counts {
    running: u64,
    paused: u64,
    stopped: u64,
    images: BTreeSet<String>,
    cpus: i64,
    memory_bytes: i64,
    /// What is on it beside tasks.
    standalone: Load,
}

/// `GET /skein/counts`, asked by other nodes.
pub(in crate::api) async fn counts(State(api): State<Api>) -> Handled {
    let description = api.backend.local().description;
    let mut counts = Counts {
        cpus: description.resources.nano_cpus / 1_000_000_000,
        memory_bytes: description.resources.memory_bytes,
        ..Counts::default()
    };
    // A machine without a containerd has neither, and counts all the same.
    for container in api.backend.containers().list().await.unwrap_or_default() {
        let running = match container.state {
            ContainerState::Running { paused: true, .. } => Some(&mut counts.paused),
            ContainerState::Running { .. } => Some(&mut counts.running),
            ContainerState::Created | ContainerState::Exited(_) => None,
        };
        match running {
            Some(count) => *count += 1,
            None => {
                counts.stopped += 1;
                continue;
            }
        }
        if !container.config.labels.contains_key(TASK_LABEL) {
            let limits = &container.config.limits;
            let number = |given: u64| i64::try_from(given).unwrap_or(i64::MAX);
            let own = &mut counts.standalone;
            own.containers += 1;
            own.nano_cpus = own.nano_cpus.saturating_add(number(limits.nano_cpus));
            let memory = limits.memory.max(limits.memory_reservation);
            own.memory_bytes = own.memory_bytes.saturating_add(number(memory));
        }
    }
    if let Ok(images) = api.backend.images() {
        let all = images.list().await.unwrap_or_default();
        counts.images = all.iter().map(|image| image.id.to_string()).collect();
    }
    Ok(json(&counts))
}

/// What each node that answers counts.
async fn counted(api: &Api) -> Result<(Vec<(Peer, Counts)>, Gathered), Refusal> {
    let own: Own = |api, _request| Box::pin(counts(State(api)));
    let question = Question::get("/skein/counts");
    let mut gathered = everywhere(api, nodes(api)?, &question, own).await;
    let said = std::mem::take(&mut gathered.answers).into_iter();
    let said = said.filter_map(|(peer, said)| Some((peer, serde_json::from_value(said).ok()?)));
    Ok((said.collect(), gathered))
}

/// What containers beside tasks take on each node.
pub(super) async fn loads(api: &Api) -> Result<Vec<(NodeId, Load)>, Refusal> {
    let (counts, _) = counted(api).await?;
    let loads = counts.into_iter();
    let loads = loads.filter_map(|(peer, counts)| Some((peer.node?, counts.standalone)));
    Ok(loads.collect())
}

/// `GET /info`: this node's, with what all of them together have.
pub(super) async fn info(State(api): State<Api>) -> Handled {
    let own = own_info::show(State(api.clone())).await.into_response();
    let mut info: Value = crate::api::place::read(own).await?;
    let (counts, gathered) = counted(&api).await?;
    let sum = |of: fn(&Counts) -> u64| counts.iter().map(|(_, counts)| of(counts)).sum::<u64>();
    let all = |of: fn(&Counts) -> i64| {
        let each = counts.iter().map(|(_, counts)| of(counts));
        each.fold(0, i64::saturating_add)
    };
    let images: BTreeSet<&String> = counts
        .iter()
        .flat_map(|(_, counts)| &counts.images)
        .collect();
    info["Containers"] = sum(|counts| counts.running + counts.paused + counts.stopped).into();
    info["ContainersRunning"] = sum(|counts| counts.running).into();
    info["ContainersPaused"] = sum(|counts| counts.paused).into();
    info["ContainersStopped"] = sum(|counts| counts.stopped).into();
    info["Images"] = images.len().into();
    info["NCPU"] = all(|counts| counts.cpus).into();
    info["MemTotal"] = all(|counts| counts.memory_bytes).into();
    if let Some(rows) = info["DriverStatus"].as_array_mut() {
        rows.push(value!(["nodes", counts.len().to_string()]));
        for (peer, counts) in &counts {
            let words = format!(
                "{} containers, {} images, {} CPUs, {} MiB",
                counts.running + counts.paused + counts.stopped,
                counts.images.len(),
                counts.cpus,
                counts.memory_bytes >> 20
            );
            rows.push(value!([peer.name, words]));
        }
    }
    if let Some(warnings) = info["Warnings"].as_array_mut() {
        for warning in &gathered.warnings {
            warnings.push(format!("WARNING: {warning}: what it has is not counted").into());
        }
    }
    Ok(gathered.warn(json(&info)))
}

/// `GET /system/df`.
pub(super) async fn df(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let wanted = Wanted::read(&call)?;
    let question = Question::of(&call, wanted.target("/system/df", &call));
    let own: Own = |api, request| Box::pin(own_df::show(State(api), request));
    let mut gathered = everywhere(&api, wanted.nodes(&api)?, &question, own).await;
    gathered.refused()?;
    let answers = &mut gathered.answers;
    let usage = value!({
        "LayersSize": merge::sum(answers, "LayersSize"),
        "Images": merge::images(answers, Some("Images")),
        "Containers": merge::containers(answers, Some("Containers"), None),
        "Volumes": merge::volumes(answers),
        "BuildCache": [],
        "BuilderSize": 0,
    });
    Ok(gathered.warn(json(&usage)))
}
