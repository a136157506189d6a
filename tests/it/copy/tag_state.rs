//! The content of a registry decides, not its answers: unusual statuses, lost answers, contradicting answers about a tag,
//! and tags that another client moves during a seed.

use std::process::Output;

use autonomy_registry::oci::{Descriptor, Name};
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::{Store as _, read_manifest};
use testkit::images;

use crate::kit::bundle_bed::BundleBed;
use crate::kit::command::{assert_code, each_at_once, publisher, seed, text};

/// A signed bundle at a source, and a destination.
struct Scene {
    source: BundleBed,
    sink: Testbed,
}

const BARE: [&str; 3] = ["--skip-verify", "--accessories", "none"];

impl Scene {
    async fn new() -> Self {
        Self { source: BundleBed::honest().await, sink: Testbed::start().await }
    }

    async fn seed(&self, more: &[&str]) -> Output {
        let to = format!("{}/site/robot:v1", self.sink.host());
        seed(&self.source.reference(), &to, &self.source.file("out"), more).await
    }

    async fn seed_bare(&self) -> Output {
        self.seed(&BARE).await
    }

    async fn seed_verified(&self, more: &[&str]) -> Output {
        self.seed(&[&["--pub-key", &self.source.public_key()], more].concat()).await
    }

    /// The root of the destination's tag, read from its folder.
    async fn named(&self) -> Option<String> {
        let name = Name::Tag("v1".parse().unwrap());
        let root = self.sink.layout("site/robot").resolve(&name).await.ok()?;
        Some(root.digest.to_string())
    }

    fn image(&self) -> String {
        self.source.image.digest.to_string()
    }

    /// Puts another image at the destination, under `tag`.
    async fn put_at_sink(&self, seed: u64, tag: &str) -> Descriptor {
        let store = publisher(&self.sink, "site/robot");
        let other = images::two_platforms(&store, seed, &[700]).await;
        images::tag(&store, &other, tag).await;
        other
    }

