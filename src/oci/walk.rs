//! The bounded walk over the manifests of an image: each is visited once, so it ends even if manifests list each other.
//!
//! Pure: the caller reads each manifest that the walk returns, and adds its children.

use std::collections::{HashSet, VecDeque};

use super::{Descriptor, Digest};

/// Deepest nesting of indexes that is followed.
pub(crate) const MAX_DEPTH: u32 = 16;
/// Most nodes of one image: an index of 150 images of 127 layers, the most that a container can have. The graphs of this
/// image and of the former one then stay below the 64 MiB that a whole run may use.
pub(crate) const MAX_NODES: usize = 20_000;
/// Most bytes of the manifests of one image: many callers keep them in memory.
const MAX_BYTES: u64 = 16 << 20;

/// The manifests still to be read, each as a `T`, in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Walk<T> {
    seen: HashSet<Digest>,
    open: VecDeque<Visit<T>>,
    /// Nodes that the caller counted.
    nodes: usize,
    /// Sum of the announced sizes, which is the most that will be read: the bound holds before the bytes arrive.
    bytes: u64,
}

/// A manifest to read.
#[derive(Debug)]
pub(crate) struct Visit<T> {
    /// The manifest, as it was added.
    pub(crate) item: T,
    /// The number of manifests above it.
    pub(crate) depth: u32,
    size: u64,
}

/// The error for an image past the bounds.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("deeper than {MAX_DEPTH} levels, more than {MAX_NODES} nodes, or more than {MAX_BYTES} bytes of manifests")]
pub(crate) struct PastBounds;

impl<T> Default for Walk<T> {
    fn default() -> Self {
        Self { seen: HashSet::new(), open: VecDeque::new(), nodes: 0, bytes: 0 }
    }
}

impl<T> Walk<T> {
    /// Adds a manifest, unless its digest was added before.
    pub(crate) fn add(&mut self, digest: Digest, size: u64, depth: u32, item: T) {
        if self.seen.insert(digest) {
            self.open.push_back(Visit { item, depth, size });
        }
    }

    /// Counts nodes towards the bound; the walk itself counts none.
    pub(crate) fn count(&mut self, nodes: usize) {
        self.nodes = self.nodes.saturating_add(nodes);
    }

    /// Returns the next manifest to read; none at the end, or while the caller still reads.
    ///
    /// # Errors
    ///
    /// [`PastBounds`] if it lies too deep, or if too much was counted or is to be read.
    pub(crate) fn next(&mut self) -> Result<Option<Visit<T>>, PastBounds> {
        let Some(visit) = self.open.pop_front() else { return Ok(None) };
        self.bytes = self.bytes.saturating_add(visit.size);
        let is_within = visit.depth <= MAX_DEPTH && self.nodes <= MAX_NODES && self.bytes <= MAX_BYTES;
        if is_within { Ok(Some(visit)) } else { Err(PastBounds) }
    }
}

impl Walk<Descriptor> {
    /// Begins at `root`.
    pub(crate) fn from(root: &Descriptor) -> Self {
        let mut walk = Self::default();
        walk.enter(root, 0);
        walk
    }

    /// Adds the manifest that a descriptor names, unless its digest was added before.
    pub(crate) fn enter(&mut self, node: &Descriptor, depth: u32) {
        self.add(node.digest, node.size, depth, node.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn node(name: &str, size: u64) -> Descriptor {
        Descriptor::new(MediaType::OCI_INDEX, Digest::sha256(name.as_bytes()), size)
    }

    #[test]
    fn each_manifest_is_visited_once_even_in_a_circle() {
        let (a, b, c) = (node("a", 1), node("b", 2), node("c", 3));
        let mut walk = Walk::from(&a);
        let mut visits = Vec::new();
        while let Some(visit) = walk.next().unwrap() {
            [&b, &c, &a, &b].into_iter().for_each(|child| walk.enter(child, visit.depth + 1));
            visits.push((visit.item, visit.depth));
        }
        assert_eq!(visits, [(a, 0), (b, 1), (c, 1)]);
    }

    #[test]
    fn depth_bytes_and_nodes_are_bounded() {
        let ends = |size: u64, depth: u32, nodes: usize| {
            let mut walk = Walk::default();
            walk.add(Digest::sha256(b"a"), size, depth, ());
            walk.add(Digest::sha256(b"b"), 1, 0, ());
            walk.count(nodes);
            [walk.next().map(|visit| visit.is_some()), walk.next().map(|visit| visit.is_some())]
        };
        assert_eq!(ends(MAX_BYTES - 1, MAX_DEPTH, MAX_NODES), [Ok(true), Ok(true)]);
        assert_eq!(ends(MAX_BYTES, 0, 0), [Ok(true), Err(PastBounds)]);
        assert_eq!(ends(u64::MAX, 0, 0), [Err(PastBounds), Err(PastBounds)]);
        assert_eq!(ends(1, MAX_DEPTH + 1, 0)[0], Err(PastBounds));
        assert_eq!(ends(1, 0, MAX_NODES + 1)[0], Err(PastBounds));
    }
}
