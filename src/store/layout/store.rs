//! The layout as a store: what the engine and verification ask of it.

use std::sync::Arc;

use async_trait::async_trait;

use super::index::LayoutIndex;
use super::{Layout, manifest};
use crate::disk::{self, blocking};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, MediaType, Name, Tag};
use crate::store::{Body, ByteStream, Listing, NamesPage, PagedStore, Put, ReferrersPage, Root, Store};

#[async_trait]
impl Store for Layout {
    fn label(&self) -> &str {
        &self.inner.label
    }

    async fn resolve(&self, name: &Name) -> Result<Descriptor> {
        let asked = name.clone();
        let look = move |index: &LayoutIndex| {
            let digest = match &asked {
                Name::Digest(digest) => Some(*digest),
                Name::Tag(tag) => index.tag(tag),
            };
            digest.and_then(|digest| index.manifest(&digest))
        };
        self.read(look).await?.ok_or_else(|| self.missing(name))
    }

    async fn fetch(&self, name: &Name) -> Result<Root> {
        let node = self.resolve(name).await?;
        let (inner, layout) = (Arc::clone(&self.inner), self.clone());
        blocking(move || {
            let bytes = manifest::read(&layout.blob(&node.digest))?;
            if !node.digest.matches(&bytes) {
                return Err(Error::new(Kind::Corrupt, "read").on(format!("{}@{}", inner.label, node.digest)));
            }
            Ok(Root { node, bytes: bytes.into() })
        })
        .await
    }

    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        let digest = node.digest;
        // A manifest that is only a blob here, or has another type, could not be fetched by its name.
        if node.is_manifest() && !self.is_manifest(digest).await? {
            return Ok(false);
        }
        Ok(self.size(&digest).await? == Some(node.size))
    }

    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        let found = self.file(&node.digest).await;
        let (file, size) = found.map_err(|error| match error.kind() {
            Kind::NotFound => self.missing(node.digest),
            _ => error,
        })?;
        if size != node.size || from > size {
            let why = format!("{size} bytes are held, {} from {from} on were asked for", node.size);
            let subject = format!("{}@{}", self.inner.label, node.digest);
            return Err(Error::new(Kind::Corrupt, "open").on(subject).because(why));
        }
        Ok(disk::stream(file, from, size - from))
    }

    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put> {
        if node.is_manifest() {
            let put = self.put_manifest(node, body, tags, Vec::new()).await?;
            // Nothing is needed, so nothing is missing.
            return Ok(put.unwrap_or(Put::Present));
        }
        if !tags.is_empty() {
            return Err(Error::new(Kind::Usage, "tag a blob").on(node.digest));
        }
        self.put_blob(node, body).await
    }

    fn expect(&self, _: usize) {}
}

#[async_trait]
impl Listing for Layout {
    async fn tags(&self) -> Result<Vec<Tag>> {
        self.read(|index| index.tags().cloned().collect()).await
    }

    async fn few_tags(&self) -> Result<Vec<Tag>> {
        self.tags().await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let subject = *subject;
        self.read(move |index| index.referrers(&subject)).await
    }

    async fn api_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        self.referrers(subject).await.map(Some)
    }
}

#[async_trait]
impl PagedStore for Layout {
    async fn tags_after(&self, last: Option<&str>, most: usize, most_bytes: usize) -> Result<NamesPage> {
        let last = last.map(str::to_owned);
        self.read(move |index| index.tags_after(last.as_deref(), most, most_bytes)).await
    }

    /// Leaves out annotations of unusual size.
    async fn referrers_after(
        &self,
        subject: &Digest,
        last: Option<Digest>,
        artifact_type: Option<&MediaType>,
        most_bytes: usize,
    ) -> Result<ReferrersPage> {
        let (subject, artifact_type) = (*subject, artifact_type.cloned());
        self.read(move |index| index.referrers_after(&subject, last, artifact_type.as_ref(), most_bytes)).await
    }
}
