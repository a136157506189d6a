//! `autonomy bundle seal`, the whole program: its output verifies, and existing content stays intact.

use std::path::{Path, PathBuf};
use std::process::Output;

use autonomy_registry::document::lock::Lock;
use autonomy_registry::oci::{Digest, Manifest, MediaType, Name};
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::serve::{Profile, testkit};
use autonomy_registry::store::{Listing as _, Store as _, read_small};
use autonomy_registry::verify::{KeyScheme, SigningKey, signature_tag};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};

use crate::kit::bundle_bed::{BundleBed, report};
use crate::kit::command::{assert_code, autonomy, seal, text};

/// A bed whose key lies on disk, encrypted, with a policy's folder beside it.
struct Maker {
    bed: BundleBed,
    policy: PathBuf,
}

impl Maker {
    async fn new() -> Self {
        Self::over(BundleBed::bare().await)
    }

    fn over(bed: BundleBed) -> Self {
        let policy = bed.file("policy");
        std::fs::create_dir(&policy).unwrap();
        std::fs::write(policy.join("manifest.json"), r#"{"policy_bundle_version":"v1.4.2+build.7","name":"p"}"#)
            .unwrap();
        std::fs::write(policy.join("motion.rego"), "package motion\n").unwrap();
        std::fs::write(bed.file("cosign.key"), bed.key.to_encrypted_pem(b"secret").unwrap()).unwrap();
        Self { bed, policy }
    }

    async fn seal(&self, more: &[&str]) -> Output {
        seal(&self.bed.reference(), &self.bed.file("cosign.key"), "secret", more).await
    }

    async fn seal_all(&self, more: &[&str]) -> Output {
        self.seal(&[&["--policy", self.policy.to_str().unwrap()], more].concat()).await
    }

    async fn tagged(&self, tag: &str) -> Option<Digest> {
        let root = self.bed.store.resolve(&Name::Tag(tag.parse().unwrap())).await.ok()?;
        Some(root.digest)
    }

    /// The manifest under a tag.
    async fn manifest(&self, tag: &str) -> Manifest {
        let root = self.bed.store.fetch(&Name::Tag(tag.parse().unwrap())).await.unwrap();
        Manifest::parse(&root.bytes, &MediaType::OCI_MANIFEST).unwrap()
    }

    fn signature_tag(&self) -> String {
        signature_tag(&self.bed.image.digest).unwrap().to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_bundle_verifies_in_every_format() {
    for (format, count) in [("legacy", 3), ("bundle", 3), ("both", 6)] {
        let maker = Maker::new().await;
        let prompt = maker.bed.file("prompt.txt");
        std::fs::write(&prompt, "carry the tray").unwrap();
        let done =
            maker.seal_all(&["--format", format, "--prompt", prompt.to_str().unwrap(), "--output", "json"]).await;
        assert_code(&done, 0);
        let told = report(&done);
        assert_eq!(told["signatures"].as_array().unwrap().len(), count, "{told:#}");
        assert_eq!(
            (&told["verification"]["verified"], &told["policy_bundle_version"]),
            (&true.into(), &"1.4.2+build.7".into())
        );
        let (code, verified) = maker.bed.judged().await;
        assert_eq!(code, 0, "{format}: {verified:#}");
        let has_tag = maker.tagged(&maker.signature_tag()).await.is_some();
        assert_eq!(has_tag, format != "bundle", "{format}");
        assert!(!text(&done).contains("secret"));

        let layer = maker.manifest("v1-lock").await.layers.remove(0);
        let lock = Lock::parse(&read_small(&maker.bed.store, &layer, 1 << 20).await.unwrap()).unwrap();
        assert_eq!(lock.agent_artifact().reference, maker.bed.reference());
        assert_eq!(lock.policy_bundle().reference, format!("{}/robot-policy:1.4.2", maker.bed.bed.host()));
        assert_eq!(lock.inputs().prompt_hash, Digest::sha256(b"carry the tray").to_string());
        assert_eq!(lock.inputs().tool_inputs_hash, Digest::sha256(b"").to_string());
        assert_eq!(told["behavioral_fingerprint"], lock.fingerprint());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_registry_takes_a_bundle_in_every_format() {
    for behaviour in [Profile::distribution_2(), Profile::distribution_3(), Profile::zot()] {
        for format in ["legacy", "bundle"] {
            let bed = testkit::Testbed::with(behaviour.clone()).await;
            let maker = Maker::over(BundleBed::on(bed).await);
            assert_code(&maker.seal_all(&["--format", format]).await, 0);
            assert_eq!(maker.bed.judged().await.0, 0, "{format} {behaviour:?}");
        }
    }
}

/// One PKCS #8 key of each kind that `cosign import-key-pair` accepts and `bundle keygen` does not make.
fn imported_keys() -> Vec<(KeyScheme, Vec<u8>)> {
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap().to_pkcs8v1().unwrap();
    let p521 = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_ASN1_SIGNING).unwrap().to_pkcs8v1().unwrap();
    let ed25519 = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
    let rsa: Pkcs8V1Der<'_> = KeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
    vec![
        (KeyScheme::EcdsaP384, p384.as_ref().to_vec()),
        (KeyScheme::EcdsaP521, p521.as_ref().to_vec()),
        (KeyScheme::Ed25519, ed25519.as_ref().to_vec()),
        (KeyScheme::Rsa, rsa.as_ref().to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_imported_key_seals_in_either_format() {
    for (scheme, pkcs8) in imported_keys() {
        let mut bed = BundleBed::bare().await;
        bed.key = SigningKey::from_pkcs8(&pkcs8).unwrap();
        assert_eq!(bed.key.public_key().unwrap().scheme(), scheme);
        std::fs::write(bed.file("cosign.pub"), bed.key.public_pem().unwrap()).unwrap();
        let maker = Maker::over(bed);
        for format in ["legacy", "bundle"] {
            let other = BundleBed::bare().await;
            let done = seal(&other.reference(), &maker.bed.file("cosign.key"), "secret", &["--format", format]).await;
            assert_code(&done, 0);
            let trusted = maker.bed.public_key();
            assert_code(&autonomy(&["verify", "--image", &other.reference(), "--pub", &trusted]).await, 0);
            assert_code(&other.verify(&[]).await, 3);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_the_image_is_signed_alone() {
    let maker = Maker::new().await;
    let done = maker.seal(&["--output", "json"]).await;
    assert_code(&done, 0);
    let told = report(&done);
    assert_eq!((&told["lock"], &told["policy"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_code(&maker.bed.verify(&[]).await, 0);
    assert_eq!(maker.tagged("v1-lock").await, None);

    let pinned = format!("{}/robot@{}", maker.bed.bed.host(), maker.bed.image.digest);
    let key = maker.bed.file("cosign.key");
    assert_code(&seal(&pinned, &key, "secret", &[]).await, 0);
    let policy = seal(&pinned, &key, "secret", &["--policy", maker.policy.to_str().unwrap()]).await;
    assert_code(&policy, 2);
    assert!(text(&policy).contains("needs a tag"), "{}", text(&policy));
    let moved = format!("{}@{}", maker.bed.reference(), Digest::sha256(b"other"));
    assert_code(&seal(&moved, &key, "secret", &[]).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_of_others_stay() {
    let maker = Maker::new().await;
    let stranger = Maker::new().await;
    assert_code(&seal(&maker.bed.reference(), &stranger.bed.file("cosign.key"), "secret", &[]).await, 0);
    let before = maker.manifest(&maker.signature_tag()).await.layers;
    assert_code(&maker.seal_all(&[]).await, 0);
    let after = maker.manifest(&maker.signature_tag()).await.layers;
    assert_eq!((before.len(), after.len()), (1, 2));
    assert_eq!(after[0], before[0]);
    assert_code(&maker.bed.verify(&[]).await, 0);
    let theirs = stranger.bed.public_key();
    let done = autonomy(&["verify", "--image", &maker.bed.reference(), "--pub", &theirs]).await;
    assert_code(&done, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_content_under_the_signature_tag_is_not_overwritten() {
    let maker = Maker::new().await;
    ::testkit::images::tag(&maker.bed.store, &maker.bed.image, &maker.signature_tag()).await;
    let done = maker.seal(&[]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("keep the signatures"), "{}", text(&done));
    assert_eq!(maker.tagged(&maker.signature_tag()).await, Some(maker.bed.image.digest));

    let maker = Maker::new().await;
    assert_code(&maker.seal(&[]).await, 0);
    let before = maker.tagged(&maker.signature_tag()).await;
    maker.bed.bed.fault(Fault::always(Kind::ManifestGet, What::Status(500)).at(".sig"));
    assert_code(&maker.seal(&[]).await, 4);
    assert_eq!(
        maker.bed.bed.layout("robot").resolve(&Name::Tag(maker.signature_tag().parse().unwrap())).await.unwrap().digest,
        before.unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_again_with_another_policy_replaces_the_bundle() {
    let maker = Maker::new().await;
    assert_code(&maker.seal_all(&[]).await, 0);
    let before = (maker.tagged("v1-lock").await, maker.tagged("v1-policy").await);
    std::fs::write(maker.policy.join("motion.rego"), "package motion\n\ndefault allow := false\n").unwrap();
    assert_code(&maker.seal_all(&[]).await, 0);
    let after = (maker.tagged("v1-lock").await, maker.tagged("v1-policy").await);
    assert!(before.0 != after.0 && before.1 != after.1);
    assert_eq!(maker.bed.judged().await.0, 0);
    assert_eq!(maker.bed.store.referrers(&maker.bed.image.digest).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_breaks_off_leaves_tags_and_signature_as_they_were() {
    let maker = Maker::new().await;
    assert_code(&maker.seal_all(&[]).await, 0);
    let tags = ["v1", "v1-lock", "v1-policy"].map(str::to_owned).into_iter().chain([maker.signature_tag()]);
    let mut before = Vec::new();
    for tag in tags.clone() {
        before.push(maker.tagged(&tag).await);
    }
    std::fs::write(maker.policy.join("motion.rego"), "package other\n").unwrap();
    // The first signature of the new sidecars cannot be put.
    maker.bed.bed.fault(Fault::always(Kind::ManifestPut, What::Status(500)).at(".sig"));
    assert_code(&maker.seal_all(&[]).await, 4);
    let mut after = Vec::new();
    for tag in tags {
        after.push(maker.tagged(&tag).await);
    }
    assert_eq!(before, after);
    assert_eq!(maker.bed.judged().await.0, 0, "the former bundle is whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_passwords_and_policies_are_refused_before_anybody_is_contacted() {
    let maker = Maker::new().await;
    let (reference, key) = (maker.bed.reference(), maker.bed.file("cosign.key"));
    let public = PathBuf::from(maker.bed.public_key());
    let huge = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify-vectors/keys/keyA.huge-N.key");
    let empty = maker.bed.file("empty");
    std::fs::create_dir(&empty).unwrap();
    let empty = empty.to_str().unwrap().to_owned();
    let policy = maker.policy.to_str().unwrap().to_owned();
    maker.bed.bed.clear_log();
    let cases: [(&Path, &str, &[&str], &str); 8] = [
        (&key, "wrong", &[], "KEY_PASSWORD"),
        (&huge, "secret", &[], "KEY_KDF_PARAMS"),
        (&public, "secret", &[], "KEY_INVALID"),
        (Path::new("/nonexistent/cosign.key"), "secret", &[], "/nonexistent/cosign.key"),
        (&key, "secret", &["--policy", &empty], "no manifest.json"),
        (&key, "secret", &["--policy", "/nonexistent/policy"], "/nonexistent/policy"),
        (&key, "secret", &["--prompt", &empty], "--policy"),
        (&key, "secret", &["--policy", &policy, "--prompt", "/nonexistent/prompt"], "/nonexistent/prompt"),
    ];
    for (key, password, more, says) in cases {
        let done = seal(&reference, key, password, more).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(says), "{says}: {}", text(&done));
    }
    assert_eq!(maker.bed.bed.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_without_end_is_refused_with_its_name_and_what_is_read_at_most() {
    let maker = Maker::new().await;
    maker.bed.bed.clear_log();
    // With a content length, and without one.
    let sparse = maker.bed.file("prompt.txt");
    std::fs::File::create(&sparse).unwrap().set_len((4 << 20) + 1).unwrap();
    for flag in ["--prompt", "--tool-inputs"] {
        for path in [sparse.to_str().unwrap(), "/dev/zero"] {
            let done = maker.seal_all(&[flag, path]).await;
            assert_code(&done, 2);
            assert!(text(&done).contains(path) && text(&done).contains("4194304 bytes"), "{}", text(&done));
        }
    }
    assert_eq!(maker.bed.bed.requests(), 0);
    std::fs::File::options().write(true).open(&sparse).unwrap().set_len(4 << 20).unwrap();
    assert_code(&maker.seal_all(&["--prompt", sparse.to_str().unwrap()]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_outside_a_policy_are_left_out_and_named() {
    let maker = Maker::new().await;
    std::fs::write(maker.policy.join("README.md"), "read me").unwrap();
    std::fs::write(maker.policy.join(".hidden"), "x").unwrap();
    std::fs::create_dir(maker.policy.join("lib.rego")).unwrap();
    let done = maker.seal_all(&["--output", "json"]).await;
    assert_code(&done, 0);
    assert_eq!(report(&done)["left_out"], serde_json::json!(["README.md", "lib.rego"]));
    assert!(String::from_utf8_lossy(&done.stderr).contains("README.md is left out"), "{}", text(&done));
}
