//! The graph of one or more roots: every manifest is read once, children in parallel, all within bounds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::{Selection, Slim};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, ManifestError};
use crate::store::{Store, read_manifest};

/// Manifests fetched at the same time.
const FETCHES: usize = 16;
/// Deepest nesting of indexes that is followed.
pub(super) const MAX_DEPTH: u32 = 16;
/// Most nodes in one graph: an index of 150 images of 127 layers, the most that a container can have. The graphs of this
/// image and of the former one then stay below the 64 MiB that a whole run may use.
pub(super) const MAX_NODES: usize = 20_000;
/// Most manifest bytes in one graph; they stay in memory until they are put.
const MAX_MANIFEST_BYTES_IN_ALL: u64 = 16 << 20;
/// Most bytes that all nodes together may announce, one pebibyte: sizes are untrusted, and their sum must not overflow.
const MAX_BYTES_ANNOUNCED: u64 = 1 << 50;

/// One node, and the nodes that it refers to.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) slim: Slim,
    /// The content, for a manifest.
    pub(super) bytes: Option<Bytes>,
    /// Positions in the graph.
    pub(super) children: Vec<usize>,
}

/// Where to begin: a root, with its bytes if they are known.
pub(super) type Start = (Descriptor, Option<Bytes>);

/// Which entries of indexes are followed.
#[derive(Debug, Clone, Copy)]
pub(super) enum View<'a> {
    /// For the graph to copy: the chosen entries.
    Chosen(&'a Selection),
    /// For another image at the sink: the entries that may hold what was chosen. Skips missing entries: the other image
    /// may have been copied without all its platforms.
    Alike(&'a Selection),
}

/// A directed acyclic graph that holds each node once.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    positions: HashMap<(Digest, bool), usize>,
    /// Sum of the sizes that the nodes announce.
    announced: u64,
}

impl Graph {
    /// Reads everything that `starts` refer to. Does not fetch manifests that `known` has.
    ///
    /// # Errors
    ///
    /// Fails like [`read_manifest`]; [`Unsupported`](Kind::Unsupported) for schema 1, [`Invalid`](Kind::Invalid) for
    /// content that is no manifest, [`Limit`](Kind::Limit) past the bounds of this module.
    pub(super) async fn read(
        store: &Arc<dyn Store>,
        starts: &[Start],
        known: Option<&Self>,
        view: View<'_>,
    ) -> Result<Self> {
        let mut graph = Self::default();
        let mut queue = VecDeque::new();
        for (node, bytes) in starts {
            if let (position, true) = graph.add(Slim::of(node)?)? {
                queue.push_back((position, 0, bytes.clone()));
            }
        }
        let mut total = 0;
        let mut fetches = FuturesUnordered::new();
        loop {
            while fetches.len() < FETCHES
                && let Some((position, depth, bytes)) = queue.pop_front()
            {
                let node = graph.nodes[position].slim.descriptor();
                // Counts the announced size, which is the most that will be read: the bound holds before the bytes
                // arrive.
                total += node.size;
                if depth > MAX_DEPTH || total > MAX_MANIFEST_BYTES_IN_ALL {
                    let why = format!("deeper than {MAX_DEPTH} levels, or more than {MAX_MANIFEST_BYTES_IN_ALL} bytes");
                    return Err(Error::new(Kind::Limit, "read manifests").on(store.label()).because(why));
                }
                let bytes = bytes.or_else(|| known.and_then(|known| known.bytes(&node)));
                fetches.push(async move {
                    let bytes = match bytes {
                        Some(bytes) => Ok(bytes),
                        None => read_manifest(store.as_ref(), &node).await,
                    };
                    (position, depth, bytes)
                });
            }
            let Some(fetched) = fetches.next().await else { return Ok(graph) };
            let (position, depth, bytes) = fetched;
            let bytes = match bytes {
                Err(error) if depth > 0 && view.passes_over(&error) => continue,
                bytes => bytes?,
            };
            for child in graph.fill(position, bytes, store.label(), view)? {
                queue.push_back((child, depth + 1, None));
            }
        }
    }

