//! Chooses the tags of a repository for an entry. Pure: the result depends only on the tags that the caller passes.
//!
//! A tag is a *version* if it is a whole semantic version, `1.2.3` or `v1.2.3`, with or without a pre-release. `1.2` and
//! `v1` are not: they are tags that move. Tags next to an image (signatures, fallback indexes, `<tag>-lock`,
//! `<tag>-policy`, `<tag>-catalog`, `<tag>-was-<hex>`) are not images; a pattern, a range or `latest` never chooses them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::num::NonZeroUsize;

use semver::Version;

use super::pattern::Pattern;
use super::range::Range;
use crate::error::{Error, Kind, Result};
use crate::oci::Tag;

/// A choice among the tags of a repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// Which tags match.
    pub which: Which,
    /// How many versions of them, from the highest down; all if none.
    pub latest: Option<NonZeroUsize>,
}

/// Which tags match.
#[derive(Debug, Clone, PartialEq)]
pub enum Which {
    /// All tags of images.
    Every,
    /// These tags, each of which must exist.
    List(Vec<Tag>),
    /// Tags that match a pattern.
    Pattern(Pattern),
    /// Versions within a range.
    Range(Range),
}

impl Which {
    /// Returns whether `latest` may choose pre-releases: if they are listed, or the range (applied before) took them.
    fn wants_pre_releases(&self) -> bool {
        match self {
            Self::Every => false,
            Self::List(_) | Self::Range(_) => true,
            Self::Pattern(pattern) => pattern.spells_hyphen(),
        }
    }
}

impl Select {
    /// Chooses among `tags`, in any order, and returns each tag once: a list without `latest` in its own order; otherwise
    /// from the highest version down, then tags that are not versions, by their bytes.
    ///
    /// `latest` counts versions: `1.2.3` and `v1.2.3` are one, and both are chosen.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if nothing is chosen, or if a tag of a list is missing.
    pub fn choose(&self, tags: &[Tag]) -> Result<Vec<Tag>> {
        let mut chosen = match &self.which {
            Which::List(list) => listed(list, tags)?,
            which => images(tags).filter(|tag| which.holds(tag)).cloned().collect(),
        };
        let is_in_its_own_order = matches!(self.which, Which::List(_)) && self.latest.is_none();
        if !is_in_its_own_order {
            chosen.sort_by_cached_key(|tag| (Reverse(version(tag)), tag.clone()));
            chosen.dedup();
        }
        if let Some(count) = self.latest {
            let with_pre_releases = self.which.wants_pre_releases();
            let mut versions = BTreeSet::new();
            chosen.retain(|tag| match version(tag) {
                Some(version) if with_pre_releases || version.pre.is_empty() => {
                    versions.insert(version);
                    versions.len() <= count.get()
                }
                _ => false,
            });
        }
        if chosen.is_empty() {
            let why = format!("none of {} tags is {self}", tags.len());
            return Err(Error::new(Kind::NotFound, "choose tags").because(why).hint(self.advice()));
        }
        Ok(chosen)
    }

    fn advice(&self) -> &'static str {
        match (&self.which, self.latest) {
            (Which::Range(_), _) | (_, Some(_)) => {
                "only whole versions count, 1.2.3 or v1.2.3; pre-releases must be asked for, as in >=1.2.0-0"
            }
            _ => "check the repository and the pattern; case counts",
        }
    }
}

impl Which {
    fn holds(&self, tag: &Tag) -> bool {
        match self {
            Self::Every => true,
            Self::List(list) => list.contains(tag),
            Self::Pattern(pattern) => pattern.fits(tag.as_str()),
            Self::Range(range) => version(tag).is_some_and(|version| range.holds(&version)),
        }
    }
}

fn listed(list: &[Tag], tags: &[Tag]) -> Result<Vec<Tag>> {
    let held: HashSet<_> = tags.iter().collect();
    match list.iter().find(|tag| !held.contains(tag)) {
        Some(missing) => Err(Error::new(Kind::NotFound, "choose tags")
            .because(format!("the source has no tag {missing}"))
            .hint("check the tags of the entry; case counts")),
        None => Ok(list.to_vec()),
    }
}

