//! The cost of accessories, in requests counted at the servers.

use autonomy_registry::oci::Digest;
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::Kind;
use testkit::images;

use super::field::{Field, artifact, cosign_tag};
use crate::kit::command::assert_code;

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_image_costs_a_question_for_each_thing_that_may_be_attached() {
    // 6 manifests are under cosign's tags, and 5 referrers have 3 subjects. 15 manifests may have accessories: these 11,
    // the image's 3, and the one in the attached index.
    //
    // Source with the Referrers API: the image, the tag list, a referrers call for each of the 15, the 6 tags and the
    // attached index. Without: one call shows that the API is missing, and there are 3 fallback indexes.
    const LISTING: (usize, usize) = (1 + 1 + 15 + 6 + 1, 1 + 1 + 1 + 3 + 6 + 1);
    // Destination: the image's tag, the 6 tags, and 3 lists; without the API one more call. No tag list.
    const COMPARING: (usize, usize) = (1 + 6 + 3, 1 + 6 + 1 + 3);
    let (with, without) = (Profile::default(), Profile::distribution_3());
    for (source, sink, cost) in [
        (&with, &with, (LISTING.0, COMPARING.0)),
        (&with, &without, (LISTING.0, COMPARING.1)),
        (&without, &with, (LISTING.1, COMPARING.0)),
        (&without, &without, (LISTING.1, COMPARING.1)),
    ] {
        let field = Field::between(source.clone(), sink.clone()).await;
        assert_code(&field.seed(&["--skip-verify"]).await, 0);
        field.clear_logs();
        let again = field.seed(&["--skip-verify"]).await;
        assert_code(&again, 0);
        assert!(crate::kit::command::text(&again).contains("unchanged"), "{}", crate::kit::command::text(&again));
        assert_eq!(field.requests(), cost, "{:#?} {:#?}", field.source.log(), field.sink.log());
        assert_eq!(field.sink.count(Kind::ManifestPut) + field.sink.count(Kind::Tags), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_nothing_is_attached_costs_a_list_of_tags_and_a_question_for_each_manifest_at_the_source_alone() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    field.clear_logs();
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    assert_eq!(field.requests(), (1 + 1 + 3, 1), "{:#?}", field.source.log());
    let changed = images::with_one_layer_changed(&field.store(), 1, &[1000, 2000]).await;
    images::tag(&field.store(), &changed, "v1").await;
    field.clear_logs();
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    assert_eq!(field.requests(), (4 + 1 + 3, 10 + 1), "the tag is looked at before it moves: {:#?}", field.sink.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_image_costs_one_question_more_at_a_destination_that_has_it_and_three_at_one_that_has_not() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let signed = field.signature(&[0]).await;
    images::tag(&field.store(), &signed, &cosign_tag(&field.root.digest, ".sig")).await;
    field.clear_logs();
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    let log = field.sink.log();
    let of_the_tag = log.iter().filter(|seen| seen.path.ends_with(".sig")).map(|seen| seen.method.as_str());
    assert_eq!(
        of_the_tag.collect::<Vec<_>>(),
        ["HEAD", "HEAD", "PUT", "HEAD"],
        "is one there, is it still so, and has it arrived"
    );
    assert_eq!(field.sink.count(Kind::Tags), 0);
    field.clear_logs();
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    // The image, the tag list, the signature, and the referrers of four manifests.
    assert_eq!(field.requests(), (1 + 1 + 1 + 4, 1 + 1), "{:#?}", field.source.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tags_on_a_new_image_are_asked_for_with_one_list() {
    let field = Field::between(Profile::default(), Profile::default()).await;
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    let log = field.sink.log();
    let first_put = log.iter().position(|seen| seen.method != "GET" && seen.method != "HEAD").unwrap();
    let asked: Vec<_> = log[..first_put].iter().map(|seen| seen.kind).collect();
    assert_eq!(asked, [Kind::ManifestHead, Kind::Tags]);
}

/// Seeds an image with `count` referrers; returns the requests spent on their index.
async fn writing_an_index_of(count: u32) -> usize {
    let field = Field::bare(Profile::default(), Profile::distribution_3()).await;
    for number in 0..count {
        artifact(&field.store(), &number.to_string(), Some(&field.root)).await;
    }
    field.clear_logs();
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    let index = index_of(&field.root.digest);
    field.sink.log().iter().filter(|seen| seen.path.ends_with(&index)).count()
}

fn index_of(subject: &Digest) -> String {
    format!("/manifests/{}", subject.fallback_tag())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_index_is_not_written_once_for_each_of_its_entries() {
    // One referrer: read, write, confirm; and the last check at the end.
    assert_eq!(writing_an_index_of(1).await, 3 + 1);
    // The grouping is up to timing; one by one they would take 48.
    let cost = writing_an_index_of(16).await;
    assert!(cost <= 8 * 3 + 1, "{cost}");
}
