//! What a client may hold, and for how long.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::routing::get;
use tokio::io::DuplexStream;

use super::*;
use crate::api::socket;

/// Nothing in these tests takes longer in real time.
const SOON: Duration = Duration::from_secs(10);

fn plain() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

fn connection(router: Router, buffer: usize) -> (DuplexStream, TaskTracker, CancellationToken) {
    let (near, far) = tokio::io::duplex(buffer);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(serve_connection(far, router, tasks.clone(), stop.clone()));
    tasks.close();
    (near, tasks, stop)
}

async fn all(mut stream: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_is_given_up() {
    let (mut near, tasks, _stop) = connection(plain(), 1024);
    near.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let started = Instant::now();
    tasks.wait().await;
    assert_eq!(started.elapsed().as_secs(), HEADER_DEADLINE.as_secs());
    drop(near);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_asks_nothing_is_closed() {
    let (near, tasks, _stop) = connection(plain(), 1024);
    let started = Instant::now();
    tasks.wait().await;
    assert_eq!(started.elapsed().as_secs(), HEADER_DEADLINE.as_secs());
    drop(near);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_given_up() {
    let endless = || async {
        let chunks = futures_util::stream::repeat_with(|| {
            Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 1024]))
        });
        Body::from_stream(chunks)
    };
    let (mut near, tasks, _stop) = connection(Router::new().route("/", get(endless)), 1024);
    near.write_all(b"GET / HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    let started = Instant::now();
    tasks.wait().await;
    assert_eq!(started.elapsed().as_secs(), WRITE_DEADLINE.as_secs());
    drop(near);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let (mut near, _tasks, _stop) = connection(plain(), 1 << 20);
    let long = "x".repeat(2 * HEADER_BYTES);
    let request = format!("GET / HTTP/1.1\r\nHost: d\r\nX-Long: {long}\r\n\r\n");
    near.write_all(request.as_bytes()).await.unwrap();
    let answer = all(near).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn garbage_is_refused_and_the_connection_closed() {
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\r\n\0\r\n\r\n",
        b"GET\r\n\r\n",
    ] {
        let (mut near, tasks, _stop) = connection(plain(), 1024);
        near.write_all(garbage).await.unwrap();
        near.shutdown().await.unwrap();
        let answer = all(near).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
        tasks.wait().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_a_request_finish_and_closes_idle_connections() {
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
    let release = Arc::new(tokio::sync::Notify::new());
    let released = release.clone();
    let slow = move || {
        let (begun, released) = (begun.clone(), released.clone());
        async move {
            let _ = begun.send(()).await;
            released.notified().await;
            "done"
        }
    };
    let router = Router::new().route("/", get(slow));
    let (idle, idle_tasks, idle_stop) = connection(router.clone(), 1024);
    let (mut busy, _tasks, stop) = connection(router, 1024);
    busy.write_all(b"GET / HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    has_begun.recv().await.unwrap();
    idle_stop.cancel();
    let started = Instant::now();
    idle_tasks.wait().await;
    assert_eq!(started.elapsed().as_secs(), 0);
    stop.cancel();
    release.notify_one();
    let answer = all(busy).await;
    assert!(answer.ends_with("done"), "{answer}");
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_end_is_cut_after_the_drain() {
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
    let stuck = move || {
        let begun = begun.clone();
        async move {
            let _ = begun.send(()).await;
            std::future::pending::<&'static str>().await
        }
    };
    let (mut near, tasks, stop) = connection(Router::new().route("/", get(stuck)), 1024);
    near.write_all(b"GET / HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    has_begun.recv().await.unwrap();
    stop.cancel();
    let started = Instant::now();
    tasks.wait().await;
    assert_eq!(started.elapsed().as_secs(), DRAIN.as_secs());
    drop(near);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("skein.sock");
    let (listener, _) = socket::bind(&path, &socket::GROUP).unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(serve_at_most(
        2,
        listener,
        plain(),
        tasks.clone(),
        stop.clone(),
    ));
    let ask = async |stream: &mut UnixStream| {
        let request = b"GET / HTTP/1.1\r\nHost: d\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        String::from_utf8(head.to_vec()).unwrap()
    };
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        assert_eq!(ask(&mut stream).await, "HTTP/1.1 200");
        held.push(stream);
    }
    let refused = all(UnixStream::connect(&path).await.unwrap()).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("Content-Length: {}", body.len())),
        "{head}"
    );
    let message: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(
        message["message"]
            .as_str()
            .unwrap()
            .contains("as many API connections")
    );

    // A place that becomes free is given to the next.
    held.clear();
    let served = async {
        loop {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            if ask(&mut stream).await == "HTTP/1.1 200" {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, served).await.unwrap();
    stop.cancel();
    tasks.close();
    tokio::time::timeout(SOON, tasks.wait()).await.unwrap();
    assert!(UnixStream::connect(&path).await.is_err(), "nobody listens");
}

/// A server on a socket, whose one handler says when it is asked and answers when it may.
struct Patient {
    path: std::path::PathBuf,
    _dir: tempfile::TempDir,
    tasks: TaskTracker,
    begun: tokio::sync::mpsc::Receiver<()>,
    release: Arc<tokio::sync::Notify>,
}

fn patient() -> Patient {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("skein.sock");
    let (listener, _) = socket::bind(&path, &socket::GROUP).unwrap();
    let (begun, has_begun) = tokio::sync::mpsc::channel(1);
    let release = Arc::new(tokio::sync::Notify::new());
    let released = release.clone();
    let handler = move || {
        let (begun, released) = (begun.clone(), released.clone());
        async move {
            let _ = begun.send(()).await;
            released.notified().await;
            "done"
        }
    };
    let router = Router::new().route("/", get(handler));
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    tasks.spawn(serve(listener, router, tasks.clone(), stop));
    Patient {
        path,
        _dir: dir,
        tasks,
        begun: has_begun,
        release,
    }
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let mut patient = patient();
    let mut client = UnixStream::connect(&patient.path).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    patient.begun.recv().await.unwrap();
    patient.release.notify_one();
    let answer = tokio::time::timeout(SOON, all(client)).await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
}

#[tokio::test]
async fn a_client_that_is_gone_frees_its_place() {
    let mut patient = patient();
    let mut client = UnixStream::connect(&patient.path).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    patient.begun.recv().await.unwrap();
    assert_eq!(patient.tasks.len(), 2);
    drop(client);
    crate::api::tests::http::eventually("the place is free", || patient.tasks.len() == 1).await;
}
