//! Chooses which entries of which indexes are copied: those for the requested platforms, and their attestations.
//!
//! The choice is made once, at the source, before anything moves; after that it is a value that tells, for an index
//! digest, which entries count. The index's own bytes do not change: at the sink it is *sparse*, and vouches for nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::graph::{MAX_DEPTH, MAX_NODES};
use crate::error::{Error, Kind, Result, printable};
use crate::oci::{Descriptor, Digest, Manifest, Platform};
use crate::store::{Root, Store, read_manifest};

/// The annotation that BuildKit writes on an attestation: the manifest that it is about.
const ATTESTED: &str = "vnd.docker.reference.digest";
/// Most bytes of indexes that are read to choose from.
const MAX_BYTES: u64 = 16 << 20;

/// The entries that count, for every index that it knows. For any other index, all entries count.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    platforms: Arc<[Platform]>,
    indexes: Arc<HashMap<Digest, IndexPart>>,
}

/// The entries of one index that count.
#[derive(Debug, Default)]
struct IndexPart {
    kept: HashSet<Digest>,
    left_out: usize,
}

/// The chosen entries, and the indexes that they were chosen from.
#[derive(Debug)]
pub struct Chosen {
    /// The entries.
    pub selection: Selection,
    /// Their platforms, in the order of the indexes.
    pub platforms: Vec<Platform>,
    /// The indexes that were chosen from, nested ones before those that list them.
    pub indexes: Vec<Descriptor>,
}

impl Selection {
    /// Chooses from the index `root` the entries for `platforms`. If `platforms` is empty, chooses all; the selection
    /// then still makes the copy check each entry at the sink. Reads a nested index unless its entry names a platform
    /// that was not requested.
    ///
    /// Leaves out an entry that names no platform, unless it is an attestation of a kept entry.
    ///
    /// # Errors
    ///
    /// Fails like [`read_manifest`]; [`NotFound`](Kind::NotFound) if a platform is missing, with the platforms that
    /// exist; [`Limit`](Kind::Limit) past the bounds of an image's graph.
    pub async fn choose(store: &dyn Store, root: &Root, platforms: &[Platform]) -> Result<Chosen> {
        let mut choice =
            Choosing { wanted: platforms, read: read_indexes(store, root, platforms).await?, ..Choosing::default() };
        choice.choose(&root.node, platforms.is_empty());
        let missing: Vec<_> =
            platforms.iter().filter(|wanted| !choice.found.iter().any(|p| p.answers(wanted))).collect();
        if !missing.is_empty() {
            return Err(absent(&missing, &choice.offered).during("choose platforms of", store.label()));
        }
        let Choosing { parts, found, order, .. } = choice;
        let selection = Self { platforms: platforms.into(), indexes: Arc::new(parts) };
        Ok(Chosen { selection, platforms: found, indexes: order })
    }

    /// Returns whether `index` was chosen from: entries of it may be missing at the sink even if it exists there itself.
    #[must_use]
    pub fn covers(&self, index: &Digest) -> bool {
        self.indexes.contains_key(index)
    }

    /// Returns how many entries of `index` are left out.
    #[must_use]
    pub fn left_out(&self, index: &Digest) -> usize {
        self.indexes.get(index).map_or(0, |part| part.left_out)
    }

    /// Returns whether any entry of `index` counts.
    #[must_use]
    pub fn keeps_any(&self, index: &Digest) -> bool {
        self.indexes.get(index).is_none_or(|part| !part.kept.is_empty())
    }

    /// Returns whether any entry is left out.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.indexes.values().any(|part| part.left_out > 0)
    }

    /// Returns whether the entry `child` of `index` counts.
    #[must_use]
    pub fn takes(&self, index: &Digest, child: &Digest) -> bool {
        self.indexes.get(index).is_none_or(|part| part.kept.contains(child))
    }

    /// Returns whether `entry` may hold a wanted platform, in an index that was not chosen from, such as the image's
    /// former one.
    pub(super) fn resembles(&self, entry: &Descriptor) -> bool {
        let platform = entry.platform.as_deref().filter(|platform| platform.is_known());
        platform.is_none_or(|platform| wants(&self.platforms, platform))
    }
}

