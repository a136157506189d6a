//! Sets: image, lock and policy of one seal share one time, even if a part was signed again later.

use autonomy_registry::oci::Descriptor;
use autonomy_registry::trust::{artifact, sigstore_bundle};
use autonomy_registry::verify::signature_tag;
use jiff::{Timestamp, ToSpan as _};
use testkit::images;

use crate::kit::bundle_bed::hours_from_now;
use crate::kit::command::{assert_code, publisher, text};
use crate::kit::sealed_bed::Sealed;

const DAY: i64 = 24;
const ALL: [&str; 2] = ["--require-lock", "--require-policy"];

fn minutes_from_now(minutes: i64) -> Timestamp {
    Timestamp::now() + minutes.minutes()
}

/// A bundle whose image, lock and policy have signatures of these times, in minutes from now.
async fn signed(image: &[i64], lock: &[i64], policy: &[i64]) -> Sealed {
    let sealed = Sealed::hours_ago(0).await;
    for (node, minutes) in [(&sealed.source.image, image), (&sealed.lock, lock), (&sealed.policy, policy)] {
        let times: Vec<_> = minutes.iter().map(|&minutes| minutes_from_now(minutes)).collect();
        sealed.sign_again(node, &times).await;
    }
    sealed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_signed_again_alone_is_still_of_its_seal() {
    let (long_ago, month_ago, now) = (-200 * DAY * 60, -30 * DAY * 60, -1);
    for [image, lock, policy] in [
        [&[long_ago, month_ago][..], &[long_ago], &[long_ago]],
        [&[month_ago, long_ago], &[long_ago], &[long_ago]],
        [&[long_ago], &[long_ago, now], &[long_ago]],
        [&[long_ago, now], &[long_ago], &[month_ago, long_ago]],
        // Sealed twice, and each part signed again at some other time.
        [&[long_ago, month_ago], &[month_ago + 50, now], &[long_ago, month_ago + 20]],
    ] {
        let sealed = signed(image, lock, policy).await;
        assert_code(&sealed.source.verify(&ALL).await, 0);
        assert_code(&sealed.seed(&["--copy-policy"]).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_which_no_choice_of_times_lies_within_an_hour_are_not_of_one_seal() {
    let (old, new) = (-200 * DAY * 60, -60);
    for [image, lock, policy] in [
        // An older lock and policy beside an image of today.
        [&[new][..], &[old], &[old]],
        // Each fits one time of the image, but they do not fit each other.
        [&[old, new], &[old], &[new]],
        [&[-200], &[-150], &[-250]],
        [&[old, new], &[old + 61, new + 30], &[old, new - 31]],
    ] {
        let sealed = signed(image, lock, policy).await;
        for done in [sealed.source.verify(&ALL).await, sealed.seed(&["--copy-policy"]).await] {
            assert_code(&done, 3);
            assert!(text(&done).contains("TIME_SET"), "{}", text(&done));
        }
        assert_eq!(sealed.arrived("v1").await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_seal_may_stand_in_the_other_format() {
    let sealed = signed(&[-1], &[-30 * DAY * 60], &[-30 * DAY * 60]).await;
    let statement = sigstore_bundle::statement(&sealed.source.image.digest, Some(hours_from_now(-30 * DAY)));
    sealed.source.put_bundle(&sealed.source.image.clone(), &statement, &statement).await;
    assert_code(&sealed.source.verify(&ALL).await, 0);
    assert_code(&sealed.seed(&["--copy-policy", "--accessories=none"]).await, 0);
    // The signature of the newest time was copied too: a later run compares with it.
    let at_site = format!("{}/robot:v1", sealed.sink.host());
    let key = sealed.source.public_key();
    let done =
        crate::kit::command::autonomy(&["bundle", "verify", &at_site, "--pub-key", &key, "--max-age", "1h"]).await;
    assert_code(&done, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_seal_may_be_gone_back_to_on_purpose_though_a_part_was_signed_again() {
    let sealed = signed(&[-200 * DAY * 60, -100 * DAY * 60], &[-200 * DAY * 60], &[-200 * DAY * 60]).await;
    let old = sealed.source.image.clone();
    let new = sealed.release(2, 1).await;
    assert_code(&sealed.seed(&[]).await, 0);
    images::tag(&sealed.source.store, &old, "v1").await;
    let done = sealed.seed(&["--copy-policy"]).await;
    assert_code(&done, 3);
    assert!(text(&done).contains("TIME_ROLLBACK"), "{}", text(&done));
    assert_eq!(sealed.arrived("v1").await, Some(new.digest));
    assert_code(&sealed.seed(&["--copy-policy", "--allow-rollback"]).await, 0);
    assert_eq!(sealed.arrived("v1").await, Some(old.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_is_judged_by_the_newest_time_whatever_the_set_was_judged_by() {
    let (seal, between) = (-30 * DAY * 60, 20 * DAY);
    let sealed = signed(&[seal, -1], &[seal], &[seal]).await;
    let old = sealed.source.image.clone();
    sealed.release(2, between).await;
    assert_code(&sealed.seed(&[]).await, 0);
    images::tag(&sealed.source.store, &old, "v1").await;
    // The set is judged by the older of its two times, which is before the time in place; the newest one is after it.
    assert_code(&sealed.seed(&["--copy-policy"]).await, 0);
    assert_eq!(sealed.arrived("v1").await, Some(old.digest));
    // The copied signature counts at the destination: an image in between is a rollback.
    sealed.release(3, between).await;
    let done = sealed.seed(&[]).await;
    assert_code(&done, 3);
    assert!(text(&done).contains("TIME_ROLLBACK"), "{}", text(&done));
}

/// Puts this many signatures over `node` under its tag at the destination, all of one time.
async fn crowd(sealed: &Sealed, node: &Descriptor, count: usize, at: Timestamp) {
    let payload = sealed.source.payload(node, Some(at));
    let signature = sealed.source.key.sign(&payload).unwrap();
    let signatures: Vec<_> = (0..count).map(|_| (payload.clone(), signature.clone())).collect();
    let attachment = artifact::legacy_manifest(&[], &signatures);
    let store = publisher(&sealed.sink, "robot");
    for (blob, bytes) in &attachment.blobs {
        images::put(&store, blob.media_type.clone(), bytes.clone()).await;
    }
    let list = images::put(&store, attachment.node.media_type.clone(), attachment.manifest.clone()).await;
    images::tag(&store, &list, signature_tag(&node.digest).unwrap().as_str()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_root_with_more_signatures_than_are_read_is_not_one_without_a_time() {
    let (newer, older) = (hours_from_now(-1), hours_from_now(-300 * DAY));
    let cases = [
        (100, newer, "TIME_ROLLBACK"),
        (101, newer, "TIME_ROLLBACK"),
        (101, older, "SIG_LIMIT"),
        (999, older, "SIG_LIMIT"),
    ];
    for (count, time, class) in cases {
        let sealed = Sealed::hours_ago(200 * DAY).await;
        let old = sealed.source.image.clone();
        let new = sealed.release(2, 2).await;
        assert_code(&sealed.seed(&[]).await, 0);
        crowd(&sealed, &new, count, time).await;
        images::tag(&sealed.source.store, &old, "v1").await;
        let done = sealed.seed(&[]).await;
        assert_code(&done, 3);
        assert!(text(&done).contains(class), "{count}: {}", text(&done));
        assert!(text(&done).contains("--allow-rollback"), "{count}: {}", text(&done));
        assert_eq!(sealed.arrived("v1").await, Some(new.digest));
        assert_code(&sealed.seed(&["--allow-rollback"]).await, 0);
        assert_eq!(sealed.arrived("v1").await, Some(old.digest));
        assert_eq!(sealed.record()["weakened"], serde_json::json!(["rollback allowed"]));
    }
}
