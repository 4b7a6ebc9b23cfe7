//! Requests that belong to a leader elsewhere, while it answers, moves, hangs and breaks.

use std::sync::Arc;

use axum::http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::TaskTracker;

use super::fake::{Fake, Lead, id, lock, odd_refusal};
use super::http::{Answer, Served};
use crate::api::backend::{Backend, Refusal, RefusalClass};
use crate::api::call::Call;
use crate::api::forward::{Forwarded, HEADERS_DEADLINE, forward};
use crate::api::lead::{Origin, at_leader};
use crate::api::{forwarded_router, nodes, router, serve_stream};

#[tokio::test]
async fn any_member_answers_like_the_leader() {
    let (follower, leader) = Fake::follower();
    let (there, here) = (Served::start(follower), Served::start(leader));
    let by_role = "/v1.44/nodes?filters=%7B%22role%22%3A%5B%22worker%22%5D%7D";
    for target in [
        "/swarm",
        "/v1.30/nodes",
        by_role,
        "/nodes/host-2",
        "/nodes/nobody",
        "/swarm/unlockkey",
    ] {
        let (one, other) = (here.get(target).await, there.get(target).await);
        assert_eq!(
            (one.status, &one.body),
            (other.status, &other.body),
            "{target}"
        );
        let headers = |answer: &Answer| {
            let mut headers = answer.headers.clone();
            headers.remove("date");
            headers
        };
        assert_eq!(headers(&one), headers(&other), "{target}");
    }
}

#[tokio::test]
async fn changes_are_made_at_the_leader_and_read_back_at_once() {
    let (follower, leader) = Fake::follower();
    let served = Served::start(follower);
    let spec = json!({"Role": "worker", "Availability": "pause"});
    served
        .post("/nodes/host-9/update?version=19", &spec)
        .await
        .done();
    let node = served.get("/nodes/host-9").await.json();
    assert_eq!(node["Spec"]["Availability"], "pause");
    served
        .post("/nodes/host-9/update?version=19", &spec)
        .await
        .refused(500, "update out of sequence");
    served.ask("DELETE", "/nodes/host-9").await.done();
    assert!(!lock(&leader.world.view).state.nodes.contains_key(&id(9)));
    *lock(&leader.world.refusal) = Some(odd_refusal());
    served.get("/swarm").await.refused(403, "because of a test");
}

/// A request over a stream in memory, whose time can be paused.
async fn ask_over(router: axum::Router, target: &str) -> Answer {
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let exchange = async {
        let request = format!("GET {target} HTTP/1.1\r\nHost: skein\r\nConnection: close\r\n\r\n");
        near.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        near.read_to_end(&mut bytes).await.unwrap();
        bytes
    };
    let (bytes, ()) = tokio::join!(exchange, serve_stream(far, router, TaskTracker::new()));
    Answer::parse(&bytes)
}

async fn ask_forwarded(fake: Arc<Fake>, target: &str) -> Answer {
    ask_over(forwarded_router(fake), target).await
}

#[tokio::test]
async fn what_was_forwarded_is_not_forwarded_again() {
    let (follower, leader) = Fake::follower();
    let answer = ask_forwarded(follower, "/nodes").await;
    assert_eq!(
        (answer.status, answer.header("skein-not-leader")),
        (503, "1")
    );
    let answer = ask_forwarded(leader.clone(), "/nodes").await;
    assert_eq!(
        (answer.status, answer.header("skein-not-leader")),
        (200, "")
    );
    let answer = ask_forwarded(leader, "/swarm/leave").await;
    answer.refused(404, "page not found");
}

#[tokio::test]
async fn a_request_follows_the_leader_when_it_moves() {
    let (follower, leader) = Fake::follower();
    let former = Fake::of(3, leader.world.clone(), Lead::There(leader.clone()));
    let served = Served::start(follower.clone());
    for former in [Lead::There(former), Lead::Breaks(id(3))] {
        follower.set_leads([former.clone(), former, Lead::There(leader.clone())]);
        assert_eq!(served.get("/nodes").await.status, 200);
    }
}

