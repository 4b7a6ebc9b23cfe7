//! Limits, preferences, resources, hosts, capabilities: values of one or two parts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// `nofile=1024:2048`, `nofile=1024`, `nofile=-1`.
pub(in crate::cli) fn ulimit(text: &str) -> Result<Value, String> {
    let wrong = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let soft: i64 = soft.parse().map_err(|_| wrong())?;
    let hard: i64 = hard.parse().map_err(|_| wrong())?;
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {text}"
        ));
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

/// `spread=node.labels.zone`.
pub(in crate::cli) fn preference(text: &str) -> Result<Value, String> {
    match text.split_once('=') {
        Some(("spread", over)) if !over.is_empty() => {
            Ok(json!({"Spread": {"SpreadDescriptor": over}}))
        }
        Some((strategy, _)) if strategy != "spread" => Err(format!(
            "unsupported placement preference {strategy} (only spread is supported)"
        )),
        _ => Err("placement preference must be of the format \"<strategy>=<arg>\"".into()),
    }
}

/// `gpu=2`.
pub(in crate::cli) fn generic_resource(text: &str) -> Result<Value, String> {
    let wrong = || format!("invalid generic-resource request `{text}`: give kind=number");
    let (kind, count) = text.split_once('=').ok_or_else(wrong)?;
    let count: i64 = count.parse().map_err(|_| wrong())?;
    if kind.is_empty() || count < 0 {
        return Err(wrong());
    }
    Ok(json!({"DiscreteResourceSpec": {"Kind": kind, "Value": count}}))
}

/// `host:ip` or `host=ip`, checked, as `host:ip`.
pub(in crate::cli) fn host(text: &str) -> Result<String, String> {
    let cut = text.split_once('=').or_else(|| text.split_once(':'));
    let Some((host, address)) = cut.filter(|(host, _)| !host.is_empty()) else {
        return Err(format!("bad format for add-host: {text:?}"));
    };
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if address != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{host}:{bare}"))
}

/// `host:ip` as the cluster keeps it, `ip host`.
pub(in crate::cli) fn swarm_host(text: &str) -> String {
    let (host, address) = text.split_once(':').unwrap_or((text, ""));
    format!("{address} {host}")
}

/// `config://name`, `file://path`, `registry://key`; nothing takes away what there was.
pub(in crate::cli) fn credential_spec(text: &str) -> Result<Value, String> {
    match text.split_once("://") {
        _ if text.is_empty() => Ok(Value::Null),
        Some(("config", name)) => Ok(json!({"Config": name})),
        Some(("file", path)) => Ok(json!({"File": path})),
        Some(("registry", key)) => Ok(json!({"Registry": key})),
        _ => Err(
            "invalid credential spec: value must be prefixed with \"config://\", \"file://\", or \
             \"registry://\""
                .into(),
        ),
    }
}

/// `a=b` pairs as a map; a key alone has an empty value.
pub(in crate::cli) fn map(pairs: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    pairs.iter().map(pair).collect()
}

/// Capabilities as they are stored: `CAP_` before each, in upper case, each once.
pub(in crate::cli) fn capabilities<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> BTreeSet<String> {
    let normal = |name: &str| {
        let name = name.trim().to_uppercase();
        match name.as_str() {
            "ALL" | "RESET" => name,
            _ if name.starts_with("CAP_") => name,
            _ => format!("CAP_{name}"),
        }
    };
    names.into_iter().map(normal).collect()
}

/// What is left to add and to drop: all stands for everything, and adding comes before dropping.
pub(in crate::cli) fn effective(
    add: &[String],
    drop: &[String],
) -> (BTreeSet<String>, BTreeSet<String>) {
    let whole = |set: BTreeSet<String>| match set.contains("ALL") {
        true => BTreeSet::from(["ALL".to_owned()]),
        false => set,
    };
    let add = whole(capabilities(add.iter().map(String::as_str)));
    let drop = whole(capabilities(drop.iter().map(String::as_str)));
    let drop = drop.difference(&add).cloned().collect();
    (add, drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_are_read() {
        assert_eq!(
            ulimit("nofile=1024:2048"),
            Ok(json!({"Name": "nofile", "Soft": 1024, "Hard": 2048}))
        );
        assert_eq!(
            ulimit("nproc=-1"),
            Ok(json!({"Name": "nproc", "Soft": -1, "Hard": -1}))
        );
        assert!(
            ulimit("nofile=3:2").is_err() && ulimit("nofile").is_err() && ulimit("a=b").is_err()
        );
        assert_eq!(
            preference("spread=node.labels.z"),
            Ok(json!({"Spread": {"SpreadDescriptor": "node.labels.z"}}))
        );
        assert!(preference("binpack=x").is_err() && preference("spread").is_err());
        assert_eq!(
            generic_resource("gpu=2"),
            Ok(json!({"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}))
        );
        assert!(generic_resource("gpu=UUID").is_err());
        assert_eq!(host("db:10.0.0.1"), Ok("db:10.0.0.1".into()));
        assert_eq!(
            host("db=[::1]").map(|host| swarm_host(&host)),
            Ok("::1 db".into())
        );
        assert!(host("db").is_err() && host("db:x").is_err());
        assert_eq!(credential_spec("file://x"), Ok(json!({"File": "x"})));
        assert!(credential_spec("x").is_err());
    }

    #[test]
    fn adding_a_capability_comes_before_dropping_it() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let text = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        assert_eq!(
            effective(
                &text(&["net_admin", "CAP_SYS_TIME"]),
                &text(&["all", "NET_ADMIN"])
            ),
            (set(&["CAP_NET_ADMIN", "CAP_SYS_TIME"]), set(&["ALL"]))
        );
    }
}
