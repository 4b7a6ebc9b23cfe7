//! Servers outside, on the machine's loopback, and what becomes of questions that they are asked.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType::A;
use hickory_proto::rr::rdata::A as Address;
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::bed::{Bed, Container, within};
use super::{ALPHA, container};

/// An address that no other server of this test has.
fn fresh() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    Ipv4Addr::new(127, 0, 1, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

/// A server that takes questions and never answers. Its socket is open until the process ends.
pub(super) async fn silent() -> IpAddr {
    let at = fresh();
    let socket = UdpSocket::bind((at, 53)).await.unwrap();
    std::mem::forget(socket);
    at
}

/// A server of one kind.
#[derive(Clone)]
struct Server {
    at: IpAddr,
    asked: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Manner {
    /// Answers with an address of its own.
    Fair,
    /// Sends answers to other questions first.
    Confused,
    /// Says that it cannot tell.
    Helpless,
    /// Has no room in a datagram.
    Terse,
}

impl Server {
    /// Serves for as long as the test runs.
    async fn start(manner: Manner) -> Self {
        let at = fresh();
        let udp = UdpSocket::bind((at, 53)).await.unwrap();
        let tcp = TcpListener::bind((at, 53)).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::task::spawn_local(async move {
            let mut bytes = [0; 2048];
            loop {
                let (length, from) = udp.recv_from(&mut bytes).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                for answer in answers(&bytes[..length], at, manner) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        tokio::task::spawn_local(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut bytes = vec![0; usize::from(length)];
                stream.read_exact(&mut bytes).await.unwrap();
                let answer = fair(&bytes, at, 20).to_vec().unwrap();
                let length = u16::try_from(answer.len()).unwrap();
                stream.write_u16(length).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        Self { at, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn fair(question: &[u8], at: IpAddr, records: usize) -> Message {
    let mut message = Message::from_vec(question).unwrap();
    message.metadata.message_type = MessageType::Response;
    let IpAddr::V4(at) = at else {
        panic!("servers here have IPv4 addresses")
    };
    let name = message.queries[0].name.clone();
    let record = Record::from_rdata(name, 60, RData::A(Address(at)));
    message.answers = vec![record; records];
    message
}

fn answers(question: &[u8], at: IpAddr, manner: Manner) -> Vec<Vec<u8>> {
    let mut answer = fair(question, at, 1);
    let answers = match manner {
        Manner::Fair => vec![answer],
        Manner::Confused => {
            let (mut other_id, mut other_name) = (answer.clone(), answer.clone());
            other_id.metadata.id ^= 1;
            other_id.answers.clear();
            other_name.queries[0].name = Name::from_ascii("other.org.").unwrap();
            other_name.answers.clear();
            vec![other_id, other_name, answer]
        }
        Manner::Helpless => {
            answer.answers.clear();
            answer.metadata.response_code = ResponseCode::ServFail;
            vec![answer]
        }
        Manner::Terse => {
            answer.answers.clear();
            answer.metadata.truncation = true;
            vec![answer]
        }
    };
    answers.iter().map(|it| it.to_vec().unwrap()).collect()
}

async fn served(bed: &Bed, servers: Vec<IpAddr>) -> Container {
    bed.container(container(1), vec![ALPHA], servers).await
}

/// Runs a test that has servers.
fn run(test: impl AsyncFnOnce(Bed) + Send + 'static) {
    Bed::run(async |bed| tokio::task::LocalSet::new().run_until(test(bed)).await);
}

#[test]
fn an_unknown_name_is_asked_outside() {
    run(async |bed| {
        let server = Server::start(Manner::Fair).await;
        bed.write_servers(&[server.at]);
        let one = served(&bed, vec![]).await;
        let answer = one.ask("Example.org.", A).await;
        assert_eq!(answer.addresses(), [server.at.to_string()]);
        assert_eq!(server.asked(), 1);
    });
}

#[test]
fn what_answers_another_question_is_passed_over() {
    run(async |bed| {
        let server = Server::start(Manner::Confused).await;
        bed.write_servers(&[server.at]);
        let one = served(&bed, vec![]).await;
        let answer = one.ask("example.org.", A).await;
        assert_eq!(answer.addresses(), [server.at.to_string()]);
    });
}

#[test]
fn servers_are_asked_in_order_until_one_can_tell() {
    run(async |bed| {
        let nobody = fresh();
        let helpless = Server::start(Manner::Helpless).await;
        let fair = Server::start(Manner::Fair).await;
        bed.write_servers(&[nobody, helpless.at, fair.at]);
        let one = served(&bed, vec![]).await;
        let answer = one.ask("example.org.", A).await;
        assert_eq!(answer.addresses(), [fair.at.to_string()]);
        assert_eq!((helpless.asked(), fair.asked()), (1, 1));
        bed.write_servers(&[fair.at, helpless.at]);
        one.ask("example.org.", A).await;
        assert_eq!((helpless.asked(), fair.asked()), (1, 2));
    });
}

#[test]
fn a_server_that_does_not_answer_is_followed_by_the_next() {
    run(async |bed| {
        let fair = Server::start(Manner::Fair).await;
        bed.write_servers(&[silent().await, fair.at]);
        let one = served(&bed, vec![]).await;
        let answer = one.ask("example.org.", A).await;
        assert_eq!(answer.addresses(), [fair.at.to_string()]);
    });
}

#[test]
fn no_server_at_all_is_told() {
    run(async |bed| {
        bed.write_servers(&[fresh()]);
        let one = served(&bed, vec![]).await;
        assert_eq!(
            one.ask("example.org.", A).await.code(),
            ResponseCode::ServFail
        );
        let helpless = Server::start(Manner::Helpless).await;
        bed.write_servers(&[helpless.at]);
        assert_eq!(
            one.ask("example.org.", A).await.code(),
            ResponseCode::ServFail
        );
    });
}

#[test]
fn servers_of_the_user_are_asked_instead_of_the_machines() {
    run(async |bed| {
        let machines = Server::start(Manner::Fair).await;
        let users = Server::start(Manner::Fair).await;
        bed.write_servers(&[machines.at]);
        let one = served(&bed, vec![users.at]).await;
        let answer = one.ask("example.org.", A).await;
        assert_eq!(answer.addresses(), [users.at.to_string()]);
        assert_eq!(machines.asked(), 0);
    });
}

#[test]
fn another_list_of_servers_holds_from_the_next_question_on() {
    run(async |bed| {
        let before = Server::start(Manner::Fair).await;
        let after = Server::start(Manner::Fair).await;
        bed.write_servers(&[before.at]);
        let one = served(&bed, vec![]).await;
        one.ask("example.org.", A).await;
        bed.write_servers(&[after.at]);
        let answer = one.ask("example.org.", A).await;
        assert_eq!(answer.addresses(), [after.at.to_string()]);
        assert_eq!((before.asked(), after.asked()), (1, 1));
    });
}

#[test]
fn who_asks_by_stream_is_answered_by_one() {
    run(async |bed| {
        let terse = Server::start(Manner::Terse).await;
        bed.write_servers(&[terse.at]);
        let one = served(&bed, vec![]).await;
        let answer = one.ask_by_stream("example.org.", A).await;
        assert_eq!(answer.addresses().len(), 20);
        assert_eq!(terse.asked(), 0, "no datagram");
    });
}

#[test]
fn an_answer_without_room_in_a_datagram_is_fetched_by_stream() {
    run(async |bed| {
        let terse = Server::start(Manner::Terse).await;
        bed.write_servers(&[terse.at]);
        let one = served(&bed, vec![]).await;
        let answer = one.ask("example.org.", A).await;
        assert!(!answer.is_cut_short());
        assert_eq!(answer.addresses().len(), 20);
    });
}

#[test]
fn an_asker_that_takes_little_is_told_that_there_is_more() {
    run(async |bed| {
        let terse = Server::start(Manner::Terse).await;
        bed.write_servers(&[terse.at]);
        let one = served(&bed, vec![]).await;
        // The name is so long that twenty addresses have no room in 512 bytes.
        let name = format!("{0}.{0}.{0}.org.", "x".repeat(60));
        let answer = one.ask(&name, A).await;
        assert!(answer.is_cut_short());
        assert!(answer.addresses().is_empty());
        let mut wide = Message::new(5, MessageType::Query, OpCode::Query);
        wide.add_query(Query::query(Name::from_ascii(&name).unwrap(), A));
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        wide.set_edns(edns);
        one.send(&wide.to_vec().unwrap()).await;
        let answer = within(one.receive()).await;
        assert_eq!(answer.addresses().len(), 20);
    });
}
