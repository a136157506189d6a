//! Properties of requests to the embedded registry that hold for any bytes.

use super::blob::{BlobWindow, window};
use super::query::Query;
use super::route::Route;
use super::upload::span;
use crate::http_server::htpasswd::fuzzing as passwords;

/// Checks that a path leads to an endpoint inside its repository, that a range is inside its blob, and that a chunk
/// starts where the last one ended.
pub(crate) fn request(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.splitn(3, '\n');
    let [path, range, query] = [(); 3].map(|()| lines.next().unwrap_or_default());
    if let Ok(Some(route)) = Route::parse(path) {
        routed(&route, path);
    }
    chunk(range);
    for size in [0, 1, 10, u64::MAX] {
        if let BlobWindow::Part(from, length) = window(range, size) {
            assert!(length > 0 && from.checked_add(length).is_some_and(|end| end <= size), "{range} of {size}");
        }
    }
    let query = Query::parse(query);
    if let Ok(Some(digest)) = query.digest("digest") {
        assert_eq!(query.get("digest"), Some(digest.to_string().as_str()));
    }
    assert_eq!(query.get("n"), query.all("n").next());
}

/// Checks that an accepted chunk begins where the last one ended and is as long as its body.
fn chunk(range: &str) {
    for offset in [0, 1, 10, u64::MAX] {
        for length in [None, Some(0), Some(1), Some(10), Some(u64::MAX)] {
            if span(range, offset, length).is_ok() {
                let (start, end) = range.split_once('-').unwrap_or_default();
                let [start, end] = [start, end].map(|number| number.parse::<u64>().unwrap_or_default());
                assert!(start == offset && start <= end, "{range} at {offset}");
                assert!(length.is_none_or(|length| end - start == length - 1), "{range} of {length:?}");
            }
        }
    }
}

fn routed(route: &Route, path: &str) {
    let (name, printed) = match route {
        Route::Ping | Route::Catalog | Route::Token | Route::Health | Route::Ready | Route::Metrics => return,
        Route::Blob(name, digest) => (name, format!("/v2/{name}/blobs/{digest}")),
        Route::Uploads(name) => (name, format!("/v2/{name}/blobs/uploads/")),
        Route::Upload(name, id) => {
            assert!(!id.is_empty() && !id.contains('/'));
            (name, format!("/v2/{name}/blobs/uploads/{id}"))
        }
        Route::Manifest(name, which) => (name, format!("/v2/{name}/manifests/{which}")),
        Route::Tags(name) => (name, format!("/v2/{name}/tags/list")),
        Route::Referrers(name, subject) => (name, format!("/v2/{name}/referrers/{subject}")),
    };
    assert!(path.contains(name.as_str()) && !name.as_str().contains("..") && !name.as_str().starts_with('/'));
    let written = path.replace("%3A", ":").replace("%3a", ":");
    assert_eq!(written.trim_end_matches('/'), printed.trim_end_matches('/'), "one path an endpoint");
    assert_eq!(Route::parse(&printed).ok().flatten().as_ref(), Some(route), "printed and read again");
}

/// Parses a file of users and password hashes.
pub(crate) fn htpasswd(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        passwords::htpasswd(text);
    }
}