    /// Adds `node`; returns its position, and whether it is a manifest that is still to be read.
    fn add(&mut self, node: Slim) -> Result<(usize, bool)> {
        let key = (node.digest, node.is_manifest());
        if let Some(&position) = self.positions.get(&key) {
            let known = self.nodes[position].slim.size;
            if known != node.size {
                let why = format!("said to be {known} bytes long in one place and {} in another", node.size);
                return Err(Error::new(Kind::Invalid, "read manifests").on(node.digest).because(why));
            }
            return Ok((position, false));
        }
        self.announced = self.announced.saturating_add(node.size);
        if self.nodes.len() >= MAX_NODES || self.announced > MAX_BYTES_ANNOUNCED {
            let why = format!("more than {MAX_NODES} nodes, or more than {MAX_BYTES_ANNOUNCED} bytes announced");
            return Err(Error::new(Kind::Limit, "read manifests").because(why));
        }
        let position = self.nodes.len();
        let is_manifest = node.is_manifest();
        self.nodes.push(Node { slim: node, bytes: None, children: Vec::new() });
        self.positions.insert(key, position);
        Ok((position, is_manifest))
    }

    /// Stores the content of a manifest; returns the new manifests to read.
    fn fill(&mut self, position: usize, bytes: Bytes, label: &str, view: View<'_>) -> Result<Vec<usize>> {
        let node = &self.nodes[position].slim;
        let manifest = Manifest::parse(&bytes, &node.media_type).map_err(|why| {
            let kind = match why {
                ManifestError::Schema1 | ManifestError::Unknown(_) => Kind::Unsupported,
                ManifestError::Limit(_) => Kind::Limit,
                _ => Kind::Invalid,
            };
            Error::new(kind, "read manifest").on(format!("{label}@{}", node.digest)).because(why)
        })?;
        let mut unread = Vec::new();
        let mut children = Vec::new();
        let index = node.digest;
        for child in manifest.children().filter(|child| view.follows(&index, child)) {
            let (at, is_new) = self.add(Slim::of(child)?)?;
            children.push(at);
            if is_new {
                unread.push(at);
            }
        }
        self.nodes[position].children = children;
        self.nodes[position].bytes = Some(bytes);
        Ok(unread)
    }

    /// Returns all nodes; the starts come first.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the position of a node.
    pub(super) fn position(&self, digest: Digest, is_manifest: bool) -> Option<usize> {
        self.positions.get(&(digest, is_manifest)).copied()
    }

    /// Returns whether `node` is in this graph and, for a manifest, was read. A node with another size is not the same
    /// node: one of the two sizes is wrong.
    pub(super) fn contains(&self, node: &Slim) -> bool {
        self.position(node.digest, node.is_manifest()).is_some_and(|position| {
            let found = &self.nodes[position];
            found.slim.size == node.size && (found.bytes.is_some() || !node.is_manifest())
        })
    }

    fn bytes(&self, node: &Descriptor) -> Option<Bytes> {
        self.nodes[self.position(node.digest, node.is_manifest())?].bytes.clone()
    }

    /// Adds the nodes of another graph.
    pub(super) fn merge(&mut self, other: Self) -> Result<()> {
        let moved = other.nodes.iter().map(|node| Ok(self.add(node.slim.clone())?.0)).collect::<Result<Vec<_>>>()?;
        for (node, &position) in other.nodes.iter().zip(&moved) {
            if self.nodes[position].bytes.is_none() {
                self.nodes[position].bytes.clone_from(&node.bytes);
                self.nodes[position].children = node.children.iter().map(|&child| moved[child]).collect();
            }
        }
        Ok(())
    }
}

impl View<'_> {
    fn follows(self, index: &Digest, child: &Descriptor) -> bool {
        match self {
            Self::Chosen(selection) => selection.takes(index, &child.digest),
            Self::Alike(selection) => !child.is_manifest() || selection.resembles(child),
        }
    }

    fn passes_over(self, error: &Error) -> bool {
        matches!(self, Self::Alike(_)) && error.kind() == Kind::NotFound
    }
}
