//! `registry seed --platform`: some platforms of an image with the unchanged index, between registries that accept that and
//! registries that do not.

use std::path::PathBuf;
use std::process::Output;

use autonomy_registry::oci::{Descriptor, Manifest, MediaType, Name};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Kind, Testbed};
use autonomy_registry::store::{Root, Store, read_manifest};
use serde_json::Value;
use testkit::images;
use testkit::images::shape::{self, Image};

use crate::kit::command::{assert_code, autonomy, publisher, seed, text};

/// Two registries, an image in the first.
pub(crate) struct Field {
    pub(crate) source: Testbed,
    pub(crate) sink: Testbed,
    pub(crate) root: Descriptor,
    pub(crate) home: tempfile::TempDir,
}

impl Field {
    pub(crate) async fn new(image: Image, behaviour: Profile) -> Self {
        let (source, sink) = (Testbed::start().await, Testbed::with(behaviour).await);
        let root = image.put(&publisher(&source, "app"), &["v1".parse().unwrap()]).await;
        source.clear_log();
        Self { source, sink, root, home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.home.path().join("out")
    }

    pub(crate) async fn seed(&self, more: &[&str]) -> Output {
        let (from, to) = (format!("{}/app:v1", self.source.host()), format!("{}/app:v1", self.sink.host()));
        seed(&from, &to, &self.out(), more).await
    }

    /// The image without accessories, of these platforms.
    async fn bare(&self, platforms: &[&str]) -> Output {
        let flags = platforms.iter().flat_map(|platform| ["--platform", platform]);
        self.seed(&["--skip-verify", "--accessories", "none"].into_iter().chain(flags).collect::<Vec<_>>()).await
    }

    pub(crate) async fn tagged(&self) -> Option<Root> {
        let name = Name::Tag("v1".parse().unwrap());
        self.sink.layout("app").fetch(&name).await.ok()
    }

    pub(crate) fn record(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.out().join("seed-manifest.json")).unwrap()).unwrap()
    }

    /// Which entries of `index` the destination holds.
    pub(crate) async fn held(&self, index: &Descriptor) -> Vec<bool> {
        let mut held = Vec::new();
        for entry in entries(&self.source, index).await {
            held.push(self.sink.layout("app").contains(&entry).await.unwrap());
        }
        held
    }

    fn clear(&self) {
        self.source.clear_log();
        self.sink.clear_log();
    }

    fn requests(&self) -> (usize, usize) {
        (self.source.requests(), self.sink.requests())
    }
}

pub(crate) async fn entries(bed: &Testbed, index: &Descriptor) -> Vec<Descriptor> {
    let bytes = read_manifest(&bed.layout("app"), index).await.unwrap();
    Manifest::parse(&bytes, &index.media_type).unwrap().manifests
}

const LAYERS: &[u64] = &[1000, 2000];

