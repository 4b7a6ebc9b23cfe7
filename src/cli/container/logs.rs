//! `skein logs`, and how logs of any kind are asked for and written.

use std::io::{self, Write};

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::client::frames::{Frames, Output};
use crate::cli::client::stream::{Ask, Reply};
use crate::cli::client::{Client, encode};
use crate::cli::values::GoDuration;
use crate::node::clock;

/// Which lines.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct LogFlags {
    /// Show further attributes of each line
    #[arg(long)]
    pub(in crate::cli) details: bool,
    /// Go on with what is said from now on
    #[arg(long, short)]
    pub(in crate::cli) follow: bool,
    /// Lines since a time (2026-01-02T13:23:37Z) or for a while (42m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Number of lines from the end
    #[arg(long, short = 'n', default_value = "all")]
    tail: String,
    /// Show the time of each line
    #[arg(long, short)]
    pub(in crate::cli) timestamps: bool,
}

impl LogFlags {
    /// The query.
    pub(in crate::cli) fn query(
        &self,
        details: bool,
        more: &[(&str, String)],
    ) -> anyhow::Result<String> {
        let mut query = format!("stdout=1&stderr=1&tail={}", encode(&self.tail));
        for (name, wanted) in [
            ("details", details),
            ("follow", self.follow),
            ("timestamps", self.timestamps),
        ] {
            if wanted {
                query.push_str(&format!("&{name}=1"));
            }
        }
        if let Some(since) = &self.since {
            query.push_str(&format!("&since={}", encode(&moment(since)?)));
        }
        for (name, value) in more {
            query.push_str(&format!("&{name}={}", encode(value)));
        }
        Ok(query)
    }
}

/// A time as the API takes it: `42m` is that long ago; a date is UTC where it does not say.
pub(in crate::cli) fn moment(text: &str) -> anyhow::Result<String> {
    if let Ok(GoDuration(span)) = text.parse() {
        let then = clock::now().nanos() - i128::from(span);
        let (seconds, nanos) = (
            then.div_euclid(1_000_000_000),
            then.rem_euclid(1_000_000_000),
        );
        return Ok(format!("{seconds}.{nanos:09}"));
    }
    let number =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if number(text) {
        return Ok(text.to_owned());
    }
    let day = format!("{text}T00:00:00Z");
    let utc = format!("{text}Z");
    let parsed = [text, utc.as_str(), day.as_str()]
        .iter()
        .find_map(|text| text.parse::<Timestamp>().ok());
    match parsed {
        Some(time) => Ok(format!(
            "{}.{:09}",
            time.as_second(),
            time.subsec_nanosecond()
        )),
        None => anyhow::bail!(
            "`{text}` is no time: give 2026-01-02T13:23:37Z, 2026-01-02, or a while such as 42m"
        ),
    }
}

/// What is done with each line before it is written.
pub(in crate::cli) trait Sink {
    /// The line as it is to be written.
    async fn line(&mut self, line: String) -> anyhow::Result<String>;
}

/// Writes an answer's lines to the outputs they came from. A reader that went away ends it.
pub(in crate::cli) async fn copy(mut reply: Reply, sink: &mut impl Sink) -> anyhow::Result<()> {
    let (framed, mut frames) = (reply.is_framed(), Frames::default());
    while let Some(piece) = reply.next().await? {
        if !framed {
            if write(Output::Out, &piece).is_err() {
                return Ok(());
            }
            continue;
        }
        frames.push(&piece);
        while let Some((output, frame)) = frames.next()? {
            let text = String::from_utf8_lossy(&frame);
            let line = text.strip_suffix('\n').unwrap_or(&text).to_owned();
            let mut line = sink.line(line).await?;
            if text.ends_with('\n') {
                line.push('\n');
            }
            if write(output, line.as_bytes()).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Writes to an output of this program.
pub(in crate::cli) fn write(output: Output, bytes: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    crate::cli::output::record(&String::from_utf8_lossy(bytes));
    match output {
        Output::Out => {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Output::Err | Output::Daemon => io::stderr().lock().write_all(bytes),
    }
}

/// Show what a container has said
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "A container is meant by its name, its ID or the beginning of one, on whichever machine it is.\n\n\
    Examples:\n  skein logs --follow --tail 100 web.1.x8k2…\n  skein logs --since 10m --timestamps 4f5e"
)]
pub(in crate::cli) struct LogsArgs {
    #[command(flatten)]
    flags: LogFlags,
    /// Lines until a time, or until a while ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The container
    container: String,
}

/// Lines as they are.
struct Plain;

impl Sink for Plain {
    async fn line(&mut self, line: String) -> anyhow::Result<String> {
        Ok(line)
    }
}

/// `skein logs`.
pub(in crate::cli) async fn run(client: &Client, args: &LogsArgs) -> anyhow::Result<()> {
    let name = encode(&args.container);
    let _exists: Value = client.get(&format!("/containers/{name}/json")).await?;
    let more = match &args.until {
        Some(until) => vec![("until", moment(until)?)],
        None => Vec::new(),
    };
    let query = args.flags.query(args.flags.details, &more)?;
    let ask = Ask::get(format!("/containers/{name}/logs?{query}")).patiently();
    copy(client.open(ask).await?, &mut Plain).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(moment("1700000000.5").unwrap(), "1700000000.5");
        assert_eq!(moment("1970-01-01T00:01:00Z").unwrap(), "60.000000000");
        assert_eq!(moment("1970-01-01T00:01:00").unwrap(), "60.000000000");
        assert_eq!(moment("1970-01-02").unwrap(), "86400.000000000");
        assert!(moment("yesterday").is_err());
        let ago: f64 = moment("1h").unwrap().parse().unwrap();
        let now = clock::now().secs() as f64;
        assert!((now - ago - 3600.0).abs() < 60.0, "{ago} {now}");
    }
}
