//! What a request for a network tells by itself: whether there can be such a network. Pure.
//!
//! Whether its name and its addresses are free is seen at the leader (`manager::networks`).

use std::net::IpAddr;

use crate::api::backend::{Refusal, RefusalClass};
use crate::api::dto::network::NetworkCreate;
use crate::model::network::{HOST, IpamConfig, NONE, OVERLAY, ParseSubnetError, Subnet};

/// Networks that are nobody's to make.
const PREDEFINED: [&str; 4] = [HOST, NONE, "bridge", "default"];

/// Docker's drivers of networks of one machine.
const OF_A_MACHINE: [&str; 7] = ["", "bridge", "default", "host", "null", "macvlan", "ipvlan"];

/// Why there is no such network; Docker's words where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NetworkProblem {
    #[error("invalid name: name is empty")]
    NoName,
    #[error("name must be valid as a DNS name component")]
    Name,
    #[error("operation is not permitted on predefined {0} network")]
    Predefined(String),
    #[error(
        "skein has networks that span the cluster, of the driver \"overlay\", and none of a machine in this version: add \
         --driver overlay"
    )]
    OfAMachine,
    #[error("plugin {0:?} not found")]
    Driver(String),
    #[error("the ingress network carries published ports alone: leave Attachable out")]
    Ingress,
    #[error(
        "a network of the cluster is not configured by another: leave ConfigOnly and ConfigFrom out"
    )]
    Config,
    #[error("IPv4 cannot be disabled in a Swarm scoped network")]
    NoIpv4,
    #[error("invalid network config:\ninvalid subnet {0}: {1}")]
    Subnet(String, ParseSubnetError),
    #[error("invalid network config:\ninvalid {0} {1}: {2}")]
    Address(&'static str, String, String),
    #[error("no subnet is given for {0}")]
    NoSubnet(String),
    #[error("invalid network config:\nsubnets {0} and {1} overlap")]
    Overlap(String, String),
}

impl From<NetworkProblem> for Refusal {
    fn from(problem: NetworkProblem) -> Self {
        let class = match &problem {
            NetworkProblem::Predefined(_) => RefusalClass::Forbidden,
            NetworkProblem::Driver(_) => RefusalClass::NotFound,
            NetworkProblem::OfAMachine => RefusalClass::NotImplemented,
            _ => RefusalClass::Invalid,
        };
        Self::new(class, problem.to_string())
    }
}

/// Refuses what no network can be.
pub(super) fn check(order: &NetworkCreate) -> Result<(), NetworkProblem> {
    let name = order.name.as_str();
    if name.trim().is_empty() {
        return Err(NetworkProblem::NoName);
    }
    if PREDEFINED.contains(&name) {
        return Err(NetworkProblem::Predefined(name.into()));
    }
    match order.driver.as_str() {
        OVERLAY => {}
        driver if OF_A_MACHINE.contains(&driver) => return Err(NetworkProblem::OfAMachine),
        driver => return Err(NetworkProblem::Driver(driver.into())),
    }
    if order.ingress && order.attachable {
        return Err(NetworkProblem::Ingress);
    }
    if order.config_only || order.is_copied() {
        return Err(NetworkProblem::Config);
    }
    if order.enable_ipv4 == Some(false) {
        return Err(NetworkProblem::NoIpv4);
    }
    check_name(name)?;
    let ipam = order.ipam.as_ref();
    let mut seen: Vec<Subnet> = Vec::new();
    for config in ipam.iter().flat_map(|ipam| &ipam.config) {
        let subnet = check_pool(config)?;
        if let Some(other) = seen.iter().find(|other| other.overlaps(&subnet)) {
            return Err(NetworkProblem::Overlap(
                other.to_string(),
                subnet.to_string(),
            ));
        }
        seen.push(subnet);
    }
    Ok(())
}

/// A label of the DNS, with underscores, as a service's.
fn check_name(name: &str) -> Result<(), NetworkProblem> {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let mut bytes = name.bytes();
    let allowed = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match allowed && ends(name.as_bytes().first()) && ends(name.as_bytes().last()) {
        true => Ok(()),
        false => Err(NetworkProblem::Name),
    }
}

