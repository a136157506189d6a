//! JSON with one meaning: an object with a duplicate key is refused, at any depth.
//!
//! `serde_json` alone keeps the last of two equal keys; other readers keep the first, or compare keys without case. Two
//! readers of one signed text would then see two meanings. Also refuses nesting past serde_json's limit of 128, data
//! after the value, and more values than any document has: most input here is not verified yet.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::oci::json_cost;

/// Most values in one document.
pub(super) const MAX_VALUES: usize = 50_000;

/// Reads one JSON value that fills `bytes`, without duplicate keys, and with at most [`MAX_VALUES`] values.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    if json_cost::exceeds(bytes, MAX_VALUES) {
        return Err(de::Error::custom(format_args!("more than {MAX_VALUES} values")));
    }
    serde_json::from_slice::<Unique>(bytes).map(|Unique(value)| value)
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format_args!("duplicate key {key:?}")));
            }
            let Unique(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_said_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"x":{"a":1,"b":2,"a":3}}]"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(parse(text.as_bytes()).unwrap_err().to_string().contains("duplicate key \"a\""), "{text}");
        }
        assert!(parse(br#"{"a":1,"A":1,"b":{"a":1}}"#).is_ok(), "another case is another key");
    }

    #[test]
    fn trailing_data_and_deep_nesting_are_refused() {
        assert!(parse(b"{} {}").is_err());
        assert!(parse(b"{}\n ").is_ok());
        for open in ["[", r#"{"a":"#] {
            assert!(parse(open.repeat(1000).as_bytes()).unwrap_err().to_string().contains("recursion limit"));
        }
    }

    #[test]
    fn a_document_of_too_many_values_is_refused_before_they_take_memory() {
        let text = format!("[{}0]", "0,".repeat(MAX_VALUES + 1));
        assert!(parse(text.as_bytes()).unwrap_err().to_string().contains("more than 50000 values"));
        assert!(parse(format!("[{}0]", "0,".repeat(MAX_VALUES)).as_bytes()).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn what_has_no_duplicates_reads_as_elsewhere(text in r#"(\[|\]|\{|\}|"a":|"b":|,|1|-0|1.5e3|null|true|"\\u00e9"| ){0,12}"#) {
            let theirs = serde_json::from_str::<Value>(&text);
            match parse(text.as_bytes()) {
                Ok(ours) => proptest::prop_assert_eq!(ours, theirs.unwrap()),
                Err(why) => proptest::prop_assert!(theirs.is_err() || why.to_string().contains("duplicate")),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