/// Returns the version in a tag.
fn version(tag: &Tag) -> Option<Version> {
    let text = tag.as_str();
    Version::parse(text.strip_prefix('v').unwrap_or(text)).ok()
}

/// Returns the tags that name images, without the tags next to an image.
fn images(tags: &[Tag]) -> impl Iterator<Item = &Tag> {
    let all: HashSet<_> = tags.iter().map(Tag::as_str).collect();
    tags.iter().filter(move |tag| !stands_beside(tag.as_str(), &all))
}

fn stands_beside(tag: &str, all: &HashSet<&str>) -> bool {
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    // The fallback tags of referrers and of cosign: sha256-<hex>, sha256-<hex>.sig; for SHA-512 cut at 64 digits, or
    // whole.
    for algorithm in ["sha256-", "sha512-"] {
        let hex = tag.strip_prefix(algorithm).map(|rest| rest.split('.').next().unwrap_or_default());
        if hex.is_some_and(|hex| is_hex(hex, 64) || is_hex(hex, 128)) {
            return true;
        }
    }
    if tag.rsplit_once("-was-").is_some_and(|(image, hex)| !image.is_empty() && is_hex(hex, 12)) {
        return true;
    }
    ["-lock", "-policy", "-catalog"].iter().any(|end| tag.strip_suffix(end).is_some_and(|image| all.contains(image)))
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Every => f.write_str("an image's tag")?,
            Which::List(_) => f.write_str("in the list")?,
            Which::Pattern(pattern) => write!(f, "an image's tag that fits {pattern}")?,
            Which::Range(range) => write!(f, "a version in {range}")?,
        }
        if self.latest.is_some() { f.write_str(" and a version that latest counts") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &[&str]) -> Vec<Tag> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    const HELD: [&str; 16] = [
        "latest",
        "1.2",
        "v1",
        "v1.2.0",
        "1.10.0",
        "v1.10.0",
        "v1.9.3",
        "v2.0.0-rc.1",
        "v2.0.0-rc.1-lock",
        "1.10.0-lock",
        "1.10.0-policy",
        "latest-was-0123456789ab",
        "2.0.0-alpine",
        "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.sig",
        "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "v0.1.0",
    ];

    #[track_caller]
    fn chosen(which: Which, latest: usize, expected: &[&str]) {
        let select = Select { which, latest: NonZeroUsize::new(latest) };
        for held in [HELD.to_vec(), HELD.iter().rev().copied().collect(), [HELD, HELD].concat()] {
            let chosen = select.choose(&tags(&held)).map_err(|error| error.kind());
            let expected = if expected.is_empty() { Err(Kind::NotFound) } else { Ok(tags(expected)) };
            assert_eq!(chosen, expected, "{select}");
        }
    }

    fn pattern(text: &str) -> Which {
        Which::Pattern(text.parse().unwrap())
    }

    fn range(text: &str) -> Which {
        Which::Range(text.parse().unwrap())
    }

    #[test]
    fn a_pattern_chooses_images_and_not_what_stands_beside_them() {
        chosen(pattern("v1.*"), 0, &["v1.10.0", "v1.9.3", "v1.2.0"]);
        chosen(pattern("1.*"), 0, &["1.10.0", "1.2"]);
        chosen(pattern("sha256*"), 0, &[]);
        chosen(pattern("latest*"), 0, &["latest"]);
        chosen(pattern("V1.*"), 0, &[]);
        let everything =
            ["v2.0.0-rc.1", "2.0.0-alpine", "1.10.0", "v1.10.0", "v1.9.3", "v1.2.0", "v0.1.0", "1.2", "latest", "v1"];
        chosen(pattern("*"), 0, &everything);
        chosen(Which::Every, 0, &everything);
    }

    #[test]
    fn a_range_chooses_whole_versions_with_or_without_a_v() {
        chosen(range(">=1.2, <2"), 0, &["1.10.0", "v1.10.0", "v1.9.3", "v1.2.0"]);
        chosen(range("~1.9"), 0, &["v1.9.3"]);
        chosen(range(">=3"), 0, &[]);
        chosen(range(">=2.0.0-0"), 0, &["v2.0.0-rc.1", "2.0.0-alpine"]);
        chosen(range(">=1.10.0-0, <3"), 0, &["v2.0.0-rc.1", "2.0.0-alpine", "1.10.0", "v1.10.0"]);
        chosen(range(">=1.10.0-0, <2"), 0, &["1.10.0", "v1.10.0"]);
        chosen(range("1.x"), 0, &["1.10.0", "v1.10.0", "v1.9.3", "v1.2.0"]);
    }

    #[test]
    fn latest_counts_versions_and_takes_pre_releases_only_when_asked() {
        chosen(Which::Every, 1, &["1.10.0", "v1.10.0"]);
        chosen(Which::Every, 2, &["1.10.0", "v1.10.0", "v1.9.3"]);
        chosen(Which::Every, 99, &["1.10.0", "v1.10.0", "v1.9.3", "v1.2.0", "v0.1.0"]);
        chosen(pattern("v*"), 1, &["v1.10.0"]);
        chosen(pattern("*-*"), 1, &["v2.0.0-rc.1"]);
        chosen(pattern("v[0-9]*"), 1, &["v1.10.0"]);
        chosen(pattern("*-alpine"), 3, &["2.0.0-alpine"]);
        chosen(pattern("latest"), 1, &[]);
        chosen(range(">=2.0.0-0"), 1, &["v2.0.0-rc.1"]);
        chosen(range("<2"), 2, &["1.10.0", "v1.10.0", "v1.9.3"]);
    }

    #[test]
    fn a_list_keeps_its_order_and_must_be_there() {
        chosen(Which::List(tags(&["v1", "1.10.0-lock", "latest"])), 0, &["v1", "1.10.0-lock", "latest"]);
        chosen(Which::List(tags(&["v1", "v3"])), 0, &[]);
        chosen(Which::List(tags(&["v1", "v1.2.0", "v2.0.0-rc.1", "v1.9.3"])), 2, &["v2.0.0-rc.1", "v1.9.3"]);
    }

    #[test]
    fn a_choice_of_nothing_says_why() {
        let told = |which, latest| {
            let error = Select { which, latest: NonZeroUsize::new(latest) }.choose(&tags(&["main"])).unwrap_err();
            format!("{} ({})", error.chain(), error.hint_text().unwrap())
        };
        assert_eq!(
            told(pattern("v*"), 0),
            "choose tags: none of 1 tags is an image's tag that fits v* (check the repository and the pattern; case counts)"
        );
        assert!(told(Which::Every, 2).contains("and a version that latest counts (only whole versions count"));
        assert!(told(Which::List(tags(&["v1"])), 0).contains("the source has no tag v1"));
    }

    proptest::proptest! {
        #[test]
        fn the_answer_depends_on_the_tags_and_not_on_their_order(
            mut held in proptest::collection::vec("(v?[0-2]\\.[0-9]\\.[0-9](-(rc|lock))?|[a-c]{1,2}(-lock)?)", 1..20),
            latest in 0usize..4,
        ) {
            let select = Select { which: Which::Every, latest: NonZeroUsize::new(latest) };
            let texts = |held: &[String]| held.iter().map(|text| text.parse().unwrap()).collect::<Vec<Tag>>();
            let one = select.choose(&texts(&held)).ok();
            held.sort();
            let other = select.choose(&texts(&held)).ok();
            proptest::prop_assert_eq!(&one, &other);
            for tag in one.iter().flatten() {
                proptest::prop_assert!(held.iter().any(|held| held == tag.as_str()));
            }
        }
    }
}
