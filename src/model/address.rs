//! An address as a user gives it: an IP address or an interface's name, perhaps with a port.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest name of a network interface that Linux takes, in bytes.
const INTERFACE_NAME_MAX: usize = 15;

/// What an address is given by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSpec {
    /// An IP address; may be unspecified (`0.0.0.0`, `::`).
    Ip(IpAddr),
    /// An interface of this machine, whose address is meant.
    Interface(String),
}

/// `<ip|interface>[:port]`, the form of `--listen-addr` and `--advertise-addr`. An IPv6 address with a port
/// stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSpec {
    /// The machine's part.
    pub host: HostSpec,
    /// The port; `None` when none was given.
    pub port: Option<u16>,
}

/// Why a text is no [`AddressSpec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// Nothing, or nothing before the port.
    #[error("the address is empty; give <ip|interface>[:port]")]
    Empty,
    /// What follows the colon is no port.
    #[error("{0:?} is not a port; give a number from 1 to 65535")]
    Port(String),
    /// Neither an IP address nor a possible interface name.
    #[error("{0:?} is neither an IP address nor the name of a network interface")]
    Host(String),
}

impl AddressSpec {
    /// Whether it means every address of the machine.
    pub const fn is_unspecified(&self) -> bool {
        matches!(&self.host, HostSpec::Ip(ip) if ip.is_unspecified())
    }
}

impl fmt::Display for AddressSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (HostSpec::Ip(IpAddr::V6(ip)), Some(port)) => write!(f, "[{ip}]:{port}"),
            (HostSpec::Ip(ip), Some(port)) => write!(f, "{ip}:{port}"),
            (HostSpec::Ip(ip), None) => write!(f, "{ip}"),
            (HostSpec::Interface(name), Some(port)) => write!(f, "{name}:{port}"),
            (HostSpec::Interface(name), None) => f.write_str(name),
        }
    }
}

impl FromStr for AddressSpec {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        if text.is_empty() {
            return Err(ParseAddressError::Empty);
        }
        if let Ok(ip) = text.parse() {
            let host = HostSpec::Ip(ip);
            return Ok(Self { host, port: None });
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (inner, after) = rest
                .split_once(']')
                .ok_or_else(|| ParseAddressError::Host(shown(text)))?;
            let ip = inner
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_ip| ParseAddressError::Host(shown(inner)))?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(parse_port(port)?),
                None if after.is_empty() => None,
                None => return Err(ParseAddressError::Host(shown(text))),
            };
            let host = HostSpec::Ip(ip.into());
            return Ok(Self { host, port });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        let host = parse_host(host)?;
        Ok(Self { host, port })
    }
}

/// As much of a wrong text as an error repeats.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn parse_port(text: &str) -> Result<u16, ParseAddressError> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(ParseAddressError::Port(shown(text))),
    }
}

fn parse_host(text: &str) -> Result<HostSpec, ParseAddressError> {
    if text.is_empty() {
        return Err(ParseAddressError::Empty);
    }
    if let Ok(ip) = text.parse::<std::net::Ipv4Addr>() {
        return Ok(HostSpec::Ip(ip.into()));
    }
    let fits = text.len() <= INTERFACE_NAME_MAX
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    let looks_numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !fits || looks_numeric {
        return Err(ParseAddressError::Host(shown(text)));
    }
    Ok(HostSpec::Interface(text.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for text in [
            "10.0.0.1",
            "10.0.0.1:2377",
            "::1",
            "[fe80::1]:2377",
            "eth0",
            "eth0:4567",
            "0.0.0.0:2377",
            "br-1a2b.100",
        ] {
            let spec: AddressSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
        }
        assert!("0.0.0.0:1".parse::<AddressSpec>().unwrap().is_unspecified());
        assert!(!"eth0".parse::<AddressSpec>().unwrap().is_unspecified());
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, words) in [
            ("", "empty"),
            (":2377", "empty"),
            ("10.0.0.1:0", "not a port"),
            ("10.0.0.1:70000", "not a port"),
            ("10.0.0.1:+5", "not a port"),
            ("eth0:", "not a port"),
            ("10.0.0.300", "neither"),
            ("[::1", "neither"),
            ("[::1]x", "neither"),
            ("[10.0.0.1]:1", "neither"),
            ("an interface", "neither"),
            ("a-name-that-is-too-long", "neither"),
        ] {
            let error = text.parse::<AddressSpec>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            if let Ok(spec) = text.parse::<AddressSpec>() {
                prop_assert_eq!(spec.to_string().parse::<AddressSpec>().unwrap(), spec);
            }
        }
    }
}
