//! Identifiers: 128 bits, written as Docker writes them, 25 characters of base 36.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Characters of an identifier: 36^25 is the first power of 36 beyond 2^128.
pub const ID_CHARS: usize = 25;

/// Why a string is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an ID is 25 characters of 0-9 and a-z, below 2^128")]
pub struct ParseIdError;

/// Writes `value` in base 36, lower case, padded with zeros to `width` characters.
pub fn to_base36(mut value: u128, width: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut out = vec![b'0'; width];
    for slot in out.iter_mut().rev() {
        *slot = DIGITS[(value % 36) as usize];
        value /= 36;
    }
    out.into_iter().map(char::from).collect()
}

/// Reads base 36, lower case only. `None` on another character or a value beyond 128 bits.
pub fn from_base36(text: &str) -> Option<u128> {
    text.bytes().try_fold(0u128, |sum, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return None,
        };
        sum.checked_mul(36)?.checked_add(u128::from(digit))
    })
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The identifier with these bits.
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }

            /// The identifier's bits.
            pub const fn bits(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_base36(self.0, ID_CHARS))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if text.len() != ID_CHARS {
                    return Err(ParseIdError);
                }
                from_base36(text).map(Self).ok_or(ParseIdError)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    u128::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

id_type! {
    /// A node: the first 128 bits of the SHA-256 of its public key, so that nobody can claim
    /// another's without its key, and a node keeps its name when all its addresses change.
    NodeId
}

id_type! {
    /// A cluster: random, chosen once by `skein init`; the `O` of every certificate.
    ClusterId
}

id_type! {
    /// A service: random, given by the leader that accepted it.
    ServiceId
}

id_type! {
    /// A task: random, given by the leader that made it.
    TaskId
}

id_type! {
    /// A secret or a config: random, given by the leader that accepted it.
    DependencyId
}

id_type! {
    /// A network of the cluster: random, given by the leader that accepted it.
    NetworkId
}

impl NodeId {
    /// The address that stands for this node in gossip.
    ///
    /// Gossip wants each member to have a socket address that identifies it. A real one would make
    /// an address part of an identity, so the node's own 128 bits are used: nothing ever listens there.
    pub fn gossip_addr(self) -> SocketAddr {
        SocketAddrV6::new(Ipv6Addr::from(self.0), 1, 0, 0).into()
    }

    /// The node that a gossip address stands for; `None` for an address of another family.
    pub fn from_gossip_addr(addr: SocketAddr) -> Option<Self> {
        match addr {
            SocketAddr::V4(_) => None,
            SocketAddr::V6(v6) => Some(Self(v6.ip().to_bits())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_round_trips(bits: u128) {
            let id = NodeId::from_bits(bits);
            prop_assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
            prop_assert_eq!(NodeId::from_gossip_addr(id.gossip_addr()), Some(id));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), id);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<NodeId>();
        }
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in [
            "",
            "short",
            &"z".repeat(25),
            &"A".repeat(25),
            &"0".repeat(26),
        ] {
            assert_eq!(text.parse::<NodeId>(), Err(ParseIdError), "{text}");
        }
    }
}
