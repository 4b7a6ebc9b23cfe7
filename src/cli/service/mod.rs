//! `skein service`: what docker's command of that name does, with its flags.

pub(super) mod create;
pub(super) mod flags;
mod inspect;
pub(super) mod list;
mod logs;
pub(super) mod progress;
pub(super) mod tasks;
mod update;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::stream::{Ask, REGISTRY_AUTH};
use super::client::{Client, ClientError, encode};
use super::inspect::{NamesArgs, each};
use super::output::{note, say};
use super::parts::references::Kind;
use super::registry;
use super::rows::{Listing, list as elements, query};
use super::swarm::text;
use create::merged_env;
use flags::{CreateArgs, UpdateArgs};

/// Make, show, change and remove services
#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    Create(Box<CreateArgs>),
    /// List the services
    #[command(
        visible_alias = "list",
        after_help = "Filters: id, name, label, mode\nFields: .ID .Name .Mode .Replicas .Image .Ports\n\nExamples:\n  \
            skein service ls --filter label=team=a\n  skein service ls --format '{{.Name}} {{.Replicas}}'"
    )]
    Ls(Listing),
    /// List the tasks of services
    #[command(
        after_help = "Examples:\n  skein service ps web\n  skein service ps --filter desired-state=running web"
    )]
    Ps(tasks::PsArgs),
    Inspect(inspect::InspectArgs),
    Logs(logs::LogsArgs),
    Update(Box<UpdateArgs>),
    Scale(ScaleArgs),
    Rollback(RollbackArgs),
    /// Remove services
    #[command(visible_alias = "remove")]
    Rm(NamesArgs),
}

/// Set the number of tasks of replicated services
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  skein service scale web=5\n  skein service scale --detach web=5 api=2"
)]
pub(super) struct ScaleArgs {
    /// Services and their numbers of tasks
    #[arg(required = true, value_name = "SERVICE=REPLICAS", value_parser = scale_of)]
    services: Vec<(String, u64)>,
    /// Do not wait until they have converged
    #[arg(long, short, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    detach: Option<bool>,
}

/// Back to what a service was before its last update
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The service
    service: String,
    /// Do not wait until it has converged
    #[arg(long, short, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    detach: Option<bool>,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

fn scale_of(text: &str) -> Result<(String, u64), String> {
    let wrong = || format!("invalid scale specifier '{text}': give SERVICE=NUMBER");
    let (service, count) = text.rsplit_once('=').ok_or_else(wrong)?;
    match count.parse() {
        Ok(count) if !service.is_empty() => Ok((service.into(), count)),
        _ => Err(wrong()),
    }
}

/// Does it.
pub(super) async fn run(client: &Client, command: ServiceCommand) -> anyhow::Result<()> {
    match command {
        ServiceCommand::Create(args) => create(client, *args).await,
        ServiceCommand::Ls(args) => list::run(client, &args).await,
        ServiceCommand::Ps(args) => tasks::run(client, &args).await,
        ServiceCommand::Inspect(args) => inspect::run(client, &args).await,
        ServiceCommand::Logs(args) => logs::run(client, &args).await,
        ServiceCommand::Update(args) => update(client, *args).await,
        ServiceCommand::Scale(args) => scale(client, args).await,
        ServiceCommand::Rollback(args) => {
            let service = find(client, &args.service).await?;
            let spec = service["Spec"].clone();
            send_update(client, &service, &spec, "&rollback=previous", None).await?;
            say(&args.service);
            match args.detach {
                Some(true) => Ok(()),
                _ => progress::until_converged(client, text(&service, "/ID"), args.quiet).await,
            }
        }
        ServiceCommand::Rm(args) => {
            each(&args.names, async |name| {
                let target = format!("/services/{}", encode(&name));
                client.delete(&target).await.map(drop)
            })
            .await
        }
    }
}

/// `GET /services/{name}`.
pub(super) async fn find(client: &Client, name: &str) -> Result<Value, ClientError> {
    client.get(&format!("/services/{}", encode(name))).await
}

async fn create(client: &Client, args: CreateArgs) -> anyhow::Result<()> {
    let env = environment(&args.env_file, &args.env)?;
    let mut spec = create::spec(&args, &env).map_err(anyhow::Error::msg)?;
    resolve(client, &mut spec).await?;
    let shared = &args.shared;
    let id = make(
        client,
        &mut spec,
        !shared.no_resolve_image,
        shared.with_registry_auth,
    )
    .await?;
    say(&id);
    match shared.detach {
        Some(true) => Ok(()),
        _ => progress::until_converged(client, &id, shared.quiet).await,
    }
}

