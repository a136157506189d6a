//! `registry rm`: what goes, what stays, in which order, and at which registries.

use std::process::Output;

use autonomy_registry::oci::{Descriptor, Digest, MediaType, Name, Tag};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::{Body, Store as _};
use autonomy_registry::verify::SidecarKind;
use serde_json::json;
use testkit::images;

use super::{assert_screen, registry, requests};
use crate::kit::bundle_bed::{BundleBed, Signed, policy_bundle, report};
use crate::kit::command::{assert_code, publisher, text};
use crate::kit::site_bed::behaviours;

async fn rm(reference: &str, more: &[&str]) -> Output {
    registry(&[&["rm", reference], more].concat()).await
}

/// The digest that a tag of `robot` names.
async fn names(bed: &Testbed, tag: &str) -> Option<Digest> {
    let name = Name::Tag(tag.parse().unwrap());
    bed.layout("robot").resolve(&name).await.ok().map(|node| node.digest)
}

async fn holds(bed: &Testbed, digest: Digest) -> bool {
    bed.layout("robot").fetch(&Name::Digest(digest)).await.is_ok()
}

async fn tags(bed: &Testbed) -> Vec<String> {
    let done = registry(&["ls", &format!("{}/robot", bed.host()), "--output", "json"]).await;
    if done.status.code() == Some(4) {
        return Vec::new();
    }
    report(&done)["tags"].as_array().unwrap().iter().map(|one| one["tag"].as_str().unwrap().to_owned()).collect()
}

/// The requests that change something.
fn changes(bed: &Testbed) -> Vec<String> {
    requests(bed).into_iter().filter(|line| !line.starts_with("GET ") && !line.starts_with("HEAD ")).collect()
}

fn outcomes(done: &Output) -> Vec<String> {
    let items = report(done)["items"].clone();
    let told =
        |item: &serde_json::Value| format!("{} {}", item["outcome"].as_str().unwrap(), item["what"].as_str().unwrap());
    items.as_array().unwrap().iter().map(told).collect()
}

