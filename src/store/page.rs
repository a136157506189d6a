//! Pages of long lists: a server answers with one at a time, and holds no more in memory.

use async_trait::async_trait;

use super::Store;
use crate::error::Result;
use crate::oci::{Descriptor, Digest, MediaType};

/// A store that gives its lists in pages: a repository as a server reads it.
#[async_trait]
pub trait PagedStore: Store {
    /// Returns the tags after `last`, in byte order: at most `most`, of at most `most_bytes` together, but at least one.
    ///
    /// # Errors
    ///
    /// Fails like [`Listing::tags`](super::Listing::tags).
    async fn tags_after(&self, last: Option<&str>, most: usize, most_bytes: usize) -> Result<NamesPage>;

    /// Returns the referrers of `subject` after `last`, sorted by digest, of one type if it is given: at most
    /// `most_bytes` together, but at least one.
    ///
    /// # Errors
    ///
    /// Fails like [`Listing::referrers`](super::Listing::referrers).
    async fn referrers_after(
        &self,
        subject: &Digest,
        last: Option<Digest>,
        artifact_type: Option<&MediaType>,
        most_bytes: usize,
    ) -> Result<ReferrersPage>;
}

/// Some of the names in a list, in byte order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamesPage {
    /// The names.
    pub names: Vec<String>,
    /// Whether others follow.
    pub has_more: bool,
}

impl NamesPage {
    /// Returns the names after `last` from a list in byte order: at most `most`, of at most `most_bytes` together, but
    /// at least one.
    pub fn cut<'a>(
        sorted: impl IntoIterator<Item = &'a str>,
        last: Option<&str>,
        most: usize,
        most_bytes: usize,
    ) -> Self {
        let (mut page, mut bytes) = (Self::default(), 0);
        for name in sorted.into_iter().filter(|name| last.is_none_or(|last| *name > last)) {
            bytes += name.len();
            if page.names.len() >= most || (bytes > most_bytes && !page.names.is_empty()) {
                page.has_more = true;
                return page;
            }
            page.names.push(name.to_owned());
        }
        page
    }
}

/// Some of the referrers of a manifest, sorted by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferrersPage {
    /// Their descriptors in JSON, separated by commas.
    pub text: Vec<u8>,
    /// The last of them, if others follow.
    pub next: Option<Digest>,
}

impl ReferrersPage {
    /// Returns the first of the descriptors, which are sorted by digest and in JSON: at most `most_bytes` together, but
    /// at least one.
    pub fn cut<T: AsRef<str>>(sorted: impl IntoIterator<Item = (Digest, T)>, most_bytes: usize) -> Self {
        let mut page = Self::default();
        let mut before = None;
        for (digest, text) in sorted {
            let text = text.as_ref().as_bytes();
            if before.is_some() && page.text.len() + text.len() > most_bytes {
                page.next = before;
                return page;
            }
            if before.is_some() {
                page.text.push(b',');
            }
            page.text.extend_from_slice(text);
            before = Some(digest);
        }
        page
    }

    /// Returns the first of the referrers after `last`, of one type if it is given: at most `most_bytes` together, but
    /// at least one. For a store that has all of them at hand.
    #[must_use]
    pub fn of(
        mut referrers: Vec<Descriptor>,
        last: Option<Digest>,
        artifact_type: Option<&MediaType>,
        most_bytes: usize,
    ) -> Self {
        referrers.retain(|node| {
            let is_meant = artifact_type.is_none() || node.artifact_type.as_ref() == artifact_type;
            is_meant && last.is_none_or(|last| node.digest > last)
        });
        referrers.sort_by_key(|node| node.digest);
        // A descriptor is strings, numbers and maps with string keys: serializing cannot fail.
        let texts = referrers.iter().map(|node| (node.digest, serde_json::to_string(node).unwrap_or_default()));
        Self::cut(texts, most_bytes)
    }
}
