//! What a registry knows of an image, asked through the daemon, and the user's credentials for it.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use super::client::stream::{Ask, REGISTRY_AUTH};
use super::client::{Client, encode};
use super::swarm::text;
use crate::model::reference::Reference;

/// What docker's client calls Docker Hub in its file of credentials.
const HUB: &str = "https://index.docker.io/v1/";

/// The name with `latest` where it has neither tag nor digest; as it is when it is no name.
pub(super) fn with_tag(image: &str) -> String {
    image
        .parse::<Reference>()
        .map_or_else(|_| image.to_owned(), |name| name.or_latest().familiar())
}

/// The name without its digest where it has a tag as well, as lists show it.
pub(super) fn without_digest(image: &str) -> &str {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let tagged = name.rsplit('/').next().unwrap_or_default().contains(':');
    match tagged && !digest.is_empty() {
        true => name,
        false => image,
    }
}

/// A path's part for the name of an image, whose slashes stay.
pub(super) fn path(image: &str) -> String {
    image.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// Gives `task` its image by digest, and the platforms that it is for. A warning where no registry knows it.
pub(super) async fn pin(client: &Client, task: &mut Value, auth: Option<&str>) -> Option<String> {
    let image = with_tag(text(task, "/ContainerSpec/Image"));
    task["ContainerSpec"]["Image"] = image.as_str().into();
    let mut ask = Ask::get(format!("/distribution/{}/json", path(&image)));
    if let Some(auth) = auth {
        ask = ask.header(REGISTRY_AUTH, auth);
    }
    let answer = match client.open(ask).await {
        Ok(reply) => reply.value().await,
        Err(error) => Err(error),
    };
    let Ok(known) = answer else {
        return Some(format!(
            "image {image} could not be accessed on a registry to record\nits digest. Each node will access {image} \
             independently,\npossibly leading to different nodes running different\nversions of the image.\n"
        ));
    };
    let digest = text(&known, "/Descriptor/digest");
    if !digest.is_empty() && !image.contains('@') {
        task["ContainerSpec"]["Image"] = format!("{image}@{digest}").into();
    }
    let platforms = platforms(&known);
    if !platforms.is_empty() {
        task["Placement"]["Platforms"] = platforms.into();
    }
    None
}

/// Nodes tell more of an ARM than images do, so that is not compared.
fn platforms(known: &Value) -> Vec<Value> {
    let platform = |one: &Value| {
        let architecture = match text(one, "/architecture") {
            "arm" => "",
            architecture => architecture,
        };
        json!({"Architecture": architecture, "OS": text(one, "/os")})
    };
    super::rows::list(known, "/Platforms")
        .iter()
        .map(platform)
        .collect()
}

/// The user's credentials for the registry of `image` as the API takes them; those of nobody when there are none.
pub(super) fn credentials(image: &str) -> String {
    let stored = folder().and_then(|folder| std::fs::read(folder.join("config.json")).ok());
    let stored: Value = stored
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let found = image
        .parse::<Reference>()
        .ok()
        .and_then(|name| of_registry(&stored, name.registry()));
    URL_SAFE.encode(found.unwrap_or_else(|| json!({})).to_string())
}

/// Where docker keeps its credentials; ours are the same.
pub(super) fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    named.or_else(|| std::env::home_dir().map(|home| home.join(".docker")))
}

fn of_registry(stored: &Value, registry: &str) -> Option<Value> {
    let key = match registry {
        "docker.io" => HUB,
        registry => registry,
    };
    let entry = stored.get("auths")?.get(key)?;
    let plain = STANDARD.decode(text(entry, "/auth")).ok()?;
    let plain = String::from_utf8(plain).ok()?;
    let (username, password) = plain.split_once(':')?;
    let mut found = json!({"username": username, "password": password, "serveraddress": key});
    if let Some(token) = entry.get("identitytoken") {
        found["identitytoken"] = token.clone();
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_docker_shows_them() {
        assert_eq!(with_tag("nginx"), "nginx:latest");
        assert_eq!(with_tag("r:5000/a:1"), "r:5000/a:1");
        assert_eq!(without_digest("nginx:1@sha256:aa"), "nginx:1");
        assert_eq!(without_digest("r:5000/a@sha256:aa"), "r:5000/a@sha256:aa");
        assert_eq!(path("r:5000/a b"), "r%3A5000/a%20b");
    }

    #[test]
    fn credentials_are_dockers() {
        let stored = json!({"auths": {
            "r:5000": {"auth": STANDARD.encode("me:pass:word")},
            HUB: {"auth": STANDARD.encode("hub:x")},
        }});
        assert_eq!(
            of_registry(&stored, "r:5000"),
            Some(json!({"username": "me", "password": "pass:word", "serveraddress": "r:5000"}))
        );
        assert_eq!(
            of_registry(&stored, "docker.io").unwrap()["username"],
            "hub"
        );
        assert_eq!(of_registry(&stored, "other"), None);
        assert_eq!(of_registry(&Value::Null, "other"), None);
    }
}
