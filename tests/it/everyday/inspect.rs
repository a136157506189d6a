//! `registry inspect`: the tree of an image, its cost, and its verification.

use autonomy_registry::oci::{Descriptor, MediaType};
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::trust::{artifact, sigstore_bundle};
use autonomy_registry::verify::SidecarKind;
use serde_json::{Value, json};
use testkit::images;

use super::{assert_screen, registry, requests};
use crate::kit::bundle_bed::{BundleBed, report};
use crate::kit::command::{assert_code, text};

async fn inspect(bed: &BundleBed, more: &[&str]) -> std::process::Output {
    registry(&[&["inspect", &bed.reference()], more].concat()).await
}

async fn inspected(bed: &BundleBed, more: &[&str]) -> Value {
    report(&inspect(bed, &[more, &["--output", "json"]].concat()).await)
}

/// Kinds of attachments, with the kinds of what is attached to them.
fn kinds(attached: &Value) -> Vec<String> {
    let of = |one: &Value| {
        let below = kinds(&one["attached"]);
        let kind = one["kind"].as_str().unwrap().to_owned();
        if below.is_empty() { kind } else { format!("{kind}({})", below.join(" ")) }
    };
    attached.as_array().map(|all| all.iter().map(of).collect()).unwrap_or_default()
}

