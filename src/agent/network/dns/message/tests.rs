//! What packets are answered with, by the bytes.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::names::Names;
use super::{Asked, Reply, Via, reply};
use crate::model::NetworkId;

const NETWORK: NetworkId = NetworkId::from_bits(1);

fn names(tasks: u8) -> Names {
    let mut names = Names::default();
    names.network_name(NETWORK, "alpha");
    let vip: IpAddr = Ipv4Addr::new(10, 0, 0, 2).into();
    names.add(NETWORK, "web", &[vip], false);
    names.reverse(vip, "my_web");
    let tasks: Vec<IpAddr> = (0..tasks)
        .map(|last| Ipv4Addr::new(10, 0, 1, last).into())
        .collect();
    names.add(NETWORK, "tasks.web", &tasks, true);
    names
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn replied(names: &Names, packet: &[u8], via: Via) -> Reply {
    reply(
        names,
        &[NETWORK],
        packet,
        via,
        &mut StdRng::seed_from_u64(1),
    )
}

fn sent(message: &Message, via: Via, tasks: u8) -> (Message, usize) {
    match replied(&names(tasks), &message.to_vec().unwrap(), via) {
        Reply::Send(bytes) => (Message::from_vec(&bytes).unwrap(), bytes.len()),
        other => panic!("nothing sent: {other:?}"),
    }
}

fn forwarded(message: &Message, via: Via) -> Asked {
    match replied(&names(0), &message.to_vec().unwrap(), via) {
        Reply::Forward(asked) => asked,
        other => panic!("not forwarded: {other:?}"),
    }
}

fn code_of(packet: &[u8]) -> ResponseCode {
    match replied(&names(0), packet, Via::Udp) {
        Reply::Send(bytes) => {
            assert_eq!(bytes[..2], packet[..2]);
            Message::from_vec(&bytes).unwrap().metadata.response_code
        }
        other => panic!("nothing sent: {other:?}"),
    }
}

#[test]
fn a_name_is_answered_as_it_was_written() {
    let (answer, _) = sent(&question("WeB.", RecordType::A), Via::Udp, 0);
    assert_eq!(answer.metadata.id, 0x1234);
    assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
    assert_eq!(answer.queries[0].name.to_ascii(), "WeB.");
    let [record] = &*answer.answers else {
        panic!("{answer:?}")
    };
    assert_eq!(record.name.to_ascii(), "WeB.");
    assert_eq!(record.ttl, 600);
    let RData::A(addr) = &record.data else {
        panic!("{record:?}")
    };
    assert_eq!(addr.0, Ipv4Addr::new(10, 0, 0, 2));
}

#[test]
fn a_known_name_without_an_ipv6_address_has_none() {
    let (answer, _) = sent(&question("web.", RecordType::AAAA), Via::Udp, 0);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.answers.is_empty());
}

#[test]
fn an_address_tells_its_name() {
    let (answer, _) = sent(
        &question("2.0.0.10.in-addr.arpa.", RecordType::PTR),
        Via::Udp,
        0,
    );
    let RData::PTR(name) = &answer.answers[0].data else {
        panic!("{answer:?}")
    };
    assert_eq!(name.0.to_ascii(), "my_web.alpha.");
    forwarded(&question("0.0.10.in-addr.arpa.", RecordType::PTR), Via::Udp);
}

#[test]
fn tasks_come_in_another_order_each_time() {
    let names = names(5);
    let packet = question("tasks.web.", RecordType::A).to_vec().unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    let firsts = (0..100).map(|_| {
        let Reply::Send(bytes) = reply(&names, &[NETWORK], &packet, Via::Udp, &mut rng) else {
            panic!("nothing sent")
        };
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.answers.len(), 5);
        answer.answers[0].data.to_string()
    });
    let firsts: std::collections::BTreeSet<String> = firsts.collect();
    assert_eq!(firsts.len(), 5, "each comes first at some time");
}

#[test]
fn a_datagram_holds_as_many_as_fit_and_says_that_there_are_more() {
    let mut asked = question("tasks.web.", RecordType::A);
    let (answer, length) = sent(&asked, Via::Udp, 200);
    assert!(answer.metadata.truncation && answer.edns.is_none());
    // Header, question, and 16 bytes an address.
    assert_eq!(answer.answers.len(), (512 - 12 - 15) / 16);
    assert!(length <= 512 && length > 512 - 16, "{length}");

    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    asked.set_edns(edns);
    let (answer, length) = sent(&asked, Via::Udp, 200);
    assert!(answer.metadata.truncation && answer.edns.is_some());
    assert!(length <= 1232 && length > 1232 - 16, "{length}");

    let (answer, _) = sent(&asked, Via::Tcp, 200);
    assert!(!answer.metadata.truncation);
    assert_eq!(answer.answers.len(), 200);
}

