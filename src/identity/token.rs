//! Join tokens: `SWMTKN-1-<digest of the root>-<secret>[@host[:port][,…]]`, and whom a secret admits.
//!
//! The text is Swarm's, with addresses added. The digest lets a machine that has nothing but the token recognise the
//! cluster; the secret lets the cluster recognise the machine's owner. Called by the command line, the API and the node
//! that answers join requests. Pure but for [`new_secret`]. Neither errors nor Debug ever show a secret.

mod address;

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use subtle::{Choice, ConstantTimeEq};

use crate::model::cluster::Secret;
use crate::model::id::to_base36;
use crate::model::{JoinKind, JoinSecrets};
use address::parse_address;

/// What every token starts with.
pub const PREFIX: &str = "SWMTKN-1-";

/// Characters of the digest: 256 bits in base 36.
pub const DIGEST_CHARS: usize = 50;

/// Characters of the secret: 128 bits in base 36.
pub const SECRET_CHARS: usize = 25;

/// Addresses that one token may carry.
pub const MAX_ADDRESSES: usize = 16;

/// The SHA-256 of a root certificate's PEM text, which names a cluster's root in its join tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootDigest([u8; 32]);

impl RootDigest {
    /// The digest of a root as [`RootCa::cert_pem`](crate::model::RootCa) holds it: byte for byte, as Swarm does.
    pub fn of_pem(cert_pem: &str) -> Self {
        let hash = digest(&SHA256, cert_pem.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_ref());
        Self(bytes)
    }

    /// Reads base 36. `None` on another character or beyond 256 bits; the length is the caller's to check.
    fn from_base36(text: &str) -> Option<Self> {
        let mut bytes = [0u8; 32];
        for digit in text.chars() {
            let mut carry = base36_digit(digit)?;
            for byte in bytes.iter_mut().rev() {
                let value = u32::from(*byte) * 36 + carry;
                *byte = (value & 0xff) as u8;
                carry = value >> 8;
            }
            if carry != 0 {
                return None;
            }
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut text = [b'0'; DIGEST_CHARS];
        for slot in text.iter_mut().rev() {
            let mut remainder = 0u32;
            for byte in &mut rest {
                let value = (remainder << 8) | u32::from(*byte);
                *byte = (value / 36) as u8;
                remainder = value % 36;
            }
            *slot = b"0123456789abcdefghijklmnopqrstuvwxyz"[remainder as usize];
        }
        text.iter()
            .try_for_each(|digit| fmt::Write::write_char(f, char::from(*digit)))
    }
}

impl fmt::Debug for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootDigest({self})")
    }
}

/// A parsed join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// Which root the cluster must show.
    pub digest: RootDigest,
    /// What the cluster must be shown.
    pub secret: Secret,
    /// Where members may be found, `host[:port]` each, IPv6 in brackets; may be empty.
    pub addresses: Vec<String>,
}

