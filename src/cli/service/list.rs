//! `skein service ls`, and the rows that `stack services` shows as well.

use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::human::{natural, short};
use crate::cli::registry::without_digest;
use crate::cli::rows::{Column, Listing, list, number, row};
use crate::cli::swarm::text;

/// The columns of docker's table.
pub(in crate::cli) const COLUMNS: [Column; 6] = [
    ("ID", "ID"),
    ("NAME", "Name"),
    ("MODE", "Mode"),
    ("REPLICAS", "Replicas"),
    ("IMAGE", "Image"),
    ("PORTS", "Ports"),
];

/// Does it.
pub(super) async fn run(client: &Client, args: &Listing) -> anyhow::Result<()> {
    let rows = rows(client, &args.query()).await?;
    args.show("ID", &COLUMNS, &rows)
}

/// The services that a query finds.
pub(in crate::cli) async fn rows(client: &Client, query: &str) -> anyhow::Result<Vec<Value>> {
    let mut services: Vec<Value> = client
        .get(&format!("/services?status=true&{query}"))
        .await?;
    services.sort_by_key(|service| natural(text(service, "/Spec/Name")));
    Ok(services.iter().map(service_row).collect())
}

fn service_row(service: &Value) -> Value {
    let mode = &service["Spec"]["Mode"];
    let named = [
        ("Global", "global"),
        ("Replicated", "replicated"),
        ("ReplicatedJob", "replicated job"),
        ("GlobalJob", "global job"),
    ];
    let name = named.iter().find(|(field, _)| mode.get(field).is_some());
    let name = name.map_or("replicated", |(_, name)| name);
    row([
        ("ID", short(text(service, "/ID")).to_owned()),
        ("Name", text(service, "/Spec/Name").to_owned()),
        ("Mode", name.to_owned()),
        ("Replicas", replicas(service)),
        (
            "Image",
            without_digest(text(service, "/Spec/TaskTemplate/ContainerSpec/Image")).to_owned(),
        ),
        ("Ports", ports(list(service, "/Endpoint/Ports"))),
    ])
}

fn replicas(service: &Value) -> String {
    let count = |name: &str| number(service, &format!("/ServiceStatus/{name}"));
    let (running, desired) = (count("RunningTasks"), count("DesiredTasks"));
    let completed = count("CompletedTasks");
    let mode = &service["Spec"]["Mode"];
    let most = number(service, "/Spec/TaskTemplate/Placement/MaxReplicas");
    if mode["ReplicatedJob"].is_object() {
        let total = number(mode, "/ReplicatedJob/TotalCompletions");
        return format!("{running}/{desired} ({completed}/{total} completed)");
    }
    if mode["GlobalJob"].is_object() {
        let total = desired + completed;
        return format!("{running}/{desired} ({completed}/{total} completed)");
    }
    match most {
        1.. if mode["Replicated"].is_object() => {
            format!("{running}/{desired} (max {most} per node)")
        }
        _ => format!("{running}/{desired}"),
    }
}

/// Ports of the ingress network, neighbours together: `*:80-81->80-81/tcp`.
fn ports(all: &[Value]) -> String {
    #[derive(Clone, Copy)]
    struct Range<'a> {
        from: (i64, i64),
        to: (i64, i64),
        protocol: &'a str,
    }
    let mut ports: Vec<(&str, i64, i64)> = all
        .iter()
        .filter(|port| text(port, "/PublishMode") == "ingress")
        .map(|port| {
            (
                text(port, "/Protocol"),
                number(port, "/PublishedPort"),
                number(port, "/TargetPort"),
            )
        })
        .collect();
    ports.sort_unstable();
    let mut ranges: Vec<Range<'_>> = Vec::new();
    for (protocol, published, target) in ports {
        let last = ranges.last_mut().filter(|last| {
            let is_range = last.to.1 != last.to.0;
            last.protocol == protocol
                && published - last.from.1 <= 1
                && (0..=1).contains(&(target - last.to.1))
                && !(is_range && target <= last.to.1)
        });
        match last {
            Some(last) => (last.from.1, last.to.1) = (published, target),
            None => ranges.push(Range {
                from: (published, published),
                to: (target, target),
                protocol,
            }),
        }
    }
    let span = |(first, last): (i64, i64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let written: Vec<String> = ranges
        .iter()
        .map(|range| {
            format!(
                "*:{}->{}/{}",
                span(range.from),
                span(range.to),
                range.protocol
            )
        })
        .collect();
    written.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn port(published: i64, target: i64) -> Value {
        json!({"Protocol": "tcp", "PublishedPort": published, "TargetPort": target, "PublishMode": "ingress"})
    }

    #[test]
    fn neighbouring_ports_stand_together() {
        assert_eq!(ports(&[port(80, 80), port(81, 81)]), "*:80-81->80-81/tcp");
        assert_eq!(ports(&[port(80, 80), port(81, 80)]), "*:80-81->80/tcp");
        assert_eq!(
            ports(&[port(80, 80), port(81, 81), port(82, 80)]),
            "*:80-81->80-81/tcp, *:82->80/tcp"
        );
        assert_eq!(ports(&[]), "");
    }

    #[test]
    fn counts_say_what_kind_of_service_it_is() {
        let service = |mode: Value, most: i64| {
            json!({
                "Spec": {"Mode": mode, "TaskTemplate": {"Placement": {"MaxReplicas": most}}},
                "ServiceStatus": {"RunningTasks": 1, "DesiredTasks": 2, "CompletedTasks": 3},
            })
        };
        for (mode, most, shown) in [
            (json!({"Replicated": {"Replicas": 2}}), 0, "1/2"),
            (
                json!({"Replicated": {"Replicas": 2}}),
                1,
                "1/2 (max 1 per node)",
            ),
            (json!({"Global": {}}), 1, "1/2"),
            (
                json!({"ReplicatedJob": {"TotalCompletions": 9}}),
                0,
                "1/2 (3/9 completed)",
            ),
            (json!({"GlobalJob": {}}), 0, "1/2 (3/5 completed)"),
        ] {
            assert_eq!(replicas(&service(mode, most)), shown);
        }
    }
}
