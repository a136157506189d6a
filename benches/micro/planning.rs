//! How much does planning cost per node, and does that grow with the image? Plans a copy between stores in memory.
//!
//! `planning/nodes`: indexes of 100, 1,000 and 10,000 nodes, ten a platform, to a sink that holds nothing. `parse` only
//! reads the same manifests, `checked` also hashes them, which any fetch must do; `plan` less `checked` is the price of the
//! graph and its order. `planning/targets`: the same for an image with 100, 1,000 and 5,000 manifests attached to it, each
//! a target of its own with one blob. Nodes per second: equal figures mean that cost grows with the image and no faster.
//! One thread.

use std::hint::black_box;
use std::sync::{Arc, LazyLock};

use autonomy_registry::copy::{Job, Options, Plan, Target, plan};
use autonomy_registry::oci::{Descriptor, Digest, Manifest, MediaType};
use autonomy_registry::store::Memory;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::image::{Image, Shape, put};

/// Nodes of each platform: a manifest, a configuration and this many layers.
const LAYERS: usize = 8;
const NODES_A_PLATFORM: usize = LAYERS + 2;

/// A job, and the manifests that planning it reads.
struct Bed {
    job: Job,
    manifests: Vec<(Descriptor, Bytes)>,
    nodes: usize,
}

pub(crate) fn ask(criterion: &mut Criterion) {
    let runtime = crate::alone();
    grow(criterion, "planning/nodes", [100, 1_000, 10_000], &runtime, platforms);
    grow(criterion, "planning/targets", [100, 1_000, 5_000], &runtime, attached);
}

fn grow(criterion: &mut Criterion, name: &str, sizes: [usize; 3], runtime: &Runtime, bed: fn(usize, &Runtime) -> Bed) {
    let mut group = criterion.benchmark_group(name);
    for size in sizes {
        let bed = LazyLock::new(|| bed(size, runtime));
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("parse", size), |bencher| {
            let manifests = &bed.manifests;
            bencher.iter(|| manifests.iter().for_each(parse));
        });
        group.bench_function(BenchmarkId::new("checked", size), |bencher| {
            let manifests = &bed.manifests;
            bencher.iter(|| manifests.iter().for_each(check_and_parse));
        });
        group.bench_function(BenchmarkId::new("plan", size), |bencher| {
            let Bed { job, nodes, .. } = &*bed;
            bencher.iter_with_large_drop(|| planned(runtime, job, *nodes));
        });
    }
    group.finish();
}

fn parse((node, bytes): &(Descriptor, Bytes)) {
    black_box(Manifest::parse(bytes, &node.media_type).unwrap());
}

fn check_and_parse(manifest: &(Descriptor, Bytes)) {
    assert!(manifest.0.digest.matches(&manifest.1));
    parse(manifest);
}

fn planned(runtime: &Runtime, job: &Job, nodes: usize) -> Plan {
    let plan = runtime.block_on(plan(job, &Options::default())).unwrap();
    assert_eq!(plan.steps.len(), nodes);
    plan
}

/// An image of about `nodes` nodes.
fn platforms(nodes: usize, runtime: &Runtime) -> Bed {
    let image = Image::new(Shape { platforms: nodes / NODES_A_PLATFORM, layers: LAYERS, blob_bytes: 16 });
    let source = runtime.block_on(image.held());
    let manifests = image.manifests().cloned().collect();
    bed(source, vec![target(&image.root().0)], manifests, image.nodes.len())
}

/// A small image with `count` manifests attached to it. Two nodes each; the image has four.
fn attached(count: usize, runtime: &Runtime) -> Bed {
    let image = Image::new(Shape { platforms: 1, layers: 1, blob_bytes: 16 });
    let source = runtime.block_on(image.held());
    let root = &image.root().0;
    let mut manifests: Vec<_> = image.manifests().cloned().collect();
    let mut targets = vec![target(root)];
    for number in 0..count {
        // No store holds the blob: planning only reads manifests.
        let blob = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(&number.to_le_bytes()), 8);
        let text = json!({"mediaType": MediaType::OCI_MANIFEST, "layers": [blob], "subject": root}).to_string();
        let node = Descriptor::of(MediaType::OCI_MANIFEST, text.as_bytes());
        let bytes = text.into();
        runtime.block_on(put(&source, &node, &bytes));
        targets.push(target(&node));
        manifests.push((node, bytes));
    }
    bed(source, targets, manifests, image.nodes.len() + 2 * count)
}

fn target(node: &Descriptor) -> Target {
    Target { node: node.clone(), bytes: None, tags: Vec::new(), former: None }
}

fn bed(source: Memory, targets: Vec<Target>, manifests: Vec<(Descriptor, Bytes)>, nodes: usize) -> Bed {
    Bed { job: Job::new(Arc::new(source), Arc::new(Memory::default()), targets), manifests, nodes }
}
