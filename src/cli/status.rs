//! `skein status`: how this machine and its cluster are, also when nobody leads.

use std::cmp::Reverse;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::client::Client;
use super::output::{pretty, say, table};

/// Show this machine, who leads, who votes, and every peer
///
/// Answered from what this machine knows, so it works without a leader and says what to do then.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  skein status\n  skein status --format json")]
pub(super) struct StatusArgs {
    /// How to write it
    #[arg(long, default_value = "table", value_parser = ["table", "json"])]
    format: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Status {
    node: Local,
    leader: Option<String>,
    term: u64,
    voters: Vec<String>,
    learners: Vec<String>,
    peers: Vec<Peer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Local {
    #[serde(rename = "ID")]
    id: Option<String>,
    hostname: String,
    state: String,
    control_available: bool,
    addr: Option<String>,
    error: String,
    warnings: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Peer {
    #[serde(rename = "ID")]
    id: String,
    hostname: String,
    addresses: Vec<String>,
    standing: String,
    phase: String,
    alive: bool,
    since: u64,
    last_log: Option<Log>,
    engine_version: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Log {
    rank: u64,
    index: u64,
}

/// Does it.
pub(super) async fn run(client: &Client, args: StatusArgs) -> anyhow::Result<()> {
    let answer = client.get_text("/skein/status").await?;
    if args.format == "json" {
        say(pretty(&String::from_utf8_lossy(&answer)));
        return Ok(());
    }
    let status: Status = serde_json::from_slice(&answer)?;
    say(status.text());
    Ok(())
}

impl Status {
    fn text(&self) -> String {
        let mut lines = self.head();
        if !self.peers.is_empty() {
            lines.push(String::new());
            lines.push(self.peer_table());
        }
        lines.join("\n")
    }

    fn head(&self) -> Vec<String> {
        let node = &self.node;
        let mut lines = Vec::new();
        let mut line = |name: &str, value: String| lines.push(format!("{name:<11}{value}"));
        let id = node.id.as_deref().filter(|_| node.state != "inactive");
        line(
            "Node:",
            match id {
                Some(id) => format!("{} ({id})", node.hostname),
                None => node.hostname.clone(),
            },
        );
        line("State:", self.state());
        if let Some(addr) = &node.addr {
            line("Address:", addr.clone());
        }
        if !node.error.is_empty() {
            line("Error:", node.error.clone());
        }
        if node.state == "active" {
            line("Leader:", self.leader());
            if !self.voters.is_empty() {
                let alive = self.voters.iter().filter(|id| self.is_alive(id)).count();
                let names = self.names(&self.voters);
                let all = self.voters.len();
                line("Voters:", format!("{names} ({alive} of {all} alive)"));
            }
            if !self.learners.is_empty() {
                line("Standbys:", self.names(&self.learners));
            }
        }
        for warning in &node.warnings {
            line("Warning:", warning.clone());
        }
        lines
    }

    fn state(&self) -> String {
        let may = if self.node.control_available {
            "active, answers for the cluster"
        } else {
            "active, a worker"
        };
        match self.node.state.as_str() {
            "active" => may.into(),
            "inactive" => {
                "in no cluster; `sudo skein init` makes one, `sudo skein join` joins one".into()
            }
            "locked" => "locked; `sudo skein unlock` with the unlock key opens it".into(),
            other => other.into(),
        }
    }

    fn leader(&self) -> String {
        if let Some(leader) = self.leader.as_deref().filter(|id| self.is_alive(id)) {
            let name = self.names(&[leader.to_owned()]);
            return format!("{name}, in term {}", self.term);
        }
        let advice = match self.newest() {
            Some(peer) => format!(
                "on {}, whose log is the newest of those alive,",
                peer.name()
            ),
            None => "on the machine whose log is the newest".into(),
        };
        format!(
            "none. If the managers that are dead come back, they elect one. If they are lost for good, \
             `sudo skein recover` {advice} brings the cluster back."
        )
    }

    fn newest(&self) -> Option<&Peer> {
        let replicas = self
            .peers
            .iter()
            .filter(|peer| peer.alive && peer.last_log.is_some());
        replicas.max_by_key(|peer| (peer.last_log, Reverse(&peer.id)))
    }

    fn is_alive(&self, id: &str) -> bool {
        self.peers.iter().any(|peer| peer.id == id && peer.alive)
    }

    fn names(&self, ids: &[String]) -> String {
        let name = |id: &String| {
            let known = self.peers.iter().find(|peer| peer.id == *id);
            known.map_or_else(|| id.clone(), Peer::name)
        };
        let names: Vec<String> = ids.iter().map(name).collect();
        names.join(", ")
    }

    fn peer_table(&self) -> String {
        let mut peers: Vec<&Peer> = self.peers.iter().collect();
        peers.sort_by(|a, b| (&a.hostname, &a.id).cmp(&(&b.hostname, &b.id)));
        let rows: Vec<Vec<String>> = peers.into_iter().map(|peer| self.row(peer)).collect();
        table(
            &[
                "PEER", "HOSTNAME", "ALIVE", "SINCE", "ROLE", "LOG", "ADDRESS", "VERSION",
            ],
            &rows,
        )
    }

    fn row(&self, peer: &Peer) -> Vec<String> {
        let own = self.node.id.as_deref() == Some(peer.id.as_str());
        let role = if self.leader.as_deref() == Some(peer.id.as_str()) && peer.alive {
            "leader"
        } else if self.voters.contains(&peer.id) {
            "voter"
        } else if self.learners.contains(&peer.id) {
            "standby"
        } else {
            peer.standing.as_str()
        };
        let alive = match (peer.alive, peer.phase.as_str()) {
            (_, "left") => "left",
            (_, "restarting") => "restarting",
            (true, _) => "yes",
            (false, _) => "no",
        };
        let log = peer.last_log;
        vec![
            format!("{}{}", peer.id, if own { " *" } else { "" }),
            peer.hostname.clone(),
            alive.into(),
            span(Duration::from_nanos(peer.since)),
            role.into(),
            log.map_or_else(String::new, |log| log.index.to_string()),
            peer.addresses.first().cloned().unwrap_or_default(),
            peer.engine_version.clone(),
        ]
    }
}

impl Peer {
    fn name(&self) -> String {
        match self.hostname.as_str() {
            "" => self.id.clone(),
            name => name.into(),
        }
    }
}

/// A span in its largest unit.
fn span(span: Duration) -> String {
    match span.as_secs() {
        secs @ 0..120 => format!("{secs}s"),
        secs @ 120..7200 => format!("{}m", secs / 60),
        secs @ 7200..172_800 => format!("{}h", secs / 3600),
        secs => format!("{}d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn peer(id: &str, alive: bool, log: Option<(u64, u64)>) -> serde_json::Value {
        json!({
            "ID": id, "Hostname": format!("host-{id}"), "Addresses": ["10.0.0.1:2377"], "Standing": "eligible",
            "Phase": "up", "Alive": alive, "Since": 90_000_000_000_u64, "EngineVersion": "0.1.0",
            "LastLog": log.map(|(rank, index)| json!({"Rank": rank, "Index": index})),
        })
    }

    fn status(leader: Option<&str>) -> Status {
        serde_json::from_value(json!({
            "Node": {"ID": "a", "Hostname": "host-a", "State": "active", "ControlAvailable": true, "Addr": "10.0.0.1:2377"},
            "Leader": leader, "Term": 4, "Voters": ["a", "b", "c"], "Learners": ["d"],
            "Peers": [
                peer("a", true, Some((4, 9))), peer("b", true, Some((4, 11))), peer("c", false, Some((5, 1))),
                peer("d", true, None),
            ],
        }))
        .unwrap()
    }

    #[test]
    fn a_healthy_cluster_names_its_leader() {
        let text = status(Some("b")).text();
        assert!(text.contains("Leader:    host-b, in term 4\n"), "{text}");
        assert!(text.contains("Voters:    host-a, host-b, host-c (2 of 3 alive)\n"));
        assert!(text.contains("Standbys:  host-d\n"));
        let row = text.lines().find(|line| line.starts_with("b  ")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "b",
                "host-b",
                "yes",
                "90s",
                "leader",
                "11",
                "10.0.0.1:2377",
                "0.1.0"
            ]
        );
    }

    #[test]
    fn without_a_leader_it_says_where_to_recover() {
        for leader in [None, Some("c")] {
            let text = status(leader).text();
            assert!(
                text.contains("`sudo skein recover` on host-b, whose log is the newest"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_machine_in_no_cluster_says_how_to_get_into_one() {
        let status: Status =
            serde_json::from_value(json!({"Node": {"Hostname": "x", "State": "inactive"}}))
                .unwrap();
        let text = status.text();
        assert!(text.contains("`sudo skein init` makes one"), "{text}");
        assert!(!text.contains("Leader"), "{text}");
    }
}
