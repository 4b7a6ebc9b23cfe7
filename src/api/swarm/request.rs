//! The bodies of `init` and `join`: what they may ask, in Docker's words where it refuses. Pure.

use std::net::IpAddr;

use serde::Deserialize;

use crate::api::backend::{InitRequest, JoinRequest, Refusal};
use crate::api::call::ApiVersion;
use crate::api::dto::node::parse_availability;
use crate::api::dto::spec::{SpecError, SwarmSpec};
use crate::model::cluster::{default_data_path_port, default_subnet_size};
use crate::model::{AddressSpec, Availability};

/// The longest prefix that Docker cuts subnets with.
const SUBNET_SIZE_MAX: u32 = 29;

impl From<SpecError> for Refusal {
    fn from(error: SpecError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// `SwarmInitRequest`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct InitBody {
    listen_addr: String,
    advertise_addr: String,
    data_path_addr: String,
    data_path_port: u32,
    pub(super) force_new_cluster: bool,
    spec: SwarmSpec,
    auto_lock_managers: bool,
    availability: String,
    default_addr_pool: Vec<String>,
    subnet_size: u32,
}

/// `SwarmJoinRequest`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct JoinBody {
    listen_addr: String,
    advertise_addr: String,
    data_path_addr: String,
    remote_addrs: Vec<String>,
    join_token: String,
    availability: String,
}

impl InitBody {
    /// What it asks for, checked, with Docker's defaults. Old clients cannot choose what their version had not.
    pub(super) fn checked(&self, version: ApiVersion) -> Result<InitRequest, Refusal> {
        let (pool, size) = match version >= ApiVersion(1, 39) {
            true => (self.default_addr_pool.clone(), self.subnet_size),
            false => (Vec::new(), 0),
        };
        let subnet_size = match size {
            0 => default_subnet_size(),
            size => size,
        };
        check_pools(&pool, subnet_size)?;
        let data_path_port = match version >= ApiVersion(1, 40) {
            true => check_data_path_port(self.data_path_port)?,
            false => default_data_path_port(),
        };
        let mut spec = self.spec.checked()?;
        spec.auto_lock |= self.auto_lock_managers;
        Ok(InitRequest {
            listen: listen(&self.listen_addr)?,
            advertise: advertise(&self.advertise_addr)?,
            data_path: data_path(&self.data_path_addr)?,
            data_path_port,
            force_new_cluster: self.force_new_cluster,
            spec,
            availability: availability(&self.availability)?,
            default_addr_pool: pool,
            subnet_size,
            own_root: self.spec.own_root()?,
        })
    }
}

impl JoinBody {
    /// What it asks for, checked as far as it can be without the network.
    pub(super) fn checked(&self) -> Result<JoinRequest, Refusal> {
        let token = self.join_token.trim();
        if token.is_empty() {
            return Err(Refusal::invalid(
                "invalid join token: it is empty; `skein token` on a member prints one",
            ));
        }
        for addr in &self.remote_addrs {
            let plausible = !addr.is_empty()
                && addr.len() <= 262
                && addr.bytes().all(|byte| byte.is_ascii_graphic());
            if !plausible {
                return Err(Refusal::invalid(format!(
                    "invalid remoteAddr {addr:?}: give host[:port]"
                )));
            }
        }
        Ok(JoinRequest {
            listen: listen(&self.listen_addr)?,
            advertise: advertise(&self.advertise_addr)?,
            data_path: data_path(&self.data_path_addr)?,
            remote_addrs: self.remote_addrs.clone(),
            token: token.to_owned(),
            availability: availability(&self.availability)?,
        })
    }
}

fn listen(text: &str) -> Result<Option<AddressSpec>, Refusal> {
    let bad = |_error| {
        Refusal::invalid(
            "listen address must be an IP address or network interface (with optional port number)",
        )
    };
    optional(text).map(|t| t.parse().map_err(bad)).transpose()
}

fn advertise(text: &str) -> Result<Option<AddressSpec>, Refusal> {
    let bad = "advertise address must be a non-zero IP address or network interface (with optional port number)";
    named(text, bad, true)
}

fn data_path(text: &str) -> Result<Option<AddressSpec>, Refusal> {
    let bad = "data path address must be a non-zero IP address or network interface (without a port number)";
    named(text, bad, false)
}

fn named(text: &str, bad: &'static str, port: bool) -> Result<Option<AddressSpec>, Refusal> {
    match optional(text).map(str::parse::<AddressSpec>) {
        None => Ok(None),
        Some(Ok(spec)) if !spec.is_unspecified() && (port || spec.port.is_none()) => Ok(Some(spec)),
        Some(_) => Err(Refusal::invalid(bad)),
    }
}

