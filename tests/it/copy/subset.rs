//! `registry seed --platform`: some platforms of an image with the unchanged index, between registries that accept that and
//! registries that do not.

use std::process::Output;

use autonomy_registry::oci::{Descriptor, Manifest, MediaType};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Kind, Testbed};
use autonomy_registry::store::{Store, read_manifest};
use serde_json::{Value, json};
use testkit::images;
use testkit::images::shape;

use crate::kit::command::{assert_code, autonomy, publisher, text};
use crate::kit::route::Route;

/// The image without accessories, of these platforms.
async fn bare(route: &Route, platforms: &[&str]) -> Output {
    let flags = platforms.iter().flat_map(|platform| ["--platform", platform]);
    route.seed_bare(&flags.collect::<Vec<_>>()).await
}

/// Which entries of `index` the destination holds.
async fn held(route: &Route, index: &Descriptor) -> Vec<bool> {
    let mut held = Vec::new();
    for entry in entries(&route.source, index).await {
        held.push(route.sink.layout("app").contains(&entry).await.unwrap());
    }
    held
}

pub(crate) async fn entries(bed: &Testbed, index: &Descriptor) -> Vec<Descriptor> {
    let bytes = read_manifest(&bed.layout("app"), index).await.unwrap();
    Manifest::parse(&bytes, &index.media_type).unwrap().manifests
}

const LAYERS: &[u64] = &[1000, 2000];

