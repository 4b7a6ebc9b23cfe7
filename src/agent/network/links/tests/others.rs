//! What others do: a daemon before this one, an administrator, another program.

use super::*;

fn all() -> Desired {
    Desired {
        peers: [peer(2), peer(3)].into(),
        routes: [
            (subnet("10.0.2.0/24"), peer(2).addr),
            (subnet("fd10:0:0:0:2::/80"), peer(3).addr),
        ]
        .into(),
        pools: [subnet("10.0.0.0/16"), subnet("fd10::/64")].into(),
    }
}

#[test]
fn a_tunnel_that_works_is_taken_as_it_is() {
    alone(|bed| async move {
        let links = bed.open("127.0.0.1").await;
        links.apply(&all()).await.unwrap();
        let (before, link) = (ours(), ip("link show skein0"));
        drop(links);
        let links = bed.open("127.0.0.1").await;
        assert_eq!(
            (ours(), ip("link show skein0")),
            (before.clone(), link.clone())
        );
        links.apply(&all()).await.unwrap();
        assert_eq!((ours(), ip("link show skein0")), (before.clone(), link));
        drop(links);
        // One that belongs to another address would reach nobody.
        ip("addr add 127.0.0.2/8 dev lo");
        let links = bed.open("127.0.0.2").await;
        links.apply(&all()).await.unwrap();
        let link = ip("-d link show skein0");
        assert!(link.contains("local 127.0.0.2"), "{link}");
        assert_eq!(ours().replace("127.0.0.2", "127.0.0.1"), before);
        bed.end().await;
    });
}

#[test]
fn anothers_tunnel_is_named_as_the_reason() {
    alone(|bed| async move {
        ip("link add theirs type vxlan id 4096 dstport 4789 dev lo");
        ip("link set theirs up");
        let underlay = Underlay {
            addr: "127.0.0.1".parse().unwrap(),
            port: 4789,
            mac: [2, 0, 0, 0, 0, 1],
        };
        let folder = bed.folder.path().join("netns");
        let refused = Links::open(underlay, folder, &bed.tracker, bed.stop.child_token()).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("4789/udp is taken"), "{error}");
        assert!(ip("link show theirs").contains("UP"));
        bed.end().await;
    });
}

#[test]
fn what_others_change_is_noticed_and_made_again() {
    alone(|bed| async move {
        let links = bed.open("127.0.0.1").await;
        let shape = [interface(
            &["10.0.1.11", "fd10::11"],
            &["10.0.0.0/16"],
            true,
        )];
        let mut changes = links.changes();
        // Its own work is no change: what it takes away was no longer wanted.
        let mut more = all();
        more.peers.insert(peer(4));
        more.routes.insert(subnet("10.0.4.0/24"), peer(4).addr);
        links.apply(&more).await.unwrap();
        links.apply(&all()).await.unwrap();
        links.wire(container(1), &shape).await.unwrap();
        let other = [interface(&["10.0.1.12", "fd10::12"], &[], false)];
        links.wire(container(2), &other).await.unwrap();
        links.unwire(container(2)).await.unwrap();
        let path = links.wire(container(1), &shape).await.unwrap();
        let whole = ours();
        ip("rule del pref 999");
        changes.changed().await.unwrap();
        assert_eq!(*changes.borrow_and_update(), 1);
        let cable = veth::name(container(1), 0);
        for damage in [
            "link set skein0 down".into(),
            "route del 10.0.2.0/24".into(),
            "-6 route del fd10:0:0:0:2::/80".into(),
            "route del unreachable 10.0.0.0/16".into(),
            "route replace 10.0.2.0/24 dev lo metric 100".into(),
            "neigh del 10.200.0.2 dev skein0".into(),
            "addr del 169.254.1.1/32 dev skein0".into(),
            "link del skein0".into(),
            format!("link set {cable} down"),
            "route del 10.0.1.11".into(),
            format!("link del {cable}"),
        ] {
            links.restore().await.unwrap();
            eventually_is("before", ours, &whole);
            changes.borrow_and_update();
            ip(&damage);
            let noticed = tokio::time::timeout(Duration::from_secs(10), changes.changed()).await;
            noticed
                .unwrap_or_else(|_| panic!("not noticed: {damage}"))
                .unwrap();
            links.restore().await.unwrap();
            eventually_is(&damage, ours, &whole);
            reaches(&path, "10.0.1.11:5000");
            reaches(&path, "[fd10::11]:5000");
        }
        bed.end().await;
    });
}
