//! What one layout holds, as `index.json` and the manifests themselves say it.
//!
//! `index.json` is the only thing that is written; tags, types and referrers are derived from it and from the manifests
//! that it leads to. What another program wrote into it (annotations, platforms, names that are no tags) stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::file;
use crate::disk::{self, Place};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Tag, weight};

/// The annotation that names an entry (image-spec, "Image Layout", `index.json`).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The member of `index.json` that holds the digests of manifests that were deleted and that another one lists still. Their
/// bytes stay, and without it they would be found again by following that other one.
const UNLISTED: &str = "com.autonomyops.unlisted";

/// Largest `index.json` that is read or written, in bytes, and how many values it may hold: about 100,000 manifests.
const MAX_BYTES: u64 = 32 << 20;
const MAX_VALUES: usize = 1_000_000;

/// Most bytes of annotations with which a manifest is listed as a referrer; one with more is listed without any.
/// Signatures, attestations and SBOMs have some hundred.
const MAX_ANNOTATION_BYTES: usize = 8 << 10;

/// Most bytes of annotations of all referrers in one layout: they stay in memory. Beyond it referrers are listed without.
const MAX_ALL_ANNOTATION_BYTES: usize = 8 << 20;

/// Longest type of an artifact that is listed: two names of 127 characters (RFC 6838, section 4.2).
const MAX_TYPE_BYTES: usize = 255;

/// Bytes that a manifest takes in memory beside its entry, and an entry beside its text.
const MANIFEST_BYTES: usize = 600;

/// Manifests are read one at a time, however many layouts are being read: for a moment one may take ten times its bytes.
static TURN: Mutex<()> = Mutex::new(());

/// `index.json` as it is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    #[serde(default = "index_type")]
    media_type: MediaType,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// `index.json` as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u32,
    media_type: &'a MediaType,
    manifests: Vec<&'a RawValue>,
    #[serde(flatten)]
    rest: &'a Map<String, Value>,
}

/// One entry of `index.json`. Every change writes all of them, so each is put into words once.
#[derive(Debug, Clone)]
struct Entry {
    node: Arc<Descriptor>,
    text: Arc<RawValue>,
}

impl Entry {
    fn new(node: Descriptor) -> Self {
        // A descriptor is text, numbers and maps by text: that can always be written.
        let text = to_raw_value(&node).unwrap_or_default();
        Self { node: Arc::new(node), text: text.into() }
    }
}

fn index_type() -> MediaType {
    MediaType::OCI_INDEX
}

/// What tells one version of `index.json` from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<std::time::SystemTime>,
    length: u64,
    /// Every version is a new file: two within one tick of the clock still differ.
    number: u64,
}

impl Stamp {
    /// None if there is no `index.json`.
    pub(super) fn of(folder: &Place) -> Option<Self> {
        let data = place(folder).look().ok()??;
        let (_, number) = disk::number(&data);
        Some(Self { modified: data.modified().ok(), length: data.len(), number })
    }
}

/// A layout's manifests, tags and referrers. A clone shares what does not change.
#[derive(Debug, Clone)]
pub(super) struct Index {
    schema_version: u32,
    media_type: MediaType,
    /// What another program wrote beside the entries.
    rest: Map<String, Value>,
    entries: Vec<Entry>,
    stamp: Option<Stamp>,
    /// Deleted, though another manifest lists them.
    unlisted: BTreeSet<Digest>,
    /// What each index lists.
    children: HashMap<Digest, Arc<[Digest]>>,
    manifests: HashMap<Digest, Arc<Descriptor>>,
    tags: BTreeMap<Tag, Digest>,
    referrers: HashMap<Digest, BTreeMap<Digest, Arc<Descriptor>>>,
    /// Bytes of the annotations in `referrers`.
    annotation_bytes: usize,
}

/// Some of the referrers of a manifest, in the order of their digests.
#[derive(Debug, Default)]
pub(crate) struct ReferrersPage {
    /// Their descriptors in JSON, with commas between them.
    pub(crate) text: Vec<u8>,
    /// The last of them, if others follow.
    pub(crate) next: Option<Digest>,
}

/// Where `index.json` lies.
pub(super) fn place(folder: &Place) -> Place {
    folder.join("index.json")
}

