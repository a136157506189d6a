//! A wrapper that remembers small content, so that a copy need not fetch again what verification has read.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};

use super::{Body, ByteStream, Listing, ListingStore, Put, Root, Store};
use crate::error::Result;
use crate::oci::{Descriptor, Digest, Name, Tag, json_cost};

/// Largest node that is remembered: signatures, configurations and manifests are smaller, layers are larger.
const MAX_NODE_BYTES: u64 = 64 << 10;
/// Most bytes remembered: this many of nodes, and as many again of lists.
const MAX_BYTES: u64 = 4 << 20;

/// Bytes that one entry of a list of referrers takes, without its strings.
const ENTRY_BYTES: usize = 300;
/// Bytes that each of its values takes.
const VALUE_BYTES: usize = 50;

/// Remembers nodes by digest, after checking them, and the answers for names and lists of referrers: a task that asks
/// twice gets the same answer twice, even if a tag has moved in between.
///
/// For sources, and for one task only. Content at a destination must be read from the destination.
pub struct Cached {
    inner: Arc<dyn ListingStore>,
    known: Mutex<CachedAnswers>,
}

#[derive(Default)]
struct CachedAnswers {
    nodes: HashMap<Digest, Bytes>,
    bytes: u64,
    names: HashMap<Name, Box<Descriptor>>,
    referrers: HashMap<Digest, Vec<Descriptor>>,
    list_bytes: u64,
}

impl Cached {
    /// Returns a cache of what is read from `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ListingStore>) -> Self {
        Self { inner, known: Mutex::default() }
    }

    /// Adds content that was made here and that the inner store does not have. It is kept whatever its length.
    pub(crate) fn add(&self, node: &Descriptor, bytes: &Bytes) {
        self.known().nodes.insert(node.digest, bytes.clone());
    }

    /// Whether `digest` can be read without asking the inner store.
    #[must_use]
    pub fn remembers(&self, digest: &Digest) -> bool {
        self.known().nodes.contains_key(digest)
    }

    fn find(&self, digest: &Digest) -> Option<Bytes> {
        self.known().nodes.get(digest).cloned()
    }

    fn known(&self) -> MutexGuard<'_, CachedAnswers> {
        // A panic elsewhere leaves the maps whole: every change is one insertion.
        crate::sync::lock(&self.known)
    }

    fn named(&self, name: &Name) -> Option<Root> {
        let known = self.known();
        let node = Descriptor::clone(known.names.get(name)?);
        let bytes = known.nodes.get(&node.digest)?.clone();
        Some(Root { node, bytes })
    }

    fn keep_list(&self, subject: &Digest, list: &[Descriptor]) {
        let mut known = self.known();
        let bytes = taken(list);
        if known.list_bytes + bytes <= MAX_BYTES {
            known.list_bytes += bytes;
            known.referrers.insert(*subject, list.to_vec());
        }
    }

    /// Keeps `bytes` if they match `digest` and there is room.
    fn keep(&self, digest: Digest, bytes: &Bytes) {
        let mut known = self.known();
        let size = bytes.len() as u64;
        if size <= MAX_NODE_BYTES && known.bytes + size <= MAX_BYTES && digest.matches(bytes) {
            known.bytes += size;
            known.nodes.insert(digest, bytes.clone());
        }
    }
}

/// Returns roughly how many bytes a list takes in memory: its strings are untrusted, and can be as long as the list.
fn taken(list: &[Descriptor]) -> u64 {
    let json = serde_json::to_vec(list).unwrap_or_default();
    (ENTRY_BYTES * (list.len() + 1) + VALUE_BYTES * json_cost::count(&json) + json.len()) as u64
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cached").field(&self.inner).finish()
    }
}

#[async_trait]
impl Store for Cached {
    fn label(&self) -> &str {
        self.inner.label()
    }

    async fn resolve(&self, name: &Name) -> Result<Descriptor> {
        match self.named(name) {
            Some(root) => Ok(root.node),
            None => self.inner.resolve(name).await,
        }
    }