    /// Moves the tag while the next upload is in flight, which is delayed.
    async fn moved_meanwhile(&self, rival: &Descriptor, arguments: &[&str]) -> Output {
        self.sink.fault(Fault::next(Kind::UploadPost, What::Delay(std::time::Duration::from_millis(400))));
        let rivals = async {
            while self.sink.count(Kind::UploadPost) == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let layout = self.sink.layout("site/robot");
            images::tag(&layout, rival, "v1").await;
        };
        tokio::join!(self.seed(arguments), rivals).0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_success_is_one_if_the_manifest_or_the_blob_is_there() {
    for keeps_headers in [true, false] {
        for (on, status) in [
            (Kind::ManifestPut, 200),
            (Kind::ManifestPut, 202),
            (Kind::ManifestPut, 204),
            (Kind::UploadPut, 200),
            (Kind::UploadPut, 202),
            (Kind::UploadPut, 204),
        ] {
            let scene = Scene::new().await;
            scene.sink.fault(Fault::always(on, What::StatusAfter { status, keeps_headers }));
            assert_code(&scene.seed_bare().await, 0);
            assert_eq!(scene.named().await, Some(scene.image()), "{on:?} {status} {keeps_headers}");
            let asked = scene.sink.count(Kind::ManifestHead) + scene.sink.count(Kind::BlobHead) - 1;
            assert_eq!(asked > 0, !keeps_headers, "only what names nothing is asked about: {on:?} {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_begun_wherever_a_success_says_so() {
    for status in [200, 204] {
        let scene = Scene::new().await;
        scene.sink.fault(Fault::always(Kind::UploadPost, What::StatusAfter { status, keeps_headers: true }));
        assert_code(&scene.seed_bare().await, 0);
        assert_eq!(scene.named().await, Some(scene.image()), "{status}");
        assert_eq!(scene.sink.count(Kind::BlobHead), 0, "{status}: no second question");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_of_whoever_stores_nothing_is_none() {
    let cases = [
        (Kind::ManifestPut, What::Status(202)),
        (Kind::ManifestPut, What::Status(204)),
        (Kind::ManifestPut, What::Html),
        (Kind::UploadPut, What::Status(202)),
        (Kind::UploadPut, What::Html),
    ];
    each_at_once(cases, async |(on, what)| {
        let scene = Scene::new().await;
        scene.sink.fault(Fault::always(on, what.clone()));
        assert_code(&scene.seed_bare().await, 4);
        assert_eq!(scene.named().await, None, "{on:?} {what:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_cannot_be_put_twice_is_done_if_it_names_the_image() {
    for refusal in [400, 403, 409, 412] {
        for lost in [What::ResetAfter, What::StatusAfter { status: 504, keeps_headers: false }] {
            let scene = Scene::new().await;
            scene.sink.fault(Fault::next(Kind::ManifestPut, lost).at_the_end("/v1"));
            scene.sink.fault(Fault::always(Kind::ManifestPut, What::Status(refusal)).at_the_end("/v1").from_the(2));
            assert_code(&scene.seed_bare().await, 0);
            assert_eq!(scene.named().await, Some(scene.image()), "{refusal}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_right_is_never_put_again() {
    let scene = Scene::new().await;
    assert_code(&scene.seed_bare().await, 0);
    scene.sink.fault(Fault::always(Kind::ManifestPut, What::Status(400)).at_the_end("/v1"));
    scene.sink.clear_log();
    assert_code(&scene.seed(&["--skip-verify", "--accessories", "none", "--deep"]).await, 0);
    let is_tag_put = |path: &str| path.ends_with("/manifests/v1");
    let puts = scene.sink.log().into_iter().filter(|seen| seen.kind == Kind::ManifestPut && is_tag_put(&seen.path));
    assert_eq!(puts.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_names_another_image_and_cannot_move_ends_in_exit_4() {
    for refusal in [400, 403, 409, 412] {
        let scene = Scene::new().await;
        let other = scene.put_at_sink(7, "v1").await;
        scene.sink.fault(Fault::always(Kind::ManifestPut, What::Status(refusal)).at_the_end("/v1"));
        assert_code(&scene.seed_bare().await, 4);
        assert_eq!(scene.named().await, Some(other.digest.to_string()), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_says_two_things_is_never_reported_as_verified() {
    let scene = Scene::new().await;
    assert_code(&scene.seed_verified(&[]).await, 0);
    let other = scene.put_at_sink(7, "other").await;
    let bytes = read_manifest(&scene.sink.layout("site/robot"), &other).await.unwrap();
    scene.sink.clear_log();
    let again = scene.seed_verified(&[]).await;
    assert_code(&again, 0);
    let asked = scene.sink.requests();

    let media_type = "application/vnd.oci.image.index.v1+json";
    scene.sink.fault(Fault::always(Kind::ManifestGet, What::Serve { media_type, bytes }).at_the_end("/v1"));
    scene.sink.clear_log();
    let done = scene.seed_verified(&[]).await;
    assert_code(&done, 3);
    assert!(text(&done).contains("destination verification failed (fail-closed)"), "{}", text(&done));
    assert!(text(&done).contains(&other.digest.to_string()), "{}", text(&done));

    scene.sink.heal();
    scene.sink.clear_log();
    assert_code(&scene.seed_verified(&[]).await, 0);
    assert_eq!(scene.sink.requests(), asked, "no request more");
    let by_tag = scene.sink.log().into_iter().filter(|seen| seen.kind == Kind::ManifestGet);
    assert_eq!(by_tag.filter(|seen| seen.path.ends_with("/manifests/v1")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecars_tag_that_says_two_things_is_never_reported_as_verified() {
    let scene = Scene::new().await;
    assert_code(&scene.seed_verified(&["--copy-policy"]).await, 0);
    scene.sink.clear_log();
    assert_code(&scene.seed_verified(&["--copy-policy"]).await, 0);
    let asked = scene.sink.requests();
    let layout = scene.sink.layout("site/robot");
    let policy = layout.fetch(&Name::Tag("v1-policy".parse().unwrap())).await.unwrap();
    let (media_type, bytes) = ("application/vnd.oci.image.manifest.v1+json", policy.bytes);
    scene.sink.fault(Fault::always(Kind::ManifestGet, What::Serve { media_type, bytes }).at_the_end("/v1-lock"));
    assert_code(&scene.seed_verified(&["--copy-policy"]).await, 3);
    scene.sink.heal();
    scene.sink.clear_log();
    assert_code(&scene.seed_verified(&["--copy-policy"]).await, 0);
    assert_eq!(scene.sink.requests(), asked, "no request more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_by_somebody_else_in_the_middle_of_a_run_is_noticed_before_the_tag_is_put() {
    for is_verified in [true, false] {
        let scene = Scene::new().await;
        let key = scene.source.public_key();
        let arguments: &[&str] = if is_verified { &["--pub-key", &key] } else { &BARE };
        let former = scene.put_at_sink(7, "v1").await;
        let rival = scene.put_at_sink(8, "rival").await;
        scene.sink.clear_log();
        let done = scene.moved_meanwhile(&rival, arguments).await;
        assert_code(&done, 4);
        let told = text(&done);
        assert!(told.contains("somebody else has moved the tag"), "{told}");
        assert!(told.contains(&rival.digest.to_string()) && told.contains(&former.digest.to_string()), "{told}");
        assert_eq!(scene.named().await, Some(rival.digest.to_string()), "what the other one has put stays");

        let again = scene.seed(&[arguments, &["--output", "json"]].concat()).await;
        assert_code(&again, 0);
        let outcome: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!(outcome["previous_digest"], rival.digest.to_string());
        assert_eq!(scene.named().await, Some(scene.image()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_the_same_image_by_somebody_else_is_no_failure() {
    for is_verified in [true, false] {
        let scene = Scene::new().await;
        let key = scene.source.public_key();
        let arguments: &[&str] = if is_verified { &["--pub-key", &key] } else { &BARE };
        scene.put_at_sink(7, "v1").await;
        let store = publisher(&scene.sink, "elsewhere");
        let same = images::two_platforms(&store, 1, &[1000, 2000]).await;
        let bytes = read_manifest(&scene.source.store, &same).await.unwrap();
        let layout = scene.sink.layout("site/robot");
        images::put(&layout, same.media_type.clone(), bytes).await;
        scene.sink.clear_log();
        let done = scene.moved_meanwhile(&same, arguments).await;
        assert_code(&done, 0);
        assert_eq!(scene.named().await, Some(scene.image()));
    }
}
