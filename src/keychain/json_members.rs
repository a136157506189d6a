//! A JSON object that is changed in one place and keeps everything else: order, unknown members, even the spelling of
//! their values.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object in their order, each value as it was written.
#[derive(Debug, Default)]
pub(super) struct JsonMembers(Vec<(String, Box<RawValue>)>);

impl JsonMembers {
    /// Reads an object; empty text and `null` are an empty one.
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        Ok(serde_json::from_str::<Option<Self>>(text)?.unwrap_or_default())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.get())
    }

    /// Replaces all members of that name with one value, or adds it at the end.
    pub(super) fn set(&mut self, name: &str, value: String) -> Result<(), serde_json::Error> {
        let value = RawValue::from_string(value)?;
        let place = self.0.iter().position(|(own, _)| own == name).unwrap_or(self.0.len());
        // Readers take the last of several members of one name.
        self.remove(|own| own == name);
        self.0.insert(place, (name.to_owned(), value));
        Ok(())
    }

    /// Removes members by name. Returns whether there were any.
    pub(super) fn remove(&mut self, is_meant: impl Fn(&str) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|(name, _)| !is_meant(name));
        self.0.len() < before
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the object as text, one member per line, with tabs as docker and podman have them. `depth` is its own
    /// indentation.
    pub(super) fn text(&self, depth: usize) -> String {
        if self.0.is_empty() {
            return "{}".to_owned();
        }
        let mut text = "{".to_owned();
        for (number, (name, value)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let name = serde_json::Value::from(name.as_str());
            let _ = write!(text, "{comma}\n{}{name}: {}", "\t".repeat(depth + 1), value.get());
        }
        let _ = write!(text, "\n{}}}", "\t".repeat(depth));
        text
    }
}

impl<'de> Deserialize<'de> for JsonMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = JsonMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonMembers, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(JsonMembers(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_was_written() {
        let text = "{\"z\": 1.50, \"a\" : {\"b\":[ 1,2 ]} ,\"u\": \"\\u00e9\"}";
        let mut members = JsonMembers::parse(text).unwrap();
        members.set("a", "{}".into()).unwrap();
        members.set("new", "true".into()).unwrap();
        assert_eq!(members.text(0), "{\n\t\"z\": 1.50,\n\t\"a\": {},\n\t\"u\": \"\\u00e9\",\n\t\"new\": true\n}");
        assert!(members.remove(|name| name == "z") && !members.remove(|name| name == "z"));
        assert_eq!(JsonMembers::parse("null").unwrap().text(3), "{}");
        assert!(JsonMembers::parse(" \n").unwrap().is_empty() && JsonMembers::parse("[]").is_err());
    }
}
