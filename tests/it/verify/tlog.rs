//! Transparency logs, through the program: messages, refusals, and requests to the registry alone.

use autonomy_registry::oci::{Descriptor, MediaType};
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::verify::{SidecarKind, SigningKey};
use jiff::Timestamp;
use testkit::rekor::{self, Log, Made};

use crate::kit::bundle_bed::{BundleBed, Signed, report};
use crate::kit::command::{assert_code, seed, text};

/// A new log, whose key is in the bed's `rekor.pub`.
fn log_of(bed: &BundleBed) -> Log {
    let log = Log::new();
    std::fs::write(bed.file("rekor.pub"), log.key.public_pem().unwrap()).unwrap();
    log
}

/// A legacy signature of `node`, with the current time.
fn legacy(bed: &BundleBed, node: &Descriptor) -> Made {
    rekor::legacy(bed.payload(node, Some(Timestamp::now())), &bed.key)
}

/// Puts it, with this entry.
async fn put(bed: &BundleBed, made: &Made, entry: String) {
    rekor::put_legacy(&bed.store, &bed.image, &made.signed, &made.signature, entry).await;
}

/// A bed whose image has a legacy signature that a log has recorded.
async fn recorded() -> (BundleBed, Log) {
    let bed = BundleBed::bare().await;
    let log = log_of(&bed);
    let made = legacy(&bed, &bed.image);
    put(&bed, &made, log.annotation(&made.body)).await;
    (bed, log)
}

fn log_key(bed: &BundleBed) -> String {
    bed.file("rekor.pub").to_str().unwrap().to_owned()
}