#[tokio::test(flavor = "multi_thread")]
async fn one_platform_costs_its_own_requests_and_leaves_the_index_as_it_is() {
    let route = Route::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    assert_code(&bare(&route, &["linux/arm64"]).await, 0);
    // Index, manifest, configuration and two layers; the tag, three blobs in two requests each, manifest and index.
    assert_eq!(route.requests(), (5, 9), "{:#?}", route.sink.log());
    assert_eq!(route.tagged().await.unwrap(), route.root.digest);
    assert_eq!(held(&route, &route.root).await, [false, true, false]);
    let record = route.record();
    assert_eq!(record["platforms"], json!(["linux/arm64/v8"]));
    assert_eq!((&record["transfer"]["blobs"], &record["transfer"]["manifests"]), (&3.into(), &2.into()));

    route.clear_logs();
    let again = bare(&route, &["linux/arm64"]).await;
    assert_code(&again, 0);
    assert_eq!(route.requests(), (1, 2), "the index and the tag, and one question: {:#?}", route.sink.log());
    assert!(text(&again).contains("unchanged"), "{}", text(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_index_does_not_vouch_for_what_was_left_out() {
    let route = Route::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    assert_code(&bare(&route, &["linux/arm64"]).await, 0);
    route.clear_logs();
    assert_code(&bare(&route, &["linux/arm64", "linux/amd64"]).await, 0);
    // The tag, two HEADs, three blobs and a manifest: the index is there.
    assert_eq!(route.requests(), (5, 10), "{:#?}", route.sink.log());
    assert_eq!(held(&route, &route.root).await, [true, true, false]);

    // The whole image, by the record of missing platforms; after that the index counts as complete again.
    route.clear_logs();
    assert_code(&bare(&route, &[]).await, 0);
    assert_eq!(route.requests(), (5, 11), "{:#?}", route.sink.log());
    assert_eq!(held(&route, &route.root).await, [true, true, true]);
    assert_eq!(route.record()["platforms"].as_array().unwrap().len(), 3);
    route.clear_logs();
    assert_code(&bare(&route, &[]).await, 0);
    assert_eq!(route.requests(), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_similar_platforms_of_the_previous_image_are_read() {
    let route = Route::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    assert_code(&bare(&route, &["linux/amd64"]).await, 0);
    let store = publisher(&route.source, "app");
    let mut index: Value = serde_json::from_slice(&read_manifest(&store, &route.root).await.unwrap()).unwrap();
    index["annotations"] = json!({"new": "yes"});
    let root = images::put(&store, MediaType::OCI_INDEX, index.to_string()).await;
    images::tag(&store, &root, "v1").await;
    route.clear_logs();
    assert_code(&bare(&route, &["linux/amd64"]).await, 0);
    // The tag, the previous index, its manifest, the tag again, and the new index: the previous image covers the rest.
    assert_eq!(route.requests(), (1, 5), "{:#?}", route.sink.log());

    // A whole image after a part: missing content of the previous image is skipped, present content is not sent again.
    index["annotations"] = json!({"new": "again"});
    let root = images::put(&store, MediaType::OCI_INDEX, index.to_string()).await;
    images::tag(&store, &root, "v1").await;
    route.clear_logs();
    assert_code(&bare(&route, &[]).await, 0);
    assert_eq!(route.sink.count(Kind::UploadPut), 6, "the blobs of the other two");
    assert_eq!(held(&route, &root).await, [true, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn attestations_follow_their_image_and_nested_indexes_are_narrowed() {
    let route = Route::new(shape::with_attestations(1, LAYERS), Profile::default()).await;
    assert_code(&bare(&route, &["linux/riscv64"]).await, 0);
    assert_eq!(held(&route, &route.root).await, [false, false, true, false, false, true]);

    let route = Route::new(shape::nested_index(1, LAYERS), Profile::default()).await;
    assert_code(&bare(&route, &["linux/riscv64", "linux/arm64/v8"]).await, 0);
    assert_eq!(held(&route, &route.root).await, [true, false]);
    let inner = entries(&route.source, &route.root).await.remove(0);
    assert_eq!(held(&route, &inner).await, [false, true, true]);
    route.clear_logs();
    assert_code(&bare(&route, &["linux/riscv64", "linux/arm64/v8"]).await, 0);
    assert_eq!(route.requests(), (2, 4), "both indexes; the tag, the nested index and two images");
    route.clear_logs();
    assert_code(&bare(&route, &[]).await, 0);
    assert_eq!(held(&route, &inner).await, [true, true, true], "all of it");
    assert_eq!(held(&route, &route.root).await, [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_attached_to_what_is_copied_travels() {
    let route = Route::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    let store = publisher(&route.source, "app");
    let children = entries(&route.source, &route.root).await;
    let mut attached = Vec::new();
    for (number, subject) in [&route.root, &children[0], &children[1]].into_iter().enumerate() {
        attached.push(images::sidecar(&store, subject, "application/example", format!("{number}").as_bytes()).await);
    }
    assert_code(&route.seed(&["--skip-verify", "--platform", "linux/arm64"]).await, 0);
    let sink = route.sink.layout("app");
    let mut held = Vec::new();
    for node in &attached {
        held.push(sink.contains(node).await.unwrap());
    }
    assert_eq!(held, [true, false, true], "the index's and the copied image's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_is_not_there_is_told_before_anything_moves() {
    let route = Route::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    let done = bare(&route, &["linux/amd64", "linux/s390x"]).await;
    assert_code(&done, 4);
    let says = "it has no linux/s390x; it has linux/amd64, linux/arm64/v8, linux/riscv64";
    assert!(text(&done).contains(says) && text(&done).contains("source: "), "{}", text(&done));
    assert_eq!(route.requests(), (1, 1));
    assert!(!route.out().exists());

    let route = Route::new(shape::single_manifest(1, LAYERS), Profile::default()).await;
    let done = bare(&route, &["linux/arm64"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("it has no linux/arm64; it has linux/amd64"), "{}", text(&done));
    assert_code(&bare(&route, &["linux/amd64"]).await, 0);
    assert_eq!(route.record()["platforms"], json!(["linux/amd64"]));

    let route = Route::new(shape::artifact_with_empty_config(1, 10), Profile::default()).await;
    let done = bare(&route, &["linux/arm64"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("it has no linux/arm64; it has no platform by name"), "{}", text(&done));
    let done = bare(&route, &["arm64"]).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("write os/arch or os/arch/variant"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_only_the_entry_of_a_shared_index_names_is_not_there() {
    let route = Route::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    let store = publisher(&route.source, "app");
    let index = async |entries: &[Value], name: &str| {
        let index = json!({"schemaVersion": 2, "manifests": entries, "annotations": {"name": name}});
        images::put(&store, MediaType::OCI_INDEX, index.to_string()).await
    };
    let entry = |node: &Descriptor, architecture: &str| {
        let mut entry = serde_json::to_value(node).unwrap();
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let amd64 = &entries(&route.source, &route.root).await[0];
    let shared = entry(&index(&[entry(amd64, "amd64")], "shared").await, "unknown");
    let mut listed = Vec::new();
    for architecture in ["amd64", "arm64"] {
        listed.push(entry(&index(std::slice::from_ref(&shared), architecture).await, architecture));
    }
    images::tag(&store, &index(&listed, "root").await, "v1").await;
    let done = bare(&route, &["linux/amd64", "linux/arm64"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("it has no linux/arm64; it has linux/amd64"), "{}", text(&done));
    assert_eq!(route.tagged().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_whole_indexes_is_told_apart_with_the_ways_out() {
    for behaviour in [Profile::distribution_2(), Profile::distribution_3(), Profile::zot()] {
        let route = Route::new(shape::three_platforms(1, LAYERS), behaviour).await;
        let done = bare(&route, &["linux/amd64"]).await;
        assert_code(&done, 4);
        for words in [
            "put a sparse index",
            "this registry wants all that an index lists, and 2 of it were not asked for",
            "without --platform",
            "--rewrite-index",
        ] {
            assert!(text(&done).contains(words), "{words:?} in {}", text(&done));
        }
        assert_eq!(route.sink.count(Kind::ManifestPut), 2, "nothing is tried again: {:#?}", route.sink.log());
        assert_eq!(route.sink.count(Kind::UploadPost), 3);
        assert!(route.tagged().await.is_none() && !route.out().exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_chooses_platforms_per_entry() {
    let route = Route::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    let (source, sink) = (route.source.host(), route.sink.host());
    let catalog = format!(
        "version: 1\nentries:\n  - from: {source}/app:v1\n    to: {sink}/app:v1\n    platforms: [linux/amd64, linux/riscv64]\n  - from: {source}/app:v1\n    to: {sink}/other:v1\n"
    );
    let file = route.home.path().join("catalog.yaml");
    std::fs::write(&file, catalog).unwrap();
    let out = route.out();
    let arguments = ["registry", "seed-catalog", "--allow-insecure-registry", "--skip-verify", "--catalog"];
    let paths = [file.to_str().unwrap(), "--out", out.to_str().unwrap(), "--output", "json"];
    let done = autonomy(&[&arguments[..], &paths[..]].concat()).await;
    assert_code(&done, 0);
    assert_eq!(held(&route, &route.root).await, [true, false, true]);
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["entries"][0]["seed"]["platforms"], json!(["linux/amd64", "linux/riscv64"]));
    assert_eq!(told["entries"][1]["seed"]["platforms"].as_array().unwrap().len(), 3);
}