    async fn fetch(&self, name: &Name) -> Result<Root> {
        if let Some(root) = self.named(name) {
            return Ok(root);
        }
        let root = self.inner.fetch(name).await?;
        self.keep(root.node.digest, &root.bytes);
        self.known().names.insert(name.clone(), Box::new(root.node.clone()));
        Ok(root)
    }

    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        match self.find(&node.digest) {
            Some(_) => Ok(true),
            None => self.inner.contains(node).await,
        }
    }

    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        let known = match self.find(&node.digest) {
            Some(bytes) => bytes,
            None if from > 0 || node.size > MAX_NODE_BYTES => return self.inner.open(node, from).await,
            None => {
                let mut stream = self.inner.open(node, 0).await?;
                let mut bytes = BytesMut::with_capacity(usize::try_from(node.size).unwrap_or_default());
                while let Some(piece) = stream.next().await {
                    bytes.extend_from_slice(&piece?);
                    if bytes.len() as u64 > node.size {
                        break;
                    }
                }
                let bytes = bytes.freeze();
                self.keep(node.digest, &bytes);
                bytes
            }
        };
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(known.len());
        Ok(Box::pin(stream::iter([Ok(known.slice(from..))])))
    }

    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put> {
        self.inner.put(node, body, tags).await
    }

    fn expect(&self, count: usize) {
        self.inner.expect(count);
    }
}

#[async_trait]
impl Listing for Cached {
    async fn tags(&self) -> Result<Vec<Tag>> {
        self.inner.tags().await
    }

    async fn few_tags(&self) -> Result<Vec<Tag>> {
        self.inner.few_tags().await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let known = self.known().referrers.get(subject).cloned();
        if let Some(list) = known {
            return Ok(list);
        }
        let list = self.inner.referrers(subject).await?;
        self.keep_list(subject, &list);
        Ok(list)
    }

    async fn api_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        let known = self.known().referrers.get(subject).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let list = self.inner.api_referrers(subject).await?;
        if let Some(list) = &list {
            self.keep_list(subject, list);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;
    use crate::store::{Memory, read_small};

    #[tokio::test]
    async fn small_content_is_read_from_the_inner_store_once() {
        let memory = Arc::new(Memory::default());
        let node = Descriptor::of(MediaType::OCI_CONFIG, b"config");
        memory.put(&node, &Body::bytes(node.clone(), &b"config"[..]), &[]).await.unwrap();
        let cached = Cached::new(Arc::clone(&memory) as _);
        assert_eq!(read_small(&cached, &node, 100).await.unwrap(), "config");
        assert!(cached.find(&node.digest).is_some());
        assert_eq!(read_small(&cached, &node, 100).await.unwrap(), "config");
    }

    #[tokio::test]
    async fn a_tag_that_moves_in_between_stays_what_it_was() {
        let memory = Arc::new(Memory::default());
        let (name, tag) = (Name::Tag("v1".parse().unwrap()), "v1".parse().unwrap());
        let put = async |text: &'static str| {
            let node = Descriptor::of(MediaType::OCI_INDEX, text.as_bytes());
            memory.put(&node, &Body::bytes(node.clone(), text), &[Tag::clone(&tag)]).await.unwrap();
        };
        put(r#"{"manifests":[]}"#).await;
        let cached = Cached::new(Arc::clone(&memory) as _);
        let first = cached.fetch(&name).await.unwrap();
        put(r#"{"manifests":[],"x":1}"#).await;
        assert_eq!(cached.fetch(&name).await.unwrap(), first);
        assert_ne!(memory.fetch(&name).await.unwrap(), first);
    }

    #[test]
    fn lists_are_remembered_only_as_long_as_they_are_small() {
        let cached = Cached::new(Arc::new(Memory::default()));
        let plain = Descriptor::of(MediaType::OCI_MANIFEST, b"x");
        let mut long = plain.clone();
        long.annotations.insert("a".into(), "x".repeat(3 << 20));
        let subjects: Vec<_> = (0..3).map(|number: u8| Digest::sha256(&[number])).collect();
        for subject in &subjects[..2] {
            cached.keep_list(subject, &[long.clone()]);
        }
        cached.keep_list(&subjects[2], &[plain]);
        let known = subjects.iter().map(|subject| cached.known().referrers.contains_key(subject));
        assert_eq!(known.collect::<Vec<_>>(), [true, false, true]);
    }

    #[tokio::test]
    async fn damaged_content_is_not_remembered() {
        let cached = Cached::new(Arc::new(Memory::default()));
        cached.keep(Digest::sha256(b"right"), &Bytes::from_static(b"wrong"));
        assert!(cached.find(&Digest::sha256(b"right")).is_none());
    }
}
