//! `GET /services/{id}/logs` and `GET /tasks/{id}/logs`: what tasks say, gathered from all nodes.
//!
//! Runs on the node that was asked. The leader tells which containers there are; each is read on its own node, and the
//! lines are passed on as they come, in one response whose memory is bounded by a few lines for each task. A node that
//! cannot be reached costs one line that says so. With `follow` the leader is asked again and again for new tasks.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::backend::{ClusterView, Leader, Refusal};
use super::call::{ApiVersion, Call};
use super::containers::logs::{self, TELLS_APART};
use super::error::{Handled, json};
use super::output::{Format, Frames, details, frame};
use super::place::{read, relay};
use super::router::{Api, NamedObject, object_id};
use super::{services, tasks};
use crate::model::log::{Origin, ReadOptions};
use crate::model::{ContainerId, NodeId, Task};

/// How often new tasks are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// A task that says something.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Speaker {
    task: String,
    service: String,
    node: NodeId,
    container: ContainerId,
    tty: bool,
}

/// Whose output is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    /// All tasks of a service.
    Service,
    /// One task.
    Task,
}

/// `GET /skein/speakers/service/{id}`, at the leader.
pub(super) fn of_service<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let service = services::find(&view, &call.id)?.id;
        let tasks = view.state.work.tasks_of(service);
        Ok(json(&speakers(&view, tasks.map(AsRef::as_ref))))
    })
}

/// `GET /skein/speakers/task/{id}`, at the leader.
pub(super) fn of_task<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let task = tasks::find(&view, &call.id)?;
        Ok(json(&speakers(&view, std::iter::once(task))))
    })
}

fn speakers<'a>(view: &ClusterView, tasks: impl Iterator<Item = &'a Task>) -> Vec<Speaker> {
    let work = &view.state.work;
    let speaker = |task: &Task| {
        let template = work.template(task.service, task.spec_version);
        let spec = template.and_then(|template| template.task.container_spec.as_ref());
        Some(Speaker {
            task: task.id.to_string(),
            service: task.service.to_string(),
            node: task.node?,
            container: view.status_of(task).container?,
            tty: spec.is_some_and(|spec| spec.tty),
        })
    };
    tasks.filter_map(speaker).collect()
}

/// Answers with the output of tasks.
pub(super) fn gathers(
    of: Of,
) -> impl Fn(State<Api>, NamedObject, Request) -> BoxFuture<'static, Handled> + Clone {
    move |State(api), named, request| {
        Box::pin(async move {
            let call = Call::read(request, object_id(named)?).await?;
            let options = logs::options(&call.params)?;
            let speakers = ask(&api, of, &call.id).await?;
            let format = Format {
                framed: !speakers.iter().any(|speaker| speaker.tty),
                timestamps: call.params.flag("timestamps"),
                details: call.params.flag("details"),
            };
            let kind = HeaderValue::from_static(format.content_type(call.version >= TELLS_APART));
            let stop = call.stop.clone();
            let mut ticks = interval(LOOK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut gathering = Gathering {
                api,
                of,
                id: call.id,
                options,
                format,
                known: BTreeSet::new(),
                streams: SelectAll::new(),
                ticks,
            };
            gathering.listen(speakers);
            let lines = stream::unfold(gathering, |mut gathering| async move {
                let line = gathering.next().await?;
                Some((Ok::<_, Infallible>(line), gathering))
            });
            let body = Body::from_stream(lines.take_until(stop.cancelled_owned()));
            Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
        })
    }
}

/// `GET /skein/logs/{container}`: a container's output for a node that gathers, even when the container is gone and
/// only its log is left.
pub(super) fn one(
    State(api): State<Api>,
    named: NamedObject,
    request: Request,
) -> BoxFuture<'static, Handled> {
    Box::pin(async move {
        let call = Call::read(request, object_id(named)?).await?;
        let id = call
            .id
            .parse()
            .map_err(|_no_id| super::place::no_such(&call.id))?;
        let format = Format {
            framed: true,
            timestamps: call.params.flag("timestamps"),
            details: call.params.flag("details"),
        };
        let lines = api
            .backend
            .containers()
            .logs(id, logs::options(&call.params)?)
            .await?;
        let bytes = lines.map(move |line| line.map(|line| format.line(&line)));
        let body = Body::from_stream(bytes.take_until(call.stop.clone().cancelled_owned()));
        Ok(body.into_response())
    })
}

