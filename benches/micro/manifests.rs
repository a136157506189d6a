//! How much does reading a manifest cost? An image of twelve layers, an index of nine platforms with their attestations,
//! and an index of a thousand entries, from memory.
//!
//! `ignored` only checks that the bytes are JSON, which every reader must do; `value` builds a tree of all of it;
//! `specification` is the reader of oci-spec, which keeps every field; `ours` counts values before it reads and keeps the
//! fields that a replicator needs. Bytes per second.

use std::hint::black_box;

use autonomy_registry::oci::{Descriptor, Digest, Manifest, MediaType};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

pub(crate) fn ask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("manifests");
    let inputs = [
        ("image", MediaType::OCI_MANIFEST, image(12)),
        ("index", MediaType::OCI_INDEX, index(9)),
        ("large index", MediaType::OCI_INDEX, index(500)),
    ];
    for (input, media_type, text) in inputs {
        group.throughput(Throughput::Bytes(text.len() as u64));
        all(&mut group, input, &media_type, text.as_bytes());
    }
    group.finish();
}

fn all(group: &mut BenchmarkGroup<'_, WallTime>, input: &str, media_type: &MediaType, bytes: &[u8]) {
    group.bench_function(BenchmarkId::new("ignored", input), |bencher| {
        bencher.iter(|| serde_json::from_slice::<IgnoredAny>(black_box(bytes)).unwrap());
    });
    group.bench_function(BenchmarkId::new("value", input), |bencher| {
        bencher.iter(|| serde_json::from_slice::<Value>(black_box(bytes)).unwrap());
    });
    group.bench_function(BenchmarkId::new("specification", input), |bencher| {
        if media_type.is_index() {
            bencher.iter(|| oci_spec::image::ImageIndex::from_reader(black_box(bytes)).unwrap());
        } else {
            bencher.iter(|| oci_spec::image::ImageManifest::from_reader(black_box(bytes)).unwrap());
        }
    });
    group.bench_function(BenchmarkId::new("ours", input), |bencher| {
        bencher.iter(|| Manifest::parse(black_box(bytes), media_type).unwrap());
    });
}

fn node(media_type: MediaType, name: &str) -> Descriptor {
    Descriptor::new(media_type, Digest::sha256(name.as_bytes()), 123_456)
}

fn image(layers: usize) -> String {
    let layers: Vec<_> = (0..layers).map(|layer| node(MediaType::OCI_LAYER_GZIP, &format!("layer {layer}"))).collect();
    let config = node(MediaType::OCI_CONFIG, "config");
    let annotations = json!({
        "org.opencontainers.image.source": "https://git.example/acme/app",
        "org.opencontainers.image.revision": "0123456789abcdef0123456789abcdef01234567",
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": layers,
        "annotations": annotations,
    });
    manifest.to_string()
}

/// Two entries a platform: the image, and its build attestation, as BuildKit makes them.
fn index(platforms: usize) -> String {
    let mut entries = Vec::new();
    for platform in 0..platforms {
        let image = node(MediaType::OCI_MANIFEST, &format!("image {platform}"));
        let mut attestation =
            serde_json::to_value(node(MediaType::OCI_MANIFEST, &format!("attestation {platform}"))).unwrap();
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        attestation["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.digest,
        });
        let mut image = serde_json::to_value(image).unwrap();
        image["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
        entries.extend([image, attestation]);
    }
    json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries}).to_string()
}
