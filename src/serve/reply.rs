//! Replies: status, headers, body.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::error_response::ErrorResponse;

/// The header with the digest of the content.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

/// The outcome of a request: a response, or the error that the specification has for it.
pub(super) type Reply = Result<Response<Body>, ErrorResponse>;

/// Returns a response. Leaves out header values that HTTP does not allow; all of ours are allowed.
pub(super) fn reply<const N: usize>(
    status: StatusCode,
    headers: [(&'static str, String); N],
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Returns a JSON response.
pub(super) fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
