//! A registry for verification to read: counts requests, and lies or refuses on demand.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use autonomy_registry::error::{Error, Kind, Result};
use autonomy_registry::oci::{Descriptor, Digest, Manifest, MediaType, Name, Tag};
use autonomy_registry::store::{Body, ByteStream, Listing, Memory, Put, Root, Store};
use bytes::Bytes;
use futures_util::StreamExt;

/// The folder of the vectors.
pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/verify-vectors")
}

/// Whether a registry has the Referrers API, or keeps an index under the fallback tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Referrers {
    #[default]
    Api,
    FallbackTag,
}

#[derive(Debug, Default)]
pub struct Site {
    pub memory: Memory,
    pub referrers: Referrers,
    /// A blob that always comes with one byte flipped.
    pub corrupt: Option<Digest>,
    /// Requests that begin like this fail with this kind.
    pub refuse: BTreeMap<&'static str, Kind>,
    /// The content of every referrers list, whatever is held.
    pub listed: Option<Vec<Descriptor>>,
    pub log: Mutex<Vec<String>>,
}

impl Site {
    /// The requests, in order: `tag x`, `digest x`, `blob x`, `referrers x`.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub fn count(&self, start: &str) -> usize {
        self.log().iter().filter(|line| line.starts_with(start)).count()
    }

    fn ask(&self, line: String) -> Result<()> {
        let refused = self.refuse.iter().find(|(start, _)| line.starts_with(*start)).map(|(_, kind)| *kind);
        self.log.lock().unwrap().push(line.clone());
        refused.map_or(Ok(()), |kind| Err(Error::new(kind, "ask").on(line)))
    }

    /// Puts a manifest, with tags.
    pub async fn manifest(&self, bytes: impl Into<Bytes>, tags: &[&str]) -> Descriptor {
        let bytes = bytes.into();
        let node = Descriptor::of(Manifest::sniff(&bytes).unwrap(), &bytes);
        let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        self.memory.put(&node, &Body::bytes(node.clone(), bytes), &tags).await.unwrap();
        node
    }

    /// Puts a blob.
    pub async fn blob(&self, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let node = Descriptor::of(MediaType::OCTET_STREAM, &bytes);
        self.memory.put(&node, &Body::bytes(node.clone(), bytes), &[]).await.unwrap();
        node
    }

    /// Puts a vector's manifest with everything that it refers to.
    pub async fn vector(&self, digest: &str, tags: &[&str]) {
        let read = |digest: &str| fs::read(vectors().join("blobs/sha256").join(&digest["sha256:".len()..])).ok();
        let bytes = read(digest).unwrap();
        let manifest = Manifest::parse(&bytes, &MediaType::OCTET_STREAM).unwrap();
        for child in manifest.children() {
            let digest = child.digest.to_string();
            match read(&digest) {
                Some(_) if child.is_manifest() => Box::pin(self.vector(&digest, &[])).await,
                Some(bytes) => drop(self.blob(bytes).await),
                None => {}
            }
        }
        self.manifest(bytes, tags).await;
    }

    fn ask_for(&self, name: &Name) -> Result<()> {
        let kind = if matches!(name, Name::Tag(_)) { "tag" } else { "digest" };
        self.ask(format!("{kind} {name}"))
    }
}

#[async_trait]
impl Store for Site {
    fn label(&self) -> &str {
        "site.example/app"
    }

    async fn resolve(&self, name: &Name) -> Result<Descriptor> {
        self.ask_for(name)?;
        self.memory.resolve(name).await
    }

    async fn fetch(&self, name: &Name) -> Result<Root> {
        self.ask_for(name)?;
        self.memory.fetch(name).await
    }

    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        self.memory.contains(node).await
    }

    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        self.ask(format!("blob {}", node.digest))?;
        let stream = self.memory.open(node, from).await?;
        if self.corrupt != Some(node.digest) {
            return Ok(stream);
        }
        Ok(Box::pin(stream.map(|piece| {
            let mut bytes = piece?.to_vec();
            bytes[0] ^= 1;
            Ok(bytes.into())
        })))
    }

    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put> {
        panic!("verification wrote {node:?} {body:?} {tags:?}");
    }

    fn expect(&self, _: usize) {}
}

#[async_trait]
impl Listing for Site {
    async fn tags(&self) -> Result<Vec<Tag>> {
        panic!("verification listed all tags");
    }

    async fn few_tags(&self) -> Result<Vec<Tag>> {
        panic!("verification listed tags");
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        self.ask(format!("referrers {subject}"))?;
        if let Some(listed) = &self.listed {
            return Ok(listed.clone());
        }
        if self.referrers == Referrers::Api {
            return self.memory.referrers(subject).await;
        }
        let tag = Name::Tag(subject.fallback_tag().parse().unwrap());
        match self.memory.fetch(&tag).await {
            Ok(root) => Ok(root.manifest().unwrap().manifests),
            Err(error) if error.kind() == Kind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn api_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        panic!("verification asked past the fallback index of {subject}");
    }
}
