//! Downloads of blobs: resumed where they broke off, and ranges accepted only where they fit.

use std::sync::Arc;

use autonomy_registry::error::Kind;
use autonomy_registry::oci::{Descriptor, MediaType};
use autonomy_registry::store::{Body, Memory, Put, Store as _};
use axum::response::Response;

use super::{cut, drain, problem, source};
use crate::kit::wire_server::{Asked, Server, answer, client, options, status};

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
