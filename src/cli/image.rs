//! `skein images`, `pull`, `push`, `load`, `save`, `tag`, `rmi`, `history`, and the same below `skein image`.

use std::io::{IsTerminal, Write, stdout};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::board::{Board, Line};
use super::client::frames::Lines;
use super::client::stream::{Ask, REGISTRY_AUTH, Reply};
use super::client::{Client, ClientError, encode};
use super::human::{cut, date, decimal, fine, short, span};
use super::inspect::{self, InspectArgs};
use super::output::{complain, note, say};
use super::rows::{Column, Listing, list, number, row, show};
use super::swarm::text;
use super::{Exit, registry, values};
use crate::model::reference::Reference;
use crate::node::clock;

/// Show and change the images of this machine
#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    Pull(PullArgs),
    Push(PushArgs),
    Load(LoadArgs),
    Save(SaveArgs),
    Tag(TagArgs),
    #[command(visible_alias = "remove")]
    Rm(RmiArgs),
    /// Show images in full
    Inspect(InspectArgs),
    History(HistoryArgs),
    /// Remove images that nothing needs
    Prune(PruneArgs),
}

/// Does it.
pub(super) async fn run(client: &Client, command: ImageCommand) -> anyhow::Result<()> {
    match command {
        ImageCommand::Ls(args) => ls(client, &args).await,
        ImageCommand::Pull(args) => pull(client, &args).await,
        ImageCommand::Push(args) => push(client, &args).await,
        ImageCommand::Load(args) => load(client, &args).await,
        ImageCommand::Save(args) => save(client, &args).await,
        ImageCommand::Tag(args) => tag(client, &args).await,
        ImageCommand::Rm(args) => rmi(client, &args).await,
        ImageCommand::Inspect(args) => inspect::of(client, "image", &args).await,
        ImageCommand::History(args) => history(client, &args).await,
        ImageCommand::Prune(args) => {
            let mut filters = args.filter.clone();
            filters.push(("dangling".into(), (!args.all).to_string()));
            let freed = prune(client, "images", &filters).await?;
            say(format!("Total reclaimed space: {}", fine(freed as f64)));
            Ok(())
        }
    }
}

/// What a clean-up takes.
#[derive(Clone, Debug, Args)]
pub(super) struct PruneArgs {
    /// All that is not used, not only what has no name
    #[arg(long, short)]
    pub(super) all: bool,
    /// Only what fits, such as until=24h
    #[arg(long, value_parser = values::filter)]
    pub(super) filter: Vec<(String, String)>,
    /// Do not ask
    #[arg(long, short)]
    pub(super) force: bool,
}

/// Cleans one collection up, names what went and gives the bytes.
pub(super) async fn prune(
    client: &Client,
    collection: &str,
    filters: &[(String, String)],
) -> anyhow::Result<i64> {
    let target = format!("/{collection}/prune?{}", super::rows::query(filters));
    let done = match client.open(Ask::post(target).patiently()).await {
        Ok(reply) => reply.value().await?,
        // A daemon that cannot clean such things up has none of them to spare.
        Err(ClientError::Refused { status: 404, .. }) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    for field in [
        "/ContainersDeleted",
        "/VolumesDeleted",
        "/NetworksDeleted",
        "/ImagesDeleted",
    ] {
        for gone in list(&done, field) {
            match gone.as_str() {
                Some(name) => say(name),
                None => say(deleted(gone)),
            }
        }
    }
    Ok(number(&done, "/SpaceReclaimed"))
}

fn deleted(gone: &Value) -> String {
    match text(gone, "/Untagged") {
        "" => format!("Deleted: {}", text(gone, "/Deleted")),
        name => format!("Untagged: {name}"),
    }
}

const COLUMNS: [Column; 5] = [
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

/// List the images of this machine
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Filters: dangling, label, before, since, reference, until\nFields: .ID .Repository .Tag .Digest \
    .CreatedSince .CreatedAt .Size\n\nExamples:\n  skein images --filter dangling=true\n  skein images nginx"
)]
pub(super) struct LsArgs {
    #[command(flatten)]
    listing: Listing,
    /// Those without a name, too
    #[arg(long, short)]
    all: bool,
    /// With digests
    #[arg(long)]
    digests: bool,
    /// Whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Only of this repository
    repository: Option<String>,
}

/// `skein images`.
pub(super) async fn ls(client: &Client, args: &LsArgs) -> anyhow::Result<()> {
    let mut filters = args.listing.filter.clone();
    filters.extend(
        args.repository
            .iter()
            .map(|name| ("reference".into(), name.clone())),
    );
    let query = super::rows::query(&filters);
    let found: Vec<Value> = client
        .get(&format!("/images/json?all={}&{query}", args.all))
        .await?;
    let now = clock::now().secs();
    let rows: Vec<Value> = found
        .iter()
        .flat_map(|image| image_rows(image, args, now))
        .collect();
    let mut columns = COLUMNS.to_vec();
    if args.digests {
        columns.insert(2, ("DIGEST", "Digest"));
    }
    args.listing.show("ID", &columns, &rows)
}

