//! `skein node`: list, inspect, update, promote, demote and remove members, and spread tasks over them.

mod list;
mod rebalance;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, ClientError, encode};
use super::output::{pretty, say};
use super::service::tasks::{TaskArgs, print};
use super::swarm::{node, own_id, text};
use super::template::Template;
use super::values;
use list::{LsArgs, list};
use rebalance::{RebalanceArgs, rebalance};

/// How often an update is made again because somebody else's came first.
const UPDATE_TRIES: usize = 5;

/// Show and change the members of the cluster
#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// List the members
    #[command(
        visible_alias = "list",
        after_help = "Filters: id, name, label, node.label, role, membership\nFields for --format: .ID .Self .Hostname \
            .Status .Availability .ManagerStatus .EngineVersion .TLSStatus\nTemplates: {{.Field}}, {{json .Field}}, \
            {{if .Field}}...{{else}}...{{end}}, \\t, \\n; `table` before one adds headers\n\nExamples:\n  \
            skein node ls --filter role=manager\n  skein node ls --format '{{.Hostname}} {{.ManagerStatus}}'"
    )]
    Ls(LsArgs),
    /// Show members in full; `self` is this one
    #[command(
        after_help = "Examples:\n  skein node inspect self\n  skein node inspect node2 --format '{{.Status.State}}'"
    )]
    Inspect(InspectArgs),
    /// Change labels, availability or role of a member
    #[command(
        after_help = "Examples:\n  skein node update --availability drain node2\n  \
        skein node update --label-add zone=a --label-rm old node2"
    )]
    Update(UpdateArgs),
    /// Make members managers for good
    Promote(NamesArgs),
    /// Make members workers for good
    Demote(NamesArgs),
    /// Remove members that are down; their machines are shut out for good
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// List the tasks of members; of this one when none is named
    #[command(
        after_help = "Examples:\n  skein node ps\n  skein node ps --filter desired-state=running node2"
    )]
    Ps(PsArgs),
    Rebalance(RebalanceArgs),
}

#[derive(Debug, Args)]
pub(super) struct PsArgs {
    #[command(flatten)]
    tasks: TaskArgs,
    /// Members, by ID, hostname, or the beginning of an ID
    #[arg(default_value = "self", value_name = "NODE")]
    nodes: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Members, by ID, hostname, or the beginning of an ID
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// json or a template
    #[arg(long, short)]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    /// The member
    node: String,
    /// Whether it takes tasks
    #[arg(long, value_parser = ["active", "pause", "drain"])]
    availability: Option<String>,
    /// Its role
    #[arg(long, value_parser = ["worker", "manager"])]
    role: Option<String>,
    /// Add or change a label
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::label)]
    label_add: Vec<(String, String)>,
    /// Remove a label
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct NamesArgs {
    /// Members, by ID, hostname, or the beginning of an ID
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Members, by ID, hostname, or the beginning of an ID
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Remove a member that is not down, too
    #[arg(long, short)]
    force: bool,
}

/// Does it.
pub(super) async fn run(client: &Client, command: NodeCommand) -> anyhow::Result<()> {
    match command {
        NodeCommand::Ls(args) => list(client, args).await,
        NodeCommand::Inspect(args) => inspect(client, args).await,
        NodeCommand::Update(args) => {
            let name = resolve(client, &args.node).await?;
            change(client, &name, |spec| args.apply(spec)).await?;
            say(args.node);
            Ok(())
        }
        NodeCommand::Promote(args) => set_role(client, args, "manager").await,
        NodeCommand::Demote(args) => set_role(client, args, "worker").await,
        NodeCommand::Rm(args) => remove(client, args).await,
        NodeCommand::Ps(args) => {
            let mut filters = Vec::new();
            for name in &args.nodes {
                filters.push(("node".to_owned(), resolve(client, name).await?));
            }
            print(client, filters, &args.tasks).await
        }
        NodeCommand::Rebalance(args) => rebalance(client, args).await,
    }
}

