//! Images for tests and benches: every shape found in the field, made from a seed, the same on every machine.
//!
//! Layers are valid `.tar.gz` with right `diff_ids`, so that real clients accept them; their content is random and does not
//! compress. No layer is ever whole in memory: it is generated again, piece by piece, at each open, so an image of many GiB
//! costs a few hundred KiB (and one pass to learn its digests).
//!
//! ```ignore
//! let image = three_platforms(1, &[10 << 20, 300]);
//! let root = image.put(&Memory::default(), &["v1".parse().unwrap()]).await;   // into any store
//! let source = image.source();                                               // or as a store of its own
//! ```

mod generated;
pub mod layer;

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;

use autonomy_registry::oci::{Descriptor, Digest, MediaType, Platform, Tag, empty_json};
use autonomy_registry::store::{Body, Store};
use bytes::Bytes;
use serde_json::{Value, json};

use generated::{Content, Generated};
use layer::{Noise, Recipe};

/// Processors, with their variant.
const PLATFORMS: [(&str, Option<&str>); 3] = [("amd64", None), ("arm64", Some("v8")), ("riscv64", None)];
/// No clock: the same seed makes the same bytes on any day.
const CREATED: &str = "2024-01-01T00:00:00Z";

/// A graph with one root, ready to be put into a store or served.
#[derive(Debug, Clone)]
pub struct Image {
    /// The root.
    pub root: Descriptor,
    /// Every node once, children before parents, the root last.
    pub nodes: Vec<Descriptor>,
    contents: Arc<Generated>,
}

impl Image {
    /// Puts all nodes into `store`, the root under `tags`, and returns the root.
    ///
    /// # Panics
    ///
    /// If the store fails.
    pub async fn put(&self, store: &dyn Store, tags: &[Tag]) -> Descriptor {
        for node in &self.nodes {
            let body = match self.contents.nodes.get(&node.digest) {
                Some(Content::Bytes(bytes)) => Body::bytes(node.clone(), bytes.clone()),
                _ => Body::stored(node.clone(), self.source()),
            };
            let tags = if node.digest == self.root.digest { tags } else { &[] };
            store.put(node, &body, tags).await.unwrap();
        }
        self.root.clone()
    }

    /// A store that holds this image, generates its layers on read, accepts no writes, and resolves every tag to the root.
    pub fn source(&self) -> Arc<dyn Store> {
        Arc::clone(&self.contents) as _
    }

    /// Bytes of all nodes.
    pub fn size(&self) -> u64 {
        self.nodes.iter().map(|node| node.size).sum()
    }
}

/// An index of linux/amd64, linux/arm64/v8 and linux/riscv64, each with layers that hold `layer_sizes` bytes.
pub fn three_platforms(seed: u64, layer_sizes: &[u64]) -> Image {
    let mut maker = Maker::new(seed, OCI);
    let entries = maker.platforms(layer_sizes);
    maker.index(&entries);
    maker.done()
}

/// An index of linux/amd64 and linux/arm64/v8.
pub fn two_platforms(seed: u64, layer_sizes: &[u64]) -> Image {
    let mut maker = Maker::new(seed, OCI);
    let entries = [PLATFORMS[0], PLATFORMS[1]].map(|platform| maker.image(platform, layer_sizes, &[]));
    maker.index(&entries);
    maker.done()
}

/// The image of [`two_platforms`] with another last layer in its second image.
pub fn with_one_layer_changed(seed: u64, layer_sizes: &[u64]) -> Image {
    let mut maker = Maker::new(seed, OCI);
    let (last, others) = layer_sizes.split_last().unwrap();
    let same = maker.image(PLATFORMS[0], layer_sizes, &[]);
    let others: Vec<_> = others.iter().map(|&size| maker.layer(size)).collect();
    maker.seeds.next();
    let changed = maker.image(PLATFORMS[1], &[*last], &others);
    maker.index(&[same, changed]);
    maker.done()
}

/// Three platforms in Docker's media types.
pub fn docker_list(seed: u64, layer_sizes: &[u64]) -> Image {
    let mut maker = Maker::new(seed, DOCKER);
    let entries = maker.platforms(layer_sizes);
    maker.index(&entries);
    maker.done()
}

