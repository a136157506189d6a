//! The registry store against servers that answer by script: requests not sent, faults survived, lies found out.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use autonomy_registry::error::{Error, Kind, Side};
use autonomy_registry::oci::{Descriptor, Digest, MediaType, Name, Tag};
use autonomy_registry::store::{
    Body, ByteStream, Listing, Memory, Put, Registry, Role, Root, Store, Want, read_manifest,
};
use autonomy_registry::wire::{Client, Options, Retry};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::wire_server::{Asked, Server, answer, client, options, status};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn layer(bytes: &'static [u8]) -> (Descriptor, Body) {
    let node = Descriptor::of(MediaType::OCI_LAYER, bytes);
    (node.clone(), Body::bytes(node, bytes))
}

fn manifest(text: &str) -> (Descriptor, Body) {
    let node = Descriptor::of(MediaType::OCI_MANIFEST, text.as_bytes());
    (node.clone(), Body::bytes(node, text.to_owned()))
}

fn sink(client: &Client, server: &Server) -> Registry {
    Registry::new(client, &server.repository("a/b"), Role::Sink)
}

fn source(client: &Client, server: &Server) -> Registry {
    Registry::new(client, &server.repository("a/b"), Role::Source)
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn v1() -> Name {
    Name::Tag(tag("v1"))
}

async fn drain(stream: ByteStream) -> Result<Vec<u8>, Error> {
    stream.map_ok(|piece| piece.to_vec()).try_concat().await
}

fn problem(code: u16, name: &str) -> Response {
    answer(code, &[("content-type", "application/json")], format!(r#"{{"errors":[{{"code":"{name}"}}]}}"#))
}

/// Opens a session for every POST and takes every PUT.
fn accepting(asked: &Asked) -> Response {
    match asked.line.split(' ').next() {
        Some("POST") => answer(202, &[("location", "/session/1?state=x%2Fy")], ""),
        Some("PUT") => status(201),
        Some("DELETE") => status(204),
        _ => status(404),
    }
}

#[tokio::test]
async fn a_new_blob_costs_two_requests_a_present_one_one_and_a_manifest_one() {
    let server = Server::start(accepting).await;
    let (client, (node, body)) = (client(), layer(b"layer"));
    let sink = sink(&client, &server);
    assert_eq!(sink.put(&node, &body, &[]).await.unwrap(), Put::Sent(5));
    let asked = server.asked();
    let lines: Vec<_> = asked.iter().map(|asked| asked.line.clone()).collect();
    let digest = node.digest;
    assert_eq!(
        lines,
        [
            format!("POST /v2/a/b/blobs/uploads/?mount={digest}&from=a%2Fb"),
            format!("PUT /session/1?state=x%2Fy&digest={digest}"),
        ]
    );
    assert_eq!(asked[1].header("content-length"), Some("5"));
    assert_eq!(asked[1].header("transfer-encoding"), None);
    assert_eq!(asked[1].header("content-type"), Some("application/octet-stream"));
    assert_eq!(&asked[1].body[..], b"layer");

    let (node, body) = manifest(r#"{"schemaVersion":2,"layers":[]}"#);
    assert_eq!(sink.put(&node, &body, &[tag("v1")]).await.unwrap(), Put::Sent(node.size));
    sink.put(&node, &body, &[]).await.unwrap();
    let asked = server.asked();
    let lines: Vec<_> = asked.iter().map(|asked| asked.line.clone()).collect();
    assert_eq!(lines, ["PUT /v2/a/b/manifests/v1".to_owned(), format!("PUT /v2/a/b/manifests/{}", node.digest)]);
    assert_eq!(asked[0].header("content-type"), Some(MANIFEST));
    assert_eq!((sink.tally().requests, sink.tally().bytes_out), (4, 5 + 2 * node.size));
}

#[tokio::test]
async fn what_is_there_or_can_be_mounted_is_never_read() {
    let server = Server::start(|_: &Asked| status(201)).await;
    let (client, (node, body)) = (client(), layer(b"layer"));
    let sink = sink(&client, &server);
    assert_eq!(sink.put(&node, &body, &[]).await.unwrap(), Put::Present);
    let mountable = body.clone().mountable("other/one".parse().unwrap());
    assert_eq!(sink.put(&node, &mountable, &[]).await.unwrap(), Put::Mounted);
    let lines = server.lines();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].ends_with("&from=other%2Fone"), "{lines:?}");
    assert_eq!(body.meter().fetched(), 0);
}

#[tokio::test]
async fn an_empty_blob_is_sent_as_such() {
    let server = Server::start(accepting).await;
    let (node, body) = layer(b"");
    assert_eq!(sink(&client(), &server).put(&node, &body, &[]).await.unwrap(), Put::Sent(0));
    assert_eq!(server.asked()[1].header("content-length"), Some("0"));
}

#[tokio::test]
async fn a_registry_that_refuses_mounts_is_asked_plainly_from_then_on() {
    let server =
        Server::start(
            |asked: &Asked| {
                if asked.line.contains("mount=") { problem(400, "UNSUPPORTED") } else { accepting(asked) }
            },
        )
        .await;
    let (client, (node, body)) = (client(), layer(b"layer"));
    for count in [4, 3] {
        assert_eq!(sink(&client, &server).put(&node, &body, &[]).await.unwrap(), Put::Sent(5));
        let lines = server.lines();
        assert_eq!(lines.len(), count, "{lines:?}");
        assert_eq!(lines[count - 2], "POST /v2/a/b/blobs/uploads/");
    }
}

#[tokio::test]
async fn tokens_ask_for_what_is_needed_and_for_the_mounts_source_too() {
    let server = Server::start(|asked: &Asked| {
        let realm = format!(r#"Bearer realm="http://{}/token",service="s""#, asked.header("host").unwrap());
        match asked.header("authorization") {
            _ if asked.is("GET /token") => answer(200, &[], r#"{"token":"t"}"#),
            None => answer(401, &[("www-authenticate", &realm)], ""),
            Some(_) => accepting(asked),
        }
    })
    .await;
    let (client, (node, body)) = (client(), layer(b"layer"));
    let sink = sink(&client, &server);
    sink.put(&node, &body, &[]).await.unwrap();
    sink.put(&node, &body, &[]).await.unwrap();
    sink.put(&node, &body.clone().mountable("c".parse().unwrap()), &[]).await.unwrap();
    let lines = server.lines();
    let starts: Vec<_> = lines.iter().map(|line| &line[..line.find(['?', '1']).unwrap_or(line.len())]).collect();
    let post = "POST /v2/a/b/blobs/uploads/";
    let (token, put) = ("GET /token", "PUT /session/");
    assert_eq!(starts, [post, token, post, put, post, put, token, post, put]);
    assert_eq!(lines[1], "GET /token?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush");
    assert!(lines[6].ends_with("&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%3Apull"), "{}", lines[6]);
    assert_eq!(sink.tally().requests, 9, "token requests count");
}

#[tokio::test]
async fn logins_stay_with_their_host_whatever_redirects_and_locations_say() {
    let other =
        Server::start(
            |asked: &Asked| {
                if asked.is("PUT") { status(201) } else { answer(200, &[("content-length", "5")], "layer") }
            },
        )
        .await;
    let to = format!("http://{}/elsewhere", other.host);
    let server = Server::start(move |asked: &Asked| match asked.header("authorization") {
        None => answer(401, &[("www-authenticate", "Basic")], ""),
        Some(_) if asked.is("POST") => answer(202, &[("location", &to)], ""),
        Some(_) => answer(307, &[("location", &to)], ""),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let authfile = dir.path().join("auth.json");
    std::fs::write(&authfile, format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host)).unwrap();
    let client = Client::new(Options { authfile: Some(authfile), ..options() }).unwrap();
    let ((node, body), sink) = (layer(b"layer"), sink(&client, &server));
    assert_eq!(sink.put(&node, &body, &[]).await.unwrap(), Put::Sent(5));
    assert_eq!(drain(sink.open(&node, 0).await.unwrap()).await.unwrap(), b"layer");
    let asked = other.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()), "{asked:?}");
}

#[tokio::test]
async fn an_upload_that_is_sent_elsewhere_goes_there_whole() {
    let server = Server::start(|asked: &Asked| match asked.line.as_str() {
        line if line.starts_with("PUT /session") => answer(307, &[("location", "/store/1")], ""),
        line if line.starts_with("PUT /store") => status(201),
        _ => accepting(asked),
    })
    .await;
    let (node, body) = layer(b"layer");
    assert_eq!(sink(&client(), &server).put(&node, &body, &[]).await.unwrap(), Put::Sent(5));
    assert_eq!(&server.asked()[2].body[..], b"layer");
}

/// Answers `first` for the first `count` requests that start with `start`, then as `then` does.
fn failing(
    start: &'static str,
    count: u32,
    first: fn() -> Response,
    then: fn(&Asked) -> Response,
) -> impl Fn(&Asked) -> Response + Clone + Send + Sync {
    let failed = Arc::new(AtomicU32::new(0));
    move |asked: &Asked| {
        if asked.is(start) && failed.fetch_add(1, Ordering::Relaxed) < count { first() } else { then(asked) }
    }
}

#[tokio::test]
async fn an_upload_that_fails_in_passing_is_begun_anew_and_the_old_session_cancelled() {
    let server = Server::start(failing("PUT /session", 2, || status(503), accepting)).await;
    let (client, (node, body)) = (client(), layer(b"layer"));
    let sink = sink(&client, &server);
    assert_eq!(sink.put(&node, &body, &[]).await.unwrap(), Put::Sent(5));
    client.settle(Duration::from_secs(5)).await;
    let lines = server.lines();
    let count = |method: &str| lines.iter().filter(|line| line.starts_with(method)).count();
    assert_eq!((count("POST"), count("PUT"), count("DELETE")), (3, 3, 2), "{lines:?}");
    assert_eq!(sink.tally().retries, 2);
}

#[tokio::test]
async fn too_many_requests_are_met_with_the_pause_that_is_asked_for() {
    let busy = || answer(429, &[("retry-after", "1")], "");
    let server = Server::start(failing("PUT", 1, busy, accepting)).await;
    let (node, body) = manifest(r#"{"schemaVersion":2}"#);
    let begun = Instant::now();
    sink(&client(), &server).put(&node, &body, &[tag("v1")]).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn what_the_source_fails_with_is_handed_on_and_not_tried_again() {
    let server = Server::start(accepting).await;
    let client = client();
    let node = Descriptor::of(MediaType::OCI_LAYER, b"layer");
    let lie = Body::bytes(node.clone(), &b"liars"[..]);
    let error = sink(&client, &server).put(&node, &lie, &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.side()), (Kind::Corrupt, Some(Side::Source)));
    client.settle(Duration::from_secs(5)).await;
    let lines = server.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("POST")).count(), 1, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("DELETE")).count(), 1, "{lines:?}");
}

#[tokio::test]
async fn an_upload_that_nobody_waits_for_any_more_is_cancelled() {
    let server = Server::start(accepting).await;
    let client = client();
    let stuck = Arc::new(Stuck);
    let node = Descriptor::of(MediaType::OCI_LAYER, b"layer");
    let sink = sink(&client, &server);
    let body = Body::stored(node.clone(), stuck);
    assert!(tokio::time::timeout(Duration::from_millis(300), sink.put(&node, &body, &[])).await.is_err());
    client.settle(Duration::from_secs(5)).await;
    assert!(server.lines().iter().any(|line| line.starts_with("DELETE /session/1?state=x%2Fy")));
}

/// A source that never gives a byte.
#[derive(Debug)]
struct Stuck;

#[async_trait::async_trait]
impl Store for Stuck {
    fn label(&self) -> &str {
        "stuck"
    }
    async fn resolve(&self, _: &Name, _: Want) -> autonomy_registry::Result<Root> {
        Err(Error::new(Kind::Unsupported, "resolve"))
    }
    async fn contains(&self, _: &Descriptor) -> autonomy_registry::Result<bool> {
        Ok(true)
    }
    async fn open(&self, _: &Descriptor, _: u64) -> autonomy_registry::Result<ByteStream> {
        Ok(Box::pin(stream::pending()))
    }
    async fn put(&self, _: &Descriptor, _: &Body, _: &[Tag]) -> autonomy_registry::Result<Put> {
        Err(Error::new(Kind::Unsupported, "put"))
    }

    fn expect(&self, _: usize) {}
}

/// `bytes` announced whole, cut off after `count`.
fn cut(code: u16, headers: &[(&str, &str)], bytes: &'static [u8], count: usize) -> Response {
    let pieces = [Ok(Bytes::from_static(&bytes[..count])), Err(io::Error::other("cut"))];
    // The first piece has to leave before the connection goes.
    let pieces = stream::iter(pieces).then(|piece| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        piece
    });
    let length = bytes.len().to_string();
    let headers = [headers, &[("content-length", length.as_str())]].concat();
    answer(code, &headers, axum::body::Body::from_stream(pieces))
}