/// Where a blob lies (image-spec, "Image Layout", blobs).
pub(super) fn blob(folder: &Place, digest: &Digest) -> Place {
    folder.join(format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex()))
}

/// What `index.json` lists, and of which version of it.
///
/// # Errors
///
/// [`Invalid`](Kind::Invalid) if there is none or it cannot be read.
pub(super) fn entries(folder: &Place) -> Result<(Stamp, Vec<Descriptor>)> {
    let (stamp, document) = stamped(folder)?;
    Ok((stamp, document.manifests))
}

/// What `index.json` lists, and which manifests it says were deleted.
///
/// # Errors
///
/// [`Invalid`](Kind::Invalid) if there is none or it cannot be read.
pub(super) fn entries_and_deleted(folder: &Place) -> Result<(Vec<Descriptor>, BTreeSet<Digest>)> {
    let (_, mut document) = stamped(folder)?;
    let mut deleted = unlisted(&mut document.rest);
    for entry in &document.manifests {
        deleted.remove(&entry.digest);
    }
    Ok((document.manifests, deleted))
}

fn unlisted(rest: &mut Map<String, Value>) -> BTreeSet<Digest> {
    let list = rest.remove(UNLISTED);
    // One that cannot be read costs what it was for, and nothing else.
    list.and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default()
}

fn stamped(folder: &Place) -> Result<(Stamp, Document)> {
    let missing = || {
        let told = Error::new(Kind::Invalid, "find").on(place(folder).path().display());
        told.because("the list of what the layout holds is missing").hint("restore it, or copy the images again")
    };
    // Taken first: a list that is replaced meanwhile counts as stale.
    let stamp = Stamp::of(folder).ok_or_else(missing)?;
    Ok((stamp, document(folder)?))
}

fn document(folder: &Place) -> Result<Document> {
    let bytes = file::bounded(&place(folder), MAX_BYTES)?;
    if weight::exceeds(&bytes, MAX_VALUES) {
        let why = format!("more than {MAX_VALUES} values");
        return Err(Error::new(Kind::Limit, "read").on(place(folder).path().display()).because(why));
    }
    serde_json::from_slice(&bytes).map_err(|why| {
        let told = Error::new(Kind::Invalid, "read").on(place(folder).path().display()).because(why);
        told.hint("index.json must be an OCI image index; restore it or copy the images again")
    })
}

impl Index {
    /// A layout with nothing in it.
    pub(super) fn empty() -> Self {
        Self {
            schema_version: 2,
            media_type: MediaType::OCI_INDEX,
            rest: Map::new(),
            entries: Vec::new(),
            stamp: None,
            unlisted: BTreeSet::new(),
            children: HashMap::new(),
            manifests: HashMap::new(),
            tags: BTreeMap::new(),
            referrers: HashMap::new(),
            annotation_bytes: 0,
        }
    }

    /// Reads `index.json` and every manifest that it leads to. A folder without one is empty.
    ///
    /// Manifests that are missing or cannot be read are passed over: a layout may be sparse.
    pub(super) fn load(folder: &Place) -> Result<Self> {
        let mut index = Self::empty();
        let Some(stamp) = Stamp::of(folder) else { return Ok(index) };
        let document = document(folder)?;
        (index.schema_version, index.media_type, index.rest) =
            (document.schema_version, document.media_type, document.rest);
        index.stamp = Some(stamp);
        index.unlisted = unlisted(&mut index.rest);
        for entry in &document.manifests {
            index.unlisted.remove(&entry.digest);
            if let Some(tag) = tag_of(entry) {
                index.tags.insert(tag, entry.digest);
            }
        }
        index.entries = document.manifests.iter().cloned().map(Entry::new).collect();
        index.follow(folder, document.manifests);
        Ok(index)
    }

    fn follow(&mut self, folder: &Place, mut open: Vec<Descriptor>) {
        // Each digest is read once, so this ends even on indexes that list one another.
        while let Some(node) = open.pop() {
            let is_deleted = self.unlisted.contains(&node.digest);
            if !node.is_manifest() || is_deleted || self.manifests.contains_key(&node.digest) {
                continue;
            }
            let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
            let read = file::small(&blob(folder, &node.digest)).and_then(|bytes| {
                let manifest = file::parse(&bytes, &node.media_type)?;
                Ok((bytes.len() as u64, manifest))
            });
            match read {
                Ok((size, manifest)) => {
                    open.extend(manifest.manifests.iter().cloned());
                    self.learn(&Descriptor::new(node.media_type, node.digest, size), &manifest);
                }
                Err(error) => tracing::debug!(error = %error.chain(), "manifest passed over"),
            }
        }
    }