/// Why a text is no join token. Every message is one sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing there.
    #[error("invalid join token: it is empty; `skein token` on a member of the cluster prints one")]
    Empty,
    /// Not a Swarm token at all.
    #[error(
        "invalid join token: it does not begin with {PREFIX}; copy all of what `skein token` prints on a member"
    )]
    Prefix,
    /// A token of Docker's FIPS mode.
    #[error(
        "invalid join token: SWMTKN-2 tokens belong to Docker in FIPS mode; `skein token` on a member prints one for this cluster"
    )]
    Fips,
    /// More or fewer `-` than the format has.
    #[error(
        "invalid join token: {PREFIX} must be followed by two parts with one - between them, here are {0}; copy all of what `skein token` prints"
    )]
    Parts(usize),
    /// The digest's length.
    #[error(
        "invalid join token: its first part has {0} characters instead of {DIGEST_CHARS}; copy all of what `skein token` prints"
    )]
    DigestLength(usize),
    /// The secret's length.
    #[error(
        "invalid join token: its second part has {0} characters instead of {SECRET_CHARS}; copy all of what `skein token` prints"
    )]
    SecretLength(usize),
    /// Not base 36.
    #[error(
        "invalid join token: {found:?} at character {position} is not one of 0-9 and a-z; copy all of what `skein token` prints"
    )]
    Character {
        /// What is there.
        found: char,
        /// Where, counted from 1 in the whole token.
        position: usize,
    },
    /// More than 256 or 128 bits: some character was changed.
    #[error(
        "invalid join token: its {0} part is out of range, so it was mistyped; copy all of what `skein token` prints"
    )]
    Range(&'static str),
    /// After the `@`.
    #[error(
        "invalid join token: {text:?} after the @ is no address ({why}); write TOKEN@host or TOKEN@host:port, several with commas between them"
    )]
    Address {
        /// The part that is wrong.
        text: String,
        /// In which way.
        why: &'static str,
    },
    /// More than [`MAX_ADDRESSES`].
    #[error(
        "invalid join token: it carries more than {MAX_ADDRESSES} addresses; one member that answers is enough"
    )]
    TooManyAddresses,
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        let (token, addresses) = match text.split_once('@') {
            Some((token, addresses)) => (token, Some(addresses)),
            None => (text, None),
        };
        let Some(rest) = token.strip_prefix(PREFIX) else {
            let fips = token.starts_with("SWMTKN-2-");
            return Err(if fips {
                TokenError::Fips
            } else {
                TokenError::Prefix
            });
        };
        let parts: Vec<&str> = rest.split('-').take(8).collect();
        let [digest_text, secret_text] = parts[..] else {
            return Err(TokenError::Parts(parts.len()));
        };
        check_characters(rest)?;
        if digest_text.len() != DIGEST_CHARS {
            return Err(TokenError::DigestLength(digest_text.len()));
        }
        if secret_text.len() != SECRET_CHARS {
            return Err(TokenError::SecretLength(secret_text.len()));
        }
        let digest = RootDigest::from_base36(digest_text).ok_or(TokenError::Range("first"))?;
        crate::model::id::from_base36(secret_text).ok_or(TokenError::Range("second"))?;
        Ok(Self {
            digest,
            secret: Secret(secret_text.to_owned()),
            addresses: addresses.map_or_else(|| Ok(Vec::new()), parse_addresses)?,
        })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}-{}", self.digest, self.secret.0)?;
        for (n, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if n == 0 { '@' } else { ',' })?;
        }
        Ok(())
    }
}

fn base36_digit(digit: char) -> Option<u32> {
    (digit.is_ascii_digit() || digit.is_ascii_lowercase())
        .then(|| digit.to_digit(36))
        .flatten()
}

fn check_characters(rest: &str) -> Result<(), TokenError> {
    let wrong = rest
        .chars()
        .enumerate()
        .find(|(_, found)| *found != '-' && base36_digit(*found).is_none());
    match wrong {
        Some((index, found)) => Err(TokenError::Character {
            found,
            position: PREFIX.len() + index + 1,
        }),
        None => Ok(()),
    }
}

fn parse_addresses(text: &str) -> Result<Vec<String>, TokenError> {
    let mut addresses = Vec::new();
    for part in text.split(',') {
        if addresses.len() == MAX_ADDRESSES {
            return Err(TokenError::TooManyAddresses);
        }
        let address = parse_address(part.trim()).map_err(|why| TokenError::Address {
            text: part.chars().take(80).collect(),
            why,
        })?;
        addresses.push(address);
    }
    Ok(addresses)
}

/// The secret part of a new token: 128 random bits.
pub fn new_secret() -> Secret {
    Secret(to_base36(rand::random(), SECRET_CHARS))
}

/// What an offered secret admits to. Takes the same time whichever of the three it equals, and however nearly.
pub fn admits(secrets: &JoinSecrets, offered: &Secret) -> Option<JoinKind> {
    let opens = |secret: &Secret| -> Choice {
        // A secret that was never set is empty, and must not admit an empty offer.
        let is_set = Choice::from(u8::from(secret.0.len() == SECRET_CHARS));
        is_set & secret.0.as_bytes().ct_eq(offered.0.as_bytes())
    };
    let worker = opens(&secrets.worker);
    let manager = opens(&secrets.manager);
    let peer = opens(&secrets.peer);
    [
        (worker, JoinKind::Worker),
        (manager, JoinKind::Manager),
        (peer, JoinKind::Peer),
    ]
    .into_iter()
    .find_map(|(opens, kind)| bool::from(opens).then_some(kind))
}

#[cfg(test)]
mod tests;
