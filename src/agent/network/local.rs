//! The node's own network: addresses of containers that are in no network of the cluster, as on Docker's bridge.
//!
//! Pure. No other node has anything to do with these addresses, so every node may have the same.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::network::Subnet;

/// Ranges that may be the node's own, in order: as Docker's first bridge has its own, 172.17.0.0/16 and on.
fn ranges() -> impl Iterator<Item = Subnet> {
    (17..=31u8).map(|second| Subnet::around([172, second, 0, 0].into(), 16))
}

/// The first range in which nothing is that is known of.
pub(super) fn choose(taken: &[Subnet]) -> Option<Subnet> {
    ranges().find(|range| !taken.iter().any(|other| other.overlaps(range)))
}

/// An address of the range that nobody has: the first behind the last that was given, so that one which was freed rests.
pub(super) fn next(
    range: Subnet,
    last: Option<IpAddr>,
    taken: &BTreeSet<IpAddr>,
) -> Option<IpAddr> {
    // The first is the gateway's, the last one everybody's.
    let most = (1u128 << (32 - u32::from(range.bits().min(30)))) - 2;
    let offset = |addr: IpAddr| match (addr, range.base()) {
        (IpAddr::V4(addr), IpAddr::V4(base)) if range.has(addr.into()) => {
            u128::from(addr.to_bits() - base.to_bits())
        }
        _ => 1,
    };
    let begin = last.map_or(1, offset);
    let around = (begin + 1..=most).chain(2..=begin.min(most));
    around
        .filter_map(|offset| range.at(offset))
        .find(|addr| !taken.contains(addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_is_chosen_in_which_nothing_is() {
        assert_eq!(choose(&[]), Some(subnet("172.17.0.0/16")));
        let taken = [subnet("172.17.4.0/24"), subnet("172.18.0.0/15")];
        assert_eq!(choose(&taken), Some(subnet("172.20.0.0/16")));
        assert_eq!(choose(&[subnet("172.16.0.0/12")]), None);
    }

    #[test]
    fn addresses_go_round() {
        let range = subnet("172.17.0.0/29");
        let mut taken = BTreeSet::new();
        let mut last = None;
        let mut given = Vec::new();
        while let Some(addr) = next(range, last, &taken) {
            taken.insert(addr);
            last = Some(addr);
            given.push(addr.to_string());
        }
        assert_eq!(
            given,
            [
                "172.17.0.2",
                "172.17.0.3",
                "172.17.0.4",
                "172.17.0.5",
                "172.17.0.6"
            ]
        );
        taken.remove(&"172.17.0.3".parse().unwrap());
        assert_eq!(
            next(range, last, &taken),
            Some("172.17.0.3".parse().unwrap())
        );
        let free = BTreeSet::new();
        let last = Some("172.17.0.4".parse().unwrap());
        assert_eq!(
            next(range, last, &free),
            Some("172.17.0.5".parse().unwrap())
        );
    }
}
