//! `/images/…`: the images of the node that is asked.
//!
//! Names have slashes in them, so what a path asks for is read here and not by the router. What an image is, and
//! whether it may go, the [`ImageStore`](super::backend::ImageStore) decides.

mod archive;
mod select;
mod telling;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;

use super::backend::images::{Image, ImagePrune, Line, Told};
use super::backend::{ImageStore, Refusal, RefusalClass};
use super::call::Call;
use super::dto::image::{AuthConfig, Gone, HistoryItem, ImageInspect, LoggedIn, PruneReport};
use super::error::{Handled, json};
use super::events::time::parse_until;
use super::filters::Filters;
use super::router::{Api, NamedObject, not_found, object_id};
use crate::model::reference::{Reference, ReferenceError};
use telling::telling;

pub(super) use select::{in_use, shared_sizes};

/// What a prune filters by.
const PRUNE_FILTERS: &[&str] = &["dangling", "label", "label!", "until"];

/// Who a client is to a registry.
const REGISTRY_AUTH: &str = "x-registry-auth";

/// Why there is no import.
const IMPORT: &str =
    "import images: load an archive of `docker save`, or push the image to a registry and pull it";

/// What is asked of which image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked<'a> {
    List,
    Search,
    SaveMany,
    Create,
    Load,
    Prune,
    Inspect(&'a str),
    History(&'a str),
    Save(&'a str),
    Tag(&'a str),
    Push(&'a str),
    Remove(&'a str),
}

impl<'a> Asked<'a> {
    /// Reads what comes after `/images/`.
    fn read(method: &Method, rest: &'a str) -> Option<Self> {
        let (name, verb) = rest.rsplit_once('/').unwrap_or((rest, ""));
        match (method.as_str(), rest, verb) {
            ("DELETE", name, _) => Some(Self::Remove(name)),
            ("GET", "json", _) => Some(Self::List),
            ("GET", "search", _) => Some(Self::Search),
            ("GET", "get", _) => Some(Self::SaveMany),
            ("GET", _, "json") => Some(Self::Inspect(name)),
            ("GET", _, "history") => Some(Self::History(name)),
            ("GET", _, "get") => Some(Self::Save(name)),
            ("POST", "create", _) => Some(Self::Create),
            ("POST", "load", _) => Some(Self::Load),
            ("POST", "prune", _) => Some(Self::Prune),
            ("POST", _, "tag") => Some(Self::Tag(name)),
            ("POST", _, "push") => Some(Self::Push(name)),
            _ => None,
        }
    }
}

/// Everything of `/images`.
pub(super) async fn serve(State(api): State<Api>, named: NamedObject, request: Request) -> Handled {
    let rest = object_id(named)?;
    let asked = Asked::read(request.method(), &rest).ok_or_else(not_found)?;
    if matches!(asked, Asked::Load | Asked::Create) {
        let (call, body) = Call::open(request, String::new())?;
        return match asked {
            Asked::Load => archive::load(api.backend.images(), &call, body).await,
            _ if !call.params.text("fromSrc").is_empty() => {
                archive::refuse(body, not_built(IMPORT)).await
            }
            // A pull, whose body says nothing.
            _ => create(api.backend.images()?, &call).await,
        };
    }
    let call = Call::read(request, String::new()).await?;
    match asked {
        Asked::Search => Err(not_built("search a registry: use its own pages")),
        Asked::List => select::list(&api, &call).await,
        Asked::Prune => prune(&api, &call).await,
        Asked::SaveMany => {
            let names = call.params.all("names").map(str::to_owned).collect();
            archive::save(api.backend.images()?, &call, names).await
        }
        Asked::Save(name) => archive::save(api.backend.images()?, &call, vec![name.into()]).await,
        Asked::Inspect(name) => {
            let (image, written) = api.backend.images()?.inspect(name).await?;
            check_platform(&image, name, call.params.text("platform"))?;
            Ok(json(&ImageInspect::of(image, &written, call.version)))
        }
        Asked::History(name) => history(api.backend.images()?.as_ref(), &call, name).await,
        Asked::Tag(name) => tag(api.backend.images()?.as_ref(), &call, name).await,
        Asked::Push(name) => push(api.backend.images()?, &call, name).await,
        Asked::Remove(name) => {
            let force = call.params.flag("force");
            let removed = api.backend.images()?.remove(name, force).await?;
            Ok(json(
                &removed.into_iter().map(Gone::from).collect::<Vec<_>>(),
            ))
        }
        // Their bodies were for others to read.
        Asked::Load | Asked::Create => Err(not_found()),
    }
}

/// `POST /auth`.
pub(super) async fn login(State(api): State<Api>, request: Request) -> Handled {
    let call = Call::read(request, String::new()).await?;
    let config: AuthConfig = call.json()?;
    api.backend.images()?.login(config.into()).await?;
    Ok(json(&LoggedIn {
        status: "Login Succeeded",
        identity_token: "",
    }))
}

fn not_built(what: &str) -> Refusal {
    let class = RefusalClass::NotImplemented;
    Refusal::new(class, format!("skein does not {what}"))
}

fn reference(text: &str) -> Result<Reference, Refusal> {
    let parsed = text.parse();
    parsed.map_err(|error: ReferenceError| Refusal::invalid(error.to_string()))
}

/// `POST /images/create`: a pull.
async fn create(images: Arc<dyn ImageStore>, call: &Call) -> Handled {
    let name = pulled_name(call.params.text("fromImage"), call.params.text("tag"))?;
    let auth = call.header(REGISTRY_AUTH).to_owned();
    let platform = call.params.text("platform").to_owned();
    let pull = |told| async move { images.pull(&name, &auth, &platform, told).await };
    telling(call, true, pull).await
}

/// What is pulled when a client says this image and this tag, or digest.
fn pulled_name(image: &str, tag: &str) -> Result<String, Refusal> {
    let parsed = reference(image)?;
    let name = parsed.familiar_name();
    match tag {
        "" if parsed.tag().is_none() && parsed.digest().is_none() => Err(not_built(
            "pull all tags of a repository at once: name one of them",
        )),
        "" => Ok(image.into()),
        digest if digest.contains(':') => Ok(format!("{name}@{digest}")),
        tag => Ok(format!("{name}:{tag}")),
    }
}

async fn history(images: &dyn ImageStore, call: &Call, name: &str) -> Handled {
    let platform = call.params.text("platform");
    if !platform.is_empty() {
        check_platform(&images.inspect(name).await?.0, name, platform)?;
    }
    let steps = images.history(name).await?;
    let steps: Vec<HistoryItem> = steps.into_iter().map(HistoryItem::from).collect();
    Ok(json(&steps))
}

async fn tag(images: &dyn ImageStore, call: &Call, name: &str) -> Handled {
    let new = reference(call.params.text("repo"))?;
    let new = match call.params.text("tag") {
        "" => new.familiar(),
        tag => format!("{}:{tag}", new.familiar_name()),
    };
    images.tag(name, &new).await?;
    Ok(StatusCode::CREATED.into_response())
}

/// One tag, or without one all tags of the repository that are here.
async fn push(images: Arc<dyn ImageStore>, call: &Call, name: &str) -> Handled {
    let repository = reference(name)?.familiar_name();
    let names = match call.params.text("tag") {
        "" => tags_of(&images.list().await?, &repository),
        tag => vec![format!("{repository}:{tag}")],
    };
    if names.is_empty() {
        let words = format!("An image does not exist locally with the tag: {repository}");
        return Err(Refusal::not_found(words));
    }
    let auth = call.header(REGISTRY_AUTH).to_owned();
    let push = |told: Told| async move {
        for name in names {
            images.push(&name, &auth, told.clone()).await?;
        }
        Ok(())
    };
    telling(call, true, push).await
}

fn tags_of(images: &[Image], repository: &str) -> Vec<String> {
    let tags = images.iter().flat_map(|image| &image.tags);
    let own = tags.filter(|tag| {
        let parsed = tag.parse::<Reference>();
        parsed.is_ok_and(|parsed| parsed.familiar_name() == repository)
    });
    own.cloned().collect()
}

async fn prune(api: &Api, call: &Call) -> Handled {
    let filters = Filters::parse(call.params.text("filters"), PRUNE_FILTERS)?;
    let texts = |key| filters.values(key).map(str::to_owned).collect();
    let until = filters.values("until").next().unwrap_or_default();
    let which = ImagePrune {
        all: filters.flag("dangling")? == Some(false),
        until: parse_until("until", until, api.backend.now())?,
        labels: texts("label"),
        not_labels: texts("label!"),
    };
    let pruned = api.backend.images()?.prune(which).await?;
    let gone: Vec<Gone> = pruned.removed.into_iter().map(Gone::from).collect();
    Ok(json(&PruneReport {
        images_deleted: Some(gone).filter(|gone| !gone.is_empty()),
        space_reclaimed: pruned.reclaimed,
    }))
}

/// Refuses an image that is not for the platform which a client wants: `os/arch[/variant]`, or JSON.
fn check_platform(image: &Image, name: &str, wanted: &str) -> Result<(), Refusal> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Wanted {
        os: String,
        architecture: String,
        variant: String,
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let read = match wanted.starts_with('{') {
        true => serde_json::from_str(wanted).unwrap_or_default(),
        false => {
            let mut parts = wanted.splitn(3, '/').map(str::to_owned);
            let mut part = || parts.next().unwrap_or_default();
            Wanted {
                os: part(),
                architecture: part(),
                variant: part(),
            }
        }
    };
    let found = &image.platform;
    if read.os.is_empty() || read.architecture.is_empty() {
        return Err(Refusal::invalid(format!("invalid platform {wanted}")));
    }
    let same_kind = read.variant.is_empty() || read.variant == found.variant;
    if read.os == found.os && read.architecture == found.architecture && same_kind {
        return Ok(());
    }
    Err(Refusal::not_found(format!(
        "image with reference {name} was found but its platform ({found}) does not match the specified platform \
         ({wanted})"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_slashes_are_found_in_paths() {
        let read = |method, rest| Asked::read(&method, rest);
        for (method, rest, asked) in [
            (Method::GET, "json", Some(Asked::List)),
            (Method::GET, "json/json", Some(Asked::Inspect("json"))),
            (
                Method::GET,
                "r.io:5000/a/b:1/json",
                Some(Asked::Inspect("r.io:5000/a/b:1")),
            ),
            (Method::GET, "a/b/get", Some(Asked::Save("a/b"))),
            (Method::GET, "a/b/history", Some(Asked::History("a/b"))),
            (Method::DELETE, "a/b/json", Some(Asked::Remove("a/b/json"))),
            (Method::POST, "a/b/push", Some(Asked::Push("a/b"))),
            (Method::POST, "load/tag", Some(Asked::Tag("load"))),
            (Method::POST, "a/b", None),
            (Method::GET, "a/b", None),
            (Method::PUT, "a/json", None),
        ] {
            assert_eq!(read(method, rest), asked, "{rest}");
        }
    }

    #[test]
    fn what_is_pulled_has_a_tag_or_a_digest() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (image, tag, name) in [
            ("busybox", "latest", Some("busybox:latest".to_owned())),
            ("docker.io/library/busybox", "1", Some("busybox:1".into())),
            ("busybox:1", "2", Some("busybox:2".into())),
            ("busybox:1", "", Some("busybox:1".into())),
            ("r.io/a", &digest, Some(format!("r.io/a@{digest}"))),
            ("busybox", "", None),
            ("Busybox", "1", None),
        ] {
            assert_eq!(pulled_name(image, tag).ok(), name, "{image} {tag}");
        }
    }
}
