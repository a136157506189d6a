//! `registry seed --pub-key`: images are tagged only after verification, whatever either registry does.

use std::path::PathBuf;
use std::process::Output;

use autonomy_registry::oci::{Descriptor, Name};
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::Store;
use autonomy_registry::trust::artifact::Attachment;
use autonomy_registry::trust::{artifact, sigstore_bundle, simple_signing};
use autonomy_registry::verify::{SigningKey, signature_tag};
use jiff::{SignedDuration, Timestamp};
use testkit::images;

use crate::kit::command::{assert_code, publisher, seed, text};

/// The cosign format of an image's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Legacy,
    Bundle,
}

/// Two registries, an image in the first, and a key.
struct Field {
    source: Testbed,
    sink: Testbed,
    root: Descriptor,
    key: SigningKey,
    home: tempfile::TempDir,
}

impl Field {
    async fn unsigned() -> Self {
        let (source, sink) = (Testbed::start().await, Testbed::start().await);
        let root = images::two_platforms(&publisher(&source, "app"), 1, &[1000, 2000, 3000]).await;
        images::tag(&publisher(&source, "app"), &root, "v1").await;
        source.clear_log();
        let home = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        std::fs::write(home.path().join("cosign.pub"), key.public_pem().unwrap()).unwrap();
        Self { source, sink, root, key, home }
    }

    async fn signed(format: Format, age: SignedDuration) -> Self {
        let field = Self::unsigned().await;
        field.sign(format, Timestamp::now() - age).await;
        field.source.clear_log();
        field
    }

    async fn sign(&self, format: Format, at: Timestamp) {
        let repository = self.source.repository("app");
        let digest = &self.root.digest;
        let (attachment, tag) = match format {
            Format::Legacy => {
                let signed = simple_signing::legacy(&repository, digest, Some(at));
                let signature = self.key.sign(&signed).unwrap();
                (artifact::legacy_manifest(&[], &[(signed, signature)]), signature_tag(digest))
            }
            Format::Bundle => {
                let statement = sigstore_bundle::statement(digest, Some(at));
                let signature = self.key.sign(&sigstore_bundle::pae(&statement)).unwrap();
                let bundle = sigstore_bundle::build(&self.key.public_key().unwrap(), &statement, &signature);
                (artifact::bundle_manifest(&self.root, &bundle, at), None)
            }
        };
        let store = publisher(&self.source, "app");
        let Attachment { node, manifest, blobs } = attachment;
        for (blob, bytes) in blobs {
            images::put(&store, blob.media_type, bytes).await;
        }
        images::put(&store, node.media_type.clone(), manifest).await;
        if let Some(tag) = tag {
            images::tag(&store, &node, tag.as_str()).await;
        }
    }

    fn out(&self) -> PathBuf {
        self.home.path().join("out")
    }

    async fn seed(&self) -> Output {
        self.seed_with("cosign.pub").await
    }

    async fn seed_with(&self, key: &str) -> Output {
        self.seed_and(key, &[]).await
    }

    async fn seed_and(&self, key: &str, more: &[&str]) -> Output {
        let key = self.home.path().join(key);
        let (from, to) = (format!("{}/app:v1", self.source.host()), format!("{}/app:v1", self.sink.host()));
        seed(&from, &to, &self.out(), &[&["--pub-key", key.to_str().unwrap()], more].concat()).await
    }

    async fn is_tagged(&self) -> bool {
        let name = Name::Tag("v1".parse().unwrap());
        self.sink.layout("app").resolve(&name).await.is_ok()
    }

