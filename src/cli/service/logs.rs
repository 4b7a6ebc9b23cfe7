//! `skein service logs`: what all tasks of a service say, each line with who said it.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::Value;

use crate::cli::client::stream::Ask;
use crate::cli::client::{Client, encode};
use crate::cli::container::logs::{LogFlags, Sink, copy};
use crate::cli::human::short;
use crate::cli::rows::number;
use crate::cli::swarm::text;

/// Show what the tasks of a service have said
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  skein service logs --follow --tail 10 web\n  skein service logs --since 5m --timestamps web"
)]
pub(in crate::cli) struct LogsArgs {
    #[command(flatten)]
    flags: LogFlags,
    /// IDs in place of names
    #[arg(long)]
    no_resolve: bool,
    /// Without the IDs of tasks
    #[arg(long)]
    no_task_ids: bool,
    /// Whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// The lines alone, without who said them
    #[arg(long)]
    raw: bool,
    /// A service or a task
    #[arg(value_name = "SERVICE|TASK")]
    service: String,
}

/// Does it.
pub(super) async fn run(client: &Client, args: &LogsArgs) -> anyhow::Result<()> {
    let name = encode(&args.service);
    let service: Option<Value> = client.find(&format!("/services/{name}")).await?;
    let (path, spec, most) = match service {
        Some(service) => (
            format!("/services/{name}"),
            service["Spec"]["TaskTemplate"].clone(),
            number(&service, "/Spec/Mode/Replicated/Replicas"),
        ),
        None => {
            let task: Option<Value> = client.find(&format!("/tasks/{name}")).await?;
            let Some(task) = task else {
                anyhow::bail!("no such task or service: {}", args.service);
            };
            let slot = number(&task, "/Slot");
            (format!("/tasks/{name}"), task["Spec"].clone(), slot)
        }
    };
    let tty = spec.pointer("/ContainerSpec/TTY") == Some(&true.into());
    if tty && !args.raw {
        anyhow::bail!("tty service logs only supported with --raw");
    }
    let details = !args.raw || args.flags.details;
    let target = format!("{path}/logs?{}", args.flags.query(details, &[])?);
    let reply = client.open(Ask::get(target).patiently()).await?;
    if args.raw {
        return copy(reply, &mut Plain).await;
    }
    let mut speakers = Speakers {
        client,
        args,
        width: most.max(1).to_string().len(),
        known: BTreeMap::new(),
    };
    copy(reply, &mut speakers).await
}

/// Lines as they are.
struct Plain;

impl Sink for Plain {
    async fn line(&mut self, line: String) -> anyhow::Result<String> {
        Ok(line)
    }
}

/// Lines with who said them.
struct Speakers<'a> {
    client: &'a Client,
    args: &'a LogsArgs,
    width: usize,
    known: BTreeMap<String, String>,
}

impl Sink for Speakers<'_> {
    async fn line(&mut self, line: String) -> anyhow::Result<String> {
        let Some(said) = Said::read(&line, self.args.flags.timestamps) else {
            return Ok(line);
        };
        let speaker = self.speaker(&said).await?;
        let time = said
            .time
            .map_or_else(String::new, |time| format!("{time} "));
        let details = match self.args.flags.details {
            true => format!("{} ", said.others.join(",")),
            false => String::new(),
        };
        Ok(format!("{time}{speaker}    | {details}{}", said.words))
    }
}

impl Speakers<'_> {
    async fn speaker(&mut self, said: &Said<'_>) -> anyhow::Result<String> {
        if let Some(known) = self.known.get(said.task) {
            return Ok(known.clone());
        }
        let task: Value = self
            .client
            .find(&format!("/tasks/{}", encode(said.task)))
            .await?
            .unwrap_or_default();
        let service = self.name("services", said.service, "/Spec/Name").await?;
        let node = self
            .name("nodes", said.node, "/Description/Hostname")
            .await?;
        let slot = number(&task, "/Slot");
        let mut name = format!("{service}.{slot}");
        if !self.args.no_task_ids {
            let id = if self.args.no_trunc {
                said.task
            } else {
                short(said.task)
            };
            name = format!("{name}.{id}");
        }
        let padding = self.width.saturating_sub(slot.to_string().len());
        let speaker = format!("{name}@{node}{}", " ".repeat(padding));
        self.known.insert(said.task.to_owned(), speaker.clone());
        Ok(speaker)
    }

    async fn name(&self, path: &str, id: &str, field: &str) -> anyhow::Result<String> {
        if self.args.no_resolve {
            return Ok(id.to_owned());
        }
        let found = self.client.find(&format!("/{path}/{}", encode(id))).await?;
        Ok(found.map_or_else(|| id.to_owned(), |found| text(&found, field).to_owned()))
    }
}

/// A line and what the daemon says of it.
#[derive(Debug, PartialEq, Eq)]
struct Said<'a> {
    time: Option<&'a str>,
    task: &'a str,
    service: &'a str,
    node: &'a str,
    others: Vec<&'a str>,
    words: &'a str,
}

impl<'a> Said<'a> {
    /// `[TIME ]a=b,c=d WORDS`; `None` for the daemon's own warnings, which nobody said.
    fn read(line: &'a str, timestamps: bool) -> Option<Self> {
        let (time, rest) = match timestamps {
            true => line
                .split_once(' ')
                .map(|(time, rest)| (Some(time), rest))?,
            false => (None, line),
        };
        let (details, words) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut said = Self {
            time,
            task: "",
            service: "",
            node: "",
            others: Vec::new(),
            words,
        };
        for pair in details.split(',') {
            match pair.split_once('=') {
                Some(("com.docker.swarm.task.id", id)) => said.task = id,
                Some(("com.docker.swarm.service.id", id)) => said.service = id,
                Some(("com.docker.swarm.node.id", id)) => said.node = id,
                _ => said.others.push(pair),
            }
        }
        (!said.task.is_empty()).then_some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_who_said_it() {
        let line = "com.docker.swarm.node.id=n,com.docker.swarm.service.id=s,com.docker.swarm.task.id=t,x=y two words";
        let said = Said::read(line, false).unwrap();
        assert_eq!((said.task, said.service, said.node), ("t", "s", "n"));
        assert_eq!((said.words, said.others), ("two words", vec!["x=y"]));
        let line = format!("2026-01-01T00:00:00Z {line}");
        assert_eq!(
            Said::read(&line, true).unwrap().time,
            Some("2026-01-01T00:00:00Z")
        );
        assert_eq!(Said::read("warning: a node is away", false), None);
    }
}
