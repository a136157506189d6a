//! `registry seed --pub-key`: images are tagged only after verification, whatever either registry does.

use std::process::Output;

use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::trust::artifact::Attachment;
use autonomy_registry::trust::{artifact, sigstore_bundle, simple_signing};
use autonomy_registry::verify::{SigningKey, signature_tag};
use jiff::{SignedDuration, Timestamp};
use testkit::images;
use testkit::images::shape;

use crate::kit::command::{assert_code, each_at_once, publisher, text};
use crate::kit::route::Route;

/// The cosign format of an image's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Legacy,
    Bundle,
}

/// The way of an image, and the key of its publisher.
struct Release {
    route: Route,
    key: SigningKey,
}

impl Release {
    async fn unsigned() -> Self {
        let route = Route::new(shape::two_platforms(1, &[1000, 2000, 3000]), Profile::default()).await;
        let key = SigningKey::generate().unwrap();
        std::fs::write(route.path("cosign.pub"), key.public_pem().unwrap()).unwrap();
        Self { route, key }
    }

    async fn signed(format: Format, age: SignedDuration) -> Self {
        let release = Self::unsigned().await;
        release.sign(format, Timestamp::now() - age).await;
        release.route.source.clear_log();
        release
    }

    async fn sign(&self, format: Format, at: Timestamp) {
        let repository = self.route.source.repository("app");
        let digest = &self.route.root.digest;
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
                (artifact::bundle_manifest(&self.route.root, &bundle, at), None)
            }
        };
        let store = publisher(&self.route.source, "app");
        let Attachment { node, manifest, blobs } = attachment;
        for (blob, bytes) in blobs {
            images::put(&store, blob.media_type, bytes).await;
        }
        images::put(&store, node.media_type.clone(), manifest).await;
        if let Some(tag) = tag {
            images::tag(&store, &node, tag.as_str()).await;
        }
    }

    async fn seed(&self) -> Output {
        self.seed_with("cosign.pub").await
    }

    async fn seed_with(&self, key: &str) -> Output {
        self.seed_and(key, &[]).await
    }

    async fn seed_and(&self, key: &str, more: &[&str]) -> Output {
        self.route.seed(&[&["--pub-key", &self.route.path(key)], more].concat()).await
    }

    async fn is_tagged(&self) -> bool {
        self.route.tagged().await.is_some()
    }

    /// Refused with this exit code and these words; neither the tag nor any file is there.
    #[track_caller]
    fn refused(&self, done: &Output, code: i32, says: &[&str], is_tagged: bool) {
        assert_code(done, code);
        for words in says {
            assert!(text(done).contains(words), "{words:?} in {}", text(done));
        }
        assert!(!is_tagged, "the tag is there");
        assert!(!self.route.out().exists(), "something was written");
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
        let release = Release::signed(format, MINUTE).await;
        let all = ["--accessories", accessories];
        let done = release.seed_and("cosign.pub", &all).await;
        assert_code(&done, 0);
        assert!(release.is_tagged().await);
        assert_eq!(release.route.requests(), fresh, "{format:?} fresh {:#?}", release.route.sink.log());
        release.route.clear_logs();
        assert_code(&release.seed_and("cosign.pub", &all).await, 0);
        let log = (release.route.source.log(), release.route.sink.log());
        assert_eq!(release.route.requests(), again, "{format:?} {log:#?}");
        let record = std::fs::read_to_string(release.route.out().join("seed-manifest.json")).unwrap();
        assert!(record.contains("\"verified\": true") && record.contains("cosign.pub"), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_signature_never_starts_to_move() {
    let release = Release::unsigned().await;
    let done = release.seed().await;
    release.refused(
        &done,
        3,
        &["source verification failed (fail-closed)", "SIG_NOT_FOUND"],
        release.is_tagged().await,
    );
    assert_eq!(release.route.source.count(Kind::BlobGet), 0, "no blob was read");
    assert_eq!(release.route.sink.requests(), 1, "the destination was only asked for its tag");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_by_another_key_too_old_or_from_the_future_is_refused() {
    let release = Release::signed(Format::Legacy, MINUTE).await;
    let other = SigningKey::generate().unwrap().public_pem().unwrap();
    std::fs::write(release.route.path("other.pub"), other).unwrap();
    let done = release.seed_with("other.pub").await;
    release.refused(&done, 3, &["SIG_NO_MATCH"], release.is_tagged().await);
    for (age, class) in [(SignedDuration::from_hours(8761), "TIME_STALE"), (-MINUTE * 10, "TIME_FUTURE")] {
        for format in [Format::Legacy, Format::Bundle] {
            let release = Release::signed(format, age).await;
            release.refused(&release.seed().await, 3, &[class], release.is_tagged().await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_being_able_to_ask_is_never_not_signed() {
    let cases = [
        (Kind::ManifestGet, ".sig", What::Status(500)),
        (Kind::ManifestGet, ".sig", What::Status(403)),
        (Kind::ManifestGet, ".sig", What::ResetBefore),
        (Kind::Referrers, "", What::Status(503)),
        (Kind::Referrers, "", What::Status(403)),
    ];
    each_at_once(cases, async |(on, path, what)| {
        let release = Release::unsigned().await;
        release.route.source.fault(Fault::always(on, what.clone()).at(path));
        let done = release.seed().await;
        release.refused(&done, 4, &["source verification failed (fail-closed)"], release.is_tagged().await);
        assert!(!text(&done).contains("SIG_NOT_FOUND"), "{what:?}: {}", text(&done));
    })
    .await;
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
        let release = Release::signed(Format::Legacy, MINUTE).await;
        release.route.sink.fault(Fault::always(Kind::ManifestGet, what.clone()).at(path));
        let done = release.seed().await;
        assert!([3, 4].contains(&done.status.code().unwrap()), "{what:?}: {}", text(&done));
        assert!(text(&done).contains("destination verification failed (fail-closed)"), "{what:?}: {}", text(&done));
        assert!(!release.is_tagged().await && !release.route.out().exists(), "{path} {what:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_after_it_was_resolved_changes_nothing() {
    let release = Release::signed(Format::Legacy, MINUTE).await;
    // Every answer after the first one by tag is late enough for the tag to move; by then all requests are by digest.
    release.route.source.fault(Fault::next(Kind::BlobGet, What::Delay(std::time::Duration::from_millis(300))));
    let moving = async {
        while release.route.source.count(Kind::BlobGet) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let other = images::two_platforms(&publisher(&release.route.source, "app"), 2, &[10]).await;
        images::tag(&publisher(&release.route.source, "app"), &other, "v1").await;
    };
    let (done, ()) = tokio::join!(release.seed(), moving);
    assert_code(&done, 0);
    assert_eq!(release.route.tagged().await.unwrap(), release.route.root.digest);
}
