//! How much does planning a catalog cost per image, and does that grow with the catalog? A dry run of 10 to 10,000 images,
//! of three layers each, two of which are common to all, from one embedded registry to an empty one.
//!
//! `parse` only reads the catalog. `ask` sends, through the same client, the requests that every plan needs: the
//! destination's tag, the image's manifest and configuration, and two HEADs for the blobs that no other image has. `plan`
//! is the dry run, reading the catalog included. So `plan` less `ask` is the price of planning, and equal figures at all
//! sizes mean that it grows with the catalog and no faster. Images per second; two threads, and the registries on the same
//! processors.
//!
//! `catalog plan/far` is the same with 50 ms of round trip to both, which shows sequential requests.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use autonomy_registry::copy::{Events, Options};
use autonomy_registry::document::Accessories;
use autonomy_registry::document::catalog::Catalog;
use autonomy_registry::oci::{Descriptor, Digest, MediaType, Reference, Tag};
use autonomy_registry::store::{self, Body, Role, Store, read_small};
use autonomy_registry::wire::{self, Client};
use autonomy_registry::workflow::{self, CatalogEntry, Forecasts, Tagging, Trust, forecast_catalog};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use futures_util::{StreamExt, stream};
use serde_json::json;
use testkit::proxy::{Counting, Link, Proxy};
use tokio::runtime::Runtime;

use crate::Registry;
use crate::image::put;

/// Images under way at a time, and images looked up meanwhile: the program's defaults.
const AT_ONCE: usize = 4;
const ASKED_AT_ONCE: usize = 16;
/// Images of one repository, under a tag each.
const A_REPOSITORY: usize = 50;

pub(crate) fn ask(criterion: &mut Criterion) {
    let near: &[usize] = if crate::is_trial() { &[10, 100] } else { &[10, 100, 1_000, 10_000] };
    let far: &[usize] = if crate::is_trial() { &[10] } else { &[10, 100] };
    grow(criterion, "catalog plan", near, Duration::ZERO);
    grow(criterion, "catalog plan/far", far, Duration::from_millis(50));
}

fn grow(criterion: &mut Criterion, name: &str, sizes: &[usize], round_trip: Duration) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    for &images in sizes {
        let bed = LazyLock::new(|| Bed::new(images, round_trip));
        group.throughput(Throughput::Elements(images as u64));
        group.bench_function(BenchmarkId::new("parse", images), |bencher| {
            let text = &bed.text;
            bencher.iter(|| Catalog::parse(text).unwrap());
        });
        group.bench_function(BenchmarkId::new("ask", images), |bencher| {
            let bed = &*bed;
            bencher.iter(|| bed.runtime.block_on(bed.ask()));
        });
        group.bench_function(BenchmarkId::new("plan", images), |bencher| {
            let bed = &*bed;
            bencher.iter_with_large_drop(|| {
                let forecasts = bed.runtime.block_on(bed.plan());
                assert_eq!(forecasts.images.len(), images);
                forecasts
            });
        });
    }
    group.finish();
}

struct Bed {
    text: String,
    entries: Vec<(Reference, Reference)>,
    source: Registry,
    sink: Registry,
    _proxies: Vec<Proxy>,
    runtime: Runtime,
}

impl Bed {
    fn new(images: usize, round_trip: Duration) -> Self {
        let runtime = crate::two_threads();
        let (source, sink) = (Registry::start(&runtime), Registry::start(&runtime));
        let mut hosts = [source.bed.host().to_owned(), sink.bed.host().to_owned()];
        let link = Link { round_trip, bits_per_second: None };
        let mut proxies = Vec::new();
        for host in hosts.iter_mut().filter(|_| !link.is_near()) {
            let proxy = Proxy::start(runtime.handle(), host, link, Counting::Off);
            host.clone_from(&proxy.host);
            proxies.push(proxy);
        }
        let [from, to] = hosts;
        let mut text = "version: 1\nentries:\n".to_owned();
        let mut entries = Vec::new();
        for number in 0..images {
            let (repository, tag) = (format!("team/{}", number / A_REPOSITORY), format!("v{}", number % A_REPOSITORY));
            runtime.block_on(publish(&source.bed.layout(&repository), number, &tag));
            let [from, to] = [format!("{from}/{repository}:{tag}"), format!("{to}/site/{repository}:{tag}")];
            text += &format!("  - from: {from}\n    to: {to}\n");
            entries.push((from.parse().unwrap(), to.parse().unwrap()));
        }
        Self { text, entries, source, sink, _proxies: proxies, runtime }
    }

    /// A client as at the start of a run, and registries with empty logs.
    fn begin(&self) -> Client {
        self.source.bed.clear_log();
        self.sink.bed.clear_log();
        Client::new(wire::ClientOptions { allow_plain_http: true, ..Default::default() }).unwrap()
    }

    async fn plan(&self) -> Forecasts {
        let client = self.begin();
        let wish = |entry| CatalogEntry { entry, trust: Trust::Skip };
        let catalog = workflow::Catalog {
            name: "catalog.yaml".into(),
            entries: Catalog::parse(&self.text).unwrap().entries.into_iter().map(wish).collect(),
            accessories: Accessories::None,
            engine: Options::default(),
            images_at_once: AT_ONCE,
            keep_going: false,
            tagging: Tagging::Plain,
            // Nothing is written.
            folder: PathBuf::from("out"),
            kept_for: workflow::KEPT_FOR,
        };
        forecast_catalog(catalog, &client, &Events::none()).await.unwrap()
    }

    async fn ask(&self) {
        let client = self.begin();
        let questions = self.entries.iter().map(|(from, to)| look_at(&client, from, to));
        stream::iter(questions).buffer_unordered(ASKED_AT_ONCE).for_each(|()| std::future::ready(())).await;
    }
}

/// The requests that every plan of an image needs.
async fn look_at(client: &Client, from: &Reference, to: &Reference) {
    let source = store::Registry::new(client, &from.repository, Role::Source);
    let sink = store::Registry::new(client, &to.repository, Role::Sink);
    assert!(sink.resolve(&to.name()).await.is_err(), "the destination is empty");
    let root = source.fetch(&from.name()).await.unwrap();
    let manifest = root.manifest().unwrap();
    let config = manifest.config.as_ref().unwrap();
    read_small(&source, config, 1 << 20).await.unwrap();
    for own in [config, manifest.layers.last().unwrap()] {
        assert!(!sink.contains(own).await.unwrap());
    }
}

/// Puts the image of that number. Its layers are only announced: planning does not read them.
async fn publish(store: &dyn Store, number: usize, tag: &str) {
    let layer = |name: String| Descriptor::new(MediaType::OCI_LAYER_GZIP, Digest::sha256(name.as_bytes()), 1 << 20);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"number": number.to_string()}}});
    let config = Bytes::from(config.to_string());
    let node = Descriptor::of(MediaType::OCI_CONFIG, &config);
    put(store, &node, &config).await;
    let layers = [layer("base".into()), layer("runtime".into()), layer(format!("image {number}"))];
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": node, "layers": layers,
    });
    let manifest = manifest.to_string();
    let node = Descriptor::of(MediaType::OCI_MANIFEST, manifest.as_bytes());
    let tag: Tag = tag.parse().unwrap();
    store.put(&node, &Body::bytes(node.clone(), manifest), &[tag]).await.unwrap();
}
