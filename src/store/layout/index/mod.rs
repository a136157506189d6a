//! The index of one layout: its content according to `index.json` and the manifests themselves.
//!
//! Only `index.json` is written; tags, types and referrers are derived from it and from the manifests that it leads to.
//! Additions of other programs (annotations, platforms, names that are not tags) stay.

mod lengths;
mod pages;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use serde_json::value::{RawValue, to_raw_value};

pub(crate) use self::lengths::StatedLength;
use self::lengths::StatedLengths;
use super::index_json::{self, Head, WrittenIndex};
use super::manifest;
use crate::disk::{self, Place};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Tag};

/// The annotation that names an entry (image-spec, "Image Layout", `index.json`).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The member of `index.json` that holds the digests of deleted manifests that another manifest still lists. Their
/// bytes stay, and without this member they would be found again through that other manifest.
const UNLISTED: &str = "com.autonomyops.unlisted";

/// Most bytes of annotations with which a manifest is listed as a referrer; above that it is listed without
/// annotations. Signatures, attestations and SBOMs have some hundred.
const MAX_ANNOTATION_BYTES: usize = 8 << 10;

/// Most bytes of annotations of all referrers in one layout: they stay in memory. Above that, referrers are listed
/// without.
const MAX_ALL_ANNOTATION_BYTES: usize = 8 << 20;

/// Longest artifact type that is listed: two names of 127 characters (RFC 6838, section 4.2).
const MAX_TYPE_BYTES: usize = 255;

/// Bytes of memory that each of these takes besides its text, including the free space in the maps.
const ENTRY_BYTES: usize = 150;
const TAG_BYTES: usize = 200;
const MANIFEST_BYTES: usize = 240;
const CHILDREN_BYTES: usize = 220;
const REFERRER_BYTES: usize = 400;
const UNLISTED_BYTES: usize = 130;
const INDEX_BYTES: usize = 1 << 10;

/// Manifests are read one at a time, however many layouts are being read: for a moment one may take ten times its
/// bytes.
static TURN: Mutex<()> = Mutex::new(());

/// One entry of `index.json`. Every change writes all entries, so each is serialized once. Besides its text it holds
/// only the fields that are needed often: there may be a hundred thousand entries.
#[derive(Debug, Clone)]
struct IndexEntry {
    digest: Digest,
    media_type: MediaType,
    size: u64,
    is_named: bool,
    text: Arc<RawValue>,
}

impl IndexEntry {
    fn new(node: &Descriptor) -> Self {
        let is_named = node.annotations.contains_key(REF_NAME);
        // A descriptor is strings, numbers and maps with string keys: serializing cannot fail.
        let text = to_raw_value(node).unwrap_or_default().into();
        Self { digest: node.digest, media_type: node.media_type.clone(), size: node.size, is_named, text }
    }

    /// Returns the descriptor that was serialized.
    fn node(&self) -> Descriptor {
        let bare = || Descriptor::new(self.media_type.clone(), self.digest, self.size);
        serde_json::from_str(self.text.get()).unwrap_or_else(|_| bare())
    }

    /// Whether its name is `tag`, which the text contains literally.
    fn is_of(&self, tag: &Tag) -> bool {
        self.is_named
            && self.text.get().contains(tag.as_str())
            && self.node().annotations.get(REF_NAME).is_some_and(|name| name == tag.as_str())
    }
}

/// Type and size of a manifest.
#[derive(Debug, Clone)]
struct KnownManifest {
    media_type: MediaType,
    size: u64,
}

/// A manifest that refers to another one as its subject, as it is listed.
#[derive(Debug, Clone)]
struct Referrer {
    text: Arc<str>,
    artifact_type: Option<MediaType>,
    annotation_bytes: usize,
}

impl Referrer {
    fn new(node: &Descriptor) -> Self {
        // A descriptor is strings, numbers and maps with string keys: serializing cannot fail.
        let text = serde_json::to_string(node).unwrap_or_default().into();
        let annotation_bytes = annotation_bytes(&node.annotations);
        Self { text, artifact_type: node.artifact_type.clone(), annotation_bytes }
    }
}

