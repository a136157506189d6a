//! How much does the engine itself cost, per blob and per mebibyte? Whole copies between stores in memory.
//!
//! `copy` plans and carries everything out; `by hand` hashes and copies the same bytes in a loop and keeps them in a map,
//! like such a store. The difference is the engine: graph, plan, lanes, tasks, events. `engine/blobs`: 64 to 8,192 blobs of
//! 1 KiB, in blobs per second; equal figures mean that cost grows with the image and no faster. `engine/bytes`: 32 blobs of
//! 1 MiB, in bytes per second. One thread, so that all of it is processor time.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use autonomy_registry::copy::{Events, Job, Options, Target, copy};
use autonomy_registry::oci::Digest;
use autonomy_registry::store::Memory;
use bytes::{Bytes, BytesMut};
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use tokio::runtime::Runtime;

use crate::image::{Image, Shape};

/// Blobs of a platform: a configuration and 63 layers.
const BLOBS: usize = 64;

pub(crate) fn ask(criterion: &mut Criterion) {
    let runtime = crate::alone();
    let mut group = criterion.benchmark_group("engine/blobs");
    for platforms in [1, 16, 128] {
        let blobs = BLOBS * platforms;
        group.throughput(Throughput::Elements(blobs as u64));
        both(&mut group, &runtime, blobs, Shape { platforms, layers: BLOBS - 1, blob_bytes: 1 << 10 });
    }
    group.finish();
    let mut group = criterion.benchmark_group("engine/bytes");
    let blobs = 32;
    group.throughput(Throughput::Bytes((blobs as u64) << 20));
    both(&mut group, &runtime, blobs, Shape { platforms: 1, layers: blobs - 1, blob_bytes: 1 << 20 });
    group.finish();
}

fn both(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, blobs: usize, shape: Shape) {
    let bed = LazyLock::new(|| {
        let image = Image::new(shape);
        let source = Arc::new(runtime.block_on(image.held()));
        (image, source)
    });
    group.bench_function(BenchmarkId::new("by hand", blobs), |bencher| {
        let (image, _) = &*bed;
        bencher.iter_with_large_drop(|| by_hand(image));
    });
    group.bench_function(BenchmarkId::new("copy", blobs), |bencher| {
        let (image, source) = &*bed;
        // The sink's content is dropped outside the measured time.
        bencher.iter_batched(
            || job(image, source),
            |job| {
                let report = runtime.block_on(copy(&job, &Options::default(), &Events::none())).unwrap();
                assert_eq!(report.bytes_moved, image.bytes());
                job
            },
            BatchSize::PerIteration,
        );
    });
}

fn by_hand(image: &Image) -> HashMap<Digest, Bytes> {
    let mut held = HashMap::new();
    for (node, bytes) in &image.nodes {
        assert!(node.digest.matches(bytes));
        held.insert(node.digest, BytesMut::from(&bytes[..]).freeze());
    }
    held
}

fn job(image: &Image, source: &Arc<Memory>) -> Job {
    let target = Target { node: image.root().0.clone(), bytes: None, tags: Vec::new(), former: None };
    Job::new(Arc::<Memory>::clone(source), Arc::new(Memory::default()), vec![target])
}