#[tokio::test]
async fn a_download_that_breaks_off_is_continued_where_it_stopped() {
    let server = Server::start(|asked: &Asked| match asked.header("range") {
        None => cut(200, &[], b"0123456789", 4),
        Some("bytes=4-") => cut(206, &[("content-range", "bytes 4-9/10")], b"456789", 3),
        Some("bytes=7-") => answer(206, &[("content-range", "bytes 7-9/10")], "789"),
        Some(_) => status(416),
    })
    .await;
    let client = client();
    let node = Descriptor::of(MediaType::OCI_LAYER, b"0123456789");
    let registry = source(&client, &server);
    let body = Body::stored(node.clone(), Arc::new(registry.clone())).retrying(options().retry);
    let target = Memory::default();
    assert_eq!(target.put(&node, &body, &[]).await.unwrap(), Put::Sent(10));
    assert_eq!(server.lines().len(), 3);
    assert_eq!(body.meter().fetched(), 10, "no byte came twice");
    assert_eq!((registry.tally().bytes_in, registry.tally().retries), (10, 2));
}

#[tokio::test]
async fn ranges_are_believed_only_where_they_fit() {
    let node = Descriptor::of(MediaType::OCI_LAYER, b"0123456789");
    for (answers, expected) in [
        ((|_: &Asked| answer(200, &[], "0123456789")) as fn(&Asked) -> Response, Ok("456789")),
        (|_| answer(206, &[("content-range", "bytes 4-9/10")], "456789"), Ok("456789")),
        (|_| answer(206, &[("content-range", "bytes 3-9/10")], "3456789"), Err(Kind::Invalid)),
        (|_| answer(206, &[("content-range", "bytes 4-8/10")], "45678"), Err(Kind::Invalid)),
        (|_| answer(206, &[("content-range", "bytes 4-9/11")], "456789"), Err(Kind::Corrupt)),
        (|_| answer(206, &[], "456789"), Err(Kind::Invalid)),
        (|_| answer(200, &[], "012345678"), Err(Kind::Corrupt)),
        (|_| answer(416, &[], ""), Err(Kind::Corrupt)),
        (|_| problem(404, "BLOB_UNKNOWN"), Err(Kind::NotFound)),
    ] {
        let server = Server::start(answers).await;
        let found = match source(&client(), &server).open(&node, 4).await {
            Ok(stream) => drain(stream).await,
            Err(error) => Err(error),
        };
        let found = found.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|error| error.kind());
        assert_eq!(found, expected.map(str::to_owned));
        assert_eq!(server.lines().len(), 1);
    }
}

