//! The table with real packets, in namespaces that each test makes for itself.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::timeout;

use super::wire::CREATE;
use super::*;
use crate::agent::network::links::Links;
use crate::agent::network::links::tests::{
    Bed, Neighbour, alone, container, eventually, in_namespace, interface, ip_in, socket_in,
};
use crate::model::plane::Protocol;

const OWN: &str = "10.200.0.1";

/// A packet that does not come in this time is not coming.
const SHORT: Duration = Duration::from_millis(300);

/// A machine with two containers in one network, one in another, and a machine beside it.
struct Machine {
    nft: Nft,
    rules: Rules,
    _links: Links,
    /// 10.0.1.11, 10.0.1.12 and 10.1.1.13.
    containers: [PathBuf; 3],
    beside: Neighbour,
}

impl Machine {
    async fn on(bed: &Bed) -> Self {
        let beside = bed.neighbour("10.200.0.1/24", "10.200.0.2/24");
        let links = bed.open(OWN).await;
        let (one, other) = ("10.0.0.0/16", "10.1.0.0/16");
        let wire = async |number, addr, pool| {
            let shape = [interface(&[addr], &[pool], true)];
            links.wire(container(number), &shape).await.unwrap()
        };
        let containers = [
            wire(11, "10.0.1.11", one).await,
            wire(12, "10.0.1.12", one).await,
            wire(13, "10.1.1.13", other).await,
        ];
        let pool = |subnet: &str| Pool {
            subnets: vec![subnet.parse().unwrap()],
            ..Pool::default()
        };
        let rules = Rules {
            own: vec![addr(OWN)],
            port: 4790,
            pools: vec![pool(one), pool(other)],
            hairpin: ["10.0.1.11", "10.0.1.12", "10.1.1.13"].map(addr).into(),
            ..Rules::default()
        };
        let mut nft = Nft::open().unwrap();
        nft.apply(&rules).unwrap();
        Self {
            nft,
            rules,
            _links: links,
            containers,
            beside,
        }
    }

    /// Has an address of services stand for these.
    fn balance(&mut self, vip: &str, behind: &[&str]) {
        let behind = behind.iter().map(|text| addr(text)).collect();
        self.rules.balancers.insert(addr(vip), behind);
        self.apply();
    }

    fn apply(&mut self) {
        self.nft.apply(&self.rules).unwrap();
    }
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Answers each connection with its name and whom it saw.
struct Server {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn on(namespace: &Path, at: &str, name: &'static str) -> Self {
        let at: SocketAddr = at.parse().unwrap();
        let listener = in_namespace(namespace, || TcpListener::bind(at).unwrap());
        let accepting = listener.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, from)) = accepting.accept() {
                // Whoever asked may be gone.
                let _ = write!(stream, "{name} {}", from.ip());
            }
        });
        Self {
            listener,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ =
            nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Who answers, and whom it saw.
fn ask(to: &str) -> io::Result<String> {
    let to: SocketAddr = to.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&to, SHORT)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask_from(namespace: &Path, to: &str) -> io::Result<String> {
    in_namespace(namespace, || ask(to))
}

fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

/// What comes first, and from where.
fn heard(listening: &UdpSocket) -> Option<(Vec<u8>, IpAddr)> {
    listening.set_read_timeout(Some(SHORT)).unwrap();
    let mut bytes = [0; 16];
    let (length, from) = listening.recv_from(&mut bytes).ok()?;
    Some((bytes[..length].to_vec(), from.ip()))
}

#[test]
fn containers_reach_their_network_and_nobody_elses() {
    alone(|bed| async move {
        let machine = Machine::on(&bed).await;
        let [one, other, foreign] = &machine.containers;
        let _server = Server::on(other, "10.0.1.12:80", "b");
        assert_eq!(ask_from(one, "10.0.1.12:80").unwrap(), "b 10.0.1.11");
        let refused = ask_from(foreign, "10.0.1.12:80");
        assert_eq!(kind(refused), Some(io::ErrorKind::TimedOut));
        // Nor does anybody outside, who knows the way.
        let beside = &machine.beside.namespace;
        ip_in(beside, "route add 10.0.0.0/16 via 10.200.0.1");
        let refused = ask_from(beside, "10.0.1.12:80");
        assert_eq!(kind(refused), Some(io::ErrorKind::TimedOut));
        // They see who is outside, and are seen as their machine.
        ip_in(beside, "route del 10.0.0.0/16");
        let _outside = Server::on(beside, "10.200.0.2:80", "out");
        assert_eq!(ask_from(one, "10.200.0.2:80").unwrap(), "out 10.200.0.1");
        bed.end().await;
    });
}

#[test]
fn nothing_outside_is_reached_from_an_internal_network() {
    alone(|bed| async move {
        let mut machine = Machine::on(&bed).await;
        let _outside = Server::on(&machine.beside.namespace, "10.200.0.2:80", "out");
        machine.rules.pools[1].internal = true;
        machine.apply();
        let refused = ask_from(&machine.containers[2], "10.200.0.2:80");
        assert_eq!(kind(refused), Some(io::ErrorKind::TimedOut));
        ask_from(&machine.containers[0], "10.200.0.2:80").unwrap();
        bed.end().await;
    });
}

#[test]
fn a_service_address_leads_to_each_of_its_tasks_and_refuses_when_there_is_none() {
    alone(|bed| async move {
        let mut machine = Machine::on(&bed).await;
        let [one, other, _] = machine.containers.clone();
        let _servers = [
            Server::on(&one, "10.0.1.11:80", "a"),
            Server::on(&other, "10.0.1.12:80", "b"),
        ];
        machine.balance("10.0.0.5", &["10.0.1.11", "10.0.1.12"]);
        // One that asks itself sees its machine.
        for wanted in ["a 169.254.1.1", "b 10.0.1.11"] {
            eventually(|| (ask_from(&one, "10.0.0.5:80").unwrap() == wanted).then_some(()));
        }
        machine.balance("10.0.0.5", &["10.0.1.12"]);
        for _ in 0..20 {
            assert_eq!(ask_from(&one, "10.0.0.5:80").unwrap(), "b 10.0.1.11");
        }
        machine.balance("10.0.0.5", &[]);
        let refused = kind(ask_from(&one, "10.0.0.5:80"));
        assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused));
        machine.balance("10.0.0.5", &["10.0.1.11"]);
        assert_eq!(ask_from(&other, "10.0.0.5:80").unwrap(), "a 10.0.1.12");
        bed.end().await;
    });
}