/// A row for each name of an image.
fn image_rows(image: &Value, args: &LsArgs, now: i64) -> Vec<Value> {
    let none = "<none>";
    let texts = |field: &str| -> Vec<String> {
        let names = list(image, field).iter().filter_map(Value::as_str);
        names
            .filter(|name| !name.starts_with(none))
            .map(str::to_owned)
            .collect()
    };
    let (tags, digests) = (texts("/RepoTags"), texts("/RepoDigests"));
    let digest_of = |repository: &str| {
        let of = |digest: &&String| digest.split('@').next() == Some(repository);
        digests
            .iter()
            .find(of)
            .and_then(|name| name.split_once('@'))
    };
    let mut names: Vec<(String, String, String)> = tags
        .iter()
        .map(|name| {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, none));
            let digest = digest_of(repository).map_or(none, |(_, digest)| digest);
            (repository.to_owned(), tag.to_owned(), digest.to_owned())
        })
        .collect();
    if names.is_empty() {
        names = digests
            .iter()
            .filter_map(|name| name.split_once('@'))
            .map(|(repository, digest)| (repository.to_owned(), none.to_owned(), digest.to_owned()))
            .collect();
    }
    if names.is_empty() {
        names.push((none.into(), none.into(), none.into()));
    }
    let id = text(image, "/Id");
    let id = if args.no_trunc { id } else { short(id) };
    let created = number(image, "/Created");
    names
        .into_iter()
        .map(|(repository, tag, digest)| {
            row([
                ("ID", id.to_owned()),
                ("Repository", repository),
                ("Tag", tag),
                ("Digest", digest),
                ("CreatedSince", format!("{} ago", span(now - created))),
                ("CreatedAt", date(created)),
                ("Size", decimal(number(image, "/Size") as f64)),
            ])
        })
        .collect()
}

/// Fetch images from their registries
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  skein pull nginx:1.27\n  skein pull registry.example.com/app@sha256:…"
)]
pub(super) struct PullArgs {
    /// Of this platform, os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
    /// The name alone, at the end
    #[arg(long, short)]
    quiet: bool,
    /// The image
    image: String,
}

/// `skein pull`.
pub(super) async fn pull(client: &Client, args: &PullArgs) -> anyhow::Result<()> {
    fetch(client, &args.image, args.platform.as_deref(), args.quiet).await?;
    let name: Reference = args.image.parse()?;
    say(name.or_latest().to_string());
    Ok(())
}

/// Pulls an image and shows how far that is.
pub(super) async fn fetch(
    client: &Client,
    image: &str,
    platform: Option<&str>,
    quiet: bool,
) -> anyhow::Result<()> {
    let name: Reference = image.parse()?;
    if name.tag().is_none() && name.digest().is_none() && !quiet {
        say("Using default tag: latest");
    }
    let name = name.or_latest();
    let tag = match name.digest() {
        Some(digest) => digest.to_string(),
        None => name.tag().unwrap_or("latest").to_owned(),
    };
    let mut target = format!(
        "/images/create?fromImage={}&tag={}",
        encode(&name.familiar_name()),
        encode(&tag)
    );
    if let Some(platform) = platform {
        target.push_str(&format!("&platform={}", encode(platform)));
    }
    let ask = Ask::post(target)
        .header(REGISTRY_AUTH, registry::credentials(image))
        .patiently();
    progress(client.open(ask).await?, quiet).await
}

/// Shows the lines of JSON that pulls, pushes and loads answer with. Their last one may be an error.
async fn progress(mut reply: Reply, quiet: bool) -> anyhow::Result<()> {
    let (mut lines, mut board) = (Lines::default(), Board::new(quiet));
    let mut error = None;
    let mut take = |line: &str, board: &mut Board| -> anyhow::Result<()> {
        let line: Value = serde_json::from_str(line)?;
        if let Some(message) = line["error"].as_str() {
            error = Some(message.to_owned());
        } else if let Some(words) = line["stream"].as_str() {
            if !quiet {
                say(words.trim_end());
            }
        } else {
            board.show(shown(&line));
        }
        Ok(())
    };
    while let Some(piece) = reply.next().await? {
        lines.push(&piece);
        while let Some(line) = lines.next() {
            take(&line, &mut board)?;
        }
    }
    if let Some(line) = lines.rest() {
        take(&line, &mut board)?;
    }
    match error {
        Some(error) => anyhow::bail!(error),
        None => Ok(()),
    }
}

