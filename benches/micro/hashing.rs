//! How much does checking cost? Drains the same bytes with and without verification, by 1, 2 and 8 streams at a time.
//!
//! All arms copy every piece of 64 KiB into a scratch buffer, as a socket write would, on two threads. `read` does only
//! that; `hashed` also feeds the pieces to SHA-256, by hand; `checked` reads through a [`Body`], as the engine does. So
//! `checked` less `read` is the price of checking, and `checked` less `hashed` is its part without the hash. Bytes per
//! second of all streams together; the bytes are in the processor's cache, as a socket's would be.

use std::hint::black_box;
use std::iter;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use autonomy_registry::Result;
use autonomy_registry::oci::{Algorithm, Descriptor, Hasher, MediaType, Name, Tag};
use autonomy_registry::store::{Body, ByteStream, Memory, Put, Root, Store};
use criterion::{BenchmarkId, Criterion, Throughput};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use crate::image::{content, put};

const BODY_BYTES: usize = 8 << 20;
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy)]
enum Arm {
    Read,
    Hashed,
    Checked,
}

pub(crate) fn ask(criterion: &mut Criterion) {
    let runtime = crate::two_threads();
    let bed = LazyLock::new(|| {
        let bytes = content(1, BODY_BYTES);
        let node = Descriptor::of(MediaType::OCI_LAYER, &bytes);
        let store = Memory::default();
        runtime.block_on(put(&store, &node, &bytes));
        (node, Arc::new(Pieces(store)))
    });
    let mut group = criterion.benchmark_group("hashing");
    for streams in [1, 2, 8] {
        group.throughput(Throughput::Bytes((BODY_BYTES * streams) as u64));
        for (name, arm) in [("read", Arm::Read), ("hashed", Arm::Hashed), ("checked", Arm::Checked)] {
            group.bench_function(BenchmarkId::new(name, streams), |bencher| {
                let (node, store) = &*bed;
                bencher.iter(|| runtime.block_on(drain_all(streams, arm, node, store)));
            });
        }
    }
    group.finish();
}

async fn drain_all(streams: usize, arm: Arm, node: &Descriptor, store: &Arc<Pieces>) {
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        tasks.spawn(drain(arm, node.clone(), Arc::clone(store)));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

async fn drain(arm: Arm, node: Descriptor, store: Arc<Pieces>) {
    let mut stream = match arm {
        Arm::Read | Arm::Hashed => store.open(&node, 0).await.unwrap(),
        Arm::Checked => Body::stored(node.clone(), store).open(),
    };
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut scratch = vec![0; PIECE_BYTES];
    while let Some(piece) = stream.try_next().await.unwrap() {
        if let Arm::Hashed = arm {
            hasher.update(&piece);
        }
        scratch[..piece.len()].copy_from_slice(&piece);
        black_box(&scratch);
        // Yields to other tasks, as after a socket read.
        tokio::task::consume_budget().await;
    }
    if let Arm::Hashed = arm {
        assert_eq!(hasher.finish(), node.digest);
    }
}

/// A store whose content comes in pieces, as from a network.
#[derive(Debug)]
struct Pieces(Memory);

#[async_trait]
impl Store for Pieces {
    fn label(&self) -> &str {
        self.0.label()
    }

    async fn resolve(&self, name: &Name) -> Result<Descriptor> {
        self.0.resolve(name).await
    }

    async fn fetch(&self, name: &Name) -> Result<Root> {
        self.0.fetch(name).await
    }

    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        self.0.contains(node).await
    }

    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        let mut rest = self.0.open(node, from).await?.try_next().await?.unwrap_or_default();
        let pieces = iter::from_fn(move || (!rest.is_empty()).then(|| Ok(rest.split_to(PIECE_BYTES.min(rest.len())))));
        Ok(stream::iter(pieces).boxed())
    }

    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put> {
        self.0.put(node, body, tags).await
    }

    fn expect(&self, count: usize) {
        self.0.expect(count);
    }
}
