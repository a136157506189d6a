//! Invariants of the lists that a registry returns, for any bytes.

use super::fallback_index::MAX_VALUES;
use super::listing::{self, ReferrersIndex, TagsPage};
use crate::error::{Error, Kind};
use crate::oci::json_cost;

/// Asserts that a page is an object with its member, and has no more values than were left for it.
pub(crate) fn listing(bytes: &[u8]) {
    let wrong = |kind| Error::new(kind, "read the list of");
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    for most in [MAX_VALUES, 3, 0] {
        let tags = listing::read::<TagsPage>(bytes, most, wrong);
        let index = listing::read::<ReferrersIndex>(bytes, most, wrong);
        let counts =
            [tags.as_ref().ok().map(|page| page.tags.len()), index.as_ref().ok().map(|page| page.manifests.len())];
        for count in counts.into_iter().flatten() {
            // The first value of a list has no comma before it.
            assert!(is_object && count <= most + 1 && count <= bytes.len() && json_cost::count(bytes) <= most);
        }
        for kind in [tags.err(), index.err()].into_iter().flatten().map(|error| error.kind()) {
            assert!(matches!(kind, Kind::Invalid | Kind::Limit), "never for there being none");
        }
    }
}
