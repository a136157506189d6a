//! Answers with invented bodies: lists with missing entries, endless bodies and lists.
//!
//! Memory holds no more than one piece, for any requested length.

use std::convert::Infallible;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Response, StatusCode, Uri, header};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde_json::Value;

use crate::oci::Digest;
use crate::serve::reply::reply;

/// Largest list to remove entries from, in bytes.
const MAX_LIST_BYTES: usize = 16 << 20;

/// Largest piece of a poured body.
const PIECE: usize = 64 << 10;

/// Returns `bytes` as if they were stored.
pub(super) fn served(media_type: &'static str, bytes: Bytes) -> Response<Body> {
    let headers = [("docker-content-digest", Digest::sha256(&bytes).to_string()), ("content-type", media_type.into())];
    reply(StatusCode::OK, headers, Body::from(bytes))
}

/// Returns the list in `answer` without the entries that contain `text`. Anything else stays as it is.
pub(super) async fn hidden(answer: Response<Body>, text: &str) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    let bytes = to_bytes(body, MAX_LIST_BYTES).await.unwrap_or_default();
    let list = serde_json::from_slice::<Value>(&bytes).ok().and_then(|mut list| {
        list.get_mut("manifests")?.as_array_mut()?.retain(|entry| !entry.to_string().contains(text));
        Some(Bytes::from(list.to_string()))
    });
    let bytes = list.unwrap_or(bytes);
    head.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    Response::from_parts(head, Body::from(bytes))
}

/// Returns `answer` with a body of `total` bytes: `head`, and then `unit` repeated.
pub(super) fn poured(
    answer: Response<Body>,
    head: Bytes,
    unit: Bytes,
    total: u64,
    is_length_told: bool,
) -> Response<Body> {
    let mut answer = answer.map(|_| Body::empty());
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    if is_length_told {
        answer.headers_mut().insert(header::CONTENT_LENGTH, total.into());
    }
    let mut piece = BytesMut::new();
    while !unit.is_empty() && piece.len() + unit.len() <= PIECE.max(unit.len()) {
        piece.extend_from_slice(&unit);
    }
    let (mut left, piece, mut head) = (total, piece.freeze(), Some(head));
    let pieces = std::iter::from_fn(move || {
        let mut next = head.take().filter(|head| !head.is_empty()).unwrap_or_else(|| piece.clone());
        next.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= next.len() as u64;
        (!next.is_empty()).then_some(Ok::<_, Infallible>(next))
    });
    answer.map(|_| Body::from_stream(stream::iter(pieces)))
}

/// Returns `answer` with another body, and a link to the page after the one that `uri` asks for.
pub(super) fn paged(answer: Response<Body>, uri: &Uri, bytes: Bytes) -> Response<Body> {
    let page = uri.query().and_then(|query| query.strip_prefix("page=")?.parse::<u64>().ok()).unwrap_or_default();
    let link = format!("<{}?page={}>; rel=\"next\"", uri.path(), page + 1);
    let mut answer = answer.map(|_| Body::empty());
    answer.headers_mut().insert(header::CONTENT_LENGTH, bytes.len().into());
    if let Ok(link) = HeaderValue::try_from(link) {
        answer.headers_mut().insert(header::LINK, link);
    }
    answer.map(|_| Body::from(bytes))
}
