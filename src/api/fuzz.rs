//! What must hold for any bytes that claim to be a request. Test and fuzz builds only.
//!
//! The first line is a target, the rest a body. What they become is this room's own, so the check is, too: the fuzz
//! target calls it by name, and the test below replays `tests/corpus/request`.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::call::Call;
use super::dto::image::AuthConfig;
use super::dto::volume::VolumeCreate;
use super::filters::Filters;
use super::router::prepare;
use super::{events, services, swarm};

/// Reads the bytes as every request that has a body, and as each parameter that is more than a word. Panics when
/// something is refused without words.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (target, body) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(uri) = target.parse() else { return };
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = uri;
    let request = match prepare(request) {
        Ok(Some(request)) => request,
        Ok(None) => return,
        Err(refusal) => return assert!(!refusal.message.is_empty(), "{target:?}"),
    };
    let Ok((mut call, _)) = Call::open(request, String::new()) else {
        return;
    };
    parameters(&call);
    let json = HeaderValue::from_static("application/json");
    call.headers.insert(header::CONTENT_TYPE, json);
    call.body = Bytes::copy_from_slice(body.as_bytes());
    let spec = services::spec_of(&call);
    worded(spec.map(drop));
    swarm::check_bodies(&call).into_iter().for_each(worded);
    of::<VolumeCreate>(&call);
    of::<AuthConfig>(&call);
}

fn of<T: DeserializeOwned + Default>(call: &Call) {
    worded(call.json::<T>().map(drop).map_err(Into::into));
}

/// A refusal says something, in a form that an error of this API may have.
fn worded(outcome: Result<(), super::backend::Refusal>) {
    if let Err(refusal) = outcome {
        assert!(!refusal.message.is_empty());
        assert!(refusal.class.status().as_u16() >= 400);
    }
}

fn parameters(call: &Call) {
    const KNOWN: [&str; 4] = ["label", "name", "node", "service"];
    for text in [call.params.text("filters"), call.target.as_str()] {
        if let Ok(filters) = Filters::parse(text, &KNOWN) {
            for key in KNOWN {
                let all: Vec<&str> = filters.values(key).collect();
                let own = all.first().is_none_or(|first| filters.exact(key, first));
                assert!(own, "{text:?}: a value fits its own filter");
            }
        }
    }
    for (name, value) in call.params.pairs() {
        let _ = events::time::parse_time("since", value);
        let _ = (call.params.flag(name), call.params.strict_flag(name));
    }
    let _ = call.params.version("service");
}

/// One of each that is right in every part.
pub fn samples() -> Vec<Vec<u8>> {
    let service = r#"{"Name":"web","Mode":{"Replicated":{"Replicas":2}},"TaskTemplate":{"ContainerSpec":{"Image":"busybox",
        "Env":["A=1"],"Mounts":[{"Type":"bind","Source":"/a","Target":"/b"}],"Healthcheck":{"Test":["CMD","true"]}},
        "Placement":{"Constraints":["node.role==worker"]},"RestartPolicy":{"Delay":5}},"UpdateConfig":{"Order":"start-first"},
        "EndpointSpec":{"Ports":[{"TargetPort":80,"PublishedPort":8080}]}}"#;
    let swarm = r#"{"ListenAddr":"0.0.0.0:2377","AdvertiseAddr":"192.0.2.1","RemoteAddrs":["192.0.2.2:2377"],
        "JoinToken":"SWMTKN-1-a-b","DataPathPort":7789,"Availability":"drain","Spec":{"CAConfig":{"NodeCertExpiry":5}}}"#;
    let volume =
        r#"{"Name":"data","Driver":"local","DriverOpts":{"type":"tmpfs"},"Labels":{"a":"b"}}"#;
    let auth = r#"{"username":"a","password":"b","serveraddress":"registry.test:5000"}"#;
    [
        format!("/v1.43/services/create\n{service}"),
        format!("/v1.24/services/web/update?version=7&registryAuthFrom=spec\n{service}"),
        format!("/swarm/init\n{swarm}"),
        format!("/v1.50/swarm/join\n{swarm}"),
        format!("/volumes/create\n{volume}"),
        format!("/auth\n{auth}"),
        "/tasks?filters=%7B%22service%22%3A%7B%22web%22%3Atrue%7D%7D\n".into(),
        "/events?since=1700000000.5&until=2023-11-14T22:13:20Z&filters={\"label\":[\"a=b\"]}\n"
            .into(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_holds() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/request");
        let files: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
        assert!(
            !files.is_empty(),
            "the corpus is empty: scripts/fuzz request"
        );
        for file in files {
            let path = file.unwrap().path();
            let outcome = std::panic::catch_unwind(|| check(&std::fs::read(&path).unwrap()));
            assert!(outcome.is_ok(), "{} breaks a promise", path.display());
        }
    }

    #[test]
    fn the_samples_hold() {
        samples().iter().for_each(|sample| check(sample));
    }
}
