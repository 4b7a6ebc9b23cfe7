//! The three files in `/etc` that every container has of its own, as texts.
//!
//! Pure. Written by [`super::super::containerd`] into the container's directory and bound from there.

use std::net::IpAddr;

use super::hostname;
use crate::model::ContainerConfig;
use crate::model::container::NetworkMode;

const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// Where a container on networks asks for names, as in Docker.
const RESOLVER: &str = "127.0.0.11";

/// What a machine without name servers is given, as by Docker.
const PUBLIC_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// `/etc/hostname`.
pub fn hostname_file(config: &ContainerConfig) -> String {
    format!("{}\n", hostname(config))
}

/// `/etc/hosts`: of the machine, for a container that is on its network; with the lines that were asked for.
pub fn hosts(config: &ContainerConfig, of_machine: &str) -> String {
    let mut text = if config.network == NetworkMode::Host {
        with_newline(of_machine)
    } else {
        LOOPBACK.to_owned()
    };
    for (address, names) in &config.hosts {
        text.push_str(&format!("{address}\t{}\n", names.join(" ")));
    }
    text
}

/// `/etc/resolv.conf`: what was asked for, and for the rest what the machine has. Name servers on the machine's own
/// loopback are not reached from a container with a network of its own, and are left out.
pub fn resolv_conf(config: &ContainerConfig, of_machine: &str) -> String {
    let dns = &config.dns;
    let nothing_asked = dns.servers.is_empty() && dns.search.is_empty() && dns.options.is_empty();
    let on_host = config.network == NetworkMode::Host;
    if on_host && nothing_asked {
        return with_newline(of_machine);
    }
    let of = |keyword: &str| {
        let lines = of_machine.lines().filter_map(move |line| {
            let (word, rest) = line.trim().split_once(char::is_whitespace)?;
            (word == keyword).then(|| rest.trim().to_owned())
        });
        lines.collect::<Vec<String>>()
    };
    // In a namespace of the data plane its resolver answers, and asks the servers in turn.
    let answered = matches!(config.network, NetworkMode::Namespace(_));
    let mut servers: Vec<String> = match answered {
        true => vec![RESOLVER.into()],
        false => dns.servers.iter().map(IpAddr::to_string).collect(),
    };
    if servers.is_empty() {
        servers = of("nameserver");
        if !on_host {
            servers.retain(|server| !is_loopback(server));
            if servers.is_empty() {
                servers = PUBLIC_SERVERS.map(str::to_owned).to_vec();
            }
        }
    }
    let mut text: String = servers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    let search = match &*dns.search {
        // Docker's word for "none, and not the machine's either".
        [dot] if dot == "." => String::new(),
        [] => of("search").pop().unwrap_or_default(),
        given => given.join(" "),
    };
    if !search.is_empty() {
        text.push_str(&format!("search {search}\n"));
    }
    let options = match &*dns.options {
        [] if answered => "ndots:0".into(),
        [] => of("options").join(" "),
        given => given.join(" "),
    };
    if !options.is_empty() {
        text.push_str(&format!("options {options}\n"));
    }
    text
}

fn is_loopback(server: &str) -> bool {
    let address = server.split('%').next().unwrap_or(server);
    address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn with_newline(text: &str) -> String {
    let newline = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{text}{newline}")
}
