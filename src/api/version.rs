//! `GET /version`: what is spoken, and by whom.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::error::json;
use super::headers::{API_VERSION, ENGINE_VERSION, MIN_API_VERSION};
use super::router::Api;

/// Skein's own version.
pub const SKEIN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built; empty outside of a release build.
pub const GIT_COMMIT: &str = match option_env!("SKEIN_GIT_COMMIT") {
    Some(commit) => commit,
    None => "",
};

/// When it was built, RFC 3339; empty outside of a release build.
pub const BUILD_TIME: &str = match option_env!("SKEIN_BUILD_TIME") {
    Some(time) => time,
    None => "",
};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct VersionDto<'a> {
    platform: Value,
    components: Vec<Value>,
    version: &'static str,
    api_version: &'static str,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: &'static str,
    git_commit: &'static str,
    go_version: &'static str,
    os: &'static str,
    arch: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kernel_version: &'a str,
    build_time: &'static str,
}

/// `GET /version`. `Version` is that of the Docker engine whose behaviour this is, because tools compare it with
/// what they need; Skein's own stands in the platform and as a component.
pub(super) async fn show(State(api): State<Api>) -> Response {
    let machine = &api.machine;
    let engine = json!({
        "Name": "Engine",
        "Version": ENGINE_VERSION,
        "Details": {
            "ApiVersion": API_VERSION,
            "Arch": machine.go_arch(),
            "BuildTime": BUILD_TIME,
            "Experimental": "false",
            "GitCommit": GIT_COMMIT,
            "GoVersion": "",
            "KernelVersion": machine.kernel,
            "MinAPIVersion": MIN_API_VERSION,
            "Os": "linux",
        },
    });
    let skein = json!({
        "Name": "skein",
        "Version": SKEIN_VERSION,
        "Details": {"GitCommit": GIT_COMMIT},
    });
    json(&VersionDto {
        platform: json!({"Name": format!("Skein {SKEIN_VERSION}")}),
        components: vec![engine, skein],
        version: ENGINE_VERSION,
        api_version: API_VERSION,
        min_api_version: MIN_API_VERSION,
        git_commit: GIT_COMMIT,
        go_version: "",
        os: "linux",
        arch: machine.go_arch(),
        kernel_version: &machine.kernel,
        build_time: BUILD_TIME,
    })
}
