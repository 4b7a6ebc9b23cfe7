//! The tunnel: what it knows, and packets that pass it.

use super::*;

#[test]
fn what_the_tunnel_knows_follows_what_is_desired() {
    alone(|bed| async move {
        let links = bed.open("127.0.0.1").await;
        links.apply(&Desired::default()).await.unwrap();
        let empty = ours();
        let mut desired = Desired {
            peers: [peer(2), peer(3)].into(),
            routes: [
                (subnet("10.0.2.0/24"), peer(2).addr),
                (subnet("fd10:0:0:0:2::/80"), peer(3).addr),
            ]
            .into(),
            pools: [subnet("10.0.0.0/16"), subnet("fd10::/64")].into(),
        };
        links.apply(&desired).await.unwrap();
        let full = ours();
        for line in [
            "10.0.2.0/24 via 10.200.0.2 dev skein0",
            "fd10::2:0:0:0/80 via fe80::3 dev skein0",
            "unreachable 10.0.0.0/16",
            "unreachable fd10::/64",
            "default via 10.200.0.3 dev skein0 table 7003",
            "fwmark 0/0x7fff0000 goto 1001",
            "fwmark 0x20000/0x7fff0000 lookup 7002",
            "10.200.0.2 lladdr 02:00:00:00:00:02 PERMANENT",
            "02:00:00:00:00:03 dst 10.200.0.3 self permanent",
        ] {
            assert!(full.contains(line), "{line} is not in\n{full}");
        }
        links.apply(&desired).await.unwrap();
        assert_eq!(ours(), full, "nothing is twice");
        desired.peers.remove(&peer(3));
        desired.routes.insert(subnet("10.0.3.0/24"), peer(2).addr);
        links.apply(&desired).await.unwrap();
        assert!(!ours().contains("10.200.0.3"), "{}", ours());
        assert!(ours().contains("10.0.3.0/24 via 10.200.0.2"), "{}", ours());
        links.apply(&Desired::default()).await.unwrap();
        assert_eq!(ours(), empty, "nothing is left");
        bed.end().await;
    });
}

fn desired(peer: Peer, routes: &[&str]) -> Desired {
    Desired {
        peers: [peer].into(),
        routes: routes
            .iter()
            .map(|text| (subnet(text), peer.addr))
            .collect(),
        pools: [subnet("10.0.0.0/16"), subnet("fd10::/64")].into(),
    }
}

/// Containers of two machines with these addresses reach each other.
fn machines_carry(here: &'static str, there: &'static str, mtu: u32) {
    alone(move |bed| async move {
        let bits = if here.contains(':') { 64 } else { 24 };
        let machine = bed.neighbour(&format!("{here}/{bits}"), &format!("{there}/{bits}"));
        let links = [bed.open(here).await, machine.open(&bed, there)];
        assert_eq!(links[0].mtu(), mtu);
        let mut paths = Vec::new();
        for (number, links) in (1..).zip(&links) {
            let (v4, v6) = (format!("10.0.{number}.11"), format!("fd10::{number}:11"));
            let shape = interface(&[&v4, &v6], &["10.0.0.0/16", "fd10::/64"], true);
            paths.push(links.wire(container(number), &[shape]).await.unwrap());
        }
        let peer = |addr: &str, number: u8| Peer {
            addr: addr.parse().unwrap(),
            mac: [2, 0, 0, 0, 0, number],
            index: 7,
        };
        let routes = [
            ["10.0.1.0/24", "fd10::1:0/112"],
            ["10.0.2.0/24", "fd10::2:0/112"],
        ];
        links[0]
            .apply(&desired(peer(there, 2), &routes[1]))
            .await
            .unwrap();
        links[1]
            .apply(&desired(peer(here, 1), &routes[0]))
            .await
            .unwrap();
        for [from, to] in [["10.0.1.11", "10.0.2.11"], ["fd10::1:11", "fd10::2:11"]] {
            let at = |addr: &str| SocketAddr::new(addr.parse().unwrap(), 5000);
            let (asking, listening) =
                (socket_in(&paths[0], at(from)), socket_in(&paths[1], at(to)));
            assert_eq!(answered(&asking, &listening).to_string(), from);
        }
        // What nobody has is refused by the machine, and not looked for outside.
        let unknown: SocketAddr = "10.0.9.9:5000".parse().unwrap();
        let file = File::open(&paths[0]).unwrap();
        let refused = namespace::inside(&file, || Ok(std::net::TcpStream::connect(unknown).err()));
        let kind = refused.unwrap().unwrap().kind();
        assert_eq!(kind, io::ErrorKind::HostUnreachable);
        // A reply with a peer's mark goes back to it, whomever it is for.
        let back = ip("route get 203.0.113.9 mark 0x70000");
        assert!(back.contains("dev skein0 table 7007"), "{back}");
        let back = ip("-6 route get 2001:db8::9 mark 0x70000");
        assert!(back.contains("via fe80::7 dev skein0"), "{back}");
        bed.end().await;
    });
}

