//! Tags for a message: as many as one request lists.

use std::time::Duration;

use http::Method;

use super::Registry;
use super::listing::{TagsPage, read};
use crate::error::Result;
use crate::oci::Tag;

/// Longest wait: the error that is explained waits as long.
const LONGEST: Duration = Duration::from_secs(5);

/// Most bytes of the list.
const MAX_BYTES: u64 = 1 << 20;

/// Most values in the list.
const MAX_VALUES: usize = 20_000;

impl Registry {
    /// Returns tags of the repository. None if there is no answer: a message does without them. Asks once.
    pub(crate) async fn some_tags(&self) -> Vec<Tag> {
        let listed = tokio::time::timeout(LONGEST, self.first_tags()).await;
        let names = listed.ok().and_then(Result::ok).unwrap_or_default();
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }

    async fn first_tags(&self) -> Result<Vec<String>> {
        let request = self.request(Method::GET, "tags/list", "list tags of", "");
        let bytes = self.host.send(&request).await?.expect(&[200]).await?.bytes(MAX_BYTES).await?;
        let page: TagsPage = read(&bytes, MAX_VALUES, |kind| self.error(kind, "read the list of", ""))?;
        Ok(page.tags)
    }
}
