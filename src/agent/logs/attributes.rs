//! What goes along with each line of a container: labels, variables and a tag, as the driver's options choose them.
//!
//! Pure. The tag's template is Go's, of which the fields of Docker's documentation are understood:
//! `{{.ID}}`, `{{.FullID}}`, `{{.Name}}`, `{{.ImageID}}`, `{{.ImageFullID}}`, `{{.ImageName}}`, `{{.DaemonName}}`,
//! `{{.Command}}`.

use std::collections::BTreeMap;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::options::Attached;

/// Longest compiled form of a pattern, bytes: the logger is small.
const PATTERN_BYTES: usize = 256 << 10;

/// The parts of a container's configuration that logs speak of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subject {
    /// All of it.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) image: Image,
    pub(super) process: Process,
}

/// Its image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Image {
    /// As the user wrote it.
    pub(super) name: String,
    /// `sha256:…`
    pub(super) manifest: String,
}

/// Its process.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) args: Vec<String>,
    /// `NAME=value`
    pub(super) env: Vec<String>,
    /// It has a terminal.
    pub(super) tty: bool,
    /// It is given input.
    pub(super) stdin: bool,
}

/// A pattern for names. Bytes match, as in Go's engine a `\w` is ASCII.
pub(super) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .unicode(false)
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(PATTERN_BYTES)
        .build()
}

/// Labels and variables that `attached` chooses. `key` makes names fit for the driver. Variables win over labels.
pub(super) fn chosen(
    attached: &Attached,
    subject: &Subject,
    key: fn(&str) -> String,
) -> BTreeMap<String, String> {
    let variables = subject.process.env.iter();
    let variables = variables.filter_map(|variable| variable.split_once('='));
    let labels = subject.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let labels = pick(
        labels.collect(),
        &attached.labels,
        attached.labels_regex.as_deref(),
    );
    let variables = pick(
        variables.collect(),
        &attached.env,
        attached.env_regex.as_deref(),
    );
    let all = labels.into_iter().chain(variables);
    all.map(|(name, value)| (key(name), value.into())).collect()
}

fn pick<'a>(
    all: BTreeMap<&'a str, &'a str>,
    names: &[String],
    matching: Option<&str>,
) -> BTreeMap<&'a str, &'a str> {
    let matching = matching.and_then(|text| pattern(text).ok());
    let mut all = all;
    all.retain(|name, _| {
        let named = names.iter().any(|wanted| wanted == name);
        let matches = |pattern: &Regex| pattern.is_match(name.as_bytes());
        named || matching.as_ref().is_some_and(matches)
    });
    all
}

/// What is wrong with a template, if anything.
pub(super) fn check_tag(template: &str) -> Result<(), String> {
    tag(template, &Subject::default()).map(drop)
}

/// The tag that `template` makes for `subject`.
pub(super) fn tag(template: &str, subject: &Subject) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("{{") {
        out.push_str(text);
        let (action, more) = after
            .split_once("}}")
            .ok_or_else(|| format!("template: log-tag:1: unclosed action in {template:?}"))?;
        out.push_str(&field(action.trim(), subject)?);
        rest = more;
    }
    out.push_str(rest);
    Ok(out)
}

fn field(action: &str, subject: &Subject) -> Result<String, String> {
    let short = |id: &str| id.chars().take(12).collect::<String>();
    let digest = subject.image.manifest.as_str();
    let digest = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    Ok(match action {
        ".ID" => short(&subject.id),
        ".FullID" => subject.id.clone(),
        ".Name" => subject.name.clone(),
        ".ImageID" => short(digest),
        ".ImageFullID" => subject.image.manifest.clone(),
        ".ImageName" => subject.image.name.clone(),
        ".DaemonName" => "docker".into(),
        ".Command" => subject.process.args.join(" "),
        _ => {
            return Err(format!(
                "template: log-tag:1: {{{{{action}}}}} is not one of .ID, .FullID, .Name, .ImageID, .ImageFullID, \
                 .ImageName, .DaemonName, .Command"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            id: "0123456789abcdef".repeat(4),
            name: "web.1".into(),
            labels: [("tier", "front"), ("com.x", "1")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
            image: Image {
                name: "nginx:1".into(),
                manifest: format!("sha256:{}", "ab".repeat(32)),
            },
            process: Process {
                args: vec!["sh".into(), "-c".into(), "x".into()],
                env: vec![
                    "OS=linux".into(),
                    "EMPTY=".into(),
                    "tier=env".into(),
                    "odd".into(),
                ],
                ..Process::default()
            },
        }
    }

    #[test]
    fn names_and_patterns_choose() {
        let attached = Attached {
            labels: vec!["tier".into(), "absent".into()],
            labels_regex: Some("^com\\.".into()),
            env: vec!["OS".into()],
            env_regex: Some("^E\\w+$".into()),
            tag: None,
        };
        let expected = [
            ("EMPTY", ""),
            ("OS", "linux"),
            ("com.x", "1"),
            ("tier", "front"),
        ];
        let chosen = chosen(&attached, &subject(), str::to_string);
        assert_eq!(chosen, expected.map(|(k, v)| (k.into(), v.into())).into());
    }

    #[test]
    fn tags_are_filled_in() {
        let made = |template| tag(template, &subject());
        assert_eq!(made("plain").unwrap(), "plain");
        assert_eq!(made("{{.Name}}/{{ .ID }}!").unwrap(), "web.1/0123456789ab!");
        assert_eq!(made("{{.ImageID}}").unwrap(), "abababababab");
        assert_eq!(made("{{.Command}}").unwrap(), "sh -c x");
        assert!(made("{{.Secret}}").unwrap_err().contains("{{.Secret}}"));
        assert!(made("{{.ID").is_err());
    }
}
