//! Images of any shape, made from a seed: valid layers of bytes that do not compress, the same on every machine.
//!
//! Layers are recipes, generated at every read, so that gigabytes cost no memory here.

use std::collections::HashSet;

use autonomy_registry::oci::{Descriptor, Digest, MediaType, Platform};
use autonomy_registry::store::ByteStream;
use serde_json::{Value, json};
use testkit::images::shape::layer::{Noise, Recipe};

/// No clock: the same seed makes the same bytes on any day.
const CREATED: &str = "2024-01-01T00:00:00Z";

/// Bytes, or a recipe for them.
#[derive(Debug)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    Layer(Layer),
}

/// A layer that is generated when it is read.
#[derive(Debug)]
pub(crate) struct Layer(Recipe);

impl Layer {
    /// Its bytes. Requires a runtime, which generates them.
    pub(crate) fn open(&self) -> ByteStream {
        self.0.open(0)
    }
}

/// One node of an image's graph.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) descriptor: Descriptor,
    pub(crate) content: Content,
    pub(crate) children: Vec<Digest>,
}

/// A graph with one root.
#[derive(Debug)]
pub(crate) struct Image {
    /// Every node once, children before parents, the root last.
    pub(crate) nodes: Vec<Node>,
}

impl Image {
    pub(crate) fn root(&self) -> &Descriptor {
        &self.nodes[self.nodes.len() - 1].descriptor
    }
}

/// The shape of an image.
#[derive(Debug, Clone)]
pub(crate) struct Recipes {
    pub(crate) seed: u64,
    /// Number of platforms, each with layers of its own. One and no index if `is_index` is false.
    pub(crate) platforms: usize,
    pub(crate) is_index: bool,
    /// Bytes in each layer of a platform.
    pub(crate) layers: Vec<u64>,
    /// Layers at the bottom of each platform that come from another seed: all images with that seed share them.
    pub(crate) base: (u64, Vec<u64>),
    /// The layer of each platform that comes from another seed, and that seed: one changed layer.
    pub(crate) changed: Option<(usize, u64)>,
}

impl Recipes {
    /// An index of `platforms` with `layers` each.
    pub(crate) fn index(seed: u64, platforms: usize, layers: Vec<u64>) -> Self {
        Self { seed, platforms, is_index: true, layers, base: (0, Vec::new()), changed: None }
    }

    pub(crate) fn make(&self) -> Image {
        let mut maker = Maker::default();
        let entries: Vec<_> = (0..self.platforms).map(|number| maker.platform(self, number)).collect();
        if self.is_index {
            let children = entries.iter().map(|entry| entry.digest).collect();
            let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
            maker.json(MediaType::OCI_INDEX, &index, children);
        }
        Image { nodes: maker.nodes }
    }

    /// The layers of a platform, bottom to top.
    fn layers_of(&self, number: usize) -> Vec<Recipe> {
        let stream = |seed: u64| Noise(seed.wrapping_mul(1 << 20).wrapping_add(number as u64));
        let mut seeds = stream(self.base.0);
        let mut layers: Vec<_> = self.base.1.iter().map(|&size| Recipe { seed: seeds.next(), size }).collect();
        let mut seeds = stream(self.seed);
        for (at, &size) in self.layers.iter().enumerate() {
            let own = seeds.next();
            let seed = match self.changed {
                Some((changed, seed)) if changed == at => own ^ seed,
                _ => own,
            };
            layers.push(Recipe { seed, size });
        }
        layers
    }
}

#[derive(Default)]
struct Maker {
    nodes: Vec<Node>,
    known: HashSet<Digest>,
}

impl Maker {
    fn hold(&mut self, descriptor: &Descriptor, content: Content, children: Vec<Digest>) {
        if self.known.insert(descriptor.digest) {
            self.nodes.push(Node { descriptor: descriptor.clone(), content, children });
        }
    }

    fn json(&mut self, media_type: MediaType, value: &Value, children: Vec<Digest>) -> Descriptor {
        let bytes = value.to_string().into_bytes();
        let descriptor = Descriptor::of(media_type, &bytes);
        self.hold(&descriptor, Content::Bytes(bytes), children);
        descriptor
    }

    /// An image; its descriptor names the platform.
    fn platform(&mut self, recipes: &Recipes, number: usize) -> Descriptor {
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for recipe in recipes.layers_of(number) {
            let (digest, size, diff_id) = recipe.describe();
            let layer = Descriptor::new(MediaType::OCI_LAYER_GZIP, digest, size);
            self.hold(&layer, Content::Layer(Layer(recipe)), Vec::new());
            layers.push(layer);
            diff_ids.push(diff_id);
        }
        let platform = platform(number);
        let mut config = json!({
            "created": CREATED,
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/data"], "Labels": {"seed": recipes.seed.to_string()}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": diff_ids.iter().map(|_| json!({"created": CREATED, "created_by": "noise"})).collect::<Vec<_>>(),
        });
        if let Some(variant) = &platform.variant {
            config["variant"] = variant.as_str().into();
        }
        let config = self.json(MediaType::OCI_CONFIG, &config, Vec::new());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": layers,
        });
        let children = layers.iter().chain([&config]).map(|node| node.digest).collect();
        let node = self.json(MediaType::OCI_MANIFEST, &manifest, children);
        Descriptor { platform: Some(Box::new(platform)), ..node }
    }
}

/// Three real ones, and then any number of distinct ones.
fn platform(number: usize) -> Platform {
    let (architecture, variant) = match number {
        0 => ("amd64", None),
        1 => ("arm64", Some("v8".to_owned())),
        2 => ("riscv64", None),
        _ => ("arm", Some(format!("v{number}"))),
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant }
}
