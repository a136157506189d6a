//! The catalog as its file writes it, and the error messages for its author.

use std::fmt;
use std::num::NonZeroUsize;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde_saphyr::options::MergeKeyPolicy;
use serde_saphyr::{MessageFormatter as _, Spanned, UserMessageFormatter};

use super::{Accessories, Catalog, Entry, MAX_CATALOG_BYTES, MAX_ENTRIES, Pattern, Range, RangeError, Select, Which};
use crate::error::{Error, Kind, Result};
use crate::oci::{Platform, Reference, Tag};

/// The version that this program reads.
const VERSION: u64 = 1;

/// Bounds on the parsed size of a text of [`MAX_CATALOG_BYTES`]. A full catalog of [`MAX_ENTRIES`] with every key stays
/// within them.
const MAX_NODES: usize = 3_000_000;
const MAX_DEPTH: usize = 16;
const MAX_ALIASES: usize = 2 * MAX_ENTRIES;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogDocument {
    version: At<u64>,
    entries: At<Vec<At<CatalogFile>>>,
}

/// The version alone: a file of another version may have other keys, and the error must name the version.
#[derive(serde::Deserialize)]
struct Versioned {
    version: At<u64>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogFile {
    from: At<String>,
    to: At<String>,
    #[serde(default, deserialize_with = "given")]
    tags: Option<At<TagsField>>,
    #[serde(default, deserialize_with = "given")]
    latest: Option<At<u64>>,
    #[serde(default, deserialize_with = "given")]
    copy_policy: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    pub_key: Option<At<String>>,
    #[serde(default, deserialize_with = "given")]
    platforms: Option<At<Vec<At<String>>>>,
    #[serde(default, deserialize_with = "given")]
    accessories: Option<At<String>>,
    #[serde(default, deserialize_with = "given")]
    allow_rollback: Option<bool>,
}

/// Requires a value for a key that is present: an empty key is a mistake, not the same as no key.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

enum TagsField {
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

/// A value and its position. Smaller than the parser's own type: a catalog holds many.
struct At<T> {
    value: T,
    place: FilePlace,
}

#[derive(Clone, Copy)]
struct FilePlace {
    line: u32,
    column: u32,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::deserialize(deserializer)?;
        Ok(Self { value, place: FilePlace::of(referenced) })
    }
}

impl FilePlace {
    fn of(location: serde_saphyr::Location) -> Self {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self { line: narrow(location.line()), column: narrow(location.column()) }
    }

    fn error(self, why: impl fmt::Display) -> Error {
        Error::new(Kind::Usage, format!("line {}, column {}", self.line, self.column)).because(why.to_string())
    }
}

impl<T> At<T> {
    /// Parses the value further; an error names its key.
    fn read<U, E: fmt::Display>(&self, key: &str, read: impl FnOnce(&T) -> Result<U, E>) -> Result<U> {
        read(&self.value).map_err(|why| self.place.error(format_args!("{key}: {why}")))
    }
}

pub(super) fn parse(text: &str) -> Result<Catalog> {
    if text.len() as u64 > MAX_CATALOG_BYTES {
        let why = format!("{} bytes, at most {MAX_CATALOG_BYTES} are read of a catalog", text.len());
        return Err(Error::new(Kind::Usage, why).hint("split the catalog"));
    }
    let file: CatalogDocument = serde_saphyr::from_str_with_options(text, options()).map_err(|why| {
        // If the file has another version, that explains every other error.
        match serde_saphyr::from_str_with_options::<Versioned>(text, options()) {
            Ok(other) if other.version.value != VERSION => wrong_version(&other.version),
            _ => told(&why, text),
        }
    })?;
    if file.version.value != VERSION {
        return Err(wrong_version(&file.version));
    }
    if file.entries.value.is_empty() {
        return Err(file.entries.place.error("entries is empty: there is nothing to seed"));
    }
    let entries = file.entries.value.into_iter().map(At::<CatalogFile>::entry).collect::<Result<_>>()?;
    Catalog::new(entries)
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_documents: 2,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ENTRIES,
            // Aliases exist for this: one key with an anchor, used by every entry.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIASES,
            max_replay_stack_depth: 4,
        },
        // No merge keys: an entry contains all of its own keys.
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
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
            line: u64::from(place.line),
            ..Entry::new(from, to)
        };
        entry.check().map_err(|error| error.during(format!("line {}, column {}", place.line, place.column), ""))?;
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

fn wrong_version(version: &At<u64>) -> Error {
    let found = version.value;
    version.place.error(format_args!("version is {found}, this program reads catalogs of version {VERSION}"))
}

/// Returns the parser's error, in words for the author of a catalog.
fn told(error: &serde_saphyr::Error, text: &str) -> Error {
    use serde_saphyr::Error as Yaml;
    let error = error.without_snippet();
    // The parser may not know where a text ends too early: at the end.
    let end = || FilePlace { line: u32::try_from(text.lines().count().max(1)).unwrap_or(u32::MAX), column: 1 };
    let place = error.location().filter(|location| location.line() > 0).map_or_else(end, FilePlace::of);
    match error {
        Yaml::SerdeUnknownField { field, expected, .. } => {
            let told = place.error(format_args!("unknown key `{field}`"));
            match nearest(field, expected) {
                Some(meant) => told.hint(format!("did you mean `{meant}`?")),
                None => told.hint(format!("the keys here are {}", expected.join(", "))),
            }
        }
        Yaml::SerdeMissingField { field, .. } => place.error(format_args!("the key `{field}` is missing")),
        Yaml::DuplicateMappingKey { key: Some(key), .. } => place.error(format_args!("the key `{key}` stands twice")),
        Yaml::NullIntoString { .. } => place.error("a value is missing here"),
        Yaml::Unexpected { expected: "sequence start", .. } => place.error("a list is expected here"),
        Yaml::Unexpected { expected: "mapping start", .. } => place.error("keys with their values are expected here"),
        Yaml::Unexpected { expected: "string scalar", .. } => place.error("a single text is expected here"),
        other => place.error(UserMessageFormatter.format_message(other)),
    }
}

/// Returns the key that was probably meant: one or two typing errors away, and not a different word.
fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    // The long keys of some files are megabytes.
    let written = if written.len() <= 32 { plain(written) } else { return None };
    let slips = |key: &str| strsim::osa_distance(&written, key);
    let (slips, key) = known.iter().map(|key| (slips(key), *key)).min()?;
    (slips <= key.len().div_ceil(3).min(2)).then_some(key)
}
