//! JSON as Go's decoder reads it, because that is what Docker's clients were tested against.
//!
//! Keys of objects match fields without regard to case, a `null` leaves a field at its default, unknown keys are
//! ignored. Keys of maps (labels, options) are the user's and stay as they are. Pure: a value in, a value out.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// Reads `value` by Go's rules. Types that flatten others do not work: their keys would be taken for a map's.
pub(super) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Loose(value))
}

struct Loose(Value);

impl<'de> Deserializer<'de> for Loose {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(LooseSeq(items.into_iter())),
            Value::Object(map) => visitor.visit_map(LooseMap::of_user(map)),
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                plain.deserialize_any(visitor)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            value => visitor.visit_some(Self(value)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_map(LooseMap::of_fields(map, fields)),
            Value::Null => visitor.visit_map(LooseMap::of_fields(Map::new(), fields)),
            other => Err(Error::invalid_type(unexpected(&other), &"an object")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

struct LooseSeq(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for LooseSeq {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0
            .next()
            .map(|value| seed.deserialize(Loose(value)))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

enum Key {
    User(String),
    Field(&'static str),
}

impl Key {
    fn as_str(&self) -> &str {
        match self {
            Self::User(key) => key,
            Self::Field(key) => key,
        }
    }
}

struct LooseMap {
    entries: std::vec::IntoIter<(Key, Value)>,
    current: Option<(Key, Value)>,
}

impl LooseMap {
    fn of_user(map: Map<String, Value>) -> Self {
        Self::new(map.into_iter().map(|(k, v)| (Key::User(k), v)).collect())
    }

    /// The entries that belong to a field; of several spellings of one field the exact one wins.
    fn of_fields(mut map: Map<String, Value>, fields: &'static [&'static str]) -> Self {
        let mut entries = Vec::with_capacity(fields.len().min(map.len()));
        for field in fields {
            let found = map.remove(*field).or_else(|| {
                let key = map.keys().find(|key| key.eq_ignore_ascii_case(field))?;
                let key = key.clone();
                map.remove(&key)
            });
            match found {
                None | Some(Value::Null) => {}
                Some(value) => entries.push((Key::Field(field), value)),
            }
        }
        Self::new(entries)
    }

    fn new(entries: Vec<(Key, Value)>) -> Self {
        Self {
            entries: entries.into_iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for LooseMap {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        let read = seed.deserialize(StrDeserializer::<Error>::new(key.as_str()))?;
        self.current = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, value)) = self.current.take() else {
            return Err(Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(Loose(value))
            .map_err(|error| Error::custom(format!("{}: {error}", key.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        name: String,
        labels: BTreeMap<String, String>,
        inner: Inner,
        list: Vec<Inner>,
        maybe: Option<u32>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        auto_lock: bool,
        count: u64,
        any: Value,
    }

    #[test]
    fn keys_match_without_case_and_labels_keep_theirs() {
        let read: Outer = from_value(json!({
            "NAME": "a", "unknown": [1, {"x": 2}],
            "labels": {"Zone": "B", "zone": "c"},
            "iNNer": {"autolock": true, "COUNT": 7, "any": {"Key": [1]}},
            "list": [{"count": 1}, {}],
            "Maybe": 3,
        }))
        .unwrap();
        assert_eq!(read.name, "a");
        assert_eq!(
            read.labels,
            BTreeMap::from([("Zone".into(), "B".into()), ("zone".into(), "c".into())])
        );
        assert!(read.inner.auto_lock);
        assert_eq!(read.inner.any, json!({"Key": [1]}));
        assert_eq!((read.inner.count, read.list[0].count), (7, 1));
        assert_eq!((read.list.len(), read.maybe), (2, Some(3)));
    }

    #[test]
    fn the_exact_spelling_wins() {
        let read: Outer = from_value(json!({"name": "b", "Name": "a", "NAME": "c"})).unwrap();
        assert_eq!(read.name, "a");
    }

    #[test]
    fn null_is_the_default_everywhere() {
        let read: Outer =
            from_value(json!({"Name": null, "Labels": null, "Inner": null, "List": null})).unwrap();
        assert_eq!(read, Outer::default());
        assert_eq!(from_value::<Outer>(Value::Null).unwrap(), Outer::default());
    }

    #[test]
    fn a_wrong_type_is_named_with_its_place() {
        let error = from_value::<Outer>(json!({"Inner": {"Count": "seven"}})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Inner: Count: invalid type: string \"seven\", expected u64"
        );
        let error = from_value::<Outer>(json!({"Inner": []})).unwrap_err();
        assert!(error.to_string().contains("expected an object"), "{error}");
        assert!(from_value::<Outer>(json!(7)).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-zA-Z]{0,6}".prop_map(Value::from),
        ];
        let key = prop_oneof!["[a-zA-Z]{0,3}", Just("Inner".into()), Just("LIST".into())];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(key.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_value_panics(value in any_json()) {
            let _ = from_value::<Outer>(value);
        }

        #[test]
        fn exact_json_reads_as_serde_reads_it(name: String, count: u64, zone: String) {
            let value = json!({"Name": name, "Inner": {"Count": count}, "Labels": {"zone": zone}});
            let loose = from_value::<Outer>(value.clone()).unwrap();
            prop_assert_eq!(loose, serde_json::from_value::<Outer>(value).unwrap());
        }
    }
}
