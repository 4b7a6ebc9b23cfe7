//! Conversations with containers: attach, exec, and the size of their terminals.

use std::future::Future;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::logs::TELLS_APART;
use crate::api::backend::containers::{Container, ExecWanted, Input, LogLines, Streams};
use crate::api::backend::{Io, Refusal};
use crate::api::call::Call;
use crate::api::error::{Handled, created, done, json};
use crate::api::hijack::Hijack;
use crate::api::output::{Format, frame};
use crate::api::router::Api;
use crate::model::container::{ContainerState, ProcessConfig};
use crate::model::log::{Origin, ReadOptions};

/// Bytes that are read at a time.
const CHUNK: usize = 32 << 10;

/// How a process ended is known this long after its last word, unless it has closed its streams and goes on.
const END_KNOWN: Duration = Duration::from_secs(2);

/// Pieces of output on their way to a client.
const WAITING: usize = 8;

type Operation = BoxFuture<'static, Handled>;

/// `POST /containers/{id}/attach`. The output is what the log says from now on, and with `logs` what it has said.
pub(super) fn attach(api: Api, container: Container, mut request: Request) -> Operation {
    Box::pin(async move {
        let hijack = Hijack::of(&mut request)?;
        let call = Call::read(request, String::new()).await?;
        let params = &call.params;
        let (stdout, stderr) = (params.flag("stdout"), params.flag("stderr"));
        let (logs, stream) = (params.flag("logs"), params.flag("stream"));
        if matches!(
            container.state,
            ContainerState::Running { paused: true, .. }
        ) {
            return Err(Refusal::conflict(format!(
                "container {} is paused, unpause the container before attach",
                container.config.id
            )));
        }
        let (containers, id) = (api.backend.containers(), container.config.id);
        let input = if stream && params.flag("stdin") {
            containers.attach(id).await?
        } else {
            None
        };
        let output = if (logs || stream) && (stdout || stderr) {
            let options = ReadOptions {
                follow: stream,
                tail: (!logs).then_some(0),
                stdout,
                stderr,
                ..ReadOptions::default()
            };
            Some(match stream {
                true => containers.listen(id, options).await?,
                false => containers.logs(id, options).await?,
            })
        } else {
            None
        };
        let format = Format {
            framed: !container.config.process.tty,
            ..Format::default()
        };
        let kind = format.content_type(call.version >= TELLS_APART && hijack.is_upgrade());
        hijack.converse(kind, move |io| follow(io, input, output, format))
    })
}

/// Shows a log to a client, and gives what it types to the container.
async fn follow(io: Box<dyn Io>, input: Option<Input>, output: Option<LogLines>, format: Format) {
    let (reader, mut writer) = tokio::io::split(io);
    let typed = async {
        if let Some(input) = input {
            feed(reader, input).await;
        }
    };
    let shown = async {
        let Some(mut lines) = output else { return };
        while let Some(Ok(line)) = lines.next().await {
            if writer.write_all(&format.line(&line)).await.is_err() {
                return;
            }
        }
    };
    // The container's end is the conversation's; the end of what is typed is not.
    tokio::select! {
        () = shown => {}
        () = async { typed.await; std::future::pending().await } => {}
    }
    let _ = writer.shutdown().await;
}

/// Docker's `ExecConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ExecDto {
    user: String,
    privileged: bool,
    tty: bool,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    env: Vec<String>,
    working_dir: String,
    cmd: Vec<String>,
}

/// `POST /containers/{id}/exec`.
pub(super) fn create_exec(api: Api, container: Container, request: Request) -> Operation {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Made {
        id: String,
    }
    Box::pin(async move {
        let call = Call::read(request, String::new()).await?;
        let wanted: ExecDto = call.json()?;
        if wanted.cmd.is_empty() {
            return Err(Refusal::invalid("No exec command specified"));
        }
        let id = container.config.id;
        match container.state {
            ContainerState::Running { paused: false, .. } => {}
            ContainerState::Running { paused: true, .. } => {
                let words = format!("container {id} is paused, unpause the container before exec");
                return Err(Refusal::conflict(words));
            }
            ContainerState::Created | ContainerState::Exited(_) => {
                return Err(Refusal::conflict(format!("container {id} is not running")));
            }
        }
        let wanted = ExecWanted {
            process: ProcessConfig {
                args: wanted.cmd,
                env: wanted.env,
                cwd: wanted.working_dir,
                user: wanted.user,
                tty: wanted.tty,
                stdin: wanted.attach_stdin,
                ..ProcessConfig::default()
            },
            privileged: wanted.privileged,
            stdin: wanted.attach_stdin,
            stdout: wanted.attach_stdout,
            stderr: wanted.attach_stderr,
        };
        let made = api.backend.containers().create_exec(id, wanted).await?;
        Ok(created(&Made { id: made }))
    })
}

/// Docker's `ExecStartConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StartDto {
    detach: bool,
    console_size: Option<[u32; 2]>,
}