/// Distinguishes one version of `index.json` from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexStamp {
    modified: Option<std::time::SystemTime>,
    pub(super) length: u64,
    /// Every version is a new file: two within one tick of the clock still differ.
    number: u64,
}

impl IndexStamp {
    /// Returns the stamp; None if there is no `index.json`.
    pub(super) fn of(folder: &Place) -> Option<Self> {
        let data = place(folder).look().ok()??;
        let (_, number) = disk::number(&data);
        Some(Self { modified: data.modified().ok(), length: data.len(), number })
    }
}

/// A layout's manifests, tags and referrers. A clone shares the parts that do not change.
#[derive(Debug, Clone)]
pub(super) struct LayoutIndex {
    head: Head,
    entries: Vec<IndexEntry>,
    stamp: Option<IndexStamp>,
    /// Deleted manifests that another manifest lists.
    unlisted: BTreeSet<Digest>,
    /// The children of each index.
    children: HashMap<Digest, Arc<[Digest]>>,
    manifests: HashMap<Digest, KnownManifest>,
    pub(super) lengths: StatedLengths,
    tags: BTreeMap<Tag, Digest>,
    /// By subject and digest.
    referrers: BTreeMap<(Digest, Digest), Referrer>,
    /// Bytes of the annotations in `referrers`.
    annotation_bytes: usize,
}

/// Why a layout accepts no more: its index has reached the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the list of what the layout holds would be longer than {} bytes, or take more memory than it may",
    index_json::MAX_BYTES
)]
pub(crate) struct Outgrown;

/// Returns the place of `index.json`.
pub(super) fn place(folder: &Place) -> Place {
    folder.join("index.json")
}

/// Returns the place of a blob (image-spec, "Image Layout", blobs).
pub(super) fn blob(folder: &Place, digest: &Digest) -> Place {
    folder.join(format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex()))
}

/// Returns the entries of `index.json`, with the stamp of the version that was read.
///
/// # Errors
///
/// [`Invalid`](Kind::Invalid) if there is none or it cannot be read.
pub(super) fn entries(folder: &Place) -> Result<(IndexStamp, Vec<Descriptor>)> {
    let (stamp, entries, _) = stamped(folder)?;
    Ok((stamp, entries))
}

/// Returns the entries of `index.json`, and the manifests that it lists as deleted.
///
/// # Errors
///
/// [`Invalid`](Kind::Invalid) if there is none or it cannot be read.
pub(super) fn entries_and_deleted(folder: &Place) -> Result<(Vec<Descriptor>, BTreeSet<Digest>)> {
    let (_, entries, mut head) = stamped(folder)?;
    let mut deleted = unlisted(&mut head);
    for entry in &entries {
        deleted.remove(&entry.digest);
    }
    Ok((entries, deleted))
}

fn unlisted(head: &mut Head) -> BTreeSet<Digest> {
    let list = head.rest.remove(UNLISTED);
    // A member that cannot be read is ignored; everything else still works.
    list.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
}

fn stamped(folder: &Place) -> Result<(IndexStamp, Vec<Descriptor>, Head)> {
    let missing = || {
        let told = Error::new(Kind::Invalid, "find").on(place(folder).path().display());
        told.because("the list of what the layout holds is missing").hint("restore it, or copy the images again")
    };
    // The stamp comes first: a list that is replaced meanwhile counts as stale.
    let stamp = IndexStamp::of(folder).ok_or_else(missing)?;
    let mut entries = Vec::new();
    let head = index_json::read(&place(folder), |node| entries.push(node))?;
    Ok((stamp, entries, head))
}

impl LayoutIndex {
    /// Returns the index of an empty layout.
    pub(super) fn empty() -> Self {
        Self {
            head: Head::default(),
            entries: Vec::new(),
            stamp: None,
            unlisted: BTreeSet::new(),
            children: HashMap::new(),
            manifests: HashMap::new(),
            lengths: StatedLengths::default(),
            tags: BTreeMap::new(),
            referrers: BTreeMap::new(),
            annotation_bytes: 0,
        }
    }

