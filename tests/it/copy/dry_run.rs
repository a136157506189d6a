//! The dry run: moves nothing, and predicts the real run.

use autonomy_registry::oci::{MediaType, Tag};
use autonomy_registry::serve::testkit::{Kind, Testbed};
use serde_json::Value;
use testkit::images::{self, shape};

use crate::kit::command::{assert_code, autonomy, publisher, text};

async fn json(arguments: &[&str]) -> Value {
    let done = autonomy(&[arguments, &["--output", "json", "--progress", "none"]].concat()).await;
    assert_code(&done, 0);
    serde_json::from_slice(&done.stdout).unwrap_or_else(|why| panic!("{why}: {}", text(&done)))
}

/// Runs the dry run and then the real run; compares them, and returns the prediction.
async fn forecast_and_run(source: &Testbed, sink: &Testbed, arguments: &[&str]) -> Value {
    sink.clear_log();
    let forecast = json(&[arguments, &["--dry-run"]].concat()).await;
    for kind in [Kind::UploadPost, Kind::UploadPut, Kind::ManifestPut] {
        assert_eq!(sink.count(kind), 0, "a dry run writes nothing");
    }
    source.clear_log();
    sink.clear_log();
    let done = json(arguments).await;
    let ran = done["totals"].as_object().cloned().unwrap_or_else(|| done["transfer"].as_object().unwrap().clone());
    let totals = &forecast["totals"];
    for (said, done) in
        [("bytes_to_move", "bytes_moved"), ("bytes_present", "bytes_present"), ("bytes_mountable", "bytes_mounted")]
    {
        assert_eq!(totals[said], ran[done], "{said}: {forecast:#} {ran:#?}");
    }
    let requests = source.requests() + sink.requests();
    assert_eq!(totals["requests"], requests, "{totals:#} {:#?} {:#?}", source.log(), sink.log());
    forecast
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forecast_of_a_seed_is_what_the_seed_then_does() {
    let (source, sink) = (Testbed::start().await, Testbed::start().await);
    let store = publisher(&source, "app");
    let first = images::two_platforms(&store, 1, &[1000, 2000, 3000]).await;
    images::tag(&store, &first, "v1").await;
    let sbom = images::sidecar(&store, &first, "application/spdx+json", b"{}").await;
    images::sidecar(&store, &sbom, "application/vnd.example.note", b"a referrer of a referrer").await;
    let out = tempfile::tempdir().unwrap();
    let (from, to) = (format!("{}/app:v1", source.host()), format!("{}/site/app:v1", sink.host()));
    let out = out.path().join("out");
    let base =
        ["registry", "seed", "--allow-insecure-registry", "--skip-verify", "--from", &from, "--to", &to, "--out"];
    let base = [&base[..], &[out.to_str().unwrap()]].concat();

    let forecast = forecast_and_run(&source, &sink, &base).await;
    assert_eq!(forecast["images"][0]["root"], first.digest.to_string());
    assert_eq!(forecast["totals"]["bytes_present"], 0);

    let unchanged = forecast_and_run(&source, &sink, &base).await;
    assert_eq!(unchanged["totals"]["bytes_to_move"], 0);

    // One layer changes, and another is at the destination already without any manifest that refers to it.
    let changed = shape::with_one_layer_changed(1, &[1000, 2000, 3000]);
    images::tag(&store, &changed.put(&store, &[]).await, "v1").await;
    forecast_and_run(&source, &sink, &base).await;
    let other = shape::single_manifest(9, &[5000]);
    other.put(&store, &[Tag::clone(&"v1".parse().unwrap())]).await;
    let layer = other.nodes.iter().find(|node| node.media_type == MediaType::OCI_LAYER_GZIP).unwrap();
    let bytes = autonomy_registry::store::read_small(&store, layer, 1 << 20).await.unwrap();
    images::put(&sink.layout("site/app"), layer.media_type.clone(), bytes).await;
    let forecast = forecast_and_run(&source, &sink, &base).await;
    assert_eq!(forecast["totals"]["bytes_present"], layer.size);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forecast_of_a_catalog_knows_what_its_images_share() {
    let (source, sink) = (Testbed::start().await, Testbed::start().await);
    let home = tempfile::tempdir().unwrap();
    let mut catalog = "version: 1\nentries:\n".to_owned();
    for number in 0..5 {
        let image = shape::on_a_base(1, &[1000, 2000], 50 + number, &[300]);
        image.put(&publisher(&source, &format!("team/{number}")), &[Tag::clone(&"v1".parse().unwrap())]).await;
        let (from, to) = (source.host(), sink.host());
        catalog += &format!("  - from: {from}/team/{number}:v1\n    to: {to}/site/{number}:v1\n");
    }
    let path = home.path().join("catalog.yaml");
    std::fs::write(&path, catalog).unwrap();
    let out = home.path().join("out");
    let base = ["registry", "seed-catalog", "--allow-insecure-registry", "--skip-verify", "--accessories", "none"];
    let base = [&base[..], &["--catalog", path.to_str().unwrap(), "--out", out.to_str().unwrap()]].concat();
    let dry = autonomy(&[&base[..], &["--dry-run"]].concat()).await;
    assert_code(&dry, 0);
    assert!(text(&dry).contains("mountable") && text(&dry).contains("nothing was moved"), "{}", text(&dry));
    assert!(!out.exists());
    let forecast = forecast_and_run(&source, &sink, &base).await;
    assert_eq!(forecast["images"].as_array().unwrap().len(), 5);
    assert_eq!(forecast["images"][0]["bytes_mountable"], 0);
    assert!(forecast["images"][1]["bytes_mountable"].as_u64().unwrap() > 3000);
}
