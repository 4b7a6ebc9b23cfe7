//! How objects are shown in full, and `skein inspect`, which finds out what a name stands for.

use clap::Args;

use super::Exit;
use super::client::{Client, ClientError, encode};
use super::output::{complain, pretty, say};
use super::template::Template;

/// Objects by name, and how to write them.
#[derive(Clone, Debug, Args)]
pub(super) struct InspectArgs {
    /// Names, IDs, or beginnings of IDs
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
    /// json or a template
    #[arg(long, short)]
    pub(super) format: Option<String>,
}

/// Show any object in full: a container, image, network, volume, service, task, node, secret or config
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  skein inspect web\n  skein inspect --type task --format '{{.Status.State}}' abc123"
)]
pub(super) struct AnyArgs {
    #[command(flatten)]
    objects: InspectArgs,
    /// Only objects of this type
    #[arg(long = "type", value_parser = KINDS)]
    kind: Option<String>,
}

/// What may be inspected, in the order in which a name is looked for.
const KINDS: [&str; 9] = [
    "container",
    "image",
    "network",
    "volume",
    "service",
    "task",
    "node",
    "secret",
    "config",
];

/// Where an object of a kind is.
fn path(kind: &str, name: &str) -> String {
    let name = match kind {
        "image" => name.split('/').map(encode).collect::<Vec<_>>().join("/"),
        _ => encode(name),
    };
    match kind {
        "container" | "image" => format!("/{kind}s/{name}/json"),
        kind => format!("/{kind}s/{name}"),
    }
}

/// Shows the objects of one kind; what is not there is told at the end.
pub(super) async fn of(client: &Client, kind: &str, args: &InspectArgs) -> anyhow::Result<()> {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for name in &args.names {
        match client.get_text(&path(kind, name)).await {
            Ok(body) => found.push(String::from_utf8_lossy(&body).trim().to_owned()),
            Err(error @ ClientError::Refused { .. }) => failed.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    finish(&found, failed, args.format.as_deref())
}

/// `skein inspect`.
pub(super) async fn run(client: &Client, args: AnyArgs) -> anyhow::Result<()> {
    let kinds: Vec<&str> = match &args.kind {
        Some(kind) => vec![kind.as_str()],
        None => KINDS.to_vec(),
    };
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for name in &args.objects.names {
        match first(client, &kinds, name).await? {
            Some(body) => found.push(body),
            None => failed.push(ClientError::Refused {
                status: 404,
                message: match &args.kind {
                    Some(kind) => format!("no such {kind}: {name}"),
                    None => format!("no such object: {name}"),
                },
            }),
        }
    }
    finish(&found, failed, args.objects.format.as_deref())
}

/// The first object of these kinds with that name. A node that may not answer for a kind has none of it.
async fn first(client: &Client, kinds: &[&str], name: &str) -> Result<Option<String>, ClientError> {
    for kind in kinds {
        match client.get_text(&path(kind, name)).await {
            Ok(body) => return Ok(Some(String::from_utf8_lossy(&body).trim().to_owned())),
            Err(ClientError::Refused { .. }) if kinds.len() > 1 => {}
            Err(ClientError::Refused { status: 404, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn finish(found: &[String], failed: Vec<ClientError>, format: Option<&str>) -> anyhow::Result<()> {
    show(found, format)?;
    let mut failed = failed.into_iter();
    let Some(last) = failed.next_back() else {
        return Ok(());
    };
    failed.for_each(|error| complain(&error.into()));
    Err(last.into())
}

/// Writes objects, each as the daemon wrote it: indented, as JSON, or by a template.
pub(super) fn show(found: &[String], format: Option<&str>) -> anyhow::Result<()> {
    match format {
        None => say(pretty(&format!("[{}]", found.join(",")))),
        Some("json") => say(format!("[{}]", found.join(","))),
        Some(template) => {
            let template = Template::parse(template)?;
            for one in found {
                say(template.render(&serde_json::from_str(one)?)?);
            }
        }
    }
    Ok(())
}

/// The names of objects that something is done with, one after another.
#[derive(Clone, Debug, Args)]
pub(super) struct NamesArgs {
    /// Names, IDs, or beginnings of IDs
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

/// Does something with each name and says it; goes on after a refusal, and fails at the end if there was one.
pub(super) async fn each<F>(
    names: &[String],
    mut work: impl FnMut(String) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = Result<(), ClientError>>,
{
    let mut failed = false;
    for name in names {
        match work(name.clone()).await {
            Ok(()) => say(name),
            Err(error @ ClientError::Refused { .. }) => {
                failed = true;
                complain(&error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    match failed {
        true => Err(Exit(1).into()),
        false => Ok(()),
    }
}
