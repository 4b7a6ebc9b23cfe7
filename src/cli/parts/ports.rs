//! Published ports: `8080:80`, `8000-8002:80-82/udp`, `target=80,published=8080,mode=host`.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::fields;

/// Ports that one value stands for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::cli) struct Ports(pub(in crate::cli) Vec<Value>);

/// Reads either syntax of `--publish`.
pub(in crate::cli) fn publish(text: &str) -> Result<Ports, String> {
    if text.contains('=') {
        return long(text).map(|port| Ports(vec![port]));
    }
    short(text, false).map(Ports)
}

/// `PublishedPort` is left out when it is zero, as docker leaves it out.
pub(in crate::cli) fn port(target: u16, published: u16, protocol: &str, mode: &str) -> Value {
    let mut port = json!({"Protocol": protocol, "TargetPort": target, "PublishMode": mode});
    if published != 0 {
        port["PublishedPort"] = published.into();
    }
    port
}

fn long(text: &str) -> Result<Value, String> {
    let (mut target, mut published) = (0, 0);
    let (mut protocol, mut mode) = ("tcp".to_owned(), "ingress".to_owned());
    for field in fields(&text.to_lowercase())? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field: {field}"))?;
        let number = |what: &str| {
            value.parse::<u16>().map_err(|_| {
                format!("invalid {what} port ({value}): it must be between 0 and 65535")
            })
        };
        match (key, value) {
            ("protocol", "tcp" | "udp" | "sctp") => protocol = value.into(),
            ("protocol", _) => return Err(format!("invalid protocol value '{value}'")),
            ("mode", "ingress" | "host") => mode = value.into(),
            ("mode", _) => {
                return Err(format!(
                    "invalid publish mode value ({value}): must be either 'ingress' or 'host'"
                ));
            }
            ("target", _) => target = number("target")?,
            ("published", _) => published = number("published")?,
            _ => return Err(format!("invalid field key: {key}")),
        }
    }
    match target {
        0 => Err("missing mandatory field 'target'".into()),
        target => Ok(port(target, published, &protocol, &mode)),
    }
}

/// `[[IP:]PUBLISHED:]TARGET[/PROTOCOL]`, either of them a range. An address is an error, or passed over where
/// `any_address` says so.
pub(in crate::cli) fn short(text: &str, any_address: bool) -> Result<Vec<Value>, String> {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("invalid proto: {protocol}"));
    }
    let (rest, target) = match rest.rsplit_once(':') {
        Some((rest, target)) => (Some(rest), target),
        None => (None, rest),
    };
    let published = match rest.and_then(|rest| rest.rsplit_once(':')) {
        Some((_, published)) if any_address => Some(published),
        Some(_) => {
            return Err(format!(
                "{text}: an address is not supported for a service's port"
            ));
        }
        None => rest,
    };
    let targets = range(target)?;
    let Some(published) = published.filter(|published| !published.is_empty()) else {
        return Ok(targets
            .map(|target| port(target, 0, &protocol, "ingress"))
            .collect());
    };
    let published = range(published)?;
    let (wide, narrow) = (published.len(), targets.len());
    let ports: Vec<Value> = match (wide, narrow) {
        (_, 1) => published
            .map(|from| port(*targets.start(), from, &protocol, "ingress"))
            .collect(),
        _ if wide == narrow => published
            .zip(targets)
            .map(|(from, to)| port(to, from, &protocol, "ingress"))
            .collect(),
        _ => {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {text}"
            ));
        }
    };
    Ok(ports)
}

/// A range of ports that are not zero.
pub(in crate::cli) fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("invalid port: {text}");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first: u16 = first.parse().map_err(|_| wrong())?;
    let last: u16 = last.parse().map_err(|_| wrong())?;
    if first == 0 || last < first {
        return Err(wrong());
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        let ingress = |published, target| port(target, published, "tcp", "ingress");
        for (text, ports) in [
            ("8080:80", vec![ingress(8080, 80)]),
            ("80", vec![ingress(0, 80)]),
            ("53:53/udp", vec![port(53, 53, "udp", "ingress")]),
            (
                "8000-8001:80-81",
                vec![ingress(8000, 80), ingress(8001, 81)],
            ),
            ("8000-8001:80", vec![ingress(8000, 80), ingress(8001, 80)]),
            ("80-81", vec![ingress(0, 80), ingress(0, 81)]),
            (
                "published=1,target=2,mode=host,protocol=UDP",
                vec![port(2, 1, "udp", "host")],
            ),
        ] {
            assert_eq!(publish(text), Ok(Ports(ports)), "{text}");
        }
        for text in [
            "",
            "a",
            "0",
            "80/xyz",
            "1.2.3.4:80:80",
            "1-3:1-2",
            "3-1",
            "target=x",
            "published=80",
            "target=80,mode=x",
            "target=80,colour=red",
            "99999:80",
        ] {
            assert!(publish(text).is_err(), "{text}");
        }
    }
}