    /// Refused with this exit code and these words; neither the tag nor any file is there.
    #[track_caller]
    fn refused(&self, done: &Output, code: i32, says: &[&str], is_tagged: bool) {
        assert_code(done, code);
        for words in says {
            assert!(text(done).contains(words), "{words:?} in {}", text(done));
        }
        assert!(!is_tagged, "the tag is there");
        assert!(!self.out().exists(), "something was written");
    }
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn verification_costs_the_requests_that_the_readme_tells() {
    // On top of 11 and 20. Legacy, at the source: manifest, payload and configuration of the signature. At the
    // destination: two blobs and a manifest put (5), root, manifest and payload read back (3), and the tag. Bundle, at
    // the source: no `.sig` tag, the list, manifest and content. At the destination: two blobs and a manifest put (5),
    // root and those four read back, and the tag.
    //
    // All accessories, on top of that at the source: the tag list, and the referrers of index, children and signature (for
    // a bundle, verification already read the index's).
    //
    // At the destination cosign's tag is read when the copy is planned, and right before it is put: signatures that are
    // there already, or that another client puts meanwhile, are kept. Verification's own reads prove that ours is there.
    // The image's own tag is read right before it is put, in case another client has put it meanwhile.
    const NONE: &str = "none";
    for (accessories, format, fresh, again) in [
        (NONE, Format::Legacy, (14, 29 + 2 + 1), (3, 5)),
        (NONE, Format::Bundle, (15, 31 + 1), (5, 7)),
        ("all", Format::Legacy, (14 + 5, 29 + 2 + 1), (3 + 5, 5)),
        ("all", Format::Bundle, (15 + 4, 31 + 1), (5 + 4, 7)),
    ] {
        let field = Field::signed(format, MINUTE).await;
        let all = ["--accessories", accessories];
        let done = field.seed_and("cosign.pub", &all).await;
        assert_code(&done, 0);
        assert!(field.is_tagged().await);
        assert_eq!((field.source.requests(), field.sink.requests()), fresh, "{format:?} fresh {:#?}", field.sink.log());
        field.source.clear_log();
        field.sink.clear_log();
        assert_code(&field.seed_and("cosign.pub", &all).await, 0);
        let log = (field.source.log(), field.sink.log());
        assert_eq!((field.source.requests(), field.sink.requests()), again, "{format:?} {log:#?}");
        let record = std::fs::read_to_string(field.out().join("seed-manifest.json")).unwrap();
        assert!(record.contains("\"verified\": true") && record.contains("cosign.pub"), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_signature_never_starts_to_move() {
    let field = Field::unsigned().await;
    let done = field.seed().await;
    field.refused(&done, 3, &["source verification failed (fail-closed)", "SIG_NOT_FOUND"], field.is_tagged().await);
    assert_eq!(field.source.count(Kind::BlobGet), 0, "no blob was read");
    assert_eq!(field.sink.requests(), 1, "the destination was only asked for its tag");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_by_another_key_too_old_or_from_the_future_is_refused() {
    let field = Field::signed(Format::Legacy, MINUTE).await;
    let other = SigningKey::generate().unwrap().public_pem().unwrap();
    std::fs::write(field.home.path().join("other.pub"), other).unwrap();
    let done = field.seed_with("other.pub").await;
    field.refused(&done, 3, &["SIG_NO_MATCH"], field.is_tagged().await);
    for (age, class) in [(SignedDuration::from_hours(8761), "TIME_STALE"), (-MINUTE * 10, "TIME_FUTURE")] {
        for format in [Format::Legacy, Format::Bundle] {
            let field = Field::signed(format, age).await;
            field.refused(&field.seed().await, 3, &[class], field.is_tagged().await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_being_able_to_ask_is_never_not_signed() {
    for (on, path, what) in [
        (Kind::ManifestGet, ".sig", What::Status(500)),
        (Kind::ManifestGet, ".sig", What::Status(403)),
        (Kind::ManifestGet, ".sig", What::ResetBefore),
        (Kind::Referrers, "", What::Status(503)),
        (Kind::Referrers, "", What::Status(403)),
    ] {
        let field = Field::unsigned().await;
        field.source.fault(Fault::always(on, what.clone()).at(path));
        let done = field.seed().await;
        field.refused(&done, 4, &["source verification failed (fail-closed)"], field.is_tagged().await);
        assert!(!text(&done).contains("SIG_NOT_FOUND"), "{what:?}: {}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_serves_other_bytes_never_gets_its_tag() {
    // Faults in the root, and in the signature.
    for (path, what) in [
        ("sha256:", What::FlipBit { at: 40 }),
        ("sha256:", What::Replace("{}".into())),
        ("sha256:", What::Status(404)),
        (".sig", What::Status(404)),
        (".sig", What::Truncate { to: 10 }),
    ] {
        let field = Field::signed(Format::Legacy, MINUTE).await;
        field.sink.fault(Fault::always(Kind::ManifestGet, what.clone()).at(path));
        let done = field.seed().await;
        assert!([3, 4].contains(&done.status.code().unwrap()), "{what:?}: {}", text(&done));
        assert!(text(&done).contains("destination verification failed (fail-closed)"), "{what:?}: {}", text(&done));
        assert!(!field.is_tagged().await && !field.out().exists(), "{path} {what:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_after_it_was_resolved_changes_nothing() {
    let field = Field::signed(Format::Legacy, MINUTE).await;
    // Every answer after the first one by tag is late enough for the tag to move; by then all requests are by digest.
    field.source.fault(Fault::next(Kind::BlobGet, What::Delay(std::time::Duration::from_millis(300))));
    let moving = async {
        while field.source.count(Kind::BlobGet) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let other = images::two_platforms(&publisher(&field.source, "app"), 2, &[10]).await;
        images::tag(&publisher(&field.source, "app"), &other, "v1").await;
    };
    let (done, ()) = tokio::join!(field.seed(), moving);
    assert_code(&done, 0);
    let arrived = field.sink.layout("app").resolve(&Name::Tag("v1".parse().unwrap())).await.unwrap();
    assert_eq!(arrived.digest, field.root.digest);
}