async fn ask(api: &Api, of: Of, id: &str) -> Result<Vec<Speaker>, Refusal> {
    let (path, operation): (_, super::lead::Operation) = match of {
        Of::Service => ("service", of_service),
        Of::Task => ("task", of_task),
    };
    let mut call = Call::internal("/");
    let target = format!("/skein/speakers/{path}/{}", encoded(id));
    call.set_target(
        target
            .parse()
            .map_err(|_unusable| Refusal::invalid("invalid path"))?,
    );
    call.id = id.to_owned();
    read(api.at_leader(&call, operation).await?).await
}

/// A name as it may stand in a path.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~".contains(&byte);
    let coded = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(coded).collect()
}

struct Gathering {
    api: Api,
    of: Of,
    id: String,
    options: ReadOptions,
    format: Format,
    known: BTreeSet<ContainerId>,
    streams: SelectAll<BoxStream<'static, Bytes>>,
    ticks: Interval,
}

impl Gathering {
    /// Listens to those that are new.
    fn listen(&mut self, speakers: Vec<Speaker>) {
        for speaker in speakers {
            if self.known.insert(speaker.container) {
                let heard = heard(self.api.clone(), speaker, self.options.clone(), self.format);
                self.streams.push(heard.boxed());
            }
        }
    }

    /// The next line; `None` when all has been said.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let ends = !self.options.follow;
            tokio::select! {
                biased;
                line = self.streams.next(), if ends || !self.streams.is_empty() => match line {
                    Some(line) => return Some(line),
                    None if ends => return None,
                    None => {}
                },
                _ = self.ticks.tick(), if !ends => match ask(&self.api, self.of, &self.id).await {
                    Ok(speakers) => {
                        // A task that is new has said nothing that was asked to be left out.
                        self.options.tail = None;
                        self.listen(speakers);
                    }
                    // The service is gone, or nobody leads at the moment: what runs is still heard.
                    Err(_) if self.streams.is_empty() => return None,
                    Err(_) => {}
                },
            }
        }
    }
}

/// What one task says, line by line, ready for the client.
fn heard(
    api: Api,
    speaker: Speaker,
    options: ReadOptions,
    format: Format,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let lines = async move {
        match frames_of(&api, &speaker, &options, format).await {
            Ok(frames) => frames
                .map(move |(number, bytes)| marked(&speaker, format, number, &bytes))
                .boxed(),
            Err(Refusal {
                class: super::backend::RefusalClass::NotFound,
                ..
            }) => stream::empty().boxed(),
            Err(refusal) => {
                let words = format!("warning: incomplete log stream: {}\n", refusal.message);
                let now = super::output::stamp(api.backend.now());
                let prefix = match (format.timestamps, format.details) {
                    (true, true) => format!("{now}  "),
                    (true, false) => format!("{now} "),
                    (false, true) => " ".to_owned(),
                    (false, false) => String::new(),
                };
                let line = marked(&speaker, format, 2, format!("{prefix}{words}").as_bytes());
                stream::once(std::future::ready(line)).boxed()
            }
        }
    };
    stream::once(lines).flatten()
}

