//! The resolver with real sockets, in network namespaces of the test's own: one is the machine, others are containers.

mod bed;
mod outside;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{self, A, AAAA};

use super::{DnsError, Names};
use crate::model::{ContainerId, NetworkId};
use bed::{Bed, question, within};

const ALPHA: NetworkId = NetworkId::from_bits(1);
const BETA: NetworkId = NetworkId::from_bits(2);

fn vip(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

/// `web` in both networks, and `tasks.web` with some tasks in alpha.
fn names(tasks: u16) -> Arc<Names> {
    let mut names = Names::default();
    names.network_name(ALPHA, "alpha");
    names.network_name(BETA, "beta");
    names.add(ALPHA, "web", &[vip(2)], false);
    names.add(BETA, "web", &[vip(3)], false);
    let task = |number: u16| {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([10, 1, high, low])
    };
    let tasks: Vec<IpAddr> = (0..tasks).map(task).collect();
    names.add(ALPHA, "tasks.web", &tasks, true);
    Arc::new(names)
}

fn container(number: u8) -> ContainerId {
    ContainerId::from_bytes([number; 32])
}

#[test]
fn each_container_is_told_of_its_own_networks() {
    Bed::run(async |bed| {
        bed.resolver.set(names(2));
        let one = bed.container(container(1), vec![ALPHA], vec![]).await;
        let two = bed.container(container(2), vec![BETA], vec![]).await;
        assert_eq!(one.ask("web.", A).await.addresses(), ["10.0.0.2"]);
        assert_eq!(two.ask("web.", A).await.addresses(), ["10.0.0.3"]);
        assert_eq!(one.ask("web.alpha.", A).await.addresses(), ["10.0.0.2"]);
        assert!(one.ask("web.", AAAA).await.addresses().is_empty());
        assert_eq!(one.ask("tasks.web.", A).await.addresses().len(), 2);
        assert_eq!(one.ask_by_stream("web.", A).await.addresses(), ["10.0.0.2"]);
        let pointer = one.ask("2.0.0.10.in-addr.arpa.", RecordType::PTR).await;
        assert_eq!(pointer.code(), ResponseCode::NoError);
    });
}

#[test]
fn new_names_hold_at_once() {
    Bed::run(async |bed| {
        bed.resolver.set(names(1));
        let one = bed.container(container(1), vec![ALPHA], vec![]).await;
        assert_eq!(one.ask("tasks.web.", A).await.addresses().len(), 1);
        bed.resolver.set(names(4));
        assert_eq!(one.ask("tasks.web.", A).await.addresses().len(), 4);
    });
}

#[test]
fn what_a_datagram_cannot_hold_a_stream_does() {
    Bed::run(async |bed| {
        bed.resolver.set(names(500));
        let one = bed.container(container(1), vec![ALPHA], vec![]).await;
        let short = one.ask("tasks.web.", A).await;
        assert!(short.is_cut_short() && short.addresses().len() > 20);
        let whole = one.ask_by_stream("tasks.web.", A).await;
        assert!(!whole.is_cut_short());
        assert_eq!(whole.addresses().len(), 500);
    });
}

#[test]
fn a_container_that_is_attached_again_is_served_at_its_new_ports_alone() {
    Bed::run(async |bed| {
        bed.resolver.set(names(1));
        let one = bed.container(container(1), vec![ALPHA], vec![]).await;
        assert_eq!(one.ask("web.", A).await.addresses(), ["10.0.0.2"]);
        let again = bed.attach(&one, vec![BETA], vec![]).await;
        assert_eq!(again.ask("web.", A).await.addresses(), ["10.0.0.3"]);
        one.is_closed().await;
    });
}

#[test]
fn a_container_that_is_detached_leaves_no_socket_behind() {
    Bed::run(async |bed| {
        bed.write_servers(&[outside::silent().await]);
        let one = bed.container(container(1), vec![ALPHA], vec![]).await;
        // A question that waits for an answer holds nothing open.
        one.send(&question(1, "example.org.", A)).await;
        bed.resolver.detach(container(1));
        bed.resolver.detach(container(1));
        one.is_closed().await;
    });
}

#[test]
fn a_namespace_that_is_not_there_is_named() {
    Bed::run(async |bed| {
        let path = std::path::Path::new("/nowhere/at all");
        let attached = bed
            .resolver
            .attach(container(1), path, vec![ALPHA], vec![])
            .await;
        let error = attached.unwrap_err();
        assert!(matches!(error, DnsError::Enter { .. }), "{error:?}");
        assert!(error.to_string().contains("/nowhere/at all"), "{error}");
    });
}

#[test]
fn bytes_that_are_no_question_stop_nothing() {
    Bed::run(async |bed| {
        bed.resolver.set(names(1));
        let one = bed.container(container(1), vec![ALPHA], vec![]).await;
        for scrap in [&b""[..], b"x", &[0xff; 700], &[0; 12], &[0; 5000]] {
            one.send(scrap).await;
        }
        one.stream_of(&[0xff; 40]).await;
        assert_eq!(one.ask("web.", A).await.addresses(), ["10.0.0.2"]);
        assert_eq!(one.ask_by_stream("web.", A).await.addresses(), ["10.0.0.2"]);
    });
}

#[test]
fn one_stream_carries_many_questions() {
    Bed::run(async |bed| {
        bed.resolver.set(names(3));
        let one = bed.container(container(1), vec![ALPHA], vec![]).await;
        let kinds = [("web.", A), ("tasks.web.", A), ("web.", AAAA)];
        let answers = one.conversation(&kinds).await;
        let counts: Vec<usize> = answers.iter().map(|it| it.addresses().len()).collect();
        assert_eq!(counts, [1, 3, 0]);
    });
}

#[test]
fn a_resolver_that_starts_anew_serves_at_the_same_ports() {
    Bed::run(async |bed| {
        bed.resolver.set(names(1));
        let one = bed.container(container(1), vec![ALPHA], vec![]).await;
        bed.resolver.detach(container(1));
        one.is_closed().await;
        bed.attach(&one, vec![BETA], vec![]).await;
        assert_eq!(one.ask("web.", A).await.addresses(), ["10.0.0.3"]);
        assert_eq!(one.ask_by_stream("web.", A).await.addresses(), ["10.0.0.3"]);
    });
}

/// Prints what a question costs; how long that is on a busy machine proves nothing, that all are answered does.
#[test]
fn each_of_many_questions_is_answered() {
    const QUESTIONS: usize = 2000;
    Bed::run(async |bed| {
        bed.resolver.set(names(3));
        let one = bed.container(container(1), vec![ALPHA], vec![]).await;
        let mut taken: Vec<Duration> = Vec::with_capacity(QUESTIONS);
        for _ in 0..QUESTIONS {
            let start = Instant::now();
            let answer = one.ask("tasks.web.", A).await;
            taken.push(start.elapsed());
            assert_eq!(answer.addresses().len(), 3);
        }
        taken.sort();
        let at = |share: usize| taken[QUESTIONS * share / 100];
        println!("names known here: p50 {:?}, p99 {:?}", at(50), at(99));
    });
}

#[test]
fn too_many_open_questions_are_refused_and_known_names_answered() {
    Bed::run(async |bed| {
        bed.resolver.set(names(1));
        bed.write_servers(&[outside::silent().await]);
        let one = bed.container(container(1), vec![ALPHA], vec![]).await;
        for id in 0..200 {
            one.send(&question(id, "example.org.", A)).await;
        }
        // Those for which there was no room are refused first, long before the others are given up.
        let refused = within(one.receive()).await;
        assert_eq!(refused.code(), ResponseCode::ServFail);
        let other = one.another_socket();
        assert_eq!(other.ask("web.", A).await.addresses(), ["10.0.0.2"]);
    });
}
