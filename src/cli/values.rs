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

/// `--host`: the socket, or an entry of the hosts file where a command takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostOrEntry {
    /// The socket.
    Host(Host),
    /// `name:ip`.
    Entry(String),
}

/// Reads either.
pub(super) fn host_or_entry(text: &str) -> Result<HostOrEntry, String> {
    match host(text) {
        Ok(host) => Ok(HostOrEntry::Host(host)),
        Err(error) => super::parts::small::host(text)
            .map(HostOrEntry::Entry)
            .map_err(|_no_entry| error),
    }
}

/// The socket when none is named.
pub(super) fn usual_host() -> anyhow::Result<Host> {
    match std::env::var("SKEIN_HOST") {
        Ok(named) if !named.is_empty() => {
            host(&named).map_err(|error| anyhow::anyhow!("SKEIN_HOST: {error}"))
        }
        _ => Ok(Host::Unix(USUAL_SOCKET.into())),
    }
}

/// Where the daemon of this machine listens.
const USUAL_SOCKET: &str = "/run/skein/skein.sock";

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

/// Bytes, written as docker reads them: `64m`, `1.5GiB`, `100`; each unit is 1024 of the one before.
pub(super) fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || "give a size such as 64m, 1.5g or 1048576".to_owned();
    let lower = text.trim().to_ascii_lowercase();
    let end = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let unit = unit.trim();
    let unit = unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * 1024f64.powi(power);
    if bytes < 9e18 {
        Ok(bytes as i64)
    } else {
        Err(wrong())
    }
}

/// CPUs as billionths: `0.5` is 500000000.
pub(super) fn cpus(text: &str) -> Result<i64, String> {
    match text.parse::<f64>() {
        Ok(cpus) if (0.0..1e9).contains(&cpus) => Ok((cpus * 1e9).round() as i64),
        _ => Err("give a number of CPUs such as 0.5 or 2".into()),
    }
}

/// A duration in nanoseconds, as [`GoDuration`] reads it.
pub(super) fn nanos(text: &str) -> Result<i64, String> {
    if text == "0" {
        return Ok(0);
    }
    text.parse().map(|GoDuration(nanos)| nanos)
}

/// The words of a command, as a shell takes them apart.
pub(super) fn words(text: &str) -> Result<Words, String> {
    match text.trim() {
        "" => Ok(Words(Vec::new())),
        text => shlex::split(text)
            .map(Words)
            .ok_or_else(|| "a quote is not closed".into()),
    }
}

/// A command in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words(pub(super) Vec<String>);

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
    fn sizes_and_commands_are_read() {
        for (text, size) in [
            ("100", Some(100)),
            ("64m", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("2 kb", Some(2048)),
            ("m", None),
            ("1x", None),
            ("-1", None),
            ("9999999p", None),
        ] {
            assert_eq!(bytes(text).ok(), size, "{text}");
        }
        assert_eq!(cpus("0.25"), Ok(250_000_000));
        assert!(cpus("-1").is_err() && cpus("many").is_err());
        assert_eq!(words("sh -c 'a b'").unwrap().0, ["sh", "-c", "a b"]);
        assert_eq!(words(" ").unwrap().0, Vec::<String>::new());
        assert!(words("a 'b").is_err());
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
            let _ = bytes(&text);
            let _ = cpus(&text);
            let _ = words(&text);
        }
    }
}
