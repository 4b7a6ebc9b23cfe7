//! `skein exec` and `skein attach`.

use clap::Args;
use serde_json::{Value, json};

use super::talk::{Manner, talk};
use crate::cli::Exit;
use crate::cli::client::stream::Ask;
use crate::cli::client::{Client, encode};
use crate::cli::rows::number;
use crate::cli::service::environment;
use crate::cli::swarm::text;
use crate::cli::terminal;

/// Run a command in a container, on whichever machine it is
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Ends with the exit code of the command.\n\nExamples:\n  skein exec -it web.1.x8k2… sh\n  \
    skein exec --env LEVEL=debug 4f5e printenv"
)]
pub(in crate::cli) struct ExecArgs {
    /// Do not wait for it
    #[arg(long, short)]
    detach: bool,
    /// Keys that leave it
    #[arg(long)]
    detach_keys: Option<String>,
    /// Environment variable
    #[arg(long, short, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// File of environment variables
    #[arg(long, value_name = "PATH")]
    env_file: Vec<std::path::PathBuf>,
    /// Give it what is typed
    #[arg(long, short)]
    interactive: bool,
    /// With all rights
    #[arg(long)]
    privileged: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// User, name|uid[:group|gid]
    #[arg(long, short)]
    user: Option<String>,
    /// Working directory
    #[arg(long, short)]
    workdir: Option<String>,
    /// The container
    container: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Does it.
pub(in crate::cli) async fn exec(client: &Client, args: &ExecArgs) -> anyhow::Result<()> {
    if args.tty && args.interactive && !args.detach && !terminal::is_typed() {
        anyhow::bail!("the input device is not a TTY: leave --tty out");
    }
    let size = terminal::size().filter(|_| args.tty);
    let mut asked = json!({
        "AttachStdin": args.interactive && !args.detach,
        "AttachStdout": !args.detach,
        "AttachStderr": !args.detach,
        "Tty": args.tty,
        "Privileged": args.privileged,
        "User": args.user.clone().unwrap_or_default(),
        "WorkingDir": args.workdir.clone().unwrap_or_default(),
        "DetachKeys": args.detach_keys.clone().unwrap_or_default(),
        "Env": environment(&args.env_file, &args.env)?,
        "Cmd": args.command,
    });
    if let Some((rows, columns)) = size {
        asked["ConsoleSize"] = json!([rows, columns]);
    }
    let target = format!("/containers/{}/exec", encode(&args.container));
    let made = client.tell(&target, Some(&asked)).await?;
    let id = text(&made, "/Id");
    let mut start = json!({"Detach": args.detach, "Tty": args.tty});
    if let Some((rows, columns)) = size {
        start["ConsoleSize"] = json!([rows, columns]);
    }
    let ask = Ask::post(format!("/exec/{id}/start")).json(&start);
    if args.detach {
        client.open(ask).await?;
        return Ok(());
    }
    let conversation = client.converse(ask.patiently()).await?;
    let manner = Manner {
        input: args.interactive,
        tty: args.tty,
    };
    talk(client, conversation, manner, &format!("/exec/{id}/resize")).await?;
    let ended: Value = client.get(&format!("/exec/{id}/json")).await?;
    Exit::with(number(&ended, "/ExitCode"))
}

/// Join what a running container says and hears
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  skein attach --no-stdin web.1.x8k2…")]
pub(in crate::cli) struct AttachArgs {
    /// Keys that leave it
    #[arg(long)]
    detach_keys: Option<String>,
    /// Only listen
    #[arg(long)]
    no_stdin: bool,
    /// The container
    container: String,
}

/// Does it, and ends with the container's exit code.
pub(in crate::cli) async fn attach(client: &Client, args: &AttachArgs) -> anyhow::Result<()> {
    let name = encode(&args.container);
    let found: Value = client.get(&format!("/containers/{name}/json")).await?;
    if found.pointer("/State/Running") != Some(&true.into()) {
        anyhow::bail!("cannot attach to a stopped container, start it first");
    }
    if found.pointer("/State/Paused") == Some(&true.into()) {
        anyhow::bail!("cannot attach to a paused container, unpause it first");
    }
    let manner = Manner {
        input: !args.no_stdin && found.pointer("/Config/OpenStdin") == Some(&true.into()),
        tty: found.pointer("/Config/Tty") == Some(&true.into()),
    };
    let ended = waiting(client, &name, "not-running").await?;
    let target = attach_target(&name, manner, args.detach_keys.as_deref());
    let conversation = client.converse(Ask::post(target).patiently()).await?;
    let resize = format!("/containers/{name}/resize");
    talk(client, conversation, manner, &resize).await?;
    let after: Value = client.get(&format!("/containers/{name}/json")).await?;
    if after.pointer("/State/Running") == Some(&true.into()) {
        return Ok(());
    }
    let ended = ended.value().await?;
    Exit::with(number(&ended, "/StatusCode"))
}

/// Where a container is attached to.
pub(super) fn attach_target(name: &str, manner: Manner, keys: Option<&str>) -> String {
    let mut target = format!("/containers/{name}/attach?stream=1&stdout=1&stderr=1");
    if manner.input {
        target.push_str("&stdin=1");
    }
    if let Some(keys) = keys {
        target.push_str(&format!("&detachKeys={}", encode(keys)));
    }
    target
}

/// Begins to wait for a container's end; the answer's body comes when it ends.
pub(super) async fn waiting(
    client: &Client,
    name: &str,
    condition: &str,
) -> anyhow::Result<crate::cli::client::stream::Reply> {
    let target = format!("/containers/{name}/wait?condition={condition}");
    Ok(client.open(Ask::post(target).patiently()).await?)
}
