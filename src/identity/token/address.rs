//! Addresses in join tokens: `host[:port]`, where a host is a name, an IPv4 address or an IPv6 address in brackets.

use std::net::{Ipv4Addr, Ipv6Addr};

/// One `host[:port]`; an IPv6 address without brackets gets them.
pub(super) fn parse_address(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if let Ok(host) = text.parse::<Ipv6Addr>() {
        return Ok(format!("[{host}]"));
    }
    if let Some(inner) = text.strip_prefix('[') {
        let (host, after) = inner.split_once(']').ok_or("a ] is missing")?;
        let host: Ipv6Addr = host
            .parse()
            .map_err(|_| "what is in brackets is not an IPv6 address")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok(format!("[{host}]:{}", parse_port(port)?)),
            None if after.is_empty() => Ok(format!("[{host}]")),
            None => Err("only :port may follow the ]"),
        };
    }
    match text.split_once(':') {
        Some((host, port)) => {
            check_host(host)?;
            Ok(format!("{host}:{}", parse_port(port)?))
        }
        None => check_host(text).map(|()| text.to_owned()),
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err("a port is a number from 1 to 65535"),
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.len() > 253 {
        return Err("a host name has at most 253 characters");
    }
    if host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return match host.parse::<Ipv4Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err("it is not an IPv4 address"),
        };
    }
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.split('.').all(label_is_good) {
        Ok(())
    } else {
        Err("a host name has letters, digits, - and dots")
    }
}
