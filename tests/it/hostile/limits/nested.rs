//! JSON a thousand levels deep, wherever the program reads JSON: before a signature covers it, and after.

use autonomy_registry::document::policy_bundle;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::trust::artifact;
use autonomy_registry::verify::SidecarKind;
use jiff::Timestamp;

use super::{Bound, hold, manifest, sealed, served};
use crate::kit::bundle_bed::{BundleBed, Signed, VERSION, lock};

fn deep(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

async fn refused(bed: &BundleBed, what: &'static str, code: i32, says: &'static str) {
    hold(bed, Bound { what, code, says, requests: 16, bytes: 13 << 20 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_a_thousand_levels_deep_is_refused_wherever_it_is_read() {
    let bed = sealed().await;
    let sig = format!("{}.sig", bed.image.digest.hex());
    let unsigned = || async {
        let bed = sealed().await;
        bed.bed.fault(manifest(&sig, What::Status(404)));
        bed
    };

    bed.bed.fault(served("manifests/v1", deep(1000)));
    refused(&bed, "1,000 levels: the image", 3, "SIG_NOT_FOUND").await;
    bed.bed.heal();
    bed.bed.fault(served(&sig, deep(1000)));
    refused(&bed, "1,000 levels: a signature's manifest", 3, "SIG_FORMAT").await;

    let bed = unsigned().await;
    let list = format!(r#"{{"manifests":[{{"platform":{}}}]}}"#, deep(1000));
    bed.bed.fault(Fault::always(Kind::Referrers, What::Replace(list.into())));
    refused(&bed, "1,000 levels: a list of referrers", 4, "list").await;

    let bed = unsigned().await;
    bed.put(&artifact::bundle_manifest(&bed.image, deep(1000).as_bytes(), Timestamp::now()), &[]).await;
    refused(&bed, "1,000 levels: a bundle", 3, "SIG_FORMAT").await;

    let bed = sealed().await;
    let signature = bed.key.sign(deep(1000).as_bytes()).unwrap();
    bed.put_signature(&bed.image, deep(1000).into_bytes(), signature).await;
    refused(&bed, "1,000 levels: a signed payload", 3, "SIG_FORMAT").await;

    let bed = unsigned().await;
    bed.put_bundle(&bed.image, deep(1000).as_bytes(), deep(1000).as_bytes()).await;
    refused(&bed, "1,000 levels: a signed statement", 3, "SIG_FORMAT").await;

    let bed = sealed().await;
    bed.sidecar(SidecarKind::Lock, deep(1000).as_bytes(), Signed::Yes).await;
    refused(&bed, "1,000 levels: a signed lock", 3, "LOCK_PARSE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_nobody_reads_may_be_deep_and_takes_neither_stack_nor_memory() {
    let bed = sealed().await;
    let sig = format!("{}.sig", bed.image.digest.hex());
    // As deep as the largest manifest can be; lock and policy name the same limit.
    let manifest = format!(r#"{{"schemaVersion":2,"layers":[],"x":{}}}"#, deep(2_000_000));
    bed.bed.fault(served("manifests/v1", manifest.clone()));
    refused(&bed, "2,000,000 levels in a field nobody reads: the image", 3, "SIG_NOT_FOUND").await;
    bed.bed.heal();
    bed.bed.fault(served(&sig, manifest));
    refused(&bed, "2,000,000 levels in a field nobody reads: a signature", 3, "SIG_NOT_FOUND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_policys_own_manifest_is_bounded_too() {
    let bed = sealed().await;
    let bytes = super::archive::packed(&[("manifest.json", deep(1000).into_bytes())]);
    assert!(policy_bundle::Policy::read(&bytes).is_err());
    bed.sidecar(SidecarKind::Policy, &bytes, Signed::Yes).await;
    let lock = lock(bed.image.digest, autonomy_registry::oci::Digest::sha256(&bytes), VERSION);
    bed.sidecar(SidecarKind::Lock, &lock.to_bytes(), Signed::Yes).await;
    refused(&bed, "1,000 levels: a signed policy's manifest.json", 3, "SEMVER_PARSE").await;
}