/// A bundle with a lock, a policy, signatures of all, and an SBOM and a signature of its first platform.
async fn furnished(behaviour: Profile) -> (BundleBed, Descriptor, Descriptor) {
    let bed = BundleBed::on(Testbed::with(behaviour).await).await;
    bed.sign(&bed.image).await;
    let policy = policy_bundle("1.2.0");
    bed.sidecar(SidecarKind::Lock, &bed.lock(&policy).to_bytes(), Signed::Yes).await;
    bed.sidecar(SidecarKind::Policy, &policy, Signed::Yes).await;
    let bytes = autonomy_registry::store::read_manifest(&bed.store, &bed.image).await.unwrap();
    let index: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let platform: Descriptor = serde_json::from_value(index["manifests"][0].clone()).unwrap();
    bed.sign(&platform).await;
    let sbom = images::sidecar(&bed.store, &platform, "application/spdx+json", b"{}").await;
    bed.bed.clear_log();
    (bed, platform, sbom)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_with_everything_attached_at_every_kind_of_registry() {
    for behaviour in behaviours() {
        let (bed, platform, sbom) = furnished(behaviour.clone()).await;
        let done = rm(&bed.reference(), &["--yes", "--output", "json"]).await;
        assert_code(&done, 0);
        let told = outcomes(&done);
        assert!(
            told.iter().all(|one| one.starts_with("removed ") || one.starts_with("gone ")),
            "{behaviour:?}: {told:?}"
        );
        assert_eq!(told[..3], ["removed image", "removed lock", "removed policy"], "{behaviour:?}");
        assert_eq!(tags(&bed.bed).await, Vec::<String>::new(), "{behaviour:?}: {told:?}");
        assert!(!holds(&bed.bed, bed.image.digest).await && !holds(&bed.bed, sbom.digest).await, "{behaviour:?}");
        // zot drops the manifests of an image by itself; elsewhere they are left to the garbage collection.
        assert!(behaviour.forgets_untagged || holds(&bed.bed, platform.digest).await, "{behaviour:?}");
        let first = changes(&bed.bed)[0].clone();
        assert_eq!(first, format!("DELETE /v2/robot/manifests/{}", bed.image.digest), "the image goes first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_everything_at_80_columns_and_changes_nothing() {
    let (bed, ..) = furnished(Profile::default()).await;
    let done = rm(&bed.reference(), &["--dry-run"]).await;
    assert_code(&done, 0);
    assert_screen(
        &done,
        bed.bed.host(),
        "\
localhost:5000/robot:v1
  remove   image           …  v1
  remove   lock            …  v1-lock
  remove   policy          …  v1-policy
  remove   referrer        …  -
  remove   signature       …  sha256-….sig
  remove   signature       …  sha256-….sig
  remove   signature       …  sha256-….sig
  remove   signature       …  sha256-….sig
nothing was removed
",
    );
    assert_eq!(changes(&bed.bed), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_it_needs_yes() {
    let bed = BundleBed::bare().await;
    bed.bed.clear_log();
    let done = rm(&bed.reference(), &[]).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("hint: give --yes") && bed.bed.requests() == 0, "{}", text(&done));
    let done = rm(&format!("{}/robot", bed.bed.host()), &["--yes"]).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("robot:latest if that is the one") && bed.bed.requests() == 0, "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_goes_alone_while_another_names_the_image() {
    for behaviour in behaviours() {
        let (bed, ..) = furnished(behaviour).await;
        images::tag(&bed.store, &bed.image, "stable").await;
        let before = tags(&bed.bed).await.len();
        bed.bed.clear_log();
        let done = rm(&bed.reference(), &["--yes", "--output", "json"]).await;
        assert_code(&done, 0);
        assert_eq!(
            (outcomes(&done), &report(&done)["also_named_by"]),
            (vec!["removed tag".to_owned()], &json!(["stable"]))
        );
        assert_eq!(changes(&bed.bed), ["DELETE /v2/robot/manifests/v1"]);
        assert_eq!((names(&bed.bed, "v1").await, names(&bed.bed, "stable").await), (None, Some(bed.image.digest)));
        assert_eq!(tags(&bed.bed).await.len(), before - 1, "signatures and sidecars stay");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_of_a_tag_that_went_alone_go_with_the_image() {
    let (bed, ..) = furnished(Profile::default()).await;
    images::tag(&bed.store, &bed.image, "stable").await;
    assert_code(&rm(&bed.reference(), &["--yes"]).await, 0);
    assert!(names(&bed.bed, "v1-lock").await.is_some());
    assert_code(&rm(&format!("{}/robot:stable", bed.bed.host()), &["--yes"]).await, 0);
    assert_eq!(tags(&bed.bed).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tags_cannot_be_deleted_a_tag_goes_with_a_manifest_of_its_own() {
    let bed = BundleBed::bare().await;
    images::tag(&bed.store, &bed.image, "stable").await;
    bed.bed.fault(Fault::always(Kind::ManifestDelete, What::Status(405)).at_the_end("/manifests/v1"));
    bed.bed.clear_log();
    let done = rm(&bed.reference(), &["--yes"]).await;
    assert_code(&done, 0);
    assert_eq!((names(&bed.bed, "v1").await, names(&bed.bed, "stable").await), (None, Some(bed.image.digest)));
    assert_eq!(tags(&bed.bed).await, ["stable"]);
    let changes = changes(&bed.bed);
    let (own, probes): (Vec<_>, Vec<_>) = changes.iter().partition(|line| line.ends_with("/v1"));
    assert_eq!(own, ["DELETE /v2/robot/manifests/v1", "PUT /v2/robot/manifests/v1"]);
    assert_eq!(probes.len(), 2, "whether anything can be deleted is asked first: {changes:?}");
    assert!(!probes[0].contains(&bed.image.digest.to_string()) && probes[0] == probes[1], "{changes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_deletes_nothing_is_named_and_nothing_changes() {
    for is_shared in [false, true] {
        let (bed, ..) = furnished(Profile::default()).await;
        if is_shared {
            images::tag(&bed.store, &bed.image, "stable").await;
        }
        bed.bed.fault(Fault::always(Kind::ManifestDelete, What::Status(405)));
        let before = tags(&bed.bed).await;
        bed.bed.clear_log();
        let done = rm(&bed.reference(), &["--yes"]).await;
        assert_code(&done, 6);
        let said = text(&done);
        assert!(
            said.contains("the registry does not delete") && said.contains("REGISTRY_STORAGE_DELETE_ENABLED"),
            "{said}"
        );
        assert!(changes(&bed.bed).iter().all(|line| line.starts_with("DELETE ")), "{:?}", changes(&bed.bed));
        assert_eq!((tags(&bed.bed).await, names(&bed.bed, "v1").await), (before, Some(bed.image.digest)));
        let json = report(&rm(&bed.reference(), &["--yes", "--output", "json"]).await);
        assert_eq!(json["items"][0]["outcome"], "left");
        assert!(json["items"][0]["why"].as_str().unwrap().contains("405"), "{json}");
        let others = json["items"].as_array().unwrap()[1..].iter();
        assert!(others.clone().all(|item| item["outcome"] == "kept" && item["why"] == "the image stays"), "{json}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_tags_name_is_refused_and_the_tags_are_named() {
    let bed = BundleBed::bare().await;
    images::tag(&bed.store, &bed.image, "stable").await;
    bed.bed.clear_log();
    let done = rm(&format!("{}/robot@{}", bed.bed.host(), bed.image.digest), &["--yes"]).await;
    assert_code(&done, 6);
    assert!(text(&done).contains("tags name it: stable, v1"), "{}", text(&done));
    assert_eq!(changes(&bed.bed), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_without_tags_goes_and_so_do_attachments_that_an_earlier_run_left() {
    let (bed, ..) = furnished(Profile::default()).await;
    let by_digest = format!("{}/robot@{}", bed.bed.host(), bed.image.digest);
    // The image goes, and the connection is lost before its first attachment.
    bed.bed.fault(Fault::always(Kind::ManifestDelete, What::Status(403)).from_the(2));
    let done = rm(&bed.reference(), &["--yes"]).await;
    assert_code(&done, 4);
    let hint = format!("remove them with registry rm {by_digest}");
    assert!(text(&done).contains(&hint), "{}", text(&done));
    assert!(names(&bed.bed, "v1").await.is_none() && names(&bed.bed, "v1-lock").await.is_some());
    bed.bed.heal();
    let done = rm(&by_digest, &["--yes", "--output", "json"]).await;
    assert_code(&done, 0);
    assert!(outcomes(&done).iter().all(|one| one.starts_with("removed")), "{}", text(&done));
    assert!(names(&bed.bed, "v1-lock").await.is_none(), "a lock is a referrer too");
    assert_code(&rm(&by_digest, &["--yes"]).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_after_it_was_looked_at_stays() {
    let bed = BundleBed::bare().await;
    let other = images::two_platforms(&bed.store, 9, &[10]).await;
    images::tag(&bed.store, &other, "other").await;
    // The first question about v1 is a GET, the one before its deletion a HEAD.
    let moved = What::AnswerOf("/v2/robot/manifests/other".into());
    bed.bed.fault(Fault::always(Kind::ManifestHead, moved).at_the_end("/manifests/v1"));
    bed.bed.clear_log();
    let done = rm(&bed.reference(), &["--yes"]).await;
    assert_code(&done, 6);
    assert!(text(&done).contains(&format!("v1 names {} by now", other.digest)), "{}", text(&done));
    assert_eq!(changes(&bed.bed), Vec::<String>::new());
    let both = format!("{}@{}", bed.reference(), other.digest);
    assert_code(&rm(&both, &["--yes"]).await, 6);
    assert_eq!(changes(&bed.bed), Vec::<String>::new(), "a tag that names another digest than was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_appears_after_the_look_keeps_the_image() {
    let bed = BundleBed::bare().await;
    images::tag(&bed.store, &bed.image, "new").await;
    let before = json!({"name": "robot", "tags": ["v1"]}).to_string();
    bed.bed.fault(Fault::next(Kind::Tags, What::Replace(before.into())));
    bed.bed.clear_log();
    let done = rm(&bed.reference(), &["--yes"]).await;
    assert_code(&done, 6);
    assert!(text(&done).contains("the tag new names it since this run began"), "{}", text(&done));
    assert_eq!(changes(&bed.bed), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_a_list_claims_to_be_attached_stays() {
    let bed = BundleBed::on(Testbed::with(Profile::distribution_2()).await).await;
    let victim = images::two_platforms(&bed.store, 9, &[10]).await;
    let list = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [victim]}).to_string();
    let node = Descriptor::of(MediaType::OCI_INDEX, list.as_bytes());
    let tag: Tag = bed.image.digest.fallback_tag().parse().unwrap();
    bed.store.put(&node, &Body::bytes(node.clone(), list), &[tag]).await.unwrap();
    let done = rm(&bed.reference(), &["--yes", "--output", "json"]).await;
    assert_code(&done, 0);
    assert_eq!(outcomes(&done), ["removed image", "removed fallback index"]);
    assert!(holds(&bed.bed, victim.digest).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_under_the_tag_of_a_sidecar_stays() {
    let bed = BundleBed::bare().await;
    let other = images::two_platforms(&bed.store, 9, &[10]).await;
    images::tag(&bed.store, &other, "v1-lock").await;
    let done = rm(&bed.reference(), &["--yes", "--output", "json"]).await;
    assert_code(&done, 0);
    assert_eq!(
        (outcomes(&done), names(&bed.bed, "v1-lock").await),
        (vec!["removed image".to_owned()], Some(other.digest))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_of_a_platform_that_another_image_has_stay() {
    let (bed, platform, sbom) = furnished(Profile::default()).await;
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [platform]}).to_string();
    let node = Descriptor::of(MediaType::OCI_INDEX, index.as_bytes());
    bed.store.put(&node, &Body::bytes(node.clone(), index), &["small".parse().unwrap()]).await.unwrap();
    let done = rm(&bed.reference(), &["--yes"]).await;
    assert_code(&done, 0);
    assert!(holds(&bed.bed, sbom.digest).await && !holds(&bed.bed, bed.image.digest).await);
    let signature = format!("sha256-{}.sig", platform.digest.hex());
    assert_eq!(tags(&bed.bed).await, ["small", &signature]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_that_another_tag_names_stays() {
    let (bed, _, sbom) = furnished(Profile::default()).await;
    images::tag(&bed.store, &sbom, "sbom").await;
    let done = rm(&bed.reference(), &["--yes", "--output", "json"]).await;
    assert_code(&done, 0);
    assert!(outcomes(&done).contains(&"kept referrer".to_owned()), "{}", text(&done));
    assert_eq!(names(&bed.bed, "sbom").await, Some(sbom.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_may_not_be_written_to_is_an_error() {
    let bed = Testbed::start().await;
    let store = publisher(&bed, "robot");
    let image = images::two_platforms(&store, 1, &[10]).await;
    images::tag(&store, &image, "v1").await;
    bed.fault(Fault::always(Kind::ManifestDelete, What::Status(403)));
    let done = rm(&format!("{}/robot:v1", bed.host()), &["--yes"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("nothing was removed; run it again"), "{}", text(&done));
    assert_eq!(names(&bed, "v1").await, Some(image.digest));
}