/// One image for linux/amd64 without an index.
pub fn single_manifest(seed: u64, layer_sizes: &[u64]) -> Image {
    let mut maker = Maker::new(seed, OCI);
    maker.image(PLATFORMS[0], layer_sizes, &[]);
    maker.done()
}

/// One image with layers that all images of the seed `base` share, and layers of its own on top.
pub fn on_a_base(base: u64, base_sizes: &[u64], seed: u64, layer_sizes: &[u64]) -> Image {
    let mut maker = Maker::new(base, OCI);
    let base: Vec<_> = base_sizes.iter().map(|&size| maker.layer(size)).collect();
    maker.seeds = Noise(seed);
    maker.image(PLATFORMS[0], layer_sizes, &base);
    maker.done()
}

/// Three platforms with BuildKit's additions: an attestation for each, as an index entry with an unknown platform.
pub fn with_attestations(seed: u64, layer_sizes: &[u64]) -> Image {
    let mut maker = Maker::new(seed, OCI);
    let mut entries = maker.platforms(layer_sizes);
    for subject in entries.clone() {
        entries.push(maker.attestation(&subject));
    }
    maker.index(&entries);
    maker.done()
}

/// An artifact: the empty configuration, an artifact type, one layer of `size` bytes that is no archive.
pub fn artifact_with_empty_config(seed: u64, size: u64) -> Image {
    let mut maker = Maker::new(seed, OCI);
    let layer = maker.blob(MediaType::OCTET_STREAM, noise(seed, size));
    maker.artifact(&layer);
    maker.done()
}

/// An index of an index of three platforms, and of an image beside it.
pub fn nested_index(seed: u64, layer_sizes: &[u64]) -> Image {
    let mut maker = Maker::new(seed, OCI);
    let entries = maker.platforms(layer_sizes);
    let inner = maker.index(&entries);
    let beside = maker.image(PLATFORMS[0], layer_sizes, &[]);
    maker.index(&[inner, beside]);
    maker.done()
}

/// Three platforms on one base layer of `size` bytes, each with a small layer of its own.
pub fn shared_layer_everywhere(seed: u64, size: u64) -> Image {
    let mut maker = Maker::new(seed, OCI);
    let base = maker.layer(size);
    let entries: Vec<_> =
        PLATFORMS.iter().map(|&platform| maker.image(platform, &[100], std::slice::from_ref(&base))).collect();
    maker.index(&entries);
    maker.done()
}

/// An artifact whose only layer is empty.
pub fn zero_byte_blob(seed: u64) -> Image {
    artifact_with_empty_config(seed, 0)
}

/// One image of two hundred small layers.
pub fn two_hundred_layers(seed: u64) -> Image {
    single_manifest(seed, &[64; 200])
}

