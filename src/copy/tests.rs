//! The engine over stores that count and lie.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures_util::stream;

use super::*;
use crate::error::{Error, Kind};
use crate::oci::{Digest, MediaType, Name};
use crate::store::{Body, ByteStream, Memory, Put, Root, read_manifest};

/// A memory store that counts its calls, and corrupts one node if asked to.
#[derive(Debug, Default)]
struct Spy {
    memory: Memory,
    opens: Mutex<BTreeMap<Digest, u32>>,
    puts: Mutex<Vec<Digest>>,
    mounts: Mutex<Vec<(Digest, String)>>,
    spoil: Option<Digest>,
    spoil_times: AtomicU32,
    refuses: Option<Digest>,
    expected: Mutex<Vec<usize>>,
    early: AtomicU32,
}

impl Spy {
    fn opened(&self, node: &Descriptor) -> u32 {
        self.opens.lock().unwrap().get(&node.digest).copied().unwrap_or_default()
    }

    fn opens(&self) -> u32 {
        self.opens.lock().unwrap().values().sum()
    }

    fn order(&self) -> Vec<Digest> {
        self.puts.lock().unwrap().clone()
    }
}

#[async_trait]
impl Store for Spy {
    fn label(&self) -> &str {
        "spy"
    }
    async fn resolve(&self, name: &Name) -> Result<Descriptor> {
        self.memory.resolve(name).await
    }
    async fn fetch(&self, name: &Name) -> Result<Root> {
        self.memory.fetch(name).await
    }
    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        self.memory.contains(node).await
    }
    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        *self.opens.lock().unwrap().entry(node.digest).or_default() += 1;
        let is_spoilt = self.spoil == Some(node.digest)
            && self.spoil_times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
        if is_spoilt {
            let bytes = Bytes::from(vec![b'!'; usize::try_from(node.size).unwrap()]);
            return Ok(Box::pin(stream::iter([Ok(bytes)])));
        }
        self.memory.open(node, from).await
    }
    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put> {
        if self.refuses == Some(node.digest) {
            return Err(Error::new(Kind::Denied, "put"));
        }
        if let Some(from) = body.mount_from() {
            self.mounts.lock().unwrap().push((node.digest, from.as_str().to_owned()));
            return Ok(Put::Mounted);
        }
        self.early.fetch_add(u32::from(body.is_early()), Ordering::Relaxed);
        let put = self.memory.put(node, body, tags).await?;
        self.puts.lock().unwrap().push(node.digest);
        Ok(put)
    }

    fn expect(&self, count: usize) {
        self.expected.lock().unwrap().push(count);
    }
}

async fn hold(store: &dyn Store, media_type: MediaType, bytes: impl Into<Bytes>) -> Descriptor {
    let bytes = bytes.into();
    let node = Descriptor::of(media_type, &bytes);
    store.put(&node, &Body::bytes(node.clone(), bytes), &[]).await.unwrap();
    node
}

async fn image(store: &dyn Store, config: &str, layers: &[&str]) -> Descriptor {
    let config = hold(store, MediaType::OCI_CONFIG, config.to_owned()).await;
    let mut nodes = Vec::new();
    for layer in layers {
        nodes.push(hold(store, MediaType::OCI_LAYER_GZIP, (*layer).to_owned()).await);
    }
    let json = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": nodes});
    hold(store, MediaType::OCI_MANIFEST, json.to_string()).await
}

