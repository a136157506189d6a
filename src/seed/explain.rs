//! Errors of a seed, with hints for the operator.

use crate::error::{Error, Kind, Side};
use crate::oci::{Name, Reference, Tag};
use crate::retry::{is_first_contact, is_outage};
use crate::store::Registry;

/// Most tags in a hint.
const SHOWN: usize = 5;

/// Adds the side at which a reference could not be resolved.
pub(super) fn unresolved(error: Error, side: Side, reference: &Reference) -> Error {
    explained(error.at(side), reference)
}

/// Adds the reference that could not be resolved, and a hint for the operator.
pub(crate) fn explained(error: Error, reference: &Reference) -> Error {
    let hint = match error.kind() {
        Kind::NotFound => Some("check the repository and the tag; a tag is case-sensitive"),
        // A host that has answered before is right; it is away.
        Kind::Unavailable if !is_outage(&error) || is_first_contact(&error) => {
            Some("check the host name, the port and the network")
        }
        _ => None,
    };
    let error = error.during("resolve manifest digest", reference);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The same, with the tags that are there if the one of the reference is not: one more request, whose failure changes
/// nothing.
pub(crate) async fn explained_with_tags(error: Error, reference: &Reference, registry: &Registry) -> Error {
    let Name::Tag(wanted) = reference.name() else { return explained(error, reference) };
    if error.kind() != Kind::NotFound || error.hint_text().is_some() {
        return explained(error, reference);
    }
    let hint = tags_hint(&wanted, &registry.some_tags().await);
    let error = match hint {
        Some(hint) => error.hint(hint),
        None => error,
    };
    explained(error, reference)
}

/// Names the tags that are closest to `wanted`. None if there are none, or if it is one of them.
fn tags_hint(wanted: &Tag, tags: &[Tag]) -> Option<String> {
    let named = tags.iter().map(Tag::as_str).filter(|tag| !is_signature(tag));
    let small = wanted.as_str().to_lowercase();
    let mut near: Vec<_> = named.map(|tag| (strsim::damerau_levenshtein(&small, &tag.to_lowercase()), tag)).collect();
    near.sort_unstable();
    let (distance, closest) = *near.first()?;
    if tags.contains(wanted) {
        return None;
    }
    let shown = listed(&near);
    // A third of the letters may differ.
    Some(match distance <= wanted.as_str().len().div_ceil(3) {
        true => format!("did you mean {closest}? the repository has the tags {shown}"),
        false => format!("the repository has the tags {shown}"),
    })
}

/// Returns whether this is a tag of cosign's, which nobody looks for.
fn is_signature(tag: &str) -> bool {
    tag.starts_with("sha256-")
}

/// Returns the first tags, and how many there are besides.
fn listed(near: &[(usize, &str)]) -> String {
    let shown: Vec<_> = near.iter().take(SHOWN).map(|(_, tag)| *tag).collect();
    match near.len() - shown.len() {
        0 => shown.join(", "),
        count => format!("{} and {count} more", shown.join(", ")),
    }
}

/// Marks the error as a failed verification at `side`.
pub(crate) fn failed(error: Error, side: Side, reference: &Reference) -> Error {
    error.during(format!("{side} verification failed (fail-closed)"), reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(wanted: &str, tags: &[&str]) -> Option<String> {
        let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        tags_hint(&wanted.parse().unwrap(), &tags)
    }

    #[test]
    fn the_closest_tag_is_named_and_a_few_that_are_there() {
        let told = |wanted, tags| hint(wanted, tags).unwrap();
        assert_eq!(told("V1", &["v1", "v2"]), "did you mean v1? the repository has the tags v1, v2");
        assert_eq!(
            told("1.2.3", &["latest", "v1.2.3"]),
            "did you mean v1.2.3? the repository has the tags v1.2.3, latest"
        );
        assert_eq!(told("stable", &["v1"]), "the repository has the tags v1");
        let many = ["v1", "v2", "v3", "v4", "v5", "v6", "v7", "sha256-ab.sig"];
        assert_eq!(told("v8", &many), "did you mean v1? the repository has the tags v1, v2, v3, v4, v5 and 2 more");
    }

    #[test]
    fn nothing_is_said_without_tags_or_about_a_tag_that_is_there() {
        assert_eq!((hint("v1", &[]), hint("v1", &["sha256-ab.sig"]), hint("v1", &["v1", "v2"])), (None, None, None));
    }
}