/// `POST /exec/{id}/start`.
pub(super) fn start_exec(api: Api, exec: String, mut request: Request) -> Operation {
    Box::pin(async move {
        let hijack = Hijack::of(&mut request)?;
        let call = Call::read(request, String::new()).await?;
        let wanted: StartDto = call.json()?;
        let containers = api.backend.containers();
        let view = containers.exec(&exec)?;
        let tty = view.wanted.process.tty;
        let format = Format {
            framed: !tty,
            ..Format::default()
        };
        let kind = format.content_type(call.version >= TELLS_APART && hijack.is_upgrade());
        let streams = match containers.start_exec(&exec, !wanted.detach).await {
            Ok(streams) => streams,
            // Docker's client looks for the exit code after the conversation, and for the reason in it.
            Err(refusal) if !wanted.detach && view.may_begin => {
                return hijack.converse(kind, move |io| complain(io, refusal, format.framed));
            }
            Err(refusal) => return Err(refusal),
        };
        if let Some([height, width]) = wanted.console_size.filter(|_| tty) {
            // The terminal works in its own size otherwise.
            let _ = containers.resize_exec(&exec, height, width).await;
        }
        if wanted.detach {
            return Ok(done());
        }
        let end = async move { containers.wait_exec(&exec).await };
        hijack.converse(kind, move |io| converse(io, streams, format.framed, end))
    })
}

/// Says why a process did not begin.
async fn complain(mut io: Box<dyn Io>, refusal: Refusal, framed: bool) {
    let words = format!("{}\r\n", refusal.message);
    let bytes = if framed {
        frame(Origin::Stdout, words.as_bytes())
    } else {
        words.into()
    };
    // Without a listener nobody misses it.
    let _ = io.write_all(&bytes).await;
    let _ = io.shutdown().await;
}

/// Carries a process's streams until it has said everything, or nobody listens.
async fn converse(io: Box<dyn Io>, streams: Streams, framed: bool, end: impl Future<Output = ()>) {
    let (reader, mut writer) = tokio::io::split(io);
    let (said, mut saying) = mpsc::channel::<(Origin, Vec<u8>)>(WAITING);
    let listen = |stream, origin| hear(stream, origin, said.clone());
    let (stdout, stderr) = (
        listen(streams.stdout, Origin::Stdout),
        listen(streams.stderr, Origin::Stderr),
    );
    drop(said);
    let typed = async {
        if let Some(input) = streams.stdin {
            feed(reader, input).await;
        }
    };
    let shown = async {
        while let Some((origin, bytes)) = saying.recv().await {
            let written = if framed {
                writer.write_all(&frame(origin, &bytes)).await
            } else {
                writer.write_all(&bytes).await
            };
            if written.is_err() {
                return;
            }
        }
    };
    let heard = async {
        tokio::join!(stdout, stderr);
        // What is typed is heard by nobody from now on.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = shown => {}
        () = heard => {}
        () = async { typed.await; std::future::pending().await } => {}
    }
    // Docker's client asks for the exit code as soon as the conversation ends.
    let _ = timeout(END_KNOWN, end).await;
    let _ = writer.shutdown().await;
}

async fn hear(
    stream: Option<impl AsyncRead + Unpin>,
    origin: Origin,
    said: mpsc::Sender<(Origin, Vec<u8>)>,
) {
    let Some(mut stream) = stream else { return };
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
        if said.send((origin, chunk[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

/// Gives what a client types to a process, and its end as well.
async fn feed(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    // Who ends first, and how, makes no difference: the output tells the rest.
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// `GET /exec/{id}/json`.
pub(super) fn inspect_exec(api: Api, exec: String, _request: Request) -> Operation {
    Box::pin(async move {
        let view = api.backend.containers().exec(&exec)?;
        let wanted = &view.wanted;
        let (program, arguments) = match wanted.process.args.split_first() {
            Some((program, arguments)) => (program.as_str(), arguments),
            None => ("", &[][..]),
        };
        Ok(json(&serde_json::json!({
            "ID": exec,
            "Running": view.running,
            "ExitCode": view.exit_code,
            "ProcessConfig": {
                "tty": wanted.process.tty, "entrypoint": program, "arguments": arguments,
                "privileged": wanted.privileged, "user": wanted.process.user,
            },
            "OpenStdin": wanted.stdin,
            "OpenStderr": wanted.stderr,
            "OpenStdout": wanted.stdout,
            "CanRemove": !view.running,
            "ContainerID": view.container.to_string(),
            "DetachKeys": "",
            "Pid": view.pid,
        })))
    })
}

/// `POST /exec/{id}/resize`.
pub(super) fn resize_exec(api: Api, exec: String, request: Request) -> Operation {
    Box::pin(async move {
        let (height, width) = size(request).await?;
        api.backend
            .containers()
            .resize_exec(&exec, height, width)
            .await?;
        Ok(StatusCode::OK.into_response())
    })
}

/// `POST /containers/{id}/resize`.
pub(super) fn resize(api: Api, container: Container, request: Request) -> Operation {
    Box::pin(async move {
        let (height, width) = size(request).await?;
        api.backend
            .containers()
            .resize(container.config.id, height, width)
            .await?;
        Ok(StatusCode::OK.into_response())
    })
}

async fn size(request: Request) -> Result<(u32, u32), Refusal> {
    let call = Call::read(request, String::new()).await?;
    let number = |name: &str| {
        let text = call.params.text(name);
        text.parse().map_err(|_not_a_number| {
            Refusal::invalid(format!(
                "strconv.ParseUint: parsing \"{text}\": invalid syntax"
            ))
        })
    };
    Ok((number("h")?, number("w")?))
}