    /// Reads `index.json` and every manifest that it leads to. A folder without one is empty. None if that takes more
    /// than about `most` bytes of memory.
    ///
    /// Skips manifests that are missing or cannot be read: a layout may be sparse.
    pub(super) fn load(folder: &Place, most: usize) -> Result<Option<Self>> {
        let mut index = Self::empty();
        let Some(stamp) = IndexStamp::of(folder) else { return Ok(Some(index)) };
        let (tags, entries) = (&mut index.tags, &mut index.entries);
        index.head = index_json::read(&place(folder), |node| {
            tags.extend(tag_of(&node).map(|tag| (tag, node.digest)));
            entries.push(IndexEntry::new(&node));
        })?;
        index.entries.shrink_to_fit();
        index.stamp = Some(stamp);
        index.unlisted = unlisted(&mut index.head);
        for entry in &index.entries {
            index.unlisted.remove(&entry.digest);
        }
        Ok(index.follow(folder, most).then_some(index))
    }

    /// Reads the manifests. Returns false if they take more than `most` bytes.
    fn follow(&mut self, folder: &Place, most: usize) -> bool {
        let (mut open, mut weight) = (Vec::new(), self.weight());
        for at in (0..self.entries.len()).rev() {
            let IndexEntry { media_type, digest, .. } = &self.entries[at];
            open.push((media_type.clone(), *digest));
            // Each digest is read once, so this ends even on indexes that list each other.
            while let Some((media_type, digest)) = open.pop() {
                if weight > most {
                    return false;
                }
                let is_deleted = self.unlisted.contains(&digest);
                if !media_type.is_manifest() || is_deleted || self.manifests.contains_key(&digest) {
                    continue;
                }
                let _turn = crate::sync::lock(&TURN);
                let read = manifest::read(&blob(folder, &digest)).and_then(|bytes| {
                    let manifest = manifest::parse(&bytes, &media_type)?;
                    Ok((bytes.len() as u64, manifest))
                });
                match read {
                    Ok((size, manifest)) => {
                        open.extend(manifest.manifests.iter().map(|child| (child.media_type.clone(), child.digest)));
                        weight += self.learn(&Descriptor::new(media_type, digest, size), &manifest);
                    }
                    Err(error) => tracing::debug!(error = %error.chain(), "manifest passed over"),
                }
            }
        }
        weight <= most
    }

    /// Adds a manifest; returns roughly how many bytes of memory it takes.
    fn learn(&mut self, node: &Descriptor, manifest: &Manifest) -> usize {
        self.manifests.insert(node.digest, KnownManifest { media_type: node.media_type.clone(), size: node.size });
        let mut weight = MANIFEST_BYTES + self.lengths.note(manifest);
        if !manifest.manifests.is_empty() {
            let children: Arc<[Digest]> = manifest.manifests.iter().map(|child| child.digest).collect();
            weight += CHILDREN_BYTES + size_of_val(&*children);
            self.children.insert(node.digest, children);
        }
        let Some(subject) = &manifest.subject else { return weight };
        let bytes = annotation_bytes(&manifest.annotations);
        let has_room = bytes <= MAX_ANNOTATION_BYTES && self.annotation_bytes + bytes <= MAX_ALL_ANNOTATION_BYTES;
        let annotations = if has_room { manifest.annotations.clone() } else { BTreeMap::new() };
        let is_listed = |artifact_type: &&MediaType| artifact_type.as_str().len() <= MAX_TYPE_BYTES;
        let artifact_type = manifest.referrer_type().filter(is_listed).cloned();
        let referrer = Referrer::new(&Descriptor { artifact_type, annotations, ..node.clone() });
        weight += REFERRER_BYTES + referrer.text.len();
        self.annotation_bytes += referrer.annotation_bytes;
        if let Some(former) = self.referrers.insert((subject.digest, node.digest), referrer) {
            self.annotation_bytes -= former.annotation_bytes;
        }
        weight
    }

