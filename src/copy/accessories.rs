//! Accessories of manifests (contract §6): cosign's tags and OCI 1.1 referrers, each with its own accessories.
//!
//! One tag list covers all cosign tags of a repository, and the fallback indexes of a registry without the Referrers API;
//! with the API each manifest takes one more request. "None" and "could not ask" are different results.
//!
//! Cosign's tags are read for the subjects only. Anyone may attach an index that lists foreign images, or put a foreign
//! image in a referrers list: the tags of such an image would replace what the destination has under the same names.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, try_join};

use super::Selection;
use super::selection::past_bounds;
use crate::error::{Error, Kind, Result};
use crate::oci::tag_order::is_attachment;
use crate::oci::walk::{MAX_NODES, Visit, Walk};
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Name, Tag};
use crate::store::{Listing, ListingStore, Root, Store, find_manifest, read_manifest};

/// The suffixes that cosign appends to `sha256-<hex>`.
const SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];
/// Most accessories of one image, those of its accessories included.
const MAX_ATTACHED: usize = 10_000;
/// Most bytes of manifests read here: the accessories' own, and those of indexes that have accessories.
const MAX_BYTES: u64 = 16 << 20;
/// Manifests whose accessories are listed at the same time.
const QUESTIONS: usize = 4;

/// An accessory of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The manifest that it is attached to.
    pub subject: Digest,
    /// The manifest itself. For a referrer, as the referrers list describes it: only the digest is reliable.
    pub node: Descriptor,
    /// Its bytes, if they were read while finding it.
    pub bytes: Option<Bytes>,
    /// The tag that attaches it; none for a referrer.
    pub tag: Option<Tag>,
}

/// How much is known of a repository before its tags are listed.
#[derive(Debug, Clone, Copy)]
pub enum KnownTags<'a> {
    /// Nothing: the repository may not exist.
    Nothing,
    /// It holds something, with or without a tag.
    Something,
    /// It has this tag.
    Tag(&'a Tag),
}

/// The tags of a repository that hold accessories.
#[derive(Debug, Clone, Default)]
pub struct AttachmentTags(Option<Arc<HashSet<Tag>>>);

impl AttachmentTags {
    /// Lists the tags of `store`. If the list fails, or lacks what is `known` to exist, there is no list, and each tag is
    /// requested by name. The list only saves requests: on ECR many accounts may pull and not list.
    pub async fn list(store: &dyn Listing, known: KnownTags<'_>) -> Self {
        let tags = match store.few_tags().await {
            Ok(tags) => tags,
            Err(error) => {
                tracing::debug!(error = %error.chain(), "tags are asked for by their names");
                return Self(None);
            }
        };
        let is_likely = match known {
            KnownTags::Nothing => true,
            KnownTags::Something => !tags.is_empty(),
            KnownTags::Tag(known) => tags.contains(known),
        };
        if is_likely { Self::of(tags) } else { Self(None) }
    }

    /// Takes the tags of attachments from a whole list.
    #[must_use]
    pub fn of(tags: impl IntoIterator<Item = Tag>) -> Self {
        Self(Some(Arc::new(tags.into_iter().filter(|tag| is_attachment(tag.as_str())).collect())))
    }

    /// Returns whether `tag` is worth a request.
    #[must_use]
    pub fn may_hold(&self, tag: &Tag) -> bool {
        self.0.as_ref().is_none_or(|tags| tags.contains(tag))
    }
}

/// Returns the manifests that make up `root`, `root` first; from indexes in `selection`, only the chosen entries. Reads
/// indexes only.
///
/// # Errors
///
/// Fails like [`read_manifest`]; [`Limit`](Kind::Limit) past the bounds of an image's graph.
pub async fn manifests(store: &dyn Store, root: &Root, selection: &Selection) -> Result<Vec<Digest>> {
    let (mut found, mut walk) = (Vec::new(), Walk::from(&root.node));
    while let Some(Visit { item: node, depth, .. }) = walk.next().map_err(|why| past_bounds(store, why))? {
        walk.count(1);
        found.push(node.digest);
        if !node.media_type.is_index() {
            continue;
        }
        let bytes =
            if node.digest == root.node.digest { root.bytes.clone() } else { read_manifest(store, &node).await? };
        // Skipped: the copy reports a manifest that cannot be parsed.
        let Ok(manifest) = Manifest::parse(&bytes, &node.media_type) else { continue };
        let is_chosen = |child: &Descriptor| child.is_manifest() && selection.takes(&node.digest, &child.digest);
        for child in manifest.manifests.into_iter().filter(is_chosen) {
            // Only indexes are read.
            let size = if child.media_type.is_index() { child.size } else { 0 };
            walk.add(child.digest, size, depth + 1, child);
        }
    }
    Ok(found)
}

