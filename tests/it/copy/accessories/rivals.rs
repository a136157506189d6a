//! Several clients at one destination without the Referrers API: each reads, changes and writes the same index.

use std::collections::BTreeSet;
use std::time::Duration;

use autonomy_registry::oci::{Descriptor, MediaType, Tag};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::{Body, Listing, Store};
use testkit::images;

use super::field::{Field, TYPES, artifact, artifact_of, cosign_tag, referrers};
use crate::kit::command::{assert_code, publisher, seed, text};

#[tokio::test(flavor = "multi_thread")]
async fn two_seeds_at_once_lose_nobodys_referrer() {
    for round in 0..4 {
        let (one, two) = (
            Field::bare(Profile::default(), Profile::distribution_2()).await,
            Field::bare(Profile::distribution_3(), Profile::default()).await,
        );
        assert_eq!(one.root, two.root, "the same image at both sources");
        let mut expected = BTreeSet::new();
        for number in 0..4 {
            for field in [&one, &two] {
                let content = format!("{number} in round {round} at {}", field.source.host());
                expected.insert(artifact(&field.store(), &content, Some(&field.root)).await.digest);
            }
        }
        // A request takes longer than the work of this machine between two requests.
        for on in [Kind::ManifestGet, Kind::ManifestPut] {
            one.sink.fault(Fault::always(on, What::Delay(Duration::from_millis(25))));
        }
        let (out, flags) = (two.path("out"), ["--skip-verify"]);
        let from = format!("{}/app:v1", two.source.host());
        let to = one.to();
        let (first, second) = tokio::join!(one.seed(&flags), seed(&from, &to, &out, &flags));
        assert_code(&first, 0);
        assert_code(&second, 0);
        let listed = publisher(&one.sink, "app").referrers(&one.root.digest).await.unwrap();
        assert_eq!(listed.iter().map(|node| node.digest).collect::<BTreeSet<_>>(), expected, "round {round}");
    }
}

/// Writes an index that lists only `entries`.
async fn overwrite(bed: &Testbed, subject: &Descriptor, entries: &[Descriptor]) {
    let bytes = referrers(&serde_json::json!(entries));
    let node = Descriptor::of(MediaType::OCI_INDEX, bytes.as_bytes());
    let tag: Tag = subject.digest.fallback_tag().parse().unwrap();
    publisher(bed, "app").put(&node, &Body::bytes(node.clone(), bytes), &[tag]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_lost_after_it_was_written_is_written_again_at_the_end() {
    let field = Field::bare(Profile::default(), Profile::distribution_2()).await;
    let note = artifact(&field.store(), "a note", Some(&field.root)).await;
    let rival = artifact(&publisher(&field.sink, "app"), "somebody else's", None).await;
    // Accessories are put before the tag; while the tag is put, another client that read the index before us writes it.
    field.sink.fault(Fault::always(Kind::ManifestPut, What::Delay(Duration::from_millis(800))).at("/manifests/v1"));
    let overwriting = async {
        while !field.sink.log().iter().any(|seen| seen.method == "PUT" && seen.path.ends_with("/manifests/v1")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let listed = publisher(&field.sink, "app").referrers(&field.root.digest).await.unwrap();
        assert_eq!(listed.len(), 1, "it was written before the tag was put");
        overwrite(&field.sink, &field.root, std::slice::from_ref(&rival)).await;
    };
    let flags = ["--skip-verify"];
    let (done, ()) = tokio::join!(field.seed(&flags), overwriting);
    assert_code(&done, 0);
    let listed = publisher(&field.sink, "app").referrers(&field.root.digest).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|node| node.digest).collect();
    assert_eq!(listed, [rival.digest, note.digest], "ours is there again, and theirs still is");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_look_waits_for_whoever_read_the_index_before_it_was_written() {
    let field = Field::bare(Profile::default(), Profile::distribution_2()).await;
    artifact(&field.store(), "a note", Some(&field.root)).await;
    let begun = std::time::Instant::now();
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_forgets_a_referrer_is_found_out() {
    let nothing = referrers(&serde_json::json!([]));
    for (behaviour, on, what, says) in [
        // It confirms the subject in the header, and lists nothing.
        (Profile::default(), Kind::Referrers, What::Replace(nothing.into()), "was put and is not listed"),
        // It answers that the index is stored, but does not store it.
        (
            Profile::distribution_2(),
            Kind::ManifestPut,
            What::Status(201),
            "has taken its index 10 times, and does not show it",
        ),
    ] {
        let field = Field::bare(Profile::default(), behaviour).await;
        let signature = field.signature(&[0]).await;
        images::tag(&field.store(), &signature, &cosign_tag(&field.root.digest, ".sig")).await;
        artifact(&field.store(), "a note", Some(&field.root)).await;
        let index = field.root.digest.fallback_tag();
        let at = if on == Kind::Referrers { "/referrers/".to_owned() } else { index.clone() };
        // The registry also drops cosign's tag, which begins like the index's.
        field.sink.fault(Fault::always(on, what).at(at));
        let key = field.path("cosign.pub");
        let done = field.seed(&["--pub-key", key.to_str().unwrap()]).await;
        assert_code(&done, 4);
        assert!(text(&done).contains(says), "{}", text(&done));
        field.assert_nothing(&done).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_put_and_never_shown_is_found_out() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let name = cosign_tag(&field.root.digest, ".att");
    images::tag(&field.store(), &artifact_of(&field.store(), TYPES[1].1, "ours", None).await, &name).await;
    field.sink.fault(Fault { nth: 2, ..Fault::always(Kind::ManifestHead, What::Status(404)).at(".att") });
    let done = field.seed(&["--skip-verify"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains(&format!("{name}, attached to {}, was put", field.root.digest)), "{}", text(&done));
    assert!(!text(&done).contains("somebody else"), "there is no sign of anybody: {}", text(&done));
    assert_eq!(field.left().await.1, 0, "nothing was written");
}
