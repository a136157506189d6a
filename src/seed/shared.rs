//! State shared by all seeds of one run: uploads in flight to each registry, and the tag lists of each repository.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio::sync::OnceCell;

use crate::copy::{AttachmentTags, Destination, Flights, KnownTags};
use crate::oci::Repository;
use crate::store::Listing;

/// Lives as long as the run.
#[derive(Debug, Default)]
pub(crate) struct Commons {
    flights: Mutex<HashMap<String, Arc<Flights>>>,
    tags: Mutex<HashMap<Repository, Arc<OnceCell<AttachmentTags>>>>,
}

impl Commons {
    /// Returns `repository` as a destination; all seeds share the uploads in flight to its registry.
    pub(crate) fn site(&self, repository: &Repository) -> Destination {
        shared(&self.flights, repository.canonical().host).site(&repository.path)
    }

    /// Returns the tags of `repository` that hold attachments, as listed when this run first asked.
    pub(crate) async fn tags(
        &self,
        repository: &Repository,
        store: &dyn Listing,
        known: KnownTags<'_>,
    ) -> AttachmentTags {
        let cell = shared(&self.tags, repository.canonical());
        cell.get_or_init(|| AttachmentTags::list(store, known)).await.clone()
    }
}

fn shared<K: Eq + Hash, V: Default>(map: &Mutex<HashMap<K, Arc<V>>>, key: K) -> Arc<V> {
    // A panic elsewhere leaves the map consistent: every change is one insertion.
    Arc::clone(crate::sync::lock(map).entry(key).or_default())
}
