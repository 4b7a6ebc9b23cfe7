//! One subnet, address by address.

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::default().after(Duration::from_secs(seconds))
}

fn node(number: u128) -> Holder {
    Holder::Node(NodeId::from_bits(number))
}

fn space(subnet: &str, gateway: &str) -> Space {
    let pool = IpamConfig {
        subnet: subnet.into(),
        gateway: gateway.into(),
        ..IpamConfig::default()
    };
    Space::new(&pool).unwrap()
}

fn taken(space: &mut Space, holder: Holder, now: u64) -> String {
    let addr = space.take(holder, at(now));
    addr.map_or_else(|| "none".into(), |addr| addr.to_string())
}

#[test]
fn each_node_has_a_block_and_the_first_is_for_services() {
    let mut space = space("10.0.1.0/24", "10.0.1.1");
    assert_eq!(taken(&mut space, node(1), 0), "10.0.1.16");
    assert_eq!(taken(&mut space, node(2), 0), "10.0.1.32");
    assert_eq!(taken(&mut space, node(1), 0), "10.0.1.17");
    assert_eq!(taken(&mut space, Holder::Service, 0), "10.0.1.2");
    assert_eq!(taken(&mut space, Holder::Service, 0), "10.0.1.3");
    for _ in 0..14 {
        taken(&mut space, node(1), 0);
    }
    // Its block is used up.
    assert_eq!(taken(&mut space, node(1), 0), "10.0.1.48");
}

#[test]
fn what_was_given_back_rests_as_long_as_there_is_another() {
    let mut space = space("10.0.1.0/24", "10.0.1.1");
    let first: IpAddr = "10.0.1.16".parse().unwrap();
    for number in 16..32 {
        let addr = taken(&mut space, node(1), 0);
        assert_eq!(addr, format!("10.0.1.{number}"));
    }
    space.release(first, node(1), Some(at(0)));
    assert_eq!(taken(&mut space, node(1), 59), "10.0.1.32");
    assert_eq!(taken(&mut space, node(1), 60), "10.0.1.16");
}

#[test]
fn addresses_of_a_block_go_round() {
    let mut space = space("10.0.1.0/24", "10.0.1.1");
    let keeps = taken(&mut space, node(1), 0);
    let mut seen = vec![keeps];
    for round in 1..16 {
        let addr = taken(&mut space, node(1), round * 100);
        let given_back = addr.parse().unwrap();
        space.release(given_back, node(1), Some(at(round * 100)));
        seen.push(addr);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 16);
}

#[test]
fn the_longest_rested_comes_first_when_nothing_else_is_left() {
    let mut space = space("10.0.1.0/28", "10.0.1.1");
    let mut held = Vec::new();
    while let Some(addr) = space.take(node(1), at(0)) {
        held.push(addr);
    }
    assert!(space.is_full());
    // The subnet's own, the gateway's and the one that means all are nobody's.
    assert_eq!(held.len(), 13);
    space.release(held[5], node(1), Some(at(3)));
    space.release(held[2], node(1), Some(at(2)));
    assert!(!space.is_full());
    assert_eq!(space.take(node(2), at(4)), Some(held[2]));
    assert_eq!(space.take(node(2), at(4)), Some(held[5]));
    assert_eq!(space.take(node(2), at(4)), None);
}

#[test]
fn crowded_nodes_have_single_addresses_of_others_and_of_the_services() {
    let mut space = space("10.0.1.0/24", "10.0.1.1");
    for number in 1..=15 {
        taken(&mut space, node(number), 0);
    }
    assert_eq!(taken(&mut space, node(16), 0), "10.0.1.17");
    let mut count = 16;
    while space.take(node(17), at(0)).is_some() {
        count += 1;
    }
    assert_eq!(count, 253);
    assert_eq!(space.capacity(), 253);
}

#[test]
fn small_subnets_are_used_to_the_last() {
    for (subnet, gateway, count) in [
        ("10.0.1.0/29", "10.0.1.1", 5),
        ("10.0.1.0/30", "10.0.1.1", 1),
        ("10.0.1.0/31", "", 1),
        ("10.0.1.0/32", "", 0),
        ("fd00::/125", "fd00::1", 6),
    ] {
        let mut space = space(subnet, gateway);
        assert_eq!(space.capacity(), count, "{subnet}");
        let mut seen = BTreeSet::new();
        for number in 0..count {
            let holder = match number % 3 {
                0 => Holder::Service,
                other => node(other),
            };
            assert!(!space.is_full());
            assert!(seen.insert(space.take(holder, at(0)).unwrap()), "{subnet}");
        }
        assert!(space.is_full());
        assert_eq!(space.take(node(1), at(0)), None, "{subnet}");
        assert_eq!(space.take(Holder::Service, at(0)), None, "{subnet}");
    }
}

#[test]
fn a_range_and_what_others_have_is_kept_to() {
    let pool = IpamConfig {
        subnet: "10.0.0.0/16".into(),
        ip_range: "10.0.5.0/29".into(),
        gateway: "10.0.5.1".into(),
        auxiliary: [("router".to_owned(), "10.0.5.2".to_owned())].into(),
    };
    let mut space = Space::new(&pool).unwrap();
    let mut seen = Vec::new();
    while let Some(addr) = space.take(node(1), at(0)) {
        seen.push(addr.to_string());
    }
    seen.sort();
    let expected = ["0", "3", "4", "5", "6", "7"].map(|last| format!("10.0.5.{last}"));
    assert_eq!(seen, expected);
}

#[test]
fn wide_subnets_have_room_for_all() {
    for subnet in ["::/0", "fd00::/64", "0.0.0.0/0", "10.0.0.0/8"] {
        let mut space = space(subnet, "");
        for number in 0..2000 {
            assert!(space.take(node(number), at(0)).is_some(), "{subnet}");
        }
        assert!(!space.is_full());
    }
}

proptest::proptest! {
    #[test]
    fn nobody_has_what_another_has(
        bits in 24u8..=30,
        steps in proptest::collection::vec((0u8..4, 0usize..64, 0u64..50), 1..200),
    ) {
        let mut space = space(&format!("10.0.1.0/{bits}"), "10.0.1.1");
        let mut held: Vec<(IpAddr, Holder)> = Vec::new();
        let mut now = 0;
        for (what, which, passes) in steps {
            now += passes;
            let holder = match what {
                0 => Holder::Service,
                other => node(u128::from(other)),
            };
            if which < 40 {
                match space.take(holder, at(now)) {
                    Some(addr) => {
                        proptest::prop_assert!(held.iter().all(|(other, _)| *other != addr));
                        held.push((addr, holder));
                    }
                    None => proptest::prop_assert_eq!(held.len() as u128, space.capacity()),
                }
            } else if !held.is_empty() {
                let (addr, holder) = held.swap_remove(which % held.len());
                space.release(addr, holder, Some(at(now)));
            }
        }
        while let Some(addr) = space.take(node(9), at(now)) {
            held.push((addr, node(9)));
        }
        proptest::prop_assert_eq!(held.len() as u128, space.capacity());
        for (addr, holder) in held {
            space.release(addr, holder, None);
        }
        proptest::prop_assert!(space.holdings().next().is_none());
        proptest::prop_assert!(space.owned.is_empty());
    }
}
