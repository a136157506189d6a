//! The registry store against servers that answer by script: requests not sent, faults survived, lies detected.

mod downloads;
mod logins;
mod manifests;
mod referrers;
mod uploads;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use autonomy_registry::error::Error;
use autonomy_registry::oci::{Descriptor, MediaType, Name, Tag};
use autonomy_registry::store::{Body, ByteStream, Registry, Role};
use autonomy_registry::wire::Client;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::kit::wire_server::{Asked, Server, answer, status};

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

/// Opens a session for every POST and accepts every PUT.
fn accepting(asked: &Asked) -> Response {
    match asked.line.split(' ').next() {
        Some("POST") => answer(202, &[("location", "/session/1?state=x%2Fy")], ""),
        Some("PUT") => status(201),
        Some("DELETE") => status(204),
        _ => status(404),
    }
}

/// Answers with `first` for the first `count` requests that start with `start`, then with `then`.
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

/// `bytes` with their full content length, cut off after `count`.
fn cut(code: u16, headers: &[(&str, &str)], bytes: &'static [u8], count: usize) -> Response {
    let pieces = [Ok(Bytes::from_static(&bytes[..count])), Err(io::Error::other("cut"))];
    // The first piece has to leave before the connection closes.
    let pieces = stream::iter(pieces).then(|piece| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        piece
    });
    let length = bytes.len().to_string();
    let headers = [headers, &[("content-length", length.as_str())]].concat();
    answer(code, &headers, axum::body::Body::from_stream(pieces))
}
