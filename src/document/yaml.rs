//! YAML files that people write, read once and strictly.
//!
//! Unknown keys, duplicate keys, empty keys and wrong types are errors with line and column, in words for the author of
//! the file. A new kind of file needs its serde structs, a [`YamlDocument`] and one call of [`parse`].

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_saphyr::options::MergeKeyPolicy;
use serde_saphyr::{MessageFormatter as _, Spanned, UserMessageFormatter};

use crate::error::{Error, Kind, Result};

/// Deepest nesting of values.
const MAX_DEPTH: usize = 16;
/// Most values per entry of a file, its keys included.
const NODES_PER_ENTRY: usize = 30;

/// The outermost struct of a file. Derives `Deserialize` with `deny_unknown_fields`.
pub(crate) trait YamlDocument: DeserializeOwned {
    /// The format of the file.
    const FORMAT: YamlFormat;

    /// Returns the value of the key `version`.
    fn version(&self) -> &At<u64>;
}

/// The words, the version and the bounds of one kind of file.
pub(crate) struct YamlFormat {
    /// One such file, in messages: `a catalog`.
    pub(crate) one: &'static str,
    /// Several such files, in messages: `catalogs`.
    pub(crate) many: &'static str,
    /// The version that this program reads.
    pub(crate) version: u64,
    /// Largest file, in bytes.
    pub(crate) max_bytes: u64,
    /// The hint for the author of a larger file.
    pub(crate) hint: &'static str,
    /// Most entries of all its lists together; bounds the memory of the parsed file.
    pub(crate) max_entries: usize,
}

/// A value and its position. Smaller than the parser's own type: a file may hold many.
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: FilePlace,
}

/// A position in a file; both numbers begin at 1, columns count characters. Prints as `line 1, column 2`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FilePlace {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// The version alone: a file of another version may have other keys, and the error must name the version.
#[derive(serde::Deserialize)]
struct Versioned {
    version: At<u64>,
}

/// Reads a file of the version in its format.
///
/// # Errors
///
/// [`Usage`](Kind::Usage), with line and column unless the file is too large.
pub(crate) fn parse<T: YamlDocument>(text: &str) -> Result<T> {
    let YamlFormat { one, max_bytes, hint, .. } = T::FORMAT;
    if text.len() as u64 > max_bytes {
        let why = format!("{} bytes, at most {max_bytes} are read of {one}", text.len());
        return Err(Error::new(Kind::Usage, why).hint(hint));
    }
    let options = || options(T::FORMAT.max_entries);
    let document: T = serde_saphyr::from_str_with_options(text, options()).map_err(|why| {
        // If the file has another version, that explains every other error.
        let versioned = serde_saphyr::from_str_with_options::<Versioned>(text, options());
        versioned.ok().and_then(|file| wrong_version::<T>(&file.version)).unwrap_or_else(|| explained(&why, text))
    })?;
    match wrong_version::<T>(document.version()) {
        Some(error) => Err(error),
        None => Ok(document),
    }
}

/// Requires a value for a key that is present: an empty key is a mistake, not the same as no key. For an `Option` with
/// `#[serde(default, deserialize_with = "given")]`.
pub(crate) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::deserialize(deserializer)?;
        Ok(Self { value, place: FilePlace::of(referenced) })
    }
}

impl<T> At<T> {
    /// Parses the value further; an error names its key.
    pub(crate) fn read<U, E: fmt::Display>(&self, key: &str, read: impl FnOnce(&T) -> Result<U, E>) -> Result<U> {
        read(&self.value).map_err(|why| self.place.error(format_args!("{key}: {why}")))
    }
}

impl FilePlace {
    fn of(location: serde_saphyr::Location) -> Self {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self { line: narrow(location.line()), column: narrow(location.column()) }
    }

    /// Builds the error for a mistake at this place.
    pub(crate) fn error(self, why: impl fmt::Display) -> Error {
        Error::new(Kind::Usage, self.to_string()).because(why.to_string())
    }
}

impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

fn options(max_entries: usize) -> serde_saphyr::Options {
    let max_nodes = NODES_PER_ENTRY * max_entries;
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: max_nodes,
            max_events: 2 * max_nodes,
            max_documents: 2,
            max_aliases: 2 * max_entries,
            max_anchors: max_entries,
            // Aliases exist for this: one key with an anchor, used by every entry.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 2 * max_entries,
            max_replay_stack_depth: 4,
        },
        // No merge keys: an entry contains all of its own keys.
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn wrong_version<T: YamlDocument>(version: &At<u64>) -> Option<Error> {
    let YamlFormat { many, version: known, .. } = T::FORMAT;
    let found = version.value;
    let error =
        || version.place.error(format_args!("version is {found}, this program reads {many} of version {known}"));
    (found != known).then(error)
}