#[tokio::test]
async fn the_end_of_a_blob_is_not_asked_for() {
    let server = Server::start(|_: &Asked| status(416)).await;
    let node = Descriptor::of(MediaType::OCI_LAYER, b"0123456789");
    let stream = source(&client(), &server).open(&node, 10).await.unwrap();
    assert!(drain(stream).await.unwrap().is_empty() && server.lines().is_empty());
}

#[tokio::test]
async fn a_flipped_bit_in_the_root_is_found_and_fetched_again() {
    const RIGHT: &str = r#"{"schemaVersion":2,"layers":[]}"#;
    const FLIPPED: &str = r#"{"schemaVersion":2,"layerr":[]}"#;
    fn served(text: &'static str) -> Response {
        let digest = Digest::sha256(RIGHT.as_bytes()).to_string();
        answer(200, &[("content-type", MANIFEST), ("docker-content-digest", &digest)], text)
    }
    let server = Server::start(failing("GET", 1, || served(FLIPPED), |_| served(RIGHT))).await;
    let root = source(&client(), &server).resolve(&v1(), Want::Bytes).await.unwrap();
    assert_eq!(root.bytes.unwrap(), RIGHT);
    assert_eq!(server.lines().len(), 2);

    let server = Server::start(|_: &Asked| served(FLIPPED)).await;
    let error = source(&client(), &server).resolve(&v1(), Want::Bytes).await.unwrap_err();
    assert_eq!((error.kind(), server.lines().len()), (Kind::Corrupt, 3));

    // Without a word about the digest, what was asked for is the measure.
    let server = Server::start(|_: &Asked| answer(200, &[("content-type", MANIFEST)], FLIPPED)).await;
    let asked = Name::Digest(Digest::sha256(RIGHT.as_bytes()));
    let error = source(&client(), &server).resolve(&asked, Want::Bytes).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(source(&client(), &server).resolve(&v1(), Want::Bytes).await.is_ok());
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
    let root = source(&client(), &told).resolve(&v1(), Want::Digest).await.unwrap();
    assert_eq!((root.node, root.bytes), (node.clone(), None));
    assert_eq!(told.lines(), ["HEAD /v2/a/b/manifests/v1"]);

    let terse = Server::start(|_: &Asked| answer(200, &[("content-type", "application/json")], TEXT)).await;
    let root = source(&client(), &terse).resolve(&v1(), Want::Digest).await.unwrap();
    assert_eq!((root.node, root.bytes), (node, None));
    assert_eq!(terse.lines(), ["HEAD /v2/a/b/manifests/v1", "GET /v2/a/b/manifests/v1"]);
}

