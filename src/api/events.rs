//! `GET /events`: what happens to the cluster's objects, replayed and live, across changes of the leader.
//!
//! The leader has the events of the cluster. Whichever node is asked reads the leader's feed, filters it, and when the feed
//! breaks or another node leads, reads the next leader's from where it stood. The client notices nothing but a pause.
//! What happens on the node's own machine goes in between, whoever leads.

mod filter;
mod lines;
pub(super) mod time;

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::http::uri::PathAndQuery;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backend::{Event, Leader, Refusal};
use super::call::Call;
use super::error::{Handled, JSON};
use super::filters::Filters;
use super::router::Api;
use crate::model::{NodeId, Timestamp};
use filter::{FILTERS, fits};
use lines::{Lines, line};
use time::{decimal, parse_time};

/// Between two attempts to find a feed, unless another leader is announced meanwhile.
const RETRY: Duration = Duration::from_secs(1);

/// `GET /events`.
pub(super) async fn stream(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let since = parse_time("since", call.params.text("since"))?;
    let until = parse_time("until", call.params.text("until"))?;
    if let (Some(from), Some(to)) = (since, until)
        && to < from
    {
        return Err(Refusal::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            call.params.text("since"),
            call.params.text("until"),
        )));
    }
    let filters = Filters::parse(call.params.text("filters"), FILTERS)?;
    let now = api.backend.now();
    let (past, live) = api.backend.happenings(since);
    let only_past = until.is_some_and(|until| until < now);
    let ends = until.map(|until| Instant::now() + until.since(now));
    let stop = call.stop.clone();
    let shown = Shown { filters, until };
    let feed = Feed {
        hint: api.backend.leader_hint(),
        from: since,
        started: now,
        until,
        ends,
        only_past,
        led_by: None,
        source: None,
        stop: call.stop,
        api,
    };
    let of_cluster = stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((event, feed))
    });
    if only_past {
        let all = stream::once(async move {
            let mut all: Vec<Event> = of_cluster.collect().await;
            all.extend(past);
            all.sort_by_key(|event| event.time);
            all.retain(|event| shown.shows(event));
            stream::iter(all.into_iter().map(line))
        });
        return Ok(ndjson(all.flatten()));
    }
    let over = async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = at(ends) => {}
        }
    };
    let of_machine = stream::iter(past).chain(live).take_until(over);
    let all = stream::select(of_machine, of_cluster);
    let shown = all.filter(move |event| std::future::ready(shown.shows(event)));
    Ok(ndjson(shown.map(line)))
}

/// What a client wants to see.
struct Shown {
    filters: Filters,
    until: Option<Timestamp>,
}

impl Shown {
    fn shows(&self, event: &Event) -> bool {
        let late = self.until.is_some_and(|until| event.time > until);
        !late && fits(&self.filters, event)
    }
}

/// `GET /skein/events`: the leader's feed for other nodes, unfiltered. With `until` only what is past.
pub(super) fn raw<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let since = parse_time("since", call.params.text("since"))?;
        let until = parse_time("until", call.params.text("until"))?;
        let (past, live) = leader.events(since);
        let past = past
            .into_iter()
            .filter(move |event| until.is_none_or(|until| event.time <= until));
        let past = stream::iter(past.map(line).collect::<Vec<_>>());
        if until.is_some() {
            return Ok(ndjson(past));
        }
        let stop = call.stop.clone();
        Ok(ndjson(past.chain(stream::unfold(
            (live, stop),
            |(mut live, stop)| async move {
                let event = next_live(&mut live, &stop).await?;
                Some((line(event), (live, stop)))
            },
        ))))
    })
}

/// The next event; `None` when the node leads no more, stops, or this reader is too slow: its other end resumes.
async fn next_live(
    live: &mut broadcast::Receiver<Event>,
    stop: &CancellationToken,
) -> Option<Event> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        event = live.recv() => event.ok(),
    }
}

fn ndjson(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// One client's view of the feed.
struct Feed {
    api: Api,
    hint: watch::Receiver<Option<NodeId>>,
    /// Where the next reading begins; `None` at the very start of a live feed.
    from: Option<Timestamp>,
    started: Timestamp,
    until: Option<Timestamp>,
    ends: Option<Instant>,
    only_past: bool,
    led_by: Option<NodeId>,
    source: Option<Lines>,
    stop: CancellationToken,
}

enum Step {
    Event(Box<Event>),
    SourceEnded,
    LeaderChanged,
    Over,
}

impl Feed {
    /// The next event; `None` ends the response.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.source.is_none() && !self.connect().await {
                return None;
            }
            match self.step().await {
                Step::Over => return None,
                Step::SourceEnded if self.only_past => return None,
                Step::SourceEnded => self.source = None,
                Step::LeaderChanged => {
                    let leader = *self.hint.borrow_and_update();
                    if leader.is_some() && leader != self.led_by {
                        self.source = None;
                    }
                }
                Step::Event(event) => {
                    self.from = Some(event.time.after(Duration::from_nanos(1)));
                    return Some(*event);
                }
            }
        }
    }

    async fn step(&mut self) -> Step {
        let Some(source) = self.source.as_mut() else {
            return Step::SourceEnded;
        };
        let ends = self.ends.filter(|_| !self.only_past);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Step::Over,
            event = source.next() => event.map_or(Step::SourceEnded, |event| Step::Event(Box::new(event))),
            () = at(ends) => Step::Over,
            () = changed(&mut self.hint) => Step::LeaderChanged,
        }
    }

    /// Finds a feed to read; false when the response is to end instead.
    async fn connect(&mut self) -> bool {
        loop {
            let call = self.source_call();
            let ends = self.ends.filter(|_| !self.only_past);
            let found = tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                found = self.api.at_leader(&call, raw) => found,
                () = at(ends) => return false,
            };
            match found {
                Ok(response) if response.status().is_success() => {
                    self.led_by = *self.hint.borrow_and_update();
                    self.from.get_or_insert(self.started);
                    self.source = Some(Lines::of(response));
                    return true;
                }
                _ if self.only_past => return false,
                _ => {}
            }
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = at(ends) => return false,
                () = changed(&mut self.hint) => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    fn source_call(&self) -> Call {
        let mut target = String::from("/skein/events?");
        if let Some(from) = self.from {
            target.push_str(&format!("since={}&", decimal(from)));
        }
        if let Some(until) = self.until.filter(|_| self.only_past) {
            target.push_str(&format!("until={}", decimal(until)));
        }
        let mut call = Call::internal("/skein/events");
        if let Ok(target) = target.parse::<PathAndQuery>() {
            call.set_target(target);
        }
        call.stop = self.stop.clone();
        call
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn changed(hint: &mut watch::Receiver<Option<NodeId>>) {
    if hint.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