async fn index(store: &dyn Store, entries: &[Descriptor]) -> Descriptor {
    let json = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
    hold(store, MediaType::OCI_INDEX, json.to_string()).await
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn job(source: Spy, sink: Spy, node: &Descriptor, former: Option<&Descriptor>) -> (Job, Arc<Spy>, Arc<Spy>) {
    let (source, sink) = (Arc::new(source), Arc::new(sink));
    let target = Target { node: node.clone(), bytes: None, tags: vec![tag("v1")], former: former.cloned() };
    let job = Job::new(Arc::clone(&source) as _, Arc::clone(&sink) as _, vec![target]);
    (job, source, sink)
}

async fn run(job: &Job) -> Result<CopyReport> {
    copy(job, &Options::default(), &Events::none()).await
}

#[tokio::test]
async fn an_index_arrives_whole_and_children_come_before_parents() {
    let source = Spy::default();
    let (a, b) = (image(&source.memory, "a", &["1", "2"]).await, image(&source.memory, "b", &["2", "3"]).await);
    let root = index(&source.memory, &[a.clone(), b.clone()]).await;
    let (job, source, sink) = job(source, Spy::default(), &root, None);

    let report = run(&job).await.unwrap();

    assert_eq!((report.manifests, report.blobs, report.blobs_moved), (3, 5, 5));
    let order = sink.order();
    let place = |node: &Descriptor| order.iter().position(|digest| *digest == node.digest).unwrap();
    assert_eq!(place(&root), order.len() - 1, "the root comes last");
    assert!(place(&a) >= 3 && place(&b) >= 3, "a manifest comes after its blobs");
    assert_eq!(source.opens(), 8, "every node is read once, the shared layer too");
    let tagged = sink.resolve(&Name::Tag(tag("v1"))).await.unwrap();
    assert_eq!(tagged.digest, root.digest);
}

#[tokio::test]
async fn an_image_that_is_there_costs_nothing() {
    let source = Spy::default();
    let root = image(&source.memory, "a", &["1"]).await;
    let (job, source, sink) = job(source, Spy::default(), &root, Some(&root));
    assert_eq!(run(&job).await.unwrap().bytes_moved, 0);
    assert_eq!((source.opens(), sink.order().len()), (0, 0));
}

#[tokio::test]
async fn only_what_changed_moves_and_only_that_is_read_at_the_source() {
    let (source, sink) = (Spy::default(), Spy::default());
    let same = image(&source.memory, "same", &["1", "2"]).await;
    let new = image(&source.memory, "new", &["1", "4"]).await;
    let root = index(&source.memory, &[same.clone(), new.clone()]).await;
    let same_there = image(&sink.memory, "same", &["1", "2"]).await;
    let old = image(&sink.memory, "old", &["1", "3"]).await;
    let former = index(&sink.memory, &[same_there, old]).await;
    let (job, source, sink) = job(source, sink, &root, Some(&former));

    let report = run(&job).await.unwrap();

    assert_eq!(source.opened(&same), 0, "the unchanged manifest is taken from the sink");
    assert_eq!(source.opens(), 4, "index, changed manifest, its config, its new layer");
    assert_eq!(sink.order().len(), 4);
    assert_eq!(report.bytes_moved, root.size + new.size + 3 + 1);
}

#[tokio::test]
async fn a_former_image_with_holes_proves_nothing() {
    let (source, sink) = (Spy::default(), Spy::default());
    let child = image(&source.memory, "a", &["1"]).await;
    let root = index(&source.memory, std::slice::from_ref(&child)).await;
    // The sink holds an index of an image that it does not hold.
    let former = index(&sink.memory, &[Descriptor::of(MediaType::OCI_MANIFEST, b"gone")]).await;
    let (job, _, sink) = job(source, sink, &root, Some(&former));
    run(&job).await.unwrap();
    assert!(sink.contains(&child).await.unwrap());
}

#[tokio::test]
async fn every_node_is_asked_for_on_demand() {
    let (source, sink) = (Spy::default(), Spy::default());
    let child = image(&source.memory, "a", &["1"]).await;
    let root = index(&source.memory, std::slice::from_ref(&child)).await;
    index(&sink.memory, std::slice::from_ref(&child)).await;
    let (job, _, sink) = job(source, sink, &root, Some(&root));
    run(&job).await.unwrap();
    assert!(!sink.contains(&child).await.unwrap(), "the root vouches");
    let deep = Options { presence: Presence::EveryNode, ..Options::default() };
    copy(&job, &deep, &Events::none()).await.unwrap();
    assert!(sink.contains(&child).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_blob_damaged_once_on_the_way_is_fetched_again() {
    let source = Spy::default();
    let layer = hold(&source.memory, MediaType::OCI_LAYER_GZIP, "1").await;
    let root = image(&source.memory, "a", &["1"]).await;
    let source = Spy { spoil: Some(layer.digest), spoil_times: 1.into(), ..source };
    let (job, source, sink) = job(source, Spy::default(), &root, None);
    run(&job).await.unwrap();
    assert_eq!(source.opened(&layer), 2);
    assert!(sink.contains(&root).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_lies_is_named_and_nothing_is_tagged() {
    let source = Spy::default();
    let layer = hold(&source.memory, MediaType::OCI_LAYER_GZIP, "1").await;
    let root = image(&source.memory, "a", &["1"]).await;
    let source = Spy { spoil: Some(layer.digest), spoil_times: 100.into(), ..source };
    let (job, source, sink) = job(source, Spy::default(), &root, None);
    let error = run(&job).await.unwrap_err();
    assert_eq!((error.kind(), error.side()), (Kind::Corrupt, Some(Side::Source)));
    assert_eq!(source.opened(&layer), 3, "it was tried three times");
    assert!(!sink.contains(&root).await.unwrap() && !sink.contains(&layer).await.unwrap());
}

#[tokio::test]
async fn a_sink_that_refuses_is_named() {
    let source = Spy::default();
    let layer = hold(&source.memory, MediaType::OCI_LAYER_GZIP, "1").await;
    let root = image(&source.memory, "a", &["1"]).await;
    let sink = Spy { refuses: Some(layer.digest), ..Spy::default() };
    let (job, _, sink) = job(source, sink, &root, None);
    let error = run(&job).await.unwrap_err();
    assert_eq!((error.kind(), error.side()), (Kind::Denied, Some(Side::Destination)));
    assert!(!sink.contains(&root).await.unwrap());
}

#[tokio::test]
async fn a_foreign_layer_is_copied_if_served_and_left_out_if_not() {
    let source = Spy::default();
    let kept = hold(&source.memory, MediaType::OCI_LAYER_GZIP, "1").await;
    let served = Descriptor { urls: vec!["https://elsewhere.example/1".into()], ..kept };
    let absent = Descriptor::of(MediaType::new("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), b"2");
    let json = serde_json::json!({"schemaVersion": 2, "layers": [served, absent]}).to_string();
    let root = hold(&source.memory, MediaType::OCI_MANIFEST, json).await;
    let (job, _, sink) = job(source, Spy::default(), &root, None);
    let report = run(&job).await.unwrap();
    assert_eq!((report.blobs_moved, report.foreign_left_out), (1, 1));
    assert!(sink.contains(&served).await.unwrap() && !sink.contains(&absent).await.unwrap());
}

#[tokio::test]
async fn an_index_of_indexes_is_followed_and_an_endless_one_is_not() {
    let source = Spy::default();
    let mut root = image(&source.memory, "a", &["1"]).await;
    for _ in 0..4 {
        root = index(&source.memory, &[root]).await;
    }
    let (fine, ..) = job(source, Spy::default(), &root, None);
    assert_eq!(run(&fine).await.unwrap().manifests, 5);

    let source = Spy::default();
    for _ in 0..20 {
        root = index(&source.memory, &[root]).await;
    }
    let (deep, ..) = job(source, Spy::default(), &root, None);
    let error = run(&deep).await.unwrap_err();
    assert_eq!((error.kind(), error.side()), (Kind::Limit, Some(Side::Source)));
}

#[tokio::test]
async fn an_index_in_place_that_many_others_list_is_read_once() {
    let (source, sink) = (Spy::default(), Spy::default());
    let mut layer = vec![image(&source.memory, "a", &["1"]).await];
    // 8 to the power of 14 ways lead down.
    for depth in 0..15 {
        let below = std::mem::take(&mut layer);
        for side in 0..8 {
            let mark = image(&source.memory, &format!("{depth}/{side}"), &[]).await;
            layer.push(index(&source.memory, &[&below[..], &[mark]].concat()).await);
        }
    }
    let root = layer.swap_remove(0);
    let bytes = read_manifest(&source.memory, &root).await.unwrap();
    let chosen = Selection::choose(&source.memory, &Root { node: root.clone(), bytes }, &[]).await.unwrap();
    let (mut job, source, sink) = job(source, sink, &root, None);
    run(&job).await.unwrap();
    let opens = source.opens();

    job.selection = chosen.selection;
    job.targets[0].former = Some(root);
    assert!(plan(&job, &Options::default()).await.unwrap().steps.is_empty());
    assert_eq!(source.opens() - opens, 1 + 14 * 8);
    assert!(sink.opens() == 0);
}

#[tokio::test]
async fn the_plan_says_what_the_run_then_does() {
    let source = Spy::default();
    let root = image(&source.memory, "a", &["12", "345"]).await;
    let (job, ..) = job(source, Spy::default(), &root, None);
    let plan = plan(&job, &Options::default()).await.unwrap();
    let report = run(&job).await.unwrap();
    assert_eq!(plan.totals.bytes_to_move, report.bytes_moved);
    assert_eq!(plan.totals.blobs_to_put, report.blobs_moved);
    assert_eq!(plan.totals.bytes_total, root.size + 1 + 2 + 3);
    for (position, step) in plan.steps.iter().enumerate() {
        assert!(step.needs().iter().all(|&need| need < position), "needs come first");
    }
}

/// Two images that share a layer, each with its own repository at one registry.
async fn neighbours(first: Spy) -> [(Job, Arc<Spy>, Arc<Spy>); 2] {
    let second = Spy::default();
    let roots = [image(&first.memory, "a", &["shared", "1"]).await, image(&second.memory, "b", &["shared", "2"]).await];
    let flights = Arc::new(Flights::default());
    let [mut a, mut b] = [job(first, Spy::default(), &roots[0], None), job(second, Spy::default(), &roots[1], None)];
    a.0.site = Some(flights.site(&"a".parse().unwrap()));
    b.0.site = Some(flights.site(&"b".parse().unwrap()));
    [a, b]
}

#[tokio::test]
async fn what_two_copies_share_is_read_once_and_mounted_after_that() {
    let [(a, _, sink_a), (b, source_b, sink_b)] = neighbours(Spy::default()).await;
    let shared = Digest::sha256(b"shared");
    let (report_a, report_b) = tokio::join!(run(&a), run(&b));
    let [moved, mounted] =
        [report_a.unwrap(), report_b.unwrap()].map(|report| (report.blobs_moved, report.bytes_mounted));
    assert_eq!((moved, mounted), ((3, 0), (2, 6)));
    assert_eq!(*sink_b.mounts.lock().unwrap(), [(shared, "a".to_owned())]);
    assert!(sink_a.mounts.lock().unwrap().is_empty());
    assert!(!source_b.opens.lock().unwrap().contains_key(&shared), "what is mounted is not read");
}

#[tokio::test]
async fn the_second_brings_it_where_the_first_has_failed() {
    let shared = Digest::sha256(b"shared");
    let [(mut a, ..), (b, source_b, _)] = neighbours(Spy::default()).await;
    a.sink = Arc::new(Spy { refuses: Some(shared), ..Spy::default() });
    let (report_a, report_b) = tokio::join!(run(&a), run(&b));
    assert_eq!(report_a.unwrap_err().kind(), Kind::Denied);
    assert_eq!(report_b.unwrap().blobs_moved, 3);
    assert_eq!(source_b.opens.lock().unwrap()[&shared], 1);
}

#[tokio::test]
async fn a_second_tag_of_the_same_repository_asks_for_nothing_again() {
    let [(a, ..), (mut b, source_b, sink_b)] = neighbours(Spy::default()).await;
    b.site.clone_from(&a.site);
    run(&a).await.unwrap();
    let report = run(&b).await.unwrap();
    assert_eq!((report.blobs_moved, report.bytes_present), (2, 6));
    let shared = Digest::sha256(b"shared");
    assert!(!source_b.opens.lock().unwrap().contains_key(&shared) && !sink_b.order().contains(&shared));
}

#[tokio::test]
async fn an_image_in_place_can_be_mounted_from() {
    let [(mut a, ..), (b, _, sink_b)] = neighbours(Spy::default()).await;
    let root = a.targets[0].node.clone();
    a.targets[0].bytes = Some(read_manifest(a.source.as_ref(), &root).await.unwrap());
    a.targets[0].former = Some(root);
    assert_eq!(run(&a).await.unwrap().bytes_moved, 0);
    run(&b).await.unwrap();
    assert_eq!(sink_b.mounts.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_tag_comes_after_all_that_travels_with_the_image() {
    let source = Spy::default();
    let root = image(&source.memory, "a", &["1"]).await;
    let companion = image(&source.memory, "b", &["2"]).await;
    // The image cannot wait for a target that refers to it.
    let around = index(&source.memory, std::slice::from_ref(&root)).await;
    let (mut job, _, sink) = job(source, Spy::default(), &root, None);
    for node in [&companion, &around] {
        job.targets.push(Target { node: node.clone(), bytes: None, tags: Vec::new(), former: None });
    }
    run(&job).await.unwrap();
    let order = sink.order();
    let place = |node: &Descriptor| order.iter().position(|digest| *digest == node.digest).unwrap();
    assert!(place(&companion) < place(&root) && place(&root) < place(&around));
}

#[tokio::test]
async fn ends_far_away_are_told_what_is_to_come_and_near_ones_are_not() {
    let source = Spy::default();
    let large = "x".repeat(usize::try_from(schedule::LARGE).unwrap());
    let one = image(&source, "one", &["a", "b", &large]).await;
    let both = index(&source, &[one.clone(), image(&source, "other", &["c"]).await]).await;
    let source = Arc::new(source);
    let names: Vec<_> = (0..40).map(|number| format!("layer {number}")).collect();
    let many = image(&*source, "many", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let many = index(&*source, &[many, one.clone()]).await;
    // A configuration and two small layers; four for each image of an index, and about the real number (41) if the length
    // of its manifest shows more; nothing for an image in place.
    for (node, is_held, expected) in [(&one, false, 3), (&both, false, 8), (&many, false, 4 + 31), (&both, true, 0)] {
        for (round_trip, told) in [(1, vec![]), (50, vec![expected])] {
            let (sink, former) = (Arc::new(Spy::default()), is_held.then(|| node.clone()));
            let bytes = read_manifest(source.as_ref(), node).await.unwrap();
            let target = Target { node: node.clone(), bytes: Some(bytes), tags: vec![tag("v1")], former };
            let job = Job::new(Arc::clone(&source) as _, Arc::clone(&sink) as _, vec![target]);
            let options = Options::default();
            options.lanes.widen(std::time::Duration::from_millis(round_trip));
            copy(&job, &options, &Events::default()).await.unwrap();
            assert_eq!(*sink.expected.lock().unwrap(), told, "{node:?} {is_held} {round_trip} ms");
            assert_eq!(std::mem::take(&mut *source.expected.lock().unwrap()), told);
        }
    }
}

#[tokio::test]
async fn what_a_sink_far_away_will_lack_is_fetched_without_waiting_for_its_word() {
    let source = Arc::new(Spy::default());
    let names: Vec<_> = (0..40).map(|number| format!("layer {number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let root = image(&*source, "a", &names).await;
    // Eight of 41 blobs must be missing first, and by then as many as there are lanes are in flight.
    for (held, round_trip, early) in [(0, 50, 29..=33), (0, 1, 0..=0), (7, 50, 0..=0), (1, 50, 0..=0)] {
        let sink = Arc::new(Spy::default());
        for name in names.iter().step_by(held.max(1)).filter(|_| held > 0) {
            hold(&sink.memory, MediaType::OCI_LAYER, (*name).to_owned()).await;
        }
        let target = Target { node: root.clone(), bytes: None, tags: vec![tag("v1")], former: None };
        let job = Job::new(Arc::clone(&source) as _, Arc::clone(&sink) as _, vec![target]);
        let lanes = Lanes::new(std::num::NonZeroUsize::MIN, std::num::NonZeroUsize::MIN);
        let options = Options { lanes, ..Options::default() };
        options.lanes.widen(std::time::Duration::from_millis(round_trip));
        copy(&job, &options, &Events::default()).await.unwrap();
        let count = sink.early.load(Ordering::Relaxed);
        assert!(early.contains(&count), "one of {held} held, {round_trip} ms: {count}");
    }
}