#[tokio::test]
async fn sha512_is_honoured_where_the_registry_speaks_it() {
    const TEXT: &str = r#"{"schemaVersion":2}"#;
    let long = Digest::Sha512([0; 64]).same_kind_of(TEXT.as_bytes());
    let server = Server::start(move |_: &Asked| {
        answer(200, &[("content-type", MANIFEST), ("docker-content-digest", &long.to_string())], TEXT)
    })
    .await;
    let root = source(&client(), &server).resolve(&v1(), Want::Bytes).await.unwrap();
    assert_eq!(root.node.digest, long);
}

#[tokio::test]
async fn what_is_no_manifest_is_named_as_what_it_is() {
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for (media_type, body, kind, tries) in [
        (schema1, "{}".to_owned(), Kind::Unsupported, 1),
        // Somebody else's, who may be gone at the next try.
        ("text/html; charset=utf-8", "<html>".to_owned(), Kind::Unavailable, 3),
        ("application/json", "\"text\"".to_owned(), Kind::Unsupported, 1),
        (MANIFEST, "x".repeat((4 << 20) + 1), Kind::Limit, 1),
    ] {
        let text = body.clone();
        let server = Server::start(move |_: &Asked| answer(200, &[("content-type", media_type)], text.clone())).await;
        let error = source(&client(), &server).resolve(&v1(), Want::Bytes).await.unwrap_err();
        assert_eq!((error.kind(), server.lines().len()), (kind, tries), "{media_type}: {}", error.chain());
    }
}

