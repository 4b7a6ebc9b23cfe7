//! `skein stack deploy`: makes the cluster have what the files say.
//!
//! Networks, secrets and configs first, then services in the order in which they wait for each other. What is as it
//! should be is sent again all the same, as docker does it: the cluster restarts nothing for a spec that is equal.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::convert::{self, Blob, IMAGE, Planned, Source, Stack};
use super::load::{self, Reading};
use super::{NAMESPACE, wait};
use crate::cli::client::{Client, ClientError, encode};
use crate::cli::output::{note, say};
use crate::cli::parts::references::Kind;
use crate::cli::registry;
use crate::cli::rows::{list, only};
use crate::cli::service::{make, progress, send_update, with_ids};
use crate::cli::swarm::text;
use crate::cli::values;

/// Which files, and what of them.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct FileArgs {
    /// Stack file; - for standard input; may be given several times, each over the ones before
    #[arg(
        long,
        short = 'c',
        value_name = "PATH",
        required = true,
        value_delimiter = ','
    )]
    pub(super) compose_file: Vec<String>,
    /// Turn a profile on; * for all [env: COMPOSE_PROFILES=]
    #[arg(long, value_delimiter = ',')]
    pub(super) profile: Vec<String>,
}

impl FileArgs {
    /// What the files say together.
    pub(super) fn load(
        &self,
        env: BTreeMap<String, String>,
        raw: bool,
    ) -> Result<load::Model, String> {
        let mut profiles = self.profile.clone();
        let named = env.get("COMPOSE_PROFILES").cloned().unwrap_or_default();
        profiles.extend(
            named
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
        );
        load::load(&Reading {
            files: &self.compose_file,
            profiles: &profiles,
            env,
            raw,
        })
    }
}

/// Make or change a stack of services from a file
#[derive(Clone, Debug, Args)]
#[command(
    visible_alias = "up",
    after_help = "The files are of the Compose Specification. `depends_on` is carried out: a service begins when those it \
    waits for have started, are healthy, or have completed.\n\nExamples:\n  skein stack deploy -c stack.yml web\n  \
    skein stack deploy -c stack.yml -c production.yml --prune --detach=false web"
)]
pub(in crate::cli) struct DeployArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Do not wait until the services have converged
    #[arg(long, short, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    detach: bool,
    /// Remove services that the files do not name any more
    #[arg(long)]
    prune: bool,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
    /// When the registry is asked for digests and platforms
    #[arg(long, default_value = "always", value_parser = ["always", "changed", "never"])]
    resolve_image: String,
    /// Send the registry's credentials to the nodes
    #[arg(long)]
    with_registry_auth: bool,
    /// How long a service is waited for that another one depends on
    #[arg(long, default_value = "5m", value_parser = values::nanos, value_name = "DURATION")]
    depends_timeout: i64,
    /// The stack's name
    stack: String,
}

/// Does it.
pub(super) async fn run(client: &Client, args: &DeployArgs) -> anyhow::Result<()> {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let model = args
        .files
        .load(env.clone(), false)
        .map_err(anyhow::Error::msg)?;
    let stack = convert::convert(&args.stack, &model, &env).map_err(anyhow::Error::msg)?;
    if !model.ignored.is_empty() {
        let ignored: Vec<&str> = model.ignored.iter().map(String::as_str).collect();
        note(format!(
            "Ignoring unsupported options: {}\n",
            ignored.join(", ")
        ));
    }
    if args.detach && !args.quiet {
        note("The services converge in the background: give --detach=false to wait for them.");
    }
    let label = only("label", &format!("{NAMESPACE}={}", args.stack));
    let before: Vec<Value> = client.get(&format!("/services?{label}")).await?;
    if args.prune {
        prune(client, &before, &stack).await?;
    }
    networks(client, &label, &stack).await?;
    blobs(client, Kind::Secret, &stack.secrets).await?;
    blobs(client, Kind::Config, &stack.configs).await?;
    services(client, args, &before, stack.services).await
}