/// A container's output as its node frames it.
async fn frames_of(
    api: &Api,
    speaker: &Speaker,
    options: &ReadOptions,
    format: Format,
) -> Result<BoxStream<'static, (u8, Bytes)>, Refusal> {
    let path = format!(
        "/skein/logs/{}?{}",
        speaker.container,
        query(options, format)
    );
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = path
        .parse()
        .map_err(|_unusable| Refusal::invalid("invalid path"))?;
    request.extensions_mut().insert(ApiVersion(1, 50));
    let response = if Some(speaker.node) == api.backend.local().node {
        let id = axum::extract::Path(speaker.container.to_string());
        one(State(api.clone()), Ok(id), request).await?
    } else {
        relay(api, speaker.node, path, request).await?
    };
    if !response.status().is_success() {
        return read::<()>(response).await.map(|()| stream::empty().boxed());
    }
    let body = response.into_body().into_data_stream();
    let reading = (body, Frames::default());
    Ok(
        stream::unfold(reading, |(mut body, mut frames)| async move {
            loop {
                if let Some(frame) = frames.take() {
                    return Some((frame, (body, frames)));
                }
                frames.push(&body.next().await?.ok()?);
            }
        })
        .boxed(),
    )
}

fn query(options: &ReadOptions, format: Format) -> String {
    let flag = |name: &str, set: bool| format!("{name}={}&", u8::from(set));
    let mut query = flag("follow", options.follow)
        + &flag("stdout", options.stdout)
        + &flag("stderr", options.stderr)
        + &flag("timestamps", format.timestamps)
        + &flag("details", format.details);
    if let Some(tail) = options.tail {
        query.push_str(&format!("tail={tail}&"));
    }
    for (name, time) in [("since", options.since), ("until", options.until)] {
        if let Some(time) = time {
            query.push_str(&format!("{name}={}&", super::events::time::decimal(time)));
        }
    }
    query
}

/// A line with whose it is among its details.
fn marked(speaker: &Speaker, format: Format, number: u8, bytes: &[u8]) -> Bytes {
    let mut text = bytes;
    let mut front = Vec::new();
    let mut word = || {
        let end = text.iter().position(|byte| *byte == b' ').unwrap_or(0);
        let (word, rest) = text.split_at(end);
        text = rest.get(1..).unwrap_or_default();
        word
    };
    if format.timestamps {
        front.extend_from_slice(word());
        front.push(b' ');
    }
    if format.details {
        let node = speaker.node.to_string();
        let context = [
            ("com.docker.swarm.node.id", node.as_str()),
            ("com.docker.swarm.service.id", speaker.service.as_str()),
            ("com.docker.swarm.task.id", speaker.task.as_str()),
        ];
        front.extend_from_slice(details(context.into_iter()).as_bytes());
        let own = word();
        if !own.is_empty() {
            front.push(b',');
            front.extend_from_slice(own);
        }
        front.push(b' ');
    }
    front.extend_from_slice(text);
    if format.framed {
        let origin = if number == 2 {
            Origin::Stderr
        } else {
            Origin::Stdout
        };
        frame(origin, &front)
    } else {
        front.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::output::FRAME_HEAD;

    #[test]
    fn a_line_says_whose_it_is_after_its_time() {
        let speaker = Speaker {
            task: "t".into(),
            service: "s".into(),
            node: NodeId::from_bits(7),
            container: ContainerId::from_bytes([0; 32]),
            tty: false,
        };
        let node = speaker.node;
        let context = format!(
            "com.docker.swarm.node.id={node},com.docker.swarm.service.id=s,com.docker.swarm.task.id=t"
        );
        let format = |timestamps, details| Format {
            framed: true,
            timestamps,
            details,
        };
        for (timestamps, with, given, shown) in [
            (false, false, "a b\n", "a b\n".to_owned()),
            (true, false, "T a b\n", "T a b\n".to_owned()),
            (false, true, " a b\n", format!("{context} a b\n")),
            (true, true, "T k=v a b\n", format!("T {context},k=v a b\n")),
        ] {
            let line = marked(&speaker, format(timestamps, with), 2, given.as_bytes());
            assert_eq!(line[0], 2);
            assert_eq!(&line[FRAME_HEAD..], shown.as_bytes());
        }
    }

    #[test]
    fn names_can_stand_in_a_path() {
        assert_eq!(encoded("web.1-x_~"), "web.1-x_~");
        assert_eq!(encoded("a/b ?é"), "a%2Fb%20%3F%C3%A9");
    }
}
