//! The tags of a repository, and the manifest that each names.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::copy::{self, Selection};
use crate::error::{Kind, Result};
use crate::oci::tag_order::is_attachment;
use crate::oci::{Descriptor, Digest, Name, Tag};
use crate::store::{self, Registry, Root, Store as _};
use crate::verify::SidecarKind;

/// All tags at the time of the check.
#[derive(Debug)]
pub(super) struct Survey(BTreeMap<Tag, Descriptor>);

impl Survey {
    /// Asks for each tag, at most `at_once` at the same time. Does not ask again for the tag that is `known`.
    pub(super) async fn take(reader: &Registry, known: Option<(&Tag, &Root)>, at_once: NonZeroUsize) -> Result<Self> {
        let mut tags = every_tag(reader).await?;
        tags.retain(|tag| known.is_none_or(|(own, _)| own != tag));
        let named = stream::iter(tags).map(|tag| async move {
            match store::find(reader, &Name::Tag(tag.clone())).await {
                // Docker schema 1: a manifest that can be neither copied nor shown, so never the one to remove.
                Err(error) if error.kind() == Kind::Unsupported => Ok(None),
                found => found.map(|node| node.map(|node| (tag, node))),
            }
        });
        let named: Vec<_> = named.buffer_unordered(at_once.get()).try_collect().await?;
        let known = known.map(|(tag, root)| (tag.clone(), root.node.clone()));
        Ok(Self(named.into_iter().flatten().chain(known).collect()))
    }

    /// Returns the tags that name `digest`.
    pub(super) fn naming<'a>(&'a self, digest: &'a Digest) -> impl Iterator<Item = &'a Tag> {
        self.0.iter().filter(move |(_, node)| node.digest == *digest).map(|(tag, _)| tag)
    }

    /// Returns the digest that `tag` names.
    pub(super) fn named(&self, tag: &Tag) -> Option<Digest> {
        self.0.get(tag).map(|node| node.digest)
    }

    /// Returns the tags of sidecars, each with the tag that it is beside.
    pub(super) fn beside(&self, kind: SidecarKind) -> impl Iterator<Item = (Tag, Tag, Digest)> {
        self.0.iter().filter_map(move |(tag, node)| {
            let base: Tag = tag.as_str().strip_suffix(kind.as_str())?.strip_suffix('-')?.parse().ok()?;
            Some((base, tag.clone(), node.digest))
        })
    }

    /// Returns all tags.
    pub(super) fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.0.keys()
    }

    /// Returns a tag that did not exist at the time of the check and names `digest` now.
    pub(super) async fn new_name(&self, reader: &Registry, digest: &Digest) -> Result<Option<Tag>> {
        for tag in every_tag(reader).await?.into_iter().filter(|tag| !self.0.contains_key(tag)) {
            if store::find(reader, &Name::Tag(tag.clone())).await?.is_some_and(|node| node.digest == *digest) {
                return Ok(Some(tag));
            }
        }
        Ok(None)
    }

    /// Returns those of `manifests` that images under other tags than `own` consist of; all of them if one of the other
    /// images cannot be read.
    pub(super) async fn shared(
        &self,
        reader: &Registry,
        manifests: &HashSet<Digest>,
        own: &HashSet<Tag>,
    ) -> Result<HashSet<Digest>> {
        let others = self.0.iter().filter(|(tag, _)| !own.contains(tag) && !is_attachment(tag.as_str()));
        let (mut shared, mut seen) = (HashSet::new(), HashSet::new());
        for (_, node) in others {
            // The root itself is never shared.
            if shared.len() + 1 >= manifests.len() {
                break;
            }
            if !seen.insert(node.digest) {
                continue;
            }
            shared.extend(manifests.get(&node.digest));
            if !node.media_type.is_index() {
                continue;
            }
            match parts(reader, node).await {
                Ok(parts) => shared.extend(parts.iter().filter(|part| manifests.contains(part))),
                Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Denied) => return Err(error),
                Err(_) => return Ok(manifests.clone()),
            }
        }
        Ok(shared)
    }
}

/// Returns the tags; none where the registry knows no repository without tags.
async fn every_tag(reader: &Registry) -> Result<Vec<Tag>> {
    Ok(store::absent_is_none(reader.every_tag().await)?.unwrap_or_default())
}

async fn parts(reader: &Registry, node: &Descriptor) -> Result<Vec<Digest>> {
    let root = reader.fetch(&node.digest.into()).await?;
    copy::manifests(reader, &root, &Selection::default()).await
}
