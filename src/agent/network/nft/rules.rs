//! What the packet filter is to do, as values; and the elements of its sets that say so.
//!
//! Pure. IPv4 alone: what is of IPv6 here is not filtered, balanced or published.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::model::network::Subnet;
use crate::model::plane::Protocol;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// This node's addresses between nodes.
    pub own: Vec<IpAddr>,
    /// The UDP port of packets between nodes.
    pub port: u16,
    /// Who may send to it.
    pub peers: BTreeSet<IpAddr>,
    /// The hardware addresses of peers in the tunnel, and this node's numbers for them: 1 to 32,767.
    pub marks: BTreeMap<[u8; 6], u16>,
    /// Networks of containers.
    pub pools: Vec<Pool>,
    /// Addresses of containers here.
    pub hairpin: BTreeSet<IpAddr>,
    /// Addresses that stand for others. One that stands for none is refused at once.
    pub balancers: BTreeMap<IpAddr, Vec<IpAddr>>,
    /// Published ports.
    pub ports: BTreeMap<(Protocol, u16), Target>,
}

/// A network's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Its ranges.
    pub subnets: Vec<Subnet>,
    /// Nothing outside is reached from it.
    pub internal: bool,
    /// It is the node's own: nothing of it goes to peers.
    pub local: bool,
    /// Its containers do not reach each other: it carries published ports alone.
    pub ingress: bool,
}

/// Where a published port leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Addresses and ports.
    pub backends: Vec<(IpAddr, u16)>,
    /// They see this node's address rather than the client's.
    pub snat: bool,
}

/// One element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    /// The last key of a range.
    pub(super) last: Option<Vec<u8>>,
    /// It is the first key behind a range.
    pub(super) ends: bool,
    pub(super) data: Option<Vec<u8>>,
}

impl Element {
    fn of(key: &[u8]) -> Self {
        Self {
            key: key.to_owned(),
            last: None,
            ends: false,
            data: None,
        }
    }

    fn with(key: &[u8], data: &[u8]) -> Self {
        Self {
            data: Some(data.to_owned()),
            ..Self::of(key)
        }
    }
}

