//! `skein node ls`.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::{Client, encode};
use crate::cli::format::Format;
use crate::cli::output::{say, table};
use crate::cli::swarm::text;
use crate::cli::values;

#[derive(Debug, Args)]
pub(in crate::cli) struct LsArgs {
    /// Only members that fit, key=value; may be given several times
    #[arg(long, short, value_parser = values::filter)]
    filter: Vec<(String, String)>,
    /// table, json, a template, or `table` and a template
    #[arg(long, default_value = "table")]
    format: String,
    /// IDs alone
    #[arg(long, short)]
    quiet: bool,
}

/// Does it.
pub(super) async fn list(client: &Client, args: LsArgs) -> anyhow::Result<()> {
    let format = Format::parse(&args.format)?;
    let mut filters = json!({});
    for (key, value) in &args.filter {
        filters[key][value] = true.into();
    }
    let target = format!("/nodes?filters={}", encode(&filters.to_string()));
    let mut nodes: Vec<Value> = client.get(&target).await?;
    nodes.sort_by_key(|node| natural(text(node, "/Description/Hostname")));
    if args.quiet {
        nodes.iter().for_each(|node| say(text(node, "/ID")));
        return Ok(());
    }
    let info: Value = client.get("/info").await?;
    let rows: Vec<Value> = nodes.iter().map(|node| row(node, &info)).collect();
    let text = format.render(&rows, &[], own_table)?;
    if !text.is_empty() {
        say(text);
    }
    Ok(())
}

/// A name as docker sorts it: numbers in it count as numbers.
fn natural(name: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (word, after) = after.split_at(letters);
        parts.push((number.parse().unwrap_or_default(), word.to_owned()));
        rest = after;
    }
    parts
}

fn row(node: &Value, info: &Value) -> Value {
    let manager = match node.get("ManagerStatus") {
        Some(status) if status["Leader"] == true => "Leader".into(),
        Some(status) => capital(text(status, "/Reachability")),
        None => String::new(),
    };
    json!({
        "ID": text(node, "/ID"),
        "Self": text(node, "/ID") == text(info, "/Swarm/NodeID"),
        "Hostname": text(node, "/Description/Hostname"),
        "Status": capital(text(node, "/Status/State")),
        "Availability": capital(text(node, "/Spec/Availability")),
        "ManagerStatus": manager,
        "EngineVersion": text(node, "/Description/Engine/EngineVersion"),
        "TLSStatus": tls_status(node, info),
    })
}

fn tls_status(node: &Value, info: &Value) -> &'static str {
    let wanted = info.pointer("/Swarm/Cluster/TLSInfo");
    match (node.pointer("/Description/TLSInfo"), wanted) {
        (Some(has), Some(wanted)) if has == wanted => "Ready",
        (Some(_), Some(_)) => "Needs Rotation",
        _ => "Unknown",
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

fn own_table(rows: &[Value]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mark = if row["Self"] == true { "*" } else { " " };
            let mut cells = vec![format!("{} {mark}", text(row, "/ID"))];
            let fields = [
                "Hostname",
                "Status",
                "Availability",
                "ManagerStatus",
                "EngineVersion",
            ];
            cells.extend(fields.map(|field| text(row, &format!("/{field}")).to_owned()));
            cells
        })
        .collect();
    table(
        &[
            "ID",
            "HOSTNAME",
            "STATUS",
            "AVAILABILITY",
            "MANAGER STATUS",
            "ENGINE VERSION",
        ],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_sort_as_numbers() {
        let mut names = ["node10", "node2", "a", "node1", "10", "2"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["a", "node1", "node2", "node10", "2", "10"]);
    }

    #[test]
    fn a_row_speaks_as_docker_does() {
        let tls = json!({"TrustRoot": "x"});
        let node = json!({
            "ID": "abc", "Description": {"Hostname": "h", "Engine": {"EngineVersion": "0.1.0"}, "TLSInfo": tls},
            "Status": {"State": "ready"}, "Spec": {"Availability": "drain"},
            "ManagerStatus": {"Reachability": "unreachable"},
        });
        let info = json!({"Swarm": {"NodeID": "abc", "Cluster": {"TLSInfo": tls}}});
        let row = row(&node, &info);
        assert_eq!(row["ManagerStatus"], "Unreachable");
        assert_eq!(
            (&row["Status"], &row["TLSStatus"]),
            (&"Ready".into(), &"Ready".into())
        );
        assert!(
            own_table(&[row])
                .ends_with("abc *   h          Ready    Drain          Unreachable      0.1.0")
        );
    }
}
