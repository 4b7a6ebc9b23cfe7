//! What a container does at the moment: its processes, and what it uses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json as value};
use tokio::process::Command;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::api::backend::Refusal;
use crate::api::backend::containers::{Container, Containers};
use crate::api::call::Call;
use crate::api::error::{Handled, JSON, json};
use crate::api::router::Api;
use crate::model::container::ContainerState;
use crate::model::stats::{CpuStats, Stats};

/// Between two samples.
const EVERY: Duration = Duration::from_secs(1);

/// The machine's `ps` answers within this.
const PS_DEADLINE: Duration = Duration::from_secs(10);

type Operation = BoxFuture<'static, Handled>;

/// `GET /containers/{id}/top`: the machine's own `ps`, of which the container's processes are shown.
pub(super) fn top(api: Api, container: Container, request: Request) -> Operation {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Top {
        processes: Vec<Vec<String>>,
        titles: Vec<String>,
    }
    Box::pin(async move {
        let call = Call::read(request, String::new()).await?;
        let processes = api
            .backend
            .containers()
            .processes(container.config.id)
            .await?;
        let args = match call.params.text("ps_args") {
            "" => "-ef",
            args => args,
        };
        let words: Vec<&str> = args.split_whitespace().collect();
        let ran = timeout(
            PS_DEADLINE,
            Command::new("ps").args(&words).kill_on_drop(true).output(),
        );
        let output = match ran.await {
            Ok(Ok(output)) if output.status.success() => output.stdout,
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(Refusal::invalid(format!("error running ps: {said}")));
            }
            Ok(Err(error)) => return Err(Refusal::internal(format!("error running ps: {error}"))),
            Err(_elapsed) => return Err(Refusal::internal("error running ps: it does not end")),
        };
        let (titles, processes) = chosen(&String::from_utf8_lossy(&output), &processes)?;
        Ok(json(&Top { processes, titles }))
    })
}

/// A row of a table.
type Row = Vec<String>;

