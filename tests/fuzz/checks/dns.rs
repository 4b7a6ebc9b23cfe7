//! What containers ask a resolver, what servers outside answer it, and the machine's `resolv.conf`.
//!
//! An input is two bytes, a packet, and an answer of a server outside: the first byte chooses how the packet came, the
//! second is the packet's length, or zero when there is no answer. The same bytes are read as a `resolv.conf`, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::SeedableRng;
use rand::rngs::StdRng;
use skein::agent::network::dns::{Asked, Names, Reply, Via, reply, resolv_conf};
use skein::model::NetworkId;

const NETWORK: NetworkId = NetworkId::from_bits(1);
const HEADER: usize = 12;
const ID: u16 = 0xbeef;

/// Panics when the resolver breaks a promise on this input.
pub fn check(data: &[u8]) {
    list(&String::from_utf8_lossy(data));
    let Some(([knob, length], rest)) = data.split_first_chunk() else {
        return;
    };
    let whole = *length == 0 || usize::from(*length) > rest.len();
    let (packet, answer) = rest.split_at(if whole { rest.len() } else { (*length).into() });
    let via = if knob & 1 == 0 { Via::Udp } else { Via::Tcp };
    let mut rng = StdRng::seed_from_u64(7);
    match reply(&names(), &[NETWORK], packet, via, &mut rng) {
        Reply::Send(sent) => {
            is_answer(packet, &sent);
            let most = if via == Via::Udp { 4096 } else { 65535 };
            assert!(sent.len() <= most, "{} bytes", sent.len());
        }
        Reply::Forward(asked) => forwarded(&asked, packet, answer),
        Reply::Nothing => assert!(packet.len() < HEADER || packet[2] & 0x80 != 0),
    }
}

/// A service, tasks that fill more than one datagram, and addresses that have names.
fn names() -> Names {
    let mut names = Names::default();
    names.network_name(NETWORK, "alpha");
    names.add(NETWORK, "web", &[Ipv4Addr::new(10, 0, 0, 2).into()], false);
    let tasks = (0..=255).map(|last| IpAddr::from([10, 0, 1, last]));
    let tasks: Vec<IpAddr> = tasks.chain([Ipv6Addr::LOCALHOST.into()]).collect();
    names.add(NETWORK, "tasks.web", &tasks, true);
    for addr in &tasks {
        names.reverse(*addr, "web.1");
    }
    names
}

/// `sent` is an answer to the packet, whatever it says.
fn is_answer(packet: &[u8], sent: &[u8]) {
    assert!(sent.len() >= HEADER && sent[..2] == packet[..2]);
    assert_eq!(sent[2] & 0xf8, 0x80 | packet[2] & 0x78);
}

fn forwarded(asked: &Asked, packet: &[u8], answer: &[u8]) {
    let under = asked.under(ID);
    assert_eq!(under[..2], ID.to_be_bytes());
    assert_eq!(under[2..], packet[2..], "passed on as it is");
    assert!(
        !asked.is_answered_by(ID, &under),
        "it is no answer to itself"
    );
    let mut echo = under;
    echo[2] |= 0x80;
    assert!(asked.is_answered_by(ID, &echo));
    assert!(!asked.is_answered_by(!ID, &echo));
    let failed = asked.failed();
    is_answer(packet, &failed);
    assert_eq!(failed[3] & 0x0f, 2);
    if asked.is_answered_by(ID, answer) {
        let sent = asked.answered(answer.to_vec());
        is_answer(packet, &sent);
        assert!(sent.len() <= asked.limit().max(failed.len()));
    }
}

/// A container's file has three lines at most, and what is made of it is the same again.
fn list(host: &str) {
    let made = resolv_conf(host, &[], &[]);
    assert!(made.starts_with("nameserver 127.0.0.11\n"), "{made}");
    assert!(made.lines().count() <= 3, "{made}");
    assert!(made.contains("ndots:"), "{made}");
    assert_eq!(resolv_conf(&made, &[], &[]), made);
}