/// Makes a service of a complete spec and gives its ID; warnings are written beside.
pub(super) async fn make(
    client: &Client,
    spec: &mut Value,
    resolve_image: bool,
    with_auth: bool,
) -> anyhow::Result<String> {
    let image = text(spec, "/TaskTemplate/ContainerSpec/Image").to_owned();
    let auth = with_auth.then(|| registry::credentials(&image));
    if resolve_image {
        let warning = registry::pin(client, &mut spec["TaskTemplate"], auth.as_deref()).await;
        warning.into_iter().for_each(note);
    } else {
        spec["TaskTemplate"]["ContainerSpec"]["Image"] = registry::with_tag(&image).into();
    }
    let mut ask = Ask::post("/services/create").json(spec);
    if let Some(auth) = auth {
        ask = ask.header(REGISTRY_AUTH, auth);
    }
    let made = client.open(ask).await?.value().await?;
    warn(&made);
    Ok(text(&made, "/ID").to_owned())
}

fn warn(answer: &Value) {
    elements(answer, "/Warnings")
        .iter()
        .filter_map(Value::as_str)
        .for_each(note);
}

/// Sends a spec as the service's next. With `auth`, credentials go along; else the daemon keeps those it has.
pub(super) async fn send_update(
    client: &Client,
    service: &Value,
    spec: &Value,
    query: &str,
    auth: Option<String>,
) -> Result<(), ClientError> {
    let version = service
        .pointer("/Version/Index")
        .cloned()
        .unwrap_or_default();
    let id = text(service, "/ID");
    let from = match auth {
        Some(_) => "",
        None => "&registryAuthFrom=spec",
    };
    let target = format!("/services/{id}/update?version={version}{from}{query}");
    let mut ask = Ask::post(target).json(spec);
    if let Some(auth) = auth {
        ask = ask.header(REGISTRY_AUTH, auth);
    }
    let answer = client.open(ask).await?.value().await?;
    warn(&answer);
    Ok(())
}

async fn update(client: &Client, args: UpdateArgs) -> anyhow::Result<()> {
    let shared = &args.shared;
    let service = find(client, &args.service).await?;
    let mut spec = service["Spec"].clone();
    update::apply(&args, &mut spec).map_err(anyhow::Error::msg)?;
    let query = if args.rollback {
        "&rollback=previous"
    } else {
        ""
    };
    if args.rollback && spec != service["Spec"] {
        anyhow::bail!("other flags may not be combined with --rollback");
    }
    networks(client, &args.lists, &mut spec).await?;
    let lists = &args.lists;
    for (kind, add, remove) in [
        (Kind::Secret, &lists.secret_add, &lists.secret_rm),
        (Kind::Config, &lists.config_add, &lists.config_rm),
    ] {
        references(client, kind, add, remove, &mut spec).await?;
    }
    let image = text(&spec, "/TaskTemplate/ContainerSpec/Image").to_owned();
    let auth = shared
        .with_registry_auth
        .then(|| registry::credentials(&image));
    if args.image.is_some() && !shared.no_resolve_image {
        let warning = registry::pin(client, &mut spec["TaskTemplate"], auth.as_deref()).await;
        warning.into_iter().for_each(note);
    }
    send_update(client, &service, &spec, query, auth).await?;
    say(&args.service);
    match shared.detach {
        Some(true) => Ok(()),
        _ => progress::until_converged(client, text(&service, "/ID"), shared.quiet).await,
    }
}

/// Environment files, then variables; a name alone takes this shell's value, and is left out where there is none.
pub(super) fn environment(
    files: &[std::path::PathBuf],
    variables: &[String],
) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = line.split('=').next().unwrap_or_default();
            if key.is_empty() || key.contains(char::is_whitespace) {
                anyhow::bail!(
                    "{}: `{line}` is no variable: write NAME=value",
                    file.display()
                );
            }
            all.push(line.to_owned());
        }
    }
    all.extend(variables.iter().cloned());
    let valued = all
        .into_iter()
        .filter_map(|variable| match variable.contains('=') {
            true => Some(variable),
            false => std::env::var(&variable)
                .ok()
                .map(|value| format!("{variable}={value}")),
        });
    Ok(merged_env(&valued.collect::<Vec<String>>()))
}

/// Puts IDs where a new spec has names of networks, secrets and configs.
async fn resolve(client: &Client, spec: &mut Value) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for network in elements(spec, "/TaskTemplate/Networks") {
        found.push(with_id(client, network).await?);
    }
    found.sort_by(|a, b| text(a, "/Target").cmp(text(b, "/Target")));
    spec["TaskTemplate"]["Networks"] = found.into();
    for (kind, field) in [(Kind::Secret, "Secrets"), (Kind::Config, "Configs")] {
        let asked = elements(&spec["TaskTemplate"]["ContainerSpec"], &format!("/{field}")).to_vec();
        let found = with_ids(client, kind, asked).await?;
        spec["TaskTemplate"]["ContainerSpec"][field] = found.into();
    }
    Ok(())
}