async fn prune(client: &Client, before: &[Value], stack: &Stack) -> anyhow::Result<()> {
    for service in before {
        let name = text(service, "/Spec/Name");
        let stays = stack
            .services
            .iter()
            .any(|one| text(&one.spec, "/Name") == name);
        if !stays {
            say(format!("Removing service {name}"));
            client
                .delete(&format!("/services/{}", text(service, "/ID")))
                .await?;
        }
    }
    Ok(())
}

async fn networks(client: &Client, label: &str, stack: &Stack) -> anyhow::Result<()> {
    for name in &stack.external_networks {
        if ["host", "bridge", "none"].contains(&name.as_str()) {
            continue;
        }
        let found = client.find(&format!("/networks/{}", encode(name))).await?;
        match found.as_ref().map(|network| text(network, "/Scope")) {
            None => anyhow::bail!(
                "network {name:?} is declared as external, but could not be found. You need to create a swarm-scoped \
                 network before the stack is deployed"
            ),
            Some("swarm") => {}
            Some(scope) => anyhow::bail!(
                "network {name:?} is declared as external, but it is not in the right scope: {scope:?} instead of \
                 \"swarm\""
            ),
        }
    }
    if stack.networks.is_empty() {
        return Ok(());
    }
    let there: Vec<Value> = client.get(&format!("/networks?{label}")).await?;
    for network in &stack.networks {
        let name = text(network, "/Name");
        if there.iter().any(|one| text(one, "/Name") == name) {
            continue;
        }
        say(format!("Creating network {name}"));
        client.post("/networks/create", Some(network)).await?;
    }
    Ok(())
}

async fn blobs(client: &Client, kind: Kind, all: &[Blob]) -> anyhow::Result<()> {
    for blob in all {
        let mut spec = blob.spec.clone();
        if let Some(data) = data(&blob.source).map_err(anyhow::Error::msg)? {
            spec["Data"] = crate::cli::blob::encoded(&data).into();
        }
        let name = text(&spec, "/Name");
        let path = format!("/{}/{}", kind.collection(), encode(name));
        match client.find(&path).await? {
            Some(there) => {
                let version = there.pointer("/Version/Index").cloned().unwrap_or_default();
                let id = text(&there, "/ID");
                let target = format!("/{}/{id}/update?version={version}", kind.collection());
                client
                    .post(&target, Some(&spec))
                    .await
                    .map_err(|error| changed(kind, name, error))?;
            }
            None => {
                say(format!("Creating {} {name}", kind.word()));
                let target = format!("/{}/create", kind.collection());
                client.post(&target, Some(&spec)).await?;
            }
        }
    }
    Ok(())
}

/// The daemon's words do not say what to do.
fn changed(kind: Kind, name: &str, error: ClientError) -> anyhow::Error {
    let word = kind.word();
    let is_data = error
        .to_string()
        .contains("only updates to Labels are allowed");
    match is_data {
        true => anyhow::anyhow!(
            "{word} {name} has other data than the file now, and a {word} cannot be changed: give it another name"
        ),
        false => anyhow::Error::new(error).context(format!("failed to update {word} {name}")),
    }
}