#[test]
fn flows_stay_with_a_task_until_they_are_dropped() {
    alone(|bed| async move {
        let mut machine = Machine::on(&bed).await;
        let [one, other, _] = machine.containers.clone();
        let first = socket_in(&one, "10.0.1.11:5000".parse().unwrap());
        let second = socket_in(&other, "10.0.1.12:5000".parse().unwrap());
        machine.balance("10.0.0.5", &["10.0.1.11"]);
        let asking = socket_in(&other, "10.0.1.12:6000".parse().unwrap());
        let sends = |bytes: &[u8]| asking.send_to(bytes, "10.0.0.5:5000").unwrap();
        sends(b"1");
        assert_eq!(heard(&first), Some((b"1".to_vec(), addr("10.0.1.12"))));
        machine.balance("10.0.0.5", &["10.0.1.12"]);
        sends(b"2");
        assert_eq!(heard(&first), Some((b"2".to_vec(), addr("10.0.1.12"))));
        machine.nft.drop_flows(addr("10.0.1.11")).unwrap();
        sends(b"3");
        assert_eq!(heard(&second), Some((b"3".to_vec(), addr("169.254.1.1"))));
        assert_eq!(heard(&first), None);
        bed.end().await;
    });
}

#[test]
fn a_published_port_shows_the_client_unless_it_is_to_be_hidden() {
    alone(|bed| async move {
        let mut machine = Machine::on(&bed).await;
        let _server = Server::on(&machine.containers[0], "10.0.1.11:80", "a");
        let port = (Protocol::Tcp, 8080);
        let mut publish = |snat| {
            let target = Target {
                backends: vec![(addr("10.0.1.11"), 80)],
                snat,
            };
            machine.rules.ports.insert(port, target);
            machine.nft.apply(&machine.rules).unwrap();
        };
        let beside = machine.beside.namespace.clone();
        publish(false);
        assert_eq!(
            ask_from(&beside, "10.200.0.1:8080").unwrap(),
            "a 10.200.0.2"
        );
        // The machine itself, and a container of another network.
        assert_eq!(ask("127.0.0.1:8080").unwrap(), "a 10.200.0.1");
        assert_eq!(ask("10.200.0.1:8080").unwrap(), "a 10.200.0.1");
        let foreign = machine.containers[2].clone();
        assert_eq!(
            ask_from(&foreign, "10.200.0.1:8080").unwrap(),
            "a 10.200.0.1"
        );
        publish(true);
        assert_eq!(
            ask_from(&beside, "10.200.0.1:8080").unwrap(),
            "a 10.200.0.1"
        );
        machine.rules.ports.clear();
        machine.apply();
        let refused = kind(ask_from(&beside, "10.200.0.1:8080"));
        assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused));
        bed.end().await;
    });
}

