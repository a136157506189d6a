//! How much does verification cost beyond its cryptography? Verifies one image in memory, with more and more required.
//!
//! `signature`: a cosign signature by a key (P-256), its name and its time. `recorded`: a transparency log's entry for it,
//! too. `sealed`: lock and policy as well, each with a signature and an entry of its own, the lock's digests, its BLAKE3
//! fingerprint, and the policy's version. `whole` resolves the names, searches, reads and evaluates; `bare` verifies the
//! same signatures with aws-lc-rs and takes the SHA-256 of the same bytes, and nothing else. The difference is parsing,
//! evaluation and the report, and a few microseconds of the memory store, which finds referrers by reading everything that
//! it holds. Time for an image, one thread.

use std::sync::LazyLock;

use autonomy_registry::oci::{Digest, Name};
use autonomy_registry::store::{Memory, Store};
use autonomy_registry::verify::{Candidate, Demands, Pipeline, PublicKey, SidecarDemand, Tlog};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use serde_json::Value;
use testkit::rekor::{self, Log};
use testkit::verify_bench::{Bench, RECENT, public, reference};

/// The requirements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Signature,
    Recorded,
    Sealed,
}

/// A signature, the signed bytes, and the key.
struct Signed {
    key: ParsedPublicKey,
    message: Vec<u8>,
    signature: Vec<u8>,
}

struct Bed {
    store: Memory,
    demands: Demands,
    /// The image to verify.
    signed: Vec<Signed>,
    /// The bytes to read, with their digests.
    read: Vec<(Digest, Bytes)>,
}

pub(crate) fn ask(criterion: &mut Criterion) {
    let runtime = crate::alone();
    let mut group = criterion.benchmark_group("verification");
    let extents = [("signature", Extent::Signature), ("recorded", Extent::Recorded), ("sealed", Extent::Sealed)];
    for (name, extent) in extents {
        let bed = LazyLock::new(|| runtime.block_on(Bed::new(extent)));
        group.bench_function(BenchmarkId::new("bare", name), |bencher| {
            let bed = &*bed;
            bencher.iter(|| bed.bare());
        });
        group.bench_function(BenchmarkId::new("whole", name), |bencher| {
            let bed = &*bed;
            bencher.iter(|| runtime.block_on(bed.whole()));
        });
    }
    group.finish();
}

impl Bed {
    async fn new(extent: Extent) -> Self {
        let mut bench = Bench::sealed().await;
        let log = Log::new();
        if extent != Extent::Signature {
            bench.demands.log_keys = vec![public(&log.key)];
            bench.demands.tlog = Tlog::Required;
        }
        if extent != Extent::Sealed {
            bench.demands.lock = SidecarDemand::NotAsked;
            bench.demands.policy = SidecarDemand::NotAsked;
        }
        let tags: &[&str] = if extent == Extent::Sealed { &["v1", "v1-lock", "v1-policy"] } else { &["v1"] };
        let mut signed = Vec::new();
        for tag in tags {
            signed.extend(sign(&bench, &log, tag).await.into_iter().take(if extent == Extent::Signature {
                1
            } else {
                2
            }));
        }
        let report = bench.run().await;
        assert!(report.is_verified(), "{report}");
        let mut read = Vec::new();
        for line in bench.site.log() {
            // A referrers call reads no node.
            let Some((_, name)) = line.split_once(' ').filter(|(what, _)| *what != "referrers") else { continue };
            let root = bench.site.memory.fetch(&named(name)).await.unwrap();
            read.push((root.node.digest, root.bytes));
        }
        Self { store: bench.site.memory, demands: bench.demands, signed, read }
    }

    fn bare(&self) {
        for Signed { key, message, signature } in &self.signed {
            key.verify_sig(message, signature).unwrap();
        }
        for (digest, bytes) in &self.read {
            assert!(digest.matches(bytes));
        }
    }

    async fn whole(&self) {
        let subject = Candidate::resolve(&self.store, &reference(), &self.demands).await.unwrap();
        let report = Pipeline::new(self.demands.clone()).run(&self.store, &subject).await.unwrap();
        assert!(report.is_verified());
    }
}

/// Signs the content of `tag` and records it in the log: returns the signature, and the log's own.
async fn sign(bench: &Bench, log: &Log, tag: &str) -> [Signed; 2] {
    let node = bench.site.memory.resolve(&named(tag)).await.unwrap();
    let made = rekor::legacy(bench.signed(&node, Some(RECENT)).0, &bench.key);
    let annotation = log.annotation(&made.body);
    let entry: Value = serde_json::from_str(&annotation).unwrap();
    rekor::put_legacy(&bench.site.memory, &node, &made.signed, &made.signature, annotation).await;
    // The log signs these members in alphabetical order, which is their order here.
    let (recorded, promise) = (entry["Payload"].to_string(), entry["SignedEntryTimestamp"].as_str().unwrap());
    [
        Signed { key: parsed(&public(&bench.key)), message: made.signed, signature: made.signature },
        Signed {
            key: parsed(&public(&log.key)),
            message: recorded.into_bytes(),
            signature: STANDARD.decode(promise).unwrap(),
        },
    ]
}

fn parsed(key: &PublicKey) -> ParsedPublicKey {
    ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.spki()).unwrap()
}

fn named(name: &str) -> Name {
    name.parse().map_or_else(|_| Name::Tag(name.parse().unwrap()), Name::Digest)
}
