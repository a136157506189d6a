//! `autonomy bundle verify`, the whole program: successes, failures with their classes, and registries that do not answer.

use autonomy_registry::document::lock::Lock;
use autonomy_registry::oci::Digest;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::trust::sigstore_bundle;
use autonomy_registry::verify::{SidecarKind, SigningKey, signature_tag};
use jiff::Timestamp;

use crate::kit::bundle_bed::{BundleBed, Signed, VERSION, hours_from_now, lock, policy_bundle, report};
use crate::kit::command::{assert_code, autonomy, each_at_once, program, text};

/// `step:status` of all four steps, and the class of the failed one.
fn steps(report: &serde_json::Value) -> (Vec<String>, Option<String>) {
    let steps = report["steps"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let told = steps.iter().map(|step| format!("{}:{}", text(&step["step"]), text(&step["status"]))).collect();
    (told, steps.iter().find_map(|step| step["class"].as_str()).map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_bundle_passes_all_four_steps() {
    let bed = BundleBed::honest().await;
    let (code, report) = bed.judged().await;
    assert_eq!(code, 0, "{report:#}");
    let keys: Vec<_> = report.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["digest", "reference", "steps", "verified", "weakened"]);
    assert_eq!(report["reference"], bed.reference());
    assert_eq!(report["digest"], bed.image.digest.to_string());
    assert_eq!((&report["verified"], &report["weakened"]), (&true.into(), &serde_json::json!([])));
    let (told, class) = steps(&report);
    assert_eq!(told, ["signatures:ok", "digests:ok", "fingerprint:ok", "semver:ok"]);
    assert_eq!(class, None);
    for step in report["steps"].as_array().unwrap() {
        let keys: Vec<_> = step.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["detail", "status", "step"], "a class stands on failed steps only");
    }

    let human = bed.verify(&["--require-lock", "--require-policy"]).await;
    let told = String::from_utf8(human.stdout).unwrap();
    assert!(told.starts_with(&format!("verified {}\n", bed.reference())), "{told}");
    assert!(!told.contains('\u{1b}'), "no colour where there is no terminal");
    assert!(human.stderr.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_were_not_asked_for_are_skipped_and_cost_nothing() {
    let bed = BundleBed::honest().await;
    let done = bed.verify(&["--output", "json"]).await;
    assert_code(&done, 0);
    let (told, _) = steps(&report(&done));
    assert_eq!(told, ["signatures:ok", "digests:skipped", "fingerprint:skipped", "semver:skipped"]);
    assert_eq!(bed.bed.requests(), 3, "image, signature, payload: {:#?}", bed.bed.log());

    let done = bed.verify(&["--output", "json", "--require-lock"]).await;
    assert_code(&done, 0);
    assert_eq!(steps(&report(&done)).0, ["signatures:ok", "digests:ok", "fingerprint:ok", "semver:skipped"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_command_has_a_second_name() {
    let bed = BundleBed::honest().await;
    let (reference, key) = (bed.reference(), bed.public_key());
    let shared = ["--require-lock", "--require-policy", "--output", "json"];
    let second = autonomy(&[&["verify", "--image", &reference, "--pub", &key][..], &shared].concat()).await;
    assert_code(&second, 0);
    assert_eq!(report(&second), report(&bed.verify(&shared).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_by_a_forger_without_the_key_are_refused() {
    let policy = policy_bundle(VERSION);

    let payload = BundleBed::honest().await;
    let signed = payload.payload(&payload.image, Some(Timestamp::now()));
    let signature = payload.key.sign(&signed).unwrap();
    let changed = String::from_utf8(signed.clone()).unwrap().replace("/robot", "/rob0t").into_bytes();
    payload.put_signature(&payload.image, changed, signature.clone()).await;

    let signature_bytes = BundleBed::honest().await;
    let mut other = signature;
    *other.last_mut().unwrap() ^= 1;
    signature_bytes.put_signature(&signature_bytes.image, signed, other).await;

    let lock_bytes = BundleBed::honest().await;
    let forged = lock(lock_bytes.image.digest, Digest::sha256(b"other policy"), VERSION).to_bytes();
    lock_bytes.sidecar(SidecarKind::Lock, &forged, Signed::No).await;

    let policy_bytes = BundleBed::honest().await;
    policy_bytes.sidecar(SidecarKind::Policy, &policy_bundle("1.2.1"), Signed::No).await;

    let unsigned = BundleBed::bare().await;
    unsigned.sidecar(SidecarKind::Lock, &unsigned.lock(&policy).to_bytes(), Signed::Yes).await;
    unsigned.sidecar(SidecarKind::Policy, &policy, Signed::Yes).await;

    // The honest lock and policy stay among the referrers; the tag decides, and it names an unsigned lock.
    for (what, bed, class) in [
        ("payload", payload, "SIG_NO_MATCH"),
        ("signature", signature_bytes, "SIG_NO_MATCH"),
        ("lock", lock_bytes, "SIG_NOT_FOUND"),
        ("policy", policy_bytes, "SIG_NOT_FOUND"),
        ("no signature", unsigned, "SIG_NOT_FOUND"),
    ] {
        let done = bed.verify(&["--require-lock", "--require-policy", "--output", "json"]).await;
        assert_code(&done, 3);
        let report = report(&done);
        let (told, found) = steps(&report);
        assert_eq!(found.as_deref(), Some(class), "{what}: {report:#}");
        assert_eq!(told, ["signatures:failed", "digests:skipped", "fingerprint:skipped", "semver:skipped"], "{what}");
        assert_eq!(report["verified"], false);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains("error: ") && said.contains("hint: "), "{what}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_was_changed_after_signing_is_refused() {
    let bed = BundleBed::bare().await;
    let stale = sigstore_bundle::statement(&bed.image.digest, Some(hours_from_now(-9000)));
    let fresh = sigstore_bundle::statement(&bed.image.digest, Some(Timestamp::now()));
    bed.put_bundle(&bed.image, &fresh, &stale).await;
    let done = bed.verify(&["--output", "json"]).await;
    assert_code(&done, 3);
    assert_eq!(steps(&report(&done)).1.as_deref(), Some("SIG_NO_MATCH"));
    bed.put_bundle(&bed.image, &fresh, &fresh).await;
    assert_code(&bed.verify(&[]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_signed_by_the_key_must_still_belong_together() {
    let policy = policy_bundle(VERSION);
    let honest = BundleBed::honest().await;
    let text = |lock: &Lock| String::from_utf8(lock.to_bytes()).unwrap();
    let right = honest.lock(&policy);
    let other_image = lock(Digest::sha256(b"other"), Digest::sha256(&policy), VERSION).to_bytes();
    let fingerprint = right.fingerprint().to_owned();
    let wrong_hash = fingerprint.replace("blake3:", "sha256:");
    let wrong_digit = format!("{}{}", &fingerprint[..70], if fingerprint.ends_with('0') { '1' } else { '0' });
    let other_version = lock(honest.image.digest, Digest::sha256(&policy), "1.3.0").to_bytes();
    let patched = lock(honest.image.digest, Digest::sha256(&policy), "1.2.9").to_bytes();
    let edited = text(&right).replacen("a.example/robot:v1", "a.example/robot:v2", 1);
    for (what, lock, policy, step, class) in [
        ("another image's lock", other_image, policy.clone(), 1, "LOCK_AGENT_DIGEST"),
        ("another policy", right.to_bytes(), policy_bundle("1.2.1"), 1, "POLICY_DIGEST"),
        ("no lock at all", b"{}".to_vec(), policy.clone(), 1, "LOCK_PARSE"),
        ("another hash", text(&right).replace(&fingerprint, &wrong_hash).into(), policy.clone(), 2, "FINGERPRINT_ALGO"),
        (
            "one digit",
            text(&right).replace(&fingerprint, &wrong_digit).into(),
            policy.clone(),
            2,
            "FINGERPRINT_MISMATCH",
        ),
        ("an edited field", edited.into(), policy.clone(), 2, "FINGERPRINT_MISMATCH"),
        ("another version", other_version, policy.clone(), 3, "SEMVER_MISMATCH"),
        ("another patch level", patched, policy.clone(), 4, ""),
    ] {
        let bed = BundleBed { home: tempfile::tempdir().unwrap(), ..BundleBed::bare().await };
        std::fs::write(bed.file("cosign.pub"), bed.key.public_pem().unwrap()).unwrap();
        assert_eq!(bed.image, honest.image, "images are made the same each time");
        bed.sign(&bed.image).await;
        bed.sidecar(SidecarKind::Lock, &lock, Signed::Yes).await;
        bed.sidecar(SidecarKind::Policy, &policy, Signed::Yes).await;
        let (code, report) = bed.judged().await;
        let (told, found) = steps(&report);
        assert_eq!(found.unwrap_or_default(), class, "{what}: {report:#}");
        assert_eq!(code, if step == 4 { 0 } else { 3 }, "{what}");
        let reached = told.iter().filter(|step| step.ends_with(":ok")).count();
        assert_eq!(reached, step, "{what}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_is_refused_and_any_of_several_will_do() {
    let bed = BundleBed::honest().await;
    let stranger = bed.file("stranger.pub");
    std::fs::write(&stranger, SigningKey::generate().unwrap().public_pem().unwrap()).unwrap();
    let (reference, stranger) = (bed.reference(), stranger.to_str().unwrap().to_owned());
    let done = autonomy(&["bundle", "verify", &reference, "--pub-key", &stranger, "--output", "json"]).await;
    assert_code(&done, 3);
    assert_eq!(steps(&report(&done)).1.as_deref(), Some("SIG_NO_MATCH"));
    assert_code(&bed.verify(&["--pub-key", &stranger]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_signing_counts_unless_it_is_switched_off() {
    for (hours, more, class) in [
        (Some(-8761), &[][..], "TIME_STALE"),
        (Some(-8761), &["--max-age", "8762h"], ""),
        (Some(-2), &["--max-age", "1h30m"], "TIME_STALE"),
        (Some(-2), &["--max-age", "2.5h"], ""),
        (Some(1), &[], "TIME_FUTURE"),
        (None, &[], "TIME_MISSING"),
    ] {
        let bed = BundleBed::bare().await;
        let signed = bed.payload(&bed.image, hours.map(hours_from_now));
        let signature = bed.key.sign(&signed).unwrap();
        bed.put_signature(&bed.image, signed, signature).await;
        let done = bed.verify(&[&["--output", "json"], more].concat()).await;
        assert_code(&done, if class.is_empty() { 0 } else { 3 });
        assert_eq!(steps(&report(&done)).1.unwrap_or_default(), class, "{hours:?} {more:?}");
        if class == "TIME_FUTURE" {
            assert!(text(&done).contains("check this machine's clock"), "{}", text(&done));
        }

        let (reference, key) = (bed.reference(), bed.public_key());
        let mut off = program(&["verify", "--output", "json", "--image", &reference, "--pub", &key]);
        let off = off.env("AUTONOMY_TRUST_TIME", "false").output().await.unwrap();
        assert_code(&off, 0);
        let weakened = report(&off)["weakened"].to_string();
        assert!(weakened.contains("trust-time off"), "{weakened}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_could_not_be_asked_is_never_an_unsigned_image() {
    let tag = |bed: &BundleBed| signature_tag(&bed.image.digest).unwrap().to_string();
    let cases = [What::Status(500), What::Status(503), What::Status(403), What::ResetBefore, What::Html];
    each_at_once(cases, async |what| {
        let bed = BundleBed::honest().await;
        bed.bed.fault(Fault::always(Kind::ManifestGet, what.clone()).at(tag(&bed)));
        let done = bed.verify(&["--output", "json"]).await;
        assert_code(&done, 4);
        let report = report(&done);
        assert_eq!((&report["verified"], &report["error"]["class"]), (&false.into(), &"TRANSPORT".into()), "{what:?}");
        assert_eq!(report["digest"], bed.image.digest.to_string(), "what was resolved before is told");
        assert!(!text(&done).contains("SIG_NOT_FOUND"), "{what:?}: {}", text(&done));
        assert!(steps(&report).0.iter().all(|step| step.ends_with(":skipped")), "{report:#}");
    })
    .await;
    each_at_once([&[][..], &["--require-lock"]], async |more| {
        let bed = BundleBed::bare().await;
        bed.bed.fault(Fault::always(Kind::Referrers, What::Status(500)));
        let done = bed.verify(&[more, &["--output", "json"]].concat()).await;
        assert_code(&done, 4);
        let report = report(&done);
        assert_eq!(report["error"]["class"], "TRANSPORT");
        assert_eq!(report["digest"], bed.image.digest.to_string(), "{more:?}");
    })
    .await;
    let bed = BundleBed::bare().await;
    bed.bed.fault(Fault::always(Kind::ManifestGet, What::Status(500)));
    let done = bed.verify(&["--output", "json"]).await;
    assert_eq!(report(&done)["digest"], serde_json::Value::Null, "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_on_the_way_is_named_if_it_stays_and_survived_if_it_does_not() {
    let bed = BundleBed::honest().await;
    bed.bed.fault(Fault::next(Kind::BlobGet, What::FlipBit { at: 5 }));
    assert_code(&bed.verify(&[]).await, 0);
    bed.bed.fault(Fault::always(Kind::BlobGet, What::FlipBit { at: 5 }));
    let done = bed.verify(&["--output", "json"]).await;
    assert_code(&done, 3);
    assert_eq!(steps(&report(&done)).1.as_deref(), Some("BLOB_DIGEST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_before_the_first_step_is_reported_in_error() {
    let bed = BundleBed::honest().await;
    let (reference, key) = (bed.reference(), bed.public_key());
    let absent = format!("{}/robot:v9", bed.bed.host());
    let private = bed.file("text.pub");
    std::fs::write(&private, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    let private = private.to_str().unwrap();
    for (image, key, code, class) in [
        (absent.as_str(), key.as_str(), 4, "TRANSPORT"),
        (&reference, private, 2, "KEY_INVALID"),
        (&reference, "/nonexistent/cosign.pub", 2, "KEY_INVALID"),
        ("127.0.0.1:1/robot:v1", &key, 4, "TRANSPORT"),
    ] {
        let fixed = ["verify", "--output", "json", "--retry-for", "500ms"];
        let done = autonomy(&[&fixed[..], &["--image", image, "--pub", key]].concat()).await;
        assert_code(&done, code);
        let report = report(&done);
        assert_eq!(
            (&report["error"]["class"], &report["digest"]),
            (&class.into(), &serde_json::Value::Null),
            "{image}"
        );
        let keys: Vec<_> = report["error"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["class", "detail"]);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(told.contains("error: ") && told.contains("hint: "), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_refused_before_anybody_is_contacted() {
    let bed = BundleBed::honest().await;
    let (reference, key) = (bed.reference(), bed.public_key());
    let good = ["bundle", "verify", &reference, "--pub-key", &key];
    let cases: &[(&[&str], &str)] = &[
        (&[&good[..], &["--require-policy"]].concat(), "--require-lock"),
        (&good[..3], "--pub-key"),
        (&[&good[..], &["--max-age", "52w"]].concat(), "8760h"),
        (&[&good[..], &["--max-age", "-1h"]].concat(), "before nothing"),
        (&[&good[..], &["--rekor-key", "/nonexistent/rekor.pub"]].concat(), "use the key of --rekor-key"),
        (&["bundle", "verify", "robot:v1", "--pub-key", &key], "docker.io/library/robot"),
    ];
    for (arguments, says) in cases {
        let done = autonomy(arguments).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(says), "{arguments:?}: {}", text(&done));
    }
    let misspelt = program(&good).env("AUTONOMY_TRUST_TIME", "off").output().await.unwrap();
    assert_code(&misspelt, 2);
    assert_eq!(bed.bed.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_can_be_demanded() {
    let bed = BundleBed::honest().await;
    assert_code(&bed.verify(&["--match-identity"]).await, 0);

    let mirrored = BundleBed::bare().await;
    let signed = String::from_utf8(mirrored.payload(&mirrored.image, Some(Timestamp::now()))).unwrap();
    let signed = signed.replace(mirrored.bed.host(), "upstream.example").into_bytes();
    let signature = mirrored.key.sign(&signed).unwrap();
    mirrored.put_signature(&mirrored.image, signed, signature).await;
    assert_code(&mirrored.verify(&[]).await, 0);
    let done = mirrored.verify(&["--match-identity", "--output", "json"]).await;
    assert_code(&done, 3);
    assert_eq!(steps(&report(&done)).1.as_deref(), Some("SIG_IDENTITY_MISMATCH"));
}
