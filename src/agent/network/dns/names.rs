//! Which addresses a name stands for, as seen from a container.
//!
//! The data plane builds one [`Names`] of all that it knows and hands it to the resolver; a container is answered of the
//! networks that it is in, and of no other. No IO, no clock, no chance: the order of addresses is the server's business.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::NetworkId;

/// Seconds that an answer may be kept when its addresses stay for as long as the name.
pub const STEADY_TTL: u32 = 600;

/// Seconds that an answer may be kept when its addresses come and go with tasks.
pub const PASSING_TTL: u32 = 5;

/// All names of a node's networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    networks: BTreeMap<NetworkId, Network>,
    reverse: BTreeMap<IpAddr, Reverse>,
}

/// Names of one network, in small letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Network {
    name: Option<String>,
    entries: BTreeMap<String, Entry>,
}

/// What a name stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    addresses: Vec<IpAddr>,
    shuffled: bool,
}

/// Whose an address is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reverse {
    names: Vec<String>,
    /// Where it was given for a name: only there it is told whose it is.
    networks: Vec<NetworkId>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The name in small letters, without the dot at its end.
    pub name: String,
    /// What of it.
    pub kind: Kind,
}

/// What is asked of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its IPv4 addresses.
    V4,
    /// Its IPv6 addresses.
    V6,
    /// Whatever there is.
    Any,
    /// Whose address this is.
    Pointer(IpAddr),
    /// Something that no name here has.
    Other,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These addresses.
    Addresses {
        /// Which, each once.
        addresses: Vec<IpAddr>,
        /// Whether each answer is to give them in another order.
        shuffled: bool,
        /// Seconds that they may be kept.
        ttl: u32,
    },
    /// An address has these names.
    Pointers {
        /// Which, without the dot at their ends.
        names: Vec<String>,
        /// Seconds that they may be kept.
        ttl: u32,
    },
    /// There is such a name, and it has nothing of that kind. Nobody else is asked.
    Empty,
    /// Nothing is known of that name: servers outside are to be asked.
    Forward,
}

impl Names {
    /// A name in a network stands for these addresses, and for those that it stands for by earlier calls. `shuffled`
    /// when they are those of tasks: given in another order each time, and not to be kept for long. Without an address
    /// the name is known all the same, and nobody outside is asked for it.
    pub fn add(&mut self, network: NetworkId, name: &str, answer: &[IpAddr], shuffled: bool) {
        let entries = &mut self.networks.entry(network).or_default().entries;
        let entry = entries.entry(name.to_ascii_lowercase()).or_default();
        entry.shuffled |= shuffled;
        for addr in answer {
            if !entry.addresses.contains(addr) {
                entry.addresses.push(*addr);
            }
            let networks = &mut self.reverse.entry(*addr).or_default().networks;
            if !networks.contains(&network) {
                networks.push(network);
            }
        }
    }

    /// An address is told to be of this name, in the networks where it is given for any.
    pub fn reverse(&mut self, addr: IpAddr, name: &str) {
        let names = &mut self.reverse.entry(addr).or_default().names;
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }

    /// A network is called this: names in it can be asked for with it behind a dot.
    pub fn network_name(&mut self, network: NetworkId, name: &str) {
        self.networks.entry(network).or_default().name = Some(name.to_ascii_lowercase());
    }

    /// What a container in these networks is told. The first network that has addresses of the kind decides.
    pub fn answer(&self, asker: &[NetworkId], query: &Query) -> Answer {
        if let Kind::Pointer(addr) = query.kind {
            return self.pointer(asker, addr);
        }
        let mut known = false;
        for entry in self.entries(asker, &query.name) {
            known = true;
            let of_kind = |addr: &&IpAddr| match query.kind {
                Kind::V4 => addr.is_ipv4(),
                Kind::V6 => addr.is_ipv6(),
                Kind::Any => true,
                Kind::Pointer(_) | Kind::Other => false,
            };
            let addresses: Vec<IpAddr> = entry.addresses.iter().filter(of_kind).copied().collect();
            if !addresses.is_empty() {
                return Answer::Addresses {
                    addresses,
                    shuffled: entry.shuffled,
                    ttl: if entry.shuffled {
                        PASSING_TTL
                    } else {
                        STEADY_TTL
                    },
                };
            }
        }
        if known {
            Answer::Empty
        } else {
            Answer::Forward
        }
    }

    /// Everything that a name may mean to the asker: in each of its networks as it is, then with a network behind it.
    fn entries<'a>(
        &'a self,
        asker: &'a [NetworkId],
        name: &'a str,
    ) -> impl Iterator<Item = &'a Entry> {
        let networks = || {
            asker
                .iter()
                .filter_map(|network| self.networks.get(network))
        };
        let plain = networks().filter_map(move |network| network.entries.get(name));
        let qualified = networks().filter_map(move |network| {
            let bare = name.strip_suffix(network.name.as_deref()?)?;
            network.entries.get(bare.strip_suffix('.')?)
        });
        plain.chain(qualified)
    }

    fn pointer(&self, asker: &[NetworkId], addr: IpAddr) -> Answer {
        let Some(reverse) = self.reverse.get(&addr) else {
            return Answer::Forward;
        };
        let Some(network) = asker.iter().find(|it| reverse.networks.contains(it)) else {
            return Answer::Forward;
        };
        let of_network = self.networks.get(network);
        let suffix = of_network.and_then(|network| network.name.as_deref());
        let names = reverse.names.iter().map(|name| match suffix {
            Some(suffix) => format!("{name}.{suffix}"),
            None => name.clone(),
        });
        let names: Vec<String> = names.collect();
        if names.is_empty() {
            return Answer::Empty;
        }
        let ttl = PASSING_TTL;
        Answer::Pointers { names, ttl }
    }
}

#[cfg(test)]
mod tests;
