//! Cosign's tags at a destination that has its own: both lists are kept.

use std::collections::BTreeSet;
use std::time::Duration;

use autonomy_registry::oci::{Descriptor, Digest, MediaType, Name};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::Store;
use autonomy_registry::trust::{artifact, simple_signing};
use serde_json::json;
use testkit::images;

use super::field::{Field, TYPES, artifact, behaviours, cosign_tag, reference, tag};
use crate::kit::command::{assert_code, publisher, seed, text};

/// Puts a list of `layers` of this type, each with its own annotation, as cosign does.
async fn list(store: &dyn Store, media_type: &str, layers: &[String]) -> Descriptor {
    let mut nodes = Vec::new();
    for content in layers {
        let mut node = images::put(store, MediaType::new(media_type), content.clone()).await;
        node.annotations.insert(simple_signing::SIGNATURE.into(), "QUJD".into());
        nodes.push(node);
    }
    let attachment = artifact::legacy_manifest(&nodes, &[]);
    for (node, bytes) in attachment.blobs {
        images::put(store, node.media_type, bytes).await;
    }
    images::put(store, MediaType::OCI_MANIFEST, attachment.manifest).await
}

/// The list under a tag at the destination, after a check that all its content is there.
async fn listed(bed: &Testbed, name: &str) -> Vec<Digest> {
    let layout = bed.layout("app");
    let root = layout.fetch(&Name::Tag(name.parse().unwrap())).await.unwrap();
    let manifest = root.manifest().unwrap();
    for child in manifest.children() {
        assert!(layout.contains(child).await.unwrap(), "{}", child.digest);
    }
    manifest.layers.iter().map(|layer| layer.digest).collect()
}

fn set(digests: impl IntoIterator<Item = Digest>) -> BTreeSet<Digest> {
    digests.into_iter().collect()
}

