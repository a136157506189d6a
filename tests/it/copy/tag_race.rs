//! A tag that another client moves during a run that keeps previous roots.

use std::process::Output;
use std::time::Duration;

use autonomy_registry::oci::{Descriptor, Digest};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use serde_json::Value;
use testkit::images;

use crate::kit::bundle_bed::hours_from_now;
use crate::kit::command::{assert_code, autonomy, publisher, text};
use crate::kit::sealed_bed::Sealed;
use crate::kit::site_bed::{Bed, holding};

const BARE: [&str; 2] = ["--skip-verify", "--accessories=none"];

/// Puts another image at a site, without a tag.
async fn rival_at(sink: &Testbed, repository: &str) -> Descriptor {
    images::two_platforms(&publisher(sink, repository), 8, &[700]).await
}

/// Moves `tag` to `rival` once the run has begun to upload; the upload continues after that.
async fn moving(sink: &Testbed, repository: &str, tag: &str, rival: &Descriptor) {
    // Bounded: a run that ends before that has failed, and the assertions say how.
    for _ in 0..2000 {
        if sink.count(Kind::UploadPost) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    images::tag(&sink.layout(repository), rival, tag).await;
}

fn slow_upload() -> Fault {
    Fault::next(Kind::UploadPost, What::Delay(Duration::from_millis(400)))
}

/// Seeds the image with `--keep-previous`; another client moves `tag` meanwhile.
async fn keep_while_moving(sealed: &Sealed, tag: &str, rival: &Descriptor, more: &[&str]) -> Output {
    sealed.sink.clear_log();
    sealed.sink.fault(slow_upload());
    let key = sealed.source.public_key();
    let trust: &[&str] = if more.contains(&"--skip-verify") { &[] } else { &["--pub-key", &key] };
    let (from, to, out) = (sealed.source.reference(), sealed.to(), sealed.source.file("out"));
    let arguments = [&["--keep-previous"], trust, more].concat();
    tokio::join!(crate::kit::command::seed(&from, &to, &out, &arguments), moving(&sealed.sink, "robot", tag, rival)).0
}

#[track_caller]
fn is_conflict(done: &Output, rival: &Descriptor, former: Option<&Digest>) {
    assert_code(done, 4);
    let told = text(done);
    assert!(told.contains("somebody else has moved the tag"), "{told}");
    let former = former.map_or("named nothing".to_owned(), ToString::to_string);
    assert!(told.contains(&rival.digest.to_string()) && told.contains(&former), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_root_that_somebody_else_puts_is_not_replaced_by_a_run_that_keeps_former_roots() {
    for more in [&[][..], &BARE] {
        let sealed = Sealed::hours_ago(48).await;
        let former = images::two_platforms(&publisher(&sealed.sink, "robot"), 7, &[700]).await;
        images::tag(&sealed.sink.layout("robot"), &former, "v1").await;
        let rival = rival_at(&sealed.sink, "robot").await;
        let done = keep_while_moving(&sealed, "v1", &rival, more).await;
        is_conflict(&done, &rival, Some(&former.digest));
        assert_eq!(sealed.arrived("v1").await, Some(rival.digest), "what the other one has put stays");
        assert_eq!(sealed.arrived(&holding("v1", &rival.digest)).await, None);
        assert!(sealed.record().is_null(), "nothing is written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_somebody_else_puts_under_a_tag_that_was_new_is_not_replaced_either() {
    for more in [&[][..], &BARE] {
        let sealed = Sealed::hours_ago(48).await;
        let rival = rival_at(&sealed.sink, "robot").await;
        let done = keep_while_moving(&sealed, "v1", &rival, more).await;
        is_conflict(&done, &rival, None);
        assert_eq!(sealed.arrived("v1").await, Some(rival.digest));
        assert!(sealed.record().is_null());

        let again = sealed.seed(&["--keep-previous", "--output", "json"]).await;
        assert_code(&again, 0);
        let outcome: Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!(outcome["previous_digest"], rival.digest.to_string());
        assert_eq!(sealed.arrived(&holding("v1", &rival.digest)).await, Some(rival.digest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tag_of_a_sidecar_is_no_other_tag() {
    for more in [&["--copy-policy"][..], &["--copy-policy", "--skip-verify", "--accessories=none"]] {
        let sealed = Sealed::hours_ago(48).await;
        let rival = rival_at(&sealed.sink, "robot").await;
        let done = keep_while_moving(&sealed, "v1-lock", &rival, more).await;
        is_conflict(&done, &rival, None);
        assert_eq!((sealed.arrived("v1-lock").await, sealed.arrived("v1").await), (Some(rival.digest), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_the_same_image_is_no_conflict_for_a_run_that_keeps_former_roots() {
    let sealed = Sealed::hours_ago(48).await;
    let store = publisher(&sealed.sink, "elsewhere");
    images::two_platforms(&store, 1, &[1000, 2000]).await;
    let same = sealed.source.image.clone();
    let bytes = autonomy_registry::store::read_manifest(&sealed.source.store, &same).await.unwrap();
    images::put(&sealed.sink.layout("robot"), same.media_type.clone(), bytes).await;
    assert_code(&keep_while_moving(&sealed, "v1", &same, &[]).await, 0);
    assert_eq!(sealed.arrived("v1").await, Some(same.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tag_of_an_atomic_run_moves_when_somebody_else_has_moved_one() {
    for (name, was_there) in [("b", true), ("d", false)] {
        let bed = Bed::new(Profile::default()).await;
        let (first, _) = bed.two_generations().await;
        let repository = format!("site/{name}");
        let rival = rival_at(&bed.sink, &repository).await;
        bed.sink.clear_log();
        bed.sink.fault(slow_upload());
        let run = bed.seed_catalog(&["a", "b", "c", "d"], &["--atomic"]);
        let done = tokio::join!(run, moving(&bed.sink, &repository, "v1", &rival)).0;
        is_conflict(&done, &rival, was_there.then_some(&first[1]));
        let mut expected = [Some(first[0]), Some(first[1]), Some(first[2]), None];
        expected[if was_there { 1 } else { 3 }] = Some(rival.digest);
        assert_eq!(bed.all().await, expected);
        assert_eq!((bed.puts("v1"), bed.written()), (0, 0), "{}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forecast_counts_the_look_at_a_new_tag() {
    for more in [&[][..], &BARE] {
        let sealed = Sealed::hours_ago(2).await;
        sealed.sign_again(&sealed.source.image, &[hours_from_now(-1)]).await;
        let (from, to, out) = (sealed.source.reference(), sealed.to(), sealed.source.file("out"));
        let key = sealed.source.public_key();
        let trust: &[&str] = if more.is_empty() { &["--pub-key", &key, "--accessories=none"] } else { &BARE };
        let fixed = ["registry", "seed", "--allow-insecure-registry", "--keep-previous", "--output", "json"];
        let ends = ["--from", &from, "--to", &to, "--out", out.to_str().unwrap()];
        let arguments = [&fixed[..], &ends, trust].concat();
        let dry = autonomy(&[&arguments[..], &["--dry-run"]].concat()).await;
        assert_code(&dry, 0);
        let forecast: Value = serde_json::from_slice(&dry.stdout).unwrap();
        sealed.source.bed.clear_log();
        sealed.sink.clear_log();
        assert_code(&autonomy(&arguments).await, 0);
        let requests = sealed.source.bed.requests() + sealed.sink.requests();
        assert_eq!(forecast["totals"]["requests"], requests, "{:#?}", sealed.sink.log());
    }
}