#[test]
fn containers_of_two_machines_reach_each_other() {
    machines_carry("10.200.0.1", "10.200.0.2", 1450);
}

#[test]
fn machines_may_know_each_other_by_ipv6() {
    machines_carry("fd00:200::1", "fd00:200::2", 1430);
}

#[test]
fn packets_come_in_from_foreign_senders_but_from_no_containers_false_name() {
    alone(|bed| async move {
        let machine = bed.neighbour("10.200.0.1/24", "10.200.0.2/24");
        let (here, there) = (
            bed.open("10.200.0.1").await,
            machine.open(&bed, "10.200.0.2"),
        );
        let shape = [interface(&["10.0.2.11"], &["10.0.0.0/16"], true)];
        let path = there.wire(container(2), &shape).await.unwrap();
        let mut peer = peer(2);
        here.apply(&desired(peer, &["10.0.2.0/24"])).await.unwrap();
        (peer.addr, peer.mac[5]) = (IpAddr::from([10, 200, 0, 1]), 1);
        there.apply(&desired(peer, &[])).await.unwrap();
        // A client of this node, of which the other knows nothing but a way to the world.
        ip("addr add 203.0.113.9/32 dev lo");
        ip_in(&machine.namespace, "route add default via 10.200.0.1");
        let listening = socket_in(&path, "10.0.2.11:5000".parse().unwrap());
        listening
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let asking = UdpSocket::bind("203.0.113.9:0").unwrap();
        let mut bytes = [0; 8];
        let from = eventually(|| {
            asking.send_to(b"there", "10.0.2.11:5000").unwrap();
            listening.recv_from(&mut bytes).ok()
        });
        assert_eq!(from.1, asking.local_addr().unwrap());
        // A container that gives itself another's address is not heard.
        ip_in(&path, "addr add 10.0.2.99/32 dev eth0");
        let listening = UdpSocket::bind("0.0.0.0:0").unwrap();
        let to = SocketAddr::new(
            IpAddr::from([10, 200, 0, 1]),
            listening.local_addr().unwrap().port(),
        );
        let liar = socket_in(&path, "10.0.2.99:5000".parse().unwrap());
        let honest = socket_in(&path, "10.0.2.11:6000".parse().unwrap());
        liar.send_to(b"lie", to).unwrap();
        honest.send_to(b"truth", to).unwrap();
        listening
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let (length, _) = listening.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"truth");
        bed.end().await;
    });
}

#[test]
fn a_machine_that_carries_ipv6_still_listens_to_its_router() {
    alone(|bed| async move {
        ip("link add outside type veth peer name router");
        let switch = |name: &str| {
            let value = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}"));
            value.unwrap().trim().to_owned()
        };
        assert_eq!(switch("outside/accept_ra"), "1");
        let links = bed.open("127.0.0.1").await;
        links.apply(&desired(peer(2), &[])).await.unwrap();
        assert_eq!(switch("all/forwarding"), "1");
        assert_eq!(switch("outside/accept_ra"), "2");
        assert_eq!(switch("skein0/accept_ra"), "0");
        bed.end().await;
    });
}
