//! The references between the manifests of a layout, read strictly: a layout with any fault has no graph.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use super::GcRules;
use crate::disk;
use crate::disk::Place;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Hasher};
use crate::store::layout::index::{self, IndexStamp};
use crate::store::layout::manifest;

/// All manifests of a layout and the references between them.
#[derive(Debug)]
pub(super) struct LayoutGraph {
    /// The stamp of the `index.json` that the graph starts from.
    pub(super) stamp: IndexStamp,
    manifests: HashMap<Digest, LayoutNode>,
    /// Digests with a name in `index.json`: a tag, or another program's name.
    named: HashSet<Digest>,
    /// Digests in `index.json` that are not manifests.
    others: HashSet<Digest>,
}

#[derive(Debug)]
struct LayoutNode {
    needs: Needs,
    modified: SystemTime,
}

/// The references of one manifest. They never change.
#[derive(Debug, Clone)]
struct Needs {
    children: Vec<Descriptor>,
    subject: Option<Digest>,
}

impl LayoutGraph {
    /// Reads `index.json` and every manifest that it leads to; manifests in `former` are not read again.
    pub(super) fn read(folder: &Place, former: Option<Self>) -> Result<Self> {
        let (stamp, entries) = index::entries(folder)?;
        let mut known = former.map(|former| former.manifests).unwrap_or_default();
        let mut graph = Self { stamp, manifests: HashMap::new(), named: HashSet::new(), others: HashSet::new() };
        let mut open = Vec::new();
        for entry in &entries {
            if entry.annotations.contains_key(index::REF_NAME) {
                graph.named.insert(entry.digest);
            }
            if !entry.is_manifest() {
                graph.others.insert(entry.digest);
                continue;
            }
            if graph.manifests.contains_key(&entry.digest) {
                continue;
            }
            let node = node(folder, entry, known.remove(&entry.digest))?.ok_or_else(|| missing(folder, entry))?;
            open.extend(node.needs.children.iter().filter(|child| child.is_manifest()).cloned());
            graph.manifests.insert(entry.digest, node);
        }
        let mut leaves = HashSet::new();
        // Manifests that only other manifests list. Each is read once, so this ends even on indexes that list each
        // other.
        while let Some(child) = open.pop() {
            let listed = (child.digest, child.media_type.clone());
            if graph.manifests.contains_key(&child.digest) || leaves.contains(&listed) {
                continue;
            }
            let read = match node(folder, &child, known.remove(&child.digest)) {
                Err(error) if is_leaf(folder, &child, error.kind())? => {
                    leaves.insert(listed);
                    continue;
                }
                read => read?,
            };
            // An index may be sparse.
            let Some(node) = read else { continue };
            open.extend(node.needs.children.iter().filter(|child| child.is_manifest()).cloned());
            graph.manifests.insert(child.digest, node);
        }
        Ok(graph)
    }

    /// Returns the manifests that no tag leads to and that are old enough.
    pub(super) fn doomed(&self, rules: &GcRules) -> HashSet<Digest> {
        let mut referrers: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for (digest, node) in &self.manifests {
            if let Some(subject) = node.needs.subject {
                referrers.entry(subject).or_default().push(*digest);
            }
        }
        let is_root =
            |(digest, node): &(&Digest, &LayoutNode)| self.named.contains(digest) || !rules.is_old(Ok(node.modified));
        let mut open: Vec<Digest> = self.manifests.iter().filter(is_root).map(|(digest, _)| *digest).collect();
        let mut reached = HashSet::new();
        while let Some(digest) = open.pop() {
            let Some(node) = self.manifests.get(&digest) else { continue };
            if !reached.insert(digest) {
                continue;
            }
            open.extend(node.needs.children.iter().map(|child| child.digest));
            open.extend(node.needs.subject);
            open.extend(referrers.get(&digest).into_iter().flatten());
        }
        self.manifests.keys().filter(|digest| !reached.contains(digest)).copied().collect()
    }

    /// Returns manifests that stay, but that perhaps only a doomed manifest lists.
    pub(super) fn orphans(&self, doomed: &HashSet<Digest>) -> HashSet<Digest> {
        let children =
            doomed.iter().filter_map(|digest| self.manifests.get(digest)).flat_map(|node| &node.needs.children);
        let stays = |digest: &Digest| self.manifests.contains_key(digest) && !doomed.contains(digest);
        children.map(|child| child.digest).filter(stays).collect()
    }

    /// Returns all manifests that are not doomed, and everything that they need.
    pub(super) fn kept(&self, doomed: &HashSet<Digest>) -> HashSet<Digest> {
        let mut kept = self.others.clone();
        for (digest, node) in self.manifests.iter().filter(|(digest, _)| !doomed.contains(digest)) {
            kept.insert(*digest);
            kept.extend(node.needs.children.iter().map(|child| child.digest));
        }
        kept
    }
}

/// Reads one manifest. None if its file does not exist.
fn node(folder: &Place, entry: &Descriptor, known: Option<LayoutNode>) -> Result<Option<LayoutNode>> {
    let place = index::blob(folder, &entry.digest);
    let Some(about) = place.look().map_err(place.failed("look at"))? else { return Ok(None) };
    let modified = about.modified().map_err(place.failed("look at"))?;
    if let Some(LayoutNode { needs, .. }) = known {
        return Ok(Some(LayoutNode { needs, modified }));
    }
    let bytes = match manifest::read(&place) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let path = place.path();
    if !entry.digest.matches(&bytes) {
        return Err(Error::new(Kind::Corrupt, "read").on(path.display()).hint("copy the image again, then run gc"));
    }
    let manifest = manifest::parse(&bytes, &entry.media_type).map_err(|why| why.during("read", path.display()))?;
    let needs = Needs {
        children: manifest
            .children()
            .map(|child| Descriptor::new(child.media_type.clone(), child.digest, child.size))
            .collect(),
        subject: manifest.subject.as_ref().map(|subject| subject.digest),
    };
    Ok(Some(LayoutNode { needs, modified }))
}

/// Whether an unreadable manifest never was one: an index may list any blob as a manifest, and the server cannot
/// prevent that. Bytes that do not match the digest are damage all the same.
fn is_leaf(folder: &Place, child: &Descriptor, why: Kind) -> Result<bool> {
    match why {
        // Its bytes were compared before they were parsed.
        Kind::Invalid => Ok(true),
        // Too large for a manifest.
        Kind::Limit => {
            let place = index::blob(folder, &child.digest);
            let mut hasher = Hasher::new(child.digest.algorithm());
            let (file, _) = place.open().map_err(place.failed("open"))?;
            disk::hash(&file, &mut hasher).map_err(place.failed("read"))?;
            Ok(hasher.finish() == child.digest)
        }
        _ => Ok(false),
    }
}

fn missing(folder: &Place, entry: &Descriptor) -> Error {
    let told = Error::new(Kind::Corrupt, "find").on(index::blob(folder, &entry.digest).path().display());
    told.because("index.json lists a manifest that is not there").hint("copy the image again, then run gc")
}
