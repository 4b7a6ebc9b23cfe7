//! What a container's file says, and what is read of the machine's.

use super::{Listed, resolv_conf, servers};

const HOST: &str = "# by hand\ndomain old.lan\nnameserver 127.0.0.53 # stub\n nameserver\tfe80::1%eth0\n\
                    search corp.lan lan\noptions edns0 trust-ad\nnameserver nonsense\nsortlist 10.0.0.0\n";

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.into()).collect()
}

fn check(search: &[&str], options: &[&str], expected: &str) {
    assert_eq!(resolv_conf(HOST, &words(search), &words(options)), expected);
}

#[test]
fn the_machines_lists_hold_where_none_are_given() {
    check(
        &[],
        &[],
        "nameserver 127.0.0.11\nsearch corp.lan lan\noptions edns0 trust-ad ndots:0\n",
    );
}

#[test]
fn what_the_user_gives_wins() {
    check(
        &["a.lan", "b.lan"],
        &["ndots:3", "timeout:1"],
        "nameserver 127.0.0.11\nsearch a.lan b.lan\noptions ndots:3 timeout:1\n",
    );
    check(
        &["."],
        &["timeout:1"],
        "nameserver 127.0.0.11\noptions timeout:1 ndots:0\n",
    );
}

#[test]
fn a_machine_without_a_file_gives_nothing() {
    let text = resolv_conf("", &[], &[]);
    assert_eq!(text, "nameserver 127.0.0.11\noptions ndots:0\n");
    let old = resolv_conf("domain old.lan", &[], &[]);
    assert_eq!(
        old,
        "nameserver 127.0.0.11\nsearch old.lan\noptions ndots:0\n"
    );
    let none = resolv_conf("search .", &[], &[]);
    assert_eq!(none, "nameserver 127.0.0.11\noptions ndots:0\n");
}

#[test]
fn servers_are_read_in_order() {
    let listed = |addr: &str, scope: Option<&str>| Listed {
        addr: addr.parse().unwrap(),
        scope: scope.map(str::to_owned),
    };
    let expected = [listed("127.0.0.53", None), listed("fe80::1", Some("eth0"))];
    assert_eq!(servers(HOST), expected);
    assert_eq!(servers("; none\n"), [listed("127.0.0.1", None)]);
    assert_eq!(servers(&"nameserver ::1\n".repeat(9)).len(), 3);
}
