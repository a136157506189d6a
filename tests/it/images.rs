//! Test images of every shape that registries hold, made the same each time, put into any store.
//!
//! Layers are real: a tar with one file of random bytes, in gzip, with their `diff_ids` in the configuration, so that
//! clients which unpack take them too.
#![allow(dead_code, reason = "two test programs share this file, and neither needs all of it")]

use std::io::Write as _;
use std::pin::Pin;

use autonomy_registry::oci::{Descriptor, Digest, MediaType, Tag, empty_json};
use autonomy_registry::store::{Body, Store};
use serde_json::{Value, json};

/// Puts `bytes` and describes them.
pub(crate) async fn put(store: &dyn Store, media_type: MediaType, bytes: impl Into<bytes::Bytes>) -> Descriptor {
    let bytes = bytes.into();
    let node = Descriptor::of(media_type, &bytes);
    store.put(&node, &Body::bytes(node.clone(), bytes), &[]).await.unwrap();
    node
}

async fn put_json(store: &dyn Store, media_type: MediaType, content: &Value) -> Descriptor {
    put(store, media_type, content.to_string()).await
}

/// Makes `name` name `node`, whose bytes the store holds.
pub(crate) async fn tag(store: &dyn Store, node: &Descriptor, name: &str) {
    let bytes = autonomy_registry::store::read_manifest(store, node).await.unwrap();
    let name: Tag = name.parse().unwrap();
    store.put(node, &Body::bytes(node.clone(), bytes), &[name]).await.unwrap();
}

/// Incompressible bytes (splitmix64; Steele, Lea, Flood 2014).
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    });
    words.flat_map(u64::to_le_bytes).take(size).collect()
}

/// A layer of about `size` bytes, and the digest of what is inside the gzip.
fn layer(seed: u64, size: usize) -> (Vec<u8>, Digest) {
    let content = noise(seed, size);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, format!("data/{seed}"), content.as_slice()).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&tar).unwrap();
    (gzip.finish().unwrap(), Digest::sha256(&tar))
}

/// Whether Docker's or the OCI's media types are used.
#[derive(Clone, Copy)]
pub(crate) enum Family {
    Oci,
    Docker,
}

impl Family {
    fn types(self) -> [MediaType; 4] {
        match self {
            Self::Oci => {
                [MediaType::OCI_INDEX, MediaType::OCI_MANIFEST, MediaType::OCI_CONFIG, MediaType::OCI_LAYER_GZIP]
            }
            Self::Docker => [
                MediaType::DOCKER_LIST,
                MediaType::DOCKER_MANIFEST,
                MediaType::DOCKER_CONFIG,
                MediaType::DOCKER_LAYER_GZIP,
            ],
        }
    }
}

/// An image for `architecture`, a layer for each of `seeds_and_sizes`.
pub(crate) async fn image(
    store: &dyn Store,
    family: Family,
    architecture: &str,
    layers: &[(u64, usize)],
) -> Descriptor {
    let [_, manifest_type, config_type, layer_type] = family.types();
    let (mut nodes, mut diff_ids) = (Vec::new(), Vec::new());
    for &(seed, size) in layers {
        let (bytes, diff_id) = layer(seed, size);
        nodes.push(put(store, layer_type.clone(), bytes).await);
        diff_ids.push(diff_id);
    }
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": architecture, "os": "linux", "rootfs": rootfs, "config": {}});
    let config = put_json(store, config_type, &config).await;
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": nodes});
    put_json(store, manifest_type, &manifest).await
}

async fn index(store: &dyn Store, family: Family, entries: &[(Descriptor, Value)]) -> Descriptor {
    let [index_type, ..] = family.types();
    let entries: Vec<Value> = entries
        .iter()
        .map(|(node, more)| {
            let mut entry = serde_json::to_value(node).unwrap();
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entry
        })
        .collect();
    put_json(store, index_type.clone(), &json!({"schemaVersion": 2, "mediaType": index_type, "manifests": entries}))
        .await
}

fn platform(architecture: &str) -> Value {
    json!({"platform": {"os": "linux", "architecture": architecture}})
}

/// An index of an image for each of `architectures`, with layers of `sizes` that no two share.
async fn platforms(
    store: &dyn Store,
    family: Family,
    architectures: &[&str],
    seed: u64,
    sizes: &[usize],
) -> Descriptor {
    let mut entries = Vec::new();
    for (number, architecture) in architectures.iter().enumerate() {
        let seeds = (0..).map(|layer| seed * 10_000 + number as u64 * 1_000 + layer);
        let layers: Vec<_> = seeds.zip(sizes.iter().copied()).collect();
        entries.push((image(store, family, architecture, &layers).await, platform(architecture)));
    }
    index(store, family, &entries).await
}

pub(crate) async fn two_platforms(store: &dyn Store, seed: u64, sizes: &[usize]) -> Descriptor {
    platforms(store, Family::Oci, &["amd64", "arm64"], seed, sizes).await
}

