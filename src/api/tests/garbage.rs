//! Whatever is sent, each request is answered as Docker answers it, and nothing panics.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::TaskTracker;

use super::fake::Fake;
use super::http::Answer;
use super::services;
use crate::api::{router, serve_stream};

/// Statuses that this API has; 431 and 400 without a body are hyper's own.
const STATUSES: [u16; 12] = [200, 201, 204, 400, 401, 403, 404, 409, 431, 500, 501, 503];

/// Sends bytes to a new node, perhaps as the last ones, and reads all that comes.
fn answer_to(request: &[u8], outside: bool, last: bool) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let fake = if outside {
            Fake::outside()
        } else {
            Fake::leader()
        };
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let exchange = async {
            near.write_all(request).await.unwrap();
            if last {
                near.shutdown().await.unwrap();
            }
            let mut bytes = Vec::new();
            let _ = near.read_to_end(&mut bytes).await;
            bytes
        };
        let served = serve_stream(far, router(fake), TaskTracker::new());
        let both = async { tokio::join!(exchange, served).0 };
        tokio::time::timeout(super::http::DEADLINE, both)
            .await
            .expect("an answer in time")
    })
}

fn json() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        "[A-Za-z]{0,8}",
        Just("Spec".to_owned()),
        Just("Labels".to_owned()),
        Just("Role".to_owned()),
        Just("Availability".to_owned()),
        Just("JoinToken".to_owned()),
        Just("RemoteAddrs".to_owned()),
        Just("CAConfig".to_owned()),
        Just("UnlockKey".to_owned()),
        Just("Name".to_owned()),
        Just("TaskTemplate".to_owned()),
        Just("ContainerSpec".to_owned()),
        Just("Mode".to_owned()),
        Just("Replicated".to_owned()),
        Just("Mounts".to_owned()),
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
        Just("worker".into()),
        Just("active".into()),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(key.clone(), inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
    .prop_map(|value: serde_json::Value| value.to_string())
}

fn path() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "/swarm",
        "/swarm/init",
        "/swarm/join",
        "/swarm/leave",
        "/swarm/update",
        "/swarm/unlock",
        "/swarm/unlockkey",
        "/nodes",
        "/nodes/host-9",
        "/nodes/host-9/update",
        "/nodes/%ff",
        "/info",
        "/version",
        "/_ping",
        "/skein/status",
        "/skein/recover",
        "/skein/rebalance",
        "/services",
        "/services/create",
        "/services/web",
        "/services/web/update",
        "/services/web/logs",
        "/tasks",
        "/tasks/1",
        "/networks",
        "/secrets/create",
        "/containers/json",
        "/images/json",
        "/images/create?fromImage=busybox&tag=1",
        "/images/busybox/json",
        "/images/registry.test:5000/team/app:2/tag",
        "/images/load",
        "/images/get",
        "/images/prune",
        "/volumes",
        "/volumes/create",
        "/volumes/data",
        "/volumes/prune",
        "/system/df",
        "/auth",
        "/v1.43/nodes",
        "/v9.9/nodes",
        "//",
        "/v1./info",
    ]);
    let query = prop_oneof![
        Just(String::new()),
        "[?&=a-z0-9%{}:\\[\\]]{0,24}",
        Just("?version=19".to_owned()),
        Just("?filters=%7B%22role%22%3A%5B%22worker%22%5D%7D".to_owned()),
    ];
    prop_oneof![
        (known, query).prop_map(|(path, query)| match query.strip_prefix('?') {
            Some(rest) => format!("{path}?{}", rest.replace('?', "")),
            None => path.to_owned(),
        }),
        "/[a-z0-9./%]{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_request_has_an_answer(
        method in prop::sample::select(vec!["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "BREW"]),
        path in path(),
        kind in prop::sample::select(vec!["application/json", "text/plain", "", "application/json;x=\"y"]),
        body in prop_oneof![json(), ".{0,40}"],
        outside: bool,
    ) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let bytes = answer_to(request.as_bytes(), outside, false);
        prop_assert!(bytes.starts_with(b"HTTP/1.1 "), "{request:?}");
        let answer = Answer::parse(&bytes);
        prop_assert!(STATUSES.contains(&answer.status), "{answer:?}");
        let by_us = answer.headers.contains_key("api-version");
        if answer.status >= 400 && by_us && method != "HEAD" {
            let message = answer.json()["message"].as_str().map(str::to_owned);
            prop_assert!(message.is_some_and(|words| !words.is_empty()), "{answer:?}");
        }
    }

    #[test]
    fn a_service_with_a_strange_part_is_made_or_refused(
        place in prop::sample::select(services::places()),
        part in json(),
        filter in json(),
    ) {
        let mut spec = services::whole();
        let part: serde_json::Value = serde_json::from_str(&part).unwrap();
        *spec.pointer_mut(&place).unwrap() = part;
        let spec = spec.to_string();
        let request = format!(
            "POST /services/create HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{spec}",
            spec.len()
        );
        let answer = Answer::parse(&answer_to(request.as_bytes(), false, false));
        prop_assert!(matches!(answer.status, 201 | 400 | 404 | 501), "{spec}: {answer:?}");
        let filter: String = filter.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let request = format!(
            "GET /tasks?filters={filter} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
        );
        let answer = Answer::parse(&answer_to(request.as_bytes(), false, false));
        prop_assert!(matches!(answer.status, 200 | 400 | 404), "{answer:?}");
    }

    #[test]
    fn bytes_that_are_no_request_end_the_connection(bytes: Vec<u8>) {
        let answer = answer_to(&bytes, false, true);
        prop_assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
    }
}
