//! `resolv.conf`: what a container is given, and what the machine's own says.
//!
//! Pure: who calls reads and writes the files.

use std::net::IpAddr;

/// Where a container finds its names.
pub const RESOLVER: &str = "127.0.0.11";

/// Most servers that are asked, as in the C library.
const MOST_SERVERS: usize = 3;

/// A server of the machine's `resolv.conf`, with the interface behind a `%` if it names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) addr: IpAddr,
    pub(super) scope: Option<String>,
}

/// A container's `resolv.conf`. The search list and the options of the machine's own, `host`, hold where the user gave
/// none; the search list `.` means none at all. Names without a dot are asked for as they are (`ndots:0`), unless an
/// option says otherwise.
pub fn resolv_conf(host: &str, search: &[String], options: &[String]) -> String {
    let search = match search {
        [dot] if dot == "." => Vec::new(),
        [] => search_of(host),
        given => given.to_vec(),
    };
    let mut options = match options {
        [] => words(host, &["options"])
            .flatten()
            .map(str::to_owned)
            .collect(),
        given => given.to_vec(),
    };
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".into());
    }
    let mut text = format!("nameserver {RESOLVER}\n");
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    text.push_str(&format!("options {}\n", options.join(" ")));
    text
}

/// The servers to be asked, in order. When none is listed it is the machine itself, as for the C library.
pub(super) fn servers(host: &str) -> Vec<Listed> {
    let listed = words(host, &["nameserver"]).filter_map(|mut words| {
        let text = words.next()?;
        let (addr, scope) = match text.split_once('%') {
            Some((addr, scope)) => (addr, Some(scope.to_owned())),
            None => (text, None),
        };
        let addr = addr.parse().ok()?;
        Some(Listed { addr, scope })
    });
    let mut listed: Vec<Listed> = listed.take(MOST_SERVERS).collect();
    if listed.is_empty() {
        listed.push(Listed {
            addr: IpAddr::from([127, 0, 0, 1]),
            scope: None,
        });
    }
    listed
}

/// The last search list holds; `domain` is an older word for one of a single domain.
fn search_of(host: &str) -> Vec<String> {
    let last = words(host, &["search", "domain"]).last();
    last.map_or_else(Vec::new, |words| {
        let domains = words.filter(|domain| *domain != ".");
        domains.map(str::to_owned).collect()
    })
}

/// The words behind each line's keyword, for lines with one of these.
fn words<'a>(
    host: &'a str,
    keywords: &'a [&str],
) -> impl Iterator<Item = std::str::SplitWhitespace<'a>> {
    host.lines().filter_map(move |line| {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let keyword = words.next()?;
        keywords.contains(&keyword).then_some(words)
    })
}

#[cfg(test)]
mod tests;