#[test]
fn a_container_that_takes_anothers_address_is_not_heard() {
    alone(|bed| async move {
        let mut machine = Machine::on(&bed).await;
        // What many distributions set: answers may leave by any interface.
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "2").unwrap();
        let [one, other, _] = machine.containers.clone();
        let listening = socket_in(&other, "10.0.1.12:5000".parse().unwrap());
        ip_in(&one, "addr add 10.1.1.13/32 dev lo");
        ip_in(&one, "addr add 10.0.1.99/32 dev lo");
        let says = |from: &str| {
            let from = format!("{from}:0").parse().unwrap();
            let socket = socket_in(&one, from);
            socket.send_to(b"it is me", "10.0.1.12:5000").unwrap();
        };
        says("10.1.1.13");
        says("10.0.1.99");
        says("10.0.1.11");
        let (_, from) = heard(&listening).unwrap();
        assert_eq!(from, addr("10.0.1.11"));
        // It is the table that keeps it out: one of the other network, with both open to each other, is let through without.
        machine.nft.end().unwrap();
        says("10.1.1.13");
        assert_eq!(heard(&listening).unwrap().1, addr("10.1.1.13"));
        bed.end().await;
    });
}

#[test]
fn only_peers_may_send_to_the_tunnel() {
    alone(|bed| async move {
        let mut machine = Machine::on(&bed).await;
        let listening = UdpSocket::bind("10.200.0.1:4790").unwrap();
        let beside = machine.beside.namespace.clone();
        let asking = socket_in(&beside, "10.200.0.2:0".parse().unwrap());
        let sends = |bytes: &[u8]| asking.send_to(bytes, "10.200.0.1:4790").unwrap();
        sends(b"stranger");
        assert_eq!(heard(&listening), None);
        machine.rules.peers = [addr("10.200.0.2")].into();
        machine.apply();
        sends(b"peer");
        assert_eq!(
            heard(&listening),
            Some((b"peer".to_vec(), addr("10.200.0.2")))
        );
        bed.end().await;
    });
}

#[test]
fn a_table_that_somebody_empties_is_noticed_and_made_again() {
    alone(|bed| async move {
        let mut machine = Machine::on(&bed).await;
        let watch = machine.nft.watch().unwrap();
        let [one, other, _] = machine.containers.clone();
        let _server = Server::on(&one, "10.0.1.11:80", "a");
        machine.balance("10.0.0.5", &["10.0.1.11"]);
        // Its own changes are no news, nor is another table.
        let elsewhere = Socket::open().unwrap();
        let mut batch = Batch::new(INET);
        batch.add(change::NEW_TABLE, CREATE, |it| {
            it.text(1, "skeins");
        });
        elsewhere.commit(batch).unwrap();
        assert!(timeout(SHORT, watch.changed()).await.is_err());
        let mut batch = Batch::new(INET);
        change::drop_table(&mut batch);
        elsewhere.commit(batch).unwrap();
        let noticed = timeout(Duration::from_secs(5), watch.changed()).await;
        noticed.unwrap().unwrap();
        assert!(ask_from(&other, "10.0.0.5:80").is_err());
        machine.nft.forget();
        machine.apply();
        assert_eq!(ask_from(&other, "10.0.0.5:80").unwrap(), "a 10.0.1.12");
        assert!(timeout(SHORT, watch.changed()).await.is_err());
        bed.end().await;
    });
}

#[test]
fn another_firewall_lets_containers_pass_and_keeps_nothing_of_it() {
    alone(|bed| async move {
        let mut machine = Machine::on(&bed).await;
        let [one, other, foreign] = machine.containers.clone();
        let _server = Server::on(&one, "10.0.1.11:80", "a");
        let theirs = Socket::open().unwrap();
        let mut batch = Batch::new(IPV4);
        batch.add(change::NEW_TABLE, CREATE, |it| {
            it.text(1, "filter");
        });
        batch.add(change::NEW_CHAIN, CREATE, |it| {
            it.text(1, "filter").text(3, "FORWARD");
            it.nest(4, |at| {
                at.number(1, 2).number(2, 0);
            });
            it.number(5, 0).text(7, "filter");
        });
        theirs.commit(batch).unwrap();
        let lost = ask_from(&other, "10.0.1.11:80");
        assert_eq!(kind(lost), Some(io::ErrorKind::TimedOut));
        let opened = machine.nft.open_others().unwrap();
        assert_eq!(opened, ["FORWARD in table filter"]);
        assert_eq!(ask_from(&other, "10.0.1.11:80").unwrap(), "a 10.0.1.12");
        // What the own table keeps apart stays apart, and there is nothing more to do.
        assert!(ask_from(&foreign, "10.0.1.11:80").is_err());
        assert!(machine.nft.open_others().unwrap().is_empty());
        machine.nft.end().unwrap();
        let lost = ask_from(&other, "10.0.1.11:80");
        assert_eq!(kind(lost), Some(io::ErrorKind::TimedOut));
        bed.end().await;
    });
}
