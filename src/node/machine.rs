//! What this machine is: name, platform, resources, addresses. Read from the kernel, never stored here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::config::ip_of;
use crate::model::{NodeDescription, Platform, Resources};
use crate::wire::{PROTOCOL_MAX, PROTOCOL_MIN};

/// Interfaces whose addresses no other machine can use: made by container engines for themselves.
const PRIVATE_INTERFACES: [&str; 6] = ["docker", "br-", "veth", "virbr", "cni", "sk-"];

/// Most addresses that a node tells others.
const ADDRESSES_TOLD: usize = 8;

/// Describes the machine; `labels` are the engine's.
pub fn describe(labels: &BTreeMap<String, String>) -> NodeDescription {
    let hostname = nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    NodeDescription {
        hostname,
        platform: Platform {
            architecture: std::env::consts::ARCH.into(),
            os: std::env::consts::OS.into(),
        },
        resources: Resources {
            nano_cpus: nano_cpus(),
            memory_bytes: memory_bytes(),
        },
        engine_version: env!("CARGO_PKG_VERSION").into(),
        runtime: String::new(),
        engine_labels: labels.clone(),
        protocol: (PROTOCOL_MIN, PROTOCOL_MAX),
        generic_resources: Vec::new(),
    }
}

fn nano_cpus() -> i64 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    i64::try_from(cpus).unwrap_or(1) * 1_000_000_000
}

/// Total memory; zero where `/proc/meminfo` cannot be read.
fn memory_bytes() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<i64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Where to bind when told to listen at `wanted`: a machine without IPv6 has no `[::]`, and takes `0.0.0.0` for it.
pub fn bindable(wanted: SocketAddr) -> SocketAddr {
    let every_v6 = wanted.is_ipv6() && wanted.ip().is_unspecified();
    if every_v6 && std::net::UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, 0)).is_err() {
        return SocketAddr::from(([0, 0, 0, 0], wanted.port()));
    }
    wanted
}

/// Where others may reach a socket that is bound to `bound`: its own address when it has one, else each address of the
/// machine of that family, IPv4 first. Loopback is told only when there is nothing else.
pub fn reachable_addresses(bound: SocketAddr) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let mut found: Vec<IpAddr> = interface_addresses()
        .into_iter()
        .filter(|ip| bound.is_ipv6() || ip.is_ipv4())
        .collect();
    found.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    if found.first().is_some_and(|ip| !ip.is_loopback()) {
        found.retain(|ip| !ip.is_loopback());
    }
    found.truncate(ADDRESSES_TOLD);
    found
        .into_iter()
        .map(|ip| SocketAddr::new(ip, bound.port()))
        .collect()
}

fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter(|interface| {
            !PRIVATE_INTERFACES
                .iter()
                .any(|prefix| interface.interface_name.starts_with(prefix))
        })
        .filter_map(|interface| interface.address)
        .filter_map(|address| ip_of(&address))
        .filter(|ip| match ip {
            IpAddr::V4(v4) => !v4.is_link_local(),
            // A link-local IPv6 address means nothing without the interface's name.
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_address_is_the_only_one_told() {
        let bound = "127.0.0.1:2377".parse().unwrap();
        assert_eq!(reachable_addresses(bound), [bound]);
    }

    #[test]
    fn an_unbound_socket_has_some_address() {
        let told = reachable_addresses("0.0.0.0:2377".parse().unwrap());
        assert!(
            told.iter()
                .all(|addr| addr.is_ipv4() && addr.port() == 2377),
            "{told:?}"
        );
    }

    #[test]
    fn the_machine_has_a_name_and_memory() {
        let description = describe(&BTreeMap::new());
        assert!(!description.hostname.is_empty());
        assert!(description.resources.memory_bytes > 0);
        assert!(description.resources.nano_cpus >= 1_000_000_000);
    }
}
