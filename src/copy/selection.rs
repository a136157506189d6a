//! Chooses which entries of which indexes are copied: those for the requested platforms, and their attestations.
//!
//! The choice is made once, at the source, before anything moves; after that it is a value that tells, for an index
//! digest, which entries count. The index's own bytes do not change: at the sink it is *sparse*, and vouches for nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, Kind, Result, printable};
use crate::oci::walk::{MAX_DEPTH, PastBounds, Visit, Walk};
use crate::oci::{Descriptor, Digest, Manifest, Platform};
use crate::store::{Root, Store, read_manifest};

/// The annotation that BuildKit writes on an attestation: the manifest that it is about.
const ATTESTED: &str = "vnd.docker.reference.digest";

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
        let read = read_indexes(store, root, platforms).await?;
        let mut choice = Choosing::new(platforms, &read);
        let unnamed = if platforms.is_empty() { Choice::Taken } else { Choice::LeftOut };
        choice.choose(&root.node, unnamed, 0).map_err(|why| past_bounds(store, why))?;
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
        platform_of(entry).is_none_or(|platform| wants(&self.platforms, platform))
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
    let (mut read, mut walk) = (HashMap::new(), Walk::from(&root.node));
    while let Some(Visit { item: node, depth, .. }) = walk.next().map_err(|why| past_bounds(store, why))? {
        let bytes =
            if node.digest == root.node.digest { root.bytes.clone() } else { read_manifest(store, &node).await? };
        let unreadable = |why| Error::new(Kind::Invalid, "read index").on(node.digest).because(why);
        let manifest = Manifest::parse(&bytes, &node.media_type).map_err(unreadable)?;
        walk.count(manifest.manifests.len());
        let may_hold = |entry: &&Descriptor| platform_of(entry).is_none_or(|platform| wants(wanted, platform));
        let indexes = manifest.manifests.iter().filter(|entry| entry.media_type.is_index());
        indexes.filter(may_hold).for_each(|index| walk.enter(index, depth + 1));
        read.insert(node.digest, manifest);
    }
    Ok(read)
}

/// Returns the error for indexes past the bounds of a walk through `store`.
pub(super) fn past_bounds(store: &dyn Store, why: PastBounds) -> Error {
    Error::new(Kind::Limit, "read indexes").on(store.label()).because(why)
}

/// Returns the platform of an entry, if it names one.
fn platform_of(entry: &Descriptor) -> Option<&Platform> {
    entry.platform.as_deref().filter(|platform| platform.is_known())
}

/// Whether an entry is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Choice {
    Taken,
    LeftOut,
}

/// The outcome of choosing from one index, or of one entry.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    /// Whether it, or something of it, is taken.
    is_taken: bool,
    /// Whether the platform of what is taken is named, by it or below it.
    names_platforms: bool,
}

/// The state of a choice.
struct Choosing<'a> {
    wanted: &'a [Platform],
    read: &'a HashMap<Digest, Manifest>,
    outcomes: HashMap<(Digest, Choice), Outcome>,
    parts: HashMap<Digest, IndexPart>,
    found: Vec<Platform>,
    offered: Vec<Platform>,
    order: Vec<Descriptor>,
}

impl<'a> Choosing<'a> {
    fn new(wanted: &'a [Platform], read: &'a HashMap<Digest, Manifest>) -> Self {
        let (outcomes, parts) = (HashMap::new(), HashMap::new());
        Self { wanted, read, outcomes, parts, found: Vec::new(), offered: Vec::new(), order: Vec::new() }
    }