/// Bytes that do not compress.
pub fn noise(seed: u64, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Noise(seed).take(size).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The media types of one family: index, manifest, configuration, layer.
type Family = [MediaType; 4];
const OCI: Family = [MediaType::OCI_INDEX, MediaType::OCI_MANIFEST, MediaType::OCI_CONFIG, MediaType::OCI_LAYER_GZIP];
const DOCKER: Family =
    [MediaType::DOCKER_LIST, MediaType::DOCKER_MANIFEST, MediaType::DOCKER_CONFIG, MediaType::DOCKER_LAYER_GZIP];

/// A layer, and the digest of its archive before compression.
type Layer = (Descriptor, Digest);

struct Maker {
    seeds: Noise,
    family: Family,
    nodes: Vec<Descriptor>,
    contents: HashMap<Digest, Content>,
}

impl Maker {
    fn new(seed: u64, family: Family) -> Self {
        Self { seeds: Noise(seed), family, nodes: Vec::new(), contents: HashMap::new() }
    }

    fn done(self) -> Image {
        let root = self.nodes.last().unwrap().clone();
        let contents = Arc::new(Generated { root: root.clone(), nodes: self.contents });
        Image { root, nodes: self.nodes, contents }
    }

    fn hold(&mut self, node: &Descriptor, content: Content) {
        if self.contents.insert(node.digest, content).is_none() {
            self.nodes.push(node.clone());
        }
    }

    fn blob(&mut self, media_type: MediaType, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let node = Descriptor::of(media_type, &bytes);
        self.hold(&node, Content::Bytes(bytes));
        node
    }

    fn json(&mut self, media_type: MediaType, value: &Value) -> Descriptor {
        self.blob(media_type, value.to_string())
    }

    fn layer(&mut self, size: u64) -> Layer {
        let recipe = Recipe { seed: self.seeds.next(), size };
        let (digest, length, diff_id) = recipe.describe();
        let node = Descriptor::new(self.family[3].clone(), digest, length);
        self.hold(&node, Content::Recipe(recipe));
        (node, diff_id)
    }

    fn platforms(&mut self, layer_sizes: &[u64]) -> Vec<Descriptor> {
        PLATFORMS.iter().map(|&platform| self.image(platform, layer_sizes, &[])).collect()
    }

    /// An image on top of `base`; the descriptor names its platform.
    fn image(&mut self, platform: (&str, Option<&str>), layer_sizes: &[u64], base: &[Layer]) -> Descriptor {
        let mut layers = base.to_vec();
        layers.extend(layer_sizes.iter().map(|&size| self.layer(size)));
        let platform =
            Platform { os: "linux".into(), architecture: platform.0.into(), variant: platform.1.map(str::to_owned) };
        let mut config = json!({
            "created": CREATED,
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/data"]},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|(_, diff_id)| diff_id).collect::<Vec<_>>()},
            "history": layers.iter().map(|_| json!({"created": CREATED, "created_by": "noise"})).collect::<Vec<_>>(),
        });
        if let Some(variant) = &platform.variant {
            config["variant"] = variant.as_str().into();
        }
        let config = self.json(self.family[2].clone(), &config);
        let layers: Vec<_> = layers.into_iter().map(|(node, _)| node).collect();
        let node = self.manifest(&config, &layers, &[]);
        Descriptor { platform: Some(Box::new(platform)), ..node }
    }

    fn manifest(&mut self, config: &Descriptor, layers: &[Descriptor], more: &[(&str, Value)]) -> Descriptor {
        let media_type = self.family[1].clone();
        let mut manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        for (key, value) in more {
            manifest[*key] = value.clone();
        }
        self.json(media_type, &manifest)
    }

    fn index(&mut self, entries: &[Descriptor]) -> Descriptor {
        let media_type = self.family[0].clone();
        self.json(media_type.clone(), &json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}))
    }

    fn artifact(&mut self, layer: &Descriptor) -> Descriptor {
        let (config, bytes) = empty_json();
        self.hold(&config, Content::Bytes(Bytes::from_static(bytes)));
        let more = [("artifactType", json!("application/vnd.example.noise.v1"))];
        self.manifest(&config, std::slice::from_ref(layer), &more)
    }

    /// As BuildKit writes them (its `docs/attestations/attestation-storage.md`).
    fn attestation(&mut self, subject: &Descriptor) -> Descriptor {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": "noise", "digest": {"sha256": subject.digest.hex()}}],
            "predicate": {"builder": {"id": ""}, "buildType": "noise"},
        });
        let mut layer = self.json(MediaType::new("application/vnd.in-toto+json"), &statement);
        let predicate = ("in-toto.io/predicate-type".to_owned(), "https://slsa.dev/provenance/v0.2".to_owned());
        layer.annotations.extend([predicate]);
        let rootfs = json!({"type": "layers", "diff_ids": [layer.digest]});
        let config = json!({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs});
        let config = self.json(self.family[2].clone(), &config);
        let mut node = self.manifest(&config, &[layer], &[]);
        let nowhere = Platform { os: "unknown".into(), architecture: "unknown".into(), variant: None };
        node.platform = Some(Box::new(nowhere));
        node.annotations.extend([
            ("vnd.docker.reference.digest".to_owned(), subject.digest.to_string()),
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
        ]);
        node
    }
}

#[cfg(test)]
mod tests;
