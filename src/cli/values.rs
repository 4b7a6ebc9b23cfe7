//! Values of options, checked by clap before anything happens.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// `--host`: where the daemon's socket is, or where a daemon listens besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A socket of this machine.
    Unix(PathBuf),
    /// Address and port, for a daemon alone.
    Tcp(String),
}

impl Host {
    /// The socket's path, for a command that asks a daemon.
    pub(super) fn path(&self) -> anyhow::Result<&Path> {
        match self {
            Self::Unix(path) => Ok(path),
            Self::Tcp(addr) => anyhow::bail!(
                "--host tcp://{addr}: skein's own commands use a socket of this machine; from elsewhere use docker"
            ),
        }
    }

    /// The TCP address, for a daemon.
    pub(super) fn tcp(self) -> Option<String> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(addr) => Some(addr),
        }
    }
}

/// Reads `unix:///path` or `/path`, or `tcp://address:port`.
pub(super) fn host(text: &str) -> Result<Host, String> {
    if let Some(addr) = text.strip_prefix("tcp://") {
        return Ok(Host::Tcp(addr.into()));
    }
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') {
        return Ok(Host::Unix(path.into()));
    }
    Err("give the socket as unix:///path/to/skein.sock".into())
}

/// A duration in nanoseconds, written as Go writes it: `90m`, `2160h0m0s`, `1.5s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoDuration(pub(super) i64);

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text)
            .map(Self)
            .ok_or_else(|| "give a duration such as 30s, 90m or 2160h".into())
    }
}

fn parse_duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let nanos = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * nanos;
        rest = tail;
    }
    (total < 9e18).then_some(total.round() as i64)
}

/// `key=value`, or `key` for an empty value.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err("give a label as key=value".into());
    }
    Ok((key.into(), value.into()))
}

/// `key=value` of a filter.
pub(super) fn filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_lowercase(), value.trim().into()))
        }
        _ => Err("give a filter as key=value".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [
            ("2160h0m0s", Some(7_776_000_000_000_000)),
            ("5s", Some(5_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("100ms", Some(100_000_000)),
            ("7µs", Some(7_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("5d", None),
            ("1..5s", None),
            ("999999999h", None),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
    }

    #[test]
    fn hosts_are_unix_sockets() {
        for text in ["unix:///a/b", "/a/b"] {
            assert_eq!(host(text).unwrap().path().unwrap(), Path::new("/a/b"));
        }
        let tcp = host("tcp://192.0.2.7:2376").unwrap();
        let words = tcp.path().unwrap_err().to_string();
        assert!(words.contains("use a socket of this machine"), "{words}");
        assert_eq!(tcp.tcp().as_deref(), Some("192.0.2.7:2376"));
        assert!(host("http://a").is_err());
        assert!(host("").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = parse_duration(&text);
            let _ = host(&text);
            let _ = label(&text);
            let _ = filter(&text);
        }
    }
}
