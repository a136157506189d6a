//! The store that serves an image.

use std::collections::HashMap;

use async_trait::async_trait;
use autonomy_registry::error::{Error, Kind, Result};
use autonomy_registry::oci::{Descriptor, Digest, Manifest, MediaType, Name, Tag};
use autonomy_registry::store::{Body, ByteStream, Put, Root, Store};
use bytes::Bytes;
use futures_util::stream;

use super::layer::Recipe;

/// Bytes, or a recipe for them.
#[derive(Debug)]
pub(super) enum Content {
    Bytes(Bytes),
    Recipe(Recipe),
}

/// A store that generates its content when it is read.
#[derive(Debug)]
pub(super) struct Generated {
    pub(super) root: Descriptor,
    pub(super) nodes: HashMap<Digest, Content>,
}

impl Generated {
    fn find(&self, digest: &Digest) -> Result<&Content> {
        self.nodes.get(digest).ok_or_else(|| Error::new(Kind::NotFound, "find").on(format!("generated/{digest}")))
    }
}

#[async_trait]
impl Store for Generated {
    fn label(&self) -> &str {
        "generated"
    }

    async fn resolve(&self, name: &Name) -> Result<Descriptor> {
        Ok(self.fetch(name).await?.node)
    }

    async fn fetch(&self, name: &Name) -> Result<Root> {
        let digest = match name {
            Name::Tag(_) => self.root.digest,
            Name::Digest(digest) => *digest,
        };
        let Content::Bytes(bytes) = self.find(&digest)? else {
            return Err(Error::new(Kind::NotFound, "find manifest").on(digest));
        };
        let media_type = Manifest::sniff(bytes).unwrap_or(MediaType::OCTET_STREAM);
        Ok(Root { node: Descriptor::of(media_type, bytes), bytes: bytes.clone() })
    }

    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        Ok(self.nodes.contains_key(&node.digest))
    }

    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        match self.find(&node.digest)? {
            Content::Recipe(recipe) => Ok(recipe.open(from)),
            Content::Bytes(bytes) => {
                let rest = bytes.slice(bytes.len().min(from as usize)..);
                Ok(Box::pin(stream::iter([Ok(rest)])))
            }
        }
    }

    async fn put(&self, node: &Descriptor, _: &Body, _: &[Tag]) -> Result<Put> {
        Err(Error::new(Kind::Unsupported, "put into a generated image").on(node.digest))
    }

    fn expect(&self, _: usize) {}
}
