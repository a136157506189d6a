//! Reads and writes `index.json` (image-spec, "Image Layout").
//!
//! The file is untrusted, and may hold a hundred thousand entries: they are read one at a time, and members that
//! another program wrote are kept as text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::disk;
use crate::disk::Place;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, MediaType, json_cost};

/// Largest `index.json` that is read or written, in bytes, and how many values it may hold: about 100,000 manifests.
pub(super) const MAX_BYTES: u64 = 32 << 20;
const MAX_VALUES: usize = 1_000_000;

/// Most values of one entry, and most members besides the entries.
const MAX_ENTRY_VALUES: usize = 1000;
const MAX_MEMBERS: usize = 1000;

/// The members besides the entries.
#[derive(Debug, Clone)]
pub(super) struct Head {
    schema_version: u32,
    media_type: MediaType,
    /// Members that another program wrote.
    pub(super) rest: BTreeMap<String, Arc<RawValue>>,
}

impl Default for Head {
    fn default() -> Self {
        Self { schema_version: 2, media_type: MediaType::OCI_INDEX, rest: BTreeMap::new() }
    }
}

impl Head {
    /// Returns roughly how many bytes of memory this takes.
    pub(super) fn weight(&self) -> usize {
        self.rest.iter().map(|(name, value)| name.len() + value.get().len() + 100).sum()
    }
}

/// The whole document, for writing.
#[derive(Debug)]
pub(super) struct WrittenIndex<'a> {
    pub(super) head: &'a Head,
    pub(super) entries: Vec<&'a RawValue>,
    /// One additional member.
    pub(super) more: Option<(&'a str, &'a RawValue)>,
}

impl Serialize for WrittenIndex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schemaVersion", &self.head.schema_version)?;
        map.serialize_entry("mediaType", &self.head.media_type)?;
        map.serialize_entry("manifests", &self.entries)?;
        for (name, value) in &self.head.rest {
            map.serialize_entry(name, &**value)?;
        }
        if let Some((name, value)) = self.more {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Deepest nesting of a member that is kept as text; `serde_json` reads no deeper either.
const MAX_DEPTH: u32 = 128;

/// Reads the file, and passes each entry to `take`.
///
/// # Errors
///
/// [`Invalid`](Kind::Invalid) if it is not an index, [`Limit`](Kind::Limit) if it is too large, [`Local`](Kind::Local)
/// if it cannot be read.
pub(super) fn read(place: &Place, mut take: impl FnMut(Descriptor)) -> Result<Head> {
    let bytes = disk::read_bounded(place, MAX_BYTES)?;
    if json_cost::exceeds(&bytes, MAX_VALUES) {
        let why = format!("more than {MAX_VALUES} values");
        return Err(Error::new(Kind::Limit, "read").on(place.path().display()).because(why));
    }
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    let head = Whole(&mut take).deserialize(&mut reader).and_then(|head| reader.end().map(|()| head));
    head.map_err(|why| {
        let told = Error::new(Kind::Invalid, "read").on(place.path().display()).because(why);
        told.hint("index.json must be an OCI image index; restore it or copy the images again")
    })
}

struct Whole<'a, F>(&'a mut F);

impl<'de, F: FnMut(Descriptor)> DeserializeSeed<'de> for Whole<'_, F> {
    type Value = Head;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Head, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Descriptor)> Visitor<'de> for Whole<'_, F> {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an OCI image index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
        let (mut head, mut version, mut has_entries) = (Head::default(), None, false);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "schemaVersion" => version = Some(map.next_value()?),
                "mediaType" => head.media_type = map.next_value()?,
                "manifests" if has_entries => return Err(A::Error::duplicate_field("manifests")),
                "manifests" => {
                    has_entries = true;
                    map.next_value_seed(Entries(&mut *self.0))?;
                }
                _ if head.rest.len() >= MAX_MEMBERS => {
                    return Err(A::Error::custom(format!("more than {MAX_MEMBERS} members")));
                }
                _ => {
                    let text = map.next_value::<Box<RawValue>>()?;
                    check_depth(text.get()).map_err(A::Error::custom)?;
                    head.rest.insert(name, text.into());
                }
            }
        }
        head.schema_version = version.ok_or_else(|| A::Error::missing_field("schemaVersion"))?;
        Ok(head)
    }
}

/// Rejects text that is nested deeper than JSON readers go: it is kept as text, for other programs to read.
fn check_depth(text: &str) -> Result<(), String> {
    let (mut depth, mut is_text, mut is_escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => depth += 1,
            b']' | b'}' if !is_text => depth -= 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
    }
    Ok(())
}

struct Entries<'a, F>(&'a mut F);

impl<'de, F: FnMut(Descriptor)> DeserializeSeed<'de> for Entries<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Descriptor)> Visitor<'de> for Entries<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(text) = entries.next_element::<&RawValue>()? {
            if json_cost::exceeds(text.get().as_bytes(), MAX_ENTRY_VALUES) {
                return Err(A::Error::custom(format!("an entry of more than {MAX_ENTRY_VALUES} values")));
            }
            (self.0)(serde_json::from_str(text.get()).map_err(A::Error::custom)?);
        }
        Ok(())
    }
}