    /// Returns roughly how many bytes of memory the index takes.
    pub(super) fn weight(&self) -> usize {
        let texts: usize = self.entries.iter().map(|entry| entry.text.get().len()).sum();
        let tags: usize = self.tags.keys().map(|tag| tag.as_str().len()).sum();
        let referrers: usize = self.referrers.values().map(|referrer| referrer.text.len()).sum();
        let children: usize = self.children.values().map(|children| size_of_val(&**children)).sum();
        INDEX_BYTES
            + self.head.weight()
            + self.lengths.weight()
            + texts
            + tags
            + referrers
            + children
            + self.entries.len() * ENTRY_BYTES
            + self.tags.len() * TAG_BYTES
            + self.manifests.len() * MANIFEST_BYTES
            + self.children.len() * CHILDREN_BYTES
            + self.referrers.len() * REFERRER_BYTES
            + self.unlisted.len() * UNLISTED_BYTES
    }

    /// Whether `index.json` has changed since it was last read or written.
    pub(super) fn is_stale(&self, folder: &Place) -> bool {
        IndexStamp::of(folder) != self.stamp
    }

    /// Returns the descriptor of a manifest: type, digest and size.
    pub(super) fn manifest(&self, digest: &Digest) -> Option<Descriptor> {
        let KnownManifest { media_type, size } = self.manifests.get(digest)?;
        Some(Descriptor::new(media_type.clone(), *digest, *size))
    }

    /// Returns the digest that `tag` names.
    pub(super) fn tag(&self, tag: &Tag) -> Option<Digest> {
        self.tags.get(tag).copied()
    }