/// A line about a layer has its ID; where nothing is redrawn its numbers are left out.
fn shown(line: &Value) -> Option<Line> {
    let (id, status) = (text(line, "/id"), text(line, "/status"));
    if id.is_empty() && status.is_empty() {
        return None;
    }
    // Lines without an ID are each their own.
    let about = if id.is_empty() { status } else { id };
    let words = if id.is_empty() { "" } else { status };
    let shown = match words {
        "" => Line::new("", about),
        words => Line::new(about, words),
    };
    let done = line
        .pointer("/progressDetail/current")
        .and_then(Value::as_u64);
    let whole = line
        .pointer("/progressDetail/total")
        .and_then(Value::as_u64);
    match (done, whole, stdout().is_terminal()) {
        (Some(done), Some(whole), true) if whole > 0 => Some(shown.of(done, whole)),
        _ => Some(shown),
    }
}

/// Send an image to its registry
#[derive(Clone, Debug, Args)]
pub(super) struct PushArgs {
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
    /// Of this platform
    #[arg(long)]
    platform: Option<String>,
    /// The image
    image: String,
}

/// `skein push`.
pub(super) async fn push(client: &Client, args: &PushArgs) -> anyhow::Result<()> {
    let name: Reference = args.image.parse()?;
    let name = name.or_latest();
    let tag = name.tag().unwrap_or("latest");
    let path = registry::path(&name.familiar_name());
    let mut target = format!("/images/{path}/push?tag={}", encode(tag));
    if let Some(platform) = &args.platform {
        target.push_str(&format!("&platform={}", encode(platform)));
    }
    let ask = Ask::post(target)
        .header(REGISTRY_AUTH, registry::credentials(&args.image))
        .patiently();
    progress(client.open(ask).await?, args.quiet).await
}

