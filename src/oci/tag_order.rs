//! The order in which tags are shown: names, then versions from the lowest up, then tags of attachments.
//!
//! Registries list tags by their bytes, so that `v1.10.0` comes before `v1.9.0`. Here numbers are compared as numbers, a
//! pre-release comes before its version (semver, item 11), and the tags beside an image (`<tag>-lock`) come after it.

use std::cmp::Ordering;

use super::Tag;

/// The ends of tags that stand beside another tag.
const BESIDE: [&str; 3] = ["-lock", "-policy", "-catalog"];

/// Compares two tags for a list.
pub(crate) fn compare(one: &Tag, other: &Tag) -> Ordering {
    let (one, other) = (one.as_str(), other.as_str());
    let ((base, beside), (other_base, other_beside)) = (split(one), split(other));
    let by_class = class(base).cmp(&class(other_base));
    let by_base = by_class.then_with(|| match (version(base), version(other_base)) {
        (Some(own), Some(others)) => compare_versions(own, others),
        _ => natural(base, other_base),
    });
    by_base.then_with(|| beside.cmp(other_beside)).then_with(|| one.cmp(other))
}

/// Returns whether this is a tag of cosign's, or of the fallback for the Referrers API.
pub(crate) fn is_attachment(tag: &str) -> bool {
    ["sha256-", "sha512-"].iter().any(|start| tag.starts_with(start))
}

/// Splits a tag into the tag that it stands beside, and the rest.
fn split(tag: &str) -> (&str, &str) {
    let suffix = BESIDE.iter().find(|end| tag.ends_with(*end)).map(|end| tag.len() - end.len());
    // Former roots: `<tag>-was-<12 hex digits>`.
    let former = tag.rfind("-was-").filter(|at| tag.len() == at + "-was-".len() + 12);
    tag.split_at(suffix.or(former).filter(|at| *at > 0).unwrap_or(tag.len()))
}

fn class(base: &str) -> u8 {
    match base {
        _ if is_attachment(base) => 2,
        _ if version(base).is_some() => 1,
        _ => 0,
    }
}

/// Splits a version into its numbers and the rest: `v1.2.3-rc.1` is `1.2.3` and `-rc.1`.
fn version(tag: &str) -> Option<(&str, &str)> {
    let plain = tag.strip_prefix(['v', 'V']).unwrap_or(tag);
    let end = plain.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(plain.len());
    let (numbers, rest) = plain.split_at(end);
    let is_version =
        numbers.split('.').all(|number| !number.is_empty()) && (rest.is_empty() || rest.starts_with(['-', '_']));
    is_version.then_some((numbers, rest))
}

fn compare_versions((numbers, rest): (&str, &str), (others, other_rest): (&str, &str)) -> Ordering {
    let is_final = |rest: &str| !rest.starts_with('-');
    let parts = |numbers| str::split(numbers, '.');
    parts(numbers)
        .map(Number)
        .cmp(parts(others).map(Number))
        .then_with(|| is_final(rest).cmp(&is_final(other_rest)))
        .then_with(|| natural(rest, other_rest))
}

/// Compares texts with runs of digits as numbers.
fn natural(mut one: &str, mut other: &str) -> Ordering {
    loop {
        let (own, rest) = chunk(one);
        let (others, other_rest) = chunk(other);
        let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let order = match (is_number(own), is_number(others)) {
            (true, true) => Number(own).cmp(&Number(others)),
            _ => own.cmp(others),
        };
        if order != Ordering::Equal || own.is_empty() {
            return order;
        }
        (one, other) = (rest, other_rest);
    }
}

/// Splits off the run of digits, or of other characters, at the start.
fn chunk(text: &str) -> (&str, &str) {
    let is_digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(text.len());
    text.split_at(end)
}

/// Digits, ordered as a number of any length.
#[derive(Eq)]
struct Number<'a>(&'a str);

impl PartialEq for Number<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Ord for Number<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let [own, others] = [self.0, other.0].map(|digits| digits.trim_start_matches('0'));
        own.len().cmp(&others.len()).then_with(|| own.cmp(others))
    }
}

impl PartialOrd for Number<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(tags: &[&str]) -> Vec<String> {
        let mut tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        tags.sort_by(compare);
        tags.iter().map(|tag| tag.as_str().to_owned()).collect()
    }

    #[test]
    fn numbers_are_numbers_and_a_pre_release_comes_before_its_version() {
        let expected = [
            "build-9",
            "build-10",
            "latest",
            "v1",
            "1.2",
            "v1.2.0-rc.2",
            "v1.2.0-rc.10",
            "v1.2.0",
            "v1.2.0-lock",
            "v1.2.0-policy",
            "v1.2.0-was-0123456789ab",
            "v1.9.0",
            "v1.10.0",
            "2026-01-09",
            "2026-01-10",
            "2026.1",
            "sha256-00.sig",
        ];
        let mut shuffled = expected;
        shuffled.reverse();
        assert_eq!(sorted(&shuffled), expected);
    }

    #[test]
    fn numbers_of_any_length_are_compared() {
        let long = format!("v{}", "9".repeat(100));
        assert_eq!(sorted(&[&long, "v10", "v9"]), ["v9", "v10", &long]);
    }

    proptest::proptest! {
        #[test]
        fn the_order_is_total(tags in proptest::collection::vec("[v0-9a-c._-]{1,6}", 3)) {
            let tags: Vec<Tag> = tags.iter().filter_map(|tag| tag.parse().ok()).collect();
            for [one, other] in tags.iter().flat_map(|one| tags.iter().map(move |other| [one, other])) {
                proptest::prop_assert_eq!(compare(one, other), compare(other, one).reverse());
                proptest::prop_assert_eq!(compare(one, other) == Ordering::Equal, one == other);
                for third in &tags {
                    let is_chain = compare(one, other).is_le() && compare(other, third).is_le();
                    proptest::prop_assert!(!is_chain || compare(one, third).is_le(), "{} {} {}", one, other, third);
                }
            }
        }
    }
}