    fn learn(&mut self, node: &Descriptor, manifest: &Manifest) {
        self.manifests.insert(node.digest, Arc::new(node.clone()));
        if !manifest.manifests.is_empty() {
            self.children.insert(node.digest, manifest.manifests.iter().map(|child| child.digest).collect());
        }
        let Some(subject) = &manifest.subject else { return };
        let bytes = annotation_bytes(&manifest.annotations);
        let has_room = bytes <= MAX_ANNOTATION_BYTES && self.annotation_bytes + bytes <= MAX_ALL_ANNOTATION_BYTES;
        let annotations = if has_room { manifest.annotations.clone() } else { BTreeMap::new() };
        let is_listed = |artifact_type: &&MediaType| artifact_type.as_str().len() <= MAX_TYPE_BYTES;
        let artifact_type = manifest.referrer_type().filter(is_listed).cloned();
        let referrer = Arc::new(Descriptor { artifact_type, annotations, ..node.clone() });
        self.annotation_bytes += annotation_bytes(&referrer.annotations);
        if let Some(former) = self.referrers.entry(subject.digest).or_default().insert(node.digest, referrer) {
            self.annotation_bytes -= annotation_bytes(&former.annotations);
        }
    }

    /// About how many bytes of memory this takes.
    pub(super) fn weight(&self) -> usize {
        // The entries are held twice: as values and as text.
        let children: usize = self.children.values().map(|children| children.len()).sum();
        let listed = self.stamp.map_or(0, |stamp| usize::try_from(stamp.length).unwrap_or(usize::MAX));
        listed
            .saturating_mul(2)
            .saturating_add((self.entries.len() + self.manifests.len() + self.tags.len()) * MANIFEST_BYTES)
            .saturating_add((children + self.unlisted.len()) * size_of::<Digest>())
            .saturating_add(self.annotation_bytes * 2)
    }

    /// The tags after `last`, in the order of their bytes, as long as they have no more than `most_bytes` together, and whether
    /// others follow. One fits always.
    pub(super) fn tags_after(&self, last: Option<&str>, most: usize, most_bytes: usize) -> (Vec<Tag>, bool) {
        let (mut page, mut bytes) = (Vec::new(), 0);
        for tag in self.tags.keys().filter(|tag| last.is_none_or(|last| tag.as_str() > last)) {
            bytes += tag.as_str().len();
            if page.len() >= most || (bytes > most_bytes && !page.is_empty()) {
                return (page, true);
            }
            page.push(tag.clone());
        }
        (page, false)
    }

    /// The referrers of `subject` that come after `last`, as long as it is no more than `most_bytes`. One fits always.
    pub(super) fn referrers_after(
        &self,
        subject: &Digest,
        last: Option<Digest>,
        artifact_type: Option<&MediaType>,
        most_bytes: usize,
    ) -> ReferrersPage {
        let mut page = ReferrersPage::default();
        let Some(found) = self.referrers.get(subject) else { return page };
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let is_meant = |node: &Descriptor| artifact_type.is_none() || node.artifact_type.as_ref() == artifact_type;
        let mut before = None;
        for (digest, node) in found.range((from, Bound::Unbounded)).filter(|(_, node)| is_meant(node)) {
            // A descriptor is text, numbers and maps by text: that can always be written.
            let text = serde_json::to_vec(&**node).unwrap_or_default();
            if before.is_some() && page.text.len() + text.len() > most_bytes {
                page.next = before;
                return page;
            }
            if before.is_some() {
                page.text.push(b',');
            }
            page.text.extend_from_slice(&text);
            before = Some(*digest);
        }
        page
    }

    /// Whether `index.json` is another than the one that was read or written last.
    pub(super) fn is_stale(&self, folder: &Place) -> bool {
        Stamp::of(folder) != self.stamp
    }

