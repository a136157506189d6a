//! Ranges of versions: comparators that all must match, separated by commas, such as `>=1.2, <2`.
//!
//! A range means the same as in npm and Masterminds (Helm), or it is refused with a spelling that does:
//!
//! - `^`, `~`, `=`, `>`, `>=`, `<` and `<=` precede a version, whose last numbers may be missing or be an `x`.
//! - `1.2.x`, `1.x` and `x` are ranges without an operator. A version without an operator is refused beside other
//!   comparators: for npm it means that version alone, for Cargo everything compatible.
//! - Pre-releases are in a range if one of its comparators names a pre-release of the same version (`>=1.2.0-rc.1` takes
//!   `1.2.0-rc.2` and not `1.3.0-rc.1`), or if a lower bound ends with `-0`: `>=1.2.0-0`, `^1.2.0-0` and `~1.2.0-0` take the
//!   pre-releases of all versions within the bounds. A bound that names no pre-release excludes those of its own version:
//!   `>=1.2.0-0, <2` ends before `2.0.0-rc.1`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use semver::{BuildMetadata, Comparator, Op, Prerelease, Version, VersionReq};

/// A range of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    text: String,
    comparators: VersionReq,
    /// Whether the range takes pre-releases of all versions within its bounds.
    takes_pre_releases: bool,
}

/// Why a text is not a range of versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// A spelling that other tools accept, with the spelling for this program.
    #[error("write {0}")]
    Spelling(String),
    /// `||`.
    #[error("|| is not taken: give each alternative an entry of its own, with tags: {0:?} for the first")]
    Either(String),
    /// Not a version with an operator.
    #[error("{0}")]
    Comparator(String),
}

impl Range {
    /// Returns whether `text` can only be meant as a range, valid or not: it begins with an operator, has an `x` in place
    /// of a number, or has several parts.
    pub(super) fn is_meant(text: &str) -> bool {
        let text = text.trim();
        let first = text.split(',').next().unwrap_or_default().trim();
        text.starts_with(['<', '>', '=', '^', '~'])
            || text.contains("||")
            || hyphen_range(text).is_some()
            || is_x_range(first)
    }

    /// Returns whether `version` is in the range.
    pub(super) fn holds(&self, version: &Version) -> bool {
        if version.pre.is_empty() || !self.takes_pre_releases {
            return self.comparators.matches(version);
        }
        self.comparators.comparators.iter().all(|comparator| admits(comparator, version))
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let text = text.trim();
        if let Some((first, _)) = text.split_once("||") {
            return Err(RangeError::Either(first.trim().to_owned()));
        }
        if let Some((from, to)) = hyphen_range(text) {
            return Err(RangeError::Spelling(format!("{:?}", format!(">={from}, <={to}"))));
        }
        let parts: Vec<_> = text.split(',').map(str::trim).collect();
        for part in &parts {
            check_spelling(part)?;
        }
        let comparators = VersionReq::parse(text).map_err(|why| RangeError::Comparator(why.to_string()))?;
        let takes_pre_releases = comparators.comparators.iter().any(is_open_to_pre_releases);
        Ok(Self { text: text.to_owned(), comparators, takes_pre_releases })
    }
}

/// Returns the two ends of `1.2 - 1.4`.
fn hyphen_range(text: &str) -> Option<(&str, &str)> {
    let (from, to) = text.split_once(" - ")?;
    let is_version = |text: &str| text.starts_with(|c: char| c.is_ascii_digit() || c == 'v');
    let (from, to) = (from.trim(), to.trim());
    (is_version(from) && is_version(to)).then(|| (from.trim_start_matches('v'), to.trim_start_matches('v')))
}

/// Returns whether this is `x`, `1.x`, `1.2.x` and so on. A `*` alone is a pattern, as in earlier versions.
fn is_x_range(text: &str) -> bool {
    let is_x = |part: &str| part == "x" || part == "X";
    let parts: Vec<_> = text.split('.').collect();
    let numbers = parts.iter().take_while(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())).count();
    parts.len() <= 3
        && numbers < parts.len()
        && parts[numbers..].iter().all(|part| is_x(part) || *part == "*")
        && parts.iter().any(|part| is_x(part))
}

/// Refuses spellings that Cargo's rules read differently from npm's or not at all, and names the right spelling.
fn check_spelling(part: &str) -> Result<(), RangeError> {
    let spelled = |right: String| Err(RangeError::Spelling(format!("{right:?}")));
    let end_of_operator = part.find(|c: char| !"<>=^~!".contains(c)).unwrap_or(part.len());
    let (operator, version) = part.split_at(end_of_operator);
    let version = version.trim();
    let several: Vec<_> = version.split_whitespace().collect();
    if several.len() > 1 {
        return spelled(apart(part));
    }
    match operator {
        "=>" => return spelled(format!(">={version}")),
        "=<" => return spelled(format!("<={version}")),
        "~>" | "~=" => return spelled(format!("~{version}")),
        "==" => return spelled(format!("={version}")),
        _ => {}
    }
    if let Some(plain) = version.strip_prefix(['v', 'V'])
        && plain.starts_with(|c: char| c.is_ascii_digit())
    {
        return spelled(format!("{operator}{plain}"));
    }
    if operator.is_empty() && !version.is_empty() && !version.contains(['x', 'X', '*']) {
        return spelled(format!(
            "={version} for that version alone, or ^{version} for all that are compatible with it"
        ));
    }
    // `>=1.2-0`, as Helm users write.
    if let Some((numbers, pre)) = version.split_once('-')
        && numbers.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && numbers.split('.').count() < 3
    {
        let missing = ".0".repeat(3 - numbers.split('.').count());
        return spelled(format!("{operator}{numbers}{missing}-{pre}"));
    }
    Ok(())
}