/// Returns the parser's error, in words for the author of the file.
fn explained(error: &serde_saphyr::Error, text: &str) -> Error {
    use serde_saphyr::Error as Yaml;
    let error = error.without_snippet();
    // The parser may not know where a text ends too early: at the end.
    let end = || FilePlace { line: u32::try_from(text.lines().count().max(1)).unwrap_or(u32::MAX), column: 1 };
    let place = error.location().filter(|location| location.line() > 0).map_or_else(end, FilePlace::of);
    match error {
        Yaml::SerdeUnknownField { field, expected, .. } => {
            let unknown = place.error(format_args!("unknown key `{field}`"));
            match nearest(field, expected) {
                Some(meant) => unknown.hint(format!("did you mean `{meant}`?")),
                None => unknown.hint(format!("the keys here are {}", expected.join(", "))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Menu {
        version: At<u64>,
        dishes: Vec<At<String>>,
        #[serde(default, deserialize_with = "given")]
        price: Option<At<u64>>,
    }

    impl YamlDocument for Menu {
        const FORMAT: YamlFormat =
            YamlFormat { one: "a menu", many: "menus", version: 3, max_bytes: 200, hint: "cook less", max_entries: 4 };

        fn version(&self) -> &At<u64> {
            &self.version
        }
    }

    fn error(text: &str) -> String {
        let error = parse::<Menu>(text).err().unwrap();
        assert_eq!(error.kind(), Kind::Usage);
        error.hint_text().map_or_else(|| error.chain(), |hint| format!("{} ({hint})", error.chain()))
    }

    #[test]
    fn a_value_knows_where_it_is_used() {
        let menu: Menu = parse("version: 3\ndishes: [&d soup, *d,\n  fish]\nprice: 5\n").unwrap();
        let places: Vec<_> = menu.dishes.iter().map(|dish| format!("{}: {}", dish.place, dish.value)).collect();
        assert_eq!(places, ["line 2, column 13: soup", "line 2, column 19: soup", "line 3, column 3: fish"]);
        let price = menu.price.unwrap().read("price", |price| if *price < 5 { Ok(()) } else { Err("too dear") });
        assert_eq!(price.unwrap_err().chain(), "line 4, column 8: price: too dear");
    }

    #[test]
    fn a_mistake_is_explained_with_its_place() {
        for (text, expected) in [
            ("version: 3\ndishes: []\nprise: 1\n", "line 3, column 1: unknown key `prise` (did you mean `price`?)"),
            (
                "version: 3\ndishes: []\nq: 1\n",
                "line 3, column 1: unknown key `q` (the keys here are version, dishes, price)",
            ),
            ("version: 3\ndishes: []\nprice:\n", "line 3, column 6: invalid u64"),
            ("version: 3\n", "the key `dishes` is missing"),
            ("version: 3\nversion: 3\n", "line 2, column 1: the key `version` stands twice"),
            ("version: 3\ndishes: soup\n", "line 2, column 9: a list is expected here"),
            ("soup", "line 1, column 1: keys with their values are expected here"),
            ("version: 3\ndishes: [[soup]]\n", "line 2, column 10: a single text is expected here"),
            ("version: 3\ndishes: []\n---\nversion: 3\n", "line "),
            ("", "line 1, column 1"),
        ] {
            assert!(error(text).starts_with(expected) || error(text).ends_with(expected), "{text:?}: {}", error(text));
        }
    }

    #[test]
    fn another_version_explains_every_other_error() {
        let expected = "version is 4, this program reads menus of version 3";
        for text in ["version: 4\ndishes: []\n", "version: 4\ncourses: {}\n", "version: 4\n"] {
            assert_eq!(error(text), format!("line 1, column 10: {expected}"));
        }
        assert!(error("version: 3\ncourses: {}\n").contains("unknown key `courses`"));
    }

    #[test]
    fn a_file_stays_within_the_bounds_of_its_format() {
        assert_eq!(error(&"#".repeat(201)), "201 bytes, at most 200 are read of a menu (cook less)");
        assert!(parse::<Menu>(&format!("version: 3\ndishes: [{}]", "x,".repeat(80))).is_ok());
        assert!(error(&format!("version: 3\ndishes: {}", "[".repeat(MAX_DEPTH + 1))).starts_with("line "));
        assert!(error(&format!("version: 3\ndishes: [&x a,{}]", "*x,".repeat(9))).starts_with("line "));
    }
}