fn detail(report: &serde_json::Value) -> (&str, &str) {
    let step = &report["steps"][0];
    (step["class"].as_str().unwrap_or_default(), step["detail"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_signature_is_told_with_its_entry_in_both_forms_of_output() {
    let (bed, log) = recorded().await;
    let key = log_key(&bed);
    bed.bed.clear_log();
    let done = bed.verify(&["--rekor-key", &key, "--require-tlog"]).await;
    assert_code(&done, 0);
    assert_eq!(bed.bed.requests(), 3, "image, signature, payload: the entry costs nothing");
    let told = format!("log entry 12345 of log {} at 2026-01-15T12:00:00Z)", &log.id().hex()[..12]);
    assert!(text(&done).contains(&told), "{}", text(&done));
    let done = bed.verify(&["--rekor-key", &key, "--output", "json"]).await;
    assert!(detail(&report(&done)).1.ends_with(&told), "{}", text(&done));

    let done = bed.verify(&["--output", "json"]).await;
    assert!(detail(&report(&done)).1.ends_with("(legacy, key only, no transparency log)"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_brings_its_entry_along() {
    let bed = BundleBed::bare().await;
    log_of(&bed).put_bundle(&bed.store, &bed.image, &bed.key).await;
    let key = log_key(&bed);
    let done = bed.verify(&["--rekor-key", &key, "--require-tlog"]).await;
    assert_code(&done, 0);
    assert!(text(&done).contains("(bundle, log entry 12345 of log "), "{}", text(&done));
    // Without the log's key the entry is not checked.
    assert_code(&bed.verify(&[]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_does_not_hold_is_refused_even_if_none_is_demanded() {
    let (bed, _) = recorded().await;
    let other = bed.file("other.pub");
    std::fs::write(&other, SigningKey::generate().unwrap().public_pem().unwrap()).unwrap();
    let other = other.to_str().unwrap();
    let done = bed.verify(&["--rekor-key", other, "--output", "json"]).await;
    assert_code(&done, 3);
    let report_of = report(&done);
    assert_eq!(detail(&report_of).0, "TLOG_REQUIRED");
    assert!(detail(&report_of).1.contains("not a trusted one"), "{report_of:#}");
    assert!(text(&done).contains("is --rekor-key the key of the log"), "{}", text(&done));
    assert_code(&bed.verify(&["--rekor-key", other, "--rekor-key", &log_key(&bed)]).await, 0);
    assert_code(&bed.verify(&[]).await, 0);

    // An entry of the same log and key about another payload, which a hostile registry can obtain.
    let (bed, log) = recorded().await;
    let stray = legacy(&bed, &Descriptor::of(MediaType::OCI_MANIFEST, b"another image"));
    let made = legacy(&bed, &bed.image);
    put(&bed, &made, log.annotation(&stray.body)).await;
    let done = bed.verify(&["--rekor-key", &log_key(&bed), "--output", "json"]).await;
    assert_code(&done, 3);
    assert_eq!(detail(&report(&done)).0, "TLOG_REQUIRED");

    put(&bed, &made, "{}".to_owned()).await;
    let done = bed.verify(&["--rekor-key", &log_key(&bed), "--output", "json"]).await;
    assert_code(&done, 3);
    assert_eq!(detail(&report(&done)).0, "SIG_FORMAT");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_is_a_failure_only_where_one_is_demanded_and_then_for_every_signature() {
    let bed = BundleBed::honest().await;
    log_of(&bed);
    let key = log_key(&bed);
    let done = bed.verify(&["--rekor-key", &key, "--output", "json"]).await;
    assert_code(&done, 0);
    assert!(detail(&report(&done)).1.ends_with("(legacy, key only, no log entry)"), "{}", text(&done));
    for more in [&["--require-tlog"][..], &["--require-tlog", "--rekor-key", &key]] {
        let done = bed.verify(&[more, &["--output", "json"]].concat()).await;
        assert_code(&done, 3);
        assert_eq!(detail(&report(&done)).0, "TLOG_REQUIRED", "{more:?}");
    }

    // The image's signature is recorded, the lock's is not.
    let (bed, _) = recorded().await;
    let lock = bed.lock(&crate::kit::bundle_bed::policy_bundle(crate::kit::bundle_bed::VERSION)).to_bytes();
    bed.sidecar(SidecarKind::Lock, &lock, Signed::Yes).await;
    let key = log_key(&bed);
    let done = bed.verify(&["--rekor-key", &key, "--require-tlog", "--require-lock", "--output", "json"]).await;
    assert_code(&done, 3);
    let report = report(&done);
    assert_eq!(detail(&report).0, "TLOG_REQUIRED");
    assert!(detail(&report).1.starts_with("lock: "), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_lacks_an_entry_does_not_borrow_that_of_another() {
    let (bed, log) = recorded().await;
    // The same payload, signed again: the entry is of the first signature, but is attached to the second.
    let first = legacy(&bed, &bed.image);
    let second = rekor::legacy(first.signed.clone(), &bed.key);
    assert_ne!(first.signature, second.signature);
    put(&bed, &second, log.annotation(&first.body)).await;
    let done = bed.verify(&["--rekor-key", &log_key(&bed), "--output", "json"]).await;
    assert_code(&done, 3);
    assert!(detail(&report(&done)).1.contains("is about another signature"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_carries_the_entry_and_demands_it_on_both_sides() {
    let (bed, _) = recorded().await;
    let sink = Testbed::start().await;
    let (from, to) = (bed.reference(), format!("{}/robot:v1", sink.host()));
    let (out, key, log) = (bed.file("out"), bed.public_key(), log_key(&bed));
    let demanded = ["--pub-key", &key, "--rekor-key", &log, "--require-tlog"];
    assert_code(&seed(&from, &to, &out, &demanded).await, 0);
    let done =
        crate::kit::command::autonomy(&["bundle", "verify", &to, "--pub-key", &key, demanded[2], &log, demanded[4]])
            .await;
    assert_code(&done, 0);

    let bare = BundleBed::honest().await;
    let (out, key) = (bare.file("out"), bare.public_key());
    let sink = Testbed::start().await;
    let to = format!("{}/robot:v1", sink.host());
    let demanded = ["--pub-key", &key, "--rekor-key", &log, "--require-tlog"];
    let done = seed(&bare.reference(), &to, &out, &demanded).await;
    assert_code(&done, 3);
    assert!(text(&done).contains("TLOG_REQUIRED"), "{}", text(&done));
    assert_eq!(sink.requests(), 1, "no more than where its tag stands is asked of the destination");

    let done = seed(&bare.reference(), &to, &out, &["--skip-verify", "--require-tlog"]).await;
    assert_code(&done, 2);
}