/// Puts commas between comparators that are separated by spaces.
fn apart(part: &str) -> String {
    let mut out = String::new();
    for word in part.split_whitespace() {
        let is_operator_before = out.ends_with(['<', '>', '=', '^', '~']);
        if !out.is_empty() && !is_operator_before {
            out.push_str(", ");
        }
        out.push_str(word);
    }
    out
}

fn is_open_to_pre_releases(comparator: &Comparator) -> bool {
    let is_lower_bound = matches!(comparator.op, Op::GreaterEq | Op::Greater | Op::Caret | Op::Tilde);
    is_lower_bound && comparator.pre.as_str() == "0"
}

/// Returns whether a pre-release is within the bounds of `comparator`.
fn admits(comparator: &Comparator, version: &Version) -> bool {
    let Comparator { op, major, minor, patch, pre } = comparator;
    let named = Version {
        major: *major,
        minor: minor.unwrap_or(0),
        patch: patch.unwrap_or(0),
        pre: pre.clone(),
        build: BuildMetadata::EMPTY,
    };
    let is_whole = patch.is_some();
    // The first version that the comparator names, and the end of all that it covers.
    let begin = if is_whole { named.clone() } else { before(named.clone()) };
    let end = after(*major, *minor, *patch);
    let compared = version.cmp_precedence(&named);
    match op {
        Op::Exact if is_whole => compared == Ordering::Equal,
        Op::Exact | Op::Wildcard => begin <= *version && *version < end,
        Op::Greater if is_whole => compared == Ordering::Greater,
        Op::Greater => *version >= end,
        Op::GreaterEq => *version >= begin,
        Op::Less if is_whole && !pre.is_empty() => compared == Ordering::Less,
        Op::Less => *version < before(named),
        Op::LessEq if is_whole => compared != Ordering::Greater,
        Op::LessEq => *version < end,
        Op::Tilde => begin <= *version && *version < after(*major, *minor, None),
        Op::Caret => begin <= *version && *version < end_of_caret(*major, *minor, *patch),
        _ => false,
    }
}

/// Returns the first version that is not compatible: the leftmost number that is not zero must stay.
fn end_of_caret(major: u64, minor: Option<u64>, patch: Option<u64>) -> Version {
    match (major, minor, patch) {
        (0, Some(0), Some(patch)) => after(0, Some(0), Some(patch)),
        (0, Some(minor), _) => after(0, Some(minor), None),
        (major, _, _) => after(major, None, None),
    }
}

/// Returns the version before every pre-release of `version`.
fn before(version: Version) -> Version {
    Version { pre: Prerelease::new("0").unwrap_or(Prerelease::EMPTY), ..version }
}

