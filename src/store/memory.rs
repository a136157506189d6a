//! A store in memory: for tests of the engine, and for content made by this process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};

use super::{Body, ByteStream, Listing, NamesPage, PagedStore, Put, ReferrersPage, Root, Store};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Name, Tag};

/// Holds nodes in a map. Accepts manifests whose children are missing, as an OCI image layout does.
#[derive(Debug, Default)]
pub struct Memory {
    held: Mutex<MemoryContent>,
}

#[derive(Debug, Default)]
struct MemoryContent {
    nodes: HashMap<Digest, (MediaType, Bytes)>,
    tags: HashMap<Tag, Digest>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, MemoryContent> {
        // A panic elsewhere leaves the maps whole: every change is one insertion.
        crate::sync::lock(&self.held)
    }

    fn missing(&self, what: impl std::fmt::Display) -> Error {
        Error::new(Kind::NotFound, "find").on(format!("{}/{what}", self.label()))
    }
}

#[async_trait]
impl Store for Memory {
    fn label(&self) -> &str {
        "memory"
    }

    async fn resolve(&self, name: &Name) -> Result<Descriptor> {
        Ok(self.fetch(name).await?.node)
    }

    async fn fetch(&self, name: &Name) -> Result<Root> {
        let held = self.lock();
        let digest = match name {
            Name::Digest(digest) => *digest,
            Name::Tag(tag) => *held.tags.get(tag).ok_or_else(|| self.missing(tag))?,
        };
        let (media_type, bytes) = held.nodes.get(&digest).ok_or_else(|| self.missing(digest))?;
        let node = Descriptor::new(media_type.clone(), digest, bytes.len() as u64);
        Ok(Root { node, bytes: bytes.clone() })
    }

    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        Ok(self.lock().nodes.contains_key(&node.digest))
    }

    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        let held = self.lock();
        let (_, bytes) = held.nodes.get(&node.digest).ok_or_else(|| self.missing(node.digest))?;
        if bytes.len() as u64 != node.size || from > node.size {
            return Err(Error::new(Kind::Corrupt, "open").on(node.digest));
        }
        let rest = bytes.slice(usize::try_from(from).unwrap_or(usize::MAX)..);
        Ok(Box::pin(stream::iter([Ok(rest)])))
    }

    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put> {
        if !tags.is_empty() && !node.is_manifest() {
            return Err(Error::new(Kind::Usage, "tag a blob").on(node.digest));
        }
        let mut put = Put::Present;
        if !self.contains(node).await? {
            let mut stream = body.open();
            let mut bytes = BytesMut::new();
            while let Some(piece) = stream.next().await {
                bytes.extend_from_slice(&piece?);
            }
            put = Put::Sent(node.size);
            self.lock().nodes.insert(node.digest, (node.media_type.clone(), bytes.freeze()));
        }
        let mut held = self.lock();
        for tag in tags {
            held.tags.insert(tag.clone(), node.digest);
        }
        Ok(put)
    }

    fn expect(&self, _: usize) {}
}

#[async_trait]
impl Listing for Memory {
    async fn tags(&self) -> Result<Vec<Tag>> {
        Ok(self.lock().tags.keys().cloned().collect())
    }

    async fn few_tags(&self) -> Result<Vec<Tag>> {
        self.tags().await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let held = self.lock();
        let manifests = held.nodes.iter().filter(|(_, (media_type, _))| media_type.is_manifest());
        let mut found: Vec<_> = manifests
            .filter_map(|(digest, (media_type, bytes))| {
                let manifest = Manifest::parse(bytes, media_type).ok()?;
                (manifest.subject.as_ref()?.digest == *subject).then(|| Descriptor {
                    artifact_type: manifest.referrer_type().cloned(),
                    annotations: manifest.annotations,
                    ..Descriptor::new(media_type.clone(), *digest, bytes.len() as u64)
                })
            })
            .collect();
        found.sort_by_key(|node| node.digest);
        Ok(found)
    }

    async fn api_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        self.referrers(subject).await.map(Some)
    }
}

#[async_trait]
impl PagedStore for Memory {
    async fn tags_after(&self, last: Option<&str>, most: usize, most_bytes: usize) -> Result<NamesPage> {
        let mut tags = self.tags().await?;
        tags.sort();
        Ok(NamesPage::cut(tags.iter().map(Tag::as_str), last, most, most_bytes))
    }

    async fn referrers_after(
        &self,
        subject: &Digest,
        last: Option<Digest>,
        artifact_type: Option<&MediaType>,
        most_bytes: usize,
    ) -> Result<ReferrersPage> {
        Ok(ReferrersPage::of(self.referrers(subject).await?, last, artifact_type, most_bytes))
    }
}