async fn inspect(client: &Client, args: InspectArgs) -> anyhow::Result<()> {
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(template) => Some(Template::parse(template)?),
    };
    let mut found = Vec::new();
    for name in &args.nodes {
        let name = resolve(client, name).await?;
        let body = client
            .get_text(&format!("/nodes/{}", encode(&name)))
            .await?;
        found.push(String::from_utf8_lossy(&body).trim().to_owned());
    }
    match template {
        Some(template) => {
            for one in &found {
                say(template.render(&serde_json::from_str(one)?)?);
            }
        }
        None if args.format.is_some() => say(format!("[{}]", found.join(","))),
        None => say(pretty(&format!("[{}]", found.join(",")))),
    }
    Ok(())
}

/// `self` is this node.
async fn resolve(client: &Client, name: &str) -> anyhow::Result<String> {
    match name {
        "self" => own_id(client).await,
        name => Ok(name.to_owned()),
    }
}

/// Changes a node's spec, again from the start when another change came between. False when there was nothing to
/// change.
async fn change(
    client: &Client,
    name: &str,
    apply: impl Fn(&mut Value) -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    for tries_left in (0..UPDATE_TRIES).rev() {
        let mut found = node(client, name).await?;
        if !apply(&mut found["Spec"])? {
            return Ok(false);
        }
        let version = found.pointer("/Version/Index").cloned().unwrap_or_default();
        let id = text(&found, "/ID");
        let target = format!("/nodes/{id}/update?version={version}");
        match client.post(&target, Some(&found["Spec"])).await {
            Ok(_) => return Ok(true),
            Err(ClientError::Refused { message, .. })
                if tries_left > 0 && message.contains("update out of sequence") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

impl UpdateArgs {
    fn apply(&self, spec: &mut Value) -> anyhow::Result<bool> {
        if let Some(availability) = &self.availability {
            spec["Availability"] = availability.as_str().into();
        }
        if let Some(role) = &self.role {
            spec["Role"] = role.as_str().into();
        }
        if !spec["Labels"].is_object() {
            spec["Labels"] = json!({});
        }
        for (key, value) in &self.label_add {
            spec["Labels"][key] = value.as_str().into();
        }
        if let Some(labels) = spec["Labels"].as_object_mut() {
            for key in &self.label_rm {
                anyhow::ensure!(
                    labels.remove(key).is_some(),
                    "node {} has no label {key}",
                    self.node
                );
            }
        }
        Ok(true)
    }
}

async fn set_role(client: &Client, args: NamesArgs, role: &str) -> anyhow::Result<()> {
    for given in &args.nodes {
        let name = resolve(client, given).await?;
        let changed = change(client, &name, |spec| {
            let other = spec["Role"] != role;
            spec["Role"] = role.into();
            Ok(other)
        })
        .await?;
        say(match (changed, role) {
            (false, _) => format!("Node {given} is already a {role}."),
            (true, "manager") => format!("Node {given} promoted to a manager in the swarm."),
            (true, _) => format!("Manager {given} demoted in the swarm."),
        });
    }
    Ok(())
}

async fn remove(client: &Client, args: RmArgs) -> anyhow::Result<()> {
    for given in &args.nodes {
        let name = resolve(client, given).await?;
        let force = if args.force { "?force=1" } else { "" };
        client
            .delete(&format!("/nodes/{}{force}", encode(&name)))
            .await?;
        say(given);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_added_and_removed() {
        let args = UpdateArgs {
            node: "n".into(),
            availability: Some("pause".into()),
            role: None,
            label_add: vec![("zone".into(), "a".into())],
            label_rm: vec!["old".into()],
        };
        let mut spec = json!({"Labels": {"old": "1", "keep": "2"}, "Role": "worker"});
        args.apply(&mut spec).unwrap();
        assert_eq!(
            spec,
            json!({"Labels": {"keep": "2", "zone": "a"}, "Role": "worker", "Availability": "pause"})
        );
        let error = args.apply(&mut spec).unwrap_err();
        assert_eq!(error.to_string(), "node n has no label old");
    }
}
