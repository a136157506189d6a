//! A registry with the Referrers API that fails for one manifest.

use autonomy_registry::oci::{Descriptor, MediaType};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::store::{Listing as _, Registry, Role};
use autonomy_registry::trust::{artifact, sigstore_bundle};
use autonomy_registry::verify::{Candidate, Demands, ErrorClass, Pipeline, SigningKey};
use autonomy_registry::wire::{Client, ClientOptions};
use axum::response::Response;
use testkit::images;

use super::field::{Field, artifact, mirror, referrers, tag};
use crate::kit::command::{assert_code, publisher, text};
use crate::kit::wire_server::{Asked, Server, answer};

/// Status, type and body.
type Words = (u16, &'static str, &'static str);

const REFUSALS: [Words; 4] =
    [(400, "text/plain", ""), (501, "text/plain", ""), (404, "text/plain", "404 page"), (200, "text/html", "<html>")];
/// Answers of registries about a subject that is unknown or has no referrers.
const NO_SUBJECT: [Words; 2] = [
    (404, "application/json", r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"m"}]}"#),
    (404, "application/json", r#"{"errors":[{"code":"NAME_UNKNOWN","message":"m"}]}"#),
];

/// The content of the field's source, but these answers for the referrers of `subject`.
async fn source(field: &Field, subject: &Descriptor, (status, media_type, body): Words) -> Server {
    let path = format!("/referrers/{}", subject.digest);
    let first = move |asked: &Asked| -> Option<Response> {
        asked.line.contains(&path).then(|| answer(status, &[("content-type", media_type)], body))
    };
    mirror(&field.source, first).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_contradicts_the_api_is_told_and_hides_nothing_else() {
    for words in REFUSALS {
        let field = Field::bare(Profile::default(), Profile::default()).await;
        let store = field.store();
        let (lost, other) = (&field.children[0], &field.children[1]);
        artifact(&store, "out of sight", Some(lost)).await;
        let of_root = artifact(&store, "a note", Some(&field.root)).await;
        let of_other = artifact(&store, "another", Some(other)).await;
        let source = source(&field, lost, words).await;
        let done = field.seed_from(&source.host, &["--skip-verify"]).await;
        assert_code(&done, 0);
        field.assert_arrived(&[], &[(field.root.digest, of_root), (other.digest, of_other)]).await;
        let told = text(&done);
        assert!(told.contains("warning: ") && told.contains("may be missing"), "{words:?}: {told}");
        assert!(told.contains(&lost.digest.to_string()) && told.contains(&source.host), "{words:?}: {told}");
        let asked = source.lines();
        let asked = asked.iter().filter(|line| line.contains(&format!("/referrers/{}", lost.digest))).count();
        assert!(asked <= 2, "{words:?}: once, and once more in case of damage: {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_tag_answers_for_a_manifest_that_the_api_leaves_out() {
    for words in REFUSALS {
        let field = Field::bare(Profile::default(), Profile::default()).await;
        let lost = field.children[0].clone();
        let note = artifact(&field.store(), "a note", Some(&lost)).await;
        let of_root = artifact(&field.store(), "another", Some(&field.root)).await;
        let index = referrers(&serde_json::json!([note]));
        let index = images::put(&field.store(), MediaType::OCI_INDEX, index).await;
        images::tag(&field.store(), &index, &lost.digest.fallback_tag()).await;
        let source = source(&field, &lost, words).await;
        let done = field.seed_from(&source.host, &["--skip-verify"]).await;
        assert_code(&done, 0);
        field.assert_arrived(&[], &[(field.root.digest, of_root), (lost.digest, note)]).await;
        assert!(!text(&done).contains("may be missing"), "{}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_knows_no_such_subject_is_no_riddle() {
    for words in NO_SUBJECT {
        let field = Field::bare(Profile::default(), Profile::default()).await;
        let of_root = artifact(&field.store(), "a note", Some(&field.root)).await;
        let of_other = artifact(&field.store(), "another", Some(&field.children[1])).await;
        let source = source(&field, &field.children[0], words).await;
        let done = field.seed_from(&source.host, &["--skip-verify"]).await;
        assert_code(&done, 0);
        field.assert_arrived(&[], &[(field.root.digest, of_root), (field.children[1].digest, of_other)]).await;
        assert!(!text(&done).contains("may be missing"), "{words:?}: {}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_may_be_out_of_sight_is_not_one_that_is_missing() {
    let none = Some(ErrorClass::SigNotFound);
    for (words, class) in
        [(REFUSALS[0], None), (REFUSALS[1], None), (REFUSALS[3], None), (REFUSALS[2], none), (NO_SUBJECT[0], none)]
    {
        let field = Field::bare(Profile::default(), Profile::default()).await;
        let second = images::two_platforms(&field.store(), 7, &[500]).await;
        let (key, now) = (SigningKey::generate().unwrap(), jiff::Timestamp::now());
        let statement = sigstore_bundle::statement(&second.digest, Some(now));
        let signed = key.sign(&sigstore_bundle::pae(&statement)).unwrap();
        let bytes = sigstore_bundle::build(&key.public_key().unwrap(), &statement, &signed);
        let attachment = artifact::bundle_manifest(&second, &bytes, now);
        for (node, bytes) in attachment.blobs {
            images::put(&field.store(), node.media_type, bytes).await;
        }
        images::put(&field.store(), MediaType::OCI_MANIFEST, attachment.manifest).await;
        let source = source(&field, &second, words).await;
        let client = Client::new(ClientOptions { allow_plain_http: true, ..ClientOptions::default() }).unwrap();
        let store = Registry::new(&client, &source.repository("app"), Role::Source);
        assert!(store.referrers(&field.root.digest).await.unwrap().is_empty(), "there is an API");
        let pipeline = Pipeline::new(Demands::new(vec![key.public_key().unwrap()]));
        let subject = Candidate::new(format!("{}/app:v2", source.host).parse().unwrap(), second.clone());
        let judged = pipeline.run(&store, &subject).await;
        match class {
            None => assert_eq!(judged.unwrap_err().kind().exit_code(), 4, "{words:?}"),
            class => assert_eq!(judged.unwrap().failure().map(|(_, failure)| failure.class), class, "{words:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_answers_404_for_a_subject_without_referrers_keeps_its_api() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    let (sink, child) = (publisher(&field.sink, "app"), &field.children[0]);
    assert!(sink.referrers(&field.root.digest).await.unwrap().is_empty(), "there is an API");
    field.sink.fault(Fault::next(Kind::Referrers, What::Status(404)).at(child.digest.to_string()));
    assert!(sink.referrers(&child.digest).await.unwrap().is_empty());
    let note = artifact(&sink, "a note", Some(&field.root)).await;
    assert_eq!(sink.referrers(&field.root.digest).await.unwrap()[0].digest, note.digest);
    assert_eq!(tag(&field.sink, &field.root.digest.fallback_tag()).await, None, "no fallback index is kept");
}