/// Read images from an archive
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  skein load --input app.tar\n  skein load < app.tar.gz")]
pub(super) struct LoadArgs {
    /// The archive (default: standard input)
    #[arg(long, short)]
    input: Option<std::path::PathBuf>,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

/// `skein load`.
pub(super) async fn load(client: &Client, args: &LoadArgs) -> anyhow::Result<()> {
    let ask = Ask::post("/images/load?quiet=1").patiently();
    let ask = match &args.input {
        Some(path) => match tokio::fs::File::open(path).await {
            Ok(file) => ask.archive(file),
            Err(error) => anyhow::bail!("{} cannot be read: {error}", path.display()),
        },
        None if std::io::stdin().is_terminal() => {
            anyhow::bail!(
                "requested load from stdin, but stdin is empty: give --input or pipe an archive in"
            )
        }
        None => ask.archive(tokio::io::stdin()),
    };
    progress(client.open(ask).await?, false).await
}

/// Write images into an archive
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  skein save --output app.tar app:1 db:2\n  skein save app:1 | gzip > app.tar.gz"
)]
pub(super) struct SaveArgs {
    /// The archive (default: standard output)
    #[arg(long, short)]
    output: Option<std::path::PathBuf>,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `skein save`. An archive that could not be written whole is not left behind.
pub(super) async fn save(client: &Client, args: &SaveArgs) -> anyhow::Result<()> {
    if args.output.is_none() && stdout().is_terminal() {
        anyhow::bail!("cowardly refusing to save to a terminal: use --output or redirect");
    }
    let names: Vec<String> = args
        .images
        .iter()
        .map(|name| format!("names={}", encode(name)))
        .collect();
    let ask = Ask::get(format!("/images/get?{}", names.join("&"))).patiently();
    let mut reply = client.open(ask).await?;
    let Some(path) = &args.output else {
        while let Some(piece) = reply.next().await? {
            stdout().lock().write_all(&piece)?;
        }
        return Ok(stdout().lock().flush()?);
    };
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let written = async {
        let mut file = std::fs::File::create(&part)?;
        while let Some(piece) = reply.next().await? {
            file.write_all(&piece)?;
        }
        std::fs::rename(&part, path)?;
        anyhow::Ok(())
    };
    let done = written.await;
    if done.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    done
}

/// Give an image another name
#[derive(Clone, Debug, Args)]
pub(super) struct TagArgs {
    /// The image
    source: String,
    /// Its further name
    target: String,
}

/// `skein tag`.
pub(super) async fn tag(client: &Client, args: &TagArgs) -> anyhow::Result<()> {
    let name: Reference = args.target.parse()?;
    anyhow::ensure!(
        name.digest().is_none(),
        "refusing to create a tag with a digest reference"
    );
    let name = name.or_latest();
    let target = format!(
        "/images/{}/tag?repo={}&tag={}",
        registry::path(&args.source),
        encode(&name.familiar_name()),
        encode(name.tag().unwrap_or("latest"))
    );
    client.post(&target, None).await?;
    Ok(())
}

/// Remove images of this machine
#[derive(Clone, Debug, Args)]
pub(super) struct RmiArgs {
    /// Those with several names or ended containers, too
    #[arg(long, short)]
    force: bool,
    /// Leave parents without a name
    #[arg(long)]
    no_prune: bool,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `skein rmi`.
pub(super) async fn rmi(client: &Client, args: &RmiArgs) -> anyhow::Result<()> {
    let mut failed = false;
    for image in &args.images {
        let query = format!("force={}&noprune={}", args.force, args.no_prune);
        let target = format!("/images/{}?{query}", registry::path(image));
        match client.delete(&target).await {
            Ok(body) => {
                let gone: Vec<Value> = serde_json::from_slice(&body)?;
                gone.iter().for_each(|one| say(deleted(one)));
            }
            Err(error @ ClientError::Refused { .. }) => {
                failed = true;
                complain(&error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    match failed {
        true => Err(Exit(1).into()),
        false => Ok(()),
    }
}

const HISTORY: [Column; 5] = [
    ("IMAGE", "ID"),
    ("CREATED", "CreatedSince"),
    ("CREATED BY", "CreatedBy"),
    ("SIZE", "Size"),
    ("COMMENT", "Comment"),
];

/// Show how an image was made
#[derive(Clone, Debug, Args)]
pub(super) struct HistoryArgs {
    /// table, json, a template, or `table` and a template
    #[arg(long)]
    format: Option<String>,
    /// Whole commands and IDs
    #[arg(long)]
    no_trunc: bool,
    /// The image
    image: String,
}

/// `skein history`.
pub(super) async fn history(client: &Client, args: &HistoryArgs) -> anyhow::Result<()> {
    let target = format!("/images/{}/history", registry::path(&args.image));
    let steps: Vec<Value> = client.get(&target).await?;
    let now = clock::now().secs();
    let rows: Vec<Value> = steps
        .iter()
        .map(|step| {
            let (id, by) = (
                text(step, "/Id"),
                text(step, "/CreatedBy").replace('\t', " "),
            );
            let created = number(step, "/Created");
            row([
                ("ID", if args.no_trunc { id } else { short(id) }.to_owned()),
                ("CreatedSince", format!("{} ago", span(now - created))),
                ("CreatedAt", date(created)),
                ("CreatedBy", if args.no_trunc { by } else { cut(&by, 45) }),
                ("Size", decimal(number(step, "/Size") as f64)),
                ("Comment", text(step, "/Comment").to_owned()),
            ])
        })
        .collect();
    show(args.format.as_deref(), &HISTORY, &rows)
}

/// Asks whether to go on, unless that was said already; no is no error.
pub(super) fn agrees(force: bool, what: &str) -> bool {
    if force {
        return true;
    }
    note(format!(
        "WARNING! This will remove {what}. Are you sure you want to continue? [y/N]"
    ));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ls_args() -> LsArgs {
        LsArgs {
            listing: Listing::default(),
            all: false,
            digests: false,
            no_trunc: false,
            repository: None,
        }
    }

    #[test]
    fn an_image_has_a_row_for_each_name() {
        let image = json!({
            "Id": "sha256:0123456789abcdef", "RepoTags": ["r:5000/a:1", "b:2"], "RepoDigests": ["b@sha256:d"],
            "Created": 0, "Size": 1_500_000,
        });
        let rows = image_rows(&image, &ls_args(), 3600);
        let shown: Vec<(&str, &str, &str)> = rows
            .iter()
            .map(|row| {
                (
                    text(row, "/Repository"),
                    text(row, "/Tag"),
                    text(row, "/Digest"),
                )
            })
            .collect();
        assert_eq!(shown, [("r:5000/a", "1", "<none>"), ("b", "2", "sha256:d")]);
        assert_eq!(rows[0]["ID"], "0123456789ab");
        assert_eq!(rows[0]["Size"], "1.5MB");
        assert_eq!(rows[0]["CreatedSince"], "About an hour ago");
        let bare = json!({"Id": "sha256:0123456789abcdef", "RepoTags": [], "RepoDigests": []});
        assert_eq!(image_rows(&bare, &ls_args(), 0)[0]["Repository"], "<none>");
    }

    #[test]
    fn progress_is_a_line_for_each_layer() {
        let line = |value: Value| shown(&value);
        assert_eq!(
            line(json!({"id": "abc", "status": "Downloading", "progressDetail": {"current": 1, "total": 2}})).map(|line| line.text),
            Some("Downloading".into())
        );
        assert_eq!(
            line(json!({"status": "Status: done"})),
            Some(Line::new("", "Status: done"))
        );
        assert_eq!(line(json!({"aux": {}})), None);
    }
}
