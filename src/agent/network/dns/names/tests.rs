//! Who is told what of a name.

use std::net::{IpAddr, Ipv4Addr};

use super::{Answer, Kind, Names, PASSING_TTL, Query, STEADY_TTL};
use crate::model::NetworkId;

const ALPHA: NetworkId = NetworkId::from_bits(1);
const BETA: NetworkId = NetworkId::from_bits(2);
const NAMELESS: NetworkId = NetworkId::from_bits(3);

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn v6() -> IpAddr {
    "fd00::9".parse().unwrap()
}

/// `web` balanced in alpha, with two tasks; `db` of a task in both networks; `web` another in beta.
fn names() -> Names {
    let mut names = Names::default();
    names.network_name(ALPHA, "shop_alpha");
    names.network_name(BETA, "beta.v2");
    names.add(ALPHA, "web", &[v4(2)], false);
    names.add(ALPHA, "tasks.web", &[v4(11), v4(12)], true);
    names.add(ALPHA, "Shop_Db", &[v4(13), v6()], true);
    names.add(BETA, "web", &[v4(50)], false);
    names.add(BETA, "empty", &[], true);
    names.add(NAMELESS, "lone", &[v4(90)], true);
    names.reverse(v4(2), "web");
    names.reverse(v4(11), "web.1.abc");
    names.reverse(v4(90), "lone");
    names
}

fn ask(asker: &[NetworkId], name: &str, kind: Kind) -> Answer {
    let name = name.into();
    names().answer(asker, &Query { name, kind })
}

fn addresses(answer: Answer) -> (Vec<IpAddr>, bool, u32) {
    match answer {
        Answer::Addresses {
            addresses,
            shuffled,
            ttl,
        } => (addresses, shuffled, ttl),
        other => panic!("no addresses: {other:?}"),
    }
}

#[test]
fn a_service_is_its_address_and_its_tasks_are_theirs() {
    let service = addresses(ask(&[ALPHA], "web", Kind::V4));
    assert_eq!(service, (vec![v4(2)], false, STEADY_TTL));
    let tasks = addresses(ask(&[ALPHA], "tasks.web", Kind::V4));
    assert_eq!(tasks, (vec![v4(11), v4(12)], true, PASSING_TTL));
}

#[test]
fn names_are_those_of_the_askers_networks() {
    assert_eq!(addresses(ask(&[BETA], "web", Kind::V4)).0, [v4(50)]);
    assert_eq!(ask(&[BETA], "tasks.web", Kind::V4), Answer::Forward);
    assert_eq!(ask(&[], "web", Kind::V4), Answer::Forward);
    assert_eq!(
        ask(&[NetworkId::from_bits(9)], "web", Kind::V4),
        Answer::Forward
    );
}

#[test]
fn the_first_network_of_the_asker_decides() {
    assert_eq!(addresses(ask(&[ALPHA, BETA], "web", Kind::V4)).0, [v4(2)]);
    assert_eq!(addresses(ask(&[BETA, ALPHA], "web", Kind::V4)).0, [v4(50)]);
}

#[test]
fn a_network_behind_the_name_decides_before_the_order() {
    let both = [ALPHA, BETA];
    assert_eq!(addresses(ask(&both, "web.beta.v2", Kind::V4)).0, [v4(50)]);
    assert_eq!(addresses(ask(&both, "web.shop_alpha", Kind::V4)).0, [v4(2)]);
    let tasks = ask(&both, "tasks.web.shop_alpha", Kind::V4);
    assert_eq!(addresses(tasks).0, [v4(11), v4(12)]);
    assert_eq!(ask(&[ALPHA], "web.beta.v2", Kind::V4), Answer::Forward);
    assert_eq!(ask(&both, "webbeta.v2", Kind::V4), Answer::Forward);
    assert_eq!(ask(&both, ".beta.v2", Kind::V4), Answer::Forward);
    assert_eq!(ask(&both, "beta.v2", Kind::V4), Answer::Forward);
}

#[test]
fn a_known_name_without_such_an_address_is_asked_of_nobody_else() {
    assert_eq!(ask(&[ALPHA], "web", Kind::V6), Answer::Empty);
    assert_eq!(ask(&[ALPHA], "web", Kind::Other), Answer::Empty);
    assert_eq!(ask(&[BETA], "empty", Kind::V4), Answer::Empty);
    assert_eq!(ask(&[BETA], "empty", Kind::Any), Answer::Empty);
    assert_eq!(ask(&[ALPHA], "example.org", Kind::Other), Answer::Forward);
}

#[test]
fn each_family_is_answered_apart_and_any_case_is_the_same() {
    assert_eq!(addresses(ask(&[ALPHA], "shop_db", Kind::V4)).0, [v4(13)]);
    assert_eq!(addresses(ask(&[ALPHA], "shop_db", Kind::V6)).0, [v6()]);
    let any = addresses(ask(&[ALPHA], "shop_db", Kind::Any));
    assert_eq!(any.0, [v4(13), v6()]);
}

#[test]
fn one_alias_of_two_tasks_is_both_of_them() {
    let mut names = names();
    names.add(ALPHA, "cache", &[v4(20)], false);
    names.add(ALPHA, "cache", &[v4(21), v4(20)], true);
    let name = "cache".into();
    let kind = Kind::V4;
    let answer = names.answer(&[ALPHA], &Query { name, kind });
    assert_eq!(addresses(answer), (vec![v4(20), v4(21)], true, PASSING_TTL));
}

#[test]
fn an_address_is_named_where_the_asker_could_reach_it() {
    let of = |asker: &[NetworkId], addr| ask(asker, "", Kind::Pointer(addr));
    let named = |name: &str| Answer::Pointers {
        names: vec![name.into()],
        ttl: PASSING_TTL,
    };
    assert_eq!(of(&[BETA, ALPHA], v4(11)), named("web.1.abc.shop_alpha"));
    assert_eq!(of(&[ALPHA], v4(2)), named("web.shop_alpha"));
    assert_eq!(of(&[NAMELESS], v4(90)), named("lone"));
    assert_eq!(of(&[BETA], v4(11)), Answer::Forward);
    assert_eq!(of(&[ALPHA], v4(99)), Answer::Forward);
    // Known, and without a name.
    assert_eq!(of(&[ALPHA], v4(13)), Answer::Empty);
}