async fn with_id(client: &Client, network: &Value) -> anyhow::Result<Value> {
    let name = text(network, "/Target");
    let target = format!("/networks/{}?scope=swarm", encode(name));
    let known: Value = client.get(&target).await?;
    let mut network = network.clone();
    network["Target"] = text(&known, "/Id").into();
    Ok(network)
}

/// References with the IDs that belong to their names.
pub(super) async fn with_ids(
    client: &Client,
    kind: Kind,
    mut asked: Vec<Value>,
) -> anyhow::Result<Vec<Value>> {
    if asked.is_empty() {
        return Ok(asked);
    }
    let name = |reference: &Value| text(reference, &format!("/{}", kind.name())).to_owned();
    let files: Vec<&str> = asked.iter().map(|one| text(one, "/File/Name")).collect();
    if let Some(twice) = (1..files.len()).find(|at| files[..*at].contains(&files[*at])) {
        let name = name(&asked[twice]);
        anyhow::bail!("duplicate {} target for {name} not allowed", kind.word());
    }
    let names: Vec<(String, String)> = asked
        .iter()
        .map(|reference| ("name".to_owned(), name(reference)))
        .collect();
    let target = format!("/{}?{}", kind.collection(), query(&names));
    let known: Vec<Value> = client.get(&target).await?;
    for reference in &mut asked {
        let name = name(reference);
        let found = known.iter().find(|one| text(one, "/Spec/Name") == name);
        let Some(found) = found else {
            anyhow::bail!("{} not found: {name}", kind.word());
        };
        reference[kind.id()] = text(found, "/ID").into();
    }
    Ok(asked)
}

async fn references(
    client: &Client,
    kind: Kind,
    add: &[Value],
    remove: &[String],
    spec: &mut Value,
) -> anyhow::Result<()> {
    if add.is_empty() && remove.is_empty() {
        return Ok(());
    }
    let field = match kind {
        Kind::Secret => "Secrets",
        Kind::Config => "Configs",
    };
    let container = &mut spec["TaskTemplate"]["ContainerSpec"];
    let mut kept = elements(container, &format!("/{field}")).to_vec();
    let name = format!("/{}", kind.name());
    kept.retain(|reference| !remove.iter().any(|gone| gone == text(reference, &name)));
    kept.extend(with_ids(client, kind, add.to_vec()).await?);
    container[field] = kept.into();
    Ok(())
}

async fn networks(
    client: &Client,
    lists: &flags::UpdateLists,
    spec: &mut Value,
) -> anyhow::Result<()> {
    if lists.network_add.is_empty() && lists.network_rm.is_empty() {
        return Ok(());
    }
    let mut kept = elements(spec, "/TaskTemplate/Networks").to_vec();
    for name in &lists.network_rm {
        let gone = with_id(client, &json!({"Target": name})).await?;
        kept.retain(|network| network["Target"] != gone["Target"] && network["Target"] != **name);
    }
    for network in &lists.network_add {
        let new = with_id(client, network).await?;
        if kept.iter().any(|old| old["Target"] == new["Target"]) {
            let name = text(network, "/Target");
            anyhow::bail!("service is already attached to network {name}");
        }
        kept.push(new);
    }
    kept.sort_by(|a, b| text(a, "/Target").cmp(text(b, "/Target")));
    spec["TaskTemplate"]["Networks"] = kept.into();
    Ok(())
}

async fn scale(client: &Client, args: ScaleArgs) -> anyhow::Result<()> {
    let mut scaled = Vec::new();
    for (name, count) in &args.services {
        let service = find(client, name).await?;
        let mut spec = service["Spec"].clone();
        let mode = &mut spec["Mode"];
        if let Some(replicated) = mode.get_mut("Replicated") {
            replicated["Replicas"] = (*count).into();
        } else if let Some(job) = mode.get_mut("ReplicatedJob") {
            job["TotalCompletions"] = (*count).into();
        } else {
            anyhow::bail!("{name}: scale can only be used with replicated or replicated-job mode");
        }
        send_update(client, &service, &spec, "", None).await?;
        say(format!("{name} scaled to {count}"));
        scaled.push(text(&service, "/ID").to_owned());
    }
    if args.detach == Some(true) {
        return Ok(());
    }
    for id in scaled {
        progress::until_converged(client, &id, false).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
