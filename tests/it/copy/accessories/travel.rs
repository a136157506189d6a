//! The accessories that reach the destination.

use autonomy_registry::serve::Profile;
use autonomy_registry::store::Listing;
use testkit::images;

use super::field::{Field, artifact, behaviours, cosign_tag, tag};
use crate::kit::command::{assert_code, publisher, text};

fn both<T: Clone>(one: &[T], two: &[T]) -> Vec<T> {
    [one, two].concat()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "shown where it fails")]
async fn everything_attached_arrives_between_every_pair_of_registries() {
    for (from, source) in behaviours() {
        for (to, sink) in behaviours() {
            println!("from {from} to {to}");
            let field = Field::between(source.clone(), sink).await;
            assert_code(&field.seed(&["--skip-verify"]).await, 0);
            let (root, child) = (&field.of_the_root, &field.of_a_child);
            field.assert_arrived(&both(&root.0, &child.0), &both(&root.1, &child.1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_attached_arrives_with_a_verified_image() {
    for sink in [Profile::default(), Profile::distribution_2()] {
        let field = Field::between(Profile::distribution_3(), sink).await;
        let key = field.path("cosign.pub");
        let done = field.seed(&["--pub-key", key.to_str().unwrap()]).await;
        assert_code(&done, 0);
        let (root, child) = (&field.of_the_root, &field.of_a_child);
        field.assert_arrived(&both(&root.0, &child.0), &both(&root.1, &child.1)).await;
        let record = std::fs::read_to_string(field.path("out/seed-manifest.json")).unwrap();
        for (_, node) in both(&root.0, &child.0) {
            assert!(record.contains(&node.digest.to_string()), "{record}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_brings_what_hangs_on_the_root_and_none_what_verification_needs() {
    for behaviour in [Profile::default(), Profile::distribution_3()] {
        let field = Field::between(behaviour.clone(), behaviour.clone()).await;
        assert_code(&field.seed(&["--skip-verify", "--accessories", "root"]).await, 0);
        field.assert_arrived(&field.of_the_root.0, &field.of_the_root.1).await;

        let field = Field::between(behaviour.clone(), behaviour.clone()).await;
        assert_code(&field.seed(&["--skip-verify", "--accessories", "none"]).await, 0);
        field.assert_arrived(&[], &[]).await;

        let field = Field::between(behaviour.clone(), behaviour).await;
        let key = field.path("cosign.pub");
        assert_code(&field.seed(&["--pub-key", key.to_str().unwrap(), "--accessories", "none"]).await, 0);
        field.assert_arrived(&field.of_the_root.0[..1], &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_brings_its_attachments_too() {
    let field = Field::between(Profile::distribution_2(), Profile::default()).await;
    let pinned = format!("{}/app@{}", field.source.host(), field.root.digest);
    let done = crate::kit::command::seed(&pinned, &field.to(), &field.path("out"), &["--skip-verify"]).await;
    assert_code(&done, 0);
    let (root, child) = (&field.of_the_root, &field.of_a_child);
    field.assert_arrived(&both(&root.0, &child.0), &both(&root.1, &child.1)).await;
}

/// Signs the image with these signatures, seeds it, and returns the output.
async fn sign(field: &Field, which: &[usize]) -> String {
    let (signed, name) = (field.signature(which).await, cosign_tag(&field.root.digest, ".sig"));
    images::tag(&field.store(), &signed, &name).await;
    let done = field.seed(&["--skip-verify"]).await;
    assert_code(&done, 0);
    assert_eq!(tag(&field.sink, &name).await, Some(signed.digest));
    text(&done)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_signature_on_an_unchanged_image_reaches_the_site_without_a_word() {
    for behaviour in [Profile::default(), Profile::distribution_2()] {
        let field = Field::bare(behaviour.clone(), behaviour).await;
        for which in [&[0][..], &[0, 1]] {
            let said = sign(&field, which).await;
            assert!(!said.contains(".sig"), "{said}");
        }
        let note = artifact(&field.store(), "a note", Some(&field.root)).await;
        assert_code(&field.seed(&["--skip-verify"]).await, 0);
        let signature = (cosign_tag(&field.root.digest, ".sig"), field.signature(&[0, 1]).await);
        let listed = publisher(&field.sink, "app").referrers(&field.root.digest).await.unwrap();
        assert_eq!(listed.iter().map(|node| node.digest).collect::<Vec<_>>(), [note.digest]);
        assert_eq!(tag(&field.sink, &signature.0).await, Some(signature.1.digest));
    }
}
