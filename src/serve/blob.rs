//! Pulling and deleting blobs (distribution-spec, "Pulling blobs", "Deleting Blobs").

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use futures_util::TryStreamExt;

use super::error_response::ErrorResponse;
use super::reply::reply;
use super::state::ServerState;
use crate::disk;
use crate::error::Kind;
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
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response<Body>, ErrorResponse> {
    let (blob, size) = match service.registry.repository_to_read(repository).file(&digest).await {
        Ok(found) => found,
        // Asks whether the repository exists only now, when the answer matters.
        Err(error) if error.kind() == Kind::NotFound => {
            service.registry.existing(repository).await?;
            return Err(ErrorResponse::blob_unknown(digest));
        }
        Err(error) => return Err(error.into()),
    };
    if method == Method::HEAD && !service.is_read_only {
        // A client that finds the blob here goes on without sending it.
        let held = service.registry.repository_to_read(repository).vouch(&digest).await?;
        held.ok_or_else(|| ErrorResponse::blob_unknown(digest))?;
    }
    let etag = format!("\"{digest}\"");
    let common = [
        ("content-type", "application/octet-stream".to_owned()),
        ("docker-content-digest", digest.to_string()),
        ("accept-ranges", "bytes".to_owned()),
        ("etag", etag.clone()),
    ];
    let if_range = headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes());
    // RFC 9110 §14.2: a range is for GET alone.
    let range = headers.get(header::RANGE).filter(|_| if_range && method == Method::GET);
    let window = range.and_then(|value| value.to_str().ok()).map_or(BlobWindow::Whole, |text| window(text, size));
    let (from, length, mut response) = match window {
        BlobWindow::Whole => (0, size, reply(StatusCode::OK, common, Body::empty())),
        BlobWindow::Part(from, length) => {
            let mut response = reply(StatusCode::PARTIAL_CONTENT, common, Body::empty());
            let span = format!("bytes {from}-{}/{size}", from + length - 1);
            response.headers_mut().extend(span.try_into().ok().map(|value| (header::CONTENT_RANGE, value)));
            (from, length, response)
        }
        BlobWindow::Beyond => {
            let headers = [("content-range", format!("bytes */{size}")), ("docker-content-digest", digest.to_string())];
            return Ok(reply(StatusCode::RANGE_NOT_SATISFIABLE, headers, Body::empty()));
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    if method == Method::GET {
        *response.body_mut() = body(service, blob, from, length);
    }
    Ok(response)
}

/// Returns a body of `length` bytes of a file from offset `from`.
pub(super) fn body(service: &ServerState, file: File, from: u64, length: u64) -> Body {
    let (metrics, lane) = (Arc::clone(&service.metrics), service.memory.lane());
    Body::from_stream(disk::stream_in(lane.piece, file, from, length).inspect_ok(move |piece| {
        // The lane becomes free once the last piece has been read.
        let _ = &lane;
        metrics.bytes_out.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }))
}

/// `DELETE /v2/<name>/blobs/<digest>`.
pub(super) async fn delete(
    service: &ServerState,
    repository: &RepositoryPath,
    digest: Digest,
) -> Result<Response<Body>, ErrorResponse> {
    let layout = service.registry.existing(repository).await?;
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
