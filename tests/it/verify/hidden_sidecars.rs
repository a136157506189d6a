//! `registry seed --copy-policy` at a source that hides a sidecar, or serves another in its place.

use autonomy_registry::oci::Digest;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::trust::artifact;
use autonomy_registry::verify::SidecarKind;
use testkit::images;

use crate::kit::bundle_bed::{VERSION, hours_from_now, lock, policy_bundle};
use crate::kit::command::{assert_code, text};
use crate::kit::sealed_bed::Sealed;

/// Asserts that the seed is refused as untrusted with this class; nothing is tagged and nothing written.
async fn refused(sealed: &Sealed, class: &str) {
    let done = sealed.seed(&["--copy-policy"]).await;
    assert_code(&done, 3);
    assert!(text(&done).contains(class), "{class} in {}", text(&done));
    assert!(text(&done).contains("source verification failed (fail-closed)"), "{}", text(&done));
    for tag in ["v1", "v1-lock", "v1-policy"] {
        assert_eq!(sealed.arrived(tag).await, None, "{tag}");
    }
    assert!(sealed.record().is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_whose_lock_is_hidden_never_travels() {
    let sealed = Sealed::hours_ago(1).await;
    sealed.source.bed.fault(Fault::always(Kind::ManifestGet, What::Status(404)).at("manifests/v1-lock"));
    // The lock still refers to the image: the seed finds it there, as `bundle verify` does.
    assert_code(&sealed.seed(&["--copy-policy"]).await, 0);
    assert_eq!(sealed.arrived("v1-lock").await, Some(sealed.lock.digest));

    let sealed = Sealed::hours_ago(1).await;
    sealed.source.bed.fault(Fault::always(Kind::ManifestGet, What::Status(404)).at("manifests/v1-lock"));
    let empty = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    sealed.source.bed.fault(Fault::always(Kind::Referrers, What::Replace(empty.into())));
    refused(&sealed, "SIDECAR_MISSING").await;
    // Any signed image in the place of the policy, or the policy of another bundle, is refused too.
    images::tag(&sealed.source.store, &sealed.source.image, "v1-policy").await;
    refused(&sealed, "SIDECAR_MISSING").await;
    let other = artifact::sidecar_manifest(SidecarKind::Policy, &sealed.source.image, &policy_bundle("1.9.0"));
    sealed.source.put(&other, &["v1-policy"]).await;
    sealed.sign_again(&other.node, &[hours_from_now(-1)]).await;
    refused(&sealed, "SIDECAR_MISSING").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_without_tags_travel_and_get_them_at_the_destination() {
    for tags in [&["v1-lock"][..], &["v1-policy"], &["v1-lock", "v1-policy"]] {
        let sealed = Sealed::hours_ago(1).await;
        for tag in tags {
            sealed.untag(tag).await;
        }
        let done = sealed.seed(&["--copy-policy", "--accessories", "none"]).await;
        assert_code(&done, 0);
        assert!(!text(&done).contains("not replicated"), "{}", text(&done));
        assert_eq!(sealed.arrived("v1-lock").await, Some(sealed.lock.digest), "{tags:?}");
        assert_eq!(sealed.arrived("v1-policy").await, Some(sealed.policy.digest), "{tags:?}");
        let record = sealed.record();
        assert_eq!((&record["verified"], &record["copied_policy"]), (&true.into(), &true.into()), "{record}");
        assert!(record["weakened"].is_null(), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_bundle_verify_refuses_is_still_refused_without_its_tag() {
    // Two locks among the referrers.
    let sealed = Sealed::hours_ago(1).await;
    let other = artifact::sidecar_manifest(SidecarKind::Lock, &sealed.source.image, b"{}");
    sealed.source.put(&other, &[]).await;
    sealed.untag("v1-lock").await;
    refused(&sealed, "SIDECAR_AMBIGUOUS").await;

    // One, for another image.
    let sealed = Sealed::hours_ago(1).await;
    sealed.untag("v1-lock").await;
    sealed.remove(&sealed.lock.digest).await;
    let policy = Digest::sha256(&policy_bundle(VERSION));
    let wrong = lock(Digest::sha256(b"another image"), policy, VERSION).to_bytes();
    let wrong = artifact::sidecar_manifest(SidecarKind::Lock, &sealed.source.image, &wrong);
    sealed.source.put(&wrong, &[]).await;
    sealed.sign_again(&wrong.node, &[hours_from_now(-1)]).await;
    refused(&sealed, "LOCK_AGENT_DIGEST").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_without_its_policy_is_recorded_as_what_it_is() {
    let sealed = Sealed::hours_ago(1).await;
    sealed.untag("v1-policy").await;
    sealed.remove(&sealed.policy.digest).await;
    let done = sealed.seed(&["--copy-policy"]).await;
    assert_code(&done, 0);
    assert!(text(&done).contains("sidecar not replicated"), "{}", text(&done));
    assert_eq!(sealed.record()["weakened"], serde_json::json!(["no policy beside the lock"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_for_sidecars_costs_one_list_of_referrers_and_nothing_where_both_tags_are_there_unverified() {
    let sealed = Sealed::hours_ago(1).await;
    let none = ["--copy-policy", "--accessories", "none"];
    assert_code(&sealed.seed(&none).await, 0);
    sealed.source.bed.clear_log();
    assert_code(&sealed.seed(&none).await, 0);
    assert_eq!(sealed.source.bed.count(Kind::Referrers), 1, "{:#?}", sealed.source.bed.log());
    let (from, to, out) = (sealed.source.reference(), sealed.to(), sealed.source.file("out"));
    sealed.source.bed.clear_log();
    let skipped = [&["--skip-verify"][..], &none].concat();
    assert_code(&crate::kit::command::seed(&from, &to, &out, &skipped).await, 0);
    assert_eq!(sealed.source.bed.count(Kind::Referrers), 0);
}