/// The lines of `ps` that are about these processes, cut into as many fields as there are titles.
fn chosen(output: &str, processes: &[u32]) -> Result<(Row, Vec<Row>), Refusal> {
    let mut lines = output.lines();
    let titles: Row = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let Some(pid) = titles.iter().position(|title| title == "PID") else {
        return Err(Refusal::internal("Couldn't find PID field in ps output"));
    };
    let rows = lines.filter_map(|line| {
        let mut rest = line.trim_start();
        let mut row = Vec::with_capacity(titles.len());
        for _ in 1..titles.len() {
            let (field, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            row.push(field.to_owned());
            rest = after.trim_start();
        }
        row.push(rest.trim_end().to_owned());
        let of_ours = row
            .get(pid)?
            .parse()
            .is_ok_and(|pid| processes.contains(&pid));
        of_ours.then_some(row)
    });
    let rows = rows.collect();
    Ok((titles, rows))
}

/// A sample of a container, as it was and as it is.
struct Sampler {
    containers: Arc<dyn Containers>,
    container: Container,
    before: Option<(Stats, u64)>,
}

impl Sampler {
    /// One object of the stream; empty ones while the container does not run, as Docker sends them.
    async fn sample(&mut self) -> Value {
        let id = self.container.config.id;
        let now = match self.containers.stats(id).await {
            Ok(stats) => Some((stats, machine_cpu())),
            Err(_not_running) => None,
        };
        let before = std::mem::replace(&mut self.before, now.clone());
        let name = format!("/{}", self.container.config.name);
        let mut object =
            value!({ "name": name, "id": id.to_string(), "os_type": "linux", "num_procs": 0 });
        let Some(fields) = object.as_object_mut() else {
            return object;
        };
        let cpu = |sample: &Option<(Stats, u64)>| match sample {
            Some((stats, machine)) => cpu_dto(&stats.cpu, *machine),
            None => cpu_dto(&CpuStats::default(), 0),
        };
        let at = |sample: &Option<(Stats, u64)>| {
            let never = || "0001-01-01T00:00:00Z".to_owned();
            sample
                .as_ref()
                .map_or_else(never, |(stats, _)| stats.at.to_string())
        };
        fields.insert("read".into(), value!(at(&now)));
        fields.insert("preread".into(), value!(at(&before)));
        fields.insert("cpu_stats".into(), cpu(&now));
        fields.insert("precpu_stats".into(), cpu(&before));
        let stats = now.map(|(stats, _)| stats);
        fields.extend(rest(stats.unwrap_or_default()));
        object
    }

    async fn still_there(&self) -> bool {
        matches!(
            self.containers.look(self.container.config.id).await,
            Ok(Some(_))
        )
    }
}

/// `GET /containers/{id}/stats`.
pub(super) fn stats(api: Api, container: Container, request: Request) -> Operation {
    Box::pin(async move {
        let call = Call::read(request, String::new()).await?;
        let streams = call.params.text("stream").is_empty() || call.params.flag("stream");
        let runs = matches!(container.state, ContainerState::Running { .. });
        let mut sampler = Sampler {
            containers: api.backend.containers(),
            container,
            before: None,
        };
        if !streams {
            if !call.params.flag("one-shot") && runs {
                sampler.sample().await;
                sleep(EVERY).await;
            }
            return Ok(json(&sampler.sample().await));
        }
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let samples = stream::unfold((sampler, ticks), |(mut sampler, mut ticks)| async move {
            ticks.tick().await;
            if !sampler.still_there().await {
                return None;
            }
            let mut line = sampler.sample().await.to_string();
            line.push('\n');
            Some((
                Ok::<_, std::convert::Infallible>(Bytes::from(line)),
                (sampler, ticks),
            ))
        });
        let body = Body::from_stream(samples.take_until(call.stop.clone().cancelled_owned()));
        Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
    })
}

fn cpu_dto(cpu: &CpuStats, machine: u64) -> Value {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    value!({
        "cpu_usage": {
            "total_usage": cpu.total, "usage_in_kernelmode": cpu.system, "usage_in_usermode": cpu.user,
        },
        "system_cpu_usage": machine,
        "online_cpus": cpus,
        "throttling_data": {
            "periods": cpu.periods, "throttled_periods": cpu.throttled_periods, "throttled_time": cpu.throttled,
        },
    })
}

/// What is neither time nor processors.
fn rest(stats: Stats) -> serde_json::Map<String, Value> {
    let networks: BTreeMap<&str, Value> = stats
        .networks
        .iter()
        .map(|network| {
            let ([rx, rx_packets, rx_errors, rx_dropped], [tx, tx_packets, tx_errors, tx_dropped]) =
                (network.received, network.sent);
            let counters = value!({
                "rx_bytes": rx, "rx_packets": rx_packets, "rx_errors": rx_errors, "rx_dropped": rx_dropped,
                "tx_bytes": tx, "tx_packets": tx_packets, "tx_errors": tx_errors, "tx_dropped": tx_dropped,
            });
            (network.name.as_str(), counters)
        })
        .collect();
    let operation =
        |op: &str, number: u64| value!({ "major": 0, "minor": 0, "op": op, "value": number });
    let blkio = &stats.blkio;
    let mut fields = serde_json::Map::new();
    let pids = if stats.pids_limit == 0 {
        u64::MAX
    } else {
        stats.pids_limit
    };
    fields.insert(
        "pids_stats".into(),
        value!({ "current": stats.pids, "limit": pids }),
    );
    fields.insert(
        "memory_stats".into(),
        value!({
            "usage": stats.memory.usage,
            "limit": stats.memory.limit,
            "stats": {
                "inactive_file": stats.memory.inactive_file,
                "total_inactive_file": stats.memory.inactive_file,
            },
        }),
    );
    fields.insert(
        "blkio_stats".into(),
        value!({
            "io_service_bytes_recursive": [operation("read", blkio.read_bytes), operation("write", blkio.write_bytes)],
            "io_serviced_recursive": [operation("read", blkio.reads), operation("write", blkio.writes)],
        }),
    );
    if !networks.is_empty() {
        fields.insert("networks".into(), value!(networks));
    }
    fields
}

/// Time that all processors of the machine have had, nanoseconds.
fn machine_cpu() -> u64 {
    const NANOS_A_TICK: u64 = 10_000_000;
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    // The first seven: what a guest gets is in them already.
    let ticks = line.split_whitespace().skip(1).take(7);
    ticks
        .filter_map(|tick| tick.parse::<u64>().ok())
        .sum::<u64>()
        * NANOS_A_TICK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_ps_only_the_containers_own_lines_are_shown() {
        let output = "UID          PID    PPID  C STIME TTY          TIME CMD\n\
                      root           7       1  0 10:00 ?        00:00:01 /bin/sh -c  two  spaces\n\
                      root          70       1  0 10:00 ?        00:00:01 other\n";
        let (titles, rows) = chosen(output, &[7]).unwrap();
        assert_eq!(titles.len(), 8);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0][1], "7");
        assert_eq!(rows[0][7], "/bin/sh -c  two  spaces");
        assert!(chosen("UID TTY\n1 2\n", &[]).is_err());
    }
}
