//! The items of a removal: the image, its sidecars, and everything attached to them.

use std::collections::HashSet;

use super::survey::Survey;
use super::{RemovalFate, RemovalItem, RemovalScope};
use crate::copy::{self, Attached, AttachmentTags, Selection};
use crate::error::{Kind, Result};
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::store::{self, Registry, Root};
use crate::verify::SidecarKind;

/// The image to remove.
pub(super) struct RemovedImage<'a> {
    pub(super) repository: &'a Repository,
    pub(super) digest: Digest,
    /// Its manifest; none if it is gone and only its attachments are left.
    pub(super) root: Option<&'a Root>,
    pub(super) tag: Option<&'a Tag>,
}

/// Returns the items for an image that no other tag names, the image first.
///
/// The manifests of an index's platforms are not among them: another image may consist of them too, and the registry's
/// garbage collection takes them once none does. Attachments of a platform that no other tag's image has are.
///
/// # Errors
///
/// Fails as the registry does.
pub(super) async fn with_attachments(
    image: &RemovedImage<'_>,
    reader: &Registry,
    survey: &Survey,
) -> Result<Vec<RemovalItem>> {
    let sidecars = sidecars(image, reader, survey).await?;
    let own: HashSet<_> = image.tag.into_iter().chain(sidecars.iter().map(|(_, tag, _)| tag)).cloned().collect();
    let (subjects, shared) = subjects(image, reader, survey, &own).await?;
    let all: Vec<_> = subjects.iter().copied().chain(sidecars.iter().map(|(_, _, digest)| *digest)).collect();
    let tags = AttachmentTags::of(survey.tags().cloned());
    let attached = copy::attached(reader, &tags, &all).await?;
    let mut items = Items { image, items: Vec::new() };
    if image.root.is_some() {
        items.add("image", image.tag, image.digest);
    }
    for (kind, tag, digest) in &sidecars {
        items.add(kind.as_str(), Some(tag), *digest);
    }
    for one in &attached {
        if one.tag.is_some() || is_referrer(reader, one).await? {
            items.add(role(one), one.tag.as_ref(), one.node.digest);
        }
    }
    let listed: Vec<_> = subjects.into_iter().chain(items.items.iter().map(|item| item.digest)).collect();
    for digest in listed {
        let tag: Option<Tag> = digest.fallback_tag().parse().ok();
        // GitLab takes that tag for the digest itself.
        let named = tag.as_ref().and_then(|tag| survey.named(tag)).filter(|named| *named != digest);
        if let Some(named) = named {
            items.add("fallback index", tag.as_ref(), named);
        }
    }
    Ok(items.spared(survey, &shared))
}

/// Returns the manifests whose attachments go with the image, and the manifests of the image that stay in use.
async fn subjects(
    image: &RemovedImage<'_>,
    reader: &Registry,
    survey: &Survey,
    own: &HashSet<Tag>,
) -> Result<(Vec<Digest>, HashSet<Digest>)> {
    let Some(root) = image.root.filter(|root| root.node.media_type.is_index()) else {
        return Ok((vec![image.digest], HashSet::new()));
    };
    let mut manifests = match copy::manifests(reader, root, &Selection::default()).await {
        // An index that has lost a part goes alone.
        Err(error) if error.kind() == Kind::NotFound => vec![image.digest],
        manifests => manifests?,
    };
    let shared = survey.shared(reader, &manifests.iter().copied().collect(), own).await?;
    manifests.retain(|digest| *digest == image.digest || !shared.contains(digest));
    Ok((manifests, shared))
}

/// Returns the sidecars under the tags beside the image's, and those under the tags beside a former tag of the image. Only
/// manifests that are sidecars: an image may have such a tag too.
async fn sidecars(
    image: &RemovedImage<'_>,
    reader: &Registry,
    survey: &Survey,
) -> Result<Vec<(SidecarKind, Tag, Digest)>> {
    let mut found = Vec::new();
    for kind in [SidecarKind::Lock, SidecarKind::Policy] {
        for (base, tag, digest) in survey.beside(kind) {
            let is_own = image.tag == Some(&base);
            if !is_own && survey.named(&base).is_some() {
                continue;
            }
            let root = store::find_manifest(reader, &digest.into()).await?;
            let belongs = |root: Root| is_sidecar(&root, kind) && (is_own || copy::refers_to(&root, &image.digest));
            if root.is_some_and(belongs) {
                found.push((kind, tag, digest));
            }
        }
    }
    Ok(found)
}

fn is_sidecar(root: &Root, kind: SidecarKind) -> bool {
    root.manifest().is_ok_and(|manifest| {
        let layers = manifest.layers.iter().map(|layer| &layer.media_type);
        manifest.artifact_type.iter().chain(layers).any(|media_type| media_type.as_str() == kind.media_type())
    })
}

/// Returns whether the manifest itself names its subject: a list can claim that any manifest is attached.
async fn is_referrer(reader: &Registry, attached: &Attached) -> Result<bool> {
    let root = store::find_manifest(reader, &attached.node.digest.into()).await?;
    Ok(root.is_some_and(|root| copy::refers_to(&root, &attached.subject)))
}

fn role(attached: &Attached) -> &'static str {
    match attached.tag.as_ref().map(Tag::as_str) {
        Some(tag) if tag.ends_with(".sig") => "signature",
        Some(tag) if tag.ends_with(".att") => "attestation",
        Some(tag) if tag.ends_with(".sbom") => "sbom",
        _ => "referrer",
    }
}

struct Items<'a> {
    image: &'a RemovedImage<'a>,
    items: Vec<RemovalItem>,
}

impl Items<'_> {
    /// Adds an item, unless its tag or, without a tag, its digest is there.
    fn add(&mut self, what: &'static str, tag: Option<&Tag>, digest: Digest) {
        let is_same = |item: &RemovalItem| match tag {
            Some(tag) => item.tag() == Some(tag),
            None => item.digest == digest,
        };
        if self.items.iter().any(is_same) {
            return;
        }
        let repository = self.image.repository;
        let reference: Reference = tag.map_or_else(|| repository.pinned(digest), |tag| repository.tagged(tag));
        let (fate, scope) = (RemovalFate::Remove, RemovalScope::Manifest);
        self.items.push(RemovalItem { what, reference, digest, fate, scope });
    }

    /// Spares manifests that something else needs: another tag names them, or another image consists of them.
    fn spared(self, survey: &Survey, shared: &HashSet<Digest>) -> Vec<RemovalItem> {
        let mut items = self.items;
        let tags: HashSet<_> = items.iter().filter_map(|item| item.tag().cloned()).collect();
        for item in &mut items {
            let other = survey.naming(&item.digest).find(|tag| !tags.contains(tag));
            let why = match other {
                Some(tag) => format!("the tag {tag} names it too"),
                None if shared.contains(&item.digest) => "another image consists of it too".to_owned(),
                None => continue,
            };
            match item.tag() {
                Some(_) => item.scope = RemovalScope::Tag,
                None => item.fate = RemovalFate::Kept { why },
            }
        }
        items
    }
}
