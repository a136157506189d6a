//! Manifests: resolved with few requests, checked by their digests, and told apart from other content.

use autonomy_registry::error::Kind;
use autonomy_registry::oci::{Descriptor, Digest, MediaType, Name};
use autonomy_registry::store::{Store as _, read_manifest};
use axum::response::Response;

use super::{MANIFEST, cut, drain, failing, manifest, problem, sink, source, v1};
use crate::kit::wire_server::{Asked, Server, answer, client};

#[tokio::test]
async fn a_flipped_bit_in_the_root_is_found_and_fetched_again() {
    const RIGHT: &str = r#"{"schemaVersion":2,"layers":[]}"#;
    const FLIPPED: &str = r#"{"schemaVersion":2,"layerr":[]}"#;
    fn served(text: &'static str) -> Response {
        let digest = Digest::sha256(RIGHT.as_bytes()).to_string();
        answer(200, &[("content-type", MANIFEST), ("docker-content-digest", &digest)], text)
    }
    let server = Server::start(failing("GET", 1, || served(FLIPPED), |_| served(RIGHT))).await;
    let root = source(&client(), &server).fetch(&v1()).await.unwrap();
    assert_eq!(root.bytes, RIGHT);
    assert_eq!(server.lines().len(), 2);

    let server = Server::start(|_: &Asked| served(FLIPPED)).await;
    let error = source(&client(), &server).fetch(&v1()).await.unwrap_err();
    assert_eq!((error.kind(), server.lines().len()), (Kind::Corrupt, 3));

    // Without a digest header, the requested digest is checked.
    let server = Server::start(|_: &Asked| answer(200, &[("content-type", MANIFEST)], FLIPPED)).await;
    let asked = Name::Digest(Digest::sha256(RIGHT.as_bytes()));
    let error = source(&client(), &server).fetch(&asked).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(source(&client(), &server).fetch(&v1()).await.is_ok());
}

#[tokio::test]
async fn a_name_is_resolved_by_head_alone_where_that_says_enough() {
    const TEXT: &str = r#"{"schemaVersion":2}"#;
    let node = Descriptor::of(MediaType::OCI_MANIFEST, TEXT.as_bytes());
    let digest = node.digest.to_string();
    let told = Server::start(move |_: &Asked| {
        answer(200, &[("content-type", MANIFEST), ("docker-content-digest", &digest)], TEXT)
    })
    .await;
    let found = source(&client(), &told).resolve(&v1()).await.unwrap();
    assert_eq!(found, node.clone());
    assert_eq!(told.lines(), ["HEAD /v2/a/b/manifests/v1"]);

    let terse = Server::start(|_: &Asked| answer(200, &[("content-type", "application/json")], TEXT)).await;
    let found = source(&client(), &terse).resolve(&v1()).await.unwrap();
    assert_eq!(found, node);
    assert_eq!(terse.lines(), ["HEAD /v2/a/b/manifests/v1", "GET /v2/a/b/manifests/v1"]);
}

#[tokio::test]
async fn a_length_that_contradicts_is_asked_for_again() {
    let (node, _) = manifest(r#"{"schemaVersion":2}"#);
    let other = || answer(200, &[("content-length", "43")], "");
    let server = Server::start(failing("HEAD", 1, other, |_| answer(200, &[("content-length", "19")], ""))).await;
    assert!(source(&client(), &server).contains(&node).await.unwrap());
    assert_eq!(server.lines().len(), 2);

    let server = Server::start(move |_: &Asked| other()).await;
    let error = source(&client(), &server).contains(&node).await.unwrap_err();
    assert_eq!((error.kind(), server.lines().len()), (Kind::Corrupt, 3), "{}", error.chain());
}

#[tokio::test]
async fn sha512_is_honoured_where_the_registry_speaks_it() {
    const TEXT: &str = r#"{"schemaVersion":2}"#;
    let long = Digest::Sha512([0; 64]).same_kind_of(TEXT.as_bytes());
    let server = Server::start(move |_: &Asked| {
        answer(200, &[("content-type", MANIFEST), ("docker-content-digest", &long.to_string())], TEXT)
    })
    .await;
    let root = source(&client(), &server).fetch(&v1()).await.unwrap();
    assert_eq!(root.node.digest, long);
}

#[tokio::test]
async fn content_that_is_no_manifest_is_named() {
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for (media_type, body, kind, tries) in [
        (schema1, "{}".to_owned(), Kind::Unsupported, 1),
        // From something in between, which may be gone at the next try.
        ("text/html; charset=utf-8", "<html>".to_owned(), Kind::Unavailable, 3),
        ("application/json", "\"text\"".to_owned(), Kind::Unsupported, 1),
        (MANIFEST, "x".repeat((4 << 20) + 1), Kind::Limit, 1),
    ] {
        let text = body.clone();
        let server = Server::start(move |_: &Asked| answer(200, &[("content-type", media_type)], text.clone())).await;
        let error = source(&client(), &server).fetch(&v1()).await.unwrap_err();
        assert_eq!((error.kind(), server.lines().len()), (kind, tries), "{media_type}: {}", error.chain());
    }
}

#[tokio::test]
async fn missing_children_are_incomplete_and_nothing_else_is() {
    for (code, name, kind, tries) in [
        // These two may be transient.
        (400, "MANIFEST_BLOB_UNKNOWN", Kind::Incomplete, 2),
        (404, "BLOB_UNKNOWN", Kind::Incomplete, 2),
        (404, "NAME_UNKNOWN", Kind::NotFound, 1),
        (400, "MANIFEST_INVALID", Kind::Invalid, 1),
    ] {
        let server = Server::start(move |_: &Asked| problem(code, name)).await;
        let (node, body) = manifest(r#"{"schemaVersion":2}"#);
        let error = sink(&client(), &server).put(&node, &body, &[]).await.unwrap_err();
        assert_eq!((error.kind(), server.lines().len()), (kind, tries), "{name}");
    }
}

#[tokio::test]
async fn a_blob_that_a_registry_misses_while_another_client_puts_it_is_there_at_the_second_try() {
    let missed = || problem(400, "MANIFEST_BLOB_UNKNOWN");
    let server = Server::start(failing("PUT", 1, missed, |_| answer(201, &[], ""))).await;
    let (node, body) = manifest(r#"{"schemaVersion":2}"#);
    sink(&client(), &server).put(&node, &body, &[]).await.unwrap();
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn manifests_are_read_whole_and_checked_by_digest() {
    const TEXT: &str = r#"{"schemaVersion":2}"#;
    let server =
        Server::start(failing("GET", 1, || cut(200, &[], TEXT.as_bytes(), 3), |_| answer(200, &[], TEXT))).await;
    let (node, _) = manifest(TEXT);
    let client = client();
    let source = source(&client, &server);
    assert_eq!(read_manifest(&source, &node).await.unwrap(), TEXT);
    assert_eq!(drain(source.open(&node, 4).await.unwrap()).await.unwrap(), &TEXT.as_bytes()[4..]);
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|asked| asked.header("range").is_none()), "manifests are not asked for in parts");
}
