//! Images to measure with: an index of platforms, each with layers of its own, the same bytes every time.

use autonomy_registry::oci::{Descriptor, MediaType};
use autonomy_registry::store::{Body, Memory, Store};
use bytes::Bytes;
use serde_json::json;

/// The shape of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Entries of the index.
    pub(crate) platforms: usize,
    /// Layers of each platform, beside the configuration.
    pub(crate) layers: usize,
    /// Bytes of each layer, and of each configuration.
    pub(crate) blob_bytes: usize,
}

/// An index with everything below it. Nodes come before the nodes that refer to them; the index is the last.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) nodes: Vec<(Descriptor, Bytes)>,
}

impl Image {
    pub(crate) fn new(shape: Shape) -> Self {
        let mut nodes = Vec::new();
        let mut number = 0;
        let mut entries = Vec::new();
        for platform in 0..shape.platforms {
            let mut blob = |media_type: MediaType| {
                number += 1;
                let bytes = content(number, shape.blob_bytes);
                let node = Descriptor::of(media_type, &bytes);
                nodes.push((node.clone(), bytes));
                node
            };
            let config = blob(MediaType::OCI_CONFIG);
            let layers: Vec<_> = (0..shape.layers).map(|_| blob(MediaType::OCI_LAYER_GZIP)).collect();
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": layers,
            });
            let node = add(&mut nodes, MediaType::OCI_MANIFEST, manifest.to_string());
            let mut entry = serde_json::to_value(node).unwrap();
            entry["platform"] = json!({"os": "linux", "architecture": format!("cpu{platform}")});
            entries.push(entry);
        }
        let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
        add(&mut nodes, MediaType::OCI_INDEX, index.to_string());
        Self { nodes }
    }

    /// The index.
    pub(crate) fn root(&self) -> &(Descriptor, Bytes) {
        self.nodes.last().unwrap()
    }

    pub(crate) fn manifests(&self) -> impl Iterator<Item = &(Descriptor, Bytes)> {
        self.nodes.iter().filter(|(node, _)| node.is_manifest())
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &(Descriptor, Bytes)> {
        self.nodes.iter().filter(|(node, _)| !node.is_manifest())
    }

    /// Bytes of all nodes.
    pub(crate) fn bytes(&self) -> u64 {
        self.nodes.iter().map(|(node, _)| node.size).sum()
    }

    /// Puts all of it.
    pub(crate) async fn put(&self, store: &dyn Store) {
        for (node, bytes) in &self.nodes {
            put(store, node, bytes).await;
        }
    }

    /// A store that holds it.
    pub(crate) async fn held(&self) -> Memory {
        let store = Memory::default();
        self.put(&store).await;
        store
    }
}

/// Puts one node.
pub(crate) async fn put(store: &dyn Store, node: &Descriptor, bytes: &Bytes) {
    store.put(node, &Body::bytes(node.clone(), bytes.clone()), &[]).await.unwrap();
}

fn add(nodes: &mut Vec<(Descriptor, Bytes)>, media_type: MediaType, text: String) -> Descriptor {
    let node = Descriptor::of(media_type, text.as_bytes());
    nodes.push((node.clone(), text.into()));
    node
}

/// Bytes that never repeat: xorshift, started from `seed`.
pub(crate) fn content(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}