fn data(source: &Source) -> Result<Option<Vec<u8>>, String> {
    match source {
        Source::Nowhere => Ok(None),
        Source::Text(text) => Ok(Some(text.as_bytes().to_vec())),
        Source::File(path) => read(path).map(Some),
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

async fn services(
    client: &Client,
    args: &DeployArgs,
    before: &[Value],
    planned: Vec<Planned>,
) -> anyhow::Result<()> {
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    let mut order = Vec::new();
    for mut service in planned {
        for (other, condition) in &service.waits {
            let Some(id) = ids.get(other) else { continue };
            wait::until(client, other, id, condition, args.depends_timeout).await?;
        }
        for (kind, field) in [(Kind::Secret, "Secrets"), (Kind::Config, "Configs")] {
            let container = &mut service.spec["TaskTemplate"]["ContainerSpec"];
            let asked = list(container, &format!("/{field}")).to_vec();
            container[field] = with_ids(client, kind, asked).await?.into();
        }
        let name = text(&service.spec, "/Name").to_owned();
        let there = before.iter().find(|one| text(one, "/Spec/Name") == name);
        let id = match there {
            Some(there) => update(client, args, there, service.spec).await?,
            None => {
                say(format!("Creating service {name}"));
                let resolve = args.resolve_image != "never";
                make(client, &mut service.spec, resolve, args.with_registry_auth).await?
            }
        };
        order.push(id.clone());
        ids.insert(service.short, id);
    }
    if args.detach {
        return Ok(());
    }
    for id in order {
        progress::until_converged(client, &id, args.quiet).await?;
    }
    Ok(())
}

async fn update(
    client: &Client,
    args: &DeployArgs,
    there: &Value,
    mut spec: Value,
) -> anyhow::Result<String> {
    let (id, name) = (text(there, "/ID"), text(&spec, "/Name").to_owned());
    say(format!("Updating service {name} (id: {id})"));
    let image = text(&spec, "/TaskTemplate/ContainerSpec/Image").to_owned();
    let auth = args
        .with_registry_auth
        .then(|| registry::credentials(&image));
    let same = there["Spec"]["Labels"][IMAGE] == image.as_str();
    match args.resolve_image.as_str() {
        "always" => {
            let warning = registry::pin(client, &mut spec["TaskTemplate"], auth.as_deref()).await;
            keep_what_ran(&warning, there, &image, &mut spec);
            warning.into_iter().for_each(note);
        }
        "changed" if !same => {
            let warning = registry::pin(client, &mut spec["TaskTemplate"], auth.as_deref()).await;
            warning.into_iter().for_each(note);
        }
        _ if same => keep_image(there, &mut spec),
        _ => spec["TaskTemplate"]["ContainerSpec"]["Image"] = registry::with_tag(&image).into(),
    }
    let forced = there.pointer("/Spec/TaskTemplate/ForceUpdate").cloned();
    spec["TaskTemplate"]["ForceUpdate"] = forced.unwrap_or_else(|| json!(0));
    send_update(client, there, &spec, "", auth).await?;
    Ok(id.to_owned())
}

/// A registry that is away is no reason to restart what runs the image of that name.
fn keep_what_ran(warning: &Option<String>, there: &Value, image: &str, spec: &mut Value) {
    if warning.is_some() && there["Spec"]["Labels"][IMAGE] == image {
        keep_image(there, spec);
    }
}

fn keep_image(there: &Value, spec: &mut Value) {
    let old = &there["Spec"]["TaskTemplate"];
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = old["ContainerSpec"]["Image"].clone();
    if let Some(platforms) = old.pointer("/Placement/Platforms") {
        spec["TaskTemplate"]["Placement"]["Platforms"] = platforms.clone();
    }
}

/// Writes the merged files.
#[derive(Clone, Debug, Args)]
#[command(
    about = "Show what stack files say together",
    after_help = "Examples:\n  skein stack config -c stack.yml -c production.yml"
)]
pub(in crate::cli) struct ConfigArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Leave variables as they are written
    #[arg(long)]
    skip_interpolation: bool,
}

/// `skein stack config`. Asks no daemon.
pub(super) fn config(args: &ConfigArgs) -> anyhow::Result<()> {
    let env = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let model = args
        .files
        .load(env, args.skip_interpolation)
        .map_err(anyhow::Error::msg)?;
    let mut value = model.value;
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, section| {
            section
                .as_object()
                .is_none_or(|section| !section.is_empty())
        });
    }
    say(super::yaml::write(&super::shown::shown(value)).trim_end());
    Ok(())
}