    /// Chooses from `index`, which has `depth` indexes above it; `unnamed` is the choice for entries that name no
    /// platform. Each index is chosen from once, however many others list it.
    ///
    /// # Errors
    ///
    /// [`PastBounds`] if it lies too deep: the walk that read it bounded the shortest way to it, and this may be a longer
    /// one.
    fn choose(&mut self, index: &Descriptor, unnamed: Choice, depth: u32) -> Result<Outcome, PastBounds> {
        if let Some(known) = self.outcomes.get(&(index.digest, unnamed)) {
            return Ok(*known);
        }
        if depth > MAX_DEPTH {
            return Err(PastBounds);
        }
        let Some(manifest) = self.read.get(&index.digest) else { return Ok(Outcome::default()) };
        let entries = &manifest.manifests;
        let (mut kept, mut names_platforms) = (HashSet::new(), false);
        for entry in entries {
            let outcome = self.choose_entry(entry, unnamed, depth)?;
            if outcome.is_taken {
                kept.insert(entry.digest);
                names_platforms |= outcome.names_platforms;
            }
        }
        let is_taken = !kept.is_empty() || (unnamed == Choice::Taken && entries.is_empty());
        let outcome = Outcome { is_taken, names_platforms };
        let attests = |entry: &&Descriptor| {
            let subject = entry.annotations.get(ATTESTED).and_then(|subject| subject.parse().ok());
            platform_of(entry).is_none() && subject.is_some_and(|subject: Digest| kept.contains(&subject))
        };
        let attestations: Vec<_> = entries.iter().filter(attests).map(|entry| entry.digest).collect();
        kept.extend(attestations);
        let left_out = entries.iter().filter(|entry| !kept.contains(&entry.digest)).count();
        self.outcomes.insert((index.digest, unnamed), outcome);
        if !self.parts.contains_key(&index.digest) {
            self.order.push(Descriptor { annotations: Default::default(), ..index.clone() });
        }
        // If several entries list the index and one of them takes what names no platform, that counts.
        if unnamed == Choice::Taken || !self.parts.contains_key(&index.digest) {
            self.parts.insert(index.digest, IndexPart { kept, left_out });
        }
        Ok(outcome)
    }