/// The error for missing platforms, with the platforms that exist.
pub fn absent(missing: &[&Platform], offered: &[Platform]) -> Error {
    let list = |platforms: Vec<String>| printable(&platforms.join(", "));
    let missing = list(missing.iter().map(ToString::to_string).collect());
    let mut texts: Vec<_> = offered.iter().map(ToString::to_string).collect();
    let mut seen = HashSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    let offered = if texts.is_empty() { "no platform by name".to_owned() } else { list(texts) };
    Error::new(Kind::NotFound, "choose platforms").because(format!("it has no {missing}; it has {offered}"))
}

fn wants(platforms: &[Platform], platform: &Platform) -> bool {
    platforms.is_empty() || platforms.iter().any(|wanted| platform.answers(wanted))
}

/// Reads the root and every index below it that may hold a wanted platform; returns them by digest.
async fn read_indexes(store: &dyn Store, root: &Root, wanted: &[Platform]) -> Result<HashMap<Digest, Manifest>> {
    let mut read = HashMap::new();
    let mut queue = vec![(root.node.clone(), Some(root.bytes.clone()), 0)];
    let (mut bytes_read, mut entries) = (0, 0);
    while let Some((node, bytes, depth)) = queue.pop() {
        bytes_read += node.size;
        if depth > MAX_DEPTH || bytes_read > MAX_BYTES || entries > MAX_NODES {
            let why = format!(
                "deeper than {MAX_DEPTH} levels, more than {MAX_BYTES} bytes, or more than {MAX_NODES} entries"
            );
            return Err(Error::new(Kind::Limit, "read indexes").on(store.label()).because(why));
        }
        let bytes: Bytes = match bytes {
            Some(bytes) => bytes,
            None => read_manifest(store, &node).await?,
        };
        let unreadable = |why| Error::new(Kind::Invalid, "read index").on(node.digest).because(why);
        let manifest = Manifest::parse(&bytes, &node.media_type).map_err(unreadable)?;
        entries += manifest.manifests.len();
        for entry in manifest.manifests.iter().filter(|entry| entry.media_type.is_index()) {
            let platform = entry.platform.as_deref().filter(|platform| platform.is_known());
            if platform.is_none_or(|platform| wants(wanted, platform)) && !read.contains_key(&entry.digest) {
                queue.push((entry.clone(), None, depth + 1));
            }
        }
        read.insert(node.digest, manifest);
    }
    Ok(read)
}

/// The state of a choice.
#[derive(Default)]
struct Choosing<'a> {
    wanted: &'a [Platform],
    read: HashMap<Digest, Manifest>,
    parts: HashMap<Digest, IndexPart>,
    found: Vec<Platform>,
    offered: Vec<Platform>,
    order: Vec<Descriptor>,
}

