//! Networks of the cluster: what a user asked for, and the addresses that were set aside.
//!
//! Services name them, tasks carry that in their spec, and nodes wire them. The networks
//! that every machine has by itself, `host` and `none`, are no objects and never stored.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::task_spec::unset;
use super::{Meta, NetworkId};

/// The driver of networks that span the cluster.
pub const OVERLAY: &str = "overlay";

/// The network that is the machine's own.
pub const HOST: &str = "host";

/// The network that is none.
pub const NONE: &str = "none";

/// A network, as it is kept in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Which.
    pub id: NetworkId,
    /// Version and times.
    pub meta: Meta,
    /// What its user wants.
    pub spec: NetworkSpec,
    /// The addresses that are its own: the user's, or those that the leader has set aside.
    #[serde(default)]
    pub pools: Vec<IpamConfig>,
}

impl Network {
    /// An address with the length of the range that it is in, as Docker writes it: `10.0.1.3/24`.
    pub fn with_length(&self, addr: IpAddr) -> String {
        let ranges = self.pools.iter();
        let mut ranges = ranges.filter_map(|pool| pool.subnet.parse::<Subnet>().ok());
        let bits = ranges
            .find(|range| range.has(addr))
            .map(|range| range.bits());
        let whole = if addr.is_ipv4() { 32 } else { 128 };
        format!("{addr}/{}", bits.unwrap_or(whole))
    }
}

/// Docker's request for a network, in Docker's JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSpec {
    /// Its name; no other network has it.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `overlay`.
    pub driver: String,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
    /// Which addresses it is to have.
    #[serde(rename = "IPAM", skip_serializing_if = "Option::is_none")]
    pub ipam: Option<IpamOptions>,
    /// Nothing outside is reached from it.
    pub internal: bool,
    /// Containers of no service may be attached to it.
    pub attachable: bool,
    /// It carries published ports.
    pub ingress: bool,
    /// Its containers have IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// `swarm`, or nothing.
    #[serde(skip_serializing_if = "unset")]
    pub scope: String,
}

/// How a network's addresses are managed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamOptions {
    /// `default`, or nothing.
    pub driver: String,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
    /// The ranges; chosen when there are none.
    pub config: Vec<IpamConfig>,
}

/// One range of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// The whole of it, in CIDR form.
    #[serde(skip_serializing_if = "unset")]
    pub subnet: String,
    /// The part that containers have theirs from; all of it when empty.
    #[serde(rename = "IPRange", skip_serializing_if = "unset")]
    pub ip_range: String,
    /// The way out; the first address when empty.
    #[serde(skip_serializing_if = "unset")]
    pub gateway: String,
    /// Addresses that others have, by name.
    #[serde(
        rename = "AuxiliaryAddresses",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub auxiliary: BTreeMap<String, String>,
}

/// A range of addresses: those that begin as `base` does, for so many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    base: IpAddr,
    bits: u8,
}

/// Why a text is no subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSubnetError {
    /// It is not an address, a slash and a number of bits.
    #[error("invalid CIDR block notation")]
    Form,
    /// It has bits behind its prefix.
    #[error("it should be {0}")]
    Loose(Subnet),
}

impl Subnet {
    /// The subnet of `bits` around an address. Bits beyond the address' own are cut off.
    pub fn around(addr: IpAddr, bits: u8) -> Self {
        let (value, width) = number(addr);
        let bits = bits.min(width);
        let kept = match width - bits {
            0 => value,
            128 => 0,
            free => value >> free << free,
        };
        Self {
            base: address(kept, width),
            bits,
        }
    }

    /// Its first address, which no container has.
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// Bits that all of its addresses begin with.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The address this far behind the first; `None` beyond the end of addresses.
    pub fn at(&self, offset: u128) -> Option<IpAddr> {
        let (value, width) = number(self.base);
        let sum = value.checked_add(offset)?;
        let fits = width == 128 || sum <= u128::from(u32::MAX);
        fits.then(|| address(sum, width))
    }

    /// How far behind its first address another is; `None` when it is not in it.
    pub fn offset(&self, addr: IpAddr) -> Option<u128> {
        self.has(addr).then(|| number(addr).0 - number(self.base).0)
    }

    /// How many addresses it has, or as many as can be counted.
    pub fn size(&self) -> u128 {
        let free = number(self.base).1 - self.bits;
        1u128.checked_shl(free.into()).unwrap_or(u128::MAX)
    }

    /// Whether an address is in it.
    pub fn has(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.base.is_ipv4() && Self::around(addr, self.bits) == *self
    }

    /// Whether both have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.has(other.base) || other.has(self.base)
    }
}

fn number(addr: IpAddr) -> (u128, u8) {
    match addr {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

fn address(value: u128, width: u8) -> IpAddr {
    match u32::try_from(value) {
        Ok(short) if width == 32 => Ipv4Addr::from_bits(short).into(),
        Ok(_) | Err(_) => Ipv6Addr::from_bits(value).into(),
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

super::as_text!(Subnet);

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    fn from_str(text: &str) -> Result<Self, ParseSubnetError> {
        let (addr, bits) = text.split_once('/').ok_or(ParseSubnetError::Form)?;
        let addr: IpAddr = addr.parse().map_err(|_| ParseSubnetError::Form)?;
        let bits: u8 = bits.parse().map_err(|_| ParseSubnetError::Form)?;
        if bits > number(addr).1 {
            return Err(ParseSubnetError::Form);
        }
        let subnet = Self::around(addr, bits);
        match subnet.base == addr {
            true => Ok(subnet),
            false => Err(ParseSubnetError::Loose(subnet)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subnets_are_read_and_compared() {
        let subnet = |text: &str| text.parse::<Subnet>();
        let (wide, narrow) = (
            subnet("10.0.0.0/8").unwrap(),
            subnet("10.0.1.0/24").unwrap(),
        );
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        assert!(!narrow.overlaps(&subnet("10.0.2.0/24").unwrap()));
        assert!(!narrow.overlaps(&subnet("fd00::/8").unwrap()));
        assert_eq!(narrow.at(1), Some("10.0.1.1".parse().unwrap()));
        let whole = subnet("::/0").unwrap();
        assert!(whole.has("fe80::1".parse().unwrap()));
        assert_eq!(
            subnet("10.0.1.9/24").unwrap_err().to_string(),
            "it should be 10.0.1.0/24"
        );
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/-1"] {
            assert_eq!(subnet(wrong), Err(ParseSubnetError::Form), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_subnet_has_what_it_is_around(bits: u32, length in 0u8..=32) {
            let addr = IpAddr::from(Ipv4Addr::from_bits(bits));
            let subnet = Subnet::around(addr, length);
            prop_assert!(subnet.has(addr));
            prop_assert_eq!(subnet.to_string().parse(), Ok(subnet));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Subnet>();
        }
    }
}
