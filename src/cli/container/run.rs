//! `skein run` and `skein create`: one container on this machine.

use clap::Args;
use serde_json::{Value, json};

use super::body::{self, BodyFlags};
use super::exec::{attach_target, waiting};
use super::talk::{Manner, talk};
use crate::cli::client::stream::Ask;
use crate::cli::client::{Client, ClientError, encode};
use crate::cli::output::{note, say};
use crate::cli::rows::{list, number};
use crate::cli::swarm::text;
use crate::cli::{Exit, image, terminal};

/// The exit code when the container could not even be made, as docker's.
const NOT_MADE: i64 = 125;

/// Make a container on this machine
#[derive(Clone, Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  skein create --name web --publish 8080:80 nginx\n  skein start web"
)]
pub(in crate::cli) struct CreateArgs {
    #[command(flatten)]
    made: Made,
}

/// Make a container on this machine and run it
#[derive(Clone, Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "Ends with the exit code of the container.\n\nExamples:\n  skein run --rm -it alpine sh\n  \
    skein run --detach --name web --publish 8080:80 --volume data:/data nginx"
)]
pub(in crate::cli) struct RunArgs {
    /// Do not wait for it; say its ID
    #[arg(long, short)]
    detach: bool,
    /// Keys that leave it
    #[arg(long)]
    detach_keys: Option<String>,
    #[command(flatten)]
    made: Made,
}

/// What both make.
#[derive(Clone, Debug, Args)]
struct Made {
    /// Its name
    #[arg(long)]
    name: Option<String>,
    /// Of this platform, os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
    /// When the image is fetched
    #[arg(long, default_value = "missing", value_parser = ["always", "missing", "never"])]
    pull: String,
    /// Show no progress of fetching
    #[arg(long, short)]
    quiet: bool,
    /// Print help; -h is the hostname, as docker has it
    #[arg(long, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
    #[command(flatten)]
    body: BodyFlags,
}

/// `skein create`.
pub(in crate::cli) async fn create(client: &Client, args: &CreateArgs) -> anyhow::Result<()> {
    let body = body::body(&args.made.body)?;
    let made = make(client, &args.made, &body).await?;
    say(text(&made, "/Id"));
    Ok(())
}

/// `skein run`.
pub(in crate::cli) async fn run(client: &Client, args: &RunArgs) -> anyhow::Result<()> {
    let flags = &args.made.body;
    if flags.tty && flags.interactive && !args.detach && !terminal::is_typed() {
        anyhow::bail!("the input device is not a TTY: leave --tty out");
    }
    let mut body = body::body(flags)?;
    for stream in ["AttachStdout", "AttachStderr"] {
        body[stream] = (!args.detach).into();
    }
    body["AttachStdin"] = (!args.detach && flags.interactive).into();
    body["StdinOnce"] = body["AttachStdin"].clone();
    let made = match make(client, &args.made, &body).await {
        Ok(made) => made,
        Err(error) => {
            crate::cli::output::complain(&error);
            return Exit::with(NOT_MADE);
        }
    };
    let id = text(&made, "/Id").to_owned();
    let start = Ask::post(format!("/containers/{id}/start")).patiently();
    if args.detach {
        client.open(start).await?;
        say(id);
        return Ok(());
    }
    let manner = Manner {
        input: flags.interactive,
        tty: flags.tty,
    };
    let target = attach_target(&id, manner, args.detach_keys.as_deref());
    let conversation = client.converse(Ask::post(target).patiently()).await?;
    let condition = if flags.rm { "removed" } else { "next-exit" };
    let ended = waiting(client, &id, condition).await?;
    if let Err(error) = client.open(start).await {
        if flags.rm {
            // It has never run, so nobody else removes it.
            let _ = client
                .delete(&format!("/containers/{id}?force=1&v=1"))
                .await;
        }
        crate::cli::output::complain(&error.into());
        return Exit::with(NOT_MADE);
    }
    talk(
        client,
        conversation,
        manner,
        &format!("/containers/{id}/resize"),
    )
    .await?;
    let ended = ended.value().await?;
    Exit::with(number(&ended, "/StatusCode"))
}

/// Makes it, and fetches its image where that is asked for or missing.
async fn make(client: &Client, args: &Made, body: &Value) -> anyhow::Result<Value> {
    let mut query = Vec::new();
    for (key, value) in [("name", &args.name), ("platform", &args.platform)] {
        if let Some(value) = value {
            query.push(format!("{key}={}", encode(value)));
        }
    }
    let target = format!("/containers/create?{}", query.join("&"));
    let name = text(body, "/Image");
    let fetch = async || image::fetch(client, name, args.platform.as_deref(), args.quiet).await;
    if args.pull == "always" {
        fetch().await?;
    }
    let made = match client.tell(&target, Some(body)).await {
        Err(ClientError::Refused {
            status: 404,
            message,
        }) if args.pull == "missing" && message.to_lowercase().contains("image") => {
            note(format!("Unable to find image '{name}' locally"));
            fetch().await?;
            client.tell(&target, Some(body)).await?
        }
        made => made?,
    };
    for warning in list(&made, "/Warnings").iter().filter_map(Value::as_str) {
        note(format!("WARNING: {warning}"));
    }
    Ok(json!({"Id": made["Id"]}))
}