fn optional(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

fn availability(text: &str) -> Result<Availability, Refusal> {
    if text.is_empty() {
        return Ok(Availability::Active);
    }
    parse_availability(text)
        .ok_or_else(|| Refusal::invalid(format!("invalid Availability: {text:?}")))
}

fn check_data_path_port(port: u32) -> Result<u16, Refusal> {
    match u16::try_from(port) {
        Ok(0) => Ok(default_data_path_port()),
        Ok(port @ 1024..=49151) => Ok(port),
        _ => Err(Refusal::invalid(format!(
            "invalid data path port {port}: it must be between 1024 and 49151"
        ))),
    }
}

fn check_pools(pools: &[String], subnet_size: u32) -> Result<(), Refusal> {
    if subnet_size > SUBNET_SIZE_MAX {
        return Err(Refusal::invalid(format!(
            "subnet size is out of range: {subnet_size}"
        )));
    }
    let mut seen: Vec<(u32, u32, &str)> = Vec::new();
    for pool in pools {
        let Some((start, bits)) = parse_pool(pool) else {
            return Err(Refusal::invalid(format!(
                "invalid base pool {pool}: it must be an IPv4 subnet in CIDR form"
            )));
        };
        if subnet_size < bits {
            return Err(Refusal::invalid(format!(
                "invalid CIDR: {pool:?}. Subnet size is too small for pool: {subnet_size}"
            )));
        }
        for (other, other_bits, text) in &seen {
            let mask = mask(bits.min(*other_bits));
            if start & mask == other & mask {
                return Err(Refusal::invalid(format!(
                    "{pool} network overlaps with {text}"
                )));
            }
        }
        seen.push((start, bits, pool));
    }
    Ok(())
}

fn parse_pool(text: &str) -> Option<(u32, u32)> {
    let (addr, bits) = text.split_once('/')?;
    let IpAddr::V4(addr) = addr.parse().ok()? else {
        return None;
    };
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    Some((addr.to_bits() & mask(bits), bits))
}

const fn mask(bits: u32) -> u32 {
    match bits {
        0 => 0,
        bits => u32::MAX << (32 - bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(list: &[&str], size: u32) -> Result<(), String> {
        let list: Vec<String> = list.iter().map(|one| (*one).into()).collect();
        check_pools(&list, size).map_err(|refusal| refusal.message)
    }

    #[test]
    fn pools_are_checked() {
        assert_eq!(pools(&[], 24), Ok(()));
        assert_eq!(pools(&["10.0.0.0/8", "172.16.0.0/12"], 24), Ok(()));
        for (list, size, words) in [
            (&["10.0.0.0/8"][..], 30, "subnet size is out of range: 30"),
            (&["10.0.0.0"], 24, "invalid base pool 10.0.0.0"),
            (&["10.0.0.0/33"], 24, "invalid base pool 10.0.0.0/33"),
            (&["fd00::/8"], 24, "invalid base pool fd00::/8"),
            (&["10.0.0.0/25"], 24, "invalid CIDR: \"10.0.0.0/25\""),
            (
                &["10.0.0.0/8", "10.9.0.0/16"],
                24,
                "10.9.0.0/16 network overlaps with 10.0.0.0/8",
            ),
            (
                &["0.0.0.0/0", "10.0.0.0/8"],
                24,
                "10.0.0.0/8 network overlaps",
            ),
        ] {
            let error = pools(list, size).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn addresses_are_checked_in_dockers_words() {
        assert_eq!(listen("").unwrap(), None);
        assert!(listen("0.0.0.0:2377").unwrap().is_some());
        assert!(advertise("eth0:1").unwrap().is_some());
        for (refused, words) in [
            (listen("0.0.0.0:0"), "listen address must be an IP address"),
            (
                advertise("0.0.0.0"),
                "advertise address must be a non-zero IP address",
            ),
            (
                data_path("0.0.0.0"),
                "data path address must be a non-zero IP",
            ),
            (
                data_path("10.0.0.1:99"),
                "data path address must be a non-zero IP",
            ),
        ] {
            assert!(refused.unwrap_err().message.starts_with(words));
        }
    }

    #[test]
    fn old_clients_do_not_choose_pools_and_ports() {
        let body = InitBody {
            default_addr_pool: vec!["nonsense".into()],
            subnet_size: 99,
            data_path_port: 1,
            ..InitBody::default()
        };
        let request = body.checked(ApiVersion(1, 38)).unwrap();
        assert!(request.default_addr_pool.is_empty());
        assert_eq!((request.subnet_size, request.data_path_port), (24, 4789));
        assert!(body.checked(ApiVersion(1, 50)).is_err());
    }
}