impl Rules {
    /// This node's address.
    pub(super) fn own_v4(&self) -> Ipv4Addr {
        let mut own = self.own.iter().filter_map(|addr| v4(*addr));
        own.next().unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// The sets that change as a whole.
    pub(super) fn sets(&self) -> [(&'static str, Vec<Element>); 8] {
        let addresses = |all: &BTreeSet<IpAddr>| -> Vec<Element> {
            let all = all.iter().filter_map(|addr| v4(*addr));
            all.map(|addr| Element::of(&addr.octets())).collect()
        };
        let hairpin = self.hairpin.iter().filter_map(|addr| v4(*addr));
        let hairpin = hairpin.map(|addr| Element::of(&[addr.octets(), addr.octets()].concat()));
        let empty = self.balancers.iter();
        let empty = empty.filter(|(_, behind)| !behind.iter().any(IpAddr::is_ipv4));
        let empty: BTreeSet<IpAddr> = empty.map(|(vip, _)| *vip).collect();
        let marks = self.marks.iter();
        let marks = marks
            .map(|(mac, number)| Element::with(mac, &(u32::from(*number) << 16).to_ne_bytes()));
        let zones = self.marks.iter();
        let zones = zones.map(|(mac, number)| Element::with(mac, &number.to_ne_bytes()));
        [
            ("same", self.same()),
            ("overlay", merged(self.pools.iter())),
            (
                "internal",
                merged(self.pools.iter().filter(|pool| pool.internal)),
            ),
            ("peers", addresses(&self.peers)),
            ("hairpin", hairpin.collect()),
            ("empty", addresses(&empty)),
            ("marks", marks.collect()),
            ("zones", zones.collect()),
        ]
    }

    /// Who reaches whom directly.
    fn same(&self) -> Vec<Element> {
        let open = self.pools.iter().filter(|pool| !pool.ingress);
        open.flat_map(|pool| {
            let ranges: Vec<(Ipv4Addr, Ipv4Addr)> = pool.subnets.iter().filter_map(range).collect();
            let pairs = ranges
                .clone()
                .into_iter()
                .flat_map(move |from| ranges.clone().into_iter().map(move |to| (from, to)));
            pairs.map(|(from, to)| Element {
                last: Some([from.1.octets(), to.1.octets()].concat()),
                ..Element::of(&[from.0.octets(), to.0.octets()].concat())
            })
        })
        .collect()
    }
}

pub(super) fn v4(addr: IpAddr) -> Option<Ipv4Addr> {
    match addr {
        IpAddr::V4(addr) => Some(addr),
        IpAddr::V6(_) => None,
    }
}

/// A subnet's first and last address.
fn range(subnet: &Subnet) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let first = v4(subnet.base())?;
    let free = u32::MAX.checked_shr(subnet.bits().into()).unwrap_or(0);
    Some((first, Ipv4Addr::from_bits(first.to_bits() | free)))
}

/// Ranges as the kernel has them: each one's first address, and the first behind it. None may touch another.
fn merged<'a>(pools: impl Iterator<Item = &'a Pool>) -> Vec<Element> {
    let subnets = pools.flat_map(|pool| &pool.subnets);
    let mut ranges: Vec<(u64, u64)> = subnets
        .filter_map(range)
        .map(|(first, last)| (first.to_bits().into(), u64::from(last.to_bits()) + 1))
        .collect();
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, behind) in ranges {
        match joined.last_mut() {
            Some(last) if first <= last.1 => last.1 = last.1.max(behind),
            _ => joined.push((first, behind)),
        }
    }
    let element = |at: u64, ends| {
        let at = u32::try_from(at).ok()?;
        Some(Element {
            ends,
            ..Element::of(&at.to_be_bytes())
        })
    };
    let ends = joined
        .into_iter()
        .flat_map(|(first, behind)| [element(first, false), element(behind, true)]);
    ends.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnets: &[&str]) -> Pool {
        Pool {
            subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
            ..Pool::default()
        }
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let pools = [
            pool(&["10.0.1.0/24", "10.0.0.0/24"]),
            pool(&["10.4.0.0/16"]),
        ];
        let keys: Vec<(Vec<u8>, bool)> = merged(pools.iter())
            .into_iter()
            .map(|element| (element.key, element.ends))
            .collect();
        let wanted = [
            (vec![10, 0, 0, 0], false),
            (vec![10, 0, 2, 0], true),
            (vec![10, 4, 0, 0], false),
            (vec![10, 5, 0, 0], true),
        ];
        assert_eq!(keys, wanted);
    }

    #[test]
    fn nobody_reaches_another_by_the_network_of_published_ports() {
        let ingress = Pool {
            ingress: true,
            ..pool(&["10.0.0.0/24"])
        };
        let rules = Rules {
            pools: vec![ingress, pool(&["10.0.1.0/24"])],
            ..Rules::default()
        };
        let same = rules.same();
        assert_eq!(same.len(), 1);
        assert_eq!(same[0].key, [10, 0, 1, 0, 10, 0, 1, 0]);
        assert_eq!(same[0].last, Some(vec![10, 0, 1, 255, 10, 0, 1, 255]));
    }

    #[test]
    fn who_stands_for_nobody_is_empty() {
        let balancers = [
            ("10.0.1.2".parse().unwrap(), Vec::new()),
            (
                "10.0.1.3".parse().unwrap(),
                vec!["10.0.1.17".parse().unwrap()],
            ),
        ];
        let rules = Rules {
            balancers: balancers.into(),
            ..Rules::default()
        };
        let sets = rules.sets();
        let (_, empty) = sets.iter().find(|(name, _)| *name == "empty").unwrap();
        assert_eq!(empty, &[Element::of(&[10, 0, 1, 2])]);
    }
}