/// Returns the version after all that begin with these numbers, before its pre-releases.
fn after(major: u64, minor: Option<u64>, patch: Option<u64>) -> Version {
    before(match (minor, patch) {
        (Some(minor), Some(patch)) => Version::new(major, minor, patch.saturating_add(1)),
        (Some(minor), None) => Version::new(major, minor.saturating_add(1), 0),
        (None, _) => Version::new(major.saturating_add(1), 0, 0),
    })
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn holds(range: &str, inside: &[&str], outside: &[&str]) {
        let range: Range = range.parse().unwrap();
        let version = |text: &&str| -> Version { text.parse().unwrap() };
        for text in inside {
            assert!(range.holds(&version(text)), "{text} in {range}");
        }
        for text in outside {
            assert!(!range.holds(&version(text)), "{text} not in {range}");
        }
    }

    #[test]
    fn a_lower_bound_that_ends_with_0_takes_the_pre_releases_of_all_versions_in_the_range() {
        holds(">=1.2.0-0", &["1.2.0-alpha", "1.2.0", "1.3.0-rc.1", "2.0.0-beta", "9.0.0"], &["1.1.9", "1.1.9-rc.1"]);
        holds(">1.2.0-0", &["1.2.0-alpha", "1.3.0-rc.1"], &["1.2.0-0"]);
        holds("^1.2.0-0", &["1.2.0-rc.1", "1.9.0-rc.1", "1.9.0"], &["2.0.0-rc.1", "2.0.0", "1.1.0-rc.1"]);
        holds("^0.2.0-0", &["0.2.3-rc.1"], &["0.3.0-rc.1"]);
        holds("^0.0.3-0", &["0.0.3-rc.1", "0.0.3"], &["0.0.4-rc.1"]);
        holds("~1.2.0-0", &["1.2.0-rc.1", "1.2.7-rc.1"], &["1.3.0-rc.1", "1.3.0"]);
        holds(">=1.2.0-0, <2", &["1.9.0-rc.1"], &["2.0.0-rc.1", "2.0.0"]);
        holds(">=1.2.0-0, <2.0.0", &["1.9.0-rc.1"], &["2.0.0-rc.1"]);
        holds(">=1.2.0-0, <=2.0.0", &["1.9.0-rc.1", "2.0.0-rc.1"], &["2.0.1-rc.1"]);
        holds(">=1.2.0-0, <2.0.0-rc.2", &["2.0.0-rc.1"], &["2.0.0-rc.2", "2.0.0-rc.3"]);
        holds(">=1.2.0-0, 1.x", &["1.9.0-rc.1"], &["2.0.0-rc.1"]);
    }

    #[test]
    fn otherwise_pre_releases_are_taken_only_where_their_version_is_named() {
        holds(">=1.2.0-rc.1", &["1.2.0-rc.2", "1.3.0"], &["1.3.0-rc.1", "1.2.0-beta"]);
        holds(">=1.2.0, <2.0.0-0", &["1.9.0"], &["1.9.0-rc.1", "2.0.0-rc.1"]);
        holds(">=1.2, <2", &["1.2.0", "1.9.9"], &["1.3.0-rc.1", "2.0.0"]);
        holds("=1.2.3-0", &["1.2.3-0"], &["1.2.3-1", "1.2.3", "1.2.4-0"]);
    }

    #[test]
    fn an_x_stands_for_any_number() {
        for text in ["1.2.x", "1.2.X", "=1.2.x", "~1.2.x", "~1.2", "=1.2"] {
            holds(text, &["1.2.0", "1.2.99"], &["1.3.0", "1.1.0", "1.2.3-rc.1"]);
        }
        for text in ["1.x", "1.x.x", "^1.x", "~1", "1.X, >=1.0.0"] {
            holds(text, &["1.0.0", "1.9.9"], &["2.0.0", "0.9.0"]);
        }
        holds("x", &["0.0.1", "9.9.9"], &["1.0.0-rc.1"]);
        holds(">1.x", &["2.0.0"], &["1.9.9"]);
        for text in ["x", "1.x", "1.2.x", "1.x.x", "1.2.x, <1.2.7", ">=1", " ~1", "1 - 2", "1 || 2"] {
            assert!(Range::is_meant(text), "{text}");
        }
        for text in
            ["v1.x", "xx", "1.2", "1.2.3", "1.2.*", "*", "v1.*", "x86", "1.2.3.x", "x.1", "1..x", "linux - x", ""]
        {
            assert!(!Range::is_meant(text), "{text}");
        }
    }

    #[test]
    fn what_cargo_reads_otherwise_than_others_do_is_refused_with_the_right_spelling() {
        for (text, right) in [
            (">=1.2 <2", "write \">=1.2, <2\""),
            (">= 1.2 < 2", "write \">=1.2, <2\""),
            (">=1.2  <2  ", "write \">=1.2, <2\""),
            ("1.2 - 1.4", "write \">=1.2, <=1.4\""),
            ("v1.2.3 - v2.3.4", "write \">=1.2.3, <=2.3.4\""),
            ("~>1.2", "write \"~1.2\""),
            ("=>1.2", "write \">=1.2\""),
            ("=<1.2", "write \"<=1.2\""),
            ("==1.2.3", "write \"=1.2.3\""),
            (">=v1.2", "write \">=1.2\""),
            (">=1.2-0", "write \">=1.2.0-0\""),
            ("^1-0", "write \"^1.0.0-0\""),
            (">=1.2, 1.5.0", "write \"=1.5.0 for that version alone, or ^1.5.0"),
            ("^1.2 || ^2", "give each alternative an entry of its own, with tags: \"^1.2\" for the first"),
        ] {
            let why = text.parse::<Range>().unwrap_err().to_string();
            assert!(why.contains(right), "{text}: {why}");
        }
        for text in ["", ">", ">=1.2,", "^", "!=1.2", ">=1.2.3.4", ">=a", "x, <1", ">=01"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn releases_are_within_the_same_bounds_by_both_rules(
            operator in "(=|>|>=|<|<=|\\^|~)",
            named in "[0-2](\\.[0-2](\\.[0-2])?)?",
            version in "[0-3]\\.[0-3]\\.[0-3]",
        ) {
            let range: Range = format!("{operator}{named}").parse().unwrap();
            let version: Version = version.parse().unwrap();
            let by_bounds = range.comparators.comparators.iter().all(|comparator| admits(comparator, &version));
            proptest::prop_assert_eq!(by_bounds, range.holds(&version));
        }

        #[test]
        fn no_text_makes_it_panic(text in "([<>=^~x0-9., *-]|\\PC){0,20}", version in "[0-9]\\.[0-9]\\.[0-9](-[a-z0-9]{1,3})?") {
            let _ = Range::is_meant(&text);
            if let Ok(range) = text.parse::<Range>() {
                let _ = range.holds(&version.parse().unwrap());
            }
        }
    }
}