fn check_pool(config: &IpamConfig) -> Result<Subnet, NetworkProblem> {
    if config.subnet.is_empty() {
        let what = [&config.gateway, &config.ip_range];
        let what = what.into_iter().find(|text| !text.is_empty());
        let what = what.cloned().unwrap_or_else(|| "the network".into());
        return Err(NetworkProblem::NoSubnet(what));
    }
    let wrong = |error| NetworkProblem::Subnet(config.subnet.clone(), error);
    let subnet: Subnet = config.subnet.parse().map_err(wrong)?;
    let address = |what: &'static str, text: &str| {
        let problem = |why: String| NetworkProblem::Address(what, text.into(), why);
        let addr = text.parse::<IpAddr>();
        let addr = addr.map_err(|_| problem("invalid address".into()))?;
        match subnet.has(addr) {
            true => Ok(()),
            false => Err(problem(format!(
                "parent subnet {subnet} doesn't contain it"
            ))),
        }
    };
    if !config.gateway.is_empty() {
        address("gateway", &config.gateway)?;
    }
    for text in config.auxiliary.values() {
        address("auxiliary address", text)?;
    }
    if !config.ip_range.is_empty() {
        let problem =
            |why: String| NetworkProblem::Address("ip-range", config.ip_range.clone(), why);
        let range = config.ip_range.parse::<Subnet>();
        let range = range.map_err(|error| problem(error.to_string()))?;
        if !subnet.has(range.base()) || range.bits() < subnet.bits() {
            return Err(problem(format!(
                "parent subnet {subnet} doesn't contain it"
            )));
        }
    }
    Ok(subnet)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn checked(change: Value, words: &str) {
        let mut order = json!({"Name": "web", "Driver": "overlay"});
        for (key, value) in change.as_object().unwrap() {
            order[key] = value.clone();
        }
        let outcome = check(&serde_json::from_value(order).unwrap());
        let said = outcome
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(
            said.contains(words) && said.is_empty() == words.is_empty(),
            "{change}: {said}"
        );
    }

    #[test]
    fn what_there_cannot_be_is_refused() {
        let pool = |config: Value| json!({"IPAM": {"Config": [config]}});
        for (change, words) in [
            (json!({}), ""),
            (json!({"Internal": true, "Attachable": true}), ""),
            (json!({"Options": {"encrypted": ""}}), ""),
            (json!({"IPAM": null}), ""),
            (
                pool(
                    json!({"Subnet": "10.9.0.0/16", "Gateway": "10.9.0.1", "IPRange": "10.9.1.0/24"}),
                ),
                "",
            ),
            (
                pool(json!({"Subnet": "10.9.0.0/16", "AuxiliaryAddresses": {"a": "10.9.0.5"}})),
                "",
            ),
            (json!({"Name": " "}), "invalid name: name is empty"),
            (
                json!({"Name": "a.b"}),
                "name must be valid as a DNS name component",
            ),
            (
                json!({"Name": "host"}),
                "operation is not permitted on predefined host network",
            ),
            (json!({"Driver": "bridge"}), "add --driver overlay"),
            (json!({"Driver": ""}), "add --driver overlay"),
            (json!({"Driver": "weave"}), "plugin \"weave\" not found"),
            (json!({"Ingress": true}), ""),
            (
                json!({"Ingress": true, "Attachable": true}),
                "carries published ports alone",
            ),
            (json!({"ConfigOnly": true}), "not configured by another"),
            (
                json!({"EnableIPv4": false}),
                "IPv4 cannot be disabled in a Swarm scoped network",
            ),
            (
                pool(json!({"Subnet": "10.9.0.0"})),
                "invalid subnet 10.9.0.0: invalid CIDR block notation",
            ),
            (
                pool(json!({"Subnet": "10.9.0.1/16"})),
                "it should be 10.9.0.0/16",
            ),
            (
                pool(json!({"Subnet": "10.9.0.0/16", "Gateway": "10.8.0.1"})),
                "invalid gateway 10.8.0.1",
            ),
            (
                pool(json!({"Subnet": "10.9.0.0/16", "IPRange": "10.8.0.0/15"})),
                "invalid ip-range",
            ),
            (
                pool(json!({"Gateway": "10.8.0.1"})),
                "no subnet is given for 10.8.0.1",
            ),
        ] {
            checked(change, words);
        }
        let twice =
            json!({"IPAM": {"Config": [{"Subnet": "10.9.0.0/16"}, {"Subnet": "10.9.1.0/24"}]}});
        checked(twice, "subnets 10.9.0.0/16 and 10.9.1.0/24 overlap");
    }
}