/// The first platform's manifest.
async fn first_platform(bed: &BundleBed) -> Descriptor {
    let bytes = autonomy_registry::store::read_manifest(&bed.store, &bed.image).await.unwrap();
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    serde_json::from_value(index["manifests"][0].clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_shown_as_a_tree_at_80_columns() {
    let bed = BundleBed::honest().await;
    let platform = first_platform(&bed).await;
    bed.sign(&platform).await;
    images::sidecar(&bed.store, &platform, "application/spdx+json", b"{}").await;
    let done = inspect(&bed, &[]).await;
    assert_code(&done, 0);
    assert_screen(
        &done,
        bed.bed.host(),
        "\
localhost:5000/robot:v1
  sha256:…
  type       application/vnd.oci.image.index.v1+json
  created    …Z
  size       … KiB for 2 platforms, each blob once
  trust      not verified; signers are claims, --pub-key verifies them
├─ linux/amd64     …  … KiB
│  ├─ signature       …  …
│  │    claims to be signed by a key that it does not name
│  └─ sbom            …  …
│       application/spdx+json
├─ linux/arm64/v8  …  … KiB
├─ signature       …  …
│    claims to be signed by a key that it does not name
├─ lock            …  …  tag v1-lock
│  └─ signature       …  …
│       claims to be signed by a key that it does not name
└─ policy          …  …  tag v1-policy
   └─ signature       …  …
        claims to be signed by a key that it does not name
",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn inspecting_costs_what_is_shown_and_reads_no_layer() {
    let bed = BundleBed::honest().await;
    bed.bed.clear_log();
    let shown = inspected(&bed, &[]).await;
    assert_eq!(shown["digest"], bed.image.digest.to_string());
    let count = |kind| bed.bed.count(kind);
    // The index, two platforms, lock, policy, three signatures.
    assert_eq!(count(Kind::ManifestGet), 8, "{:?}", requests(&bed.bed));
    // One for each manifest: each may have something attached.
    assert_eq!((count(Kind::Tags), count(Kind::Referrers)), (1, 8));
    assert_eq!(count(Kind::BlobGet), 1, "one configuration, for the time");
    assert_eq!(bed.bed.requests(), 18, "{:?}", requests(&bed.bed));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_has_everything_under_fixed_names() {
    let bed = BundleBed::honest().await;
    let shown = inspected(&bed, &[]).await;
    let names: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "artifact_type",
        "attached",
        "created",
        "digest",
        "lock",
        "media_type",
        "platforms",
        "policy",
        "reference",
        "size",
        "verification",
        "verified",
    ];
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!((&shown["verified"], &shown["verification"]), (&Value::Null, &Value::Null));
    assert_eq!(shown["reference"], bed.reference().as_str());
    assert_eq!(kinds(&shown["attached"]), ["signature", "lock(signature)", "policy(signature)"]);
    assert_eq!(shown["attached"][1]["digest"], shown["lock"]);
    assert_eq!(shown["attached"][1]["tag"], "v1-lock");
    let platform = &shown["platforms"][0];
    assert_eq!((&platform["platform"], &platform["held"]), (&json!("linux/amd64"), &json!(true)));
    let by_digest = format!("{}/robot@{}", bed.bed.host(), bed.image.digest);
    let pinned = report(&registry(&["inspect", &by_digest, "--output", "json"]).await);
    assert_eq!((&pinned["digest"], &pinned["lock"]), (&shown["digest"], &shown["lock"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_the_image_is_verified_and_a_failure_is_exit_3() {
    let bed = BundleBed::honest().await;
    let key = bed.public_key();
    let done = inspect(&bed, &["--pub-key", &key, "--require-lock", "--require-policy"]).await;
    assert_code(&done, 0);
    let said = text(&done);
    assert!(said.contains("trust      verified with --pub-key") && said.contains("semver       ok"), "{said}");
    assert!(said.contains("verified: signed by a key that was given"), "{said}");
    let shown = inspected(&bed, &["--pub-key", &key]).await;
    assert_eq!((&shown["verified"], &shown["verification"]["verified"]), (&json!(true), &json!(true)));
    assert_eq!(shown["attached"][0]["verified"], true);
    assert_eq!(shown["attached"][1]["attached"][0]["verified"], false, "the lock was not asked for");

    let other = BundleBed::bare().await.public_key_elsewhere(bed.home.path());
    let done = inspect(&bed, &["--pub-key", &other]).await;
    assert_code(&done, 3);
    assert!(text(&done).contains("NOT verified") && text(&done).contains("SIG_NO_MATCH"), "{}", text(&done));
    let shown = inspected(&bed, &["--pub-key", &other]).await;
    assert_eq!((&shown["verified"], &shown["attached"][0]["verified"]), (&json!(false), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_that_is_shown_is_the_one_that_is_verified() {
    let bed = BundleBed::honest().await;
    let other = images::two_platforms(&bed.store, 9, &[10]).await;
    images::tag(&bed.store, &other, "other").await;
    // The tag moves after it was read.
    let moved = What::AnswerOf("/v2/robot/manifests/other".into());
    bed.bed.fault(Fault::always(Kind::ManifestGet, moved).at_the_end("/manifests/v1").from_the(2));
    let shown = inspected(&bed, &["--pub-key", &bed.public_key()]).await;
    assert_eq!((&shown["digest"], &shown["verified"]), (&json!(bed.image.digest.to_string()), &json!(true)));
    assert_eq!(shown["verification"]["digest"], shown["digest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_name_their_key_and_attestations_their_predicate() {
    let bed = BundleBed::bare().await;
    let statement = sigstore_bundle::statement(&bed.image.digest, None);
    bed.put_bundle(&bed.image, &statement, &statement).await;
    let predicate = "https://slsa.dev/provenance/v1";
    let other = String::from_utf8(statement).unwrap().replace(sigstore_bundle::PREDICATE_TYPE, predicate);
    let signature = bed.key.sign(&sigstore_bundle::pae(other.as_bytes())).unwrap();
    let bytes = sigstore_bundle::build(&bed.key.public_key().unwrap(), other.as_bytes(), &signature);
    // Without the annotation that names the predicate: the bundle itself says it.
    let bundle = artifact::artifact_manifest(&MediaType::new(sigstore_bundle::MEDIA_TYPE), &bed.image, &bytes);
    bed.put(&bundle, &[]).await;
    let shown = inspected(&bed, &[]).await;
    assert_eq!(kinds(&shown["attached"]), ["signature", "attestation"]);
    let key = format!("key {}", &bed.key.public_key().unwrap().fingerprint()[..12]);
    for one in shown["attached"].as_array().unwrap() {
        assert_eq!(one["claims_to_be_signed_by"], json!([key]));
    }
    assert_eq!(shown["attached"][1]["predicate_types"], json!([predicate]));
    let said = text(&inspect(&bed, &[]).await);
    assert!(said.contains(&format!("claims to be signed by {key}")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_that_names_another_subject_is_not_shown() {
    let bed = BundleBed::bare().await;
    let other = images::two_platforms(&bed.store, 9, &[10]).await;
    let foreign = images::sidecar(&bed.store, &other, "application/spdx+json", b"{}").await;
    let list = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [foreign]}).to_string();
    bed.bed.fault(Fault::always(Kind::Referrers, What::Replace(list.into())).at(bed.image.digest.to_string()));
    let shown = inspected(&bed, &[]).await;
    assert_eq!(kinds(&shown["attached"]), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_locks_that_claim_to_be_it_are_a_warning() {
    let bed = BundleBed::bare().await;
    for content in [&b"{}"[..], b"{ }"] {
        bed.put(&artifact::sidecar_manifest(SidecarKind::Lock, &bed.image, content), &[]).await;
    }
    let done = inspect(&bed, &["--output", "json"]).await;
    assert_code(&done, 0);
    assert_eq!(report(&done)["lock"], Value::Null);
    assert!(text(&done).contains("warning: SIDECAR_AMBIGUOUS"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_is_not_there_is_told_so() {
    let bed = BundleBed::bare().await;
    let platform = first_platform(&bed).await;
    bed.bed.fault(Fault::always(Kind::ManifestGet, What::Status(404)).at(platform.digest.to_string()));
    let said = text(&inspect(&bed, &[]).await);
    assert!(said.contains(&format!("{}  not in this repository", platform.digest.short())), "{said}");
    assert_eq!(inspected(&bed, &[]).await["platforms"][0]["held"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn demands_without_a_key_and_unknown_tags_are_refused() {
    let bed = BundleBed::bare().await;
    let done = inspect(&bed, &["--require-lock"]).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("needs --pub-key"), "{}", text(&done));
    let done = registry(&["inspect", &format!("{}/robot:V1", bed.bed.host())]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("hint: check the repository and the tag"), "{}", text(&done));
}
