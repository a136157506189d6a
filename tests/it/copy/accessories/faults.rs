//! Registries that cannot or will not list accessories.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use axum::response::Response;

use super::field::{Field, INDEX, cosign_tag, mirror};
use crate::kit::command::{assert_code, each_at_once, text};
use crate::kit::wire_server::{Asked, answer};

/// Answers every request for `what` with this response.
fn always(
    what: &'static str,
    code: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
) -> impl Fn(&Asked) -> Option<Response> + Clone + Send + Sync + 'static {
    move |asked| asked.line.contains(what).then(|| answer(code, headers, body))
}

const HTML: &str = "<!doctype html><title>Please log in</title>";

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_say_what_is_attached_ends_the_run() {
    let field = Field::between(Profile::default(), Profile::default()).await;
    for (what, code, headers, body) in [
        ("/referrers/", 500, &[][..], ""),
        ("/referrers/", 403, &[], ""),
        ("/referrers/", 401, &[], ""),
        ("/referrers/", 200, &[("content-type", INDEX)], "{\"manifests\": 3}"),
        ("/referrers/", 200, &[("content-type", INDEX)], "\u{1}\u{2}\u{3}"),
        ("/referrers/", 200, &[("content-type", INDEX)], r#"{"manifests":[{"digest":"sha256:../../etc","size":1}]}"#),
        ("/referrers/", 200, &[], r#"{"manifests":[{"digest":"sha256:00","size":18446744073709551616}]}"#),
        (".att", 500, &[], ""),
        (".sbom", 403, &[], ""),
        (".att", 200, &[("content-type", "text/html")], HTML),
    ] {
        let source = mirror(&field.source, always(what, code, headers, body)).await;
        let done = field.seed_from(&source.host, &["--skip-verify"]).await;
        assert_code(&done, 4);
        let said = text(&done);
        assert!(said.contains("error: source: list what is attached"), "{what} {code} {body}: {said}");
        assert!(said.contains("hint: "), "{what} {code} {body}: {said}");
        field.assert_nothing(&done).await;
        assert_eq!(field.sink.count(Kind::UploadPost) + field.sink.count(Kind::ManifestPut), 0, "nothing moved");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_tags_that_cannot_be_right_is_done_without() {
    for (code, body) in [
        (404, "404 page not found\n"),
        (400, ""),
        (401, ""),
        (403, ""),
        (405, ""),
        (500, ""),
        (501, ""),
        (200, HTML),
        (200, "[]"),
        (200, r#"{"name":"app"}"#),
        (404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
        (200, r#"{"tags":null}"#),
        (200, r#"{"tags":[]}"#),
        // It lacks the tag being seeded.
        (200, r#"{"tags":["v2","sha256-0000000000000000000000000000000000000000000000000000000000000000.sig"]}"#),
    ] {
        let field = Field::between(Profile::default(), Profile::default()).await;
        let source = mirror(&field.source, always("/tags/list", code, &[], body)).await;
        assert_code(&field.seed_from(&source.host, &["--skip-verify"]).await, 0);
        let (root, child) = (&field.of_the_root, &field.of_a_child);
        field.assert_arrived(&[&root.0[..], &child.0].concat(), &[&root.1[..], &child.1].concat()).await;
        let asked = source.lines().iter().filter(|line| line.contains(".sig")).count();
        assert_eq!(asked, 3, "each manifest by itself");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_tags_without_an_end_is_left_and_each_tag_asked_for() {
    let field = Field::between(Profile::default(), Profile::default()).await;
    let pages = Arc::new(AtomicU32::new(0));
    let source = mirror(&field.source, move |asked| {
        let link = || format!("</v2/app/tags/list?last={}>; rel=\"next\"", pages.fetch_add(1, Ordering::Relaxed));
        asked.line.contains("/tags/list").then(|| answer(200, &[("link", &link())], r#"{"tags":["v1"]}"#))
    })
    .await;
    assert_code(&field.seed_from(&source.host, &["--skip-verify"]).await, 0);
    let (root, child) = (&field.of_the_root, &field.of_a_child);
    field.assert_arrived(&[&root.0[..], &child.0].concat(), &[&root.1[..], &child.1].concat()).await;
    assert_eq!(source.lines().iter().filter(|line| line.contains("/tags/list")).count(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_cannot_say_what_it_has_ends_the_run() {
    let cases = [
        (Kind::ManifestHead, ".sig", What::Status(500)),
        (Kind::Referrers, "", What::Status(500)),
        (Kind::Referrers, "", What::Status(403)),
        (Kind::Referrers, "", What::Replace("{\"manifests\": 3}".into())),
    ];
    each_at_once(cases, async |(on, at, what)| {
        let field = Field::between(Profile::default(), Profile::default()).await;
        // A new image needs only its tags looked up; an existing one needs everything else.
        assert_code(&field.seed(&["--skip-verify"]).await, 0);
        let written = field.left().await.1;
        let other = testkit::images::two_platforms(&field.store(), 2, &[10]).await;
        testkit::images::tag(&field.store(), &other, "v1").await;
        testkit::images::tag(&field.store(), &field.root, "v1").await;
        field.clear_logs();
        field.sink.fault(Fault::always(on, what.clone()).at(at));
        let done = field.seed(&["--skip-verify"]).await;
        assert_code(&done, 4);
        let said = text(&done);
        assert!(said.contains("error: destination: list what is attached"), "{on:?} {what:?}: {said}");
        assert_eq!(field.left().await.1, written, "{said}");
        assert_eq!(field.sink.count(Kind::UploadPost) + field.sink.count(Kind::ManifestPut), 0, "nothing moved");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_cannot_take_an_attachment_does_not_get_the_tag() {
    // The attestation's tag; the referrers index, whose tag is a prefix of cosign's tags.
    for (on, suffix) in [(Kind::ManifestPut, ".att"), (Kind::ManifestPut, ""), (Kind::ManifestGet, "")] {
        each_at_once([403, 413, 500], async |status| {
            let field = Field::between(Profile::default(), Profile::distribution_2()).await;
            let at = cosign_tag(&field.root.digest, suffix);
            field.sink.fault(Fault::always(on, What::Status(status)).at(at));
            let done = field.seed(&["--skip-verify"]).await;
            assert_code(&done, 4);
            field.assert_nothing(&done).await;
        })
        .await;
    }
}
