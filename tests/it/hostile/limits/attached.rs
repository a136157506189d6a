//! Accessories: too many signatures, endless bodies and endless lists.

use autonomy_registry::document::lock;
use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::trust::{artifact, sigstore_bundle, simple_signing};
use autonomy_registry::verify::{SidecarKind, SigningKey};
use jiff::Timestamp;
use serde_json::json;

use super::{Bound, IN_FLIGHT, blob, hold, manifest, pour, sealed, served};
use crate::kit::bundle_bed::{BundleBed, Signed};

const GIB: u64 = 1 << 30;

/// A legacy manifest of `count` layers, each of `size` bytes and missing.
fn signatures(count: usize, size: u64) -> String {
    let layer = |n: usize| {
        let digest = Digest::sha256(&n.to_le_bytes());
        json!({"mediaType": simple_signing::MEDIA_TYPE, "digest": digest, "size": size, "annotations": {simple_signing::SIGNATURE: "QUJD".repeat(24)}})
    };
    json!({"schemaVersion": 2, "layers": (0..count).map(layer).collect::<Vec<_>>()}).to_string()
}

/// A bundle by a stranger, attached to the image.
async fn stranger(bed: &BundleBed) -> Descriptor {
    let key = SigningKey::generate().unwrap();
    let statement = sigstore_bundle::statement(&bed.image.digest, Some(Timestamp::now()));
    let signature = key.sign(&sigstore_bundle::pae(&statement)).unwrap();
    let bytes = sigstore_bundle::build(&key.public_key().unwrap(), &statement, &signature);
    let attachment = artifact::bundle_manifest(&bed.image, &bytes, Timestamp::now());
    bed.put(&attachment, &[]).await;
    attachment.node
}

