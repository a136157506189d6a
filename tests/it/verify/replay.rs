//! Replay: validly signed old content is offered again, under a tag that has moved on.

use std::process::Output;

use autonomy_registry::document::lock::{Inputs, Lock, Pin};
use autonomy_registry::oci::Digest;
use autonomy_registry::trust::{artifact, sigstore_bundle};
use autonomy_registry::verify::SidecarKind;
use testkit::images;

use crate::kit::bundle_bed::{VERSION, hours_from_now, policy_bundle};
use crate::kit::command::{assert_code, autonomy, seal, seed, seeding, text};
use crate::kit::sealed_bed::Sealed;

const DAY: i64 = 24;

#[track_caller]
fn is_refused(done: &Output, class: &str) {
    assert_code(done, 3);
    let told = text(done);
    assert!(told.contains(class), "{class} in {told}");
    assert!(told.contains("verification failed (fail-closed)") || told.contains("error: verify "), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_does_not_go_back_to_an_image_that_was_signed_earlier() {
    let sealed = Sealed::hours_ago(200 * DAY).await;
    let old = sealed.source.image.clone();
    let new = sealed.release(2, 1).await;
    assert_code(&sealed.seed(&[]).await, 0);
    let record = sealed.record();
    images::tag(&sealed.source.store, &old, "v1").await;
    is_refused(&sealed.seed(&[]).await, "TIME_ROLLBACK");
    assert_eq!(sealed.arrived("v1").await, Some(new.digest));
    assert_eq!(sealed.record(), record, "nothing is written");
    let done = sealed.seed(&["--dry-run"]).await;
    is_refused(&done, "TIME_ROLLBACK");

    assert_code(&sealed.seed(&["--allow-rollback"]).await, 0);
    assert_eq!(sealed.arrived("v1").await, Some(old.digest));
    assert_eq!(sealed.record()["weakened"], serde_json::json!(["rollback allowed"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogs_and_sync_do_not_go_back_either_unless_the_entry_says_so() {
    let sealed = Sealed::hours_ago(200 * DAY).await;
    let old = sealed.source.image.clone();
    let new = sealed.release(2, 1).await;
    assert_code(&sealed.seed(&[]).await, 0);
    images::tag(&sealed.source.store, &old, "v1").await;
    let catalog = sealed.source.file("catalog.yaml");
    let write = |more: &str| {
        let (from, to, key) = (sealed.source.reference(), sealed.to(), sealed.source.public_key());
        let text = format!("version: 1\nentries:\n  - from: {from}\n    to: {to}\n    pub_key: {key}\n{more}");
        std::fs::write(&catalog, text).unwrap();
    };
    let (catalog, out, key) = (catalog.to_str().unwrap(), sealed.source.file("out"), sealed.source.public_key());
    let out = ["--allow-insecure-registry", "--out", out.to_str().unwrap()];
    let seed_catalog = [&["registry", "seed-catalog", "--catalog", catalog][..], &out].concat();
    write("");
    is_refused(&autonomy(&seed_catalog).await, "TIME_ROLLBACK");
    is_refused(&autonomy(&[&seed_catalog[..], &["--atomic"]].concat()).await, "TIME_ROLLBACK");
    let (from, to) = (sealed.source.bed.host().to_owned(), sealed.sink.host().to_owned());
    let hosts = ["--from-registry", &from, "--to-registry", &to, "--repos", "robot:v1", "--pub-key", &key];
    is_refused(&autonomy(&[&["registry", "sync"], &hosts[..], &out].concat()).await, "TIME_ROLLBACK");
    assert_eq!(sealed.arrived("v1").await, Some(new.digest));
    write("    allow_rollback: true\n");
    assert_code(&autonomy(&seed_catalog).await, 0);
    assert_eq!(sealed.arrived("v1").await, Some(old.digest));
    let roll_up = std::fs::read_to_string(sealed.source.file("out").join("catalog-seed-manifest.json")).unwrap();
    assert!(roll_up.contains("rollback allowed"), "{roll_up}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_signature_of_an_old_image_is_no_rollback() {
    // The image that comes back has a new signature beside its old one: the newest counts.
    let sealed = Sealed::hours_ago(200 * DAY).await;
    let old = sealed.source.image.clone();
    sealed.release(2, 48).await;
    assert_code(&sealed.seed(&[]).await, 0);
    images::tag(&sealed.source.store, &old, "v1").await;
    sealed.sign_again(&old, &[hours_from_now(-200 * DAY), hours_from_now(-1)]).await;
    assert_code(&sealed.seed(&[]).await, 0);
    assert_eq!(sealed.arrived("v1").await, Some(old.digest));
    // In the other format.
    let next = sealed.release(3, 24).await;
    is_refused(&sealed.seed(&[]).await, "TIME_ROLLBACK");
    let statement = sigstore_bundle::statement(&next.digest, Some(hours_from_now(0)));
    sealed.source.put_bundle(&next, &statement, &statement).await;
    assert_code(&sealed.seed(&[]).await, 0);
    assert_eq!(sealed.arrived("v1").await, Some(next.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_root_that_no_trusted_key_has_signed_compares_nothing() {
    let sealed = Sealed::hours_ago(200 * DAY).await;
    let other = images::two_platforms(&sealed.source.store, 9, &[300]).await;
    images::tag(&sealed.source.store, &other, "other").await;
    let from = format!("{}/robot:other", sealed.source.bed.host());
    assert_code(&seed(&from, &sealed.to(), &sealed.source.file("out"), &["--skip-verify"]).await, 0);
    assert_code(&sealed.seed(&[]).await, 0);
    assert_eq!(sealed.arrived("v1").await, Some(sealed.source.image.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn comparing_times_costs_three_requests_and_only_where_the_tag_moves() {
    let sealed = Sealed::hours_ago(2).await;
    let none = ["--accessories", "none"];
    assert_code(&sealed.seed(&none).await, 0);
    sealed.sink.clear_log();
    assert_code(&sealed.seed(&none).await, 0);
    let unchanged = sealed.sink.requests();
    // The tag; and root, signature and payload read back.
    assert!(unchanged <= 5, "{:#?}", sealed.sink.log());
    let moved = async |more: &[&str]| {
        sealed.sink.clear_log();
        assert_code(&sealed.seed(&[&none[..], more].concat()).await, 0);
        sealed.sink.requests()
    };
    sealed.release(2, 1).await;
    let compared = moved(&[]).await;
    sealed.release(3, 0).await;
    assert_eq!(compared, moved(&["--allow-rollback"]).await + 3, "signature, payload and list of referrers");
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_and_policy_of_an_older_seal_do_not_go_with_an_image_that_was_signed_later() {
    let sealed = Sealed::hours_ago(200 * DAY).await;
    let all = ["--require-lock", "--require-policy"];
    assert_code(&sealed.source.verify(&all).await, 0);
    sealed.sign_again(&sealed.source.image, &[hours_from_now(-1)]).await;
    is_refused(&sealed.source.verify(&all).await, "TIME_SET");
    is_refused(&sealed.seed(&["--copy-policy"]).await, "TIME_SET");
    assert_eq!(sealed.arrived("v1").await, None);
    // The image alone still verifies.
    assert_code(&sealed.source.verify(&[]).await, 0);
    // A bundle that is sealed again as a whole passes, even if it keeps older signatures.
    for node in [&sealed.lock, &sealed.policy] {
        sealed.sign_again(node, &[hours_from_now(-200 * DAY), hours_from_now(-1)]).await;
    }
    assert_code(&sealed.source.verify(&all).await, 0);
    assert_code(&sealed.seed(&["--copy-policy"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_lock_does_not_take_the_place_of_a_newer_one_beside_the_same_image() {
    let sealed = Sealed::hours_ago(100 * DAY).await;
    let policy = policy_bundle("1.2.7");
    let newer = [
        (SidecarKind::Lock, sealed.source.lock(&policy).to_bytes(), &sealed.lock),
        (SidecarKind::Policy, policy, &sealed.policy),
    ];
    sealed.sign_again(&sealed.source.image, &[hours_from_now(-100 * DAY), hours_from_now(-1)]).await;
    for (kind, content, _) in &newer {
        let sidecar = artifact::sidecar_manifest(*kind, &sealed.source.image, content);
        sealed.source.put(&sidecar, &[&format!("v1-{}", kind.as_str())]).await;
        sealed.sign_again(&sidecar.node, &[hours_from_now(-1)]).await;
    }
    assert_code(&sealed.seed(&["--copy-policy", "--accessories", "none"]).await, 0);
    let seeded = sealed.arrived("v1-lock").await;
    // Everything of the older seal, and only the older signature of the image.
    for (kind, _, older) in &newer {
        images::tag(&sealed.source.store, older, &format!("v1-{}", kind.as_str())).await;
    }
    sealed.sign_again(&sealed.source.image, &[hours_from_now(-100 * DAY)]).await;
    is_refused(&sealed.seed(&["--copy-policy", "--accessories", "none"]).await, "TIME_ROLLBACK");
    assert_eq!(sealed.arrived("v1-lock").await, seeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_says_no_time_does_not_take_the_place_of_one_that_does() {
    let sealed = Sealed::hours_ago(DAY).await;
    assert_code(&sealed.seed(&["--copy-policy", "--accessories", "none"]).await, 0);
    let seeded = sealed.arrived("v1-lock").await;
    let policy = policy_bundle("1.2.7");
    for (kind, content) in
        [(SidecarKind::Lock, sealed.source.lock(&policy).to_bytes()), (SidecarKind::Policy, policy.clone())]
    {
        let sidecar = artifact::sidecar_manifest(kind, &sealed.source.image, &content);
        sealed.source.put(&sidecar, &[&format!("v1-{}", kind.as_str())]).await;
        sealed.sign_with(&sidecar.node, &[None]).await;
    }
    is_refused(&sealed.seed(&["--copy-policy", "--accessories", "none"]).await, "TIME_ROLLBACK");
    assert_eq!(sealed.arrived("v1-lock").await, seeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_again_in_either_format_passes_its_own_verification() {
    for format in ["legacy", "bundle"] {
        let sealed = Sealed::hours_ago(100 * DAY).await;
        let policy = sealed.source.file("policy");
        std::fs::create_dir(&policy).unwrap();
        std::fs::write(policy.join("manifest.json"), r#"{"policy_bundle_version":"1.2.0"}"#).unwrap();
        std::fs::write(policy.join("a.rego"), "package a\n").unwrap();
        let key = sealed.source.file("cosign.key");
        std::fs::write(&key, sealed.source.key.to_encrypted_pem(b"").unwrap()).unwrap();
        let reference = sealed.source.reference();
        let more = ["--format", format, "--policy", policy.to_str().unwrap()];
        let done = seal(&reference, &key, "", &more).await;
        assert_code(&done, 0);
        assert_code(&sealed.source.verify(&["--require-lock", "--require-policy"]).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_must_bear_the_name_of_the_source_if_that_is_demanded() {
    let sealed = Sealed::hours_ago(1).await;
    assert_code(&sealed.seed(&["--match-identity"]).await, 0);
    let name = format!("{}/robot", sealed.source.bed.host());
    assert_code(&sealed.seed(&["--identity", &name]).await, 0);
    is_refused(&sealed.seed(&["--identity", "upstream.example/robot"]).await, "SIG_IDENTITY_MISMATCH");
    let tagged = sealed.seed(&["--identity", &format!("{name}:v1")]).await;
    assert_code(&tagged, 2);
    assert!(text(&tagged).contains(&format!("write {name}")), "{}", text(&tagged));

    // A bundle contains no name.
    let image = images::two_platforms(&sealed.source.store, 5, &[300]).await;
    images::tag(&sealed.source.store, &image, "v1").await;
    let statement = sigstore_bundle::statement(&image.digest, Some(hours_from_now(0)));
    sealed.source.put_bundle(&image, &statement, &statement).await;
    is_refused(&sealed.seed(&["--match-identity"]).await, "SIG_IDENTITY_MISMATCH");
    assert_code(&sealed.seed(&[]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_for_an_image_of_another_name_is_refused_where_names_count() {
    let sealed = Sealed::hours_ago(1).await;
    let all = ["--require-lock", "--require-policy", "--match-identity"];
    // The lock of this bed names a.example/robot.
    is_refused(&sealed.source.verify(&all).await, "SIG_IDENTITY_MISMATCH");
    is_refused(&sealed.seed(&["--copy-policy", "--match-identity"]).await, "SIG_IDENTITY_MISMATCH");
    let policy = policy_bundle(VERSION);
    let hash = Digest::sha256(b"").to_string();
    let agent = Pin { reference: sealed.source.reference(), digest: sealed.source.image.digest };
    let pin = Pin { reference: format!("a.example/robot-policy:{VERSION}"), digest: Digest::sha256(&policy) };
    let lock = Lock::new(agent, pin, Inputs { prompt_hash: hash.clone(), tool_inputs_hash: hash });
    let lock = artifact::sidecar_manifest(SidecarKind::Lock, &sealed.source.image, &lock.to_bytes());
    sealed.source.put(&lock, &["v1-lock"]).await;
    sealed.sign_again(&lock.node, &[hours_from_now(-1)]).await;
    assert_code(&sealed.source.verify(&all).await, 0);
    assert_code(&sealed.seed(&["--copy-policy", "--match-identity"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_that_is_allowed_is_the_one_that_was_given() {
    let sealed = Sealed::hours_ago(100).await;
    is_refused(&sealed.seed(&["--max-age", "99h"]).await, "TIME_STALE");
    assert_code(&sealed.seed(&["--max-age", "101h"]).await, 0);
    let (from, to, out) = (sealed.source.reference(), sealed.to(), sealed.source.file("out"));
    for more in [&["--max-age", "1h"][..], &["--match-identity"], &["--identity", "a.example/b"]] {
        let done = seed(&from, &to, &out, &[&["--skip-verify"], more].concat()).await;
        assert_code(&done, 2);
        assert!(text(&done).contains("--skip-verify does not"), "{}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_the_site_signs_itself_is_compared_with_nothing_and_the_record_says_so() {
    let sealed = Sealed::hours_ago(2).await;
    let key = sealed.source.file("cosign.key");
    std::fs::write(&key, sealed.source.key.to_encrypted_pem(b"").unwrap()).unwrap();
    let (from, to) = (sealed.source.reference(), sealed.to());
    let rewrite = async || {
        let (out, public) = (sealed.source.file("out"), sealed.source.public_key());
        let flags = ["--match-identity", "--platform", "linux/amd64", "--rewrite-index", "--pub-key", &public];
        let mut command = seeding(&from, &to, &out, &flags);
        let done = command.arg("--sign-key").arg(&key).env("COSIGN_PASSWORD", "").output().await.unwrap();
        assert_code(&done, 0);
        sealed.record()["weakened"].clone()
    };
    // The new index has the site's name, the image the name at its source.
    assert_eq!([rewrite().await, rewrite().await], [serde_json::Value::Null, serde_json::Value::Null]);
    sealed.release(2, 3).await;
    assert_eq!(rewrite().await, serde_json::json!(["rollback not compared, the index is rewritten"]));
}