#[tokio::test]
async fn a_silent_leader_is_given_up_when_another_leads() {
    let (follower, leader) = Fake::follower();
    let served = Served::start(follower.clone());
    follower.hint.send_replace(Some(id(3)));
    follower.set_leads([Lead::Silent(id(3)), Lead::There(leader)]);
    let mut swallowed = follower.swallowed.subscribe();
    let moves = async {
        swallowed.wait_for(|count| *count == 1).await.unwrap();
        follower.hint.send_replace(None);
        follower.hint.send_replace(Some(id(1)));
    };
    let (answer, ()) = tokio::join!(served.get("/nodes"), moves);
    assert_eq!(answer.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_says_nothing_is_given_up_in_time() {
    let (near, _far) = tokio::io::duplex(1 << 16);
    let started = tokio::time::Instant::now();
    let call = Call::internal("/nodes");
    let lost = forward(Box::new(near), None, &call, std::future::pending()).await;
    assert!(matches!(lost, Forwarded::Lost(_)));
    assert_eq!(started.elapsed(), HEADERS_DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn info_does_not_wait_for_a_leader_that_says_nothing() {
    let fake = Fake::leader();
    fake.set_lead(Lead::Silent(id(3)));
    let started = tokio::time::Instant::now();
    let info = ask_over(router(fake), "/info").await.json();
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(info["Swarm"]["LocalNodeState"], "active");
    let error = info["Swarm"]["Error"].as_str().unwrap();
    assert!(error.contains("does not have a leader"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_be_reached_is_followed_for_a_while() {
    let fake: Arc<dyn Backend> = {
        let fake = Fake::leader();
        fake.set_lead(Lead::Breaks(id(3)));
        fake
    };
    for (method, words) in [
        (Method::GET, "does not have a leader"),
        (Method::POST, "may or may not have been made"),
    ] {
        let mut call = Call::internal("/nodes");
        call.method = method;
        let started = tokio::time::Instant::now();
        let refusal = at_leader(&fake, Origin::Local, &call, nodes::list)
            .await
            .unwrap_err();
        assert_eq!(started.elapsed().as_secs(), 5);
        assert_eq!(refusal.class.status(), 503);
        assert!(refusal.message.contains(words), "{refusal}");
    }
}

/// Until the leader has been asked so often, it refuses everything with `refusal`.
async fn refusing(fake: &Fake, refusal: Refusal, times: u32) {
    *lock(&fake.world.refusal) = Some(refusal);
    let mut views = fake.world.views.subscribe();
    let since = *views.borrow_and_update();
    views
        .wait_for(|count| *count >= since + times)
        .await
        .unwrap();
    *lock(&fake.world.refusal) = None;
}

#[tokio::test]
async fn what_a_parting_leader_has_not_begun_is_asked_of_the_next() {
    let (follower, leader) = Fake::follower();
    let spec = json!({"Role": "worker", "Availability": "pause"});
    for fake in [leader.clone(), follower] {
        let served = Served::start(fake);
        let read = served.get("/nodes/host-9");
        let (answer, ()) = tokio::join!(read, refusing(&leader, Refusal::no_leader(), 2));
        let node = answer.json();
        let version = &node["Version"]["Index"];
        let target = format!("/nodes/host-9/update?version={version}");
        let change = served.post(&target, &spec);
        let (answer, ()) = tokio::join!(change, refusing(&leader, Refusal::no_leader(), 2));
        answer.done();
    }
}

#[tokio::test]
async fn what_a_parting_leader_had_begun_is_asked_again_with_care() {
    let (follower, leader) = Fake::follower();
    let refusal = || Refusal::new(RefusalClass::Unconfirmed, "may or may not");
    for fake in [leader.clone(), follower] {
        let served = Served::start(fake);
        let spec = json!({"Role": "worker", "Availability": "pause"});
        let change = served.post("/nodes/host-9/update?version=3", &spec);
        let (answer, ()) = tokio::join!(change, refusing(&leader, refusal(), 2));
        answer.refused(503, "may or may not have been made");
    }
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_not_called_a_failure_of_the_client() {
    let (follower, leader) = Fake::follower();
    let served = Served::start(follower.clone());
    let lost_once = || [Lead::Breaks(id(3)), Lead::There(leader.clone())];
    let spec = json!({"Role": "worker", "Availability": "pause"});

    // It was not made: the second attempt makes it.
    follower.set_leads(lost_once());
    served
        .post("/nodes/host-9/update?version=19", &spec)
        .await
        .done();

    // It was made, and the answer lost: the second attempt is out of sequence because of us.
    follower.set_leads(lost_once());
    served
        .post("/nodes/host-9/update?version=19", &spec)
        .await
        .refused(503, "may or may not have been made");

    // Removed by the first attempt: the second finds nothing, and that is well.
    served.ask("DELETE", "/nodes/host-9").await.done();
    follower.set_leads(lost_once());
    served.ask("DELETE", "/nodes/host-9").await.done();

    // Without a lost attempt the same is an error.
    served
        .ask("DELETE", "/nodes/host-9")
        .await
        .refused(404, "node host-9 not found");
}