fn list(what: What) -> Fault {
    Fault::always(Kind::Referrers, what)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_signatures_are_not_looked_into() {
    let bed = sealed().await;
    let sig = format!("{}.sig", bed.image.digest.hex());
    bed.bed.fault(served(&sig, signatures(10_000, 286)));
    let what = "10,000 signatures under one tag";
    // The signatures of lock and policy are searched beside it.
    hold(&bed, Bound { what, code: 3, says: "SIG_LIMIT: 10000 signatures", requests: 12, bytes: 4 << 20 }).await;

    let bed = sealed().await;
    let node = stranger(&bed).await;
    bed.bed.fault(manifest(&sig, What::Status(404)));
    let entry = Descriptor { artifact_type: Some(MediaType::new(sigstore_bundle::MEDIA_TYPE)), ..node };
    let page = json!({"schemaVersion": 2, "manifests": vec![&entry; 10_000]}).to_string();
    bed.bed.fault(list(What::Replace(page.into())));
    let what = "10,000 bundles in one list";
    hold(&bed, Bound { what, code: 3, says: "SIG_LIMIT", requests: 12 + 2 * 256, bytes: 6 << 20 }).await;

    let bed = sealed().await;
    let sig = format!("{}.sig", bed.image.digest.hex());
    let key = bed.key.public_key().unwrap();
    let one = sigstore_bundle::build(
        &key,
        &sigstore_bundle::statement(&bed.image.digest, Some(Timestamp::now())),
        b"signature",
    );
    let one = String::from_utf8(one).unwrap();
    let many = one.replacen("[{", &format!("[{}{{", r#"{"sig":"QUJD"},"#.repeat(10_000)), 1);
    bed.put(&artifact::bundle_manifest(&bed.image, many.as_bytes(), Timestamp::now()), &[]).await;
    bed.bed.fault(manifest(&sig, What::Status(404)));
    let what = "10,000 signatures in one bundle";
    hold(&bed, Bound { what, code: 3, says: "SIG_FORMAT", requests: 14, bytes: 1 << 20 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_of_a_gibibyte_is_not_read() {
    let bed = sealed().await;
    let sig = format!("{}.sig", bed.image.digest.hex());
    bed.bed.fault(served(&sig, signatures(1, GIB)));
    let layer = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(&0_usize.to_le_bytes()), GIB);
    bed.bed.fault(blob(&layer, pour("", "{", Some(GIB))));
    let what = "a payload of 1 GiB that says so";
    hold(&bed, Bound { what, code: 3, says: "SIG_LIMIT", requests: 12, bytes: 1 << 20 }).await;

    for (what, total) in
        [("a payload of 1 GiB that said 286 bytes", Some(GIB)), ("a payload without an end that said 286 bytes", None)]
    {
        let bed = sealed().await;
        let sent = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(&0_usize.to_le_bytes()), 286);
        testkit::images::put(&bed.store, MediaType::OCTET_STREAM, 0_usize.to_le_bytes().to_vec()).await;
        bed.bed.fault(served(&sig, signatures(1, 286)));
        bed.bed.fault(blob(&sent, pour("", "{", total)));
        // Damaged content is fetched again, twice.
        hold(&bed, Bound { what, code: 3, says: "BLOB_DIGEST", requests: 14, bytes: 3 * IN_FLIGHT }).await;
    }

    let bed = sealed().await;
    let huge = Descriptor::new(MediaType::new(lock::MEDIA_TYPE), Digest::sha256(b"lock"), GIB);
    let sealed_lock = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": lock::MEDIA_TYPE, "layers": [huge], "subject": bed.image});
    let node = Descriptor::of(MediaType::OCI_MANIFEST, sealed_lock.to_string().as_bytes());
    let layout = bed.bed.layout("robot");
    testkit::images::put(&layout, MediaType::OCI_MANIFEST, sealed_lock.to_string()).await;
    testkit::images::tag(&layout, &node, "v1-lock").await;
    bed.sign(&node).await;
    let what = "a signed lock of 1 GiB";
    hold(&bed, Bound { what, code: 3, says: "LOCK_PARSE", requests: 14, bytes: 1 << 20 }).await;

    let bed = sealed().await;
    let lock = bed.sidecar(SidecarKind::Lock, b"{\"said\":\"to be short\"}", Signed::Yes).await;
    drop(lock);
    let content = Descriptor::of(MediaType::OCTET_STREAM, b"{\"said\":\"to be short\"}");
    bed.bed.fault(blob(&content, pour("", " ", None)));
    let what = "a signed lock without an end";
    hold(&bed, Bound { what, code: 3, says: "BLOB_DIGEST", requests: 16, bytes: 3 * IN_FLIGHT }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_manifests_and_refusals_without_an_end_are_left() {
    let bed = sealed().await;
    let sig = format!("{}.sig", bed.image.digest.hex());
    let absent = || manifest(&sig, What::Status(404));
    let entry = r#"{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1},"#;
    let page = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entry.repeat(600).trim_end_matches(','));
    let cases = [
        ("a list of referrers without an end", pour(r#"{"manifests":["#, entry, None), 14, 4 << 20),
        ("a list of 1 GiB that says so", pour(r#"{"manifests":["#, entry, Some(GIB)), 14, 0),
        ("pages of referrers without an end", What::EndlessPages(r#"{"manifests":[]}"#.into()), 28, 0),
        ("full pages of referrers without an end", What::EndlessPages(page.into()), 28, 2 << 20),
    ];
    for (what, lie, requests, bytes) in cases {
        let bed = sealed().await;
        bed.bed.fault(absent());
        bed.bed.fault(list(lie));
        let says = if what.starts_with("a list") { "longer than 4194304 bytes" } else { "or 16 pages" };
        hold(&bed, Bound { what, code: 4, says, requests, bytes: bytes + IN_FLIGHT }).await;
    }
    for (what, total) in [("a signature's manifest without an end", None), ("one of 1 GiB that says so", Some(GIB))] {
        let bed = sealed().await;
        bed.bed.fault(manifest(&sig, pour(r#"{"layers":["#, "{},", total)));
        hold(&bed, Bound { what, code: 3, says: "SIG_LIMIT", requests: 14, bytes: (4 << 20) + IN_FLIGHT }).await;
    }
    let bed = BundleBed::bare().await;
    bed.bed.fault(manifest(&sig, pour("", "no ", None)));
    let what = "a 404 whose explanation does not end";
    hold(&bed, Bound { what, code: 3, says: "SIG_NOT_FOUND", requests: 8, bytes: IN_FLIGHT }).await;
}
