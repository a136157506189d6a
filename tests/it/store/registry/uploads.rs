//! Uploads: how few requests they take, which ones are begun anew, and which are given up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use autonomy_registry::error::{Error, Kind, Side};
use autonomy_registry::oci::{Descriptor, Digest, MediaType, Name, Tag};
use autonomy_registry::store::{Body, ByteStream, Put, Root, Store};
use futures_util::stream;

use super::{MANIFEST, accepting, failing, layer, manifest, problem, sink, tag};
use crate::kit::wire_server::{Asked, Server, answer, client, status};

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
async fn blobs_that_are_present_or_mountable_are_never_read() {
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
async fn a_blob_expected_to_be_missing_is_opened_early_and_once() {
    for (is_held, put) in [(true, Put::Present), (false, Put::Sent(5))] {
        let answers = move |asked: &Asked| if is_held { status(201) } else { accepting(asked) };
        let server = Server::start(answers).await;
        let (client, (node, body)) = (client(), layer(b"layer"));
        let body = body.early();
        assert_eq!(sink(&client, &server).put(&node, &body, &[]).await.unwrap(), put);
        let asked = server.asked();
        assert_eq!((asked.len(), body.meter().fetched()), (if is_held { 1 } else { 2 }, 5));
        assert!(is_held || asked[1].body[..] == *b"layer");
        // A mountable blob is expected to be somewhere already, so it is not opened early.
        let mountable = body.mountable("other/one".parse().unwrap());
        sink(&client, &server).put(&node, &mountable, &[]).await.unwrap();
        assert_eq!(mountable.meter().fetched(), if is_held { 5 } else { 10 });
    }
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
async fn a_failure_of_the_source_is_returned_and_not_retried() {
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

/// A source that never yields a byte.
#[derive(Debug)]
struct Stuck;

#[async_trait::async_trait]
impl Store for Stuck {
    fn label(&self) -> &str {
        "stuck"
    }
    async fn resolve(&self, _: &Name) -> autonomy_registry::Result<Descriptor> {
        Err(Error::new(Kind::Unsupported, "resolve"))
    }
    async fn fetch(&self, _: &Name) -> autonomy_registry::Result<Root> {
        Err(Error::new(Kind::Unsupported, "fetch"))
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
async fn a_blob_takes_no_tag() {
    let server = Server::start(accepting).await;
    let (node, body) = layer(b"layer");
    let error = sink(&client(), &server).put(&node, &body, &[tag("v1")]).await.unwrap_err();
    assert!(error.kind() == Kind::Usage && server.lines().is_empty());
}
