//! Errors as the specification's JSON (distribution-spec, "Error Codes").

use std::error::Error as StdError;
use std::io;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::Value;

use super::admission::PullRefusal;
use super::upload_quota::Exceeded;
use crate::error::Error;
use crate::oci::{Digest, RepositoryPath};
use crate::store::layout::Outgrown;
use crate::store::layout::index_memory::Busy;

/// Seconds until a client asks again for a share of the memory.
const RETRY_SECONDS: u16 = 5;

/// One failed request.
#[derive(Debug)]
pub(super) struct ErrorResponse {
    status: StatusCode,
    code: &'static str,
    message: String,
    detail: Option<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    errors: [ErrorEntry<'a>; 1],
}

#[derive(Serialize)]
struct ErrorEntry<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a Value>,
}

impl ErrorResponse {
    /// Returns 429: too many requests are in progress at this moment.
    pub(super) fn busy() -> Self {
        Self::too_many("too much is under way at this moment; try again", RETRY_SECONDS)
    }

    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: None, headers: Vec::new() }
    }

    pub(super) fn with(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        self.headers.extend(value.try_into().ok().map(|value| (name, value)));
        self
    }

    fn detail(mut self, detail: impl ToString) -> Self {
        self.detail = Some(detail.to_string().into());
        self
    }

    pub(super) fn name_invalid(name: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", "invalid repository name").detail(name)
    }

    pub(super) fn name_unknown(name: &RepositoryPath) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry").detail(name)
    }

    pub(super) fn manifest_unknown(name: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown to registry").detail(name)
    }

    pub(super) fn manifest_invalid(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", why)
    }

    pub(super) fn missing_child((status, code): (u16, &'static str), digest: Digest) -> Self {
        let message = format!("manifest references content that is not in this repository: {digest}");
        Self::new(StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND), code, message).detail(digest)
    }

    pub(super) fn other_length(digest: Digest, held: u64) -> Self {
        let message =
            format!("{digest} is held with {held} bytes, and the manifest says otherwise: send the blob again");
        Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message).detail(digest)
    }

    pub(super) fn blob_unknown(digest: Digest) -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry").detail(digest)
    }

    pub(super) fn upload_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
    }

    pub(super) fn upload_invalid(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", why)
    }

    pub(super) fn digest_invalid(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", why)
    }

    pub(super) fn unsupported(why: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", why)
    }

    /// Returns 429, with a time after which the client may retry.
    pub(super) fn too_many(why: impl Into<String>, retry_seconds: u16) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", why);
        problem.with(header::RETRY_AFTER, HeaderValue::from(retry_seconds))
    }

    pub(super) fn response(self) -> Response<Body> {
        let Self { status, code, message, detail, headers } = self;
        let entry = ErrorEntry { code, message: &message, detail: detail.as_ref() };
        // Serializing strings and JSON cannot fail.
        let text = serde_json::to_vec(&ErrorDocument { errors: [entry] }).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().extend(headers.into_iter().map(|(name, value)| (Some(name), value)).collect::<Vec<_>>());
        response
    }
}

/// Whether the disk took no more bytes: full, over a quota, or a file larger than it allows.
pub(super) fn is_no_room(error: &Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind.is_some_and(|kind| [StorageFull, QuotaExceeded, FileTooLarge].contains(&kind)) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Returns the error of the upload quota, if `error` is one.
fn exceeded(error: &Error) -> Option<Exceeded> {
    let cause = error.source()?.downcast_ref::<io::Error>()?;
    cause.get_ref()?.downcast_ref::<Exceeded>().copied()
}

fn cause<T: StdError + 'static>(error: &Error) -> Option<&T> {
    error.source()?.downcast_ref()
}

impl From<PullRefusal> for ErrorResponse {
    fn from(refusal: PullRefusal) -> Self {
        let PullRefusal { message, detail, is_undecided } = refusal;
        let (status, code) = match is_undecided {
            true => (StatusCode::SERVICE_UNAVAILABLE, "UNKNOWN"),
            false => (StatusCode::FORBIDDEN, "DENIED"),
        };
        Self { detail, ..Self::new(status, code, message) }
    }
}

impl From<Error> for ErrorResponse {
    /// Converts the store's own errors, which no request should see. Their paths stay in the log.
    fn from(error: Error) -> Self {
        if let Some(exceeded) = exceeded(&error) {
            return Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "UNKNOWN",
                format!("{exceeded}; finish or cancel some"),
            );
        }
        if cause::<Busy>(&error).is_some() {
            return Self::busy();
        }
        tracing::error!(error = %error.chain(), "request failed");
        if is_no_room(&error) {
            // RFC 4918 §11.5. Unlike 500, go-containerregistry 0.22, regclient 0.11 and we do not retry it: they stop
            // and show the text, where a 500 would send the whole layer several times more. (oras-go 2 retries every
            // 5xx.)
            let told =
                "the registry has no room left on its disk; free some, or remove garbage with: autonomy registry gc";
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN", told);
        }
        if let Some(outgrown) = cause::<Outgrown>(&error) {
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", outgrown.to_string());
        }
        // Content that cannot be read because it is damaged or too large did not come with this request.
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the registry's storage failed; see its log")
    }
}