fn digests(contents: &[&str]) -> BTreeSet<Digest> {
    set(contents.iter().map(|content| Digest::sha256(content.as_bytes())))
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_and_attestations_of_both_sides_are_kept_at_every_destination() {
    for (name, behaviour) in behaviours() {
        for (suffix, media_type) in &TYPES[..2] {
            for is_new in [true, false] {
                let field = Field::bare(Profile::default(), behaviour.clone()).await;
                let sink = publisher(&field.sink, "app");
                if !is_new {
                    assert_code(&field.seed(&["--skip-verify"]).await, 0);
                }
                let at = cosign_tag(&field.root.digest, suffix);
                let theirs = list(&field.store(), media_type, &["one".into(), "both".into()]).await;
                images::tag(&field.store(), &theirs, &at).await;
                let own = list(&sink, media_type, &["both".into(), "own".into()]).await;
                images::tag(&sink, &own, &at).await;
                let done = field.seed(&["--skip-verify"]).await;
                assert_code(&done, 0);
                let held = listed(&field.sink, &at).await;
                assert_eq!((held.len(), set(held)), (3, digests(&["one", "both", "own"])), "{name} {suffix}");
                let record = std::fs::read_to_string(field.path("out/seed-manifest.json")).unwrap();
                let put = tag(&field.sink, &at).await.unwrap();
                assert!(record.contains(&put.to_string()), "the record names what was put: {record}");
                assert!(!text(&done).contains("replaced"), "{}", text(&done));
                // And once more: the destination lacks nothing.
                field.sink.clear_log();
                assert_code(&field.seed(&["--skip-verify"]).await, 0);
                assert_eq!(field.sink.count(Kind::ManifestPut), 0, "{name} {suffix}");
                assert_eq!(tag(&field.sink, &at).await, Some(put));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_has_all_goes_unchanged_and_one_that_the_destination_has_stays() {
    let (suffix, media_type) = TYPES[0];
    for (theirs, own, wins) in [
        (&["one", "two"][..], &["two"][..], "source"),
        (&["one", "two"], &["two", "one"], "source"),
        (&["one"], &["two", "one"], "destination"),
    ] {
        let field = Field::bare(Profile::default(), Profile::distribution_2()).await;
        let (sink, at) = (publisher(&field.sink, "app"), cosign_tag(&field.root.digest, suffix));
        let strings = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let theirs = list(&field.store(), media_type, &strings(theirs)).await;
        images::tag(&field.store(), &theirs, &at).await;
        let own = list(&sink, media_type, &strings(own)).await;
        images::tag(&sink, &own, &at).await;
        assert_code(&field.seed(&["--skip-verify"]).await, 0);
        let expected = if wins == "source" { &theirs } else { &own };
        assert_eq!(tag(&field.sink, &at).await, Some(expected.digest), "{wins}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_image_verifies_beside_the_signatures_of_the_site() {
    for accessories in ["all", "none"] {
        for count in [1, 100] {
            let field = Field::bare(Profile::default(), Profile::distribution_2()).await;
            let (sink, at) = (publisher(&field.sink, "app"), cosign_tag(&field.root.digest, ".sig"));
            images::tag(&field.store(), &field.signature(&[0]).await, &at).await;
            let own: Vec<_> = (0..count).map(|number| format!("the site's {number}")).collect();
            images::tag(&sink, &list(&sink, TYPES[0].1, &own).await, &at).await;
            let key = field.path("cosign.pub");
            let flags = ["--pub-key", key.to_str().unwrap(), "--accessories", accessories];
            let done = field.seed(&flags).await;
            assert_code(&done, 0);
            let held = listed(&field.sink, &at).await;
            assert_eq!(held.len(), count + 1, "all of both sides");
            assert!(!text(&done).contains("has no room"), "{}", text(&done));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_plans_the_very_list_that_is_then_put() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let (sink, at) = (publisher(&field.sink, "app"), cosign_tag(&field.root.digest, ".sig"));
    images::tag(&field.store(), &field.signature(&[0]).await, &at).await;
    images::tag(&sink, &list(&sink, TYPES[0].1, &["own".into()]).await, &at).await;
    let key = field.path("cosign.pub");
    let flags = ["--pub-key", key.to_str().unwrap(), "--output", "json"];
    let dry = field.seed(&[&flags[..], &["--dry-run"]].concat()).await;
    assert_code(&dry, 0);
    let forecast: serde_json::Value = serde_json::from_slice(&dry.stdout).unwrap();
    field.clear_logs();
    let done = field.seed(&flags).await;
    assert_code(&done, 0);
    let done: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let (source, sink) = field.requests();
    assert_eq!(forecast["totals"]["bytes_to_move"], done["seed"]["transfer"]["bytes_moved"], "{forecast:#} {done:#}");
    assert_eq!(forecast["totals"]["requests"], source + sink, "{:#?} {:#?}", field.source.log(), field.sink.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_the_wrong_type_under_a_cosign_tag_is_left_out() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let store = field.store();
    let image = &field.children[0];
    for suffix in [".sig", ".att", ".sbom"] {
        images::tag(&store, image, &cosign_tag(&field.root.digest, suffix)).await;
    }
    let note = artifact(&store, "no signature", None).await;
    images::tag(&store, &note, &cosign_tag(&field.children[0].digest, ".sig")).await;
    images::tag(&store, &field.root, &cosign_tag(&field.children[1].digest, ".att")).await;
    let done = field.seed(&["--skip-verify"]).await;
    assert_code(&done, 0);
    field.assert_arrived(&[], &[]).await;
    assert_eq!(text(&done).matches("it is left out").count(), 5, "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_an_image_beside_a_signature_stay_behind() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let (store, at) = (field.store(), cosign_tag(&field.root.digest, ".sig"));
    let signed = field.signature(&[0]).await;
    let bytes = autonomy_registry::store::read_manifest(&store, &signed).await.unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let layer = images::put(&store, MediaType::OCI_LAYER_GZIP, "evil").await;
    manifest["layers"].as_array_mut().unwrap().insert(0, json!(layer));
    let mixed = images::put(&store, MediaType::OCI_MANIFEST, manifest.to_string()).await;
    images::tag(&store, &mixed, &at).await;
    let key = field.path("cosign.pub");
    let done = field.seed(&["--pub-key", key.to_str().unwrap()]).await;
    assert_code(&done, 0);
    let held = listed(&field.sink, &at).await;
    assert!(held.len() == 1 && held[0] != layer.digest, "{held:?}");
    assert!(text(&done).contains("1 layers are left out"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_anybody_attaches_brings_no_signatures_of_foreign_images() {
    for accessories in ["all", "root"] {
        let field = Field::bare(Profile::default(), Profile::default()).await;
        let (store, sink) = (field.store(), publisher(&field.sink, "app"));
        // The destination has the image with its signature; the source has another one for it.
        let foreign = images::shape::single_manifest(7, &[100]).put(&sink, &[]).await;
        images::shape::single_manifest(7, &[100]).put(&store, &[]).await;
        let at = cosign_tag(&foreign.digest, ".sig");
        let own = list(&sink, TYPES[0].1, &["own".into()]).await;
        images::tag(&sink, &own, &at).await;
        images::tag(&store, &list(&store, TYPES[0].1, &["forged".into()]).await, &at).await;
        let several = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "artifactType": "application/x.several",
            "manifests": [reference(&foreign)], "subject": reference(&field.root),
        });
        images::put(&store, MediaType::OCI_INDEX, several.to_string()).await;
        assert_code(&field.seed(&["--skip-verify", "--accessories", accessories]).await, 0);
        assert_eq!(tag(&field.sink, &at).await, Some(own.digest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deep_seed_leaves_out_signatures_whose_payload_is_gone() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let (sink, at) = (publisher(&field.sink, "app"), cosign_tag(&field.root.digest, ".sig"));
    images::tag(&field.store(), &field.signature(&[0]).await, &at).await;
    images::tag(&sink, &list(&sink, TYPES[0].1, &["kept".into(), "gone".into()]).await, &at).await;
    let gone = Digest::sha256(b"gone");
    std::fs::remove_file(field.sink.layout("app").folder().join("blobs/sha256").join(gone.hex())).unwrap();
    let key = field.path("cosign.pub");
    let done = field.seed(&["--pub-key", key.to_str().unwrap(), "--deep"]).await;
    assert_code(&done, 0);
    assert_eq!(listed(&field.sink, &at).await.len(), 2, "ours and the one that can be read");
    assert!(text(&done).contains("does not hold any more"), "{}", text(&done));
}

/// Another source of the same image, with a signature of its own.
async fn second(field: &Field, content: &str) -> Testbed {
    let source = Testbed::start().await;
    let store = publisher(&source, "app");
    let root = images::two_platforms(&store, 1, &[1000, 2000]).await;
    assert_eq!(root, field.root, "the same image");
    images::tag(&store, &root, "v1").await;
    let signed = list(&store, TYPES[0].1, &[content.to_owned()]).await;
    images::tag(&store, &signed, &cosign_tag(&root.digest, ".sig")).await;
    source
}

#[tokio::test(flavor = "multi_thread")]
async fn two_seeds_at_once_lose_no_signature() {
    for (name, behaviour) in behaviours() {
        for delay in [0, 20] {
            let field = Field::bare(Profile::default(), behaviour.clone()).await;
            let at = cosign_tag(&field.root.digest, ".sig");
            let store = field.store();
            images::tag(&store, &list(&store, TYPES[0].1, &["one".into()]).await, &at).await;
            let other = second(&field, "two").await;
            // Both read the tag before either puts it.
            for on in [Kind::ManifestHead, Kind::ManifestPut] {
                field.sink.fault(Fault::always(on, What::Delay(Duration::from_millis(delay))).at(".sig"));
            }
            let (from, to, out) = (format!("{}/app:v1", other.host()), field.to(), field.path("other"));
            let (first, second) =
                tokio::join!(field.seed(&["--skip-verify"]), seed(&from, &to, &out, &["--skip-verify"]));
            assert_code(&first, 0);
            assert_code(&second, 0);
            assert_eq!(set(listed(&field.sink, &at).await), digests(&["one", "two"]), "{name}, {delay} ms");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_changes_while_the_image_is_copied_is_put_together_again() {
    let field = Field::bare(Profile::default(), Profile::distribution_2()).await;
    let (store, sink) = (field.store(), publisher(&field.sink, "app"));
    let at = cosign_tag(&field.root.digest, ".sig");
    images::tag(&store, &field.signature(&[0]).await, &at).await;
    let rival = list(&sink, TYPES[0].1, &["somebody else's".into()]).await;
    // Changes between the plan and the PUT, and between the PUT and the verification.
    field.sink.fault(Fault::next(Kind::ManifestPut, What::Delay(Duration::from_millis(300))).at(".sig"));
    let overwriting = async {
        while !field.sink.log().iter().any(|seen| seen.method == "PUT" && seen.path.ends_with(".sig")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(350)).await;
        images::tag(&sink, &rival, &at).await;
    };
    let key = field.path("cosign.pub");
    let flags = ["--pub-key", key.to_str().unwrap()];
    let (done, ()) = tokio::join!(field.seed(&flags), overwriting);
    assert_code(&done, 0);
    assert_eq!(listed(&field.sink, &at).await.len(), 2, "{}", text(&done));
}
