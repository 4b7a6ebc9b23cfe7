//! The byte encoding of stored and sent values: bincode, behind two functions.
//!
//! bincode is finished rather than maintained, so nothing outside this file names it. It has no field
//! names: records that outlive a process carry a version byte in front, and whatever evolves travels
//! as [`Json`] inside.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// No single value may decode to more than this: 64 MiB, a snapshot with room.
pub const DECODE_LIMIT: usize = 64 << 20;

const CONFIG: Configuration<LittleEndian, Varint, Limit<DECODE_LIMIT>> =
    bincode::config::standard().with_limit::<DECODE_LIMIT>();

/// A value could not be written as bytes, which only a type that bincode cannot hold causes.
#[derive(Debug, thiserror::Error)]
#[error("the value cannot be encoded")]
pub struct EncodeError(#[source] bincode::error::EncodeError);

/// Bytes are not what they should be. Nothing of them was used.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Truncated, out of range or beyond the limit.
    #[error("the bytes do not decode")]
    Malformed(#[source] bincode::error::DecodeError),
    /// A whole value, and more.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

/// The bytes of `value`.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    bincode::serde::encode_to_vec(value, CONFIG).map_err(EncodeError)
}

/// The value of exactly these bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, CONFIG).map_err(DecodeError::Malformed)?;
    match bytes.len() - used {
        0 => Ok(value),
        rest => Err(DecodeError::Trailing(rest)),
    }
}

/// A value that is JSON inside a binary frame, so that fields can be added to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize> Serialize for Json<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let text = serde_json::to_string(&self.0).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return T::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Change, Expect, Node, NodeId, Proposal, Timestamp};

    #[test]
    fn objects_travel_as_json() {
        let node = Node {
            id: NodeId::from_bits(7),
            addresses: vec!["10.0.0.1:2377".parse().unwrap()],
            ..Default::default()
        };
        let bytes = encode(&Json(node.clone())).unwrap();
        assert_eq!(decode::<Json<Node>>(&bytes).unwrap().0, node);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u32).unwrap();
        bytes.push(0);
        assert!(matches!(
            decode::<u32>(&bytes),
            Err(DecodeError::Trailing(1))
        ));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_allocated() {
        let bytes = encode(&u64::MAX).unwrap();
        assert!(matches!(
            decode::<Vec<u8>>(&bytes),
            Err(DecodeError::Malformed(_))
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = decode::<Proposal>(&bytes);
        }

        #[test]
        fn proposals_round_trip(at: i64, bits: u128, version: u64) {
            let proposal = Proposal {
                at: Timestamp::from_nanos(at.into()),
                changes: vec![Change::RemoveNode(Expect::Version(version), NodeId::from_bits(bits))],
            };
            prop_assert_eq!(decode::<Proposal>(&encode(&proposal).unwrap()).unwrap(), proposal);
        }
    }
}