#[tokio::test]
async fn a_store_that_holds_other_bytes_than_it_was_sent_is_found_out() {
    let other = Digest::sha256(b"other").to_string();
    let server = Server::start(move |asked: &Asked| {
        if asked.is("PUT") { answer(201, &[("docker-content-digest", &other)], "") } else { accepting(asked) }
    })
    .await;
    let sink = sink(&client(), &server);
    for (node, body) in [layer(b"layer"), manifest(r#"{"schemaVersion":2}"#)] {
        let error = sink.put(&node, &body, &[]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{}", error.chain());
    }
}

#[tokio::test]
async fn missing_children_are_incomplete_and_nothing_else_is() {
    for (code, name, kind) in [
        (400, "MANIFEST_BLOB_UNKNOWN", Kind::Incomplete),
        (404, "BLOB_UNKNOWN", Kind::Incomplete),
        (404, "NAME_UNKNOWN", Kind::NotFound),
        (400, "MANIFEST_INVALID", Kind::Invalid),
    ] {
        let server = Server::start(move |_: &Asked| problem(code, name)).await;
        let (node, body) = manifest(r#"{"schemaVersion":2}"#);
        let error = sink(&client(), &server).put(&node, &body, &[]).await.unwrap_err();
        assert_eq!((error.kind(), server.lines().len()), (kind, 1), "{name}");
    }
}

#[tokio::test]
async fn a_blob_takes_no_tag() {
    let server = Server::start(accepting).await;
    let (node, body) = layer(b"layer");
    let error = sink(&client(), &server).put(&node, &body, &[tag("v1")]).await.unwrap_err();
    assert!(error.kind() == Kind::Usage && server.lines().is_empty());
}

/// A registry of manifests without a Referrers API. `meddle` may change what is stored after each PUT of an index.
async fn manifests(meddle: impl Fn(u32, &mut Vec<u8>) + Clone + Send + Sync + 'static) -> Server {
    type Held = HashMap<String, (String, Vec<u8>)>;
    let held: Arc<Mutex<Held>> = Arc::default();
    let writes = Arc::new(AtomicU32::new(0));
    Server::start(move |asked: &Asked| {
        let (method, path) = asked.line.split_once(' ').unwrap();
        let Some((_, name)) = path.split_once("/manifests/") else {
            return answer(404, &[("content-type", "text/plain")], "404 page not found\n");
        };
        let mut held = held.lock().unwrap();
        if method == "PUT" {
            let media_type = asked.header("content-type").unwrap().to_owned();
            let mut bytes = asked.body.to_vec();
            if media_type == INDEX {
                meddle(writes.fetch_add(1, Ordering::Relaxed), &mut bytes);
            }
            held.insert(name.to_owned(), (media_type, bytes));
            return status(201);
        }
        match held.get(name) {
            Some((media_type, bytes)) => answer(200, &[("content-type", media_type)], bytes.clone()),
            None => problem(404, "MANIFEST_UNKNOWN"),
        }
    })
    .await
}

/// A manifest that refers to `subject`, told apart by `number`.
fn referrer(subject: &Descriptor, number: u32) -> (Descriptor, Body) {
    let text = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "x/y", "layers": [],
        "config": autonomy_registry::oci::empty_json().0, "subject": subject,
        "annotations": {"number": number.to_string()},
    });
    manifest(&text.to_string())
}

#[tokio::test]
async fn referrers_are_told_to_a_registry_without_the_api_and_nobody_elses_are_lost() {
    let server = manifests(|_, _| ()).await;
    let client = client();
    let sink = Arc::new(sink(&client, &server));
    let (subject, _) = manifest("{}");
    let foreign = Descriptor::of(MediaType::OCI_MANIFEST, b"foreign");
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "unknown": [1], "manifests": [foreign]}).to_string();
    let node = Descriptor::of(MediaType::OCI_INDEX, index.as_bytes());
    sink.put(&node, &Body::bytes(node.clone(), index), &[tag(&subject.digest.fallback_tag())]).await.unwrap();
    server.lines();

    let (first, body) = referrer(&subject, 0);
    sink.put(&first, &body, &[]).await.unwrap();
    let lines = server.lines();
    let fallback = format!("/v2/a/b/manifests/{}", subject.digest.fallback_tag());
    let expected = [format!("GET {fallback}"), format!("PUT {fallback}"), format!("GET {fallback}")];
    assert_eq!(lines[1..], expected, "the manifest, then read, write, and read back");
    sink.put(&first, &body, &[]).await.unwrap();
    assert_eq!(server.lines().len(), 2, "an entry that is there is not written again");

    let others = (1..6).map(|number| {
        let (sink, (node, body)) = (Arc::clone(&sink), referrer(&subject, number));
        tokio::spawn(async move { sink.put(&node, &body, &[]).await })
    });
    for task in others.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    let found = sink.referrers(&subject.digest).await.unwrap();
    assert_eq!(found.len(), 7);
    assert_eq!(found[0].digest, foreign.digest);
    assert_eq!((found[1].digest, found[1].annotations["number"].as_str()), (first.digest, "0"));
    assert_eq!(found[1].artifact_type, Some(MediaType::new("x/y")));

    // What the tag holds besides is still there.
    let root = sink.resolve(&Name::Tag(tag(&subject.digest.fallback_tag())), Want::Bytes).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&root.bytes.unwrap()).unwrap()["unknown"], json!([1]));
    server.lines();
    sink.referrers(&subject.digest).await.unwrap();
    assert_eq!(server.lines(), [format!("GET {fallback}")], "the lack of the API is remembered");
}