    /// Returns all tags in byte order.
    pub(super) fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.tags.keys()
    }

    /// Returns the referrers of `subject`.
    pub(super) fn referrers(&self, subject: &Digest) -> Vec<Descriptor> {
        self.attached(subject, None).filter_map(|(_, node)| serde_json::from_str(&node.text).ok()).collect()
    }

    /// Whether adding `node` under `tags` would change nothing.
    pub(super) fn has(&self, node: &Descriptor, tags: &[Tag]) -> bool {
        let is_listed = self.manifests.get(&node.digest).is_some_and(|known| known.media_type == node.media_type);
        is_listed && tags.iter().all(|tag| self.tag(tag) == Some(node.digest))
    }

    /// Adds a manifest and moves `tags` to it; manifests that had these tags stay, without them.
    pub(super) fn add(&mut self, node: &Descriptor, manifest: &Manifest, tags: &[Tag]) {
        let node = Descriptor::new(node.media_type.clone(), node.digest, node.size);
        for tag in tags {
            self.untag(tag);
        }
        self.unlisted.remove(&node.digest);
        self.learn(&node, manifest);
        let is_other = |entry: &IndexEntry| entry.media_type != node.media_type || entry.size != node.size;
        for entry in self.entries.iter_mut().filter(|entry| entry.digest == node.digest && is_other(entry)) {
            let (media_type, size) = (node.media_type.clone(), node.size);
            *entry = IndexEntry::new(&Descriptor { media_type, size, ..entry.node() });
        }
        for tag in tags {
            self.tags.insert(tag.clone(), node.digest);
            let mut entry = node.clone();
            entry.annotations.insert(REF_NAME.to_owned(), tag.as_str().to_owned());
            self.entries.push(IndexEntry::new(&entry));
        }
        self.settle(&node);
    }

    /// Whether an entry has that digest, or a manifest lists it and it was not deleted.
    pub(super) fn leads_to(&self, digest: &Digest) -> bool {
        let is_listed = || self.children.values().any(|children| children.contains(digest));
        self.entries.iter().any(|entry| entry.digest == *digest) || (is_listed() && !self.unlisted.contains(digest))
    }

    /// Returns the manifests that `manifest` lists and this index does not know.
    pub(super) fn strangers(&self, manifest: &Manifest) -> HashSet<Digest> {
        let children = manifest.manifests.iter().filter(|child| child.is_manifest()).map(|child| child.digest);
        children.filter(|digest| !self.manifests.contains_key(digest)).collect()
    }

    /// Marks blobs so that they do not become manifests when the index is loaded again and another manifest lists them.
    pub(super) fn leave_unlisted(&mut self, digests: impl Iterator<Item = Digest>) {
        self.unlisted.extend(digests);
    }

    /// Removes a tag; its manifest stays. Returns false if there is no such tag.
    pub(super) fn untag(&mut self, tag: &Tag) -> bool {
        let Some(digest) = self.tags.remove(tag) else { return false };
        self.entries.retain(|entry| !entry.is_of(tag));
        if let Some(node) = self.manifest(&digest) {
            self.settle(&node);
        }
        true
    }

    /// Removes a manifest with all its tags. Returns false if it is not there.
    pub(super) fn remove(&mut self, digest: &Digest) -> bool {
        self.entries.retain(|entry| entry.digest != *digest);
        self.tags.retain(|_, named| named != digest);
        self.detach(|referrer| referrer == digest);
        self.children.remove(digest);
        let listed: HashSet<Digest> = self.children.values().flat_map(|children| children.iter().copied()).collect();
        if listed.contains(digest) {
            self.unlisted.insert(*digest);
        }
        // A manifest that cannot be read at present may list some of them.
        let is_known =
            |entry: &IndexEntry| !entry.media_type.is_manifest() || self.manifests.contains_key(&entry.digest);
        if self.entries.iter().all(is_known) {
            self.unlisted.retain(|digest| listed.contains(digest));
        }
        self.manifests.remove(digest).is_some()
    }

    /// Removes referrers from the lists of their subjects.
    fn detach(&mut self, is_doomed: impl Fn(&Digest) -> bool) {
        self.referrers.retain(|(_, digest), node| {
            let stays = !is_doomed(digest);
            self.annotation_bytes -= if stays { 0 } else { node.annotation_bytes };
            stays
        });
    }

    /// Removes manifests without a name. A child that perhaps only one of them listed gets an entry of its own.
    pub(super) fn dismiss(&mut self, doomed: &HashSet<Digest>, orphans: &HashSet<Digest>) {
        self.entries.retain(|entry| !doomed.contains(&entry.digest));
        self.manifests.retain(|digest, _| !doomed.contains(digest));
        self.children.retain(|digest, _| !doomed.contains(digest));
        self.detach(|referrer| doomed.contains(referrer));
        for digest in orphans {
            if let Some(node) = self.manifest(digest) {
                self.settle(&node);
            }
        }
    }

    /// Gives a manifest one unnamed entry if it has no other, and none if it has.
    fn settle(&mut self, node: &Descriptor) {
        let mut own = self.entries.iter().filter(|entry| entry.digest == node.digest).peekable();
        match (own.peek().is_some(), own.any(|entry| entry.is_named)) {
            (false, _) => self.entries.push(IndexEntry::new(node)),
            (true, true) => self.entries.retain(|entry| entry.digest != node.digest || entry.is_named),
            (true, false) => {}
        }
    }

    /// Returns the text of `index.json` to write.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        // Digests are strings: serializing cannot fail.
        let unlisted = (!self.unlisted.is_empty()).then(|| to_raw_value(&self.unlisted).unwrap_or_default());
        let more = unlisted.as_deref().map(|list| (UNLISTED, list));
        let entries = self.entries.iter().map(|entry| &*entry.text).collect();
        let written = WrittenIndex { head: &self.head, entries, more };
        serde_json::to_vec(&written).map_err(|why| Error::new(Kind::Local, "write index.json").because(why))
    }

    /// Writes `index.json` again: whole or not at all.
    pub(super) fn save(&mut self, folder: &Place) -> Result<()> {
        let (place, text) = (place(folder), self.text()?);
        if text.len() as u64 > index_json::MAX_BYTES {
            // Such a file could not be read again.
            return Err(Error::new(Kind::Limit, "write").on(place.path().display()).because(Outgrown));
        }
        let mut temporary = disk::Temporary::in_folder(folder)?;
        temporary.write_all(&text).map_err(place.failed("write"))?;
        disk::publish(temporary, &place)?;
        self.stamp = IndexStamp::of(folder);
        Ok(())
    }
}

fn annotation_bytes(annotations: &BTreeMap<String, String>) -> usize {
    annotations.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Returns the tag of an entry, if its name is a tag: other programs store whole references there.
fn tag_of(entry: &Descriptor) -> Option<Tag> {
    entry.annotations.get(REF_NAME)?.parse().ok()
}