    /// The manifest of that digest: type, digest and size.
    pub(super) fn manifest(&self, digest: &Digest) -> Option<&Descriptor> {
        self.manifests.get(digest).map(Arc::as_ref)
    }

    /// What `tag` names.
    pub(super) fn tag(&self, tag: &Tag) -> Option<Digest> {
        self.tags.get(tag).copied()
    }

    /// All tags in the order of their bytes.
    pub(super) fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.tags.keys()
    }

    /// What is attached to `subject`.
    pub(super) fn referrers(&self, subject: &Digest) -> Vec<Descriptor> {
        let found = self.referrers.get(subject).into_iter().flat_map(BTreeMap::values);
        found.map(|node| Descriptor::clone(node)).collect()
    }

    /// Whether adding `node` under `tags` would change nothing.
    pub(super) fn has(&self, node: &Descriptor, tags: &[Tag]) -> bool {
        let is_listed = self.manifests.get(&node.digest).is_some_and(|known| known.media_type == node.media_type);
        is_listed && tags.iter().all(|tag| self.tag(tag) == Some(node.digest))
    }

    /// Adds a manifest and lets `tags` name it; what they named before stays, without them.
    pub(super) fn add(&mut self, node: &Descriptor, manifest: &Manifest, tags: &[Tag]) {
        let node = Descriptor::new(node.media_type.clone(), node.digest, node.size);
        for tag in tags {
            self.untag(tag);
        }
        self.unlisted.remove(&node.digest);
        self.learn(&node, manifest);
        let is_other = |entry: &Descriptor| entry.media_type != node.media_type || entry.size != node.size;
        for entry in self.entries.iter_mut().filter(|entry| entry.node.digest == node.digest && is_other(&entry.node)) {
            let (media_type, size) = (node.media_type.clone(), node.size);
            *entry = Entry::new(Descriptor { media_type, size, ..Descriptor::clone(&entry.node) });
        }
        for tag in tags {
            self.tags.insert(tag.clone(), node.digest);
            let mut entry = node.clone();
            entry.annotations.insert(REF_NAME.to_owned(), tag.as_str().to_owned());
            self.entries.push(Entry::new(entry));
        }
        self.settle(&node);
    }

    /// Whether an entry has that digest, or a manifest lists it and it was not deleted.
    pub(super) fn leads_to(&self, digest: &Digest) -> bool {
        let is_listed = || self.children.values().any(|children| children.contains(digest));
        self.entries.iter().any(|entry| entry.node.digest == *digest)
            || (is_listed() && !self.unlisted.contains(digest))
    }

    /// Manifests that `manifest` lists and this index does not know.
    pub(super) fn strangers(&self, manifest: &Manifest) -> HashSet<Digest> {
        let children = manifest.manifests.iter().filter(|child| child.is_manifest()).map(|child| child.digest);
        children.filter(|digest| !self.manifests.contains_key(digest)).collect()
    }

    /// Keeps what lies here as a blob from becoming a manifest because another one lists it, when it is read anew.
    pub(super) fn leave_unlisted(&mut self, digests: impl Iterator<Item = Digest>) {
        self.unlisted.extend(digests);
    }

    /// Takes a tag away; its manifest stays. False if there is no such tag.
    pub(super) fn untag(&mut self, tag: &Tag) -> bool {
        let Some(digest) = self.tags.remove(tag) else { return false };
        let names = |entry: &Entry| entry.node.annotations.get(REF_NAME).is_some_and(|name| name == tag.as_str());
        self.entries.retain(|entry| !names(entry));
        if let Some(node) = self.manifests.get(&digest).cloned() {
            self.settle(&node);
        }
        true
    }

    /// Takes a manifest away with all its tags. False if it is not there.
    pub(super) fn remove(&mut self, digest: &Digest) -> bool {
        self.entries.retain(|entry| entry.node.digest != *digest);
        self.tags.retain(|_, named| named != digest);
        for referrers in self.referrers.values_mut() {
            if let Some(node) = referrers.remove(digest) {
                self.annotation_bytes -= annotation_bytes(&node.annotations);
            }
        }
        self.children.remove(digest);
        let listed: HashSet<Digest> = self.children.values().flat_map(|children| children.iter().copied()).collect();
        if listed.contains(digest) {
            self.unlisted.insert(*digest);
        }
        // One that cannot be read at present may list some of them.
        let is_known = |entry: &Entry| !entry.node.is_manifest() || self.manifests.contains_key(&entry.node.digest);
        if self.entries.iter().all(is_known) {
            self.unlisted.retain(|digest| listed.contains(digest));
        }
        self.referrers.retain(|_, referrers| !referrers.is_empty());
        self.manifests.remove(digest).is_some()
    }

    /// Takes manifests without a name away. What one of them may have been the only one to list is listed by itself.
    pub(super) fn dismiss(&mut self, doomed: &HashSet<Digest>, orphans: &HashSet<Digest>) {
        self.entries.retain(|entry| !doomed.contains(&entry.node.digest));
        self.manifests.retain(|digest, _| !doomed.contains(digest));
        self.children.retain(|digest, _| !doomed.contains(digest));
        for referrers in self.referrers.values_mut() {
            referrers.retain(|digest, node| {
                let stays = !doomed.contains(digest);
                self.annotation_bytes -= if stays { 0 } else { annotation_bytes(&node.annotations) };
                stays
            });
        }
        for digest in orphans {
            if let Some(node) = self.manifests.get(digest).cloned() {
                self.settle(&node);
            }
        }
    }

    /// One nameless entry for a manifest that has no other, none for one that has.
    fn settle(&mut self, node: &Descriptor) {
        let is_named = |entry: &Entry| entry.node.annotations.contains_key(REF_NAME);
        let mut own = self.entries.iter().filter(|entry| entry.node.digest == node.digest).peekable();
        match (own.peek().is_some(), own.any(is_named)) {
            (false, _) => self.entries.push(Entry::new(node.clone())),
            (true, true) => self.entries.retain(|entry| entry.node.digest != node.digest || is_named(entry)),
            (true, false) => {}
        }
    }

    /// `index.json` as it is to be written.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        let mut rest = self.rest.clone();
        if !self.unlisted.is_empty() {
            let digests = self.unlisted.iter().map(|digest| Value::from(digest.to_string())).collect();
            rest.insert(UNLISTED.to_owned(), Value::Array(digests));
        }
        let written = Written {
            schema_version: self.schema_version,
            media_type: &self.media_type,
            manifests: self.entries.iter().map(|entry| &*entry.text).collect(),
            rest: &rest,
        };
        serde_json::to_vec(&written).map_err(|why| Error::new(Kind::Local, "write index.json").because(why))
    }

    /// Writes `index.json` anew: whole or not at all.
    pub(super) fn save(&mut self, folder: &Place) -> Result<()> {
        let (place, text) = (place(folder), self.text()?);
        if text.len() as u64 > MAX_BYTES {
            // It could not be read again.
            let why = format!("the list of what the layout holds would have more than {MAX_BYTES} bytes");
            return Err(Error::new(Kind::Limit, "write").on(place.path().display()).because(why));
        }
        let mut temporary = disk::Temporary::in_folder(folder)?;
        temporary.write_all(&text).map_err(place.failed("write"))?;
        disk::publish(temporary, &place)?;
        self.stamp = Stamp::of(folder);
        Ok(())
    }
}

