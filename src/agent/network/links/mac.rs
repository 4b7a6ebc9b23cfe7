//! Hardware addresses, made of what they belong to, so that nobody has to ask for them.
//!
//! Called by every part of this room, and by whoever tells other nodes which machine a packet came from. They are
//! never random: whoever repairs an interface gives it the address it had.

use std::net::IpAddr;

use crate::model::NodeId;

/// The machine's end of every container's cable. Each end is on a cable of its own, so that one address serves all.
pub(super) const HOST: [u8; 6] = [0xee; 6];

/// The hardware address of a node's end of the tunnel: `02:` and 40 bits of its ID. The packet filter knows by it which
/// node a packet came through.
pub fn mac_of(node: NodeId) -> [u8; 6] {
    let [first, second, third, fourth, fifth, ..] = node.bits().to_be_bytes();
    [0x02, first, second, third, fourth, fifth]
}

/// The hardware address of a container's end: of its first address there.
pub(super) fn of_addresses(addresses: &[IpAddr]) -> [u8; 6] {
    match addresses.first() {
        Some(IpAddr::V4(v4)) => {
            let [first, second, third, fourth] = v4.octets();
            [0x02, 0x42, first, second, third, fourth]
        }
        Some(IpAddr::V6(v6)) => {
            let [.., first, second, third, fourth] = v6.octets();
            [0x02, 0x46, first, second, third, fourth]
        }
        None => [0x02, 0x42, 0, 0, 0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_is_of_one_machine_and_given_locally() {
        let node = NodeId::from_bits(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        assert_eq!(mac_of(node), [2, 1, 2, 3, 4, 5]);
        let of = |text: &str| of_addresses(&[text.parse().unwrap()]);
        for mac in [mac_of(node), of("10.0.1.11"), of("fd00::1:2"), HOST] {
            assert_eq!(mac[0] & 3, 2, "not to many, and not a maker's: {mac:x?}");
        }
        assert_ne!(of("10.0.1.11"), of("10.0.1.12"));
    }
}