    fn choose_entry(&mut self, entry: &Descriptor, unnamed: Choice, depth: u32) -> Result<Outcome, PastBounds> {
        let platform = platform_of(entry);
        let own = match platform {
            None => unnamed,
            Some(platform) if wants(self.wanted, platform) => Choice::Taken,
            Some(platform) => {
                // Not chosen from, even if another entry had it read.
                self.offered.push(platform.clone());
                return Ok(Outcome::default());
            }
        };
        let below = match entry.media_type.is_index() {
            true => self.choose(entry, own, depth + 1)?,
            false => Outcome { is_taken: own == Choice::Taken, names_platforms: false },
        };
        // If the entries of a nested index name their platforms, the platform of its own entry adds nothing.
        match platform {
            Some(platform) if below.is_taken && !below.names_platforms => {
                self.offered.push(platform.clone());
                self.found.push(platform.clone());
                Ok(Outcome { names_platforms: true, ..below })
            }
            _ => Ok(below),
        }
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

    fn nested_for(root: &Root, platform: &str) -> Value {
        let mut value = nested(root);
        value["platform"] = entry("", platform)["platform"].clone();
        value
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

    #[tokio::test]
    async fn indexes_that_many_others_list_are_chosen_from_once() {
        let store = Memory::default();
        let mut layer = vec![hold(&store, &[entry("a", "linux/amd64"), entry("b", "linux/arm64")]).await];
        // 8 to the power of 15 ways lead down.
        for depth in 0..15 {
            let below: Vec<_> = layer.iter().map(nested).collect();
            layer.clear();
            for side in 0..8 {
                let mark = entry(&format!("{depth}/{side}"), "linux/s390x");
                layer.push(hold(&store, &[&below[..], &[mark]].concat()).await);
            }
        }
        let chosen = chosen(&store, &layer[0], &["linux/amd64"]).await.unwrap();
        assert_eq!((chosen.indexes.len(), chosen.platforms.len()), (1 + 14 * 8 + 1, 1));
        assert!(chosen.indexes.iter().all(|index| chosen.selection.keeps_any(&index.digest)));
    }

    #[tokio::test]
    async fn an_entry_is_not_believed_about_a_platform_that_the_images_below_it_do_not_have() {
        let store = Memory::default();
        let shared = hold(&store, &[entry("a", "linux/amd64")]).await;
        let mut listed = Vec::new();
        for platform in ["linux/amd64", "linux/arm64"] {
            let index = hold(&store, &[nested(&shared), entry(platform, "linux/s390x")]).await;
            listed.push(nested_for(&index, platform));
        }
        for entries in [[0, 1], [1, 0]] {
            let root = hold(&store, &entries.map(|at: usize| listed[at].clone())).await;
            let error = chosen(&store, &root, &["linux/amd64", "linux/arm64"]).await.unwrap_err();
            assert_eq!(error.kind(), Kind::NotFound);
            let says = "it has no linux/arm64; it has linux/amd64, linux/s390x";
            assert!(error.chain().contains(says), "{}", error.chain());
        }
    }

    #[tokio::test]
    async fn only_requested_platforms_are_recorded_of_an_index_that_is_listed_for_several() {
        let store = Memory::default();
        let plain = serde_json::to_value(Descriptor::of(MediaType::OCI_MANIFEST, b"a")).unwrap();
        for shared in [hold(&store, &[entry("a", "linux/amd64")]).await, hold(&store, &[plain]).await] {
            for platforms in [["linux/amd64", "linux/s390x"], ["linux/s390x", "linux/amd64"]] {
                let root = hold(&store, &platforms.map(|platform| nested_for(&shared, platform))).await;
                let chosen = chosen(&store, &root, &["linux/amd64"]).await.unwrap();
                assert_eq!(chosen.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["linux/amd64"]);
                assert!(chosen.selection.takes(&root.node.digest, &shared.node.digest));
            }
        }
    }

    #[test]
    fn indexes_that_list_each_other_are_refused() {
        // Bytes that are checked cannot do this.
        let index = |name: &str| Descriptor::new(MediaType::OCI_INDEX, digest(name), 1);
        let listing = |name: &str| {
            let text = json!({"mediaType": MediaType::OCI_INDEX, "manifests": [index(name)]}).to_string();
            Manifest::parse(text.as_bytes(), &MediaType::OCI_INDEX).unwrap()
        };
        let read = HashMap::from([(digest("a"), listing("b")), (digest("b"), listing("a"))]);
        let chosen = Choosing::new(&[], &read).choose(&index("a"), Choice::Taken, 0);
        assert_eq!(chosen.unwrap_err(), PastBounds);
    }

    #[tokio::test]
    async fn a_long_way_beside_a_short_one_is_refused_like_any_long_way() {
        let store = Memory::default();
        let mut index = hold(&store, &[entry("a", "linux/amd64")]).await;
        let mut all = Vec::new();
        for _ in 0..9_500 {
            all.push(nested(&index));
            index = hold(&store, &[nested(&index)]).await;
        }
        all.reverse();
        let root = hold(&store, &all).await;
        let deepest = hold(&store, &all[9_500 - 16..]).await;
        assert_eq!(chosen(&store, &deepest, &["linux/amd64"]).await.unwrap().indexes.len(), 17);
        for platforms in [&["linux/amd64"][..], &[]] {
            let error = chosen(&store, &root, platforms).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Limit, "{}", error.chain());
        }
    }

    #[tokio::test]
    async fn an_index_that_is_listed_twice_is_taken_as_the_entry_that_takes_more_of_it() {
        let store = Memory::default();
        let plain = serde_json::to_value(Descriptor::of(MediaType::OCI_MANIFEST, b"a")).unwrap();
        let inner = hold(&store, &[plain]).await;
        let listed = |platform| nested_for(&inner, platform);
        for platforms in [["linux/amd64", "linux/arm64"], ["linux/arm64", "linux/amd64"]] {
            let root = hold(&store, &platforms.map(listed)).await;
            let chosen = chosen(&store, &root, &["linux/amd64"]).await.unwrap();
            assert!(chosen.selection.takes(&root.node.digest, &inner.node.digest));
            assert!(chosen.selection.takes(&inner.node.digest, &digest("a")), "{platforms:?}");
        }
    }
}