fn annotation_bytes(annotations: &BTreeMap<String, String>) -> usize {
    annotations.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// The tag that an entry carries, if its name is one: other programs put whole references there.
fn tag_of(entry: &Descriptor) -> Option<Tag> {
    entry.annotations.get(REF_NAME)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referrer(index: &mut Index, n: usize, subject: &Descriptor, annotation: &str) -> Digest {
        let text = serde_json::json!({
            "schemaVersion": 2, "layers": [], "subject": subject, "annotations": {"n": n.to_string(), "text": annotation},
            "artifactType": if n.is_multiple_of(2) { "x/even" } else { "x/odd" },
        });
        let bytes = text.to_string().into_bytes();
        let node = Descriptor::of(MediaType::OCI_MANIFEST, &bytes);
        index.add(&node, &Manifest::parse(&bytes, &node.media_type).unwrap(), &[]);
        node.digest
    }

    fn pages(index: &Index, subject: &Digest, artifact_type: Option<&str>, most: usize) -> Vec<Vec<Descriptor>> {
        let (mut pages, mut last) = (Vec::new(), None);
        loop {
            let page = index.referrers_after(subject, last, artifact_type.map(MediaType::new).as_ref(), most);
            let text = [b"[", &page.text[..], b"]"].concat();
            pages.push(serde_json::from_slice::<Vec<Descriptor>>(&text).unwrap());
            last = page.next;
            if last.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn referrers_come_in_pages_of_bounded_size_and_each_comes_once() {
        let (mut index, subject) = (Index::empty(), Descriptor::of(MediaType::OCI_MANIFEST, b"subject"));
        let mut all: Vec<_> = (0..40).map(|n| referrer(&mut index, n, &subject, "")).collect();
        all.sort();
        for most in [0, 1000, 5000, 1 << 20] {
            let pages = pages(&index, &subject.digest, None, most);
            assert_eq!(pages.concat().iter().map(|node| node.digest).collect::<Vec<_>>(), all, "{most}");
            assert_eq!(pages.len() == 1, most > 40 * 300, "{most}: {} pages", pages.len());
            assert!(pages.iter().all(|page| serde_json::to_vec(page).unwrap().len() <= most.max(400) + 2));
        }
        let even = pages(&index, &subject.digest, Some("x/even"), 1000);
        assert!(even.len() > 1 && even.concat().len() == 20, "what is filtered out takes no room");
        assert_eq!(pages(&index, &Digest::sha256(b""), None, 1000), [vec![]]);
    }

    #[test]
    fn annotations_of_unusual_size_are_left_out_and_all_of_them_are_bounded() {
        let (mut index, subject) = (Index::empty(), Descriptor::of(MediaType::OCI_MANIFEST, b"subject"));
        let large = referrer(&mut index, 0, &subject, &"x".repeat(MAX_ANNOTATION_BYTES));
        assert_eq!(index.annotation_bytes, 0);
        let text = "x".repeat(MAX_ANNOTATION_BYTES / 2);
        let small = referrer(&mut index, 1, &subject, &text);
        let listed = pages(&index, &subject.digest, None, 1 << 20).concat();
        let annotations = |digest| listed.iter().find(|node| node.digest == digest).unwrap().annotations.len();
        assert_eq!((annotations(large), annotations(small)), (0, 2));
        let held = index.annotation_bytes;
        referrer(&mut index, 1, &subject, &text);
        assert_eq!(index.annotation_bytes, held, "put again");
        for n in 2..2 * MAX_ALL_ANNOTATION_BYTES / MAX_ANNOTATION_BYTES + 10 {
            referrer(&mut index, n, &subject, &text);
        }
        assert!(index.annotation_bytes <= MAX_ALL_ANNOTATION_BYTES);
        assert!(index.annotation_bytes > MAX_ALL_ANNOTATION_BYTES - MAX_ANNOTATION_BYTES);
        let all: Vec<_> = index.manifests.keys().copied().collect();
        index.dismiss(&all[..10].iter().copied().collect(), &HashSet::new());
        all.iter().for_each(|digest| {
            index.remove(digest);
        });
        assert_eq!(index.annotation_bytes, 0);
    }

    #[test]
    fn tags_come_in_pages() {
        let mut index = Index::empty();
        let node = Descriptor::of(MediaType::OCI_INDEX, br#"{"manifests":[]}"#);
        let manifest = Manifest::parse(br#"{"manifests":[]}"#, &node.media_type).unwrap();
        let tags: Vec<Tag> = ["c", "a", "d", "b"].map(|tag| tag.parse().unwrap()).to_vec();
        index.add(&node, &manifest, &tags);
        let page = |last, most, bytes| {
            let (tags, has_more) = index.tags_after(last, most, bytes);
            (tags.iter().map(Tag::as_str).collect::<String>(), has_more)
        };
        assert_eq!(page(None, 9, 9), ("abcd".into(), false));
        assert_eq!(page(None, 2, 9), ("ab".into(), true));
        assert_eq!(page(Some("b"), 9, 1), ("c".into(), true));
        assert_eq!(page(Some("bb"), 9, 0), ("c".into(), true), "one fits always");
        assert_eq!(page(Some("d"), 9, 9), (String::new(), false));
        assert_eq!(page(None, 0, 9), (String::new(), true));
    }
}