/// What [`two_platforms`] makes, with another last layer in its second image.
pub(crate) async fn with_one_layer_changed(store: &dyn Store, seed: u64, sizes: &[usize]) -> Descriptor {
    let same: Vec<_> = (0..).map(|layer| seed * 10_000 + layer).zip(sizes.iter().copied()).collect();
    let mut changed: Vec<_> = (0..).map(|layer| seed * 10_000 + 1_000 + layer).zip(sizes.iter().copied()).collect();
    changed.last_mut().unwrap().0 += 500;
    let same = image(store, Family::Oci, "amd64", &same).await;
    let changed = image(store, Family::Oci, "arm64", &changed).await;
    index(store, Family::Oci, &[(same, platform("amd64")), (changed, platform("arm64"))]).await
}

pub(crate) async fn three_platforms(store: &dyn Store, seed: u64, sizes: &[usize]) -> Descriptor {
    platforms(store, Family::Oci, &["amd64", "arm64", "riscv64"], seed, sizes).await
}

async fn docker_list(store: &dyn Store) -> Descriptor {
    platforms(store, Family::Docker, &["amd64", "s390x"], 2, &[500, 3000]).await
}

async fn with_attestations(store: &dyn Store) -> Descriptor {
    let image = image(store, Family::Oci, "amd64", &[(30, 2000)]).await;
    let statement =
        put(store, MediaType::new("application/vnd.in-toto+json"), r#"{"_type":"https://in-toto.io/Statement/v0.1"}"#)
            .await;
    let config = json!({"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": [statement.digest]}});
    let config = put_json(store, MediaType::OCI_CONFIG, &config).await;
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": [statement]});
    let attestation = put_json(store, MediaType::OCI_MANIFEST, &manifest).await;
    let annotations = json!({
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {"vnd.docker.reference.digest": image.digest, "vnd.docker.reference.type": "attestation-manifest"},
    });
    index(store, Family::Oci, &[(image, platform("amd64")), (attestation, annotations)]).await
}

async fn artifact(store: &dyn Store) -> Descriptor {
    let (node, bytes) = empty_json();
    let config = put(store, node.media_type, bytes).await;
    let file = put(store, MediaType::new("application/vnd.test.model"), noise(40, 700)).await;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": "application/vnd.test.model",
        "config": config, "layers": [file], "annotations": {"note": "nothing to run"},
    });
    put_json(store, MediaType::OCI_MANIFEST, &manifest).await
}

async fn nested(store: &dyn Store) -> Descriptor {
    let inner = platforms(store, Family::Oci, &["amd64", "arm64"], 5, &[900]).await;
    let other = image(store, Family::Oci, "riscv64", &[(55, 800)]).await;
    index(store, Family::Oci, &[(inner, json!({})), (other, platform("riscv64"))]).await
}

async fn shared_layer(store: &dyn Store) -> Descriptor {
    let mut entries = Vec::new();
    for (number, architecture) in ["amd64", "arm64", "riscv64"].into_iter().enumerate() {
        let layers = [(60, 4000), (61 + number as u64, 300)];
        entries.push((image(store, Family::Oci, architecture, &layers).await, platform(architecture)));
    }
    index(store, Family::Oci, &entries).await
}

async fn zero_bytes(store: &dyn Store) -> Descriptor {
    let (node, bytes) = empty_json();
    let config = put(store, node.media_type, bytes).await;
    let nothing = put(store, MediaType::new("application/vnd.test.empty-file"), "").await;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": "application/vnd.test.empty-file",
        "config": config, "layers": [nothing],
    });
    put_json(store, MediaType::OCI_MANIFEST, &manifest).await
}

async fn two_hundred_layers(store: &dyn Store) -> Descriptor {
    let layers: Vec<_> = (0..200).map(|layer| (7_000 + layer, 64)).collect();
    image(store, Family::Oci, "amd64", &layers).await
}

/// A manifest beside `subject`, as locks and policies are.
pub(crate) async fn sidecar(store: &dyn Store, subject: &Descriptor, media_type: &str, content: &[u8]) -> Descriptor {
    let (node, bytes) = empty_json();
    let config = put(store, node.media_type, bytes).await;
    let layer = put(store, MediaType::new(media_type), content.to_vec()).await;
    let subject = json!({"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": media_type,
        "config": config, "layers": [layer], "subject": subject,
    });
    put_json(store, MediaType::OCI_MANIFEST, &manifest).await
}

/// Puts an image under a tag.
pub(crate) type Build = for<'a> fn(&'a dyn Store, &'a str) -> Pin<Box<dyn Future<Output = Descriptor> + 'a>>;

macro_rules! shape {
    ($name:literal, $store:ident => $make:expr) => {
        (
            $name,
            (|$store, name| {
                Box::pin(async move {
                    let node = $make.await;
                    tag($store, &node, name).await;
                    node
                })
            }) as Build,
        )
    };
}

/// Every shape of image, by name.
pub(crate) fn every_shape() -> Vec<(&'static str, Build)> {
    vec![
        shape!("three-platforms", store => three_platforms(store, 1, &[100, 5000, 70_000])),
        shape!("docker-list", store => docker_list(store)),
        shape!("single-manifest", store => image(store, Family::Oci, "amd64", &[(10, 1000), (11, 2000)])),
        shape!("attestations", store => with_attestations(store)),
        shape!("artifact", store => artifact(store)),
        shape!("nested-index", store => nested(store)),
        shape!("shared-layer", store => shared_layer(store)),
        shape!("zero-byte-blob", store => zero_bytes(store)),
        shape!("two-hundred-layers", store => two_hundred_layers(store)),
    ]
}
