//! Names, addresses and published ports of services, on three nodes and for a client outside.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::bed::Bed;
use crate::crew::{create, until_runs, up};
use crate::wait::{eventually, holds_for, secs};

/// Serves on port 80, and says who asks and who answers.
const SAYS_WHO: &str = "mkdir -p /w/cgi-bin; printf '#!/bin/sh\\necho; echo $REMOTE_ADDR $(hostname)\\n' > /w/cgi-bin/who; \
     chmod +x /w/cgi-bin/who; trap 'exit 0' TERM; httpd -f -p 80 -h /w & wait";

/// How long one question may take.
const PATIENCE: Duration = secs(3);

/// Asks from a host, as any program there would: who was seen to ask, and who answers.
fn ask(bed: &Bed, from: usize, to: &str) -> Result<(String, String), String> {
    let pid = bed.script(&["pid", &from.to_string()]).result()?;
    let to: SocketAddr = to.parse().map_err(|error| format!("{to}: {error}"))?;
    let asked = std::thread::spawn(move || {
        let namespace = File::open(format!("/proc/{}/ns/net", pid.trim()))?;
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /cgi-bin/who HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    });
    let answer = asked.join().map_err(|_| "the asker broke".to_owned())?;
    let answer = answer.map_err(|error| format!("{to} from host {from}: {error}"))?;
    let last = answer.trim().lines().last().unwrap_or_default();
    let (who, by) = last.split_once(' ').ok_or_else(|| answer.clone())?;
    // The server listens for both families.
    let who = who.trim_matches(['[', ']']).trim_start_matches("::ffff:");
    Ok((who.to_owned(), by.to_owned()))
}

fn node(host: usize, port: u16) -> String {
    format!("10.99.0.{}:{port}", 10 + host)
}

#[test]
fn a_published_port_answers_on_every_node_and_shows_the_client() {
    let Some(bed) = up(3) else { return };
    bed.add_hosts(4);
    create(
        &bed,
        1,
        &["--name", "web", "--replicas", "2", "--publish", "8080:80"],
        SAYS_WHO,
    );
    until_runs(&bed, 1, "web", 2, secs(60));
    let client = "10.99.0.14";
    for host in 1..=3 {
        let mut answered = std::collections::BTreeSet::new();
        eventually(secs(20), "both tasks answer a client outside", || {
            let (who, by) = ask(&bed, 4, &node(host, 8080))?;
            if who != client {
                return Err(format!("{who} was seen to ask"));
            }
            answered.insert(by);
            (answered.len() == 2)
                .then_some(())
                .ok_or_else(|| format!("{answered:?}"))
        });
        // From a node itself, by its own address, by another's, and by the loopback.
        for to in [node(1, 8080), node(host, 8080), "127.0.0.1:8080".into()] {
            eventually(secs(10), "it answers a node", || ask(&bed, 1, &to));
        }
    }
    // A node that is gone takes no more connections.
    bed.act("cut", 3);
    eventually(secs(10), "the other nodes know", || {
        (0..8).try_for_each(|_| ask(&bed, 4, &node(1, 8080)).map(drop))
    });
    bed.act("heal", 3);
    // The client keeps asking while every task is replaced, and is always answered.
    eventually(secs(40), "all are back", || {
        let nodes = bed.nodes(1)?;
        let ready = nodes.iter().filter(|node| node.is_ready()).count();
        (ready == 3).then_some(()).ok_or_else(|| format!("{ready}"))
    });
    until_runs(&bed, 1, "web", 2, secs(60));
    bed.docker(
        1,
        &[
            "service",
            "update",
            "--detach",
            "--force",
            "--update-delay",
            "1s",
            "web",
        ],
    )
    .ok();
    // A container without a health check counts as soon as it runs, which is a moment before its program listens.
    let not_listening = |said: &String| said.contains("refused");
    holds_for(secs(8), "every request is answered", || {
        let asked = || ask(&bed, 4, &node(1, 8080)).map(drop);
        match asked() {
            Err(said) if not_listening(&said) => {
                eventually(secs(2), "a second attempt is answered", asked);
                Ok(())
            }
            told => told,
        }
    });
}

#[test]
fn names_lead_to_services_of_the_same_network() {
    let Some(bed) = up(2) else { return };
    for network in ["front", "back"] {
        bed.docker(1, &["network", "create", "--driver", "overlay", network])
            .ok();
    }
    create(
        &bed,
        1,
        &["--name", "web", "--replicas", "2", "--network", "front"],
        SAYS_WHO,
    );
    let runs = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    create(&bed, 1, &["--name", "near", "--network", "front"], runs);
    create(&bed, 1, &["--name", "far", "--network", "back"], runs);
    let near = until_runs(&bed, 1, "near", 1, secs(60));
    let far = until_runs(&bed, 1, "far", 1, secs(60));
    until_runs(&bed, 1, "web", 2, secs(60));
    let look = |container: &str, name: &str| {
        let said = bed.docker(1, &["exec", container, "nslookup", name]);
        let lines: Vec<String> = said
            .out
            .lines()
            .filter_map(|line| line.strip_prefix("Address: "))
            .map(str::to_owned)
            .collect();
        lines
    };
    let inspected = bed.docker(
        1,
        &[
            "service",
            "inspect",
            "web",
            "--format",
            "{{json .Endpoint.VirtualIPs}}",
        ],
    );
    let inspected = inspected.ok();
    eventually(secs(20), "the name is the service's address", || {
        let found = look(near[0].container(), "web");
        match &found[..] {
            [addr] if inspected.contains(&format!("\"{addr}/")) => Ok(()),
            _ => Err(format!("{found:?}, not {inspected}")),
        }
    });
    eventually(secs(20), "both tasks are named", || {
        let found = look(near[0].container(), "tasks.web");
        (found.len() == 2)
            .then_some(())
            .ok_or_else(|| format!("{found:?}"))
    });
    assert_eq!(look(far[0].container(), "web"), Vec::<String>::new());
    is_mended_and_taken_down(&bed, 2);
}

fn is_mended_and_taken_down(bed: &Bed, host: usize) {
    // Emptied by another program, the packet filter's table is written again.
    bed.exec(host, &["nft", "flush", "ruleset"]).ok();
    let tables = || bed.exec(host, &["nft", "list", "tables"]).out;
    eventually(secs(10), "the table is there again", || {
        let tables = tables();
        tables.contains("inet skein").then_some(()).ok_or(tables)
    });
    // A node that leaves takes all of it away.
    bed.docker(host, &["swarm", "leave", "--force"]).ok();
    assert_eq!(tables(), "");
    let left = bed.exec(host, &["ip", "-br", "link"]).ok();
    assert!(!left.contains("sk"), "{left}");
    assert_eq!(
        bed.exec(
            host,
            &["ip", "route", "show", "table", "all", "proto", "83"]
        )
        .ok(),
        ""
    );
}
