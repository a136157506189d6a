//! The graph of one or more roots: every manifest is read once, children in parallel, all within bounds.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::{Selection, Slim};
use crate::error::{Error, Kind, Result};
use crate::oci::walk::{MAX_NODES, Visit, Walk};
use crate::oci::{Descriptor, Digest, Manifest, ManifestError};
use crate::store::{Store, read_manifest};

/// Manifests fetched at the same time.
const FETCHES: usize = 16;
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
        let (mut graph, mut walk) = (Self::default(), Walk::default());
        for (node, bytes) in starts {
            let position = graph.add(Slim::of(node)?)?;
            if node.is_manifest() {
                walk.add(node.digest, node.size, 0, (position, bytes.clone()));
            }
        }
        let past_bounds = |why| Error::new(Kind::Limit, "read manifests").on(store.label()).because(why);
        let mut fetches = FuturesUnordered::new();
        loop {
            while fetches.len() < FETCHES
                && let Some(Visit { item: (position, bytes), depth, .. }) = walk.next().map_err(past_bounds)?
            {
                let node = graph.nodes[position].slim.descriptor();
                let bytes = bytes.or_else(|| known.and_then(|known| known.bytes(&node)));
                fetches.push(async move {
                    let bytes = match bytes {
                        Some(bytes) => Ok(bytes),
                        None => read_manifest(store.as_ref(), &node).await,
                    };
                    (position, depth, bytes)
                });
            }
            let Some((position, depth, bytes)) = fetches.next().await else { return Ok(graph) };
            let bytes = match bytes {
                Err(error) if depth > 0 && view.passes_over(&error) => continue,
                bytes => bytes?,
            };
            graph.fill(position, bytes, store.label(), view)?;
            for &child in &graph.nodes[position].children {
                let Node { slim, .. } = &graph.nodes[child];
                if slim.is_manifest() {
                    walk.add(slim.digest, slim.size, depth + 1, (child, None));
                }
            }
        }
    }

    /// Adds `node`, unless it is there; returns its position.
    fn add(&mut self, node: Slim) -> Result<usize> {
        let key = (node.digest, node.is_manifest());
        if let Some(&position) = self.positions.get(&key) {
            let known = self.nodes[position].slim.size;
            if known != node.size {
                let why = format!("said to be {known} bytes long in one place and {} in another", node.size);
                return Err(Error::new(Kind::Invalid, "read manifests").on(node.digest).because(why));
            }
            return Ok(position);
        }
        self.announced = self.announced.saturating_add(node.size);
        if self.nodes.len() >= MAX_NODES || self.announced > MAX_BYTES_ANNOUNCED {
            let why = format!("more than {MAX_NODES} nodes, or more than {MAX_BYTES_ANNOUNCED} bytes announced");
            return Err(Error::new(Kind::Limit, "read manifests").because(why));
        }
        let position = self.nodes.len();
        self.nodes.push(Node { slim: node, bytes: None, children: Vec::new() });
        self.positions.insert(key, position);
        Ok(position)
    }

    /// Stores the content of a manifest, and adds the nodes that it refers to.
    fn fill(&mut self, position: usize, bytes: Bytes, label: &str, view: View<'_>) -> Result<()> {
        let node = &self.nodes[position].slim;
        let manifest = Manifest::parse(&bytes, &node.media_type).map_err(|why| {
            let kind = match why {
                ManifestError::Schema1 | ManifestError::Unknown(_) => Kind::Unsupported,
                ManifestError::Limit(_) => Kind::Limit,
                _ => Kind::Invalid,
            };
            Error::new(kind, "read manifest").on(format!("{label}@{}", node.digest)).because(why)
        })?;
        let index = node.digest;
        let children = manifest.children().filter(|child| view.follows(&index, child));
        let children = children.map(|child| self.add(Slim::of(child)?)).collect::<Result<_>>()?;
        self.nodes[position].children = children;
        self.nodes[position].bytes = Some(bytes);
        Ok(())
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
        let moved = other.nodes.iter().map(|node| self.add(node.slim.clone())).collect::<Result<Vec<_>>>()?;
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