#[test]
fn an_asker_may_take_more_or_claim_less() {
    let mut asked = question("tasks.web.", RecordType::A);
    for (claim, most) in [(0, 512), (100, 512), (4096, 4096), (u16::MAX, 4096)] {
        let mut edns = Edns::new();
        edns.set_max_payload(claim);
        asked.set_edns(edns);
        let limit = forwarded(
            &{
                let mut outside = question("example.org.", RecordType::A);
                outside.edns = asked.edns.clone();
                outside
            },
            Via::Udp,
        );
        assert_eq!(limit.limit(), most);
        let (answer, length) = sent(&asked, Via::Udp, 200);
        assert!(length <= most);
        assert_eq!(answer.metadata.truncation, most == 512);
    }
}

#[test]
fn odd_packets_are_refused_for_what_is_odd_about_them() {
    let plain = question("web.", RecordType::A).to_vec().unwrap();
    let changed = |at: usize, to: u8| {
        let mut packet = plain.clone();
        packet[at] = to;
        packet
    };
    assert_eq!(code_of(&changed(2, 0x28)), ResponseCode::NotImp);
    assert_eq!(code_of(&changed(5, 2)), ResponseCode::FormErr);
    assert_eq!(code_of(&changed(5, 0)), ResponseCode::FormErr);
    assert_eq!(code_of(&changed(7, 1)), ResponseCode::FormErr);
    assert_eq!(code_of(&changed(12, 0xc0)), ResponseCode::FormErr);
    assert_eq!(code_of(&plain[..14]), ResponseCode::FormErr);
    assert_eq!(code_of(&plain[..12]), ResponseCode::FormErr);
    let mut chaos = question("web.", RecordType::TXT);
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(code_of(&chaos.to_vec().unwrap()), ResponseCode::Refused);
    let transfer = question("web.", RecordType::AXFR).to_vec().unwrap();
    assert_eq!(code_of(&transfer), ResponseCode::Refused);
    let mut newer = question("web.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    // The code is shared with that of a bad signature.
    let code = u16::from(code_of(&newer.to_vec().unwrap()));
    assert_eq!(code, u16::from(ResponseCode::BADVERS));
}

#[test]
fn answers_and_scraps_are_not_answered() {
    let mut packet = question("web.", RecordType::A).to_vec().unwrap();
    packet[2] |= 0x80;
    assert_eq!(replied(&names(0), &packet, Via::Udp), Reply::Nothing);
    assert_eq!(replied(&names(0), &packet[..11], Via::Udp), Reply::Nothing);
    assert_eq!(replied(&names(0), &[], Via::Tcp), Reply::Nothing);
}

#[test]
fn a_dot_inside_of_a_label_is_not_one_between_labels() {
    let mut packet = question("tasks.web.", RecordType::A).to_vec().unwrap();
    // `tasks.web` as one label of nine characters.
    packet[12] = 9;
    packet[18] = b'.';
    assert!(matches!(
        replied(&names(3), &packet, Via::Udp),
        Reply::Forward(_)
    ));
}

#[test]
fn an_answer_from_outside_is_one_to_the_question() {
    let asked = forwarded(&question("Example.org.", RecordType::A), Via::Udp);
    let under = asked.under(77);
    let mut good = Message::from_vec(&under).unwrap();
    assert_eq!(good.metadata.id, 77);
    good.metadata.message_type = MessageType::Response;
    let good = good.to_vec().unwrap();
    assert!(asked.is_answered_by(77, &good));
    assert!(!asked.is_answered_by(78, &good), "another ID");
    assert!(!asked.is_answered_by(77, &under), "the question itself");
    let other = |name: &str, kind| {
        let mut message = question(name, kind);
        message.metadata.id = 77;
        message.metadata.message_type = MessageType::Response;
        message.to_vec().unwrap()
    };
    assert!(asked.is_answered_by(77, &other("eXAMPLE.org.", RecordType::A)));
    assert!(!asked.is_answered_by(77, &other("example.com.", RecordType::A)));
    assert!(!asked.is_answered_by(77, &other("example.org.", RecordType::AAAA)));
    // A server that understands nothing repeats nothing.
    assert!(asked.is_answered_by(77, &[0, 77, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert!(!asked.is_answered_by(77, &[0, 77, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert!(!asked.is_answered_by(77, &good[..11]));
    assert_eq!(asked.answered(good)[..2], [0x12, 0x34]);
}

#[test]
fn an_answer_from_outside_that_is_too_long_is_told_to_be() {
    let asked = forwarded(&question("example.org.", RecordType::A), Via::Udp);
    let answer = Message::from_vec(&asked.answered(vec![0; 513])).unwrap();
    assert!(answer.metadata.truncation && answer.answers.is_empty());
    assert_eq!(answer.metadata.id, 0x1234);
    let failed = Message::from_vec(&asked.failed()).unwrap();
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
}

proptest! {
    #[test]
    fn no_bytes_panic(packet: Vec<u8>, tail: Vec<u8>) {
        let mut mostly_right = question("tasks.web.", RecordType::A).to_vec().unwrap();
        mostly_right.extend(tail);
        for packet in [packet, mostly_right] {
            for via in [Via::Udp, Via::Tcp] {
                if let Reply::Send(bytes) = replied(&names(9), &packet, via) {
                    prop_assert!(bytes.len() >= 12 && bytes[..2] == packet[..2]);
                }
            }
        }
    }
}
