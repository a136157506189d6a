//! Pulling and deleting blobs (distribution-spec, "Pulling blobs", "Deleting Blobs").

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use futures_util::TryStreamExt;

use super::error_response::ErrorResponse;
use super::reader::BlobReader;
use super::reply::{CONTENT_DIGEST, Reply, reply};
use super::state::{ServerState, WriteTarget};
use super::upload_quota::SessionOwner;
use crate::oci::{Digest, RepositoryPath};

/// The part of a blob to send: offset, length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlobWindow {
    Whole,
    Part(u64, u64),
    Beyond,
}

/// `GET` and `HEAD /v2/<name>/blobs/<digest>`.
pub(super) async fn pull(
    service: &ServerState,
    repository: &RepositoryPath,
    digest: Digest,
    client: &SessionOwner,
    method: &Method,
    headers: &HeaderMap,
) -> Reply {
    let Some(blob) = service.reader.open_blob(repository, &digest).await? else {
        // Asks whether the repository exists only now, when the answer matters.
        service.existing(repository).await?;
        return Err(ErrorResponse::blob_unknown(digest));
    };
    let is_head = method == Method::HEAD;
    service.admit_blob(client, repository, &digest, is_head).await?;
    if let (true, Some(writer)) = (is_head, &service.writer) {
        // A client that finds the blob here goes on without sending it.
        let held = writer.data_dir.repository_to_read(repository).vouch(&digest).await?;
        held.ok_or_else(|| ErrorResponse::blob_unknown(digest))?;
    }
    // RFC 9110 §14.2: a range is for GET alone.
    let window = if is_head { BlobWindow::Whole } else { requested_range(headers, &digest, blob.size()) };
    let (mut response, part) = respond(window, &digest, blob.size());
    if let (false, Some((from, length))) = (is_head, part) {
        *response.body_mut() = body(service, &*blob, from, length);
    }
    Ok(response)
}

/// Returns the part of a blob that the headers ask for.
fn requested_range(headers: &HeaderMap, digest: &Digest, size: u64) -> BlobWindow {
    let is_same = headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == etag(digest).as_bytes());
    let range = headers.get(header::RANGE).filter(|_| is_same);
    range.and_then(|value| value.to_str().ok()).map_or(BlobWindow::Whole, |text| window(text, size))
}

/// Returns the answer without its body, and the offset and length of the body. None if there is no such part.
fn respond(window: BlobWindow, digest: &Digest, size: u64) -> (Response<Body>, Option<(u64, u64)>) {
    let (status, from, length) = match window {
        BlobWindow::Whole => (StatusCode::OK, 0, size),
        BlobWindow::Part(from, length) => (StatusCode::PARTIAL_CONTENT, from, length),
        BlobWindow::Beyond => {
            let headers = [("content-range", format!("bytes */{size}")), (CONTENT_DIGEST, digest.to_string())];
            return (reply(StatusCode::RANGE_NOT_SATISFIABLE, headers, Body::empty()), None);
        }
    };
    let headers = [
        ("content-type", "application/octet-stream".to_owned()),
        (CONTENT_DIGEST, digest.to_string()),
        ("accept-ranges", "bytes".to_owned()),
        ("etag", etag(digest)),
    ];
    let mut response = reply(status, headers, Body::empty());
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    if status == StatusCode::PARTIAL_CONTENT {
        let span = format!("bytes {from}-{}/{size}", from + length - 1);
        response.headers_mut().extend(span.try_into().ok().map(|value| (header::CONTENT_RANGE, value)));
    }
    (response, Some((from, length)))
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Returns a body of `length` bytes of a blob from offset `from`.
pub(super) fn body(service: &ServerState, blob: &dyn BlobReader, from: u64, length: u64) -> Body {
    let (metrics, lane) = (Arc::clone(&service.metrics), service.memory.lane());
    Body::from_stream(blob.stream(from, length, lane.piece).inspect_ok(move |piece| {
        // The lane becomes free once the last piece has been read.
        let _ = &lane;
        metrics.bytes_out.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }))
}

/// `DELETE /v2/<name>/blobs/<digest>`.
pub(super) async fn delete(to: WriteTarget<'_>, digest: Digest) -> Reply {
    let layout = to.existing().await?;
    if layout.is_manifest(digest).await? {
        return Err(ErrorResponse::unsupported("that is a manifest; delete it under manifests/"));
    }
    if !layout.remove_blob(digest).await? {
        return Err(ErrorResponse::blob_unknown(digest));
    }
    Ok(reply(StatusCode::ACCEPTED, [], Body::empty()))
}

/// Reads `Range` (RFC 9110 §14.1.2). Ignores anything but one range of bytes, as §14.2 allows.
pub(super) fn window(text: &str, size: u64) -> BlobWindow {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return BlobWindow::Whole;
    };
    let number = |text: &str| (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok());
    match (first.is_empty(), number(first).flatten(), last.is_empty(), number(last).flatten()) {
        (true, _, false, Some(0)) => BlobWindow::Beyond,
        (true, _, false, Some(suffix)) if size > 0 => {
            let length = size.min(suffix);
            BlobWindow::Part(size - length, length)
        }
        (true, _, false, Some(_)) => BlobWindow::Beyond,
        (false, Some(from), true, _) if from < size => BlobWindow::Part(from, size - from),
        (false, Some(from), false, Some(to)) if from <= to && from < size => {
            BlobWindow::Part(from, to.min(size - 1) - from + 1)
        }
        (false, Some(_), true, _) => BlobWindow::Beyond,
        (false, Some(from), false, Some(to)) if from <= to => BlobWindow::Beyond,
        _ => BlobWindow::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (text, size, expected) in [
            ("bytes=0-4", 10, BlobWindow::Part(0, 5)),
            ("bytes=5-", 10, BlobWindow::Part(5, 5)),
            ("bytes=9-100", 10, BlobWindow::Part(9, 1)),
            ("bytes=-3", 10, BlobWindow::Part(7, 3)),
            ("bytes=-30", 10, BlobWindow::Part(0, 10)),
            ("bytes=10-", 10, BlobWindow::Beyond),
            ("bytes=10-11", 10, BlobWindow::Beyond),
            ("bytes=-0", 10, BlobWindow::Beyond),
            ("bytes=0-", 0, BlobWindow::Beyond),
            ("bytes=-1", 0, BlobWindow::Beyond),
            ("bytes=4-2", 10, BlobWindow::Whole),
            ("bytes=0-1,3-4", 10, BlobWindow::Whole),
            ("bytes=a-b", 10, BlobWindow::Whole),
            ("bytes=-", 10, BlobWindow::Whole),
            ("bytes=+1-2", 10, BlobWindow::Whole),
            ("lines=0-4", 10, BlobWindow::Whole),
            ("bytes=0-18446744073709551615", 10, BlobWindow::Part(0, 10)),
        ] {
            assert_eq!(window(text, size), expected, "{text} of {size}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_range_reaches_past_the_end(text in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in 0u64..1000) {
            if let BlobWindow::Part(from, length) = window(&text, size) {
                proptest::prop_assert!(length > 0 && from + length <= size);
            }
        }
    }
}