#[tokio::test(flavor = "multi_thread")]
async fn one_platform_costs_its_own_requests_and_leaves_the_index_as_it_is() {
    let field = Field::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    assert_code(&field.bare(&["linux/arm64"]).await, 0);
    // Index, manifest, configuration and two layers; the tag, three blobs in two requests each, manifest and index.
    assert_eq!(field.requests(), (5, 9), "{:#?}", field.sink.log());
    assert_eq!(field.tagged().await.unwrap().node.digest, field.root.digest);
    assert_eq!(field.held(&field.root).await, [false, true, false]);
    let record = field.record();
    assert_eq!(record["platforms"], serde_json::json!(["linux/arm64/v8"]));
    assert_eq!((&record["transfer"]["blobs"], &record["transfer"]["manifests"]), (&3.into(), &2.into()));

    field.clear();
    let again = field.bare(&["linux/arm64"]).await;
    assert_code(&again, 0);
    assert_eq!(field.requests(), (1, 2), "the index and the tag, and one question: {:#?}", field.sink.log());
    assert!(text(&again).contains("unchanged"), "{}", text(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_index_does_not_vouch_for_what_was_left_out() {
    let field = Field::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    assert_code(&field.bare(&["linux/arm64"]).await, 0);
    field.clear();
    assert_code(&field.bare(&["linux/arm64", "linux/amd64"]).await, 0);
    // The tag, two HEADs, three blobs and a manifest: the index is there.
    assert_eq!(field.requests(), (5, 10), "{:#?}", field.sink.log());
    assert_eq!(field.held(&field.root).await, [true, true, false]);

    // The whole image, by the record of missing platforms; after that the index counts as complete again.
    field.clear();
    assert_code(&field.bare(&[]).await, 0);
    assert_eq!(field.requests(), (5, 11), "{:#?}", field.sink.log());
    assert_eq!(field.held(&field.root).await, [true, true, true]);
    assert_eq!(field.record()["platforms"].as_array().unwrap().len(), 3);
    field.clear();
    assert_code(&field.bare(&[]).await, 0);
    assert_eq!(field.requests(), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_similar_platforms_of_the_previous_image_are_read() {
    let field = Field::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    assert_code(&field.bare(&["linux/amd64"]).await, 0);
    let store = publisher(&field.source, "app");
    let mut index: Value = serde_json::from_slice(&read_manifest(&store, &field.root).await.unwrap()).unwrap();
    index["annotations"] = serde_json::json!({"new": "yes"});
    let root = images::put(&store, MediaType::OCI_INDEX, index.to_string()).await;
    images::tag(&store, &root, "v1").await;
    field.clear();
    assert_code(&field.bare(&["linux/amd64"]).await, 0);
    // The tag, the previous index, its manifest, the tag again, and the new index: the previous image covers the rest.
    assert_eq!(field.requests(), (1, 5), "{:#?}", field.sink.log());

    // A whole image after a part: missing content of the previous image is skipped, present content is not sent again.
    index["annotations"] = serde_json::json!({"new": "again"});
    let root = images::put(&store, MediaType::OCI_INDEX, index.to_string()).await;
    images::tag(&store, &root, "v1").await;
    field.clear();
    assert_code(&field.bare(&[]).await, 0);
    assert_eq!(field.sink.count(Kind::UploadPut), 6, "the blobs of the other two");
    assert_eq!(field.held(&root).await, [true, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn attestations_follow_their_image_and_nested_indexes_are_narrowed() {
    let field = Field::new(shape::with_attestations(1, LAYERS), Profile::default()).await;
    assert_code(&field.bare(&["linux/riscv64"]).await, 0);
    assert_eq!(field.held(&field.root).await, [false, false, true, false, false, true]);

    let field = Field::new(shape::nested_index(1, LAYERS), Profile::default()).await;
    assert_code(&field.bare(&["linux/riscv64", "linux/arm64/v8"]).await, 0);
    assert_eq!(field.held(&field.root).await, [true, false]);
    let inner = entries(&field.source, &field.root).await.remove(0);
    assert_eq!(field.held(&inner).await, [false, true, true]);
    field.clear();
    assert_code(&field.bare(&["linux/riscv64", "linux/arm64/v8"]).await, 0);
    assert_eq!(field.requests(), (2, 4), "both indexes; the tag, the nested index and two images");
    field.clear();
    assert_code(&field.bare(&[]).await, 0);
    assert_eq!(field.held(&inner).await, [true, true, true], "all of it");
    assert_eq!(field.held(&field.root).await, [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_attached_to_what_is_copied_travels() {
    let field = Field::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    let store = publisher(&field.source, "app");
    let children = entries(&field.source, &field.root).await;
    let mut attached = Vec::new();
    for (number, subject) in [&field.root, &children[0], &children[1]].into_iter().enumerate() {
        attached.push(images::sidecar(&store, subject, "application/example", format!("{number}").as_bytes()).await);
    }
    assert_code(&field.seed(&["--skip-verify", "--platform", "linux/arm64"]).await, 0);
    let sink = field.sink.layout("app");
    let mut held = Vec::new();
    for node in &attached {
        held.push(sink.contains(node).await.unwrap());
    }
    assert_eq!(held, [true, false, true], "the index's and the copied image's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_is_not_there_is_told_before_anything_moves() {
    let field = Field::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    let done = field.bare(&["linux/amd64", "linux/s390x"]).await;
    assert_code(&done, 4);
    let says = "it has no linux/s390x; it has linux/amd64, linux/arm64/v8, linux/riscv64";
    assert!(text(&done).contains(says) && text(&done).contains("source: "), "{}", text(&done));
    assert_eq!(field.requests(), (1, 1));
    assert!(!field.out().exists());

    let field = Field::new(shape::single_manifest(1, LAYERS), Profile::default()).await;
    let done = field.bare(&["linux/arm64"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("it has no linux/arm64; it has linux/amd64"), "{}", text(&done));
    assert_code(&field.bare(&["linux/amd64"]).await, 0);
    assert_eq!(field.record()["platforms"], serde_json::json!(["linux/amd64"]));

    let field = Field::new(shape::artifact_with_empty_config(1, 10), Profile::default()).await;
    let done = field.bare(&["linux/arm64"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("it has no linux/arm64; it has no platform by name"), "{}", text(&done));
    let done = field.bare(&["arm64"]).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("write os/arch or os/arch/variant"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_whole_indexes_is_told_apart_with_the_ways_out() {
    for behaviour in [Profile::distribution_2(), Profile::distribution_3(), Profile::zot()] {
        let field = Field::new(shape::three_platforms(1, LAYERS), behaviour).await;
        let done = field.bare(&["linux/amd64"]).await;
        assert_code(&done, 4);
        for words in [
            "put a sparse index",
            "this registry wants all that an index lists, and 2 of it were not asked for",
            "without --platform",
            "--rewrite-index",
        ] {
            assert!(text(&done).contains(words), "{words:?} in {}", text(&done));
        }
        assert_eq!(field.sink.count(Kind::ManifestPut), 2, "nothing is tried again: {:#?}", field.sink.log());
        assert_eq!(field.sink.count(Kind::UploadPost), 3);
        assert!(field.tagged().await.is_none() && !field.out().exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_chooses_platforms_per_entry() {
    let field = Field::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    let (source, sink) = (field.source.host(), field.sink.host());
    let catalog = format!(
        "version: 1\nentries:\n  - from: {source}/app:v1\n    to: {sink}/app:v1\n    platforms: [linux/amd64, linux/riscv64]\n  - from: {source}/app:v1\n    to: {sink}/other:v1\n"
    );
    let file = field.home.path().join("catalog.yaml");
    std::fs::write(&file, catalog).unwrap();
    let out = field.out();
    let arguments = ["registry", "seed-catalog", "--allow-insecure-registry", "--skip-verify", "--catalog"];
    let paths = [file.to_str().unwrap(), "--out", out.to_str().unwrap(), "--output", "json"];
    let done = autonomy(&[&arguments[..], &paths[..]].concat()).await;
    assert_code(&done, 0);
    assert_eq!(field.held(&field.root).await, [true, false, true]);
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["entries"][0]["seed"]["platforms"], serde_json::json!(["linux/amd64", "linux/riscv64"]));
    assert_eq!(told["entries"][1]["seed"]["platforms"].as_array().unwrap().len(), 3);
}
