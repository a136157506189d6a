//! How much does the HTTP machinery cost? One image of 24 blobs of 4 KiB from one embedded registry to another, without
//! distance and with 50 ms of round trip to both.
//!
//! `copy` is a whole copy; `bare` sends the same requests over kept connections, one per small lane, hashes the bytes, and
//! knows all names beforehand. Both find the manifests, then the blobs, then put the manifests. The difference is the
//! client, the engine and avoidable waits. Time for an image; the registries' own time is in both, their folders are in
//! memory, and each copy goes to a new repository.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use autonomy_registry::copy::{Events, Job, Options, Target, copy};
use autonomy_registry::oci::{Descriptor, Digest, Repository};
use autonomy_registry::store::{self, Role};
use autonomy_registry::wire::{self, Client};
use criterion::{BatchSize, BenchmarkId, Criterion};
use testkit::connection::{Answer, Connection};
use testkit::proxy::{Counting, Link, Proxy};
use tokio::runtime::Runtime;

use crate::Registry;
use crate::image::{Image, Shape};

/// Small lanes of the engine.
const STREAMS: usize = 16;
const SHAPE: Shape = Shape { platforms: 1, layers: 23, blob_bytes: 4 << 10 };
const SOURCE: &str = "team/app";

pub(crate) fn ask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http");
    group.sample_size(20);
    for milliseconds in [0, 50] {
        let bed = LazyLock::new(|| Bed::new(Duration::from_millis(milliseconds)));
        let label = format!("{milliseconds} ms");
        group.bench_function(BenchmarkId::new("bare", &label), |bencher| {
            let mut streams = bed.streams();
            bencher.iter_batched(|| bed.fresh(), |to| bed.bare(&mut streams, &to), BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("copy", &label), |bencher| {
            let runtime = crate::two_threads();
            let client = Client::new(wire::ClientOptions { allow_plain_http: true, ..Default::default() }).unwrap();
            // Warm-up, like in `bare`: the registries' schemes are known, and connections are open.
            runtime.block_on(bed.copy(&client, &bed.fresh()));
            bencher.iter_batched(
                || bed.fresh(),
                |to| runtime.block_on(bed.copy(&client, &to)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A connection to each side.
struct Ends {
    source: Connection,
    sink: Connection,
}

struct Bed {
    image: Image,
    source: Registry,
    sink: Registry,
    /// Their addresses.
    hosts: [String; 2],
    copies: AtomicUsize,
    /// Dropped before the runtime that they use.
    _proxies: Vec<Proxy>,
    _runtime: Runtime,
}

impl Bed {
    fn new(round_trip: Duration) -> Self {
        let runtime = crate::two_threads();
        let (source, sink) = (Registry::start(&runtime), Registry::start(&runtime));
        let image = Image::new(SHAPE);
        runtime.block_on(image.put(&source.bed.layout(SOURCE)));
        let mut hosts = [source.bed.host().to_owned(), sink.bed.host().to_owned()];
        let mut proxies = Vec::new();
        let link = Link { round_trip, bits_per_second: None };
        for host in hosts.iter_mut().filter(|_| !link.is_near()) {
            let proxy = Proxy::start(runtime.handle(), host, link, Counting::Off);
            host.clone_from(&proxy.host);
            proxies.push(proxy);
        }
        Self { image, source, sink, hosts, copies: AtomicUsize::new(0), _proxies: proxies, _runtime: runtime }
    }

    /// A repository that does not exist yet, and registries with empty logs.
    fn fresh(&self) -> String {
        self.source.bed.clear_log();
        self.sink.bed.clear_log();
        format!("site/app{}", self.copies.fetch_add(1, Ordering::Relaxed))
    }

    async fn copy(&self, client: &Client, to: &str) {
        let repository = |host: &String, path: &str| Repository { host: host.clone(), path: path.parse().unwrap() };
        let [from_host, to_host] = &self.hosts;
        let source = store::Registry::new(client, &repository(from_host, SOURCE), Role::Source);
        let sink = store::Registry::new(client, &repository(to_host, to), Role::Sink);
        let target = Target { node: self.image.root().0.clone(), bytes: None, tags: Vec::new(), former: None };
        let job = Job::new(Arc::new(source), Arc::new(sink), vec![target]);
        let report = copy(&job, &Options::default(), &Events::none()).await.unwrap();
        assert_eq!(report.bytes_moved, self.image.bytes());
    }

    fn streams(&self) -> Vec<Ends> {
        let [from, to] = &self.hosts;
        let open = |_| Ends { source: Connection::open(from).unwrap(), sink: Connection::open(to).unwrap() };
        (0..STREAMS).map(open).collect()
    }

    fn bare(&self, streams: &mut [Ends], to: &str) {
        let manifests: Vec<_> = self.image.manifests().map(|(node, _)| node).collect();
        // The index first: it names the others.
        let found: Vec<_> = manifests.iter().rev().map(|node| streams[0].manifest(node)).collect();
        let blobs: Vec<_> = self.image.blobs().map(|(node, _)| node).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for ends in &mut *streams {
                scope.spawn(|| {
                    while let Some(node) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        ends.blob(node, to);
                    }
                });
            }
        });
        for (node, bytes) in manifests.iter().zip(found.iter().rev()) {
            streams[0].put(node, bytes, to);
        }
    }
}

impl Ends {
    fn manifest(&mut self, node: &Descriptor) -> Vec<u8> {
        let accept = format!("Accept: {}\r\n", node.media_type);
        self.source.begin("GET", &format!("/v2/{SOURCE}/manifests/{}", node.digest), &accept).unwrap();
        self.whole(node)
    }

    fn blob(&mut self, node: &Descriptor, to: &str) {
        // Both requests are sent before either answer is read, as in the engine.
        self.source.begin("GET", &format!("/v2/{SOURCE}/blobs/{}", node.digest), "").unwrap();
        self.source.flush().unwrap();
        let opened = self.sink.ask("POST", &format!("/v2/{to}/blobs/uploads/")).unwrap();
        let location = expect(opened, 202).location.unwrap();
        let bytes = self.whole(node);
        let mark = if location.contains('?') { '&' } else { '?' };
        let headers = format!("Content-Type: application/octet-stream\r\nContent-Length: {}\r\n", node.size);
        self.sink.begin("PUT", &format!("{location}{mark}digest={}", node.digest), &headers).unwrap();
        self.sink.send(&bytes).unwrap();
        expect(self.sink.answer("PUT").unwrap(), 201);
    }

    fn put(&mut self, node: &Descriptor, bytes: &[u8], to: &str) {
        let headers = format!("Content-Type: {}\r\nContent-Length: {}\r\n", node.media_type, node.size);
        self.sink.begin("PUT", &format!("/v2/{to}/manifests/{}", node.digest), &headers).unwrap();
        self.sink.send(bytes).unwrap();
        expect(self.sink.answer("PUT").unwrap(), 201);
    }

    /// The source's answer to a GET that was sent.
    fn whole(&mut self, node: &Descriptor) -> Vec<u8> {
        let length = expect(self.source.answer("GET").unwrap(), 200).length;
        let bytes = self.source.whole(length).unwrap();
        assert_eq!(Digest::sha256(&bytes), node.digest);
        bytes
    }
}

fn expect(answer: Answer, status: u16) -> Answer {
    assert_eq!(answer.status, status, "{answer:?}");
    answer
}