impl Choosing<'_> {
    /// Chooses from `index`; entries that name no platform count if `is_wanted`. Returns whether anything was chosen.
    ///
    /// Recursion goes no deeper than what was read, which is bounded; and an index cannot contain itself, because of its
    /// digest.
    fn choose(&mut self, index: &Descriptor, is_wanted: bool) -> bool {
        let Some(manifest) = self.read.get(&index.digest).cloned() else { return false };
        let mut kept = HashSet::new();
        for entry in &manifest.manifests {
            let platform = entry.platform.as_deref().filter(|platform| platform.is_known());
            let is_chosen = platform.map_or(is_wanted, |platform| wants(self.wanted, platform));
            let before = self.found.len();
            let is_kept = if entry.media_type.is_index() { self.choose(entry, is_chosen) } else { is_chosen };
            if is_kept {
                kept.insert(entry.digest);
            }
            // If the entries of a nested index name their platforms, the platform of its own entry adds nothing.
            if let Some(platform) = platform
                && (!entry.media_type.is_index() || (is_kept && self.found.len() == before) || !is_chosen)
            {
                self.offered.push(platform.clone());
                self.found.extend(is_kept.then(|| platform.clone()));
            }
        }
        let attests = |entry: &&Descriptor| {
            let subject = entry.annotations.get(ATTESTED).and_then(|subject| subject.parse().ok());
            entry.platform.as_deref().is_none_or(|platform| !platform.is_known())
                && subject.is_some_and(|subject: Digest| kept.contains(&subject))
        };
        let attestations: Vec<_> = manifest.manifests.iter().filter(attests).map(|entry| entry.digest).collect();
        let is_any = !kept.is_empty() || (is_wanted && manifest.manifests.is_empty());
        kept.extend(attestations);
        let left_out = manifest.manifests.iter().filter(|entry| !kept.contains(&entry.digest)).count();
        if self.parts.insert(index.digest, IndexPart { kept, left_out }).is_none() {
            self.order.push(Descriptor { annotations: Default::default(), ..index.clone() });
        }
        is_any
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::oci::MediaType;
    use crate::store::{Body, Memory};

    async fn hold(store: &Memory, entries: &[Value]) -> Root {
        let text = json!({"mediaType": MediaType::OCI_INDEX, "manifests": entries}).to_string();
        let node = Descriptor::of(MediaType::OCI_INDEX, text.as_bytes());
        store.put(&node, &Body::bytes(node.clone(), text.clone()), &[]).await.unwrap();
        Root { node, bytes: text.into() }
    }

    fn entry(name: &str, platform: &str) -> Value {
        let mut words = platform.split('/');
        let node = Descriptor::of(MediaType::OCI_MANIFEST, name.as_bytes());
        let mut value = serde_json::to_value(node).unwrap();
        value["platform"] = json!({"os": words.next(), "architecture": words.next()});
        if let Some(variant) = words.next() {
            value["platform"]["variant"] = variant.into();
        }
        value
    }

    fn nested(root: &Root) -> Value {
        serde_json::to_value(&root.node).unwrap()
    }

    async fn chosen(store: &Memory, root: &Root, platforms: &[&str]) -> Result<Chosen> {
        let platforms: Vec<_> = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
        Selection::choose(store, root, &platforms).await
    }

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    #[tokio::test]
    async fn entries_are_chosen_by_platform_with_their_attestations() {
        let store = Memory::default();
        let attestation = |name: &str, subject: &str| {
            let mut value = entry(name, "unknown/unknown");
            value["annotations"] = json!({ATTESTED: digest(subject)});
            value
        };
        let entries = [
            entry("a", "linux/amd64"),
            entry("b", "linux/arm64/v8"),
            entry("c", "linux/arm/v7"),
            attestation("A", "a"),
            attestation("B", "b"),
        ];
        let root = hold(&store, &entries).await;
        for (wanted, kept, left_out) in
            [("linux/amd64", "aA", 3), ("linux/arm64", "bB", 3), ("linux/arm64/v8", "bB", 3), ("linux/arm", "c", 4)]
        {
            let chosen = chosen(&store, &root, &[wanted]).await.unwrap();
            for name in ["a", "b", "c", "A", "B"] {
                assert_eq!(
                    chosen.selection.takes(&root.node.digest, &digest(name)),
                    kept.contains(name),
                    "{wanted} {name}"
                );
            }
            assert_eq!((chosen.selection.left_out(&root.node.digest), chosen.platforms.len()), (left_out, 1));
        }
        assert!(!chosen(&store, &root, &[]).await.unwrap().selection.is_partial(), "all of it");
    }

    #[tokio::test]
    async fn a_platform_that_is_not_there_is_told_with_those_that_are() {
        let store = Memory::default();
        let inner = hold(&store, &[entry("b", "linux/arm64/v8")]).await;
        let root = hold(&store, &[entry("a", "linux/amd64"), nested(&inner)]).await;
        for wanted in ["linux/s390x", "linux/amd64/v3", "linux/arm64/v9", "windows/amd64"] {
            let error = chosen(&store, &root, &["linux/amd64", wanted]).await.unwrap_err();
            assert_eq!(error.kind(), Kind::NotFound);
            let says = format!("it has no {wanted}; it has linux/amd64, linux/arm64/v8");
            assert!(error.chain().contains(&says), "{}", error.chain());
        }
    }

    #[tokio::test]
    async fn nested_indexes_are_narrowed_too_and_go_where_nothing_of_them_is_wanted() {
        let store = Memory::default();
        let inner = hold(&store, &[entry("b", "linux/arm64/v8"), entry("c", "linux/riscv64")]).await;
        let other = hold(&store, &[entry("d", "windows/amd64")]).await;
        let root = hold(&store, &[entry("a", "linux/amd64"), nested(&inner), nested(&other)]).await;
        let Chosen { selection, platforms, indexes } = chosen(&store, &root, &["linux/arm64"]).await.unwrap();
        let [root, inner, other] = [root, inner, other].map(|index| index.node.digest);
        assert!(selection.takes(&root, &inner) && selection.takes(&inner, &digest("b")));
        assert!(!selection.takes(&root, &other) && !selection.takes(&root, &digest("a")));
        assert_eq!((selection.left_out(&root), selection.left_out(&inner)), (2, 1));
        assert_eq!(platforms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["linux/arm64/v8"]);
        assert_eq!(indexes.last().unwrap().digest, root, "nested ones come first");
    }
}