#[tokio::test]
async fn an_entry_that_another_client_overwrites_is_written_again() {
    let lost = |write: u32, bytes: &mut Vec<u8>| {
        if write < 2 {
            *bytes = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string().into();
        }
    };
    let server = manifests(lost).await;
    let client = client();
    let (subject, _) = manifest("{}");
    let (node, body) = referrer(&subject, 0);
    sink(&client, &server).put(&node, &body, &[]).await.unwrap();
    assert_eq!(sink(&client, &server).referrers(&subject.digest).await.unwrap().len(), 1);

    let server = manifests(|_, bytes: &mut Vec<u8>| *bytes = json!({"mediaType": INDEX}).to_string().into()).await;
    let error = sink(&client, &server).put(&node, &body, &[]).await.unwrap_err();
    assert!(error.chain().contains("10 times"), "{}", error.chain());
}

#[tokio::test]
async fn a_fallback_tag_that_holds_something_else_is_left_alone() {
    let server = manifests(|_, _| ()).await;
    let client = client();
    let sink = sink(&client, &server);
    let (subject, body) = manifest(r#"{"schemaVersion":2}"#);
    sink.put(&subject, &body, &[tag(&subject.digest.fallback_tag())]).await.unwrap();
    let (node, body) = referrer(&subject, 0);
    assert_eq!(sink.put(&node, &body, &[]).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(sink.referrers(&subject.digest).await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn a_registry_that_notes_subjects_needs_no_fallback() {
    let server = Server::start(|_: &Asked| answer(201, &[("oci-subject", "x")], "")).await;
    let (subject, _) = manifest("{}");
    let (node, body) = referrer(&subject, 0);
    sink(&client(), &server).put(&node, &body, &[]).await.unwrap();
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn none_and_could_not_ask_differ() {
    let (subject, _) = manifest("{}");
    let once = Client::new(Options { retry: Retry::never(), ..options() }).unwrap();
    for (code, kind) in [(500, Kind::Unavailable), (403, Kind::Denied), (400, Kind::Invalid)] {
        let server = Server::start(move |_: &Asked| status(code)).await;
        let error = source(&once, &server).referrers(&subject.digest).await.unwrap_err();
        assert_eq!((error.kind(), server.lines().len()), (kind, 1), "{code}");
    }
    let server = Server::start(|_: &Asked| status(404)).await;
    assert!(source(&once, &server).referrers(&subject.digest).await.unwrap().is_empty());
    assert_eq!(server.lines().len(), 2, "the API, then the fallback tag");
}

#[tokio::test]
async fn lists_are_followed_from_page_to_page_and_end() {
    let node = Descriptor::of(MediaType::OCI_MANIFEST, b"x");
    let page = json!({"schemaVersion": 2, "manifests": [node]}).to_string();
    let server = Server::start(move |asked: &Asked| match asked.line.as_str() {
        "GET /v2/a/b/tags/list" => {
            answer(200, &[("link", "</v2/a/b/tags/list?last=b>; rel=\"next\"")], r#"{"tags":["a","b"]}"#)
        }
        "GET /v2/a/b/tags/list?last=b" => {
            answer(200, &[("link", "</v2/a/b/tags/list?last=b>; rel=\"next\"")], r#"{"tags":["c","not a tag"]}"#)
        }
        line if line.contains("/referrers/") => {
            let next = line.split("page=").nth(1).map_or(1, |page| page.parse::<u32>().unwrap() + 1);
            let link = format!("<?page={next}>; rel=next");
            answer(200, if next < 4 { vec![("link", link.as_str())] } else { vec![] }.as_slice(), page.clone())
        }
        _ => status(404),
    })
    .await;
    let client = client();
    let registry = source(&client, &server);
    assert_eq!(registry.tags().await.unwrap(), [tag("a"), tag("b"), tag("c")]);
    assert_eq!(server.lines().len(), 2, "a page that links to itself is the last");
    assert_eq!(registry.referrers(&Digest::sha256(b"y")).await.unwrap().len(), 4);
    assert_eq!(server.lines().len(), 4);

    let endless = Arc::new(AtomicU32::new(0));
    let server = Server::start(move |_: &Asked| {
        let link = format!("<?page={}>; rel=next", endless.fetch_add(1, Ordering::Relaxed));
        answer(200, &[("link", &link)], r#"{"manifests":[]}"#)
    })
    .await;
    let error = source(&client, &server).referrers(&Digest::sha256(b"y")).await.unwrap_err();
    assert_eq!((error.kind(), server.lines().len()), (Kind::Limit, 16));
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
