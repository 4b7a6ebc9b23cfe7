//! `/events`: live, replayed, filtered, and over changes of the leader.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::fake::{Fake, Lead, NOW, id};
use super::http::{DEADLINE, Served};
use crate::api::backend::Event;
use crate::model::Timestamp;

pub(super) fn event(number: u8, after_ms: u64) -> Event {
    Event {
        kind: "node".into(),
        action: "update".into(),
        actor: id(number).to_string(),
        attributes: BTreeMap::from([("name".into(), format!("host-{number}"))]),
        time: NOW.after(Duration::from_millis(after_ms)),
    }
}

/// A response without an end, read event by event.
struct Feed {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Feed {
    /// Asks, and reads the head.
    async fn open(served: &Served, target: &str) -> Self {
        let mut stream = served.connect().await;
        let request = format!("GET {target} HTTP/1.1\r\nHost: d\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut feed = Self {
            stream,
            bytes: Vec::new(),
        };
        let head = feed.until(b"\r\n\r\n").await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(head.contains("content-type: application/json"), "{head}");
        feed
    }

    /// Everything up to a mark; `None` when the connection ends before.
    async fn until(&mut self, mark: &[u8]) -> Option<String> {
        let read = async {
            loop {
                let at = self
                    .bytes
                    .windows(mark.len())
                    .position(|window| window == mark);
                if let Some(at) = at {
                    let found: Vec<u8> = self.bytes.drain(..at + mark.len()).collect();
                    return Some(String::from_utf8(found).unwrap());
                }
                if self.stream.read_buf(&mut self.bytes).await.unwrap() == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(DEADLINE, read)
            .await
            .expect("an event in time")
    }

    /// The next event; `None` at the end of the response.
    async fn next(&mut self) -> Option<Value> {
        let size = self.until(b"\r\n").await?;
        if size == "0\r\n" {
            return None;
        }
        let line = self.until(b"\n").await?;
        self.until(b"\r\n").await?;
        Some(serde_json::from_str(&line).unwrap())
    }

    async fn next_name(&mut self) -> String {
        let event = self.next().await.expect("an event");
        event["Actor"]["Attributes"]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

#[tokio::test]
async fn live_events_look_as_dockers() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let mut feed = Feed::open(&served, "/v1.50/events").await;
    fake.world.until_watched(1).await;
    fake.world.tell(event(2, 5));
    assert_eq!(
        feed.next().await.unwrap(),
        serde_json::json!({
            "Type": "node", "Action": "update", "scope": "swarm",
            "Actor": {"ID": id(2).to_string(), "Attributes": {"name": "host-2"}},
            "time": 1_700_000_000, "timeNano": 1_700_000_000_005_000_000_i64,
        })
    );
}

#[tokio::test]
async fn past_events_are_replayed_and_the_response_ends() {
    let (follower, leader) = Fake::follower();
    for (number, secs_ago) in [(1, 30), (2, 20), (3, 10)] {
        let mut event = event(number, 0);
        event.time = Timestamp::from_nanos(NOW.nanos() - secs_ago * 1_000_000_000);
        leader.world.tell(event);
    }
    for fake in [leader, follower] {
        let served = Served::start(fake);
        for (query, expected) in [
            ("until=1699999999", &[][..]),
            ("since=1&until=1699999999", &["host-1", "host-2", "host-3"]),
            ("since=2023-11-14T22:12:55Z&until=1699999985", &["host-2"]),
            ("since=1699999980&until=1699999980", &["host-2"]),
        ] {
            let mut feed = Feed::open(&served, &format!("/events?{query}")).await;
            let mut names = Vec::new();
            while let Some(event) = feed.next().await {
                names.push(
                    event["Actor"]["Attributes"]["name"]
                        .as_str()
                        .unwrap()
                        .to_owned(),
                );
            }
            assert_eq!(names, expected, "{query}");
        }
    }
}

#[tokio::test]
async fn since_replays_and_goes_on_live() {
    let (follower, leader) = Fake::follower();
    leader.world.tell(event(1, 0));
    leader.world.tell(event(2, 10));
    let served = Served::start(follower);
    let mut feed = Feed::open(&served, "/events?since=1700000000.005").await;
    assert_eq!(feed.next_name().await, "host-2");
    leader.world.tell(event(3, 20));
    assert_eq!(feed.next_name().await, "host-3");
}

#[tokio::test]
async fn filters_let_through_what_fits() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let filter = "%7B%22node%22%3A%5B%22host-3%22%5D%2C%22type%22%3A%7B%22node%22%3Atrue%7D%7D";
    let mut feed = Feed::open(&served, &format!("/events?filters={filter}")).await;
    fake.world.until_watched(1).await;
    for number in [1, 2, 3] {
        fake.world.tell(event(number, number.into()));
    }
    assert_eq!(feed.next_name().await, "host-3");
    for (query, words) in [
        ("filters=%7B%22nope%22%3A%5B%5D%7D", "invalid filter 'nope'"),
        ("since=x", "invalid since time \"x\""),
        (
            "since=9&until=8",
            "`since` time (9) cannot be after `until` time (8)",
        ),
    ] {
        let target = format!("/events?{query}");
        served.get(&target).await.refused(400, words);
    }
}

#[tokio::test]
async fn the_client_does_not_notice_a_change_of_the_leader() {
    let (follower, first) = Fake::follower();
    let second = Fake::leader();
    second.edit_local(|local| local.node = Some(id(3)));
    second.hint.send_replace(Some(id(3)));
    let served = Served::start(follower.clone());
    let mut feed = Feed::open(&served, "/events").await;
    first.world.until_watched(1).await;
    first.world.tell(event(1, 1));
    assert_eq!(feed.next_name().await, "host-1");

    // The second leader has recorded the first event too, and one that nobody was told of.
    second.world.tell(event(1, 1));
    second.world.tell(event(2, 2));
    follower.set_lead(Lead::There(second.clone()));
    follower.hint.send_replace(Some(id(3)));
    assert_eq!(feed.next_name().await, "host-2");
    second.world.tell(event(3, 3));
    assert_eq!(feed.next_name().await, "host-3");
}

#[tokio::test]
async fn a_feed_that_ends_is_resumed_without_gap_or_double() {
    let (follower, leader) = Fake::follower();
    let served = Served::start(follower.clone());
    let mut feed = Feed::open(&served, "/events").await;
    leader.world.until_watched(1).await;
    leader.world.tell(event(1, 1));
    assert_eq!(feed.next_name().await, "host-1");
    follower.set_leads([Lead::Nobody, Lead::There(leader.clone())]);
    leader.world.end_feeds();
    leader.world.tell(event(2, 2));
    assert_eq!(feed.next_name().await, "host-2");
}

#[tokio::test]
async fn a_stop_ends_the_response_properly() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let mut feed = Feed::open(&served, "/events").await;
    fake.world.until_watched(1).await;
    served.stop.cancel();
    assert!(feed.next().await.is_none(), "the last chunk");
    served.tasks.close();
    tokio::time::timeout(DEADLINE, served.tasks.wait())
        .await
        .unwrap();
}

#[tokio::test]
async fn until_ends_a_live_response() {
    let served = Served::start(Fake::leader());
    let mut feed = Feed::open(&served, "/events?until=1700000000.1").await;
    assert!(feed.next().await.is_none());
}

#[tokio::test]
async fn a_worker_has_a_feed_without_events() {
    let fake = Fake::leader();
    fake.edit_local(|local| local.control = false);
    let served = Served::start(fake);
    let mut feed = Feed::open(&served, "/events?until=1700000000.1").await;
    assert!(feed.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_feed() {
    let fake = Fake::leader();
    let served = Served::start(fake.clone());
    let feed = Feed::open(&served, "/events").await;
    fake.world.until_watched(1).await;
    drop(feed);
    fake.world.until_watched(0).await;
}
