//! Clients that behave badly: whatever they send and however they go, nothing of them stays.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fake::{Fake, lock};
use super::fake_containers::container;
use super::http::{Served, eventually};

/// Connections that idle at once.
const IDLE: usize = 1000;

/// Descriptors of this process that lead to sockets.
fn sockets() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let leads = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    leads
        .filter(|to| to.to_string_lossy().starts_with("socket:"))
        .count()
}

#[tokio::test]
async fn names_of_every_kind_of_character_are_just_not_found() {
    let fake = Fake::leader();
    *lock(&fake.containers.all) = vec![container(1, "web")];
    for served in [Served::start(fake.clone()), Served::whole(fake)] {
        for byte in 1..=255_u8 {
            let name = format!("x%{byte:02x}y");
            for target in [
                format!("/services/{name}"),
                format!("/tasks/{name}"),
                format!("/nodes/{name}"),
                format!("/containers/{name}/json"),
                format!("/volumes/{name}"),
                format!("/images/{name}/json"),
                format!("/exec/{name}/json"),
                format!("/networks/{name}"),
            ] {
                let answer = served.get(&target).await;
                assert!(matches!(answer.status, 400 | 404), "{target}: {answer:?}");
                assert!(answer.json()["message"].is_string(), "{target}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_thousand_that_idle_keep_nobody_out_and_leave_nothing() {
    let served = Served::start(Fake::leader());
    let before = (served.tasks.len(), sockets());
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(served.connect().await);
    }
    eventually("all are served", || served.tasks.len() >= before.0 + IDLE).await;
    assert_eq!(served.get("/_ping").await.body, "OK");
    drop(idle);
    eventually("no task is left", || served.tasks.len() <= before.0).await;
    // Other tests of this process open sockets of their own.
    eventually("no descriptor is left", || sockets() < before.1 + IDLE).await;
}

#[tokio::test]
async fn clients_that_vanish_in_the_midst_leave_nothing() {
    let fake = Fake::leader();
    *lock(&fake.containers.all) = vec![container(1, "web")];
    let served = Served::start(fake.clone());
    let before = served.tasks.len();
    for said in [
        "GET /events HTTP/1.1\r\nHost: d\r\n\r\n",
        "GET /containers/web/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n",
        "GET /containers/web/stats HTTP/1.1\r\nHost: d\r\n\r\n",
        "POST /containers/web/wait HTTP/1.1\r\nHost: d\r\n\r\n",
        "POST /services/create HTTP/1.1\r\nHost: d\r\nContent-Length: 99\r\n\r\n{\"Name\"",
        "POST /images/load HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "POST /containers/web/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\n\
         Upgrade: tcp\r\n\r\n",
    ] {
        for waits in [false, true] {
            let mut stream = served.connect().await;
            stream.write_all(said.as_bytes()).await.unwrap();
            if waits {
                // As far as there is an answer before the request is whole.
                let mut head = [0; 12];
                let read = stream.read_exact(&mut head);
                let _ = tokio::time::timeout(Duration::from_millis(50), read).await;
            }
            drop(stream);
        }
        eventually(said, || served.tasks.len() <= before).await;
    }
    eventually("no feed is open", || {
        lock(&fake.world.live).receiver_count() == 0
    })
    .await;
}
