//! A stand-in for the destination before anything is there: returns what the source has, and counts the requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Name, Tag};
use crate::store::{Body, ByteStream, Listing, ListingStore, Put, Root, Store};

/// Each call counts as one request to the destination in a real run.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    source: Arc<dyn ListingStore>,
    /// Roots of tags at the destination that need no change.
    named: Vec<(Tag, Root)>,
    requests: AtomicU64,
}

impl Rehearsal {
    pub(crate) fn new(source: Arc<dyn ListingStore>, named: Vec<(Tag, Root)>) -> Self {
        Self { source, named, requests: AtomicU64::new(0) }
    }

    /// Returns how many requests were counted.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn named(&self, name: &Name) -> Option<&Root> {
        self.named.iter().find(|(tag, _)| matches!(name, Name::Tag(asked) if asked == tag)).map(|(_, root)| root)
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Store for Rehearsal {
    fn label(&self) -> &str {
        self.source.label()
    }

    async fn resolve(&self, name: &Name) -> Result<Descriptor> {
        self.count();
        match self.named(name) {
            Some(root) => Ok(root.node.clone()),
            None => self.source.resolve(name).await,
        }
    }

    async fn fetch(&self, name: &Name) -> Result<Root> {
        self.count();
        match self.named(name) {
            Some(root) => Ok(root.clone()),
            None => self.source.fetch(name).await,
        }
    }

    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        self.count();
        self.source.contains(node).await
    }

    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        self.count();
        self.source.open(node, from).await
    }

    async fn put(&self, node: &Descriptor, _: &Body, _: &[Tag]) -> Result<Put> {
        Err(Error::new(Kind::Usage, "put in a rehearsal").on(node.digest))
    }

    fn expect(&self, _: usize) {}
}

#[async_trait]
impl Listing for Rehearsal {
    async fn tags(&self) -> Result<Vec<Tag>> {
        self.count();
        self.source.tags().await
    }

    async fn few_tags(&self) -> Result<Vec<Tag>> {
        self.count();
        self.source.few_tags().await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        self.count();
        self.source.referrers(subject).await
    }

    async fn api_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        self.count();
        self.source.api_referrers(subject).await
    }
}
