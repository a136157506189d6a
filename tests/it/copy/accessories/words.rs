//! Unusual answers for missing content, and refusals of optional requests.

use autonomy_registry::oci::{Descriptor, MediaType, Name};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::store::{Body, Listing, Store};
use autonomy_registry::trust::{artifact, sigstore_bundle};
use autonomy_registry::verify::SigningKey;
use axum::response::Response;
use testkit::images;

use super::field::{Field, INDEX, artifact, cosign_tag, mirror, tag};
use crate::kit::command::{assert_code, autonomy, publisher, text};
use crate::kit::wire_server::{Asked, answer};

const HTML: &str = "<!doctype html><title>Please log in</title>";

/// Status, headers and body.
type Words = (u16, &'static [(&'static str, &'static str)], &'static str);

/// Answers of registries without the Referrers API.
const NO_API: [Words; 9] = [
    (400, &[], ""),
    (404, &[], "404 page not found"),
    (405, &[], ""),
    (406, &[], ""),
    (410, &[], ""),
    (501, &[], ""),
    (200, &[("content-type", "text/html"), ("link", "<<>; rel=\"next\"")], HTML),
    (200, &[("content-type", "application/json")], r#"{"results":[]}"#),
    (200, &[("content-type", INDEX)], "{}"),
];

/// A source that answers referrers calls like this, and whose fallback tag lists `note`.
async fn without_api(
    field: &Field,
    note: &Descriptor,
    (code, headers, body): Words,
) -> crate::kit::wire_server::Server {
    let index = super::field::referrers(&serde_json::json!([note]));
    let node = images::put(&field.store(), MediaType::OCI_INDEX, index).await;
    images::tag(&field.store(), &node, &field.root.digest.fallback_tag()).await;
    mirror(&field.source, move |asked| asked.line.contains("/referrers/").then(|| answer(code, headers, body))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_the_referrers_api_may_say_so_in_other_words() {
    for words in NO_API {
        let field = Field::bare(Profile::default(), Profile::default()).await;
        let note = artifact(&field.store(), "a note", Some(&field.root)).await;
        let source = without_api(&field, &note, words).await;
        assert_code(&field.seed_from(&source.host, &["--skip-verify"]).await, 0);
        field.assert_arrived(&[], &[(field.root.digest, note)]).await;
        let asked = source.lines().iter().filter(|line| line.contains("/referrers/")).count();
        assert!(asked <= 2, "{words:?}: it is asked once, and once more in case of damage: {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_without_the_referrers_api_may_say_so_in_other_words() {
    for what in
        [What::Status(400), What::Status(405), What::Status(406), What::Status(410), What::Status(501), What::Html]
    {
        let field = Field::bare(Profile::default(), Profile::distribution_3()).await;
        let note = artifact(&field.store(), "a note", Some(&field.root)).await;
        field.sink.fault(Fault::always(Kind::Referrers, what.clone()));
        for _ in 0..2 {
            assert_code(&field.seed(&["--skip-verify"]).await, 0);
            let listed = publisher(&field.sink, "app").referrers(&field.root.digest).await.unwrap();
            assert_eq!(listed.iter().map(|node| node.digest).collect::<Vec<_>>(), [note.digest], "{what:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_for_the_referrers_and_for_the_fallback_tag_is_a_portal_and_no_answer() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let page = |asked: &Asked| -> Option<Response> {
        let is_asked = ["/referrers/", "/tags/list", "/manifests/sha256-"].iter().any(|part| asked.line.contains(part));
        is_asked.then(|| answer(200, &[("content-type", "text/html")], HTML))
    };
    let source = mirror(&field.source, page).await;
    let done = field.seed_from(&source.host, &["--skip-verify"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("an HTML page in place of a manifest"), "{}", text(&done));
    field.assert_nothing(&done).await;
}

/// Answers a request for a missing fallback tag with the subject manifest, as GitLab does.
async fn gitlab(field: &Field) -> crate::kit::wire_server::Server {
    let layout = field.source.layout("app");
    let mut held = Vec::new();
    for node in field.children.iter().chain([&field.root]) {
        let root = layout.fetch(&Name::Digest(node.digest)).await.unwrap();
        held.push((
            format!("/manifests/{} ", node.digest.fallback_tag()),
            root.node.media_type.to_string(),
            root.bytes,
        ));
    }
    mirror(&field.source, move |asked| {
        if asked.line.contains("/referrers/") {
            return Some(answer(404, &[], "404 page not found"));
        }
        if asked.line.contains("/tags/list") {
            return Some(answer(403, &[], ""));
        }
        let (_, media_type, bytes) = held.iter().find(|(path, ..)| asked.line.contains(path.as_str()))?;
        Some(answer(200, &[("content-type", media_type.as_str())], bytes.clone()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_served_as_its_own_fallback_index_has_no_referrers() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let source = gitlab(&field).await;
    let done = field.seed_from(&source.host, &["--skip-verify"]).await;
    assert_code(&done, 0);
    assert!(!text(&done).contains("is listed as attached"), "{}", text(&done));
    field.assert_arrived(&[], &[]).await;
    let (key, host) = (field.path("cosign.pub"), format!("{}/app:v1", source.host));
    let judged = autonomy(&["bundle", "verify", &host, "--pub-key", key.to_str().unwrap()]).await;
    assert_code(&judged, 3);
    assert!(text(&judged).contains("SIG_NOT_FOUND"), "{}", text(&judged));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_tag_that_holds_no_index_lists_nothing_and_is_not_overwritten() {
    let field = Field::bare(Profile::distribution_3(), Profile::distribution_3()).await;
    let (source, sink) = (field.store(), publisher(&field.sink, "app"));
    let other = artifact(&source, "an image of that name", None).await;
    images::tag(&source, &other, &field.root.digest.fallback_tag()).await;
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    let own = artifact(&sink, "an image of that name at the destination", None).await;
    images::tag(&sink, &own, &field.root.digest.fallback_tag()).await;
    assert!(sink.referrers(&field.root.digest).await.unwrap().is_empty());
    let note = serde_json::json!({"schemaVersion": 2, "layers": [], "subject": super::field::reference(&field.root)});
    let node = Descriptor::of(MediaType::OCI_MANIFEST, note.to_string().as_bytes());
    let refused = sink.put(&node, &Body::bytes(node.clone(), note.to_string()), &[]).await.unwrap_err();
    assert!(refused.chain().contains("kept for an index of referrers"), "{}", refused.chain());
    assert_eq!(tag(&field.sink, &field.root.digest.fallback_tag()).await, Some(own.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_is_said_to_be_noted_where_there_is_no_api_gets_its_fallback_index() {
    let field = Field::bare(Profile::default(), Profile::distribution_3()).await;
    let note = artifact(&field.store(), "a note", Some(&field.root)).await;
    let value = field.root.digest.to_string();
    field.sink.fault(Fault::always(Kind::ManifestPut, What::SetHeader { name: "oci-subject", value }));
    for _ in 0..2 {
        let done = field.seed(&["--skip-verify"]).await;
        assert_code(&done, 0);
        let listed = publisher(&field.sink, "app").referrers(&field.root.digest).await.unwrap();
        assert_eq!(listed.iter().map(|node| node.digest).collect::<Vec<_>>(), [note.digest]);
    }
}

/// Signs the field's image with a new key, leaves the public key in `cosign.pub`, and attaches the bundle.
async fn sign_with_a_bundle(field: &Field) -> Descriptor {
    let (key, now) = (SigningKey::generate().unwrap(), jiff::Timestamp::now());
    std::fs::write(field.path("cosign.pub"), key.public_pem().unwrap()).unwrap();
    let statement = sigstore_bundle::statement(&field.root.digest, Some(now));
    let signed = key.sign(&sigstore_bundle::pae(&statement)).unwrap();
    let bytes = sigstore_bundle::build(&key.public_key().unwrap(), &statement, &signed);
    let attachment = artifact::bundle_manifest(&field.root, &bytes, now);
    for (node, bytes) in attachment.blobs {
        images::put(&field.store(), node.media_type, bytes).await;
    }
    images::put(&field.store(), MediaType::OCI_MANIFEST, attachment.manifest).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_verifies_at_a_destination_that_says_to_note_subjects_and_has_no_api() {
    let field = Field::bare(Profile::default(), Profile::distribution_3()).await;
    sign_with_a_bundle(&field).await;
    let value = field.root.digest.to_string();
    field.sink.fault(Fault::always(Kind::ManifestPut, What::SetHeader { name: "oci-subject", value }));
    let path = field.path("cosign.pub");
    assert_code(&field.seed(&["--pub-key", path.to_str().unwrap()]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_a_destination_hides_counts_as_absent_and_is_recorded() {
    for status in [401, 403] {
        for flags in [&["--skip-verify"][..], &["--pub-key"]] {
            let field = Field::between(Profile::default(), Profile::default()).await;
            let key = field.path("cosign.pub");
            let mut flags = flags.to_vec();
            if flags == ["--pub-key"] {
                flags.push(key.to_str().unwrap());
            }
            // Only the first answer is wrong; later ones show what is there.
            for on in [Kind::ManifestHead, Kind::Tags] {
                field.sink.fault(Fault::always(on, What::Status(status)).times(1));
            }
            let done = field.seed(&flags).await;
            assert_code(&done, 0);
            let (root, child) = (&field.of_the_root, &field.of_a_child);
            field.assert_arrived(&[&root.0[..], &child.0].concat(), &[&root.1[..], &child.1].concat()).await;
            let record = std::fs::read_to_string(field.path("out/seed-manifest.json")).unwrap();
            assert!(record.contains("\"weakened\"") && record.contains("taken for absent"), "{record}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_never_shows_cosigns_tags_gets_them() {
    let field = Field::between(Profile::default(), Profile::default()).await;
    field.sink.fault(Fault::always(Kind::ManifestHead, What::Status(403)).at("/manifests/sha256-"));
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    for (name, node) in &field.of_the_root.0 {
        assert_eq!(tag(&field.sink, name).await, Some(node.digest), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_keeps_former_roots_does_not_take_a_refusal_for_absence() {
    let field = Field::between(Profile::default(), Profile::default()).await;
    field.sink.fault(Fault::always(Kind::ManifestHead, What::Status(403)).times(1));
    let done = field.seed(&["--skip-verify", "--keep-previous"]).await;
    assert_code(&done, 4);
    assert_eq!(field.sink.count(Kind::ManifestPut), 0, "nothing moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_push_rights_is_still_refused() {
    let field = Field::between(Profile::default(), Profile::default()).await;
    for on in [Kind::ManifestHead, Kind::UploadPost, Kind::ManifestPut, Kind::Tags] {
        field.sink.fault(Fault::always(on, What::Status(403)));
    }
    let done = field.seed(&["--skip-verify"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("error: destination"), "{}", text(&done));
    field.assert_nothing(&done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_place_does_not_hide_a_good_signature_in_another() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let proof = sign_with_a_bundle(&field).await;
    let index =
        images::put(&field.store(), MediaType::OCI_INDEX, super::field::referrers(&serde_json::json!([proof]))).await;
    images::tag(&field.store(), &index, &field.root.digest.fallback_tag()).await;
    let path = field.path("cosign.pub");
    let verify = async |host: &str| {
        autonomy(&["bundle", "verify", &format!("{host}/app:v1"), "--pub-key", path.to_str().unwrap()]).await
    };
    let sig = cosign_tag(&field.root.digest, ".sig");
    for status in [401, 403, 500] {
        for (refused, code) in [
            (vec![sig.clone()], 0),
            // The fallback tag has it too.
            (vec![sig.clone(), "/referrers/".to_owned()], 0),
            (vec![sig.clone(), "/referrers/".to_owned(), field.root.digest.fallback_tag()], 4),
            (vec![sig.clone(), proof.digest.to_string()], 4),
        ] {
            let told = refused.clone();
            let source = mirror(&field.source, move |asked| {
                refused.iter().any(|part| asked.line.contains(part.as_str())).then(|| answer(status, &[], ""))
            })
            .await;
            let done = verify(&source.host).await;
            assert_code(&done, code);
            assert!(!text(&done).contains("SIG_NOT_FOUND"), "{status} on {told:?}: {}", text(&done));
        }
    }
}
