//! Transparency logs, through the program: what is told, what is refused, and that nobody but the registry is asked.

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::store::{Body, Store};
use autonomy_registry::verify::attach;
use autonomy_registry::verify::{SidecarKind, SigningKey, bundle, payload, signature_tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;

use crate::bundle_bed::{BundleBed, Signed, report};
use crate::seed::{assert_code, seed, text};

const INTEGRATED: u64 = 1_768_478_400;

/// A log of the test's own.
struct Log {
    key: SigningKey,
}

impl Log {
    /// A new log, whose key stands in the bed's `rekor.pub`.
    fn of(bed: &BundleBed) -> Self {
        let key = SigningKey::generate().unwrap();
        std::fs::write(bed.file("rekor.pub"), key.public_pem().unwrap()).unwrap();
        Self { key }
    }

    fn id(&self) -> Digest {
        Digest::sha256(self.key.public_key().unwrap().spki())
    }

    fn promise(&self, body: &str) -> String {
        let (body, log) = (STANDARD.encode(body), self.id().hex());
        let text = format!(r#"{{"body":"{body}","integratedTime":{INTEGRATED},"logID":"{log}","logIndex":12345}}"#);
        STANDARD.encode(self.key.sign(text.as_bytes()).unwrap())
    }

    fn annotation(&self, body: &str) -> String {
        let log = self.id().hex();
        let payload =
            json!({"body": STANDARD.encode(body), "integratedTime": INTEGRATED, "logIndex": 12345, "logID": log});
        json!({"SignedEntryTimestamp": self.promise(body), "Payload": payload}).to_string()
    }

    /// The only entry of a tree.
    fn entry(&self, body: &str) -> serde_json::Value {
        let leaf = Digest::sha256(&[&[0], body.as_bytes()].concat());
        let root = STANDARD.encode(leaf.as_bytes());
        let tree = format!("log.example - 7\n1\n{root}\n");
        let signature = [&self.id().as_bytes()[..4], &self.key.sign(tree.as_bytes()).unwrap()].concat();
        let checkpoint = format!("{tree}\n\u{2014} log.example {}\n", STANDARD.encode(signature));
        json!({
            "logIndex": "12345",
            "logId": {"keyId": STANDARD.encode(self.id().as_bytes())},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": INTEGRATED.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": self.promise(body)},
            "inclusionProof": {
                "logIndex": "0", "rootHash": root, "treeSize": "1", "hashes": [], "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": STANDARD.encode(body),
        })
    }
}

/// A payload about `node`, its signature of now, and how a log records it.
fn legacy(bed: &BundleBed, node: &Descriptor) -> (Vec<u8>, Vec<u8>, String) {
    let signed = bed.payload(node, Some(Timestamp::now()));
    let signature = bed.key.sign(&signed).unwrap();
    let hash = json!({"algorithm": "sha256", "value": Digest::sha256(&signed).hex()});
    let key = json!({"content": STANDARD.encode(bed.key.public_pem().unwrap())});
    let recorded = json!({"content": STANDARD.encode(&signature), "publicKey": key});
    let spec = json!({"data": {"hash": hash}, "signature": recorded});
    let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec}).to_string();
    (signed, signature, body)
}

/// Puts a legacy signature of `node` with a log entry.
async fn put_legacy(bed: &BundleBed, node: &Descriptor, signed: Vec<u8>, signature: &[u8], entry: String) {
    let mut layer = Descriptor::of(MediaType::new(payload::MEDIA_TYPE), &signed);
    bed.store.put(&layer, &Body::bytes(layer.clone(), signed), &[]).await.unwrap();
    layer.annotations.insert(payload::SIGNATURE.to_owned(), STANDARD.encode(signature));
    layer.annotations.insert("dev.sigstore.cosign/bundle".to_owned(), entry);
    let tag = signature_tag(&node.digest).unwrap();
    bed.put(&attach::legacy_manifest(&[layer], &[]), &[tag.as_str()]).await;
}

/// A bed whose image has a legacy signature that a log has recorded.
async fn recorded() -> (BundleBed, Log) {
    let bed = BundleBed::bare().await;
    let log = Log::of(&bed);
    let (signed, signature, body) = legacy(&bed, &bed.image);
    put_legacy(&bed, &bed.image, signed, &signature, log.annotation(&body)).await;
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
    let log = Log::of(&bed);
    let statement = bundle::statement(&bed.image.digest, Some(Timestamp::now()));
    let signature = bed.key.sign(&bundle::pae(&statement)).unwrap();
    let hash = |content: &[u8]| json!({"algorithm": "sha256", "value": Digest::sha256(content).hex()});
    let verifier = STANDARD.encode(bed.key.public_pem().unwrap());
    let signatures = json!([{"signature": STANDARD.encode(&signature), "verifier": verifier}]);
    let spec = json!({"envelopeHash": hash(b""), "payloadHash": hash(&statement), "signatures": signatures});
    let body = json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}).to_string();
    let mut bundle: serde_json::Value =
        serde_json::from_slice(&bundle::build(&bed.key.public_key().unwrap(), &statement, &signature)).unwrap();
    bundle["verificationMaterial"]["tlogEntries"] = json!([log.entry(&body)]);
    let bundle = attach::bundle_manifest(&bed.image, bundle.to_string().as_bytes(), Timestamp::now());
    bed.put(&bundle, &[]).await;

    let key = log_key(&bed);
    let done = bed.verify(&["--rekor-key", &key, "--require-tlog"]).await;
    assert_code(&done, 0);
    assert!(text(&done).contains("(bundle, log entry 12345 of log "), "{}", text(&done));
    // Without the log's key nobody looks at it.
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

    // An entry of the same log, of the same key, about another payload: what a hostile registry has at hand.
    let (bed, log) = recorded().await;
    let (_, _, stray) = legacy(&bed, &Descriptor::of(MediaType::OCI_MANIFEST, b"another image"));
    let (signed, signature, _) = legacy(&bed, &bed.image);
    put_legacy(&bed, &bed.image, signed.clone(), &signature, log.annotation(&stray)).await;
    let done = bed.verify(&["--rekor-key", &log_key(&bed), "--output", "json"]).await;
    assert_code(&done, 3);
    assert_eq!(detail(&report(&done)).0, "TLOG_REQUIRED");

    put_legacy(&bed, &bed.image, signed, &signature, "{}".to_owned()).await;
    let done = bed.verify(&["--rekor-key", &log_key(&bed), "--output", "json"]).await;
    assert_code(&done, 3);
    assert_eq!(detail(&report(&done)).0, "SIG_FORMAT");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_is_a_failure_only_where_one_is_demanded_and_then_for_every_signature() {
    let bed = BundleBed::honest().await;
    Log::of(&bed);
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
    let lock = bed.lock(&crate::bundle_bed::policy_bundle(crate::bundle_bed::VERSION)).to_bytes();
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
    // The same payload, signed again: the entry is of the first signature, and hangs on the second.
    let (signed, signature, body) = legacy(&bed, &bed.image);
    let again = bed.key.sign(&signed).unwrap();
    assert_ne!(again, signature);
    put_legacy(&bed, &bed.image, signed, &again, log.annotation(&body)).await;
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
        crate::seed::autonomy(&["bundle", "verify", &to, "--pub-key", &key, demanded[2], &log, demanded[4]]).await;
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