/// Returns every accessory of `subjects` (cosign's tags and referrers), and the referrers of those in turn.
///
/// # Errors
///
/// Any error of the store; [`Limit`](Kind::Limit) past 10,000 accessories.
pub async fn attached(store: &dyn ListingStore, tags: &AttachmentTags, subjects: &[Digest]) -> Result<Vec<Attached>> {
    let mut seen: HashSet<Digest> = subjects.iter().copied().collect();
    let mut queue: Vec<_> = subjects.iter().rev().map(|subject| (*subject, Cosign::Asked)).collect();
    let mut found = Vec::new();
    let mut bytes_found = 0;
    let mut questions = FuturesUnordered::new();
    loop {
        while questions.len() < QUESTIONS
            && let Some((subject, cosign)) = queue.pop()
        {
            questions.push(attached_to(store, tags, subject, cosign));
        }
        let Some(answer) = questions.next().await else { break };
        let (attached, manifests) = answer?;
        let new = manifests.into_iter().filter(|digest| seen.insert(*digest));
        queue.extend(new.map(|digest| (digest, Cosign::NotAsked)));
        bytes_found += attached.iter().filter_map(|one| one.bytes.as_ref()).map(Bytes::len).sum::<usize>();
        found.extend(attached);
        if found.len() > MAX_ATTACHED || seen.len() > MAX_NODES || bytes_found as u64 > MAX_BYTES {
            let why =
                format!("more than {MAX_ATTACHED} signatures and other attachments, or {MAX_BYTES} bytes of them");
            return Err(Error::new(Kind::Limit, "list what is attached").on(store.label()).because(why));
        }
    }
    // Sorted: answers arrive in no fixed order.
    found.sort_by(|a, b| (&a.tag, a.subject, a.node.digest).cmp(&(&b.tag, b.subject, b.node.digest)));
    Ok(found)
}

/// Whether the cosign tags of a manifest are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cosign {
    /// It is part of what is copied.
    Asked,
    /// It is an accessory of that.
    NotAsked,
}

/// Returns the accessories of `subject`, and the manifests that they consist of.
async fn attached_to(
    store: &dyn ListingStore,
    tags: &AttachmentTags,
    subject: Digest,
    cosign: Cosign,
) -> Result<(Vec<Attached>, Vec<Digest>)> {
    let names = cosign_tags(&subject).filter(|tag| cosign == Cosign::Asked && tags.may_hold(tag));
    let tagged = try_join_all(names.map(|tag| tagged(store, subject, tag)));
    let (tagged, referrers) = try_join!(tagged, referrers(store, tags, &subject))?;
    let referrers = referrers.into_iter().map(|node| Attached { subject, node, bytes: None, tag: None });
    let attached: Vec<_> = tagged.into_iter().flatten().chain(referrers).collect();
    let mut digests: Vec<_> = attached.iter().map(|attached| attached.node.digest).collect();
    // Read one at a time: they are rare, their number is unknown, and each may be as large as a manifest can be.
    for attached in attached.iter().filter(|attached| attached.node.media_type.is_index()) {
        digests.extend(entries(store, attached).await?);
    }
    Ok((attached, digests))
}

/// Returns the manifests in an attached index. Empty if the index does not exist or is not attached after all; copying it
/// reports that.
async fn entries(store: &dyn ListingStore, index: &Attached) -> Result<Vec<Digest>> {
    let root = match &index.bytes {
        Some(bytes) => Root { node: index.node.clone(), bytes: bytes.clone() },
        None => match find_manifest(store, &Name::Digest(index.node.digest)).await? {
            Some(root) if refers_to(&root, &index.subject) => root,
            Some(_) | None => return Ok(Vec::new()),
        },
    };
    manifests(store, &root, &Selection::default()).await
}

/// Returns whether the manifest itself names `subject` as its subject: a list can claim anything.
#[must_use]
pub fn refers_to(root: &Root, subject: &Digest) -> bool {
    let own = root.manifest().ok().and_then(|manifest| manifest.subject);
    own.is_some_and(|own| own.digest == *subject)
}

async fn tagged(store: &dyn ListingStore, subject: Digest, tag: Tag) -> Result<Option<Attached>> {
    let root = find_manifest(store, &Name::Tag(tag.clone())).await?;
    Ok(root.map(|root| Attached { subject, node: root.node, bytes: Some(root.bytes), tag: Some(tag) }))
}

/// Returns the referrers of `subject`. Without a Referrers API, requests the fallback index only if `tags` has it.
async fn referrers(store: &dyn ListingStore, tags: &AttachmentTags, subject: &Digest) -> Result<Vec<Descriptor>> {
    let listed = match store.api_referrers(subject).await? {
        Some(listed) => listed,
        None => match subject.fallback_tag().parse() {
            Ok(tag) if tags.may_hold(&tag) => match store.referrers(subject).await {
                // The store remembers which these are.
                Err(error) if error.kind() == Kind::NotFound => Vec::new(),
                listed => listed?,
            },
            _ => Vec::new(),
        },
    };
    Ok(listed.iter().map(slim).collect())
}

/// Keeps the fields of a list entry that are used. The others are untrusted, and can be as long as the list.
fn slim(entry: &Descriptor) -> Descriptor {
    let media_type = if entry.is_manifest() { entry.media_type.clone() } else { MediaType::OCTET_STREAM };
    Descriptor::new(media_type, entry.digest, entry.size)
}

/// Returns the tags that cosign uses for `digest`. A SHA-512 digest has none: they would be too long.
fn cosign_tags(digest: &Digest) -> impl Iterator<Item = Tag> + use<> {
    let stem = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
    SUFFIXES.into_iter().filter_map(move |suffix| format!("{stem}{suffix}").parse().ok())
}
