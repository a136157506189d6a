//! The catalog as its file writes it.

use std::fmt;
use std::num::NonZeroUsize;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::{Accessories, Catalog, Entry, MAX_CATALOG_BYTES, MAX_ENTRIES, Pattern, Range, RangeError, Select, Which};
use crate::document::yaml::{self, At, YamlDocument, YamlFormat, given};
use crate::error::Result;
use crate::oci::{Platform, Reference, Tag};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CatalogDocument {
    version: At<u64>,
    pub(super) entries: At<Vec<At<CatalogFile>>>,
}

impl YamlDocument for CatalogDocument {
    const FORMAT: YamlFormat = YamlFormat {
        one: "a catalog",
        many: "catalogs",
        version: 1,
        max_bytes: MAX_CATALOG_BYTES,
        hint: "split the catalog",
        max_entries: MAX_ENTRIES,
    };

    fn version(&self) -> &At<u64> {
        &self.version
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CatalogFile {
    pub(super) from: At<String>,
    to: At<String>,
    #[serde(default, deserialize_with = "given")]
    tags: Option<At<TagsField>>,
    #[serde(default, deserialize_with = "given")]
    latest: Option<At<u64>>,
    #[serde(default, deserialize_with = "given")]
    copy_policy: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    pub(super) pub_key: Option<At<String>>,
    #[serde(default, deserialize_with = "given")]
    platforms: Option<At<Vec<At<String>>>>,
    #[serde(default, deserialize_with = "given")]
    accessories: Option<At<String>>,
    #[serde(default, deserialize_with = "given")]
    allow_rollback: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    pub(super) pinned: Option<bool>,
}

pub(super) enum TagsField {
    List(Vec<At<String>>),
    /// A pattern or a range.
    Text(String),
}

impl<'de> Deserialize<'de> for TagsField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TagsVisitor)
    }
}

struct TagsVisitor;

impl<'de> Visitor<'de> for TagsVisitor {
    type Value = TagsField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags, a pattern such as \"v1.*\" or a range such as \">=1.2, <2\", in quotes")
    }

    fn visit_str<E>(self, text: &str) -> Result<TagsField, E> {
        Ok(TagsField::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<TagsField, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(items)).map(TagsField::List)
    }
}

pub(super) fn parse(text: &str) -> Result<Catalog> {
    let file: CatalogDocument = yaml::parse(text)?;
    if file.entries.value.is_empty() {
        return Err(file.entries.place.error("entries is empty: there is nothing to seed"));
    }
    let entries = file.entries.value.into_iter().map(At::<CatalogFile>::entry).collect::<Result<_>>()?;
    Catalog::new(entries)
}

impl At<CatalogFile> {
    fn entry(self) -> Result<Entry> {
        let Self { value: written, place } = self;
        let reference = |key, at: &At<String>| at.read(key, |text| text.parse::<Reference>());
        let (from, to) = (reference("from", &written.from)?, reference("to", &written.to)?);
        let entry = Entry {
            select: select(written.tags.as_ref(), written.latest.as_ref())?,
            copy_policy: written.copy_policy.unwrap_or_default(),
            pub_key: written.pub_key.as_ref().map(pub_key).transpose()?,
            platforms: written.platforms.as_ref().map(platforms).transpose()?.unwrap_or_default(),
            accessories: written.accessories.as_ref().map(accessories).transpose()?,
            allow_rollback: written.allow_rollback.unwrap_or_default(),
            pinned: written.pinned.unwrap_or_default(),
            line: u64::from(place.line),
            ..Entry::new(from, to)
        };
        entry.check().map_err(|error| error.during(place.to_string(), ""))?;
        Ok(entry)
    }
}

fn select(tags: Option<&At<TagsField>>, latest: Option<&At<u64>>) -> Result<Option<Select>> {
    if tags.is_none() && latest.is_none() {
        return Ok(None);
    }
    let which = tags.map_or(Ok(Which::Every), which)?;
    let count = |count: &u64| {
        let count = usize::try_from(*count).ok().and_then(NonZeroUsize::new);
        count.ok_or("0 chooses nothing; leave the key out to choose all")
    };
    let latest = latest.map(|at| at.read("latest", count)).transpose()?;
    Ok(Some(Select { which, latest }))
}

fn which(tags: &At<TagsField>) -> Result<Which> {
    match &tags.value {
        TagsField::List(list) if list.is_empty() => Err(tags.place.error("tags: the list is empty")),
        TagsField::List(list) => {
            let tag = |at: &At<String>| {
                at.read("tags", |text| text.parse::<Tag>())
                    .map_err(|error| error.hint("a pattern stands alone and not in a list: tags: \"v1.*\""))
            };
            list.iter().map(tag).collect::<Result<_>>().map(Which::List)
        }
        TagsField::Text(text) if Range::is_meant(text) => {
            let range = text.parse().map_err(|why: RangeError| tags.place.error(format_args!("tags: {why}")));
            range.map(Which::Range).map_err(|error| {
                error.hint(format!("{text:?} is read as a range of versions, which are written without a v"))
            })
        }
        TagsField::Text(text) => {
            let pattern = text.parse::<Pattern>().map_err(|why| tags.place.error(format_args!("tags: {why}")));
            pattern.map(Which::Pattern).map_err(|error| {
                error.hint("a range of versions begins with one of < > = ^ ~, as in \">=1.2, <2\", or is 1.2.x")
            })
        }
    }
}

fn pub_key(at: &At<String>) -> Result<String> {
    at.read("pub_key", |path| match path.trim() {
        "" => Err("names no file; leave the key out if there is none"),
        _ => Ok(path.clone()),
    })
}

fn platforms(at: &At<Vec<At<String>>>) -> Result<Vec<Platform>> {
    if at.value.is_empty() {
        return Err(at.place.error("platforms: the list is empty; leave the key out to copy all"));
    }
    let mut found = Vec::new();
    for text in &at.value {
        let platform = text.read("platforms", |text| text.parse::<Platform>())?;
        if found.contains(&platform) {
            return Err(text.place.error(format_args!("platforms: {platform} stands twice")));
        }
        found.push(platform);
    }
    Ok(found)
}

fn accessories(at: &At<String>) -> Result<Accessories> {
    at.read("accessories", |text| match text.as_str() {
        "all" => Ok(Accessories::All),
        "root" => Ok(Accessories::Root),
        "none" => Ok(Accessories::None),
        other => Err(format!("{other:?} is not one of all, root, none")),
    })
}
